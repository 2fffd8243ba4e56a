"""Columns that number the rows, or name them: what a network would learn from them is chance."""

import re
from typing import Any

import polars as pl

# A column of different whole numbers is an id if the table has this many rows, and the numbers are
# of one length or lie densely: quantities repeat, or spread. In a smaller table the name tells, or
# that the numbers count the rows.
ID_ROWS = 1_000
DENSE = 20  # numbers for each row, from the lowest to the highest
COUNTED_ROWS = 50
ID_NAME = re.compile(r"(.*[_\W])?(id|key|uuid|guid|index|rownames|row|nr|no)|.*[a-z]I[Dd]", re.I)
INDEX_NAME = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


def is_id_name(name: str) -> bool:
    """Whether a column's name says that it numbers or names the rows, as pandas' own index does.

    >>> [is_id_name(name) for name in ("id", "patientID", "Unnamed: 0", "width")]
    [True, True, True, False]
    """
    return bool(ID_NAME.fullmatch(name) or INDEX_NAME.fullmatch(name))


def why_id(name: str, known: pl.Series, rows: int) -> str | None:
    """Why a column of whole numbers is no quantity but a number of its row; None if it is one.

    Args:
        name: The column's name.
        known: Its numbers, without missing ones.
        rows: Number of rows of the table.
    """
    if len(known) < rows or known.n_unique() < rows:
        return None
    counts = bool((known.diff().drop_nulls() == 1).all())
    if counts and (INDEX_NAME.fullmatch(name) or rows >= COUNTED_ROWS):
        return "it counts the rows"
    if is_id_name(name) or (rows >= ID_ROWS and are_like_ids(known)):
        return f"an id: {rows:,} numbers, all different"
    return None


def are_like_ids(numbers: pl.Series) -> bool:
    """Whether different whole numbers are of one length, or lie densely."""
    low: Any = numbers.min()
    high: Any = numbers.max()
    is_one_length = len(f"{low:.0f}") == len(f"{high:.0f}")
    return is_one_length or high - low < DENSE * len(numbers)
