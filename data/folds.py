"""Cross-validation: splits of a table, each standardized with statistics of its training rows."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from data.encoder import Encoder, Scaling
from data.layout import Layout
from data.row_set import RowSet
from data.shared_rows import SharedRows, SharedSplits, share
from data.splits import Cut, Cutter, remaining
from data.tabular import RawTable, TabularData

Indices = np.ndarray | RowSet


class Fold(NamedTuple):
    """A split of the rows; repeats, folds and inner folds are counted from 1.

    `inner` is the fold within the training rows of an outer fold, where candidates are compared; 0
    for an outer fold. `indices` has the row indices of "train", "test" and, if an epoch is to be
    chosen, "val".
    """

    repeat: int
    fold: int
    inner: int
    indices: dict[str, Indices]


def cross_validation(
    datamodule: TabularData, targets: np.ndarray, folds: int, repeats: int, inner_folds: int = 0
) -> list[Fold]:
    """Split the rows into outer folds (repeats * folds), each followed by its inner folds.

    If `val_fraction` is set, a share of the rows moves from the training split to a validation
    split, as in `TabularData`. Groups stay together, and times in order, in every cut; folds by
    time are not repeated. Test rows of the user's own are in no fold.

    >>> folds = cross_validation(TabularData(), np.arange(6) % 2, folds=3, repeats=1)
    >>> [len(fold.indices["test"]) for fold in folds]
    [2, 2, 2]

    Args:
        datamodule: It says how rows are cut, after `read()` also by groups or times.
        targets: Class indices (rows,).
        folds: Number of outer folds; each is held out once.
        repeats: How often the rows are shuffled and split again.
        inner_folds: Number of inner folds of an outer fold's training rows; 0 for none.

    Raises:
        ValueError: Fewer than 2 folds, or more than the smallest class has rows, or groups.
    """
    cutter = datamodule.cutter(targets)
    rows = remaining(len(targets), datamodule.held_back)
    result = []
    outer_folds = k_fold(cutter, rows, folds, repeats, "folds")
    for i, (train, test) in enumerate(outer_folds):
        repeat = i // folds + 1
        fold = i % folds + 1
        indices = with_validation(datamodule, cutter, train, len(rows)) | {"test": test}
        result.append(Fold(repeat, fold, 0, row_sets(indices, len(targets))))
        if not inner_folds:
            continue
        pairs = k_fold(cutter, train, inner_folds, 1, "inner_folds")
        for inner, (inner_train, inner_test) in enumerate(pairs, 1):
            indices = with_validation(datamodule, cutter, inner_train, len(train))
            indices["test"] = inner_test
            result.append(Fold(repeat, fold, inner, row_sets(indices, len(targets))))
    return result


def row_sets(indices: Mapping[str, Indices], table_rows: int) -> dict[str, Indices]:
    """The row indices of each split in little memory."""
    return {name: RowSet.of(rows, table_rows) for name, rows in indices.items()}


def k_fold(
    cutter: Cutter, rows: np.ndarray, folds: int, repeats: int, argument: str
) -> Iterable[Cut]:
    """Training and held-out row indices of each fold of each repeat, one after the other.

    Args:
        cutter: How rows are cut.
        rows: Indices of the rows to cut.
        folds: Number of folds.
        repeats: Number of repeats.
        argument: The argument that `folds` comes from, for messages.
    """
    most, limit = cutter.most_folds(rows)
    if not 2 <= folds <= most:
        raise ValueError(f"{argument} is {folds}; give from 2 to {most}, {limit}")
    return cutter.k_fold(rows, folds, repeats)


def with_validation(
    datamodule: TabularData, cutter: Cutter, train: np.ndarray, num_rows: int
) -> dict[str, np.ndarray]:
    """The training rows, and the validation rows taken from them: a share of `num_rows` rows.

    By time it is a share of the training rows. Validation rows of the user's own are those of them
    that are in `train`.
    """
    if datamodule.val_rows is not None:
        is_val = np.isin(train, datamodule.val_rows)
        if is_val.all() or not is_val.any():
            raise ValueError("a fold has no row to train on or none to validate on; give fewer")
        return {"train": train[~is_val], "val": train[is_val]}
    fraction = datamodule.val_fraction
    if not fraction:
        return {"train": train}
    if cutter.times is not None:  # early folds have few of the rows
        num_rows = len(train)
    try:
        train, val = cutter.split_off(train, round(fraction * num_rows))
    except ValueError as error:
        raise ValueError(
            f"val_fraction is {fraction} of {num_rows} rows: {error}; change it"
        ) from error
    return {"train": train, "val": val}


def standardize_folds(
    table: RawTable,
    folds: list[Fold],
    scaling: Scaling = "standard",
    layout: Layout | None = None,
) -> tuple[list[SharedSplits], list[Encoder]]:
    """Each fold's splits as rows of one shared table, and the encoder fitted to its training rows.

    All folds have the same features: those of `layout`, or of the whole table. A feature of a
    category, or of missing values, that the training rows of a fold do not have is 0 in them, and
    in the held-out rows too: it tells a network nothing, and its weights are never trained.

    Raises:
        ValueError: All columns are constant in the training rows of a fold.
    """
    layout = layout or table.layout()
    encoders = fit_encoders(table, folds, scaling, layout)
    shared_table, affines = share(table, encoders)
    splits: list[SharedSplits] = []
    for fold, affine in zip(folds, affines, strict=True):
        sets = {name: RowSet.of(rows, len(table.targets)) for name, rows in fold.indices.items()}
        splits.append({name: SharedRows(shared_table, rows, affine) for name, rows in sets.items()})
    return splits, encoders


def fit_encoders(
    table: RawTable, folds: list[Fold], scaling: Scaling, layout: Layout
) -> list[Encoder]:
    """An encoder for each fold, fitted to its training rows."""
    names = ("fill", "mean", "scale")
    # All statistics are allocated at once: small tensors between the large ones of each fit would
    # keep their memory from being used again, 12 MB a fold.
    statistics = torch.empty(len(folds), len(names), len(layout.names), dtype=torch.float64)
    for columns, raw in table.blocks():
        features, part_layout = layout.part(columns)
        part = Encoder(part_layout)
        for fold, of_fold in zip(folds, statistics, strict=True):
            part.fit(raw[np.asarray(fold.indices["train"])], table.channels, scaling)
            of_fold[:, features] = torch.stack([getattr(part, name) for name in names])
    encoders = []
    for of_fold in statistics:
        encoder = Encoder(layout)
        for name, values in zip(names, of_fold, strict=True):
            setattr(encoder, name, values)
        encoder.limit = part.limit
        if encoder.scale.isinf().all():
            raise ValueError(
                "every column is constant in the training rows; give columns that differ"
            )
        encoders.append(encoder)
    return encoders
