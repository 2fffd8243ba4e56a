"""RawTable: a table in its own units, before it is split and standardized."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data.layout import Feature, Layout, check_columns, features_of_rows
from data.memory import give_back
from data.store import LazyFeatures, blocks_of

LARGE_VALUES = 2**23  # of an array that is encoded a few columns at a time: 64 MiB as float64


class RawTable(NamedTuple):
    """A table in its own units.

    Shapes: features (rows, columns), NaN where missing, text as the index of its category, dates in
    days since 1970-01-01; targets (rows,), integers from 0 to num_classes - 1. `categories` maps
    the name of a text column to its categories, `dates` that of a date column to its form.
    `channels` (columns,) groups columns that share a mean and a standard deviation. Rows of the
    same value of `groups` (rows,) stay together in every cut; with `times` (rows,), numbers or
    datetime64, training rows come before held-out ones.

    A loader may return other things too, which `TabularData.read` converts (data/checks.py): lists,
    tensors and DataFrames, whose column names may then be left out; targets that are labels of any
    kind, whose class names may be left out. The columns of a large file or DataFrame stay where
    they are, and are read when they are needed (data/store.py).
    """

    features: np.ndarray | LazyFeatures
    targets: np.ndarray
    # RUF012: the defaults are never changed.
    column_names: list[str] = []  # noqa: RUF012
    class_names: list[str] = []  # noqa: RUF012
    categories: dict[str, list[str]] = {}  # noqa: RUF012
    dates: dict[str, str] = {}  # noqa: RUF012
    channels: np.ndarray | None = None
    groups: np.ndarray | None = None
    times: np.ndarray | None = None

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the columns, a few at a time of a large table, and their values (rows, columns)."""
        features = self.features
        rows, columns = features.shape
        check_columns(columns)
        if isinstance(features, LazyFeatures):
            for block in blocks_of(columns, rows):
                yield block, features.block(block)
                give_back()
        elif rows * columns < LARGE_VALUES or self.channels is not None:
            yield slice(0, columns), features
        else:
            for block in blocks_of(columns, rows):
                yield block, features[:, block]
                give_back()

    def layout(self, indices: np.ndarray | None = None) -> Layout:
        """Which features these rows make; None takes all rows."""
        features = []
        for block, raw in self.blocks():
            features += self.features_of(block, raw if indices is None else raw[indices])
        return Layout.from_features(features)

    def features_of(self, block: slice, raw: np.ndarray) -> list[Feature]:
        """The features that these values (rows, columns of the block) make."""
        names = self.column_names[block]
        categories = {
            index: self.categories[name]
            for index, name in enumerate(names)
            if name in self.categories
        }
        dates = [index for index, name in enumerate(names) if name in self.dates]
        return features_of_rows(raw, categories, names, dates, block.start)


def in_memory(features: LazyFeatures) -> np.ndarray | LazyFeatures:
    """The features of a small table as an array; those of a large one as they are."""
    rows, columns = features.shape
    if rows * columns < LARGE_VALUES:
        return features.block(slice(0, columns))
    return features
