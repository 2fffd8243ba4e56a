"""Any table: its features beside scikit-learn's, and the messages for tables that are refused."""

import csv
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from scipy.stats import norm
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, RobustScaler, StandardScaler

from cli.command import command
from data.csv_lines import CsvLines
from data.file import File
from data.table import Table
from data.tabular import RawTable, TabularData
from data.values import MISSING
from evaluate import evaluate
from model.classifier import Classifier
from model.networks import MLP
from predict import load, predict
from tests.helpers import run, weights
from train import train


def mixed(rows=60, seed=0):
    """Numbers, text and booleans, some missing; three classes that depend on them."""
    random = np.random.default_rng(seed)
    size = random.normal(5, 3, rows).round(2)
    colour = random.integers(0, 3, rows)
    wet = random.integers(0, 2, rows)
    kind = (size > 5).astype(int) + wet
    sizes = size.tolist()
    sizes[3::7] = [None] * len(sizes[3::7])
    colours = [["red", "blue", "grün"][index] for index in colour]
    colours[5::9] = [None] * len(colours[5::9])
    return pl.DataFrame(
        {
            "size (cm)": sizes,
            "colour": colours,
            "wet": wet.astype(bool).tolist(),
            "kind": [["Ä", "b c", "7"][index] for index in kind],
        }
    )


def write(frame, path):
    """Write a table in the format of the path's ending; returns the path."""
    if path.endswith(".parquet"):
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if path.endswith(".tsv") else ",")
    return path


def read(path):
    """The fields of a CSV file, by Python's own reader."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_robust_scaling_is_scikit_learns_with_a_smooth_limit_and_categories_stay():
    """RobustScaler divides by the interquartile range; here by that of a normal distribution."""
    write(mixed(), "t.csv")
    table = Table("t.csv", "kind", scaling="robust")
    table.setup()
    train = table.indices["train"]
    sizes = mixed()["size (cm)"].to_numpy().astype(float)[:, None]
    scaler = RobustScaler().fit(sizes[train])
    filled = SimpleImputer(strategy="median").fit(sizes[train])
    for split, indices in table.indices.items():
        scaled = scaler.transform(filled.transform(sizes[indices]))[:, 0] * (2 * norm.ppf(0.75))
        features = table.splits[split][0]
        expected = scaled / np.sqrt(1 + (scaled / 3) ** 2)
        np.testing.assert_allclose(features[:, 0], expected, rtol=2e-4, atol=1e-6)
        one = 1 / np.sqrt(1 + 1 / 9)
        assert set(np.round(features[:, 1:].unique().tolist(), 5)) <= {0.0, round(one, 5)}


@pytest.mark.parametrize("factor", [1e3, 1e6, -1e9])
def test_a_lost_decimal_point_does_not_move_the_other_rows(factor):
    frame = mixed().with_columns(pl.col("size (cm)").fill_null(1.0))
    write(frame, "t.csv")
    clean = Table("t.csv", "kind", stratify=False)
    clean.setup()
    row = int(clean.indices["train"][0])
    index = pl.int_range(len(frame))
    lost = pl.when(index == row).then(pl.col("size (cm)") * factor).otherwise(pl.col("size (cm)"))
    write(frame.with_columns(lost.alias("size (cm)")), "t.csv")
    dirty = Table("t.csv", "kind", stratify=False)
    dirty.setup()
    moved = (dirty.splits["train"][0] - clean.splits["train"][0]).abs()
    assert moved[1:].max() < 0.25
    assert dirty.splits["train"][0].abs().max() <= 3


def test_the_features_are_those_of_scikit_learns_transformers():
    write(mixed(), "t.csv")
    table = Table("t.csv", "kind", scaling="standard")
    table.setup()
    raw = pd.DataFrame(mixed().to_dict(as_series=False))
    text = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(sparse_output=False)
    )
    number = SimpleImputer(strategy="median", add_indicator=True)
    missing = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="?"),
        OneHotEncoder(categories=[["?"]], handle_unknown="ignore", sparse_output=False),
    )
    encode = make_column_transformer(
        (number, ["size (cm)"]),
        (text, ["colour"]),
        (missing, ["colour"]),
        (OneHotEncoder(sparse_output=False), ["wet"]),
    )
    raw["colour"] = raw["colour"].astype(object).where(raw["colour"].notna(), np.nan)
    pipeline = make_pipeline(encode, StandardScaler()).fit(raw.iloc[table.indices["train"]])
    for split, indices in table.indices.items():
        expected = pipeline.transform(raw.iloc[indices])
        np.testing.assert_allclose(table.splits[split][0], expected, rtol=1e-5, atol=1e-6)
    assert table.feature_names == [
        "size (cm)", "size (cm) missing",
        "colour=blue", "colour=grün", "colour=red", "colour missing",
        "wet=false", "wet=true",
    ]  # fmt: skip


def test_a_file_is_the_same_table_in_every_format():
    tables = [Table(write(mixed(), f"t.{kind}"), "kind") for kind in ("csv", "tsv", "parquet")]
    mixed().write_csv("t.txt", separator="|")
    tables.append(Table("t.txt", "kind", delimiter="|"))
    for table in tables:
        table.setup()
        assert table.feature_names == tables[0].feature_names
        assert torch.equal(table.splits["test"][0], tables[0].splits["test"][0])
        assert torch.equal(table.splits["test"][1], tables[0].splits["test"][1])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("bunch", [load_wine, load_breast_cancer, load_digits])
def test_scikit_learns_tables_score_as_in_memory_bit_for_bit(bunch, kind):
    bunch = bunch(as_frame=True)
    frame = pl.from_pandas(bunch.data).with_columns(target=pl.Series(bunch.target.to_numpy()))
    path = write(frame, f"t.{kind}")
    raw = RawTable(
        bunch.data.to_numpy(),
        bunch.target.to_numpy(),
        list(bunch.data.columns),
        [str(i) for i in range(bunch.target.nunique())],
    )
    in_memory = type("InMemory", (TabularData,), {"load": lambda self: raw})
    results = [
        train(
            data,
            partial(MLP, embedding=0),
            members=1,
            max_epochs=20,
            accelerator="cpu",
            log_dir="logs",
            pictures="none",
        )
        for data in (in_memory, partial(Table, path, "target", batch_size=None, scaling="standard"))
    ]
    assert results[0].metrics() == results[1].metrics()
    expected = weights("logs/version_0/checkpoints/best.ckpt")
    from_file = weights("logs/version_1/checkpoints/best.ckpt")
    assert all(torch.equal(value, from_file[name]) for name, value in expected.items())


TARGETS = {
    "text": (["b", "a", "Ä"], ["a", "b", "Ä"]),
    "integers": ([10, -2, 3], ["-2", "3", "10"]),
    "booleans": ([True, False, True], ["false", "true"]),
    "Unicode": (["花", "🌷", "ß"], ["ß", "花", "🌷"]),
    "halves": ([0.5, 1.5, 2.5], ["0.5", "1.5", "2.5"]),
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", TARGETS)
def test_targets_of_any_type(name, kind):
    values, expected = TARGETS[name]
    frame = pl.DataFrame({"x": np.arange(30.0), "y": values * 10})
    table = Table(write(frame, f"t.{kind}"), "y")
    table.setup()
    assert table.class_names == expected
    for split, indices in table.indices.items():
        labels = [table.class_names[i] for i in table.splits[split][1]]
        written = [str(values[row % 3]) for row in indices]
        if name == "booleans":
            written = [text.lower() for text in written]
        assert labels == written


def test_a_target_of_true_and_false_in_any_spelling():
    Path("t.csv").write_text("x,y\n" + "1,True\n2,TRUE\n3,false\n4,False\n" * 5)
    table = Table("t.csv", "y")
    table.setup()
    assert table.class_names == ["false", "true"]
    pl.DataFrame({"x": range(9), "y": [0.0, 1.0, float("nan")] * 3}).write_parquet("t.parquet")
    with pytest.raises(ValueError, match="is missing in 3 rows, first in row 3"):
        Table("t.parquet", "y").setup()


def test_the_statistics_are_those_of_the_training_rows():
    frame = mixed()
    write(frame, "a.csv")
    table = Table("a.csv", "kind")
    table.setup()
    test = table.indices["test"]
    size = frame["size (cm)"].to_numpy().copy()
    size[test] *= 1000
    write(frame.with_columns(pl.Series("size (cm)", size).fill_nan(None)), "b.csv")
    other = Table("b.csv", "kind")
    other.setup()
    assert torch.equal(table.splits["train"][0], other.splits["train"][0])
    assert table.encoder.mean.equal(other.encoder.mean)


def test_an_unseen_category_encodes_as_zeros_and_changes_no_other_feature():
    write(mixed(), "t.csv")
    table = Table("t.csv", "kind")
    table.setup()
    seen, unseen = table.encoder(torch.tensor([[5.0, 0, 1], [5.0, 3, 1]], dtype=torch.float64))
    names = table.feature_names
    colours = [i for i, name in enumerate(names) if name.startswith("colour=")]
    zeros = -table.encoder.mean[colours] / table.encoder.scale[colours]
    torch.testing.assert_close(unseen[colours], zeros.float())
    others = [i for i in range(len(names)) if i not in colours]
    assert torch.equal(seen[others], unseen[others])


def test_it_prints_its_columns_before_training_and_logs_them(capsys):
    write(mixed(), "t.csv")
    run("--data", "data.table.Table", "--data.path=t.csv", "--data.target=kind", "--max_epochs=5")
    about = capsys.readouterr().out.split("\n\n")[0]
    assert about.splitlines() == [
        "column     kind      missing  values",
        "size (cm)  number          9  -1.98 to 10.88",
        "colour     text            7  3: blue, grün, red",
        "wet        text            0  2: false, true",
        "3 columns, 3 classes of kind",
    ]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("lightning_logs/version_0").Reload()
    (text,) = events.Tensors("columns/text_summary")
    assert about in re.sub(
        "^    ", "", text.tensor_proto.string_val[0].decode(), flags=re.MULTILINE
    )


def test_ignore_weights_and_delimiter_are_flags_of_both_commands():
    random = np.random.default_rng(0)
    rare = (random.random(200) < 0.1).astype(int)
    pl.DataFrame({"id": np.arange(200), "x": random.normal(rare), "y": rare}).write_csv(
        "t.csv", separator=";"
    )
    flags = [
        "--data=Table",
        "--data.path=t.csv",
        "--data.target=y",
        "--data.ignore=[id]",
        "--data.delimiter=;",
    ]
    run(*flags, "--max_epochs=40")
    run(*flags, "--max_epochs=40", "--data.class_weight=balanced")
    means = []
    for version in (0, 1):
        predictor = load(f"lightning_logs/version_{version}/checkpoints/best.ckpt")
        assert predictor.column_names == ["x"]
        probabilities = predictor.predict_proba(np.linspace(-2, 3, 50)[:, None])
        means.append(probabilities[:, 1].mean())
    assert means[1] > means[0] + 0.2
    command(
        evaluate,
        [*flags, "--folds=3", "--repeats=1", "--accelerator=cpu", "--data.class_weight=balanced"],
    )


X = "x,y\n" + "1,a\n2,a\n3,a\n" + "4,b\n5,b\n6,b\n7,b\n"
BAD = {  # name: (content of the file, further flags, message)
    "no such file": (None, "", "there is no file t.csv"),
    "a folder": ("", "--data.path=folder", "folder is a folder; give a CSV, TSV or Parquet file"),
    "empty": ("", "", "t.csv is empty"),
    "header only": ("x,y\n", "", "t.csv has names of columns and no row"),
    "not UTF-8": ("x,y\n1,a\n2,ä\n".encode("latin-1"), "", "t.csv: line 3 is not UTF-8"),
    "not UTF-8 in the header": ("ä,y\n1,a\n".encode("latin-1"), "", "t.csv: line 1 is not UTF-8"),
    "too many fields": (
        X + "8,9,b\n",
        "",
        "t.csv: line 9 has 3 fields, and line 1 names 2 columns",
    ),
    "too few fields": (X + "8\n", "", "t.csv: line 9 has 1 fields, and line 1 names 2 columns"),
    "ragged behind a line break in quotes": ('x,y\n"1\n",a\n2\n', "", "t.csv: line 4 has 1 fields"),
    "an open quote": (X + '"8,b\n9,b\n', "", "t.csv: line 9 cannot be read"),
    "a column twice": ("x,x,y\n1,2,a\n", "", "t.csv has two columns called 'x'; rename one"),
    "target missing": (X, "--data.target=yy", "t.csv has no column 'yy'; nearest: 'y'"),
    "ignored column missing": (X, "--data.ignore=[z]", "t.csv has no column 'z'; nearest: "),
    "target constant": ("x,y\n1,a\n2,a\n3,a\n", "", "the target 'y' is 'a' in every row"),
    "target with a hole": (X + "8,\n", "", "the target 'y' is missing in 1 rows, first in row 8"),
    "numbers and NA": (
        "x,y\n" + "1,0\n2,1\n3,NA\n" * 3,
        "",
        "the target 'y' is missing in 3 rows, first in row 3",
    ),
    "few of a class": (X + "8,c\n9,c\n", "", "has 2 rows of class 'c'; each class needs 3"),
    "one of a class": (X + "8,c\n", "", "has 1 row of class 'c'; each class needs 3"),
    "regression": (
        "x,y\n" + "".join(f"{i},{i}\n" for i in range(101)) * 3,
        "",
        "101 values, which looks like regression",
    ),
    "infinite": (
        X + "inf,b\n",
        "",
        "t.csv: line 9, column 'x' is 'inf'; give a number up to 1e+100",
    ),
    "too large": (
        X + "1e999,b\n",
        "",
        "t.csv: line 9, column 'x' is '1e999'; give a number up to 1e+100",
    ),
    "a stray quote": (
        X + '8"9,b\n',
        "",
        "t.csv: line 9 has a quote in a field; quote the field and double the quote",
    ),
    "a quote that ends early": (X + '"8"9,b\n', "", "t.csv: line 9 cannot be read"),
    "a field too many at the end": (
        X + "8,b,",
        "",
        "t.csv: line 9 has 3 fields, and line 1 names 2 columns",
    ),
    "10,000 columns": (
        "x,id,y\n" + "".join(f"{i}.5,name {i},{'ab'[i % 2]}\n" for i in range(13_000)),
        "--data.categorical=[id]",
        "00 of them of column 'id'; the most is 10,000: leave it out with --data.ignore",
    ),
    "all constant": (
        "x,z,y\n" + "1,k,a\n1,k,b\n" * 10,
        "",
        "every column is constant in the training rows",
    ),
    "all ignored": (
        X,
        "--data.ignore=[x]",
        "t.csv has no column left but the target 'y'; ignore fewer",
    ),
    "a delimiter of two": (X, "--data.delimiter=;;", "the delimiter is ';;'; give one character"),
    "Parquet cut short": (b"PAR1 and no more", "", "t.csv is not a complete Parquet file"),
    "a blank line within": ("x,y\n1,a\n\n2,b\n", "", "t.csv: line 3 is blank; leave it out"),
}


@pytest.mark.parametrize("function", [train, evaluate], ids=["train", "evaluate"])
@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_one_line_and_exit_code_2_and_leave_nothing(name, function, capsys):
    content, flags, message = BAD[name]
    Path("folder").mkdir()
    if content is not None:
        Path("t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        command(function, ["--data=Table", "--data.path=t.csv", "--data.target=y", *flags.split()])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert sorted(Path().rglob("*")) == before


def test_lists_of_a_parquet_file_are_refused():
    pl.DataFrame({"l": [[1]] * 10, "y": ["a", "b"] * 5}).write_parquet("t.parquet")
    with pytest.raises(ValueError, match="column 'l' holds List"):
        Table("t.parquet", "y").setup()


def test_a_column_of_booleans_without_a_value_is_a_constant():
    frame = pl.DataFrame({"x": range(10), "b": [None] * 10, "y": ["a", "b"] * 5})
    frame.with_columns(pl.col("b").cast(pl.Boolean)).write_parquet("t.parquet")
    table = Table("t.parquet", "y")
    table.setup()
    assert table.feature_names == ["x", "b missing"]
    assert not table.splits["train"][0][:, 1].any()


def test_the_rarest_class_is_named_the_first_of_equals():
    Path("t.csv").write_text("x,y\n1,a\n2,a\n3,a\n4,d\n5,c\n6,b\n")
    with pytest.raises(ValueError, match="1 row of class 'b'"):
        Table("t.csv", "y").setup()


def test_a_parquet_file_of_other_types():
    frame = pl.DataFrame(
        {
            "c": pl.Series(["u", "v"] * 5, dtype=pl.Categorical),
            "^a$": list(range(10)),
            "y": [0, 1] * 5,
        }
    )
    frame.write_parquet("t.parquet")
    raw = Table("t.parquet", "y").load()
    assert raw.categories == {"c": ["u", "v"]}
    np.testing.assert_array_equal(raw.features, [[i % 2, i] for i in range(10)])
    durations = pl.Series(range(10)).cast(pl.Duration)
    for target in ([[0], [1]] * 5, [b"\xff", b"a"] * 5, durations):
        frame.with_columns(y=pl.Series(target)).write_parquet("t.parquet")
        with pytest.raises(ValueError, match="column 'y' holds"):
            Table("t.parquet", "y").setup()


def test_a_number_far_from_all_training_rows_is_still_predicted():
    write(mixed(), "t.csv")
    train(partial(Table, "t.csv", "kind"), max_epochs=5, accelerator="cpu", pictures="none")
    classifier = load("lightning_logs/version_0/checkpoints/best.ckpt")
    sizes = [1e99, -1e99, 1e39]
    far = pl.DataFrame({"size (cm)": sizes, "colour": ["red"] * 3, "wet": [True] * 3})
    assert np.isfinite(classifier.predict_proba(far)).all()


def test_rows_are_counted_and_located_in_the_lines_of_a_csv_file():
    Path("t.csv").write_text('x,y\n1,"two\nlines"\n2,b\n\n\n')
    lines = CsvLines("t.csv", ",", "t.csv")
    assert lines.count_rows(num_columns=2) == 2
    assert [lines.line_of(row) for row in (0, 1)] == [2, 4]
    with pytest.raises(IndexError, match=r"t\.csv has no row 9"):
        lines.line_of(9)


@pytest.mark.parametrize(
    ("content", "may_confuse"), [("x\n1\n", False), ('x\n"1"\n', True), ("x\n1", True)]
)
def test_quotes_and_a_last_line_without_an_end_may_confuse_polars(content, may_confuse):
    Path("t.csv").write_text(content)
    assert CsvLines("t.csv", ",", "t.csv").may_confuse_polars() == may_confuse


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_files_as_spreadsheets_save_them(ending):
    rows = ["0,blue,a", "1,red,b"] * 5
    lines = ["size,colour,y", *rows, "", ""]
    Path("t.csv").write_bytes(b"\xef\xbb\xbf" + ending.join(lines).encode())
    table = Table("t.csv", "y")
    raw = table.load()
    assert raw.column_names == ["size", "colour"]
    np.testing.assert_array_equal(raw.features, [[0, 0], [1, 1]] * 5)


def test_every_word_for_missing_is_missing_in_a_column_of_numbers():
    Path("t.csv").write_text("x,y\n" + "".join(f"{word},a\n1,b\n" for word in MISSING))
    features = Table("t.csv", "y").load().features
    np.testing.assert_array_equal(np.isnan(features[:, 0]), [True, False] * len(MISSING))


# Anything that a CSV file can hold: text with separators, quotes and line breaks, and words that
# look like something else.
words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="\0"), max_size=6
)
words |= st.sampled_from(
    ["", " ", "a,b", 'say "x"', "two\nlines", "-", "NA", "true", "1e5", "0x1", "2024-01-02", "nan"]
)
numbers = (
    st.integers(-(10**6), 10**6).map(str)
    | st.floats(-1e9, 1e9).map(str)
    | st.sampled_from(["", "NA", "?"])
)
booleans = st.sampled_from(["true", "false", "True"])
names = st.lists(words, min_size=2, max_size=5, unique=True)
REFUSED = (
    "has two columns|is missing in|in every row|each class needs 3|looks like regression"
    "|is constant|give a number|change the fractions"
    "|is blank|line 1 |has no column left|no column to learn from|give plain numbers"
    "|most of the column|cannot be told apart|is text with"
)


@st.composite
def tables(draw):
    """Column names, rows of text, delimiter."""
    header = draw(names)
    size = draw(st.integers(3, 40))
    kinds = st.sampled_from([words, numbers, booleans, st.just("k")])
    columns = [draw(st.lists(draw(kinds), min_size=size, max_size=size)) for _ in header[:-1]]
    labels = st.one_of(words.filter(str.strip), numbers)
    classes = draw(st.lists(labels, min_size=2, max_size=3, unique=True))
    if size > 5:
        targets = [classes[i % len(classes)] for i in range(size)]
    else:
        targets = draw(st.lists(words, min_size=size, max_size=size))
    rows = list(zip(*columns, targets, strict=True))
    return header, rows, draw(st.sampled_from(",;\t"))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables())
def test_any_table_trains_and_predicts_or_is_refused(table):
    header, rows, delimiter = table
    for path, order in (("t.csv", rows), ("turned.csv", rows[::-1])):
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([header, *order])
    try:
        data = Table("t.csv", header[-1], delimiter=delimiter)
        data.setup()
        classifier = Classifier(
            data.num_features, data.num_classes, partial(MLP, hidden=[2]), schedule=None
        )
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_val_batches=0,
            log_every_n_steps=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(classifier, data)
    except ValueError as error:
        if not re.search(REFUSED, str(error)):
            raise
        return
    trainer.save_checkpoint("t.ckpt")
    predict("t.ckpt", "t.csv", output="out.csv", delimiter=delimiter)
    predict("t.ckpt", "turned.csv", output="turned_out.csv", delimiter=delimiter)
    predictions = read("out.csv")[1:]
    turned = read("turned_out.csv")[1:]
    assert len(predictions) == len(rows)
    labels = [row[0] for row in predictions]
    probabilities = np.array([row[1:] for row in predictions], float)
    assert labels == [data.class_names[i] for i in probabilities.argmax(1)]
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    expected = np.array([row[1:] for row in turned[::-1]], float)
    np.testing.assert_allclose(expected, probabilities, rtol=1e-4, atol=1e-6)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables())
def test_a_file_has_the_rows_that_pythons_reader_finds(table):
    header, rows, delimiter = table
    with Path("t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    try:
        frame = pl.concat(File("t.csv", delimiter).frames(header))
    except ValueError as error:
        if not re.search(REFUSED, str(error)):
            raise
        return
    assert [tuple(value or "" for value in row) for row in frame.rows()] == rows
