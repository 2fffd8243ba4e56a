"""What a loader of one's own returns becomes Iris' very table, or one line that says why not."""

import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.datasets import load_iris

from data.checks import checked_rows
from data.iris import Iris
from data.labels import typed_names
from data.table import Table
from data.tabular import RawTable, TabularData
from data.targets import class_indices
from evaluate import evaluate
from inference.predictor import load
from train import train

IRIS = load_iris()
X, Y = IRIS.data, IRIS.target
COLUMNS = list(IRIS.feature_names)
CLASSES = [str(name) for name in IRIS.target_names]
LABELS = IRIS.target_names[Y]
LISTED = X.tolist()
FRAME = pd.DataFrame(X, columns=COLUMNS)
ALIKE = {
    "NumPy's text": RawTable(X, Y, np.array(COLUMNS), IRIS.target_names),
    "lists": RawTable(LISTED, Y.tolist(), COLUMNS, CLASSES),
    "tuples": RawTable(tuple(LISTED), tuple(Y), tuple(COLUMNS), tuple(CLASSES)),
    "objects": RawTable(X.astype(object), Y.astype(object), COLUMNS, CLASSES),
    "tensors": RawTable(torch.tensor(X, requires_grad=True), torch.tensor(Y), COLUMNS, CLASSES),
    "sparse": RawTable(csr_matrix(X), Y, COLUMNS, CLASSES),
    "masked": RawTable(np.ma.array(X, mask=False), np.ma.array(Y, mask=False), COLUMNS, CLASSES),
    "big-endian": RawTable(X.astype(">f8"), Y.astype(">i2"), COLUMNS, CLASSES),
    "pandas": RawTable(FRAME, pd.Series(Y), pd.Index(COLUMNS), CLASSES),
    "pandas, its names": RawTable(FRAME, pd.Series(LABELS)),
    "pandas, nullable": RawTable(FRAME.convert_dtypes(), pd.Series(LABELS, dtype="string")),
    "pandas, categories": RawTable(FRAME, pd.Series(LABELS, dtype="category")),
    "polars": RawTable(pl.DataFrame(X, schema=COLUMNS), pl.Series(Y), COLUMNS, CLASSES),
    "polars, its names": RawTable(pl.DataFrame(X, schema=COLUMNS), pl.Series(LABELS)),
    "1 to K": RawTable(X, Y + 1, COLUMNS, CLASSES),
    "unsigned": RawTable(X, Y.astype(np.uint16), COLUMNS, CLASSES),
    "floats": RawTable(X, Y.astype(float), COLUMNS, CLASSES),
    "a column": RawTable(X, Y[:, None], COLUMNS, CLASSES),
    "texts": RawTable(X, LABELS, COLUMNS, CLASSES),
    "bytes": RawTable(X, np.char.encode(LABELS.astype(str)), COLUMNS, CLASSES),
    "texts alone": RawTable(X, LABELS, COLUMNS),
    "spaces around": RawTable(X, np.char.add(LABELS.astype(str), " "), COLUMNS),
}


class Made(TabularData):
    def __init__(self, table, target="target", test_rows=None, **split):
        super().__init__(**split)
        self.table = table
        self.target = target
        self.test_rows = test_rows

    def load(self):
        return self.table


@pytest.mark.parametrize("kind", ALIKE)
def test_the_same_table_in_any_form(kind):
    table = Made(ALIKE[kind]).read()
    np.testing.assert_array_equal(table.features, X)
    np.testing.assert_array_equal(table.targets, Y)
    assert table.targets.dtype.isnative
    assert (table.column_names, table.class_names) == (COLUMNS, CLASSES)
    assert {type(name) for name in table.column_names + table.class_names} == {str}
    made, iris = Made(ALIKE[kind]), Iris()
    made.setup()
    iris.setup()
    assert torch.equal(made.splits["train"][0], iris.splits["train"][0])


def test_a_table_that_needs_nothing_is_not_copied():
    pixels = np.zeros((4, 3), np.uint8)
    table = Made(RawTable(pixels, np.array([0, 1, 0, 1]), list("abc"), ["x", "y"])).read()
    assert table.features is pixels


@pytest.mark.parametrize(
    "missing",
    [
        np.ma.masked_greater(X, 6),
        np.where(X > 6, None, X),
        np.where(X > 6, pd.NA, X),
        np.where(X > 6, np.nan, X).tolist(),
        FRAME.mask(FRAME > 6).convert_dtypes(),
        pl.DataFrame(np.where(X > 6, np.nan, X), schema=COLUMNS).fill_nan(None),
    ],
    ids=["masked", "None", "NA", "NaN", "pandas", "polars"],
)
def test_what_is_missing_is_nan(missing):
    features = Made(RawTable(missing, Y, COLUMNS, CLASSES)).read().features
    np.testing.assert_array_equal(features, np.where(X > 6, np.nan, X))


@pytest.mark.parametrize(
    ("targets", "class_names", "indices", "names"),
    [
        ([3, 7, 3], [], [0, 1, 0], ["3", "7"]),
        ([10, 9, 10], None, [1, 0, 1], ["9", "10"]),
        ([0.5, 1.0, 0.5], [], [0, 1, 0], ["0.5", "1"]),
        ([True, False], [], [1, 0], ["false", "true"]),
        ([True, False], ["no", "yes"], [1, 0], ["no", "yes"]),
        ([-1, 1], ["no", "yes"], [0, 1], ["no", "yes"]),
        ([7, 3], ["7", "3"], [0, 1], ["7", "3"]),
        ([7, 3], np.array([7, 3]), [0, 1], ["7", "3"]),
        ([1, 2, 3], [1.0, 2.0, 3.0], [0, 1, 2], ["1", "2", "3"]),
        ([2**62, 2**62 + 1], [], [0, 1], [str(2**62), str(2**62 + 1)]),
        (["b", "a"], ["b", "a"], [0, 1], ["b", "a"]),
    ],
)
def test_labels_are_mapped_to_class_indices(targets, class_names, indices, names):
    found, found_names = class_indices(targets, class_names)
    assert (found.tolist(), found_names) == (indices, names)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=50))
def test_whole_labels_are_ordered_by_value(labels):
    if len(set(labels)) < 2:
        return
    indices, names = class_indices(labels, [])
    assert [int(names[index]) for index in indices] == labels
    assert list(map(int, names)) == sorted(set(labels))


@pytest.mark.parametrize(
    ("labels", "names", "predicted"),
    [
        (Y + 1, None, [1, 2, 3]),
        (Y / 2, [], [0.0, 0.5, 1.0]),
        (LABELS, [], ["setosa", "versicolor", "virginica"]),
        (Y > 0, [], [False, True]),
        (Y, ["a", "b", "c"], ["a", "b", "c"]),
    ],
)
def test_labels_without_names_come_back_in_their_type(labels, names, predicted):
    made = Made(RawTable(X, labels, COLUMNS, names))
    made.read()
    classes = typed_names(made.class_names, made.label_type).tolist()
    assert classes == predicted
    assert [type(name) for name in classes] == [type(name) for name in predicted]


CODES = np.c_[X, np.arange(150) % 2]
WITH_CODE = [*COLUMNS, "colour"]
COLOURS = {"colour": ["red", "blue"]}


def replaced(array, value):
    """The array with a value in its second row and last column."""
    array = array.astype(object)
    array[1, -1] = value
    return array


def test_categories_of_any_kind():
    given = {np.str_("colour"): np.array(["red", "blue"])}
    table = Made(RawTable(replaced(CODES, None), Y, WITH_CODE, CLASSES, given)).read()
    assert table.categories == COLOURS
    assert table.features[:3, -1].tolist()[::2] == [0, 0]
    assert np.isnan(table.features[1, -1])


MIXED = pd.DataFrame(
    {
        "size": np.where(np.arange(60) % 7, np.arange(60) / 8, np.nan),
        "colour": pd.Series(["red", "blue", None] * 20),
        "wet": np.arange(60) % 2 == 0,
        "day": pd.to_datetime(np.arange(60), unit="D", origin="2024-01-01"),
        "kind": np.repeat(["a", "b", "c"], 20),
    }
)
INPUTS = MIXED.drop(columns="kind")


@pytest.mark.parametrize(
    "frame",
    [
        INPUTS,
        INPUTS.convert_dtypes(),
        INPUTS.astype({"colour": "category"}),
        pl.DataFrame(INPUTS),
        pl.LazyFrame(INPUTS),
    ],
    ids=["pandas", "nullable", "category", "polars", "lazy"],
)
def test_a_dataframe_is_the_table_of_its_file(frame):
    pl.DataFrame(MIXED).write_parquet("t.parquet")
    expected = Table("t.parquet", "kind").read()
    table = Made(RawTable(frame, MIXED["kind"])).read()
    np.testing.assert_array_equal(table.features, expected.features)
    assert table._replace(features=0, targets=0) == expected._replace(features=0, targets=0)
    renamed = Made(RawTable(frame, MIXED["kind"], ["a", "b", "c", "d"])).read()
    assert (list(renamed.categories), list(renamed.dates)) == (["b", "c"], ["d"])
    np.testing.assert_array_equal(renamed.features, expected.features)


def test_numbers_of_a_dataframe_are_numbers_whatever_their_values():
    frame = pd.DataFrame({"id": np.arange(2000), "day": 20240101 + np.arange(2000) % 28, 5: 1.5})
    table = Made(RawTable(frame, np.arange(2000) % 2)).read()
    np.testing.assert_array_equal(table.features, frame.to_numpy())
    assert table.column_names == ["id", "day", "5"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [f"row {i} and more" for i in range(60)],
            "column 'text' is text with 60 values in",
        ),
        ([f"k{i}" for i in range(60)], "column 'text' is an id: 60 values, all different"),
        ([[1]] * 60, "column 'text' holds List"),
    ],
)
def test_columns_of_a_dataframe_that_cannot_be_learned(values, message):
    frame = pl.DataFrame({"x": range(60), "text": values})
    with pytest.raises(ValueError, match=message) as refusal:
        Made(RawTable(frame, MIXED["kind"])).read()
    assert str(refusal.value).endswith("; leave it out, or give it the type category, or numbers")


REFUSED = {
    "a tuple": ((X, Y), {}, "it returned a tuple; return RawTable(features, targets, column_names"),
    "nothing": (None, {}, "it returned nothing; return RawTable("),
    "names": (RawTable(X, Y, COLUMNS[:3], CLASSES), {}, "column_names has 3 names and features 4 "),
    "no names": (RawTable(X, Y, [], CLASSES), {}, "column_names is empty; give a name for each"),
    "a text": (RawTable(X, Y, "abcd", CLASSES), {}, "column_names is 'abcd'; give a list of names"),
    "a set": (RawTable(X, Y, {"a"}, CLASSES), {}, "column_names is {'a'}; give a list of names"),
    "twice": (RawTable(X, Y, ["1", 1, 2, 3], CLASSES), {}, "column_names has '1' twice; rename"),
    "None": (RawTable(X, Y, ["a", None, 2, 3], CLASSES), {}, "column_names has no text in place 2"),
    "order": (
        RawTable(FRAME, Y, COLUMNS[::-1], CLASSES),
        {},
        "column_names has the names of features in another order",
    ),
    "classes": (RawTable(X, Y, COLUMNS, ["a", "a", "b"]), {}, "class_names has 'a' twice; rename"),
    "rows": (RawTable(X, Y[1:], COLUMNS, CLASSES), {}, "features has 150 rows and targets 149"),
    "few": (RawTable(X, Y, COLUMNS, ["a", "b"]), {}, "targets has 2; give class indices from 0 to"),
    "many": (
        RawTable(X, Y, COLUMNS, [*CLASSES, "x"]),
        {},
        "class_names has 'x', which is the target of no row; leave it out",
    ),
    "unsure": (
        RawTable(X, Y, COLUMNS, ["2", "1", "0"]),
        {},
        "targets has 0, which is both the index of a class and the name of another",
    ),
    "gap": (RawTable(X, Y * 3, COLUMNS, CLASSES), {}, "targets has 3; give class indices from 0 t"),
    "a name": (
        RawTable(X, np.where(LABELS == "setosa", "setossa", LABELS), COLUMNS, CLASSES),
        {},
        "targets has 'setossa', which is not in class_names; nearest: 'setosa'",
    ),
    "numbers": (RawTable(X, X[:, 0] ** 2 + X[:, 1], COLUMNS), {}, "targets is a number with 117 "),
    "fractions": (RawTable(X, Y + 0.5, COLUMNS, CLASSES), {}, "targets has 0.5; give class ind"),
    "one class": (RawTable(X, Y * 0, COLUMNS), {}, "targets is 0 in every row; give two classes"),
    "missing": (
        RawTable(X, np.where(Y, Y, np.nan), COLUMNS, CLASSES),
        {},
        "targets is missing in 50 of 150 rows, first in row 1; leave them out",
    ),
    "empty": (RawTable(X, np.where(Y, "a", " "), COLUMNS), {}, "targets is missing in 50 of 150 r"),
    "one-hot": (
        RawTable(X, np.eye(3)[Y], COLUMNS, CLASSES),
        {},
        "targets is of shape (150, 3); give (rows,), such as targets.argmax(1)",
    ),
    "images": (
        RawTable(X.reshape(150, 2, 2), Y, COLUMNS, CLASSES),
        {},
        "features is of shape (150, 2, 2); give (rows, columns): features.reshape(len(features)",
    ),
    "a row": (RawTable(X[:, 0], Y, COLUMNS, CLASSES), {}, "features is of shape (150,); give (ro"),
    "ragged": (
        RawTable([[1], [1, 2]], Y[:2], ["a"]),
        {},
        "features cannot be made an array: setting an array element with a sequence",
    ),
    "fields": (
        RawTable(np.zeros(150, [("a", float)]), Y, ["a"], CLASSES),
        {},
        "features is a structured array; give numpy.lib.recfunctions.structured_to_unstructured",
    ),
    "infinite": (
        RawTable(replaced(X, -np.inf), Y, COLUMNS, CLASSES),
        {},
        "features has -inf in row 2, column 'petal width (cm)'; give a number up to 1e+100, or NaN",
    ),
    "text": (
        RawTable(replaced(X, "red"), Y, COLUMNS, CLASSES),
        {},
        "features has 'red' in row 2, column 4; give numbers, or a DataFrame",
    ),
    "pandas' code": (
        RawTable(replaced(CODES, -1), Y, WITH_CODE, CLASSES, COLOURS),
        {},
        "features has -1 in row 2, column 'colour'; give the index of one of its 2 categories",
    ),
    "a high code": (
        RawTable(replaced(CODES, 2), Y, WITH_CODE, CLASSES, COLOURS),
        {},
        "features has 2 in row 2, column 'colour'",
    ),
    "a key": (
        RawTable(CODES, Y, WITH_CODE, CLASSES, {"color": ["a"]}),
        {},
        "categories has 'color', which is not in column_names; nearest: 'colour'",
    ),
    "a category": (
        RawTable(CODES, Y, WITH_CODE, CLASSES, {"colour": ["a", "a"]}),
        {},
        "categories of 'colour' has 'a' twice; rename one",
    ),
    "channels": (
        RawTable(X, Y, COLUMNS, CLASSES, channels=[0, 1]),
        {},
        "channels is of shape (2,); give the channel of each of 4 columns",
    ),
    "no target": (
        RawTable(X, Y, COLUMNS, CLASSES),
        {"target": None},
        "target is None; set it to the name of the class column, a text",
    ),
    "a feature": (
        RawTable(X, Y, [*COLUMNS[:3], "kind"], CLASSES),
        {"target": "kind"},
        "column_names has 'kind', which is the target; take it out of the features, or set",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_one_line(mistake):
    table, settings, message = REFUSED[mistake]
    with pytest.raises(ValueError, match=re.escape(f"Made.load: {message}")) as refusal:
        Made(table, **settings).read()
    assert "\n" not in str(refusal.value)


def test_a_sparse_matrix_is_made_dense_within_a_bound():
    huge = csr_matrix((2**20, 2**10))
    with pytest.raises(ValueError, match="sparse, of 1,048,576 rows and 1,024 columns, and would"):
        Made(RawTable(huge, Y, COLUMNS, CLASSES)).read()


def test_a_forgotten_constructor():
    class Forgetful(TabularData):
        def __init__(self):
            pass

        def load(self):
            return RawTable(X, Y, COLUMNS, CLASSES)

    message = r"Forgetful.__init__ does not call super\(\).__init__\(\); call it first"
    for use in (Forgetful().read, Forgetful().setup):
        with pytest.raises(ValueError, match=message):
            use()


def test_test_rows_as_a_mask_or_a_list():
    mask = np.arange(150) % 5 == 0
    table = RawTable(X, Y, COLUMNS, CLASSES)
    for rows in (mask, mask.tolist(), np.flatnonzero(mask), range(0, 150, 5)):
        made = Made(table, test_rows=rows)
        made.setup()
        assert made.indices["test"].tolist() == list(range(0, 150, 5))
        assert made.indices["train"].tolist() == np.flatnonzero(~mask).tolist()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, -1], "test_rows has -1; give row indices from 0 to 9"),
        ([0, 10], "test_rows has 10; give row indices from 0 to 9"),
        ([3, 4, 3], "test_rows has 3 twice; give each row once"),
        ([], "test_rows has 0 of 10 rows; give some, and not all"),
        (range(10), "test_rows has 10 of 10 rows; give some, and not all"),
        ([0.5], "test_rows is not a list of row indices; give whole numbers, or a mask"),
        ([True, False], "test_rows is not a list of row indices"),
    ],
)
def test_test_rows_that_no_row_has(rows, message):
    with pytest.raises(ValueError, match=message):
        checked_rows(rows, 10)


@pytest.fixture
def mine(monkeypatch):
    """A module mine.py whose loader gives NumPy's texts and labels from 1 to K."""
    Path("mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(Path.cwd())
    yield import_module("mine")
    del sys.modules["mine"]


MINE = """
import numpy as np
from sklearn.datasets import load_iris
from data.table import Table
from data.tabular import RawTable, TabularData

class Flowers(TabularData):
    target = "species"

    def load(self):
        bunch = load_iris()
        names = np.array(bunch.feature_names)
        return RawTable(bunch.data, bunch.target + 1, names, bunch.target_names)
"""


def test_what_trains_can_be_loaded(mine):
    result = train(mine.Flowers, max_epochs=20, accelerator="cpu", pictures="none")
    expected = train(Iris, max_epochs=20, accelerator="cpu", pictures="none")
    assert result.to_json()["test/loss"] == expected.to_json()["test/loss"]
    ours, iris = load(result.checkpoint), load(expected.checkpoint)
    np.testing.assert_array_equal(ours.predict(X), iris.predict(X))
    assert ours.class_names == CLASSES
    settings = {"folds": 3, "repeats": 1, "max_epochs": 5, "accelerator": "cpu"}
    assert evaluate(mine.Flowers, **settings).to_json()["accuracy/mean"] > 0.5
