"""Parquet files: some rows of one, and why one cannot be read."""

from collections.abc import Iterator, Sequence

import polars as pl
from polars.exceptions import PanicException, PolarsError
from polars.selectors import by_name

from cli.errors import first_line

UNREADABLE = (PolarsError, OSError, PanicException)  # what polars raises for a damaged file
LOOKED_AT = 100_000  # rows that are tried together where row groups are not known


def schema_of(path: str) -> dict[str, pl.DataType]:
    """The names and types of a file's columns."""
    return dict(pl.scan_parquet(path, glob=False).collect_schema())


def count_rows(path: str) -> int:
    """The number of rows that a file's footer says."""
    count: int = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    return count


def read_slice(path: str, names: Sequence[str], start: int, rows: int) -> pl.DataFrame:
    """These columns of some rows of a file."""
    table = pl.scan_parquet(path, glob=False).select(by_name(list(names)))
    return table.slice(start, rows).collect()


def unreadable_type(path: str, names: Sequence[str]) -> str | None:
    """The first column whose type polars does not have, for a message; None if there is none.

    Args:
        path: The file.
        names: The columns that are read.
    """
    for name, dtype in schema_of(path).items():
        try:
            if name in names:
                pl.Series(dtype=dtype)
        except PolarsError as error:
            return f"column {name!r} is {dtype}, which cannot be read: {first_line(error)}"
    return None


def damage(path: str, names: Sequence[str], first: int = 0, last: int | None = None) -> str:
    """Where a file cannot be read, for a message: its first such rows, and their row group.

    Args:
        path: The file.
        names: The columns that are read.
        first: The first row to look at.
        last: The row behind the last one; None for all.
    """
    for start, stop, group in row_groups(path):
        low = max(start, first)
        high = stop if last is None else min(stop, last)
        if low >= high:
            continue
        try:
            read_slice(path, names, low, high - low)
        except UNREADABLE:
            return f"rows {low + 1:,} to {high:,}{group}"
    return "its pages"


def row_groups(path: str) -> Iterator[tuple[int, int, str]]:
    """The first row of each row group, the row behind its last one, and which it is.

    polars does not say where row groups begin. pyarrow does, if it is installed; without it these
    are equal numbers of rows.
    """
    try:
        from pyarrow.parquet import read_metadata
    except ImportError:
        rows = count_rows(path)
        for start in range(0, rows, LOOKED_AT):
            yield start, min(start + LOOKED_AT, rows), ""
        return
    metadata = read_metadata(path)
    start = 0
    for group in range(metadata.num_row_groups):
        stop = start + metadata.row_group(group).num_rows
        yield start, stop, f" (row group {group + 1} of {metadata.num_row_groups})"
        start = stop
