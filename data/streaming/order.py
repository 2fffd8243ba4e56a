"""The order of a stream's rows: which chunk when, and which process takes which rows.

An epoch's order is a function of its seed and number alone, so that any step of it can be reached
without the steps before: a resumed run reads what it still needs.

The folder is cut into as many even stretches as the buffer has layers, and each stretch's chunks
are spread evenly over the epoch, in random order. A chunk's rows are dealt out at random to as many
blocks as there are layers, and each block is shuffled: it has rows of as many chunks as there are
layers, one of each stretch. A folder that is sorted, by class or by day, is therefore mixed nearly
as well as one that is not. The first and the last blocks are no exception: what would come behind
the last block is in the first ones.
"""

from collections.abc import Sequence
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

    The chunks of a stretch are spread evenly over the epoch, in random order; those of different
    stretches begin at different times.

    >>> order = chunk_order(chunks=8, layers=4, seed=0, epoch=0)
    >>> np.sort(order.reshape(2, 4) // 2).tolist()  # two rounds through the four stretches
    [[0, 1, 2, 3], [0, 1, 2, 3]]
    """
    generator = np.random.default_rng((seed, epoch))
    stretches = np.array_split(np.arange(chunks), min(layers, chunks))
    starts = generator.permutation(len(stretches)) / len(stretches)
    times = [
        (generator.permutation(len(stretch)) + start) / len(stretch)
        for stretch, start in zip(stretches, starts, strict=True)
    ]
    return np.argsort(np.concatenate(times), kind="stable")


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


def block_rows(pieces: Sequence[Piece], layers: int) -> np.ndarray:
    """The rows of each block (pieces,).

    >>> block_rows([Piece(0, 0, 5), Piece(1, 0, 4), Piece(2, 0, 4)], layers=2).tolist()
    [5, 4, 4]
    """
    rows = np.array([piece.rows for piece in pieces])
    sizes = np.zeros_like(rows)
    for part in range(layers):
        sizes += np.roll(share_rows(rows, part, layers), part)
    return sizes
