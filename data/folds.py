"""Cross-validation: a table's rows cut many times, each cut standardized by its own training rows."""

from typing import NamedTuple

import numpy as np
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold

from data.encoder import Encoder
from data.sampling import split_off
from data.tabular import RawTable, Splits, TabularData, standardize


class Fold(NamedTuple):
    """One cut of the rows: row numbers of "train", "test" and, where an epoch is chosen, "val"; all count from 1.

    `inner` is the fold within the outer split's training rows, on which settings are chosen; 0 for an outer split.
    """

    repeat: int
    fold: int
    inner: int
    indices: dict[str, np.ndarray]


def cross_validation(
    table: TabularData, targets: np.ndarray, folds: int, repeats: int, inner_folds: int = 0
) -> list[Fold]:
    """Outer splits (repeats times folds), each followed by its inner ones.

    Training parts give up a share of `table.val_fraction` of the rows to a validation part, as `TabularData` does.

    >>> [len(split.indices["test"]) for split in cross_validation(TabularData(), np.arange(6) % 2, folds=3, repeats=1)]
    [2, 2, 2]

    Args:
        table: Its val_fraction, stratify and split_seed are used.
        targets: Class numbers (rows,).
        folds: Splits of which each is held out once.
        repeats: How often the rows are shuffled and cut anew.
        inner_folds: Splits of an outer split's training rows; 0 for none.

    Raises:
        ValueError: Fewer than 2 folds, or more than the smallest class has rows.
    """
    outer = folded(table, np.arange(len(targets)), targets, folds, repeats, "folds")
    splits = []
    for i, (train, test) in enumerate(outer):
        repeat, fold = i // folds + 1, i % folds + 1
        splits.append(
            Fold(repeat, fold, 0, {**set_aside(table, train, targets, len(targets)), "test": test})
        )
        if inner_folds:
            for inner, (rows, held_out) in enumerate(
                folded(table, train, targets, inner_folds, 1, "inner_folds"), 1
            ):
                parts = {**set_aside(table, rows, targets, len(train)), "test": held_out}
                splits.append(Fold(repeat, fold, inner, parts))
    return splits


def folded(
    table: TabularData, rows: np.ndarray, targets: np.ndarray, folds: int, repeats: int, name: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and held-out row numbers of each fold of each repeat."""
    counts = np.bincount(targets[rows])
    most, of = (
        (counts[counts > 0].min(), "the smallest class")
        if table.stratify
        else (len(rows), "the table")
    )
    if not 2 <= folds <= most:
        raise ValueError(f"{name} is {folds}; give from 2 to {most}, the rows of {of}")
    cutter = RepeatedStratifiedKFold if table.stratify else RepeatedKFold
    cuts = cutter(n_splits=folds, n_repeats=repeats, random_state=table.split_seed).split(
        rows, targets[rows]
    )
    return [(rows[train], rows[test]) for train, test in cuts]


def set_aside(
    table: TabularData, train: np.ndarray, targets: np.ndarray, of: int
) -> dict[str, np.ndarray]:
    """The training rows, less the validation rows."""
    if not table.val_fraction:
        return {"train": train}
    try:
        train, val = split_off(
            train, round(table.val_fraction * of), targets, table.stratify, table.split_seed
        )
    except ValueError as error:
        raise ValueError(
            f"val_fraction is {table.val_fraction} of {of} rows: {error}; change it"
        ) from error
    return {"train": train, "val": val}


def standardized(table: RawTable, splits: list[Fold]) -> tuple[list[Splits], list[Encoder]]:
    """Each split's parts as tensors, and the encoder that its training rows made; all of one layout, the table's."""
    layout = table.layout()
    parts, encoders = zip(
        *(standardize(table, split.indices, layout) for split in splits), strict=True
    )
    return list(parts), list(encoders)
