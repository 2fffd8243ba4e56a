"""A copy of a stream's rows, from which epochs read them."""

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
from torch import Tensor

from data.columns import Columns
from data.encoder import Encoder
from data.streaming.folder import Folder
from data.streaming.labels import StreamLabels
from data.streaming.order import Share
from data.streaming.scratch import ScratchFile, check_room, row_bytes
from data.streaming.splits import NAMES, StreamSplits

EXACT = (pl.Float32, pl.Int8, pl.Int16, pl.UInt8, pl.UInt16)  # types whose values float32 has


class StreamCopy:
    """Copies the rows of each split into a file: features, or raw rows where those are smaller.

    Args:
        folder: The files.
        columns: What each column is.
        encoder: Fitted to the training rows.
        labels: The classes.
        splits: Which split a row is in.
        rows: How many rows each split has, by its name.
    """

    def __init__(
        self,
        folder: Folder,
        columns: Columns,
        encoder: Encoder,
        labels: StreamLabels,
        splits: StreamSplits,
        rows: Mapping[str, int],
    ) -> None:
        self.folder = folder
        self.columns = columns
        self.encoder = encoder
        self.labels = labels
        self.splits = splits
        self.rows = rows
        self.width = len(columns.names)
        self.dtype = np.float32 if self.is_exact_in_float32() else np.float64
        features = len(encoder.layout.names)
        raw_bytes = row_bytes(self.width, self.dtype)
        self.has_features = row_bytes(features, np.float32) <= raw_bytes
        if self.has_features:  # epochs need not encode them
            self.width = features
            self.dtype = np.float32
        self.row_bytes = row_bytes(self.width, self.dtype)

    def is_exact_in_float32(self) -> bool:
        """Whether float32 has every value of the columns exactly."""
        kinds = {name: self.columns.kind(name) for name in self.columns.names}
        return all(
            kind == "text" or (kind == "number" and self.folder.schema[name] in EXACT)
            for name, kind in kinds.items()
        )

    def write(
        self, batch_size: int, rank: int, processes: int
    ) -> dict[str, tuple[ScratchFile, Share]]:
        """Copy a process's rows of each split: the file, and which rows they are.

        Args:
            batch_size: Rows of a step, of all processes together.
            rank: Index of the process.
            processes: Number of processes.

        Raises:
            ValueError: The folder is no longer what it was, or the disk has no room.
        """
        shares = {
            name: Share(rows, batch_size, rank, processes) for name, rows in self.rows.items()
        }
        counts = {name: int(share.steps().sum()) for name, share in shares.items()}
        files = {name: ScratchFile(self.width, self.dtype) for name in shares}
        check_room(sum(counts.values()) * self.row_bytes)
        seen = dict.fromkeys(shares, 0)
        for values, targets, codes in self.pieces():
            for name, share in shares.items():
                of_split = np.flatnonzero((codes == NAMES.index(name)) & (targets >= 0))
                is_ours = share.has(seen[name] + np.arange(len(of_split)))
                files[name].append(values[of_split[is_ours]], targets[of_split[is_ours]])
                seen[name] += len(of_split)
        self.folder.check_unchanged()
        if counts != {name: file.rows for name, file in files.items()}:
            raise ValueError(
                f"{self.folder.path} has other rows than when the run began; start a new run"
            )
        return {name: (files[name], shares[name]) for name in shares}

    def pieces(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Some rows at a time, as the files have them, their class indices and codes of splits."""
        names = [*self.columns.names, self.labels.target, *self.splits.names]
        for chunk, frame in self.folder.frames(names, "copying"):
            values = self.columns.matrix(frame, self.folder.files[chunk.file], chunk.start)
            if self.has_features:
                values = self.encoder.transform(values).numpy()
            yield values, self.labels.indices(frame), self.splits.codes(chunk, frame)

    def features(self, rows: Tensor) -> Tensor:
        """Features (rows, num_features) of rows of a file, without their class indices."""
        return rows.contiguous() if self.has_features else self.encoder(rows.double())
