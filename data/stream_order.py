"""The order of a stream's rows: which chunk when, and which process takes which rows.

An epoch's order is a function of its seed and number alone, so that any step of it can be reached
without the steps before: a resumed run reads what it still needs.

Chunks are shuffled in layers. The folder is cut into as many even stretches as the buffer holds
chunks; the buffer is filled with one random chunk of each stretch, its rows are shuffled, and so
on until every chunk was there once. A folder that is sorted, by class or by day, is therefore mixed
as well as one that is not: every bufferful has rows of all of it.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from data.sampling import slice_of


class Piece(NamedTuple):
    """Rows `first` up to `last` of a chunk's rows of a split."""

    chunk: int
    first: int
    last: int

    @property
    def rows(self) -> int:
        return self.last - self.first


def chunk_order(chunks: int, layers: int, seed: int, epoch: int) -> np.ndarray:
    """An order of the chunks: every `layers` of them come from evenly spaced stretches.

    >>> order = chunk_order(chunks=8, layers=4, seed=0, epoch=0)
    >>> (order.reshape(2, 4) // 2).tolist()  # two rounds through the four stretches
    [[0, 1, 2, 3], [0, 1, 2, 3]]
    """
    generator = np.random.default_rng((seed, epoch))
    stretches = np.array_split(np.arange(chunks), min(layers, chunks))
    rounds = np.concatenate([generator.permutation(len(stretch)) for stretch in stretches])
    return np.argsort(rounds, kind="stable")


def pieces_of(order: np.ndarray, counts: np.ndarray, first: int, last: int) -> list[Piece]:
    """Rows `first` up to `last` of all rows, in the order of their chunks.

    >>> pieces_of(np.array([2, 0, 1]), np.array([5, 5, 5]), first=3, last=9)
    [Piece(chunk=2, first=3, last=5), Piece(chunk=0, first=0, last=4)]

    Args:
        order: The chunks in order.
        counts: How many rows each chunk has (chunks,).
        first: The first row.
        last: The row behind the last one.
    """
    ends = np.cumsum(counts[order])
    starts = ends - counts[order]
    taken = np.flatnonzero(np.maximum(starts, first) < np.minimum(ends, last))
    return [
        Piece(int(order[i]), int(max(first - starts[i], 0)), int(min(last, ends[i]) - starts[i]))
        for i in taken
    ]


def step_rows(rows: int, batch_size: int, rank: int, processes: int) -> np.ndarray:
    """How many rows a process takes in each step of an epoch (steps,).

    A step takes `batch_size` rows of all processes together, the last one those that remain.

    >>> [step_rows(10, batch_size=4, rank=rank, processes=2).tolist() for rank in range(2)]
    [[2, 2, 1], [2, 2, 1]]
    """
    sizes = np.full(-(-rows // batch_size), batch_size)
    sizes[-1] = rows - batch_size * (len(sizes) - 1)
    return share_rows(sizes, rank, processes)


def share_rows(sizes: np.ndarray, rank: int, processes: int) -> np.ndarray:
    """A process's rows of batches of these sizes (steps,)."""
    shares: dict[int, int] = {}
    for size in np.unique(sizes).tolist():
        share = slice_of(size, rank, processes)
        shares[size] = share.stop - share.start
    return np.array([shares[size] for size in sizes.tolist()], np.int64)


def windows_of(pieces: list[Piece], layers: int) -> list[list[Piece]]:
    """The pieces in bufferfuls of about equally many, at most `layers`."""
    count = -(-len(pieces) // layers)
    bounds = np.linspace(0, len(pieces), count + 1).round().astype(int)
    return [pieces[start:stop] for start, stop in pairwise(bounds)]


def total(pieces: Iterable[Piece]) -> int:
    """The rows of some pieces."""
    return sum(piece.rows for piece in pieces)
