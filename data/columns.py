"""What each column of a table means, and its values as numbers."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import polars as pl

from cli.errors import in_list
from data.dates import days, epoch_days, is_typed_date
from data.file import File
from data.values import (
    BOOLEAN_SPELLINGS,
    BOOLEANS,
    LARGEST_WHOLE,
    Reading,
    canonical,
    is_inexact,
    number_keys,
    numbers_of,
    text_of,
)

LARGEST = 1e100  # the squares of larger numbers overflow float64
SHOWN_TEXT = 40  # characters of a value in a message


@dataclass(frozen=True)
class Columns:
    """What each column of a table means; the checkpoint holds it, so that every reader agrees.

    A column is numbers, unless it is in `categories` or `dates`.

    Args:
        names: The columns, in order.
        categories: The categories of each column of text, in order.
        dates: The form of each column of dates, as data/dates.py reads it.
        reading: How numbers are written.
    """

    names: list[str]
    categories: dict[str, list[str]] = field(default_factory=dict)
    dates: dict[str, str] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The columns that a checkpoint's data state describes; formats 1 and 2 have no dates."""
        return cls(
            list(state["column_names"]),
            dict(state["categories"]),
            dict(state.get("dates", {})),
            Reading(**state.get("reading", {})),
        )

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds, as plain data."""
        return {
            "column_names": self.names,
            "categories": self.categories,
            "dates": self.dates,
            "reading": asdict(self.reading),
        }

    def kind(self, name: str) -> str:
        """What a column holds: number, text or date."""
        if name in self.categories:
            return "text"
        return "date" if name in self.dates else "number"

    def matrix(self, frame: pl.DataFrame, file: File | None = None, first: int = 0) -> np.ndarray:
        """The columns as a raw table (rows, columns), which data/encoder.py describes.

        Args:
            frame: Rows of a table with these columns.
            file: The file that the rows come from, for messages.
            first: The index in the file of the frame's first row.

        Raises:
            ValueError: A value that the column cannot have, with its line and column.
        """
        raw = np.empty((len(frame), len(self.names)))
        for i, name in enumerate(self.names):
            raw[:, i] = self.values(frame.get_column(name), file, first)
        return raw

    def values(self, column: pl.Series, file: File | None = None, first: int = 0) -> np.ndarray:
        """One of the columns (rows,), as `matrix` has it."""
        name = column.name
        if name in self.categories:
            return category_codes(column, self.categories[name], self.reading).to_numpy()
        if name in self.dates:
            return self.dates_in(column, file, first).to_numpy()  # a null is NaN in NumPy
        return self.numbers_in(column, file, first)

    def count_unseen(self, raw: np.ndarray) -> dict[str, int]:
        """How many values of each column of text are a category that it does not have."""
        counts = {}
        for i, name in enumerate(self.names):
            if name in self.categories:
                unseen = int((raw[:, i] == len(self.categories[name])).sum())
                if unseen:
                    counts[name] = unseen
        return counts

    def numbers_in(self, column: pl.Series, file: File | None, first: int) -> np.ndarray:
        """A column's numbers, NaN where missing; anything else is refused."""
        if column.dtype.is_numeric() and not self.reading.missing:  # the fast way
            values = column.cast(pl.Float64).to_numpy()
            if not (np.abs(values) >= LARGEST_WHOLE).any():
                return values
        texts = (pl.String, pl.Null, pl.Categorical, pl.Enum)
        if not (column.dtype.is_numeric() or column.dtype in texts):
            raise ValueError(
                f"column {column.name!r} holds {column.dtype}; the network learned it as numbers"
            )
        numbers, wrong = numbers_of(column, self.reading)
        wrong |= (numbers.abs() > LARGEST) & numbers.is_not_nan()
        advice = f"give a number up to {LARGEST:g}, or nothing where it is missing"
        refuse(column, wrong, advice, file, first)
        self.refuse_inexact(column, numbers, file, first)
        return numbers.to_numpy()

    def refuse_inexact(
        self, column: pl.Series, numbers: pl.Series, file: File | None, first: int
    ) -> None:
        """Refuse whole numbers that float64 does not have: different ids would become equal.

        Args:
            column: The values.
            numbers: The same as numbers, NaN where missing.
            file: The file that they come from, for messages.
            first: The index in the file of the column's first row.
        """
        is_large = numbers.is_not_nan() & (numbers.abs() >= LARGEST_WHOLE)
        if column.dtype.is_float() or not is_large.any():
            return
        name = in_list(column.name)
        advice = "as a number it loses digits. If it is an id, train with "
        advice += f'--data.ignore "[{name}]" or --data.categorical "[{name}]"; '
        advice += "if it is a quantity, write the column as floats"
        wrong = is_inexact(self.reading.plain(text_of(column)), numbers)
        refuse(column, wrong, advice, file, first)

    def dates_in(self, column: pl.Series, file: File | None, first: int) -> pl.Series:
        """A column's dates in days, null where missing; anything else is refused."""
        if is_typed_date(column):
            return epoch_days(column)
        form = self.dates[column.name]
        known = self.reading.known(text_of(column))
        values = days(known, form)
        shown = form or "2024-12-31 23:59:59"
        advice = f"give a date in the form {shown}, or nothing where it is missing"
        refuse(column, values.is_null() & known.is_not_null(), advice, file, first)
        return values


def category_codes(column: pl.Series, categories: list[str], reading: Reading) -> pl.Series:
    """The index of each value's category: null where missing, len(categories) where unseen.

    A value is looked up as it stands, then with numbers of equal value spelled alike.
    """
    text = text_of(column)
    codes = look_up(text, categories)
    rest = codes.is_null() & text.is_not_null()
    if not rest.any():
        return codes
    others = canonical(text.filter(rest))
    found = look_up(others, categories)
    if categories == BOOLEANS:
        found = look_up(others.str.to_lowercase().replace(BOOLEAN_SPELLINGS), categories)
    elif are_numbers(categories):
        found = look_up(number_keys(others), number_keys(pl.Series(categories)).to_list())
    unseen = found.is_null() & reading.known_text(others).is_not_null()
    return codes.scatter(rest.arg_true(), found.set(unseen, float(len(categories))))


def look_up(text: pl.Series, categories: list[str]) -> pl.Series:
    """The index of each text in a list, null where it is not there."""
    return text.replace_strict(
        categories, range(len(categories)), default=None, return_dtype=pl.Float64
    )


def are_numbers(categories: list[str]) -> bool:
    """Whether all categories are numbers of different value, none with leading zeros."""
    texts = pl.Series(categories, dtype=pl.String)
    keys = number_keys(texts)
    if keys.null_count() or has_leading_zeros(texts):
        return False
    return keys.n_unique() == len(texts)


def has_leading_zeros(texts: pl.Series) -> bool:
    """Whether one of these texts is digits with a leading zero, as codes have.

    >>> has_leading_zeros(pl.Series(["0", "0.5", "12"])), has_leading_zeros(pl.Series(["00501"]))
    (False, True)
    """
    return bool(texts.str.contains(r"^[+-]?0\d+$").any())


def refuse(column: pl.Series, wrong: pl.Series, advice: str, file: File | None, first: int) -> None:
    """Refuse a column with a wrong value, and name the first one's line and column."""
    if not wrong.any():
        return
    row = int(wrong.arg_max() or 0)
    location = f"row {first + row + 1}, column {column.name!r}"
    if file is not None:
        location = file.locate(first + row, column.name)
    raise ValueError(f"{location} is {shown(column[row])}; {advice}")


def shown(value: Any) -> str:
    """A value in a message, cut if it is long.

    >>> shown("a word" * 100)
    "'a worda worda worda worda worda worda wo...'"
    """
    if isinstance(value, str) and len(value) > SHOWN_TEXT:
        value = value[:SHOWN_TEXT] + "..."
    return repr(value)
