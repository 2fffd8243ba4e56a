"""Batches of a stream: rows of many chunks, read ahead in a thread, shuffled and encoded."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.sampling import slice_of
from data.streaming.ahead import ahead
from data.streaming.order import Piece, block_rows, chunk_order, pieces_of, step_rows

READY_BATCHES = 4  # that wait for the training step

Rows = tuple[np.ndarray, np.ndarray]  # raw (rows, columns), and class indices (rows,)


class Source(NamedTuple):
    """The rows of a split, wherever they are.

    Args:
        counts: How many rows each chunk has (chunks,).
        columns: Number of columns of a raw table.
        dtype: Of the raw table while it waits in the buffer, in which its values are exact.
        read: The rows of a piece.
        encode: A raw table to features.
        check: Raises an error where the rows are no longer what they were.
    """

    counts: np.ndarray
    columns: int
    dtype: type[np.floating[Any]]
    read: Callable[[Piece], Rows]
    encode: Callable[[Tensor], Tensor]
    check: Callable[[], None]


class StreamBatches:
    """Batches of features (rows, num_features) and targets (rows,), in constant memory.

    Each process reads its own stretch of the epoch's order, so that no row is there twice and none
    is lost, and takes its share of each batch: all take the same number of steps. Rows wait in a
    buffer, as data/streaming/order.py says: half of `layers` chunks are in it at a time.

    Lightning saves `state_dict` in a checkpoint: a resumed epoch goes on with its next batch.

    Args:
        source: The rows.
        batch_size: Rows of a batch, of all processes together.
        layers: Chunks that the rows of a block come from.
        seed: Seed of the order; None keeps the rows in theirs, each process its stretch of them.
        rank: Index of this process.
        processes: Number of processes.
        pin: Whether to copy batches to pinned memory, from which a GPU reads while it computes.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        layers: int,
        seed: int | None = None,
        rank: int = 0,
        processes: int = 1,
        pin: bool = False,
    ) -> None:
        self.source = source
        self.layers = layers
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.pin = pin
        self.batch_size = batch_size
        self.rows = int(source.counts.sum())  # of all processes
        shares = [step_rows(self.rows, batch_size, i, processes) for i in range(processes)]
        self.first = sum(int(share.sum()) for share in shares[:rank])  # row of this process
        self.sizes = shares[rank]
        self.epoch = 0
        self.step = 0  # batches of this epoch that were handed out
        self.resumed: tuple[int, int] | None = None  # epoch and step to go on with
        if seed is not None:
            self.sampler = self  # Lightning calls set_epoch on an attribute of this name

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "step": self.step, "processes": self.processes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resumed = state_dict["epoch"], state_dict["step"]

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # A generator asks for the epoch when the first batch is fetched: Lightning creates the
        # iterator of a resumed run before it restores the epoch.
        self.step = 0
        if self.resumed is not None and self.resumed[0] == self.epoch:
            self.step = self.resumed[1]
        self.resumed = None
        self.source.check()
        for batch in ahead(self.batches(self.step), READY_BATCHES):
            self.step += 1
            yield batch

    def batches(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches from a step on."""
        pieces = self.pieces()
        layers = min(self.layers, len(pieces))
        skipped = int(self.sizes[:step].sum())
        ends = np.cumsum(block_rows(pieces, layers))
        first = int(np.searchsorted(ends, skipped, side="right"))
        blocks = ahead(self.blocks(pieces, layers, first), 2)
        raw = np.empty((0, self.source.columns), self.source.dtype)
        targets = np.empty(0, np.int64)
        start = skipped - int(ends[first - 1]) if first else skipped  # in the current block
        for size in self.sizes[step:].tolist():
            parts = [(raw[:0], targets[:0])]  # a batch can have no row
            while size:
                if start >= len(targets):
                    start -= len(targets)
                    raw, targets = next(blocks)
                    continue
                rows = slice(start, start + size)
                parts.append((raw[rows], targets[rows]))
                start += len(parts[-1][1])
                size -= len(parts[-1][1])
            yield self.to_tensors(parts)

    def pieces(self) -> list[Piece]:
        """The pieces of chunks of this process, in the order of the epoch."""
        chunks = np.arange(len(self.source.counts))
        if self.seed is not None:
            chunks = chunk_order(len(chunks), self.layers, self.seed, self.epoch)
        last = self.first + int(self.sizes.sum())
        return pieces_of(chunks, self.source.counts, self.first, last)

    def blocks(self, pieces: list[Piece], layers: int, first: int) -> Iterator[Rows]:
        """The blocks from a first one on, each of parts of several pieces."""
        held: dict[tuple[int, int], Rows] = {}  # by piece and part
        for block in range(first, len(pieces)):
            parts = []
            for part in range(layers):
                index = (block - part) % len(pieces)
                if (index, part) not in held:
                    for other, rows in self.parts_of(pieces[index], index, layers):
                        place = (index + other) % len(pieces)
                        if block <= place < block + layers:
                            held[index, other] = rows
                parts.append(held.pop((index, part)))
            raw, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
            order = self.order(len(targets), len(pieces) + block)
            yield raw[order], targets[order]

    def parts_of(self, piece: Piece, index: int, layers: int) -> Iterator[tuple[int, Rows]]:
        """Read a piece; the rows of each of its parts, which is for a block of its own."""
        raw, targets = self.source.read(piece)
        raw = raw.astype(self.source.dtype, copy=False)
        order = self.order(len(targets), index)
        for part in range(layers):
            rows = order[slice_of(len(order), part, layers)]
            yield part, (raw[rows], targets[rows])

    def order(self, rows: int, purpose: int) -> np.ndarray:
        """A random order of some rows (rows,); theirs without a seed."""
        if self.seed is None:
            return np.arange(rows)
        return np.random.default_rng((self.seed, self.epoch, self.rank, purpose)).permutation(rows)

    def to_tensors(self, parts: list[Rows]) -> tuple[Tensor, Tensor]:
        """A batch, of rows from one block or more."""
        raw, targets = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
        features = self.source.encode(raw.double())
        if self.pin:
            return features.pin_memory(), targets.pin_memory()
        return features, targets
