"""Which rows, in which order: splits and epochs drawn at random, each from a seed."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from sklearn.model_selection import train_test_split
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Row indices in the order of the current epoch; Lightning calls `set_epoch` before each.

    >>> sampler = EpochSampler(rows=3, seed=0, shuffle=False)
    >>> list(sampler)
    [0, 1, 2]

    Args:
        rows: Number of rows.
        seed: Seed of the order.
        shuffle: Whether to shuffle the rows in every epoch; otherwise they keep their order.
    """

    def __init__(self, rows: int, seed: int, shuffle: bool) -> None:
        self.rows = rows
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def indices(self) -> np.ndarray:
        """The row indices (rows,) in the order of the current epoch."""
        if self.shuffle:
            return row_order(self.rows, self.seed, self.epoch)
        return np.arange(self.rows)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        # A generator asks for the order when the first batch is fetched: Lightning creates the
        # iterator of a resumed run before it restores the epoch.
        yield from self.indices().tolist()


def row_order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of the row indices, the same in a resumed run as in an undisturbed one.

    >>> sorted(row_order(4, seed=0, epoch=7).tolist())
    [0, 1, 2, 3]
    """
    return np.random.default_rng((seed, epoch)).permutation(rows)


def slice_of(rows: int, rank: int, processes: int) -> slice:
    """A process's share of a batch's rows; the shares differ by one row at most.

    The first processes have the larger ones, so the first of all is never without a row.

    >>> [slice_of(7, rank, processes=3) for rank in range(3)]
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]

    Args:
        rows: Rows of the batch.
        rank: Index of the process.
        processes: Number of processes.
    """
    least, more = divmod(rows, processes)
    start = rank * least + min(rank, more)
    return slice(start, start + least + (rank < more))


def row_orders(rows: int, seeds: Sequence[int], epoch: int) -> np.ndarray:
    """`row_order` of many seeds, (seeds, rows), in half the time.

    >>> bool((row_orders(4, [0, 5], epoch=7)[1] == row_order(4, 5, 7)).all())
    True
    """
    if max(seeds) >= 2**32:  # a seed of several words
        return np.stack([row_order(rows, seed, epoch) for seed in seeds])
    orders = np.tile(np.arange(rows), (len(seeds), 1))
    for order, words in zip(orders, seed_words(seeds, epoch), strict=True):
        bits = np.random.PCG64(Words(words))  # type: ignore[arg-type]  # any ISeedSequence
        np.random.Generator(bits).shuffle(order)
    return orders


class Words(ISeedSequence):
    """The words that a SeedSequence would generate for PCG64."""

    def __init__(self, words: np.ndarray) -> None:
        self.words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return self.words


def seed_words(seeds: Sequence[int], epoch: int) -> np.ndarray:
    """The words of `np.random.SeedSequence((seed, epoch))`, (seeds, 4), of all seeds at once.

    Source: numpy/random/bit_generator.pyx, whose streams NumPy keeps (NEP 19); M.E. O'Neill's
    seed_seq.

    >>> np.random.SeedSequence((3, 7)).generate_state(4, np.uint64) == seed_words([3], 7)[0]
    array([ True,  True,  True,  True])
    """
    constant = 0x43B0D7E5
    zeros = np.zeros(len(seeds), dtype=np.uint32)
    pool: list[Any] = []
    for words in (zeros + np.array(seeds, dtype=np.uint32), zeros + np.uint32(epoch), zeros, zeros):
        hashed, constant = hash_words(words, constant, 0x931E8875)
        pool.append(hashed)
    for source in range(4):
        for target in range(4):
            if source != target:
                hashed, constant = hash_words(pool[source], constant, 0x931E8875)
                mixed = np.uint32(0xCA01F9DD) * pool[target] - np.uint32(0x4973F715) * hashed
                pool[target] = mixed ^ (mixed >> np.uint32(16))
    constant = 0x8B51F9DD
    generated = np.empty((len(seeds), 8), dtype=np.uint32)
    for i in range(8):
        generated[:, i], constant = hash_words(pool[i % 4], constant, 0x58F38DED)
    return generated.view(np.uint64)


def hash_words(words: np.ndarray, constant: int, multiplier: int) -> tuple[np.ndarray, int]:
    """SeedSequence's hash of 32-bit words, and its next constant."""
    following = constant * multiplier % 2**32
    hashed: Any = (words ^ np.uint32(constant)) * np.uint32(following)
    return hashed ^ (hashed >> np.uint32(16)), following


def split_off(
    indices: np.ndarray, size: int, targets: np.ndarray, stratify: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `size` of the row indices at random; return the remaining and the drawn ones.

    The stratified share of a class of three or four rows can round to 0. Then one of its rows
    changes places with a drawn row of the most frequent class.
    """
    labels = targets[indices] if stratify else None
    remaining, drawn = train_test_split(indices, test_size=size, random_state=seed, stratify=labels)
    if not stratify:
        return remaining, drawn
    for missing_class in np.setdiff1d(targets[remaining], targets[drawn]):
        most_frequent = np.bincount(targets[drawn]).argmax()
        candidates = np.flatnonzero(targets[remaining] == missing_class)
        replaceable = np.flatnonzero(targets[drawn] == most_frequent)
        if len(candidates) > 1 and len(replaceable) > 1:
            i = candidates[0]
            j = replaceable[0]
            remaining[i], drawn[j] = drawn[j], remaining[i]
    return remaining, drawn


def balanced_weights(targets: np.ndarray, num_classes: int) -> list[float]:
    """Weights that give every class the same total weight, 1 per row on average.

    >>> balanced_weights(np.array([0, 0, 0, 1]), num_classes=2)
    [0.6666666666666666, 2.0]
    """
    counts = np.bincount(targets, minlength=num_classes).clip(min=1)
    weights: list[float] = (len(targets) / (num_classes * counts)).tolist()
    return weights
