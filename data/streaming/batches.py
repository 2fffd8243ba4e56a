"""Batches of a stream: blocks of rows, read ahead in a thread, shuffled and encoded."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.ahead import ahead
from data.memory import free_memory, readable
from data.streaming.order import Share, blocks_of
from data.streaming.scratch import ScratchFile

CHUNK_ROWS = 512  # rows of the file that are read at once
READY_BATCHES = 4  # that wait for the training step


class StreamBatches:
    """Batches of features (rows, num_features) and targets (rows,), in constant memory.

    Each process has rows of its own, so that no row is there twice and none is lost, and takes its
    share of each batch: all take the same number of steps. Two blocks of rows are in memory, the
    one that batches are made of and the next one.

    Lightning saves `state_dict` in a checkpoint: a resumed epoch goes on with its next batch.

    Args:
        file: The rows of this process.
        encode: Rows of the file, without their class indices, to features.
        share: Which they are of the split's rows.
        buffer: Rows of both blocks.
        seed: Seed of the order; None keeps the rows in theirs.
        joined: How many batches are handed out as one.
        pin: Whether to copy batches to pinned memory, from which a GPU reads while it computes.
    """

    def __init__(
        self,
        file: ScratchFile,
        encode: Callable[[Tensor], Tensor],
        share: Share,
        buffer: int,
        seed: int | None = None,
        joined: int = 1,
        pin: bool = False,
    ) -> None:
        self.file = file
        self.encode = encode
        self.share = share
        self.rows = share.rows
        self.batch_size = share.batch_size
        self.buffer = buffer
        self.seed = seed
        self.pin = pin
        sizes = share.steps()
        self.sizes = np.add.reduceat(sizes, np.arange(0, len(sizes), joined))
        self.epoch = 0
        self.step = 0  # batches of this epoch that were handed out
        self.resumed: tuple[int, int] | None = None  # epoch and step to go on with
        if seed is not None:
            self.sampler = self  # Lightning calls set_epoch on an attribute of this name

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "step": self.step, "processes": self.share.processes}

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
        for batch in ahead(self.batches(self.step), READY_BATCHES):
            self.step += 1
            yield batch

    def batches(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches from a step on."""
        skipped = int(self.sizes[:step].sum())
        blocks = self.blocks()
        ends = np.cumsum([self.chunk_rows(block).sum() for block in blocks])
        first = int(np.searchsorted(ends, skipped, side="right"))
        start = skipped - int(ends[first - 1]) if first else skipped  # in the current block
        tables = ahead((self.read(i, blocks[i]) for i in range(first, len(blocks))), 1)
        table, order = next(tables, (np.empty((0, self.file.width)), np.arange(0)))
        for size in self.sizes[step:].tolist():
            parts = []
            while start + size > len(order):
                parts.append(table[order[start:]])
                size -= len(parts[-1])
                table, order = next(tables)
                start = 0
            parts.append(table[order[start : start + size]])
            start += size
            yield self.to_tensors(np.concatenate(parts))

    def blocks(self) -> list[np.ndarray]:
        """The chunks of each block, in the order of the epoch."""
        chunks = -(-self.file.rows // CHUNK_ROWS)
        size = max(1, self.buffer // 2 // CHUNK_ROWS)
        if self.seed is None:
            return np.split(np.arange(chunks), np.arange(size, chunks, size))
        return blocks_of(chunks, size, (self.seed, self.epoch, self.share.rank))

    def chunk_rows(self, chunks: np.ndarray) -> np.ndarray:
        """How many rows chunks have (chunks,): the last one of the file may have fewer."""
        rows: np.ndarray = np.minimum(CHUNK_ROWS, self.file.rows - chunks * CHUNK_ROWS)
        return rows

    def read(self, index: int, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A block's rows (rows, columns + 1), and the order in which batches take them (rows,)."""
        rows = self.chunk_rows(chunks)
        table = np.empty((rows.sum(), self.file.width), self.file.dtype)
        for chunk, part in zip(chunks, np.split(table, np.cumsum(rows)[:-1]), strict=True):
            self.file.read_into(part, first=chunk * CHUNK_ROWS)
        if self.seed is None:
            return table, np.arange(len(table))
        generator = np.random.default_rng((self.seed, self.epoch, self.share.rank, index))
        return table, generator.permutation(len(table))

    def to_tensors(self, table: np.ndarray) -> tuple[Tensor, Tensor]:
        """Features and targets of rows (rows, columns + 1)."""
        features = self.encode(torch.from_numpy(table[:, :-1]))
        targets = torch.from_numpy(table[:, -1].astype(np.int64))
        if self.pin:
            return features.pin_memory(), targets.pin_memory()
        return features, targets


def check_buffer(rows: int, row_bytes: int) -> None:
    """Refuse a buffer that memory has no room for.

    Args:
        rows: Rows that wait in memory.
        row_bytes: Bytes of a row.

    Raises:
        ValueError: With the rows that memory has room for.
    """
    needed = rows * row_bytes
    free = free_memory()
    if needed > free:
        raise ValueError(
            f"a buffer of {rows:,} rows takes {readable(needed)}, and {readable(free)} of memory "
            f"are free; give --data.buffer {free // row_bytes // 2}"
        )
