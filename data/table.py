"""Any table: CSV, TSV or Parquet, read by polars."""

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from data.encoder import Scaling
from data.file import File, matrix, numbers_of, text_of
from data.tabular import RawTable, TabularData
from data.values import BOOLEANS, MISSING

MAX_NUMERIC_CLASSES = 100  # numeric targets with more distinct values are rejected as regression
MIN_CLASS_ROWS = 3
SHOWN_COLUMNS = 40
SHOWN_CATEGORIES = 4
DATE = r"^(\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./]\d{1,2}[./]\d{2,4})([ T]\d{1,2}:.*)?$"


class Table(TabularData):
    """A table from a file: CSV, TSV or Parquet, whose first line has the names of its columns.

    A column that holds only numbers is numeric. Any other column, also one of true and false, is
    text, whose categories become features (data/encoder.py). An empty value is missing; in a
    numeric column so are NA, NaN, null, ?, - and the like (data/values.py).

    Args:
        path: The file.
        target: The column of classes: text, whole numbers, or true and false.
        ignore: Columns to leave out.
        delimiter: The character between a CSV file's fields; null takes the most frequent one in
            its first line.
        batch_size: Rows per optimizer step; null takes all training rows at once.
        scaling: robust: median and quartiles, with outliers limited; or standard.
        split: The other arguments of TabularData.

    Raises:
        ValueError: A file that cannot be read, with the line and column, or one that is not a
            table to learn classes from.
    """

    members = 8
    embedding = 4

    def __init__(
        self,
        path: str,
        target: str,
        ignore: list[str] | None = None,
        delimiter: str | None = None,
        batch_size: int | None = 256,
        scaling: Scaling = "robust",
        **split: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, scaling=scaling, **split)
        self.path = path
        self.target = target
        self.ignore = ignore or []
        self.delimiter = delimiter

    def load(self) -> RawTable:
        file = File(self.path, self.delimiter)
        left_out = [self.target, *self.ignore]
        for name in left_out:
            file.need([name])
        names = [name for name in file.names if name not in left_out]
        if not names:
            raise ValueError(
                f"{self.path} has no column left but the target {self.target!r}; ignore fewer"
            )
        frame = pl.concat(file.frames([*names, self.target]))
        class_names, targets = self.classes(frame.get_column(self.target))
        self.kinds = []
        categories = {}
        for name in names:
            column = frame.get_column(name)
            values = categories_of(column, self.path)
            if values is not None:
                categories[name] = values
            self.kinds.append(kind(column, values))
        features = matrix(frame, names, categories, file)
        return RawTable(features, targets, names, class_names, categories)

    def classes(self, column: pl.Series) -> tuple[list[str], np.ndarray]:
        """The class names in order, numbers by value and text alphabetically, and class indices."""
        text, numeric = target_text(column)
        self.check_complete(text)
        counts = dict(text.value_counts().iter_rows())
        self.check_counts(counts, numeric)
        if numeric:
            names = sorted(counts, key=lambda name: (float(name), name))
            self.check_spellings(names)
        else:
            names = sorted(counts)
        indices = text.replace_strict(names, range(len(names)), return_dtype=pl.Int64)
        return names, indices.to_numpy()

    def check_complete(self, text: pl.Series) -> None:
        """Refuse a target with missing values."""
        missing = text.null_count()
        if missing:
            first = int(text.is_null().arg_max() or 0) + 1
            raise ValueError(
                f"{self.path}: the target {self.target!r} is missing in {missing} rows, "
                f"first in row {first}; leave them out"
            )

    def check_counts(self, counts: dict[str, int], numeric: bool) -> None:
        """Refuse a target with too many classes, a single one, or one with too few rows."""
        target = f"{self.path}: the target {self.target!r}"
        if numeric and len(counts) > MAX_NUMERIC_CLASSES:
            raise ValueError(
                f"{target} is a number with {len(counts):,} values, "
                "which looks like regression; give classes"
            )
        if len(counts) < 2:
            raise ValueError(
                f"{target} is {next(iter(counts))!r} in every row; "
                "give one with two classes or more"
            )
        rarest = min(counts, key=lambda name: (counts[name], name))
        rows = counts[rarest]
        if rows < MIN_CLASS_ROWS:
            few = "1 row" if rows == 1 else f"{rows} rows"
            raise ValueError(
                f"{target} has {few} of class {rarest!r}; "
                f"each class needs {MIN_CLASS_ROWS}: add rows or leave it out"
            )

    def check_spellings(self, names: list[str]) -> None:
        """Refuse two spellings of a number, such as 1 and 1.0; `names` are sorted by value."""
        for name, following in pairwise(names):
            if float(name) == float(following):
                raise ValueError(
                    f"{self.path}: the target {self.target!r} has {name!r} and {following!r}, "
                    "which are one number; write them alike"
                )

    def about(self) -> str:
        """Describe each column in a line, and the table in a last one."""
        width = max(map(len, self.column_names))
        pairs = zip(self.column_names, self.kinds, strict=True)
        lines = [f"{name:{width}}  {what}" for name, what in pairs]
        if len(lines) > SHOWN_COLUMNS:
            hidden = len(lines) - SHOWN_COLUMNS + 1
            lines = [*lines[:-hidden], f"and {hidden} more columns"]
        lines.append(
            f"{len(self.column_names)} columns, {self.num_classes} classes of {self.target}"
        )
        return "\n".join(lines)


def target_text(column: pl.Series) -> tuple[pl.Series, bool]:
    """The values of a target as text, and whether they are all numbers.

    In a target of numbers the words for missing values are missing; in one of text they are text.
    """
    text = text_of(column)
    without_missing = text.set(text.is_in(MISSING), None)
    numbers = without_missing.cast(pl.Float64, strict=False)
    if numbers.null_count() == without_missing.null_count():
        return without_missing, True
    if is_boolean(text):
        text = text.str.to_lowercase()
    return text, False


def is_boolean(text: pl.Series) -> bool:
    """Whether all values are true or false, in upper or lower case."""
    return set(text.drop_nulls().str.to_lowercase()) <= set(BOOLEANS)


def categories_of(column: pl.Series, path: str) -> list[str] | None:
    """The sorted categories of a column of text; None for a column of numbers."""
    dtype = column.dtype
    if dtype.is_temporal():
        raise ValueError(dates_refused(column, path))
    if dtype.is_numeric() or dtype == pl.Null:
        return None
    if dtype == pl.Boolean:
        return list(BOOLEANS)
    if dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise ValueError(
            f"{path}: column {column.name!r} holds {dtype}; "
            "give numbers or text, or leave it out (ignore)"
        )
    _, not_numbers = numbers_of(column)
    if not not_numbers.any():
        return None
    text = text_of(column)
    if is_boolean(text):
        return list(BOOLEANS)
    known = text.set(text.is_in(MISSING), None).drop_nulls()
    if known.str.contains(DATE).all():
        raise ValueError(dates_refused(column, path))
    return text.drop_nulls().unique().sort().to_list()


def dates_refused(column: pl.Series, path: str) -> str:
    """The message for a column of dates, of which no feature is made."""
    return (
        f"{path}: column {column.name!r} holds dates; "
        "make numbers of them, or leave it out (ignore)"
    )


def kind(column: pl.Series, categories: list[str] | None) -> str:
    """What a column holds, in words."""
    if categories is None:
        numbers = numbers_of(column)[0].to_numpy()
        missing = int(np.isnan(numbers).sum())
        known = numbers[~np.isnan(numbers)]
        text = "nothing"
        if len(known):
            text = f"number from {known.min():g} to {known.max():g}"
    else:
        missing = text_of(column).null_count()
        shown = ", ".join(categories[:SHOWN_CATEGORIES])
        if len(categories) > SHOWN_CATEGORIES:
            shown += ", ..."
        text = f"text, {len(categories)} categories: {shown}"
    if missing:
        text += f"; {missing} missing"
    return text
