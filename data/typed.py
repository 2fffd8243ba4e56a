"""What each column of a DataFrame means: its type says so, where a CSV file's must be guessed."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from data.columns import Columns
from data.description import Kind
from data.frames import to_frame
from data.kinds import Kinds, make_columns
from data.values import Reading


def has_types(table: Any) -> bool:
    """Whether a table is a pandas or polars DataFrame of more than numbers."""
    if not hasattr(table, "columns"):
        return False
    if isinstance(table, pl.DataFrame):
        return not all(dtype.is_numeric() for dtype in table.dtypes)
    return not all(dtype.kind in "iuf" for dtype in table.dtypes)


def whole_frame(table: Any) -> pl.DataFrame:
    """All columns of a pandas or polars DataFrame, with their names as text."""
    return to_frame(table, [str(name) for name in table.columns])


def columns_of(frame: pl.DataFrame, categorical: Sequence[str] = ()) -> Columns:
    """What each column of a DataFrame means, by its type: numbers are numbers, text is text.

    >>> columns_of(pl.DataFrame({"size": [1, 2], "colour": ["red", "blue"]})).categories
    {'colour': ['blue', 'red']}

    Args:
        frame: All rows.
        categorical: Columns of text of any number of categories.

    Raises:
        ValueError: A column of free text, an id, or one that is neither numbers, text nor dates.
    """
    kinds = Kinds(Reading(), categorical)
    learned = {}
    for column in frame:
        kind = Kind("number", "")
        if not (column.dtype.is_numeric() or column.null_count() == len(column)):
            kind = kind_in_frame(kinds, column)
        learned[column.name] = kind
    return make_columns(learned, Reading())


def kind_in_frame(kinds: Kinds, column: pl.Series) -> Kind:
    """What a column of a DataFrame is; no flag decides where it is unsure, but its type."""
    advice = "leave it out, or give it the type category, or numbers"
    try:
        kind = kinds.kind_of(column)
    except ValueError as error:
        raise ValueError(f"{str(error).partition('; ')[0]}; {advice}") from error
    if not kind.is_learned:
        raise ValueError(f"column {column.name!r} is {kind.about}; {advice}")
    return kind


def categorical_names(table: Any) -> list[str]:
    """The columns of a pandas or polars DataFrame whose type says that they are categories."""
    if isinstance(table, pl.DataFrame):
        dtypes = table.schema.items()
        return [name for name, dtype in dtypes if dtype in (pl.Categorical, pl.Enum)]
    dtypes = table.dtypes.items()
    return [str(name) for name, dtype in dtypes if str(dtype) == "category"]
