"""What one pass over a stream's rows says of its columns, in memory of constant size."""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import torch

from cli.errors import in_list
from data.columns import Columns, category_codes
from data.encoder import ROBUST_LIMIT, Encoder, Scaling, robust_scale
from data.layout import CYCLES, MAX_FEATURES, Layout
from data.values import plain

# Sine and cosine of all cycles: which of them a column has is known when its range is.
WAVES = [(period, phase) for period in CYCLES.values() for phase in (0.0, 0.25)]


class Moments:
    """Count, mean, variance and range of columns, merged batch by batch in float64.

    Source: Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances (1979). NaN is missing.

    >>> moments = Moments(1)
    >>> for batch in ([[1.0], [np.nan]], [[3.0]]):
    ...     moments.add(np.array(batch))
    >>> moments.count, moments.mean, moments.variance, moments.missing
    (array([2.]), array([2.]), array([1.]), array([1.]))

    Args:
        columns: Number of columns.
    """

    def __init__(self, columns: int) -> None:
        self.count = np.zeros(columns)
        self.mean = np.zeros(columns)
        self.squares = np.zeros(columns)  # summed squared distances from the mean
        self.low = np.full(columns, np.inf)
        self.high = np.full(columns, -np.inf)
        self.missing = np.zeros(columns)

    @property
    def variance(self) -> np.ndarray:
        """The variance of the known values (columns,)."""
        variance: np.ndarray = self.squares / np.maximum(self.count, 1)
        return variance

    def add(self, values: np.ndarray) -> None:
        """Add rows (rows, columns)."""
        known = ~np.isnan(values)
        count = known.sum(0).astype(float)
        self.missing += len(values) - count
        self.low = np.minimum(self.low, np.where(known, values, np.inf).min(0, initial=np.inf))
        self.high = np.maximum(self.high, np.where(known, values, -np.inf).max(0, initial=-np.inf))
        mean = np.where(known, values, 0).sum(0) / np.maximum(count, 1)
        squares = np.where(known, values - mean, 0)
        self.merge(count, mean, np.einsum("ij,ij->j", squares, squares))

    def merge(self, count: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> None:
        """Add rows of which count, mean and summed squared distances are known, each (columns,)."""
        both = self.count + count
        share = count / np.maximum(both, 1)
        distance = mean - self.mean
        self.squares = self.squares + squares + distance**2 * self.count * share
        self.mean = self.mean + distance * share
        self.count = both

    def filled(self, column: int, fill: float) -> tuple[float, float, bool]:
        """Mean, variance and whether all are equal, of a column with its missing values filled."""
        filled = Moments(1)
        part = slice(column, column + 1)
        filled.merge(self.count[part], self.mean[part], self.squares[part])
        missing = self.missing[part]
        filled.merge(missing, np.full(1, fill), np.zeros(1))
        extremes = {self.low[column], self.high[column]} if self.count[column] else set()
        if missing[0]:
            extremes.add(fill)
        return float(filled.mean[0]), float(filled.variance[0]), len(extremes) == 1


class ColumnStatistics:
    """Collects what the layout and the encoder of a table need from its training rows.

    Args:
        columns: What each column is; the categories of text are not known yet.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.texts = [name for name in columns.names if name in columns.categories]
        self.numbers = [name for name in columns.names if name not in columns.categories]
        self.dates = [name for name in self.numbers if name in columns.dates]
        self.reader = Columns(self.numbers, {}, columns.dates, columns.reading)
        self.moments = Moments(len(self.numbers))
        self.waves = Moments(len(self.dates) * len(WAVES))
        self.has_clock = dict.fromkeys(self.dates, False)
        self.counts: dict[str, Counter[Any]] = {name: Counter() for name in self.texts}
        self.types: dict[str, pl.DataType] = {}  # of columns of text: a number's is not Python's
        self.rows = 0

    def add(self, frame: pl.DataFrame, numbers: np.ndarray) -> None:
        """Add training rows: their columns, and those of numbers and dates as a raw table."""
        self.rows += len(frame)
        self.moments.add(numbers)
        for name in self.texts:
            column = plain(frame.get_column(name))
            self.types[name] = column.dtype
            counts = column.value_counts(name="count")
            self.counts[name].update(dict(counts.iter_rows()))
            if len(self.counts[name]) > MAX_FEATURES:
                raise ValueError(
                    f"column {name!r} is text with more than {MAX_FEATURES:,} different values; "
                    f'leave it out with --data.ignore "[{in_list(name)}]"'
                )
        waves = []
        for name in self.dates:
            days = numbers[:, self.numbers.index(name)]
            self.has_clock[name] |= bool((days % 1 > 0).any())
            waves += [wave(days, period, phase) for period, phase in WAVES]
        if waves:
            self.waves.add(np.stack(waves, 1))

    def values(self, name: str) -> pl.Series:
        """The different values of a column of text."""
        return pl.Series(name, list(self.counts[name]), self.types[name])

    def finish(self, columns: Columns) -> None:
        """Count the training rows of each category, now that all categories are known.

        `categories` then has, for each column of text, how many rows each category has
        (categories,), and how many rows have none.
        """
        self.columns = columns
        self.categories: dict[str, tuple[np.ndarray, float]] = {}
        for name, categories in columns.categories.items():
            counts = self.counts[name]
            codes = category_codes(self.values(name), categories, columns.reading)
            known = codes.is_not_null().to_numpy()
            rows = np.array(list(counts.values()), float)
            by_code = np.bincount(
                codes.drop_nulls().cast(pl.Int64).to_numpy(),
                rows[known],
                minlength=len(categories),
            )
            self.categories[name] = by_code, float(rows[~known].sum())


def fit_encoder(statistics: ColumnStatistics, sample: np.ndarray, scaling: Scaling) -> Encoder:
    """The encoder that `Encoder.fit` would make of all training rows.

    Medians and quartiles are those of the sample, all else is of every row.

    Args:
        statistics: Of all training rows, finished.
        sample: A sample of the training rows as a raw table (rows, columns).
        scaling: How features are scaled.

    Raises:
        ValueError: All columns are constant, or there are too many features.
    """
    columns = statistics.columns
    categories = {
        index: columns.categories[name]
        for index, name in enumerate(columns.names)
        if name in columns.categories
    }
    dates = [index for index, name in enumerate(columns.names) if name in columns.dates]
    layout = Layout.from_rows(rows_like(statistics), categories, columns.names, dates)
    encoder = Encoder(layout)
    fill = fill_values(statistics, sample)
    encoder.fill = torch.from_numpy(fill[layout.source])
    moments = [feature_moments(statistics, layout, i, fill) for i in range(len(layout.names))]
    mean, variance, constant = (np.array(values) for values in zip(*moments, strict=True))
    if constant.all():
        raise ValueError("every column is constant in the training rows; give columns that differ")
    scale = np.where(variance > 0, np.sqrt(variance), 1.0)
    if scaling == "robust":
        mean = np.zeros_like(mean)
        scale = np.ones_like(scale)
        for feature in layout.numbers:
            values = sample[:, layout.source[feature]]
            mean[feature], scale[feature] = robust_scale(values[~np.isnan(values)])
        encoder.limit = torch.tensor(ROBUST_LIMIT, dtype=torch.float64)
    encoder.mean = torch.from_numpy(mean)
    encoder.scale = torch.from_numpy(np.where(constant, np.inf, scale))
    return encoder


def rows_like(statistics: ColumnStatistics) -> np.ndarray:
    """A few rows (rows, columns) that make the same layout as all training rows do.

    Each column has its range, all of its categories, a missing value where it has any, and a time
    of day where a date has one.
    """
    values = []
    for name in statistics.columns.names:
        if name in statistics.categories:
            counts, missing = statistics.categories[name]
            shown = np.flatnonzero(counts).astype(float).tolist()
        else:
            index = statistics.numbers.index(name)
            missing = statistics.moments.missing[index]
            low, high = statistics.moments.low[index], statistics.moments.high[index]
            shown = [low, high] if statistics.moments.count[index] else []
            is_clock = name in statistics.dates and statistics.has_clock[name]
            if is_clock and low % 1 == 0 and high % 1 == 0:
                shown.append(low + 0.5)
        values.append([*shown, np.nan] if missing else shown)
    rows = max(map(len, values))
    return np.array([column + column[-1:] * (rows - len(column)) for column in values]).T


def fill_values(statistics: ColumnStatistics, sample: np.ndarray) -> np.ndarray:
    """What replaces a missing value of each column: its median or most frequent category."""
    fill = np.zeros(sample.shape[1])
    for index, name in enumerate(statistics.columns.names):
        known = sample[~np.isnan(sample[:, index]), index]
        if name in statistics.categories:
            fill[index] = statistics.categories[name][0].argmax()
        elif len(known):
            fill[index] = np.median(known)
    return fill


def feature_moments(
    statistics: ColumnStatistics, layout: Layout, feature: int, fills: np.ndarray
) -> tuple[float, float, bool]:
    """Mean, variance and whether all training rows are equal, of a feature before it is scaled."""
    column = int(layout.source[feature])
    name = statistics.columns.names[column]
    fill = float(fills[column])
    if name in statistics.categories:
        counts, missing = statistics.categories[name]
        code = layout.code[feature]
        rows = (
            missing if layout.indicator[feature] else counts[int(code)] + missing * (code == fill)
        )
        return share_moments(rows / statistics.rows)
    index = statistics.numbers.index(name)
    if layout.indicator[feature]:
        return share_moments(statistics.moments.missing[index] / statistics.rows)
    period, phase = layout.period[feature], layout.phase[feature]
    if np.isnan(period):
        return statistics.moments.filled(index, fill)
    place = statistics.dates.index(name) * len(WAVES) + WAVES.index((period, phase))
    return statistics.waves.filled(place, float(wave(fill, period, phase)))


def share_moments(share: float) -> tuple[float, float, bool]:
    """Mean, variance and whether all are equal, of ones in this share and zeros elsewhere."""
    return share, share * (1 - share), share in (0, 1)


def wave(days: Any, period: float, phase: float) -> Any:
    """The sine of the place of dates in days in a cycle, as the encoder computes it."""
    turns = days / period + phase
    return np.sin(2 * np.pi * (turns - np.floor(turns)))
