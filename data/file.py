"""A table's file, CSV, TSV or Parquet, read by polars; and its columns as one matrix of numbers."""

import csv
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.exceptions import PolarsError
from polars.selectors import by_name  # a name, where a string could be a pattern

from cli.errors import first_line
from data.values import MISSING

PACKED = (
    b"\x1f\x8b",
    b"BZh",
    b"PK\x03\x04",
    b"\xfd7zX",
    b"\x28\xb5\x2f\xfd",
)  # gzip, bzip2, zip, xz, zstd
LARGEST = 1e100  # squares of larger numbers leave float64
BATCH_ROWS = 50_000


class File:
    """A table's file: its columns' names at once, its rows as they are asked for.

    Args:
        path: CSV, TSV or Parquet.
        delimiter: Between a CSV file's fields; null finds it.
        name: What messages call the file.

    Raises:
        ValueError: It cannot be read.
        OSError: It cannot be opened.
    """

    def __init__(self, path: str, delimiter: str | None = None, name: str | None = None) -> None:
        self.path, self.name = path, name or path
        if Path(path).is_dir():
            raise ValueError(f"{self.name} is a folder; give a CSV, TSV or Parquet file")
        if not Path(path).is_file():
            raise ValueError(f"there is no file {self.name}")
        with Path(path).open("rb") as file:
            start = file.read(4)
        if not start:
            raise ValueError(f"{self.name} is empty")
        if start.startswith(PACKED):
            raise ValueError(f"{self.name} is compressed; unpack it first")
        delimiter = "\t" if delimiter == "\\t" else delimiter
        if delimiter is not None and (
            len(delimiter) != 1 or delimiter in '"\r\n' or ord(delimiter) > 127
        ):
            raise ValueError(f"the delimiter is {delimiter!r}; give one character, such as ';'")
        self.parquet = start == b"PAR1"
        if self.parquet:
            try:
                self.schema = pl.read_parquet_schema(path)
            except (PolarsError, OSError) as error:
                raise ValueError(
                    f"{self.name} is no whole Parquet file: {first_line(error)}"
                ) from error
            self.names = list(self.schema)
            return
        try:
            with Path(path).open(encoding="utf-8-sig", newline="") as text:
                line = text.readline()
                self.delimiter = delimiter or max(",;\t|", key=line.count)
                text.seek(0)
                self.names = next(csv.reader(text, delimiter=self.delimiter), [])
        except UnicodeDecodeError:
            self.explain("it is not UTF-8")
        except csv.Error as error:
            raise ValueError(f"{self.name}: line 1 cannot be read: {error}") from error
        twice = [name for i, name in enumerate(self.names) if name in self.names[:i]]
        if twice:
            raise ValueError(f"{self.name} has two columns called {twice[0]!r}; rename one")
        if not self.names:
            raise ValueError(
                f"{self.name}: line 1 is blank; it should have the names of the columns"
            )

    def need(self, names: Sequence[str]) -> None:
        """Refuse a file without these columns."""
        missing = [name for name in names if name not in self.names]
        if missing:
            near = get_close_matches(missing[0], self.names, n=1, cutoff=0.0)
            listed = ", ".join(map(repr, missing[:5])) + (
                f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            )
            word = "column" if len(missing) == 1 else "columns"
            raise ValueError(f"{self.name} has no {word} {listed}; nearest: {near[0]!r}")

    def frames(self, names: Sequence[str]) -> Iterator[pl.DataFrame]:
        """These columns of all rows, in batches: a CSV file's as text, as it stands there."""
        rows = 0
        most = (
            self.explain() if self.is_quoted() else None
        )  # known once the lines had to be counted
        try:
            for frame in self.scan(names).collect_batches(chunk_size=BATCH_ROWS):
                if (
                    not self.parquet
                    and most is None
                    and frame.get_column(self.names[-1]).null_count()
                ):
                    most = self.explain()  # a line with too few fields ends in nulls
                if most is not None:
                    frame = frame[: max(0, most - rows)]
                rows += len(frame)
                yield frame.select(by_name(list(names)))
        except PolarsError as error:
            self.explain(first_line(error))
        if not rows:
            raise ValueError(f"{self.name} has names of columns and no row")
        if most is not None and rows < most:
            raise ValueError(
                f"{self.name} cannot be read: {rows} rows were found of {most}; check its quotes"
            )

    def is_quoted(self) -> bool:
        """Whether polars, lenient with stray quotes and a last line that has no end, may find other rows than stand."""
        if self.parquet:
            return False
        last = b"\n"
        with Path(self.path).open("rb") as file:
            while piece := file.read(2**20):
                if b'"' in piece:
                    return True
                last = piece[-1:]
        return last != b"\n"

    def scan(self, names: Sequence[str]) -> pl.LazyFrame:
        if self.parquet:
            return pl.scan_parquet(self.path, glob=False).select(by_name(names))
        schema: dict[str, Any] = dict.fromkeys(self.names, pl.String)
        # The names are read already: polars takes a header of two lines, or with quotes in a name, for other names.
        header: dict[str, Any] = {"has_header": False, "skip_rows": 1, "raise_if_empty": False}
        options: dict[str, Any] = header | {
            "separator": self.delimiter,
            "schema": schema,
            "glob": False,
        }
        return pl.scan_csv(self.path, **options).select(
            by_name(list(dict.fromkeys([*names, self.names[-1]])))
        )

    def lines(self) -> Iterator[tuple[int, list[str]]]:
        """The fields of each row of a CSV file, with the number of the line that it begins in."""
        csv.field_size_limit(2**24)
        with Path(self.path).open("rb") as file:
            number = 0
            text: list[str] = []  # of the row

            def decoded() -> Iterator[str]:
                nonlocal number
                for number, line in enumerate(file, 1):
                    try:
                        text.append(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                    except UnicodeDecodeError as error:
                        raise ValueError(
                            f"{self.name}: line {number} is not UTF-8; save the file as UTF-8"
                        ) from error
                    yield text[-1]

            begin = 1
            try:
                for fields in csv.reader(decoded(), delimiter=self.delimiter, strict=True):
                    if any('"' in field for field in fields) and not any(
                        '""' in line for line in text
                    ):
                        raise ValueError(
                            f"{self.name}: line {begin} has a quote in a field; quote the field and double the quote"
                        )
                    yield begin, fields
                    begin = number + 1
                    text.clear()
            except csv.Error as error:
                raise ValueError(f"{self.name}: line {begin} cannot be read: {error}") from error

    def explain(self, otherwise: str | None = None) -> int:
        """Find the line that is wrong, and say it; else count the rows, without blank lines at the end."""
        self.delimiter = getattr(self, "delimiter", ",")
        rows = blank = 0
        if not self.parquet:
            for line, fields in self.lines():
                if len(fields) == len(self.__dict__.get("names", fields)) or (
                    not fields and len(self.names) == 1
                ):
                    if blank:
                        raise ValueError(f"{self.name}: line {blank} is blank; leave it out")
                    rows += 1
                elif not fields:
                    blank = blank or line
                else:
                    raise ValueError(
                        f"{self.name}: line {line} has {len(fields)} fields, and line 1 names {len(self.names)} columns"
                    )
        if otherwise:
            raise ValueError(f"{self.name} cannot be read: {otherwise}")
        return rows - 1

    def place(self, row: int, column: str) -> str:
        """Where a row (counted from 0) is, for a message."""
        if self.parquet:
            return f"{self.name}: row {row + 1}, column {column!r}"
        line = next(line for i, (line, _) in enumerate(self.lines(), -1) if i == row)
        return f"{self.name}: line {line}, column {column!r}"


def text_of(column: pl.Series) -> pl.Series:
    """A column's values as text without spaces around it, a whole number without a point; null where there is none."""
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        raise ValueError(
            f"column {column.name!r} holds {column.dtype}; give text, numbers or true and false"
        )
    column = column.alias("")  # polars takes a name such as ^a$ for a pattern
    if column.dtype.is_float():
        column = column.fill_nan(None)
        whole = column.cast(pl.Int64, strict=False)
        column = whole if (whole == column).all() else column
    text = column.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)


def numbers_of(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A column's values as numbers, and where there is something that is none."""
    column = column.alias("")
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).fill_null(float("nan")), pl.repeat(
            False, len(column), eager=True
        )
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    numbers = column.cast(
        pl.Float64, strict=False
    )  # the fast way: nothing but numbers and missing ones
    if numbers.null_count() > column.null_count() or column.dtype == pl.Boolean:
        text = text_of(column)
        text = text.set(text.is_in(MISSING), None)
        numbers = text.cast(pl.Float64, strict=False)
        return numbers.fill_null(float("nan")), numbers.is_null() & text.is_not_null()
    return numbers.fill_null(float("nan")), pl.repeat(False, len(column), eager=True)


def matrix(
    frame: pl.DataFrame,
    names: Sequence[str],
    categories: dict[str, list[str]],
    file: File | None = None,
    first: int = 0,
) -> np.ndarray:
    """The columns as one raw table (rows, columns): numbers, categories' numbers, NaN where missing.

    Args:
        frame: Rows, the first of which is row `first` of the file.
        names: The columns, in their order.
        categories: The text columns' categories.
        file: Where the rows are from, for messages.
        first: The number of the first row.

    Raises:
        ValueError: Text in a column of numbers, or an infinite number, with its line and column.
    """
    raw = np.empty((len(frame), len(names)))
    for i, name in enumerate(names):
        column = frame.get_column(name)
        if name in categories:
            known = categories[name]
            text = text_of(column)
            if known == ["false", "true"]:
                text = text.str.to_lowercase().replace({"0": "false", "1": "true"})
            codes = text.replace_strict(
                known, range(len(known)), default=len(known), return_dtype=pl.Float64
            )
            raw[:, i] = codes.set(text.is_null(), None).fill_null(float("nan")).to_numpy()
            continue
        if not (
            column.dtype.is_numeric()
            or column.dtype in (pl.String, pl.Null, pl.Categorical, pl.Enum)
        ):
            raise ValueError(
                f"column {name!r} holds {column.dtype}; the network learned it as numbers"
            )
        numbers, wrong = numbers_of(column)
        wrong |= (numbers.abs() > LARGEST) & numbers.is_not_nan()
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            place = (
                file.place(first + row, name) if file else f"row {first + row + 1}, column {name!r}"
            )
            raise ValueError(
                f"{place} is {column[row]!r}; give a number up to {LARGEST:g}, or nothing where it is missing"
            )
        raw[:, i] = numbers.to_numpy()
    return raw
