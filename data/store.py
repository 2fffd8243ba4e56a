"""A table's columns, a few at a time: those of a large file are never all in memory."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from polars.selectors import by_name

from data.columns import Columns
from data.file import File
from data.memory import readable
from data.parquet import UNREADABLE, count_rows
from data.temporary import temporary_folder

LARGE_BYTES = 2**24  # of a file; a smaller one is read at once
BLOCK_VALUES = 2**19  # of a large table that are in memory at a time: 4 MiB as float64


class Store:
    """The columns of a file, or of a DataFrame.

    A small file is read at once. Of a large one `read` reads what it is asked for: Parquet keeps
    columns apart, and a CSV file is first copied, as text, into temporary Parquet files, so that
    what a column means is decided by all of its values.

    Args:
        names: The columns.
        file: The file that they are read from.
        frame: The columns, if they are in memory already.

    Raises:
        ValueError: The file cannot be read, or the disk has no space for the copy.
    """

    def __init__(
        self, names: Sequence[str], file: File | None = None, frame: pl.DataFrame | None = None
    ) -> None:
        self.names = list(names)
        self.file = file
        self.frame = frame
        self.paths: list[Path] = []
        if file is not None and Path(file.path).stat().st_size < LARGE_BYTES:
            self.frame = pl.concat(file.frames(self.names))
        elif file is not None:
            self.paths = [Path(file.path)] if file.parquet else self.copied(file)
        self.rows = sum(count_rows(str(path)) for path in self.paths)
        if self.frame is not None:
            self.rows = len(self.frame)

    def copied(self, file: File) -> list[Path]:
        """Copy the columns of a CSV file into a folder that is removed with this object."""
        folder = Path(tempfile.mkdtemp(prefix="columns-", dir=temporary_folder()))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        needed = Path(file.path).stat().st_size
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise ValueError(
                f"{file.name} is copied column by column into {temporary_folder()}, where "
                f"{readable(free)} are free and up to {readable(needed)} are needed; make space, "
                "set TMPDIR to another folder, or save the table as Parquet"
            )
        paths = []
        for index, frame in enumerate(file.frames(self.names)):
            path = folder / f"{index}.parquet"
            frame.write_parquet(path, compression="lz4", statistics=False)
            paths.append(path)
        return paths

    def read(self, names: Sequence[str]) -> pl.DataFrame:
        """Some of the columns, in this order.

        Raises:
            ValueError: A Parquet file is damaged.
        """
        if self.frame is not None:
            return self.frame.select(by_name(list(names)))
        try:
            return pl.scan_parquet(self.paths, glob=False).select(by_name(list(names))).collect()
        except UNREADABLE as error:
            assert self.file is not None
            self.file.fail(error, names)

    def columns(self, names: Sequence[str]) -> Iterator[pl.Series]:
        """Yield columns one after the other."""
        for block in blocks_of(len(names), self.rows):
            yield from self.read(names[block])


class Part(NamedTuple):
    """Rows of a raw table that come from one store; `kept` masks those of the store, None: all."""

    store: Store
    kept: np.ndarray | None = None


class LazyFeatures:
    """A raw table (rows, columns) whose columns are read when they are asked for, as float64.

    It is indexed like an array: `features[rows]`, `features[:, column]`. `block` is the way to go
    through all of them.

    >>> frame = pl.DataFrame({"size": [1, 2], "colour": ["red", "blue"]})
    >>> columns = Columns(frame.columns, {"colour": ["blue", "red"]})
    >>> features = LazyFeatures(columns, [Part(Store(frame.columns, frame=frame))])
    >>> features.shape, features[:, 1]
    ((2, 2), array([1., 0.]))

    Args:
        columns: What the columns mean.
        parts: Where the rows come from.
    """

    def __init__(self, columns: Columns, parts: Sequence[Part]) -> None:
        self.columns = columns
        self.parts = list(parts)
        rows = sum(store.rows if kept is None else int(kept.sum()) for store, kept in self.parts)
        self.shape = (rows, len(columns.names))

    def __len__(self) -> int:
        return self.shape[0]

    def block(self, columns: slice) -> np.ndarray:
        """All rows of some columns (rows, some columns).

        Raises:
            ValueError: A value that a column cannot have, with its line.
        """
        some = replace(self.columns, names=self.columns.names[columns])
        blocks = []
        for store, kept in self.parts:
            raw = some.matrix(store.read(some.names), store.file)
            blocks.append(raw if kept is None else raw[kept])
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, column = key if isinstance(key, tuple) else (key, None)
        if column is not None:
            values: np.ndarray = self.block(slice(column, column + 1))[rows, 0]
            return values
        blocks = blocks_of(self.shape[1], len(self))
        return np.concatenate([self.block(block)[rows] for block in blocks], axis=1)


def blocks_of(columns: int, rows: int) -> Iterator[slice]:
    """Yield blocks of columns that have few enough values to be in memory at a time.

    >>> list(blocks_of(columns=5, rows=BLOCK_VALUES // 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = max(1, BLOCK_VALUES // max(1, rows))
    for start in range(0, columns, size):
        yield slice(start, min(start + size, columns))
