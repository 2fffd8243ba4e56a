"""Batches of a stream: bufferfuls of rows, read ahead in a thread, shuffled and encoded."""

from collections.abc import Callable, Iterator
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.ahead import ahead
from data.stream_order import Piece, chunk_order, pieces_of, step_rows, total, windows_of

READY_BATCHES = 4  # that wait for the training step

Rows = tuple[np.ndarray, np.ndarray]  # raw (rows, columns), and class indices (rows,)


class Source(NamedTuple):
    """The rows of a split, wherever they are.

    Args:
        counts: How many rows each chunk has (chunks,).
        columns: Number of columns of a raw table.
        read: The rows of a piece.
        encode: A raw table to features.
        check: Raises an error where the rows are no longer what they were.
    """

    counts: np.ndarray
    columns: int
    read: Callable[[Piece], Rows]
    encode: Callable[[Tensor], Tensor]
    check: Callable[[], None]


class StreamBatches:
    """Batches of features (rows, num_features) and targets (rows,), in constant memory.

    Each process reads its own stretch of the epoch's order, so that no row is there twice and none
    is lost, and takes its share of each batch: all take the same number of steps. Two bufferfuls
    are held, one of which is read while the other is used.

    Lightning saves `state_dict` in a checkpoint: a resumed epoch goes on with its next batch.

    Args:
        source: The rows.
        batch_size: Rows of a batch, of all processes together.
        layers: Chunks in a bufferful.
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
        rows = int(source.counts.sum())
        shares = [step_rows(rows, batch_size, i, processes) for i in range(processes)]
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
        skipped = int(self.sizes[:step].sum())
        windows = self.windows()
        while windows and total(windows[0][1]) <= skipped:
            skipped -= total(windows.pop(0)[1])
        buffers = ahead(starmap(self.fill, windows), 1)
        buffer: Rows = np.empty((0, self.source.columns)), np.empty(0, np.int64)
        order = np.empty(0, np.int64)  # of the buffer's rows that are left
        for size in self.sizes[step:].tolist():
            parts = [(buffer[0][:0], buffer[1][:0])]  # a batch can have no row
            while size:
                if not len(order):
                    buffer, order = next(buffers)
                    order = order[skipped:]
                    skipped = 0
                rows = order[:size]
                order = order[size:]
                parts.append((buffer[0].take(rows, axis=0), buffer[1].take(rows)))
                size -= len(rows)
            yield self.to_tensors(parts)

    def windows(self) -> list[tuple[int, list[Piece]]]:
        """The bufferfuls of the epoch, each with its index: the pieces of chunks that it holds."""
        chunks = np.arange(len(self.source.counts))
        if self.seed is not None:
            chunks = chunk_order(len(chunks), self.layers, self.seed, self.epoch)
        last = self.first + int(self.sizes.sum())
        pieces = pieces_of(chunks, self.source.counts, self.first, last)
        return list(enumerate(windows_of(pieces, self.layers)))

    def fill(self, index: int, pieces: list[Piece]) -> tuple[Rows, np.ndarray]:
        """Read a bufferful; return its rows, and the order in which to take them (rows,)."""
        rows = total(pieces)
        raw = np.empty((rows, self.source.columns))
        targets = np.empty(rows, np.int64)
        start = 0
        for piece in pieces:
            place = slice(start, start + piece.rows)
            raw[place], targets[place] = self.source.read(piece)
            start += piece.rows
        if self.seed is None:
            return (raw, targets), np.arange(rows)
        generator = np.random.default_rng((self.seed, self.epoch, self.rank, index))
        return (raw, targets), generator.permutation(rows)

    def to_tensors(self, parts: list[Rows]) -> tuple[Tensor, Tensor]:
        """A batch, of rows from one bufferful or more."""
        raw, targets = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
        features = self.source.encode(raw)
        if self.pin:
            return features.pin_memory(), targets.pin_memory()
        return features, targets
