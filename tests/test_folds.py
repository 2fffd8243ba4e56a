"""The folds of a cross-validation: scikit-learn's, and without leakage."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.preprocessing import StandardScaler

from data.folds import cross_validation, standardize_folds
from data.iris import Iris
from data.tabular import TabularData


def test_outer_folds_are_scikit_learns():
    iris = load_iris()
    expected = RepeatedStratifiedKFold(n_splits=10, n_repeats=3, random_state=0).split(
        iris.data, iris.target
    )
    folds = cross_validation(Iris(), iris.target, folds=10, repeats=3)
    for fold, (train, test) in zip(folds, expected, strict=True):
        assert np.array_equal(fold.indices["train"], train)
        assert np.array_equal(fold.indices["test"], test)
    positions = [(fold.repeat, fold.fold, fold.inner) for fold in folds]
    assert positions[9:12] == [(1, 10, 0), (2, 1, 0), (2, 2, 0)]


@given(
    num_folds=st.integers(2, 4),
    repeats=st.integers(1, 2),
    inner_folds=st.sampled_from([0, 2, 3]),
    val_fraction=st.sampled_from([0.0, 0.2]),
    stratify=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_row_is_lost_and_no_held_out_row_is_trained_on(
    num_folds, repeats, inner_folds, val_fraction, stratify, seed
):
    targets = np.arange(48) % 3
    datamodule = TabularData(val_fraction=val_fraction, stratify=stratify, split_seed=seed)
    folds = cross_validation(datamodule, targets, num_folds, repeats, inner_folds)
    assert len(folds) == num_folds * repeats * (1 + inner_folds)
    outer = {(fold.repeat, fold.fold): fold for fold in folds if not fold.inner}
    for fold in folds:
        rows = np.arange(48)
        if fold.inner:
            outer_indices = outer[fold.repeat, fold.fold].indices
            rows = np.concatenate([outer_indices["train"], outer_indices.get("val", [])])
        assert sorted(np.concatenate(list(fold.indices.values()))) == sorted(rows)
        assert ("val" in fold.indices) == bool(val_fraction)
        if val_fraction:
            assert len(fold.indices["val"]) == round(val_fraction * len(rows))
    for repeat in range(1, repeats + 1):
        held_out = [fold.indices["test"] for (r, _), fold in outer.items() if r == repeat]
        assert sorted(np.concatenate(held_out)) == list(range(48))


def test_a_fold_is_standardized_by_its_training_rows():
    table = Iris().read()
    folds = cross_validation(Iris(), table.targets, folds=5, repeats=1, inner_folds=3)
    held_out = folds[0].indices["test"]
    changed = table.features.copy()
    changed[held_out] *= 1000
    before, encoders = standardize_folds(table, folds)
    after, _ = standardize_folds(table._replace(features=changed), folds)
    for i, fold in enumerate(folds):
        scaler = StandardScaler().fit(table.features[fold.indices["train"]])
        np.testing.assert_allclose(encoders[i].mean, scaler.mean_)
        expected = scaler.transform(table.features[fold.indices["test"]])
        np.testing.assert_allclose(before[i]["test"][0], expected, atol=1e-5)
        # All rows decide how the shared features are rounded, but none more than that.
        is_same = torch.allclose(before[i]["train"][0], after[i]["train"][0], rtol=0, atol=1e-6)
        assert is_same == (fold.fold == 1)  # the other folds train on the changed rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": 51}, "folds is 51; give from 2 to 50, the rows of the smallest class"),
        ({"folds": 1}, "folds is 1; give from 2"),
        ({"folds": 10, "inner_folds": 46}, "inner_folds is 46; give from 2 to 45"),
    ],
)
def test_impossible_numbers_of_folds_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        cross_validation(Iris(), load_iris().target, **{"repeats": 1} | arguments)


def test_too_many_validation_rows_are_refused():
    with pytest.raises(ValueError, match=r"val_fraction is 0\.79 of 150 rows"):
        cross_validation(Iris(val_fraction=0.79), load_iris().target, folds=2, repeats=1)
