r"""CSV files that polars cannot read as they are, copied: unpacked, in UTF-8, lines ending in \n.

What a file is, is told by its content, not by its name.
"""

import codecs
import gzip
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from encodings.aliases import aliases
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

from cli.errors import first_line, unknown
from data.csv_lines import encoding_advice
from data.temporary import temporary_folder

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
ZIP = b"PK\x03\x04"
PARQUET = b"PAR1"
# How other files begin that are no table, what they are, and what to do.
REFUSED = {
    b"BZh": "compressed with bzip2; unpack it first",
    b"\xfd7zX": "compressed with xz; unpack it first",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"ARRO": "an Arrow file; save it as Parquet",
}
MARKS = {  # the byte order marks at the beginning of a text; the longer ones first
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
BLOCK_BYTES = 2**20
HEAD_BYTES = 2**16  # enough to tell what kind of text a file is
# A table does not shrink to less than a 200th: a larger file may be made to fill disk and memory.
MAX_UNPACKED_RATIO = 200
UNPACKED_BYTES = 2**28  # allowed at any ratio


class TextFile(NamedTuple):
    """A CSV file, perhaps compressed, in any encoding.

    Args:
        path: The file.
        name: What messages call it.
        start: Its first bytes.
        encoding: As Python calls it; None is UTF-8, or what the file's byte order mark says.
        flag: The flag that gives the encoding, for messages.
    """

    path: str
    name: str
    start: bytes
    encoding: str | None
    flag: str

    def plain_copy(self) -> Path | None:
        """Copy the file as polars reads it, alone in a new temporary folder.

        Returns:
            The copy, or None if polars reads the file itself.

        Raises:
            ValueError: The file is no text, is damaged, or would be too large.
        """
        with self.unpacked() as stream:
            head = self.read(stream, HEAD_BYTES)
            mark = next((mark for mark in MARKS if head.startswith(mark)), b"")
            encoding = self.encoding_of(head, mark)
            head = head.removeprefix(mark)
            is_carriage_return = ends_lines_in_carriage_return(head.decode(encoding, "replace"))
            if encoding == "utf-8" and not is_carriage_return and not self.is_packed():
                return None
            folder = Path(tempfile.mkdtemp(prefix="table-", dir=temporary_folder()))
            copy = folder / "table.csv"
            try:
                with copy.open("wb") as target:
                    texts = self.decode(stream, head, encoding, is_carriage_return)
                    self.write(texts, target, shutil.disk_usage(folder).free)
            except BaseException:
                shutil.rmtree(folder)
                raise
        return copy

    def is_packed(self) -> bool:
        return self.start.startswith((GZIP, ZSTD))

    def unpacked(self) -> BufferedIOBase:
        """The file's bytes, unpacked as they are read."""
        if self.start.startswith(GZIP):
            return gzip.open(self.path)
        if self.start.startswith(ZSTD):
            return open_zstd(self.path, self.name)
        if self.start.startswith(ZIP):
            raise ValueError(f"{self.name} is {kind_of_zip(self.path)}")
        for magic, reason in REFUSED.items():
            if self.start.startswith(magic):
                raise ValueError(f"{self.name} is {reason}")
        return Path(self.path).open("rb")

    def read(self, stream: BufferedIOBase, size: int) -> bytes:
        """Read from a stream that may turn out to be damaged."""
        try:
            return stream.read(size)
        except Exception as error:  # each way to pack has errors of its own
            raise ValueError(
                f"{self.name} cannot be read: {first_line(error)}; copy it again"
            ) from error

    def encoding_of(self, head: bytes, mark: bytes) -> str:
        """The encoding as Python calls it, from the argument or the file's mark."""
        if self.is_packed() and (head.startswith(PARQUET) or head[257:262] == b"ustar"):
            kind = "a Parquet file" if head.startswith(PARQUET) else "a tar archive"
            raise ValueError(f"{self.name} is {kind}, compressed; unpack it first")
        if self.encoding is None:
            if not mark and b"\0" in head[:2]:
                order = "le" if head[1:2] == b"\0" else "be"
                raise ValueError(
                    f"{self.name} has zero bytes, as UTF-16 without its mark; "
                    f"give {self.flag} utf-16-{order}"
                )
            return MARKS.get(mark, "utf-8")
        given = known_encoding(self.encoding)
        if not mark:
            return given
        marked = MARKS[mark]
        if not marked.startswith(given):
            raise ValueError(
                f"{self.name} begins with the mark of {marked.upper()}, and {self.flag} is "
                f"{self.encoding!r}; leave it out"
            )
        return marked

    def decode(
        self, stream: BufferedIOBase, head: bytes, encoding: str, is_carriage_return: bool
    ) -> Iterator[str]:
        r"""Yield the text in blocks, lines that end in \r as lines that end in \n."""
        decoder = codecs.getincrementaldecoder(encoding)()
        ending = "\r" if is_carriage_return else "\n"
        lines = 0
        block = head
        while True:
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(encoding, "replace")
                line = lines + before.count(ending) + 1
                advice = f"give another {self.flag}"
                if encoding == "utf-8":
                    advice = encoding_advice(error.object[error.start :], self.flag)
                raise ValueError(
                    f"{self.name}: line {line} is not {encoding.upper()}; {advice}"
                ) from error
            lines += text.count(ending)
            yield text.replace("\r", "\n") if is_carriage_return else text
            if not block:
                return
            block = self.read(stream, BLOCK_BYTES)

    def write(self, texts: Iterator[str], target: BufferedIOBase, free: int) -> None:
        """Write texts as UTF-8, as long as they are not too large.

        Args:
            texts: The text in blocks.
            target: The copy.
            free: Bytes that are free on its disk.
        """
        largest = max(UNPACKED_BYTES, MAX_UNPACKED_RATIO * Path(self.path).stat().st_size)
        written = 0
        for text in texts:
            written += target.write(text.encode())
            if self.is_packed() and written > largest:
                raise ValueError(
                    f"{self.name} unpacks to more than {MAX_UNPACKED_RATIO} times its size, "
                    "as tables do not; unpack it yourself if it is one"
                )
            if written > free / 2:
                raise ValueError(
                    f"a plain copy of {self.name} takes more than half of the free space in "
                    f"{temporary_folder()}; unpack it yourself, or set TMPDIR to another folder"
                )


def open_zstd(path: str, name: str) -> BufferedIOBase:
    """Open a file that zstd compressed."""
    try:
        if sys.version_info >= (3, 14):
            from compression.zstd import ZstdFile
        else:
            from backports.zstd import ZstdFile
    except ImportError as error:
        raise ValueError(
            f"{name} is compressed with zstd: unpack it, or pip install backports.zstd"
        ) from error
    return ZstdFile(path)


def kind_of_zip(path: str) -> str:
    """What a zip archive is, and what to do: spreadsheets are such archives."""
    names: list[str] = []
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    if "xl/workbook.xml" in names or "xl/workbook.bin" in names:
        return "an Excel workbook; save the sheet as CSV"
    if "mimetype" in names and "content.xml" in names:
        return "a spreadsheet; save the sheet as CSV"
    return "a zip archive; unpack it first"


def known_encoding(name: str) -> str:
    """Python's name of an encoding.

    Raises:
        ValueError: Python has no such encoding of text, with the nearest that it has.

    >>> known_encoding("Latin-1"), known_encoding("UTF8")
    ('iso8859-1', 'utf-8')
    """
    try:
        "".encode(name)  # refuses codecs that are no encodings of text, such as zlib
        return codecs.lookup(name).name.removesuffix("-sig")
    except (LookupError, UnicodeError) as error:
        raise ValueError(unknown("encoding", name, set(aliases.values()))) from error


def ends_lines_in_carriage_return(head: str) -> bool:
    r"""Whether the lines of a text end in \r alone, as those of old Macs, by its beginning.

    >>> ends_lines_in_carriage_return("x,y\r1,2\r")
    True
    >>> ends_lines_in_carriage_return("x,y\r\n1,2\r\n")
    False
    """
    return "\r" in head[:-1] and "\n" not in head
