"""Cross-validation: splits of a table, each standardized with statistics of its training rows."""

from typing import NamedTuple

import numpy as np
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold

from data.encoder import Encoder, Scaling
from data.sampling import split_off
from data.tabular import RawTable, Splits, TabularData, standardize


class Fold(NamedTuple):
    """A split of the rows; repeats, folds and inner folds are counted from 1.

    `inner` is the fold within the training rows of an outer fold, where candidates are compared; 0
    for an outer fold. `indices` has the row indices of "train", "test" and, if an epoch is to be
    chosen, "val".
    """

    repeat: int
    fold: int
    inner: int
    indices: dict[str, np.ndarray]


def cross_validation(
    datamodule: TabularData, targets: np.ndarray, folds: int, repeats: int, inner_folds: int = 0
) -> list[Fold]:
    """Split the rows into outer folds (repeats * folds), each followed by its inner folds.

    If `val_fraction` is set, a share of the rows moves from the training split to a validation
    split, as in `TabularData`.

    >>> folds = cross_validation(TabularData(), np.arange(6) % 2, folds=3, repeats=1)
    >>> [len(fold.indices["test"]) for fold in folds]
    [2, 2, 2]

    Args:
        datamodule: Its val_fraction, stratify and split_seed are used.
        targets: Class indices (rows,).
        folds: Number of outer folds; each is held out once.
        repeats: How often the rows are shuffled and split again.
        inner_folds: Number of inner folds of an outer fold's training rows; 0 for none.

    Raises:
        ValueError: Fewer than 2 folds, or more than the smallest class has rows.
    """
    rows = np.arange(len(targets))
    result = []
    outer_folds = k_fold(datamodule, rows, targets, folds, repeats, "folds")
    for i, (train, test) in enumerate(outer_folds):
        repeat = i // folds + 1
        fold = i % folds + 1
        indices = with_validation(datamodule, train, targets, len(targets))
        result.append(Fold(repeat, fold, 0, indices | {"test": test}))
        if not inner_folds:
            continue
        pairs = k_fold(datamodule, train, targets, inner_folds, 1, "inner_folds")
        for inner, (inner_train, inner_test) in enumerate(pairs, 1):
            indices = with_validation(datamodule, inner_train, targets, len(train))
            result.append(Fold(repeat, fold, inner, indices | {"test": inner_test}))
    return result


def k_fold(
    datamodule: TabularData,
    rows: np.ndarray,
    targets: np.ndarray,
    folds: int,
    repeats: int,
    argument: str,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and held-out row indices of each fold of each repeat.

    Args:
        datamodule: Its stratify and split_seed are used.
        rows: Indices of the rows to split.
        targets: Class indices of the whole table.
        folds: Number of folds.
        repeats: Number of repeats.
        argument: The argument that `folds` comes from, for messages.
    """
    if datamodule.stratify:
        counts = np.bincount(targets[rows])
        most = counts[counts > 0].min()
        limit = "the rows of the smallest class"
        cutter = RepeatedStratifiedKFold
    else:
        most = len(rows)
        limit = "the rows of the table"
        cutter = RepeatedKFold
    if not 2 <= folds <= most:
        raise ValueError(f"{argument} is {folds}; give from 2 to {most}, {limit}")
    splitter = cutter(n_splits=folds, n_repeats=repeats, random_state=datamodule.split_seed)
    return [(rows[train], rows[test]) for train, test in splitter.split(rows, targets[rows])]


def with_validation(
    datamodule: TabularData, train: np.ndarray, targets: np.ndarray, num_rows: int
) -> dict[str, np.ndarray]:
    """The training rows, and the validation rows taken from them: a share of `num_rows` rows."""
    fraction = datamodule.val_fraction
    if not fraction:
        return {"train": train}
    size = round(fraction * num_rows)
    try:
        train, val = split_off(train, size, targets, datamodule.stratify, datamodule.split_seed)
    except ValueError as error:
        raise ValueError(
            f"val_fraction is {fraction} of {num_rows} rows: {error}; change it"
        ) from error
    return {"train": train, "val": val}


def standardize_folds(
    table: RawTable, folds: list[Fold], scaling: Scaling = "standard"
) -> tuple[list[Splits], list[Encoder]]:
    """Each fold's splits as tensors, and the encoder fitted to its training rows.

    All folds have the same features, those of the whole table.
    """
    layout = table.layout()
    splits = []
    encoders = []
    for fold in folds:
        fold_splits, encoder = standardize(table, fold.indices, scaling, layout)
        splits.append(fold_splits)
        encoders.append(encoder)
    return splits, encoders
