"""Any table: CSV, TSV or Parquet, read by polars."""

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from data.file import File, matrix, numbers_of, text_of
from data.tabular import RawTable, TabularData
from data.values import MISSING

MOST_NUMBERS = 100  # so many values of a target that is a number are classes
DATE = r"^(\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./]\d{1,2}[./]\d{2,4})([ T]\d{1,2}:.*)?$"


class Table(TabularData):
    """The table of a file: CSV, TSV or Parquet, its first line the names of its columns.

    A column of numbers stays one; any other, also true and false, is text, whose categories become features
    (data/encoder.py). Empty is missing; in a column of numbers so are NA, NaN, null, ?, - and the like.

    Args:
        path: The file.
        target: The column of classes: text, whole numbers, true and false.
        ignore: Columns to leave out.
        delimiter: Between a CSV file's fields; null takes what its first line has most of.
        split: What TabularData takes.

    Raises:
        ValueError: A file that cannot be read as such a table, with the line and column, or no table to learn from.
    """

    def __init__(
        self,
        path: str,
        target: str,
        ignore: list[str] | None = None,
        delimiter: str | None = None,
        **split: Any,
    ) -> None:
        super().__init__(**split)
        self.path, self.target, self.ignore, self.delimiter = path, target, ignore or [], delimiter

    def load(self) -> RawTable:
        file = File(self.path, self.delimiter)
        for name in (self.target, *self.ignore):
            file.need([name])
        names = [name for name in file.names if name not in (self.target, *self.ignore)]
        if not names:
            raise ValueError(
                f"{self.path} has no column left but the target {self.target!r}; ignore fewer"
            )
        frame = pl.concat(file.frames([*names, self.target]))
        classes, targets = self.classes(frame.get_column(self.target))
        columns = {name: frame.get_column(name) for name in names}
        found = {name: categories_of(column, self.path) for name, column in columns.items()}
        categories = {name: values for name, values in found.items() if values is not None}
        self.kinds = [kind(column, found[name]) for name, column in columns.items()]
        return RawTable(matrix(frame, names, categories, file), targets, names, classes, categories)

    def classes(self, column: pl.Series) -> tuple[list[str], np.ndarray]:
        """The class names, numbers in their order and text in its own, and each row's class number."""
        where = f"{self.path}: the target {self.target!r}"
        text = text_of(column)
        words = text.is_in(MISSING)
        number = (
            text.set(words, None).cast(pl.Float64, strict=False).null_count()
            == text.set(words, None).null_count()
        )
        if number:
            text = text.set(words, None)
        elif set(text.drop_nulls().str.to_lowercase()) <= {"false", "true"}:
            text = text.str.to_lowercase()
        if missing := text.null_count():
            row = text.is_null().arg_max()
            raise ValueError(
                f"{where} is missing in {missing} rows, first in row {(row or 0) + 1}; leave them out"
            )
        counts = dict(text.value_counts().iter_rows())
        if number and len(counts) > MOST_NUMBERS:
            raise ValueError(
                f"{where} is a number with {len(counts):,} values, which looks like regression; give classes"
            )
        if len(counts) < 2:
            raise ValueError(
                f"{where} is {next(iter(counts))!r} in every row; give one with two classes or more"
            )
        name, fewest = min(counts.items(), key=lambda item: item[1])
        if fewest < 3:
            few = "1 row" if fewest == 1 else f"{fewest} rows"
            raise ValueError(
                f"{where} has {few} of class {name!r}; each class needs 3: add rows or leave it out"
            )
        names = sorted(counts, key=lambda name: (float(name), name) if number else name)
        for one, other in pairwise(names):
            if number and float(one) == float(other):
                raise ValueError(
                    f"{where} has {one!r} and {other!r}, which are one number; write them alike"
                )
        return names, text.replace_strict(
            names, range(len(names)), return_dtype=pl.Int64
        ).to_numpy()

    def about(self) -> str:
        width = max(map(len, self.column_names))
        lines = [
            f"{name:{width}}  {what}"
            for name, what in zip(self.column_names, self.kinds, strict=True)
        ]
        if len(lines) > 40:
            lines = [*lines[:39], f"and {len(lines) - 39} more columns"]
        return "\n".join(
            [
                *lines,
                f"{len(self.column_names)} columns, {self.num_classes} classes of {self.target}",
            ]
        )


def categories_of(column: pl.Series, path: str) -> list[str] | None:
    """The categories of a column of text; null for one of numbers."""
    dtype = column.dtype
    if dtype.is_temporal():
        raise ValueError(
            f"{path}: column {column.name!r} holds dates; make numbers of them, or leave it out (ignore)"
        )
    if dtype.is_numeric() or dtype == pl.Null:
        return None
    if dtype not in (pl.String, pl.Boolean, pl.Categorical, pl.Enum):
        raise ValueError(
            f"{path}: column {column.name!r} holds {dtype}; give numbers or text, or leave it out (ignore)"
        )
    if dtype != pl.Boolean and not numbers_of(column)[1].any():
        return None
    text = text_of(column)
    if text.set(text.is_in(MISSING), None).drop_nulls().str.contains(DATE).all():
        raise ValueError(
            f"{path}: column {column.name!r} holds dates; make numbers of them, or leave it out (ignore)"
        )
    found = text.drop_nulls().unique().sort().to_list()
    return ["false", "true"] if {value.lower() for value in found} <= {"false", "true"} else found


def kind(column: pl.Series, categories: list[str] | None) -> str:
    """What a column is, in words."""
    if categories is None:
        values = numbers_of(column)[0].to_numpy()
        missing, known = int(np.isnan(values).sum()), values[~np.isnan(values)]
        text = f"number from {known.min():g} to {known.max():g}" if len(known) else "nothing"
    else:
        missing = text_of(column).null_count()
        shown = ", ".join(categories[:4]) + (", ..." if len(categories) > 4 else "")
        text = f"text, {len(categories)} categories: {shown}"
    return text + (f"; {missing} missing" if missing else "")
