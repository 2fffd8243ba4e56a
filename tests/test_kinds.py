"""What columns and values mean: decided per value, the same through every reader, or refused."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.command import command
from data.checks import checked
from data.columns import LARGEST, Columns, category_codes
from data.dates import days
from data.frames import to_frame
from data.labels import typed_names
from data.raw_table import RawTable
from data.stream import Stream
from data.table import Table
from data.values import MISSING, Reading, is_inexact, number_keys, numbers_of
from explain import explain
from export import export
from inference.predictor import load
from predict import predict
from train import train

ROWS = 120
QUICK = {"max_epochs": 2, "members": 1, "accelerator": "cpu", "pictures": "none"}


def column(values, **settings):
    """A table of these values, of numbers and of two classes, as text in a CSV file."""
    values = [values[i % len(values)] for i in range(ROWS)]
    noise = np.random.default_rng(0).normal(size=ROWS).round(3)
    frame = pl.DataFrame({"c": values, "x": noise, "y": ["a", "b"] * (ROWS // 2)})
    frame.write_csv("t.csv")
    table = Table("t.csv", "y", **settings)
    table.read()
    return table


def trained(path="t.csv", target="y", **settings):
    """A network trained on a table, for two epochs."""
    result = train(partial(Table, path, target, **settings), **QUICK)
    return load(str(result.checkpoint))


def numbers(count=ROWS):
    return [f"{value:.2f}" for value in np.random.default_rng(1).uniform(1, 99, count)]


# Numbers


@pytest.mark.parametrize("word", [*MISSING, *map(str.upper, MISSING), "NaN", "n.A.", " - "])
def test_words_for_missing_numbers_in_any_case(word):
    table = column([*numbers(99), word])
    assert table.kinds["c"].name == "number"
    assert table.kinds["c"].missing == 1


DECORATED = {  # what stands in the cells, and the flag that the message names
    "groups": ("1,{}", '--data.thousands ","'),
    "currency": ("${}", "give plain numbers"),
    "percent": ("{}%", "give plain numbers"),
    "unit": ("{} kg", "give plain numbers"),
    "brackets": ("({})", "give plain numbers"),
}


@pytest.mark.parametrize("name", DECORATED)
def test_numbers_with_something_around_them_are_refused(name):
    form, flag = DECORATED[name]
    values = [form.format(f"{i + 100}.50") for i in range(ROWS)]
    with pytest.raises(ValueError, match=r"t\.csv: line 2, column 'c' is ") as error:
        column(values)
    assert flag in str(error.value)
    assert '--data.categorical "[c]"' in str(error.value)
    assert "\n" not in str(error.value)


def test_decimal_commas_are_refused_and_read_where_told_to():
    values = [value.replace(".", ",") for value in numbers()]
    with pytest.raises(ValueError, match=r"line 2, column 'c' is '.*give --data\.decimal ,"):
        column(values)
    table = column(values, decimal=",", categorical=["x"])
    assert table.read().features[:, 0].tolist() == [float(value) for value in numbers()]


@pytest.mark.parametrize("minus", ["-", "\u2212"])
@pytest.mark.parametrize("space", ["", " ", "\u00a0", "\u202f"])
def test_minus_signs_and_spaces_around_are_read(minus, space):
    table = column([f"{space}{minus}{value}{space}" for value in numbers()])
    assert table.read().features[:, 0].tolist() == [-float(value) for value in numbers()]


@pytest.mark.parametrize("group", [",", "'", " ", "\u00a0"])
def test_groups_of_digits_are_read_where_told_to(group):
    values = [f"{i + 1}{group}{i:03}.5" for i in range(ROWS)]
    table = column(values, thousands=group)
    assert table.read().features[:, 0].tolist() == [1000 * (i + 1) + i + 0.5 for i in range(ROWS)]
    with pytest.raises(ValueError, match=r"line 3, column 'c' is .1.*34.; give a number"):
        column([values[0], f"1{group}34"], thousands=group, numeric=["c"])


def test_a_word_among_numbers_is_refused_and_missing_where_told_to():
    values = [*numbers(99), "sensor error"]
    with pytest.raises(ValueError, match="line 101, column 'c' is 'sensor error'") as error:
        column(values)
    assert '--data.missing "[sensor error]"' in str(error.value)
    assert column(values, missing=["sensor error"]).kinds["c"].missing == 1
    assert column(values, categorical=["c"]).kinds["c"].name == "text"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("number", ["-999", "-999.0", -999, -999.0])
def test_a_number_for_missing_values(kind, number):
    values = [1.5, 2.5, -999.0] * 20
    frame = pl.DataFrame({"c": values, "y": ["a", "b", "a"] * 20})
    path = f"t.{kind}"
    frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    table = Table(path, "y", missing=[number])
    np.testing.assert_array_equal(table.read().features[:3, 0], [1.5, 2.5, np.nan])
    assert table.kinds["c"].about == "1.5 to 2.5"


PLAIN = st.from_regex(
    r"[+-]?([0-9]{1,6}|[0-9]{0,6}\.[0-9]{1,6})([eE][+-]?[0-9]{1,2})?", fullmatch=True
)


@given(st.lists(PLAIN, min_size=1, max_size=20), st.sampled_from(["", " ", "\u00a0"]))
def test_numbers_are_pythons_in_every_accepted_form(texts, space):
    expected = [float(text) for text in texts]
    values, wrong = numbers_of(pl.Series([space + text for text in texts]), Reading())
    assert not wrong.any()
    np.testing.assert_array_equal(values.to_numpy(), expected)
    comma, wrong = numbers_of(pl.Series([text.replace(".", ",") for text in texts]), Reading(","))
    assert not wrong.any()
    np.testing.assert_array_equal(comma.to_numpy(), expected)
    with_minus, _ = numbers_of(
        pl.Series([text.replace("-", "\u2212") for text in texts]), Reading()
    )
    np.testing.assert_array_equal(with_minus.to_numpy(), expected)


@given(st.integers(0, 10**12), st.sampled_from([",", "'", " ", "."]))
def test_grouped_numbers_are_those_without_groups(number, sign):
    text = f"{number:,}".replace(",", sign)
    decimal = "," if sign == "." else "."
    values, wrong = numbers_of(pl.Series([text, f"-{text}{decimal}5"]), Reading(decimal, sign))
    assert not wrong.any()
    assert values.to_list() == [number, -number - 0.5]


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8)


@given(TEXTS)
def test_a_text_is_a_number_only_if_python_says_so(text):
    values, wrong = numbers_of(pl.Series([text]), Reading())
    stripped = text.strip().replace("\u2212", "-")
    if stripped == "" or stripped.lower() in MISSING:
        assert np.isnan(values[0])
        assert not wrong[0]
    elif not wrong[0]:
        assert values[0] == float(stripped) or np.isnan(float(stripped))


@given(st.lists(PLAIN, max_size=5), TEXTS)
def test_a_text_that_is_no_number_is_refused_with_its_row_and_column(before, text):
    texts = [*before, text]
    _, wrong = numbers_of(pl.Series([text]), Reading())
    too_large = [abs(float(number)) > LARGEST for number in before]
    refused = np.flatnonzero([*too_large, wrong[0]])
    columns = Columns(["size"])
    if not len(refused):
        matrix = columns.matrix(pl.DataFrame({"size": texts}))
        np.testing.assert_array_equal(matrix[:-1, 0], [float(number) for number in before])
        return
    with pytest.raises(ValueError, match=f"row {refused[0] + 1}, column 'size' is "):
        columns.matrix(pl.DataFrame({"size": texts}))


# A row by itself


CELLS = st.sampled_from(
    [None, 1.0, 1.5, 2.0, -0.0, 1e20, float("inf"), float("nan"), 150.0, 2.0**53 + 2]
)


@given(st.lists(CELLS, min_size=1, max_size=30))
def test_a_floats_category_does_not_depend_on_its_neighbours(cells):
    categories = ["1", "1.5", "150", "red"]
    together = category_codes(pl.Series(cells, dtype=pl.Float64), categories, Reading())
    alone = [
        category_codes(pl.Series([cell], dtype=pl.Float64), categories, Reading())[0]
        for cell in cells
    ]
    assert together.to_list() == alone
    expected = {None: None, 1.0: 0, 1.5: 1, 150.0: 2}
    for cell, code in zip(cells, alone, strict=True):
        if cell is None or cell == cell:
            assert code == expected.get(cell, 4)


SPELLED = st.sampled_from(
    [
        "1",
        "1.0",
        "2",
        "2.50",
        "2.5",
        "",
        "NA",
        "None",
        "red",
        "Red",
        "TRUE",
        "00501",
        "501",
        " red ",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(SPELLED, min_size=1, max_size=20))
def test_a_row_is_the_same_alone_and_through_csv_pandas_and_polars(cells):
    columns = Columns(["c", "n"], {"c": ["00501", "1", "2.5", "501", "red", "true"]})
    frame = pl.DataFrame({"c": cells, "n": ["1"] * len(cells)})
    together = columns.matrix(frame)
    alone = np.concatenate([columns.matrix(frame[i : i + 1]) for i in range(len(frame))])
    np.testing.assert_array_equal(together, alone)
    for dtype in (pl.Categorical, pl.Enum(sorted(set(cells)))):
        typed = frame.with_columns(pl.col("c").cast(dtype))
        np.testing.assert_array_equal(columns.matrix(typed), together)
    for dtype in (object, "string", "string[pyarrow]", "category"):
        pandas = pd.DataFrame({"c": pd.Series(cells, dtype=dtype), "n": 1})
        np.testing.assert_array_equal(columns.matrix(to_frame(pandas, ["c", "n"])), together)


def test_a_late_fraction_changes_no_earlier_row():
    pl.DataFrame({"c": ["1", "2", "x"] * 20, "y": ["a", "b", "c"] * 20}).write_csv("t.csv")
    classifier = trained()
    many = pl.DataFrame({"c": [1.0] * 149_999 + [1.5]})
    many.write_parquet("many.parquet")
    expected = classifier.predict_proba(pl.DataFrame({"c": [1.0, 1.5]}))
    found = classifier.predict_proba(many)
    assert (found[:-1] == expected[0]).all()
    assert (found[-1] == expected[1]).all()


# Text, codes and ids


def test_typed_text_stays_text():
    codes = ["00501", "501", "00777"] * 40
    frame = pl.DataFrame({"c": codes, "y": [f"class {code}" for code in codes]})
    kinds = {
        "String": pl.String,
        "Categorical": pl.Categorical,
        "Enum": pl.Enum(sorted(set(codes))),
    }
    for name, dtype in kinds.items():
        frame.with_columns(pl.col("c").cast(dtype)).write_parquet(f"{name}.parquet")
        table = Table(f"{name}.parquet", "y")
        table.setup()
        assert table.columns.categories == {"c": ["00501", "00777", "501"]}
    digits = frame.with_columns(pl.Series("c", ["1", "2", "3"] * 40))
    digits.write_parquet("digits.parquet")
    table = Table("digits.parquet", "y")
    table.read()
    assert table.columns.categories == {"c": ["1", "2", "3"]}


def test_a_few_numbers_of_one_unit_are_codes():
    assert column(["2wd", "4wd"]).columns.categories == {"c": ["2wd", "4wd"]}
    assert column(["00", "0E0"]).columns.categories == {"c": ["00", "0E0"]}


def test_leading_zeros_are_text_in_csv_too_and_flags_decide():
    values = ["00501", "501", "00777"]
    assert column(values).columns.categories == {"c": ["00501", "00777", "501"]}
    table = column(values, numeric=["c"])
    assert table.read().features[:3, 0].tolist() == [501, 501, 777]
    table = column(["1", "2", "3"], categorical=["c"])
    assert table.columns.categories == {"c": ["1", "2", "3"]}
    with pytest.raises(ValueError, match="line 4, column 'c' is 'x'; give a number"):
        column(["1", "2", "x"], numeric=["c"])
    with pytest.raises(ValueError, match="column 'c' is given 2 times"):
        column(values, numeric=["c"], categorical=["c"])


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__", "id", "row", "patientID"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_row_numbers_and_ids_are_left_out_and_said(name, kind):
    frame = pl.DataFrame(
        {
            name: range(60),
            "x": np.random.default_rng(0).normal(size=60),
            "y": ["a"] * 30 + ["b"] * 30,
        }
    )
    path = f"t.{kind}"
    frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    table = Table(path, "y")
    table.setup()
    assert table.column_names == ["x"]
    assert f"{name:{max(len(name), 6)}}  left out        -  it counts the rows" in table.about()
    kept = Table(path, "y", numeric=[name])
    kept.setup()
    assert kept.column_names == [name, "x"]


def test_pandas_own_index_is_left_out():
    frame = pd.DataFrame({"x": np.random.default_rng(0).normal(size=60), "y": ["a", "b"] * 30})
    frame.to_csv("t.csv")
    frame.sample(frac=1, random_state=0).to_parquet("t.parquet")
    for path in ("t.csv", "t.parquet"):
        table = Table(path, "y")
        table.setup()
        assert table.column_names == ["x"]


def test_ids_of_text_are_left_out_and_free_text_is_refused():
    table = column([f"P-{i:05}x" for i in range(ROWS)])
    assert table.column_names == ["x"]
    assert "an id: 120 values, all different" in table.about()
    with pytest.raises(ValueError, match="column 'c' is text with 120 values in 120 rows") as error:
        column([f"the patient said {'very ' * 40}{i}" for i in range(ROWS)])
    assert len(str(error.value)) < 300
    assert '--data.ignore "[c]"' in str(error.value)
    assert column([f"a b {i}" for i in range(ROWS)], categorical=["c"]).columns.categories["c"]


def test_large_ids_are_told_apart():
    frame = pl.DataFrame({"c": [2**63 + 7 * i for i in range(1000)], "x": np.arange(1000) / 7})
    frame.with_columns(pl.Series("y", ["a", "b"] * 500)).write_csv("t.csv")
    table = Table("t.csv", "y")
    table.read()
    assert table.kinds["c"].about == "an id: 1,000 numbers, all different"


LARGE = [2**53, 2**53 + 1, 2**53 + 2]


def by_reader(values, dtype, **settings):
    """A table of values of this type through every reader that trains."""
    column(values, categorical=["c"])
    frame = pl.read_csv("t.csv", schema_overrides={"c": dtype})
    frame.write_parquet("t.parquet")
    Path("rows").mkdir(exist_ok=True)
    frame.write_parquet("rows/part.parquet")
    return [
        Table("t.csv", "y", **settings),
        Table("t.parquet", "y", **settings),
        Stream("rows", "y", batch_size=64, **settings),
    ]


@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt64, pl.Int128, pl.Decimal(38, 0)])
def test_whole_numbers_that_floats_cannot_tell_apart_are_refused_or_text(dtype):
    largest = LARGE if dtype == pl.Int64 else [*LARGE, 2**64 - 1]
    for table in by_reader(largest, dtype):
        with pytest.raises(ValueError, match=r"column 'c' is .*9007199254740993") as error:
            table.setup()
        assert '--data.ignore "[c]" or --data.categorical "[c]"' in str(error.value)
    for table in by_reader(largest, dtype, numeric=["c"]):  # a flag makes it no better
        with pytest.raises(ValueError, match="as a number it loses digits"):
            table.setup()
    for table in by_reader(largest, dtype, categorical=["c"]):
        table.setup()
        assert table.kinds["c"].categories == sorted(map(str, largest))
    for table in by_reader([2**53, 2**53 + 2, 2**60], dtype):
        table.setup()
        assert table.kinds["c"].name == "number"  # float64 has them all


def test_the_network_refuses_and_tells_apart_what_the_table_did():
    column([1, 5, 9])
    learned = trained()
    rows = pl.DataFrame({"c": LARGE, "x": [0.5] * 3})
    for frame in (rows, rows.to_pandas(), rows.cast(pl.String)):
        with pytest.raises(ValueError, match=r"row 2, column 'c' is '?9007199254740993'?; as a"):
            learned.predict(frame)
    column([LARGE[0], 2**60])
    codes = trained(categorical=["c"]).columns.matrix(rows)[:, 0]
    assert codes.tolist() == [1, 2, 2]  # the neighbours of a category are other ones


def test_large_whole_numbers_of_an_array_are_refused():
    features = np.array([[i % 5, 2**53 + i] for i in range(30)])
    with pytest.raises(ValueError, match="row 2, column 'b' is 9007199254740993; as a number"):
        checked(RawTable(features, np.arange(30) % 2, ["a", "b"]), "kind")


def test_times_are_ordered_by_their_last_digit():
    times = [2**60 + i for i in range(ROWS)]
    column(times, time="c")
    pl.read_csv("t.csv").write_parquet("t.parquet")
    for path in ("t.csv", "t.parquet"):
        assert Table(path, "y", time="c").read().times.tolist() == list(range(ROWS))


@given(st.lists(st.integers(-(2**70), 2**70) | st.integers(2**53 - 5, 2**53 + 5), min_size=1))
def test_numbers_are_equal_if_pythons_are(numbers):
    texts = pl.Series([str(number) for number in numbers])
    rounded = is_inexact(texts, texts.cast(pl.Float64))
    assert rounded.to_list() == [int(float(number)) != number for number in numbers]
    assert number_keys(texts).n_unique() == len(set(numbers))
    categories = [str(number) for number in set(numbers)]
    spelled = pl.Series([f"+{number}.0".replace("+-", "-") for number in numbers])
    codes = category_codes(spelled, categories, Reading()).cast(pl.Int64)
    assert [int(categories[code]) for code in codes] == numbers


def test_whole_numbers_that_are_all_different_are_a_quantity_in_a_small_table():
    values = np.random.default_rng(0).permutation(10**6)[:ROWS].tolist()
    assert column(values).kinds["c"].name == "number"


VERSIONS = ["1.2.10", "1.2.9", "10.0.1", "1.10.2"]


def test_versions_are_text():
    assert column(VERSIONS).columns.categories["c"] == sorted(VERSIONS)


def test_the_same_table_through_pandas_predicts_the_same():
    """Pandas reads NA in text as missing, and R's TRUE, FALSE and NA as objects."""
    lines = ["c,w,x,y"]
    for i in range(ROWS):
        word = ["red", "NA", "blue"][i % 3]
        lines.append(f"{word},{['TRUE', 'FALSE', 'NA'][i % 3]},{i % 7}.5,{'abc'[i % 3]}")
    Path("t.csv").write_text("\n".join(lines))
    classifier = trained()
    assert classifier.categories == {"c": ["blue", "red"], "w": ["false", "true"]}
    expected = classifier.predict_proba(pl.read_csv("t.csv", infer_schema=False))
    frames = [pd.read_csv("t.csv"), pd.read_csv("t.csv", dtype_backend="numpy_nullable")]
    frames += [pd.read_csv("t.csv", dtype_backend="pyarrow"), pd.read_csv("t.csv", dtype=str)]
    frames += [pl.read_csv("t.csv"), pl.read_csv("t.csv", null_values=["NA"])]
    for frame in frames:
        np.testing.assert_array_equal(classifier.predict_proba(frame), expected)


@pytest.mark.parametrize("spelling", ["true", "TRUE", "tRue", "True", "1", "1.0"])
def test_booleans_in_every_spelling(spelling):
    column(["true", "false"])
    codes = category_codes(pl.Series([spelling]), ["false", "true"], Reading())
    assert codes.to_list() == [1]


def test_numbers_of_equal_value_are_one_category_and_one_label():
    column(["1", "2", "x"])
    codes = category_codes(pl.Series(["1.0", "x", "2.00"]), ["1", "2", "x"], Reading())
    assert codes.to_list() == [0, 2, 1]
    Path("l.csv").write_text("x,y\n" + "1.5,1\n2.5,1.0\n3.5,2\n" * 4)
    table = Table("l.csv", "y")
    table.setup()
    assert table.class_names == ["1", "2"]


# Dates


FORMS = {
    "%Y-%m-%d": "2024-01-31", "%d.%m.%Y": "31.01.2024", "%m/%d/%Y": "1/31/2024",
    "%d/%m/%y": "31/01/24", "%d-%B-%Y": "31-Jan-2024", "%B %d, %Y": "January 31, 2024",
    "%d %B %Y": "31 Jan 2024", "%Y%m%d": "20240131", "%Y/%m/%d": "2024/01/31",
    "%Y-%m-%d %H:%M": "2024-01-31 06:00", "%Y-%m-%d %H:%M:%S%.f": "2024-01-31 06:00:00.000",
    "%Y-%m-%dT%H:%M:%S%.f%z": "2024-01-31T07:00:00+01:00", "%d.%m.%Y %H:%M": "31.01.2024 06:00",
    "%m/%d/%Y %I:%M %p": "1/31/2024 6:00 AM",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_dates_in_common_forms(form):
    moment = datetime(2024, 1, 31, 6, tzinfo=UTC)
    expected = moment.timestamp() / 86_400
    has_clock = "H" in form or "I" in form
    if not has_clock:
        expected = np.floor(expected)
    assert days(pl.Series([FORMS[form], "x"]), form).to_list() == [expected, None]
    table = column([FORMS[form]])
    assert table.columns.dates == {"c": form}
    assert table.read().features[0, 0] == expected


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_of_any_name_is_read(kind):
    when = [datetime(2024, 1, 1 + i % 28, tzinfo=UTC).date() for i in range(60)]
    frame = pl.DataFrame({"^a$": when, "^b.*$": np.arange(60) / 7, "^c$": ["u", "v"] * 30})
    frame = frame.with_columns(pl.Series("^y$", ["a", "b"] * 30))
    path = f"t.{kind}"
    frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    table = Table(path, "^y$")
    table.setup()
    assert [table.columns.kind(name) for name in frame.columns[:3]] == ["date", "number", "text"]


def test_a_date_becomes_a_number_and_its_place_in_year_week_and_day():
    moments = [datetime(2023, 1, 1 + i % 28, i % 24, tzinfo=UTC) for i in range(ROWS)]
    moments += [datetime(2023, 9, 1 + i % 28, i % 24, tzinfo=UTC) for i in range(ROWS)]
    frame = pl.DataFrame({"when": moments, "y": ["a", "b"] * ROWS})
    frame.write_parquet("t.parquet")
    table = Table("t.parquet", "y", scaling="robust")
    table.setup()
    names = table.feature_names
    assert names == [
        "when", "when year sine", "when year cosine", "when week sine", "when week cosine",
        "when day sine", "when day cosine",
    ]  # fmt: skip
    raw = torch.from_numpy(table.read().features)
    encoded = table.encoder.encode(raw)
    seconds = np.array([moment.timestamp() for moment in moments])
    for name, period in {"year": 365.2425, "week": 7, "day": 1}.items():
        angle = 2 * np.pi * seconds / 86_400 / period
        sine = encoded[:, names.index(f"when {name} sine")]
        np.testing.assert_allclose(sine, np.sin(angle), atol=1e-9)
        cosine = encoded[:, names.index(f"when {name} cosine")]
        np.testing.assert_allclose(cosine, np.cos(angle), atol=1e-9)
    median = np.median(seconds[table.indices["train"]]) / 86_400
    assert table.encoder.mean[0] == pytest.approx(median)


def test_day_and_month_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ValueError, match=r"cannot be told apart; give --data\.dates") as error:
        column(["01/02/2024", "03/04/2024"])
    assert "\"{c: '%d/%m/%Y'}\" or --data.dates \"{c: '%m/%d/%Y'}\"" in str(error.value)
    assert column(["01/02/2024"], dates={"c": "%d/%m/%Y"}).read().features[0, 0] == 19754
    with pytest.raises(ValueError, match=r"the form of a date is 'dd\.mm'"):
        column(["01/02/2024"], dates={"c": "dd.mm"})


def test_the_form_of_dates_is_kept_when_predicting():
    column(["31.01.2024", "02.03.2023", ""])
    classifier = trained()
    expected = classifier.predict_proba(pl.DataFrame({"c": ["02.03.2023"], "x": [0.1]}))
    typed = pl.DataFrame({"c": [datetime(2023, 3, 2)], "x": [0.1]})
    frames = [typed, typed.to_pandas(), typed.with_columns(pl.col("c").cast(pl.Date))]
    for frame in [*frames, pd.DataFrame({"c": [datetime(2023, 3, 2).date()], "x": [0.1]})]:
        np.testing.assert_array_equal(classifier.predict_proba(frame), expected)
    with pytest.raises(ValueError, match="column 'c' is '2023-03-02'; give a date in the form"):
        classifier.predict_proba(pl.DataFrame({"c": ["2023-03-02"], "x": [0.1]}))


def test_dates_in_several_forms_are_refused():
    values = [f"2024-01-0{i + 1}" for i in range(5)] + [f"0{i + 1}.04.2024" for i in range(5)]
    with pytest.raises(ValueError, match="column 'c' has dates in several forms, such as '2024-01"):
        column(values)


def test_a_word_for_missing_values_that_is_a_class():
    pl.DataFrame({"x": [0.5, 1.5] * 10, "y": ["None", "mild"] * 10}).write_csv("t.csv")
    with pytest.raises(ValueError, match=r"if 'None' is a class, --data\.categorical \"\[y\]\""):
        Table("t.csv", "y").setup()
    table = Table("t.csv", "y", categorical=["y"])
    table.setup()
    assert table.class_names == ["None", "mild"]


def test_a_word_among_dates_is_refused():
    with pytest.raises(
        ValueError, match="line 4, column 'c' is 'soon'; most of the column are dat"
    ):
        column(["2024-01-01", "2024-01-02", "soon"])
    assert column(["2024-01-01", "2024-01-02", "unknown"]).kinds["c"].missing == ROWS // 3


# Labels


LABELS = {
    "whole numbers": ([3, 1, 2], [3, 1, 2]),
    "booleans": ([True, False, True], [True, False, True]),
    "text": (["a", "b", "c"], ["a", "b", "c"]),
    "fractions": ([0.5, 1.5, 0.5], [0.5, 1.5, 0.5]),
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", LABELS)
def test_labels_come_back_in_the_type_they_came_in(name, kind):
    values, expected = LABELS[name]
    frame = pd.DataFrame({"x": [0.1, 0.5, 0.9] * 20, "y": values * 20})
    frame.to_csv("t.csv", index=False) if kind == "csv" else frame.to_parquet("t.parquet")
    result = train(partial(Table, f"t.{kind}", "y"), members=1, accelerator="cpu", pictures="none")
    classifier = load(str(result.checkpoint))
    read = pd.read_csv("t.csv") if kind == "csv" else pd.read_parquet("t.parquet")
    assert (classifier.predict(read) == read.y).mean() == 1.0
    assert set(classifier.predict(read).tolist()) == set(expected)


def test_labels_of_text_of_digits_stay_text():
    pl.DataFrame({"x": [1.5, 2.5] * 20, "y": ["0", "1"] * 20}).write_parquet("t.parquet")
    assert set(trained("t.parquet").predict(pl.DataFrame({"x": [1.5, 2.5]}))) <= {"0", "1"}


def test_labels_beyond_float64_stay_apart():
    labels = [2**53, 2**53 + 1] * 10
    pl.DataFrame({"x": [1.5, 2.5] * 10, "y": labels}).write_parquet("t.parquet")
    table = Table("t.parquet", "y")
    table.setup()
    assert table.class_names == ["9007199254740992", "9007199254740993"]
    assert typed_names(table.class_names, table.label_type).tolist() == labels[:2]


def test_minus_zero_is_zero_in_a_target():
    pl.DataFrame({"x": [1.5, 2.5, 3.5] * 10, "y": [0.0, -0.0, 1.0] * 10}).write_parquet("t.parquet")
    table = Table("t.parquet", "y")
    table.setup()
    assert table.class_names == ["0", "1"]


def test_rows_without_a_class_and_rare_classes_are_left_out_on_request():
    labels = ["a", "b", None, "a", "b"] * 8 + ["c", "d", "d"]
    pl.DataFrame({"x": np.arange(43) / 7, "y": labels}).write_csv("t.csv")
    with pytest.raises(ValueError, match=r"is missing in 8 rows, .*--data.unlabelled drop"):
        Table("t.csv", "y").setup()
    with pytest.raises(ValueError, match=r"has 1 row of class 'c'.*--data.rare_classes drop"):
        Table("t.csv", "y", unlabelled="drop").setup()
    table = Table("t.csv", "y", unlabelled="drop", rare_classes="drop")
    table.setup()
    assert (table.class_names, table.num_rows) == (["a", "b"], 32)
    assert "8 rows without a class are left out, and not counted" in table.about()
    assert "3 rows of rare classes are left out, and not counted: 'c', 'd'" in table.about()
    merged = Table("t.csv", "y", unlabelled="drop", rare_classes="merge")
    merged.setup()
    assert (merged.class_names, merged.num_rows) == (["a", "b", "other"], 35)
    assert merged.read().features[-1, 0] == round(42 / 7, 12)


def test_a_quantity_as_target_is_said_to_look_like_regression():
    pl.DataFrame({"x": range(40), "y": [f"{i / 7:.3f}" for i in range(40)]}).write_csv("t.csv")
    with pytest.raises(ValueError, match="number with 40 values, which looks like regression"):
        Table("t.csv", "y").setup()


def test_many_values_with_decimals_of_which_few_are_rare_look_like_regression():
    shares = [0.0] * 60 + [i / 7 for i in range(1, 12)] * 3 + [0.2434782]
    pl.DataFrame({"x": np.arange(len(shares)) / 3, "y": shares}).write_csv("t.csv")
    with pytest.raises(ValueError, match="number with 13 values, which looks like regression"):
        Table("t.csv", "y").setup()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_that_floats_cannot_tell_apart_are_refused_or_text(kind):
    labels = [str(2**53), str(2**53 + 1), "1.5"] * 10
    frame = pl.DataFrame({"x": np.arange(30) / 4, "y": labels})
    frame.write_csv("t.csv")
    with pytest.raises(ValueError, match=r"cannot be told apart; give --data.categorical"):
        Table("t.csv", "y").setup()
    path = f"t.{kind}"
    if kind == "parquet":
        frame.write_parquet(path)  # text is text there
    table = Table(path, "y", categorical=["y"])
    table.setup()
    assert table.class_names == sorted(set(labels))


# Round trips


def shop(rows=90):
    """A table with every kind of column, some values missing."""
    random = np.random.default_rng(0)
    colours = [["red", "blue", "grün", None][i] for i in random.integers(0, 4, rows)]
    wet = [[True, False, None][i] for i in random.integers(0, 3, rows)]
    size = [
        None if i % 11 == 3 else round(value, 2)
        for i, value in enumerate(random.normal(5, 3, rows))
    ]
    days_of = [datetime(2022, 1, 1 + i % 28, tzinfo=UTC).date() for i in range(rows)]
    return pl.DataFrame(
        {
            "size": size,
            "colour": colours,
            "wet": wet,
            "code": [f"{i:03}" for i in random.integers(0, 5, rows)],
            "when": days_of,
            "count": random.integers(0, 9, rows),
            "y": random.integers(0, 3, rows),
        }
    )


def test_a_table_is_the_same_through_every_reader(tmp_path):
    frame = shop()
    frame.write_csv("t.csv")
    frame.write_csv("t.tsv", separator="\t")
    frame.write_parquet("t.parquet")
    classifier = trained()
    assert [classifier.columns.kind(name) for name in classifier.column_names] == [
        "number", "text", "text", "text", "date", "number",
    ]  # fmt: skip
    expected = classifier.predict_proba(frame)
    frames = [
        frame.to_pandas(),
        frame.to_pandas(use_pyarrow_extension_array=True),
        frame.to_pandas().convert_dtypes(),
        pd.read_csv("t.csv", dtype={"code": str}),
        pd.read_parquet("t.parquet"),
        frame.with_columns(pl.col("colour").cast(pl.Categorical)),
    ]
    for other in frames:
        np.testing.assert_allclose(classifier.predict_proba(other), expected, atol=1e-6)
        assert classifier.predict(other).tolist() == expected.argmax(1).tolist()
    outputs = []
    for kind in ("csv", "tsv", "parquet"):
        command(predict, [str(checkpoint()), f"t.{kind}", "--output", f"{kind}.csv", "--score"])
        outputs.append(Path(f"{kind}.csv").read_bytes())
        assert Table(f"t.{kind}", "y").read().categories == classifier.categories
    assert outputs[0] == outputs[1] == outputs[2]
    written = pl.read_csv("csv.csv").drop("label").to_numpy()
    np.testing.assert_allclose(written, expected, atol=1e-6)

    command(export, [str(checkpoint()), "model.onnx"])
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    inputs = {}
    for wanted in session.get_inputs():
        values = frame[wanted.name]
        if wanted.name == "when":
            inputs[wanted.name] = (values - datetime(1970, 1, 1).date()).dt.total_days().to_numpy()
        elif wanted.type == "tensor(string)":
            inputs[wanted.name] = values.cast(pl.String).to_numpy().astype(object)
        else:
            inputs[wanted.name] = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        numeric = {"tensor(float)": np.float32, "tensor(double)": np.float64}.get(wanted.type)
        inputs[wanted.name] = inputs[wanted.name].astype(numeric or object)[:, None]
    labels, probabilities = session.run(None, inputs)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert labels.tolist() == expected.argmax(1).tolist()


def checkpoint():
    """The checkpoint of the last run."""
    (path,) = Path("lightning_logs").glob("version_*/checkpoints/best.ckpt")
    return path


def probabilities_in_onnx(values):
    """Of the last run's network in ONNX, for each of these in the column c."""
    command(export, [str(checkpoint()), "model.onnx"])
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    x = np.array([[0.5]], np.float32)
    return [session.run(None, {"c": np.array([[value]], object), "x": x})[1] for value in values]


def test_a_missing_text_in_onnx_is_missing():
    column(["red", "", "blue"])
    expected = trained().predict_proba(pd.DataFrame({"c": [None], "x": [0.5]}))
    values = [None, float("nan"), pd.NA, "", "NA", "None", "nan"]
    for probabilities in probabilities_in_onnx(values):
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_a_boolean_in_onnx_in_every_spelling():
    column(["true", "false", "false"])
    expected = trained().predict_proba(pd.DataFrame({"c": [True], "x": [0.5]}))
    for probabilities in probabilities_in_onnx(["tRue", "TRUE", "1", "1.0"]):
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)


# Scores and ids


def test_rows_without_a_label_are_not_counted_and_said(capsys):
    frame = pl.DataFrame({"x": [0.5, 1.5, 2.5] * 20, "y": ["a", "b", "c"] * 20})
    frame.write_csv("t.csv")
    classifier = trained()
    some = frame.with_columns(pl.when(pl.int_range(60) % 2 == 0).then(pl.col("y")).alias("y"))
    some.write_csv("some.csv")
    right = classifier.predict(frame)[::2] == frame["y"].to_numpy()[::2]
    capsys.readouterr()
    command(predict, [str(checkpoint()), "some.csv", "--output=out.csv", "--score"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"30 rows (30 more have no y)   accuracy {right.mean():.4f}")
    command(explain, [str(checkpoint()), "some.csv"])
    assert f"60, accuracy {right.mean():.4f} of the 30 rows with a class" in capsys.readouterr().out
    frame.with_columns(pl.lit("").alias("y")).write_csv("none.csv")
    with pytest.raises(SystemExit) as stop:
        command(predict, [str(checkpoint()), "none.csv", "--output=none_out.csv", "--score"])
    assert stop.value.code == 2
    assert "'y' is empty in every row; leave out --score" in capsys.readouterr().err
    assert not Path("none_out.csv").exists()
    command(explain, [str(checkpoint()), "none.csv"])
    assert "without classes (y)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_id_is_carried_into_the_predictions_and_never_learned(kind):
    frame = pl.DataFrame({"who": [f"{i % 60:04}" for i in range(60)], "x": [0.5, 1.5, 2.5] * 20})
    frame.with_columns(pl.Series("y", ["a", "b", "c"] * 20)).write_csv("t.csv")
    classifier = trained(id="who")
    assert classifier.column_names == ["x"]
    command(predict, [str(checkpoint()), "t.csv", f"--output=out.{kind}"])
    read = pl.read_parquet if kind == "parquet" else partial(pl.read_csv, infer_schema=False)
    written = read(f"out.{kind}")
    assert written.columns[:2] == ["who", "label"]
    assert written["who"].to_list() == frame["who"].to_list()
    frame.drop("who").write_csv("without.csv")
    command(predict, [str(checkpoint()), "without.csv", "--output=plain.csv"])
    assert pl.read_csv("plain.csv").columns[0] == "label"


def test_the_description_of_columns_is_aligned_and_bounded():
    values = [f"{'long ' * 30}{i % 3}" for i in range(ROWS)]
    frame = pl.DataFrame({"c": values, "x" * 200: np.arange(ROWS) / 7, "y": ["a", "b"] * 60})
    frame.write_csv("t.csv")
    table = Table("t.csv", "y")
    table.setup()
    lines = table.about().splitlines()
    assert max(map(len, lines)) <= 100
    assert len({line.index("missing") for line in lines[:1]}) == 1


def test_the_flag_of_a_form_and_its_config_are_read():
    days = [f"{day:02}/{month:02}/2024" for day in range(1, 9) for month in range(1, 9)]
    pl.DataFrame({"when": days, "y": ["a", "b"] * 32}).write_csv("t.csv")
    line = ["--accelerator", "cpu", "--data", "Table", "--data.path", "t.csv", "--data.target", "y"]
    line += ["--members", "1", "--max_epochs", "1", "--pictures", "none"]
    command(train, [*line, "--data.dates", "{when: '%d/%m/%Y'}"])
    command(train, ["--config", "lightning_logs/version_0/config.yaml"])
    command(train, ["--resume", "lightning_logs/version_1"])
    first, second = (Path(f"lightning_logs/version_{i}/config.yaml").read_text() for i in (0, 1))
    assert first == second
    assert "when: '%d/%m/%Y'" in first
