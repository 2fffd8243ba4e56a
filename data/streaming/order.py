"""The order of a stream's rows: which chunk when, and which process takes which rows.

An epoch's order is a function of its seed and number alone, so that any step of it can be reached
without the steps before.

The rows of a split are cut into chunks, and a block of chunks is in memory at a time, in which rows
are shuffled. The chunks are cut into as many even stretches as a block has chunks, and each
stretch's chunks are spread evenly over the epoch, in random order: a block has one chunk of each.
A folder that is sorted, by class or by day, is therefore mixed nearly as well as one that is not.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data.sampling import slice_of


def blocks_of(chunks: int, size: int, seed: Sequence[int]) -> list[np.ndarray]:
    """The chunks of each block of an epoch, in order.

    >>> blocks = blocks_of(chunks=8, size=4, seed=[0])
    >>> [np.sort(block // 2).tolist() for block in blocks]  # one of each of the four stretches
    [[0, 1, 2, 3], [0, 1, 2, 3]]

    Args:
        chunks: Number of chunks.
        size: The most chunks of a block.
        seed: Whole numbers, which are the epoch's alone.
    """
    if not chunks:
        return []
    blocks = -(-chunks // size)
    stretches = np.array_split(np.arange(chunks), max(1, chunks // blocks))
    generator = np.random.default_rng(seed)
    # Those of different stretches begin at different times, of which an epoch is 1 long.
    starts = generator.permutation(len(stretches)) / len(stretches)
    times = [
        (generator.permutation(len(stretch)) + start) / len(stretch)
        for stretch, start in zip(stretches, starts, strict=True)
    ]
    order = np.argsort(np.concatenate(times), kind="stable")
    return np.array_split(order, blocks)


class Share(NamedTuple):
    """Which of a split's rows a process takes, and when: an even share of every step's rows.

    A row is the process's that would take it if none were shuffled.

    >>> shares = [Share(rows=10, batch_size=4, rank=rank, processes=2) for rank in range(2)]
    >>> [share.steps().tolist() for share in shares]
    [[2, 2, 1], [2, 2, 1]]
    >>> shares[1].has(np.arange(10)).astype(int).tolist()
    [0, 0, 1, 1, 0, 0, 1, 1, 0, 1]

    Args:
        rows: Number of rows, of all processes together.
        batch_size: Rows of a step, of all processes together; the last one takes what remains.
        rank: Index of the process.
        processes: Number of processes.
    """

    rows: int
    batch_size: int
    rank: int = 0
    processes: int = 1

    def slices(self) -> tuple[slice, slice]:
        """Its rows of a step, and of the last step."""
        last_size = (self.rows - 1) % self.batch_size + 1
        return (
            slice_of(self.batch_size, self.rank, self.processes),
            slice_of(last_size, self.rank, self.processes),
        )

    def steps(self) -> np.ndarray:
        """How many rows the process takes in each step of an epoch (steps,)."""
        full, last = self.slices()
        sizes = np.full(-(-self.rows // self.batch_size), full.stop - full.start)
        sizes[-1] = last.stop - last.start
        return sizes

    def has(self, index: np.ndarray) -> np.ndarray:
        """Whether rows are the process's, by their index in the folder's order (some rows,)."""
        full, last = self.slices()
        step, place = np.divmod(index, self.batch_size)
        is_last = step == (self.rows - 1) // self.batch_size
        start = np.where(is_last, last.start, full.start)
        stop = np.where(is_last, last.stop, full.stop)
        is_ours: np.ndarray = (start <= place) & (place < stop)
        return is_ours
