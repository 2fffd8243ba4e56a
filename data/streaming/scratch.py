"""Rows in a temporary file, any of which are read at once: Parquet decodes many to give a few."""

import shutil
import tempfile
import weakref
from threading import Lock
from typing import Any

import numpy as np

from data.memory import readable
from data.temporary import temporary_folder


def row_bytes(columns: int, dtype: type[np.floating[Any]]) -> int:
    """Bytes of a row and its class index in a file."""
    return (columns + 1) * np.dtype(dtype).itemsize


class ScratchFile:
    """Rows of numbers, each with its class index as one more number, in a temporary file.

    The file has no name: nothing is left of it, however the process ends.

    >>> file = ScratchFile(columns=2, dtype=np.float32)
    >>> file.append(np.array([[1, 2], [3, 4], [5, 6]]), np.array([0, 1, 1]))
    >>> table = np.empty((2, 3), np.float32)
    >>> file.read_into(table, first=1)
    >>> table
    array([[3., 4., 1.],
           [5., 6., 1.]], dtype=float32)

    Args:
        columns: Number of columns.
        dtype: A type that has the values, and class indices, exactly.
    """

    def __init__(self, columns: int, dtype: type[np.floating[Any]]) -> None:
        self.dtype = np.dtype(dtype)
        self.width = columns + 1
        self.row_bytes = row_bytes(columns, dtype)
        self.rows = 0
        self.lock = Lock()
        self.file = tempfile.TemporaryFile(dir=temporary_folder())  # noqa: SIM115  # for all epochs
        weakref.finalize(self, self.file.close)

    def append(self, rows: np.ndarray, targets: np.ndarray) -> None:
        """Add rows (rows, columns) and their class indices (rows,).

        Raises:
            ValueError: The disk is full.
        """
        table = np.empty((len(rows), self.width), self.dtype)
        table[:, :-1] = rows
        table[:, -1] = targets
        try:
            self.file.write(table.data)
            self.file.flush()
        except OSError as error:
            self.file.raw.close()  # else closing the file would write the rest
            error.filename = temporary_folder()  # else it would be taken for a file of the run
            raise ValueError(
                f"the copy of the rows in {error.filename} cannot be written: {error.strerror}; "
                "make space, or set TMPDIR to another folder"
            ) from error
        self.rows += len(rows)

    def read_into(self, table: np.ndarray, first: int) -> None:
        """Fill a table (rows, columns + 1) with rows of the file, from a first one on."""
        with self.lock:  # two epochs may read at a time, one of them abandoned
            self.file.seek(first * self.row_bytes)
            done = self.file.readinto(table.data)
        assert done == table.nbytes


def check_room(size: int) -> None:
    """Refuse to fill the disk.

    Args:
        size: Bytes to be written.

    Raises:
        ValueError: They are more than are free.
    """
    free = shutil.disk_usage(temporary_folder()).free
    if size > free:
        raise ValueError(
            f"the rows are copied into {temporary_folder()}, where {readable(free)} are free and "
            f"{readable(size)} are needed; make space, or set TMPDIR to another folder"
        )
