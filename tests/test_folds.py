"""Cross-validation's cuts against scikit-learn's, and what may not leak."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.preprocessing import StandardScaler

from data.folds import cross_validation, standardized
from data.iris import Iris
from data.tabular import TabularData


def test_outer_folds_are_scikit_learns():
    iris = load_iris()
    expected = RepeatedStratifiedKFold(n_splits=10, n_repeats=3, random_state=0).split(
        iris.data, iris.target
    )
    splits = cross_validation(Iris(), iris.target, folds=10, repeats=3)
    for split, (train, test) in zip(splits, expected, strict=True):
        assert np.array_equal(split.indices["train"], train)
        assert np.array_equal(split.indices["test"], test)
    assert [(split.repeat, split.fold, split.inner) for split in splits][9:12] == [
        (1, 10, 0),
        (2, 1, 0),
        (2, 2, 0),
    ]


@given(
    st.integers(2, 4),
    st.integers(1, 2),
    st.sampled_from([0, 2, 3]),
    st.sampled_from([0.0, 0.2]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_no_row_is_lost_and_no_held_out_row_is_trained_on(
    folds, repeats, inner_folds, val_fraction, stratify, seed
):
    targets = np.arange(48) % 3
    table = TabularData(val_fraction=val_fraction, stratify=stratify, split_seed=seed)
    splits = cross_validation(table, targets, folds, repeats, inner_folds)
    assert len(splits) == folds * repeats * (1 + inner_folds)
    outer = {(split.repeat, split.fold): split for split in splits if not split.inner}
    for split in splits:
        whole = np.arange(48)
        if split.inner:
            above = outer[split.repeat, split.fold].indices
            whole = np.concatenate([above["train"], above.get("val", [])])
        assert sorted(np.concatenate(list(split.indices.values()))) == sorted(whole)
        assert ("val" in split.indices) == bool(val_fraction)
        if val_fraction:
            assert len(split.indices["val"]) == round(val_fraction * len(whole))
    for repeat in range(1, repeats + 1):
        held_out = [split.indices["test"] for (r, _), split in outer.items() if r == repeat]
        assert sorted(np.concatenate(held_out)) == list(range(48))


def test_a_fold_is_standardized_by_its_own_training_rows():
    table = Iris().read()
    splits = cross_validation(Iris(), table.targets, folds=5, repeats=1, inner_folds=3)
    changed = table.features.copy()
    held_out = splits[0].indices["test"]
    changed[held_out] *= 1000
    before, encoders = standardized(table, splits)
    after, _ = standardized(table._replace(features=changed), splits)
    for number, split in enumerate(splits):
        scaler = StandardScaler().fit(table.features[split.indices["train"]])
        np.testing.assert_allclose(encoders[number].mean, scaler.mean_)
        expected = scaler.transform(table.features[split.indices["test"]])
        np.testing.assert_allclose(before[number]["test"][0], expected, atol=1e-5)
        same = torch.equal(before[number]["train"][0], after[number]["train"][0])
        assert same == (split.fold == 1)  # the other folds train on these rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": 51}, "folds is 51; give from 2 to 50, the rows of the smallest class"),
        ({"folds": 1}, "folds is 1; give from 2"),
        ({"folds": 10, "inner_folds": 46}, "inner_folds is 46; give from 2 to 45"),
    ],
)
def test_folds_that_cannot_be_cut(arguments, message):
    with pytest.raises(ValueError, match=message):
        cross_validation(Iris(), load_iris().target, **{"repeats": 1} | arguments)


def test_validation_rows_that_cannot_be_set_aside():
    with pytest.raises(ValueError, match=r"val_fraction is 0\.79 of 150 rows"):
        cross_validation(Iris(val_fraction=0.79), load_iris().target, folds=2, repeats=1)
