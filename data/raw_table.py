"""RawTable: a table in memory, in its own units, before it is split and standardized."""

from typing import NamedTuple

import numpy as np

from data.layout import Layout


class RawTable(NamedTuple):
    """A table in memory, in its own units.

    Shapes: features (rows, columns), NaN where missing, text as the index of its category, dates in
    days since 1970-01-01; targets (rows,), integers from 0 to num_classes - 1. `categories` maps
    the name of a text column to its categories, `dates` that of a date column to its form.
    `channels` (columns,) groups columns that share a mean and a standard deviation. Rows of the
    same value of `groups` (rows,) stay together in every cut; with `times` (rows,), numbers or
    datetime64, training rows come before held-out ones.

    A loader may return other things too, which `TabularData.read` converts (data/checks.py): lists,
    tensors and DataFrames, whose column names may then be left out; targets that are labels of any
    kind, whose class names may be left out.
    """

    features: np.ndarray
    targets: np.ndarray
    # RUF012: the defaults are never changed.
    column_names: list[str] = []  # noqa: RUF012
    class_names: list[str] = []  # noqa: RUF012
    categories: dict[str, list[str]] = {}  # noqa: RUF012
    dates: dict[str, str] = {}  # noqa: RUF012
    channels: np.ndarray | None = None
    groups: np.ndarray | None = None
    times: np.ndarray | None = None

    def layout(self, indices: np.ndarray | None = None) -> Layout:
        """Which features these rows make; None takes all rows."""
        features = self.features if indices is None else self.features[indices]
        categories = {
            index: self.categories[name]
            for index, name in enumerate(self.column_names)
            if name in self.categories
        }
        dates = [index for index, name in enumerate(self.column_names) if name in self.dates]
        return Layout.from_rows(features, categories, self.column_names, dates)
