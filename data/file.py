"""A table's file (CSV, TSV or Parquet), read by polars."""

import os
import shutil
import weakref
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import polars as pl
from polars.exceptions import DuplicateError, PolarsError
from polars.selectors import by_name  # takes names literally, where a string may be a pattern

from cli.errors import first_line
from data.csv_lines import CsvLines, likely_delimiter, separator_of
from data.parquet import UNREADABLE, damage, schema_of, unreadable_type
from data.plain_text import PARQUET, TextFile

BATCH_ROWS = 50_000


class File:
    """A table's file: its column names are read at once, its rows on request.

    `names` are its columns, those of a CSV file without the unnamed ones that have no value.

    Args:
        path: CSV, TSV or Parquet; CSV and TSV may be compressed with gzip or zstd.
        delimiter: The character between a CSV file's fields; null takes the most frequent one.
        name: What messages call the file; null takes its path.
        encoding: A CSV file's encoding; null is UTF-8, or what its byte order mark says.
        flag: The flag that gives the encoding, for messages.

    Raises:
        ValueError: The file cannot be read.
        OSError: The file cannot be opened.
    """

    def __init__(
        self,
        path: str,
        delimiter: str | None = None,
        name: str | None = None,
        encoding: str | None = None,
        flag: str = "--data.encoding",
    ) -> None:
        self.path = path
        self.name = name or path
        start = self.first_bytes()
        if delimiter == "\\t":
            delimiter = "\t"
        check_delimiter(delimiter)
        self.parquet = start == PARQUET
        if self.parquet:
            self.fields = self.parquet_names()
            self.names = self.fields
            return
        copy = TextFile(path, self.name, start, encoding, flag).plain_copy()
        if copy is not None:
            self.path = str(copy)
            weakref.finalize(self, shutil.rmtree, copy.parent, ignore_errors=True)
        self.lines = self.csv_lines(delimiter, flag)
        header = self.header()
        self.fields = name_all(header)
        self.check_duplicates()
        unnamed = [self.fields[i] for i, name in enumerate(header) if not name]
        empty = self.without_value(unnamed)
        self.names = [name for name in self.fields if name not in empty]

    def first_bytes(self) -> bytes:
        """Read the first four bytes, and refuse what cannot be a table."""
        if Path(self.path).is_dir():
            raise ValueError(f"{self.name} is a folder; give a CSV, TSV or Parquet file")
        if not Path(self.path).exists():
            raise ValueError(f"there is no file {self.name}")
        if not Path(self.path).is_file():
            raise ValueError(
                f"{self.name} is a pipe or device, and a table is read several times; save it to a "
                "file first"
            )
        with Path(self.path).open("rb") as file:
            start = file.read(4)
        if not start:
            raise ValueError(f"{self.name} is empty")
        return start

    def end(self) -> bytes:
        """The last four bytes."""
        with Path(self.path).open("rb") as file:
            file.seek(-4, os.SEEK_END)
            return file.read()

    def parquet_names(self) -> list[str]:
        """The column names of a Parquet file."""
        try:
            return list(schema_of(self.path))
        except DuplicateError as error:
            raise ValueError(f"{self.name}: {first_line(error)}; rename one") from error
        except UNREADABLE as error:
            what = "is not a complete Parquet file"
            if self.end() == PARQUET:
                what = "has a list of columns that cannot be read"
            raise ValueError(f"{self.name} {what}: {first_line(error)}; write it again") from error

    def csv_lines(self, delimiter: str | None, flag: str) -> CsvLines:
        """The line reader of a CSV file, with the delimiter between its fields."""
        lines = CsvLines(self.path, delimiter or ",", self.name, flag=flag)
        first = lines.first_row()
        separator = separator_of(first)
        if separator is not None:
            lines = lines._replace(skipped=1)
        likely = separator or likely_delimiter(first)
        return lines._replace(delimiter=delimiter or likely)

    def header(self) -> list[str]:
        """The fields of a CSV file's first row."""
        line, fields = next(self.lines.rows(), (self.lines.skipped + 1, []))
        if not any(fields):
            raise ValueError(
                f"{self.name}: line {line} is blank; it should have the names of the columns"
            )
        return fields

    def check_duplicates(self) -> None:
        """Refuse two columns of one name."""
        seen = set()
        for name in self.fields:
            if name in seen:
                raise ValueError(f"{self.name} has two columns called {name!r}; rename one")
            seen.add(name)

    def without_value(self, names: Sequence[str]) -> list[str]:
        """Those of some columns of a CSV file that are empty in every row."""
        empty = list(names)
        if not empty:
            return empty
        try:
            for frame in self.scan(empty).collect_batches(chunk_size=BATCH_ROWS):
                empty = [name for name in empty if is_empty(frame.get_column(name))]
                if not empty:
                    break
        except PolarsError as error:
            self.fail(error, names)
        return empty

    def need(self, names: Sequence[str]) -> None:
        """Refuse a file that lacks any of these columns."""
        missing = [name for name in names if name not in self.fields]
        if not missing:
            return
        nearest = get_close_matches(missing[0], self.names, n=1, cutoff=0.0)
        word = "column" if len(missing) == 1 else "columns"
        listed = ", ".join(map(repr, missing[:5]))
        if len(missing) > 5:
            listed += f" and {len(missing) - 5} more"
        raise ValueError(f"{self.name} has no {word} {listed}; nearest: {nearest[0]!r}")

    def frames(self, names: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield these columns of all rows in batches; a CSV file's columns are unchanged text.

        polars reads the rows. Where it may have misread a CSV file, Python's reader checks every
        line and counts the rows, and the number that polars reads must agree with that count.

        Raises:
            ValueError: A line that cannot be read, or a file without rows.
        """
        expected = None  # number of rows; None while nothing suggests that polars misread any
        if not self.parquet and self.lines.may_confuse_polars():
            expected = self.lines.count_rows(len(self.fields))
        rows = 0
        try:
            for frame in self.scan(names).collect_batches(chunk_size=BATCH_ROWS):
                if expected is None and self.has_short_row(frame):
                    expected = self.lines.count_rows(len(self.fields))
                if expected is not None:
                    frame = frame[: max(0, expected - rows)]  # without blank lines at the end
                rows += len(frame)
                yield frame.select(by_name(list(names)))
        except UNREADABLE as error:
            self.fail(error, names)
        if not rows:
            raise ValueError(f"{self.name} has names of columns and no row")
        if expected is not None and rows < expected:
            raise ValueError(
                f"{self.name} cannot be read: {rows} of {expected} rows were found; "
                "check its quotes"
            )

    def scan(self, names: Sequence[str]) -> pl.LazyFrame:
        """A lazy reader of these columns, and of a CSV file's last one, for `has_short_row`."""
        if self.parquet:
            return pl.scan_parquet(self.path, glob=False).select(by_name(names))
        # The header is skipped: polars misreads one that spans two lines or has quotes in a name.
        table = pl.scan_csv(
            self.path,
            separator=self.lines.delimiter,
            schema=dict.fromkeys(self.fields, pl.String),
            has_header=False,
            skip_rows=self.lines.skipped + 1,
            raise_if_empty=False,
            glob=False,
        )
        return table.select(by_name(list(dict.fromkeys([*names, self.fields[-1]]))))

    def has_short_row(self, frame: pl.DataFrame) -> bool:
        """Whether a row of a CSV file may have too few fields: polars fills them with nulls."""
        return not self.parquet and frame.get_column(self.fields[-1]).null_count() > 0

    def fail(
        self,
        error: BaseException,
        names: Sequence[str],
        first: int = 0,
        last: int | None = None,
    ) -> NoReturn:
        """Raise an error that names a CSV file's wrong line, or a Parquet file's row group or type.

        Args:
            error: What polars raised.
            names: The columns that it read.
            first: The first row that it read.
            last: The row behind the last one; None for all.
        """
        if self.parquet:
            reason = unreadable_type(self.path, names)
            if reason is not None:
                advice = "write it as another type, such as float64, or leave it out (ignore)"
                raise ValueError(f"{self.name}: {reason}; {advice}") from error
            where = damage(self.path, names, first, last)
            raise ValueError(f"{self.name} is damaged in {where}: {first_line(error)}") from error
        self.lines.count_rows(len(self.fields))
        raise ValueError(f"{self.name} cannot be read: {first_line(error)}") from error

    def locate(self, row: int, column: str) -> str:
        """Where a row (counted from 0) is in the file, for a message."""
        if self.parquet:
            return f"{self.name}: row {row + 1}, column {column!r}"
        return f"{self.name}: line {self.lines.line_of(row)}, column {column!r}"


def name_all(header: Sequence[str]) -> list[str]:
    """The names of all columns: "" is that of a first or only unnamed one, others are numbered.

    >>> name_all(["", "size", "", ""])
    ['', 'size', 'column 3', 'column 4']
    """
    several = header.count("") > 1
    names = list(header)
    for i, name in enumerate(header):
        if not name and several and i > 0:
            names[i] = f"column {i + 1}"
    return names


def is_empty(column: pl.Series) -> bool:
    """Whether no value of a column of text has a character that shows."""
    return bool((column.fill_null("").str.strip_chars() == "").all())


def check_delimiter(delimiter: str | None) -> None:
    """Refuse a delimiter that is not a single ASCII character, or that CSV uses otherwise."""
    if delimiter is None:
        return
    if len(delimiter) != 1 or delimiter in '"\r\n' or ord(delimiter) > 127:
        raise ValueError(f"the delimiter is {delimiter!r}; give one character, such as ';'")
