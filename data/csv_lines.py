"""A CSV file line by line, with Python's own reader, which tells the line that is wrong."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK_BYTES = 2**20
MAX_FIELD_BYTES = 2**24
DELIMITERS = ",;\t|"


class CsvLines(NamedTuple):
    """The rows of a CSV file as Python's strict reader sees them, header included.

    Args:
        path: The file.
        delimiter: The character between fields.
        name: What messages call the file.
    """

    path: str
    delimiter: str
    name: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line on which each row begins (counted from 1) and the fields of the row.

        Raises:
            ValueError: A line that is not UTF-8 or not valid CSV, with its number.
        """
        csv.field_size_limit(MAX_FIELD_BYTES)
        row_lines: list[str] = []
        with Path(self.path).open("rb") as file:
            lines = self.decode(file, row_lines)
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            first_line = 1
            try:
                for fields in reader:
                    self.check_quotes(first_line, fields, row_lines)
                    yield first_line, fields
                    first_line = reader.line_num + 1
                    row_lines.clear()
            except csv.Error as error:
                raise ValueError(
                    f"{self.name}: line {first_line} cannot be read: {error}"
                ) from error

    def decode(self, file: Iterable[bytes], row_lines: list[str]) -> Iterator[str]:
        """Yield each line as text, and append it to `row_lines`, the lines of the current row."""
        for line, content in enumerate(file, 1):
            encoding = "utf-8-sig" if line == 1 else "utf-8"
            try:
                text = content.decode(encoding)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{self.name}: line {line} is not UTF-8; save the file as UTF-8"
                ) from error
            row_lines.append(text)
            yield text

    def check_quotes(self, line: int, fields: list[str], row_lines: list[str]) -> None:
        """Refuse a quote inside a field that is not itself quoted: readers disagree about it."""
        if not any('"' in field for field in fields):
            return
        is_doubled = any('""' in text for text in row_lines)
        if not is_doubled:
            raise ValueError(
                f"{self.name}: line {line} has a quote in a field; "
                "quote the field and double the quote"
            )

    def check_encoding(self) -> None:
        """Refuse a file that is not UTF-8, naming its first such line."""
        with Path(self.path).open("rb") as file:
            for _ in self.decode(file, []):
                pass

    def count_rows(self, num_columns: int) -> int:
        """Count the rows below the header; blank lines at the end of the file do not count.

        Raises:
            ValueError: The first line that is wrong, such as one without `num_columns` fields.
        """
        rows = 0
        blank_line = None
        for line, fields in self.rows():
            # In a table of a single column, a blank line is a row whose value is missing.
            if not fields and num_columns > 1:
                blank_line = blank_line or line
                continue
            if fields and len(fields) != num_columns:
                raise ValueError(
                    f"{self.name}: line {line} has {len(fields)} fields, "
                    f"and line 1 names {num_columns} columns"
                )
            if blank_line is not None:
                raise ValueError(f"{self.name}: line {blank_line} is blank; leave it out")
            rows += 1
        return rows - 1

    def line_of(self, row: int) -> int:
        """The line on which a row begins; rows are counted from 0, below the header."""
        for index, (line, _) in enumerate(self.rows(), -1):
            if index == row:
                return line
        raise IndexError(f"{self.name} has no row {row}")

    def may_confuse_polars(self) -> bool:
        """Whether polars might misread rows (stray quotes, no final newline)."""
        last_byte = b"\n"
        with Path(self.path).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                if b'"' in block:
                    return True
                last_byte = block[-1:]
        return last_byte != b"\n"


def likely_delimiter(line: str) -> str:
    r"""The delimiter that a line has most of, a comma if it has none.

    >>> likely_delimiter("size;colour;width, height\n")
    ';'
    """
    return max(DELIMITERS, key=line.count)
