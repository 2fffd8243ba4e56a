"""Batches as slices of tensors on the training device."""

from collections.abc import Iterator

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import TensorDataset

from data.sampling import EpochSampler


class TensorBatches:
    """Batches as slices of tensors on the training device; takes the place of a DataLoader.

    Rows are not fetched, collated or copied one at a time. The last batch has the remaining rows.
    With a sampler, each process takes every `world_size`-th row of the epoch's order, which wraps
    around as in DistributedSampler: all processes take the same number of steps. Without one,
    every process takes all rows, so that their metrics agree and no row counts twice.

    Args:
        dataset: Tensors of equal length.
        batch_size: Rows of a batch.
        sampler: Order of the rows in each epoch; None keeps theirs.
        trainer: The Trainer, which knows the device and the processes.
    """

    def __init__(
        self,
        dataset: TensorDataset,
        batch_size: int,
        sampler: EpochSampler | None = None,
        *,
        trainer: Trainer,
    ) -> None:
        self.tensors = [tensor.to(trainer.strategy.root_device) for tensor in dataset.tensors]
        self.batch_size = batch_size
        self.order = sampler
        if sampler is not None:
            self.sampler = sampler  # Lightning calls set_epoch on an attribute of this name
        self.rank = trainer.global_rank
        self.world_size = trainer.world_size
        self.rows = len(dataset)
        if sampler is not None:
            self.rows = -(-len(dataset) // self.world_size)

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        # A generator asks for the order when the first batch is fetched: Lightning creates the
        # iterator of a resumed run before it restores the epoch.
        tensors = self.tensors
        if self.order is not None:
            order = np.resize(self.order.indices(), self.rows * self.world_size)
            share = torch.from_numpy(order[self.rank :: self.world_size])
            tensors = [tensor[share] for tensor in tensors]
        yield from zip(*(tensor.split(self.batch_size) for tensor in tensors), strict=True)
