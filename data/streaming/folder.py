"""A folder of Parquet files: its schema, its rows in chunks, and what can be wrong with them."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
from tqdm import tqdm

from cli.interrupts import is_first_process
from data.ahead import ahead
from data.file import File
from data.parquet import UNREADABLE, count_rows, read_slice, schema_of

# Rows, and values, that are read together: to give a few rows of a row group, most of its values
# are decoded, and of larger chunks many would be in memory.
CHUNK_ROWS = 65_536
CHUNK_VALUES = 2**21
BAR_SECONDS = 1.0  # of reading, after which a bar shows


class Chunk(NamedTuple):
    """Rows of one file that follow each other: the file's index, the first row, how many."""

    file: int
    start: int
    rows: int


class Folder:
    """All Parquet files in a folder and its subfolders, in the order of their names, as one table.

    Only the files' footers are read here. polars then reads any slice of a file, of a large row
    group the pages that hold it: chunks need not be row groups.

    Args:
        path: The folder.

    Raises:
        ValueError: There is no such file in it, one is damaged or empty of rows, or they have
            different columns.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        paths, self.others = parquet_files(path)
        self.files = [File(str(file)) for file in paths]
        for file in self.files:
            if not file.parquet:
                raise ValueError(f"{file.name} is no Parquet file, whatever its name says")
        self.schema = self.common_schema()
        self.rows = [count_rows(file.path) for file in self.files]
        self.versions = [version_of(file) for file in self.files]
        self.num_rows = sum(self.rows)
        if not self.num_rows:
            raise ValueError(f"{path} has {len(self.files)} Parquet files without a row")
        most = max(1, min(CHUNK_ROWS, CHUNK_VALUES // len(self.schema)))
        self.chunks = [
            Chunk(index, start, min(most, rows - start))
            for index, rows in enumerate(self.rows)
            for start in range(0, rows, most)
        ]

    def common_schema(self) -> dict[str, pl.DataType]:
        """The names and types of the columns, which all files share.

        Raises:
            ValueError: A file has others; it is named with the column.
        """
        first = self.files[0]
        schema = schema_of(first.path)
        for file in self.files[1:]:
            other = schema_of(file.path)
            for name in schema:
                if name not in other:
                    raise ValueError(f"{file.name} has no column {name!r}, which {first.name} has")
                if other[name] != schema[name]:
                    raise ValueError(
                        f"{file.name}: column {name!r} is {other[name]}, and in {first.name} "
                        f"{schema[name]}; write all files with the same types"
                    )
            for name in other:
                if name not in schema:
                    raise ValueError(f"{file.name} has a column {name!r}, which {first.name} lacks")
        return schema

    @property
    def fingerprint(self) -> str:
        """A digest of all names, sizes and row counts: another one is another table."""
        files = [
            (str(Path(file.name).relative_to(self.path)), size, rows)
            for file, (size, _), rows in zip(self.files, self.versions, self.rows, strict=True)
        ]
        return hashlib.sha256(repr(files).encode()).hexdigest()

    def check_unchanged(self) -> None:
        """Refuse to go on with a file that was written anew, or is gone, since the run began.

        Raises:
            ValueError: There is one.
        """
        for file, version in zip(self.files, self.versions, strict=True):
            if version_of(file) != version:
                raise ValueError(f"{file.name} was changed after the run began; start a new run")

    def read(self, chunk: Chunk, names: Sequence[str]) -> pl.DataFrame:
        """These columns of a chunk's rows.

        Raises:
            ValueError: They cannot be read; with the file, the rows and the row group.
        """
        file = self.files[chunk.file]
        last = chunk.start + chunk.rows
        try:
            frame = read_slice(file.path, names, chunk.start, chunk.rows)
        except UNREADABLE as error:
            self.check_unchanged()
            file.fail(error, names, chunk.start, last)
        if len(frame) != chunk.rows:
            self.check_unchanged()
            raise ValueError(
                f"{file.name} says that it has {self.rows[chunk.file]:,} rows, and has fewer"
            )
        return frame

    def frames(self, names: Sequence[str], task: str) -> Iterator[tuple[Chunk, pl.DataFrame]]:
        """Every chunk with these columns of its rows, read ahead in a thread.

        In a terminal a bar shows how far it is, if it takes long.

        Args:
            names: The columns.
            task: What the rows are read for, which stands before the bar.

        Raises:
            ValueError: Some cannot be read.
        """
        frames = ahead((self.read(chunk, names) for chunk in self.chunks), 1)
        bar = tqdm(
            total=self.num_rows,
            desc=task,
            unit=" rows",
            unit_scale=True,
            leave=False,
            delay=BAR_SECONDS,
            disable=None if is_first_process() else True,  # None means: unless there is a terminal
        )
        with bar:
            for chunk, frame in zip(self.chunks, frames, strict=True):
                yield chunk, frame
                bar.update(chunk.rows)


class Sample(File):
    """Rows from several places of a folder: says where each of them is, for messages."""

    def __init__(self, folder: Folder, chunks: Sequence[Chunk]) -> None:
        self.name = folder.path
        self.files = folder.files
        self.chunks = chunks

    def locate(self, row: int, column: str) -> str:
        for chunk in self.chunks:
            if row < chunk.rows:
                return self.files[chunk.file].locate(chunk.start + row, column)
            row -= chunk.rows
        raise IndexError(row)


def parquet_files(path: str) -> tuple[list[Path], list[Path]]:
    """The Parquet files in a folder and its subfolders, and the other ones, by name.

    Hidden files are neither. A link to a folder, which is not followed, is another file.

    Raises:
        ValueError: There are none.
    """
    folder = Path(path)
    if folder.is_file():
        raise ValueError(f"{path} is a file; give a folder of Parquet files, or --data Table")
    if not folder.is_dir():
        raise ValueError(f"there is no folder {path}")
    inside = sorted(file for file in folder.rglob("*") if file.is_file() or file.is_symlink())
    visible = [file for file in inside if not is_hidden(file.relative_to(folder))]
    files = [file for file in visible if is_parquet(file)]
    if files:
        return files, [file for file in visible if not is_parquet(file)]
    if not visible:
        raise ValueError(f"{path} is an empty folder; give one with Parquet files")
    raise ValueError(
        f"{path} has no file that ends in .parquet, but {visible[0].name}; docs/data.md says how a "
        "CSV file is converted"
    )


def is_parquet(path: Path) -> bool:
    """Whether a file is called .parquet, in any case of letters, and is there."""
    return path.suffix.lower() == ".parquet" and path.is_file()


def is_hidden(path: Path) -> bool:
    """Whether a path inside of a folder is one that writers hide, such as _temporary or .crc.

    >>> is_hidden(Path("_temporary/0.parquet")), is_hidden(Path("year=2024/0.parquet"))
    (True, False)
    """
    return any(part.startswith((".", "_")) for part in path.parts)


def version_of(file: File) -> tuple[int, int]:
    """Bytes of a file and when it was written; -1 where it is gone."""
    try:
        status = Path(file.path).stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
