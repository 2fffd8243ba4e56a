"""Columns that say how rows are cut: groups, times, and splits of the user's own."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from data.columns import Columns, refuse
from data.dates import is_typed_date
from data.description import Kind
from data.file import File
from data.kinds import Kinds
from data.values import Reading, canonical, numbers_of, text_of

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


class Roles(NamedTuple):
    """The columns of a table that say how its rows are cut, and a file of its test rows.

    `time_form` is the form of the column of times, where those are dates.
    """

    groups: str | None = None
    time: str | None = None
    split: str | None = None
    test_path: str | None = None
    time_form: str | None = None

    @property
    def columns(self) -> list[str]:
        """The columns, of which no feature is made."""
        return [name for name in (self.groups, self.time, self.split) if name is not None]

    def check(self, target: str, ignore: Sequence[str]) -> None:
        """Refuse roles that exclude each other, and a column with two of them.

        Raises:
            ValueError: There are such.
        """
        if self.groups is not None and self.time is not None:
            raise ValueError(
                f"groups is {self.groups!r} and time {self.time!r}; give one of them: rows are cut "
                "by groups or by time"
            )
        if self.split is not None and self.test_path is not None:
            raise ValueError(
                f"split is {self.split!r} and test_path {self.test_path!r}; give one of them"
            )
        taken = [target, *ignore]
        for name in self.columns:
            if name in taken:
                raise ValueError(
                    f"column {name!r} is given twice, as groups, time or split and as one of these "
                    "or the target or one to ignore; give it once"
                )
            taken.append(name)

    def with_form(self, frame: pl.DataFrame, kinds: Kinds) -> "Roles":
        """The roles with the form of the times in a table.

        Raises:
            ValueError: Day and month cannot be told apart.
        """
        if self.time is None:
            return self
        column = frame.get_column(self.time)
        form = kinds.dates.get(self.time)
        if is_typed_date(column):
            form = ""
        elif form is None and numbers_of(column, kinds.reading)[1].any():
            form = kinds.form_of(column, kinds.reading.known(text_of(column)))
        return self._replace(time_form=form)

    def order(
        self, frame: pl.DataFrame, file: File, reading: Reading
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The groups and the times of a file's rows, each (rows,), or None.

        Raises:
            ValueError: A value is missing, or a time is neither a number nor a date.
        """
        groups = None
        times = None
        if self.groups is not None:
            groups = known_text(frame.get_column(self.groups), file, reading).to_numpy()
        if self.time is not None:
            times = self.times_of(frame, file, reading)
            refuse_missing(frame.get_column(self.time), pl.Series(np.isnan(times)), file)
        return groups, times

    def times_of(self, frame: pl.DataFrame, file: File, reading: Reading) -> np.ndarray:
        """The times (rows,): whole numbers, which stay exact, other numbers, or dates in days."""
        assert self.time is not None
        if self.time_form is not None:
            columns = Columns([self.time], dates={self.time: self.time_form}, reading=reading)
            return columns.matrix(frame, file)[:, 0]
        column = frame.get_column(self.time)
        if not column.dtype.is_float():
            whole = reading.plain(reading.known(text_of(column))).cast(pl.Int64, strict=False)
            if not whole.null_count():
                return whole.to_numpy()
        return Columns([self.time], reading=reading).matrix(frame, file)[:, 0]

    def splits(
        self, frame: pl.DataFrame, file: File, is_kept: np.ndarray, reading: Reading
    ) -> dict[str, np.ndarray]:
        """The indices among the kept rows that the column gives to each split.

        Raises:
            ValueError: A value is not train, val or test, or one of train and test has no row.
        """
        assert self.split is not None
        column = frame.get_column(self.split)
        text = known_text(column, file, reading).str.to_lowercase()
        names = text.replace_strict(SPLITS, default=None, return_dtype=pl.String)
        refuse(column, names.is_null(), "give train, val or test", file, first=0)
        values = names.to_numpy()[is_kept]
        for name in ("train", "test"):
            if name not in values:
                raise ValueError(
                    f"{file.name}: no row of column {self.split!r} is {name}; give rows to train "
                    "on and rows to test on"
                )
        return {name: np.flatnonzero(values == name) for name in sorted(set(values))}

    def told(self) -> dict[str, Kind]:
        """What each of the columns is for, for the user to read."""
        flags = {"--data.groups": self.groups, "--data.time": self.time, "--data.split": self.split}
        return {name: Kind("left out", flag) for flag, name in flags.items() if name is not None}


def known_text(column: pl.Series, file: File, reading: Reading, first: int = 0) -> pl.Series:
    """The values of a column as text, numbers of equal value spelled alike; none may be missing.

    Args:
        column: The values.
        file: The file that they come from, for messages.
        reading: How values are written.
        first: The index in the file of the column's first row.

    Raises:
        ValueError: One is, with its line.
    """
    text = reading.known(text_of(column))
    refuse_missing(column, text.is_null(), file, first)
    return canonical(text)


def refuse_missing(column: pl.Series, is_missing: pl.Series, file: File, first: int = 0) -> None:
    """Refuse a column with missing values, and name the first one's line."""
    advice = f"a value is missing in {is_missing.sum()} rows, and every row needs one there"
    refuse(column, is_missing, advice, file, first)
