"""What a caller predicts from, a DataFrame, Arrow table or array, as a polars DataFrame."""

from collections.abc import Sequence
from datetime import date
from difflib import get_close_matches
from numbers import Real
from typing import Any

import numpy as np
import polars as pl
from polars.selectors import by_name

from data.arrays import value_text

SHOWN_NAMES = 10  # column names in a message about an array's shape
SHOWN_MISSING = 5  # column names in a message about missing columns


def to_frame(table: Any, names: Sequence[str]) -> pl.DataFrame:
    """The named columns of a table, in this order.

    Args:
        table: A pandas or polars DataFrame, an Arrow table, or an array (rows, columns) whose
            columns are in this order. Names of columns that are numbers are taken as text, as a
            file has them.
        names: The columns.

    Raises:
        ValueError: A column is missing or there twice, or the array is of another shape.
    """
    table = with_names(table)
    if not hasattr(table, "columns"):
        return array_to_frame(np.asarray(table), names)
    known = [str(name) for name in table.columns]
    missing = [name for name in names if name not in known]
    if missing:
        nearest = get_close_matches(missing[0], known, n=1, cutoff=0.0)
        listed = ", ".join(repr(name) for name in missing[:SHOWN_MISSING])
        advice = f"; nearest: {nearest[0]!r}" if nearest else ""
        raise ValueError(f"the table has no column {listed}{advice}")
    if isinstance(table, pl.DataFrame):
        return table.select(by_name(list(names)))
    if len(set(known)) < len(known):
        raise ValueError("the table has two columns of one name; rename one")
    return pandas_to_frame(table.set_axis(known, axis=1), names)


def with_names(table: Any) -> Any:
    """Arrow tables and lazy frames as polars DataFrames; anything else is returned unchanged."""
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    is_pandas = hasattr(table, "iloc")
    if hasattr(table, "columns") and not is_pandas and hasattr(table, "__arrow_c_stream__"):
        return pl.DataFrame(table)
    return table


def array_to_frame(array: np.ndarray, names: Sequence[str]) -> pl.DataFrame:
    """An array (rows, columns) with its columns named."""
    if array.ndim != 2 or array.shape[1] != len(names):
        listed = ", ".join(names[:SHOWN_NAMES])
        raise ValueError(
            f"the array is of shape {array.shape}; give (rows, {len(names)}): {listed}"
        )
    columns = zip(names, array.T, strict=True)
    return pl.DataFrame({name: to_series(name, values) for name, values in columns})


def pandas_to_frame(table: Any, names: Sequence[str]) -> pl.DataFrame:
    """Columns of a pandas DataFrame.

    pandas has several types of number, text and missing value; they become one of each.
    """
    columns = {}
    for name in names:
        column = table[name]
        if getattr(column.dtype, "tz", None) is not None:
            column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        if not is_typed(column.dtype):
            column = column.astype(object).where(column.notna(), None)
        columns[name] = to_series(name, column.to_numpy())
    return pl.DataFrame(columns)


def is_typed(dtype: Any) -> bool:
    """Whether a dtype is NumPy's, of numbers, booleans or dates."""
    return isinstance(dtype, np.dtype) and dtype.kind in "biufM"


def to_series(name: str, values: np.ndarray) -> pl.Series:
    """A column as a polars Series: numbers and dates stay, anything else becomes text.

    A missing value is null.
    """
    if is_typed(values.dtype):
        return pl.Series(name, values)
    objects = values.tolist()
    known = [value for value in objects if value is not None and value == value]
    if known and all(isinstance(value, date) for value in known):
        return pl.Series(name, objects, strict=False)
    if known and all(isinstance(value, Real) and not isinstance(value, bool) for value in known):
        return pl.Series(name, objects, strict=False)
    texts = [value_text(value) for value in objects]
    return pl.Series(name, texts, pl.String)
