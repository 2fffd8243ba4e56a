"""A CSV file line by line, with Python's own reader, which tells the line that is wrong."""

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

BLOCK_BYTES = 2**20
MAX_FIELD_BYTES = 2**24
MAX_HEADER_LINES = 1000
DELIMITERS = ",;\t|"
QUOTED = re.compile(r'"[^"]*("|$)')
SEPARATOR_LINE = re.compile(r'"?sep=([^"\r\n])"?\s*', re.IGNORECASE)  # Excel's first line


class CsvLines(NamedTuple):
    """The rows of a CSV file as Python's strict reader sees them, header included.

    Args:
        path: The file.
        delimiter: The character between fields.
        name: What messages call the file.
        skipped: Lines above the header.
        flag: The flag that gives the encoding, for messages.
    """

    path: str
    delimiter: str
    name: str
    skipped: int = 0
    flag: str = "--data.encoding"

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line on which each row begins (counted from 1) and the fields of the row.

        Raises:
            ValueError: A line that is not UTF-8 or not valid CSV, with its number.
        """
        csv.field_size_limit(MAX_FIELD_BYTES)
        row_lines: list[str] = []
        with Path(self.path).open("rb") as file:
            lines = self.decode(file, row_lines)
            for _ in range(self.skipped):
                next(lines)
            row_lines.clear()
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            first_line = self.skipped + 1
            try:
                for fields in reader:
                    self.check_quotes(first_line, fields, row_lines)
                    yield first_line, fields
                    first_line = self.skipped + reader.line_num + 1
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
                advice = encoding_advice(content[error.start :], self.flag)
                raise ValueError(f"{self.name}: line {line} is not UTF-8; {advice}") from error
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

    def first_row(self) -> str:
        """The text of the first row, with the line breaks in its quotes."""
        text = ""
        with Path(self.path).open("rb") as file:
            for line in islice(self.decode(file, []), MAX_HEADER_LINES):
                text += line
                if text.count('"') % 2 == 0:
                    break
        return text

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
                    f"and line {self.skipped + 1} names {num_columns} columns"
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
    r"""The delimiter that a line has most of outside of quotes, a comma if it has none.

    >>> likely_delimiter("size;colour;width, height\n")
    ';'
    >>> likely_delimiter('"size, width, height";colour')
    ';'
    """
    return max(DELIMITERS, key=QUOTED.sub("", line).count)


def separator_of(line: str) -> str | None:
    r"""The delimiter that a first line for Excel gives; None if the line is none.

    >>> separator_of("sep=;\r\n"), separator_of("separation;colour\r\n")
    (';', None)
    """
    match = SEPARATOR_LINE.fullmatch(line)
    return match[1] if match else None


def encoding_advice(text: bytes, flag: str) -> str:
    """What to do about a text that is not UTF-8, with the encoding that its first line may have.

    >>> encoding_advice("größe".encode("latin-1"), "--encoding")
    'give its encoding, likely --encoding cp1252'
    """
    line = text.split(b"\n", 1)[0]
    if re.search(rb"[\x80-\xff]{4}", line):  # accented letters rarely follow one another
        return (
            f"give its encoding with {flag}: cp1251 for Cyrillic, gb18030 for Chinese, "
            "shift_jis for Japanese, ..."
        )
    likely = "cp1252"
    if re.search(rb"[\x81\x8d\x8f\x90\x9d]", line):  # undefined in cp1252
        likely = "cp850"
    return f"give its encoding, likely {flag} {likely}"
