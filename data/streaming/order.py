"""The order of a stream's rows: which chunk when, and which process takes which rows.

An epoch's order is a function of its seed and number alone, so that any step of it can be reached
without the steps before.

The rows of a split are cut into chunks, and a block of chunks is in memory at a time, in which rows
are shuffled. The chunks are cut into as many even stretches as a block has chunks, and each
stretch's chunks are spread evenly over the epoch, in random order: a block has one chunk of each.
A folder that is sorted, by class or by day, is therefore mixed nearly as well as one that is not.
"""

from collections.abc import Sequence

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


def step_rows(rows: int, batch_size: int, rank: int, processes: int) -> np.ndarray:
    """How many rows a process takes in each step of an epoch (steps,).

    A step takes `batch_size` rows of all processes together, the last one those that remain.

    >>> [step_rows(10, batch_size=4, rank=rank, processes=2).tolist() for rank in range(2)]
    [[2, 2, 1], [2, 2, 1]]
    """
    shares = [slice_of(size, rank, processes) for size in (batch_size, last_size(rows, batch_size))]
    sizes = np.full(-(-rows // batch_size), shares[0].stop - shares[0].start)
    sizes[-1] = shares[1].stop - shares[1].start
    return sizes


def last_size(rows: int, batch_size: int) -> int:
    """How many rows the last batch has."""
    return (rows - 1) % batch_size + 1


def is_share(
    index: np.ndarray, rows: int, batch_size: int, rank: int, processes: int
) -> np.ndarray:
    """Whether rows are a process's, which are those that it would take if none were shuffled.

    >>> is_share(np.arange(10), rows=10, batch_size=4, rank=1, processes=2).astype(int).tolist()
    [0, 0, 1, 1, 0, 0, 1, 1, 0, 1]

    Args:
        index: Which of the split's rows each is, in the order of the folder (some rows,).
        rows: Number of the split's rows.
        batch_size: Rows of a step, of all processes together.
        rank: Index of the process.
        processes: Number of processes.
    """
    last = last_size(rows, batch_size)
    place = index % batch_size
    is_ours = np.zeros(len(index), bool)
    for size, has_size in ((batch_size, index < rows - last), (last, index >= rows - last)):
        share = slice_of(size, rank, processes)
        is_ours |= has_size & (share.start <= place) & (place < share.stop)
    return is_ours
