"""Which split each row of a stream is in: drawn by its place in the folder, or said by a column."""

import numpy as np
import polars as pl

from data.columns import refuse
from data.roles import SPLITS, known_text
from data.streaming.folder import Chunk, Folder
from data.values import Reading

NAMES = ("train", "val", "test")  # a split's code is its index here


class StreamSplits:
    """Says of each row which split it is in, and keeps nothing of it.

    A row's draw depends on the seed, its file's index and its own index in it alone, so that every
    pass and every process agree.

    Args:
        folder: The files.
        test_fraction: Share of the rows to test on.
        val_fraction: Share of the rows to validate on.
        seed: Seed of the draw.
        column: A column that says train, val or test of each row, in place of the draw.
        reading: How values are written.
    """

    def __init__(
        self,
        folder: Folder,
        test_fraction: float,
        val_fraction: float,
        seed: int,
        column: str | None,
        reading: Reading,
    ) -> None:
        self.folder = folder
        self.bounds = np.array([test_fraction, test_fraction + val_fraction])
        self.seed = seed
        self.column = column
        self.reading = reading

    @property
    def names(self) -> list[str]:
        """The column that is read, if there is one."""
        return [] if self.column is None else [self.column]

    def codes(self, chunk: Chunk, frame: pl.DataFrame) -> np.ndarray:
        """The index in NAMES of the split of each row of a chunk (rows,)."""
        if self.column is None:
            return 2 - np.searchsorted(self.bounds, draws(self.seed, chunk), side="right")
        file = self.folder.files[chunk.file]
        column = frame.get_column(self.column)
        text = known_text(column, file, self.reading, chunk.start).str.to_lowercase()
        names = text.replace_strict(SPLITS, default=None, return_dtype=pl.String)
        refuse(column, names.is_null(), "give train, val or test", file, chunk.start)
        return names.replace_strict(NAMES, range(len(NAMES))).to_numpy()


def draws(seed: int, chunk: Chunk, purpose: int = 0) -> np.ndarray:
    """A number from 0 to 1 for each row of a chunk (rows,), the same however a file is cut.

    >>> whole, rest = draws(7, Chunk(0, 0, rows=5)), draws(7, Chunk(0, 3, rows=2))
    >>> bool((whole[3:] == rest).all())
    True

    Args:
        seed: Seed of the draw.
        chunk: The rows.
        purpose: Draws for another purpose are independent.
    """
    bits = np.random.PCG64((seed, chunk.file, purpose))
    bits.advance(chunk.start)  # a number takes one step
    return np.random.Generator(bits).random(chunk.rows)
