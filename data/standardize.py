"""A raw table as one tensor of standardized features, whose splits are slices of it."""

import numpy as np
import torch
from torch import Tensor

from data.encoder import Encoder, Scaling
from data.layout import Layout
from data.memory import free_memory, readable
from data.raw_table import RawTable

# Per split ("train", "val", "test"): features (rows, num_features) and targets (rows,).
Splits = dict[str, tuple[Tensor, Tensor]]


def standardize(
    table: RawTable,
    indices: dict[str, np.ndarray],
    scaling: Scaling = "standard",
    layout: Layout | None = None,
) -> tuple[Splits, Encoder]:
    """The rows of each split as tensors, and the encoder fitted on the training rows.

    The tensors of all splits are slices of one, so that the table is in memory once. A large one is
    encoded a few columns at a time, with statistics in float64.

    Args:
        table: The table.
        indices: Row indices of each split.
        scaling: How features are scaled.
        layout: Which features to make; None derives it from the training rows. The folds of a
            cross-validation share one.

    Raises:
        ValueError: All columns are constant in the training rows, or the memory is too small.
    """
    encoder = fitted(table, indices["train"], scaling, layout)
    if encoder.scale.isinf().all():
        raise ValueError("every column is constant in the training rows; give columns that differ")
    rows = np.concatenate(list(indices.values()))
    check_size(len(rows), len(encoder.layout.names))
    features = torch.empty(len(rows), len(encoder.layout.names))
    for columns, raw in table.blocks():
        of_columns, part = encoder.part(columns)
        part.transform(raw, rows, into=features[:, of_columns])
    targets = torch.from_numpy(table.targets[rows]).long()
    sizes = [len(split_rows) for split_rows in indices.values()]
    slices = zip(features.split(sizes), targets.split(sizes), strict=True)
    return dict(zip(indices, slices, strict=True)), encoder


def fitted(
    table: RawTable, train: np.ndarray, scaling: Scaling, layout: Layout | None = None
) -> Encoder:
    """The encoder fitted on these rows of a table."""
    features = []
    parts = []
    for columns, raw in table.blocks():
        rows = raw[train]
        if layout is not None:
            part = Encoder(layout.part(columns)[1])
        else:
            of_columns = table.features_of(columns, rows)
            features += of_columns
            part = Encoder(Layout.from_features(of_columns).part(columns)[1])
        parts.append(part.fit(rows, table.channels, scaling))
    return Encoder(layout or Layout.from_features(features)).joined(parts)


def check_size(rows: int, features: int, value_bytes: int = 4) -> None:
    """Refuse a table whose features do not fit into the free memory.

    Raises:
        ValueError: They do not.
    """
    needed = rows * features * value_bytes
    free = free_memory()
    if needed > free:
        raise ValueError(
            f"{rows:,} rows of {features:,} features need {readable(needed)} of memory, and "
            f"{readable(free)} are free; about {rows * free // needed:,} rows would fit: give "
            "fewer rows or columns"
        )
