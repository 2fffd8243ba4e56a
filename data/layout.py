"""Which features a raw table makes."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np

MAX_FEATURES = 10_000
CYCLES = {"year": 365.2425, "week": 7.0, "day": 1.0}  # in days
DAYS_PER_MONTH = 30.0


class Layout:
    """What each feature is made of.

    Args:
        names: The features' names.
        source: The column of each feature (features,).
        code: The index of the category that a feature stands for (features,); NaN if it is none.
        indicator: Whether a feature says that a value is missing (features,).
        period: The cycle in days of a feature that is the sine of a date (features,); NaN if it is
            none.
        phase: The part of the cycle that is added to the date (features,).
    """

    def __init__(
        self,
        names: list[str],
        source: np.ndarray,
        code: np.ndarray,
        indicator: np.ndarray,
        period: np.ndarray | None = None,
        phase: np.ndarray | None = None,
    ) -> None:
        self.names = names
        self.source = source
        self.code = code
        self.indicator = indicator
        self.period = np.full(len(names), np.nan) if period is None else period
        self.phase = np.zeros(len(names)) if phase is None else phase

    @property
    def has_categories(self) -> bool:
        """Whether a feature stands for a category."""
        return bool(np.isfinite(self.code).any())

    @property
    def has_indicators(self) -> bool:
        """Whether a feature says that a value is missing."""
        return bool(self.indicator.any())

    @property
    def has_dates(self) -> bool:
        """Whether a feature is the sine of a date."""
        return bool(np.isfinite(self.period).any())

    @property
    def numbers(self) -> list[int]:
        """The features that are numbers of their column."""
        is_number = np.isnan(self.code) & ~self.indicator & np.isnan(self.period)
        numbers: list[int] = np.flatnonzero(is_number).tolist()
        return numbers

    @classmethod
    def from_rows(
        cls,
        raw: np.ndarray,
        categories: dict[int, list[str]],
        column_names: Sequence[str],
        dates: Collection[int] = (),
    ) -> Self:
        """The layout of rows.

        Args:
            raw: Rows of a raw table (rows, columns).
            categories: The categories of each text column, by the column's index.
            column_names: The columns' names.
            dates: The indices of the columns of dates.

        Raises:
            ValueError: More than 10,000 features.
        """
        return cls.from_features(features_of_rows(raw, categories, column_names, dates))

    @classmethod
    def from_features(cls, features: Sequence["Feature"]) -> Self:
        """The layout of these features.

        Raises:
            ValueError: They are more than 10,000.
        """
        if len(features) > MAX_FEATURES:
            columns = Counter(feature.column for feature in features)
            widest, count = columns.most_common(1)[0]
            raise ValueError(
                f"the table makes {len(features):,} features, {count:,} of them of column "
                f"{widest!r}; the most is {MAX_FEATURES:,}: leave it out with --data.ignore"
            )
        names, _, *arrays = zip(*features, strict=True)
        return cls(list(names), *(np.array(array) for array in arrays))

    def part(self, columns: slice) -> tuple[slice, "Layout"]:
        """The features of some columns in a row: which they are, and their layout.

        >>> layout = Layout.from_rows(np.array([[1.0, 2.0, np.nan]]), {}, ["a", "b", "c"])
        >>> features, part = layout.part(slice(1, 3))
        >>> features, part.names, part.source
        (slice(1, 4, None), ['b', 'c', 'c missing'], array([0, 1, 1]))
        """
        start, stop = np.searchsorted(self.source, [columns.start, columns.stop]).tolist()
        features = slice(start, stop)
        part = Layout(
            self.names[features],
            self.source[features] - columns.start,
            self.code[features],
            self.indicator[features],
            self.period[features],
            self.phase[features],
        )
        return features, part


def check_columns(count: int) -> None:
    """Refuse a table of more columns than there may be features."""
    if count > MAX_FEATURES:
        raise ValueError(
            f"the table has {count:,} columns to learn from; the most is "
            f"{MAX_FEATURES:,}: give a table of fewer, such as those that vary most"
        )


class Feature(NamedTuple):
    """A feature as a layout describes it (see Layout), and the name of its column."""

    name: str
    column: str
    source: int
    code: float = np.nan
    indicator: bool = False
    period: float = np.nan
    phase: float = 0.0


def features_of_rows(
    raw: np.ndarray,
    categories: dict[int, list[str]],
    column_names: Sequence[str],
    dates: Collection[int] = (),
    first: int = 0,
) -> list[Feature]:
    """The features that columns (rows, columns) make.

    Args:
        raw: Rows of a raw table.
        categories: The categories of each text column, by the column's index.
        column_names: The columns' names.
        dates: The indices of the columns of dates.
        first: The index in the table of the first of the columns.
    """
    features = []
    for index, name in enumerate(column_names):
        values = raw[:, index]
        made = features_of(first + index, name, values, categories.get(index))
        if index in dates:
            made = [made[0], *date_features(first + index, name, values), *made[1:]]
        features += made
    return features


def features_of(
    column: int, name: str, values: np.ndarray, categories: list[str] | None
) -> list[Feature]:
    """The features of a column with these values (rows,); numeric where it has no categories."""
    missing = np.isnan(values)
    if categories is None:
        features = [Feature(name, name, column)]
    else:
        codes = np.unique(values[~missing]).astype(int).tolist()
        features = [
            Feature(f"{name}={categories[code]}", name, column, float(code)) for code in codes
        ]
    if missing.any():
        features.append(Feature(f"{name} missing", name, column, indicator=True))
    return features


def date_features(column: int, name: str, values: np.ndarray) -> Iterator[Feature]:
    """Sine and cosine of the cycles that dates (rows,) in days go through."""
    known = values[~np.isnan(values)]
    span = known.max() - known.min() if len(known) else 0.0
    has_clock = bool((known % 1 > 0).any())
    cycles = {"year": span > DAYS_PER_MONTH, "week": span > 1, "day": has_clock}
    for cycle, is_gone_through in cycles.items():
        if is_gone_through:
            yield Feature(f"{name} {cycle} sine", name, column, period=CYCLES[cycle])
            yield Feature(f"{name} {cycle} cosine", name, column, period=CYCLES[cycle], phase=0.25)
