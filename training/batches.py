"""Batches as slices of tensors on the training device."""

from collections.abc import Iterator

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import TensorDataset

from data.sampling import EpochSampler, slice_of


class TensorBatches:
    """Batches as slices of tensors on the training device; takes the place of a DataLoader.

    Rows are not fetched, collated or copied one at a time. The last batch has the remaining rows.
    With a sampler, each process takes its share of every batch, in the order of a single process.
    Without one, every process takes all rows: their metrics agree, and no row counts twice.

    Args:
        dataset: Tensors of equal length.
        batch_size: Rows of a batch, of all processes together.
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
        self.rows = len(dataset)
        self.rank = trainer.global_rank
        self.processes = trainer.world_size
        if sampler is not None and self.processes > 1:  # whose random numbers differ
            sampler.seed = trainer.strategy.broadcast(sampler.seed)

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        # A generator asks for the order when the first batch is fetched: Lightning creates the
        # iterator of a resumed run before it restores the epoch.
        tensors = self.tensors
        sizes: int | list[int] = self.batch_size
        if self.order is not None:
            rows = torch.from_numpy(self.order.indices())
            if self.processes > 1:
                batches = rows.split(self.batch_size)
                slices = [slice_of(len(batch), self.rank, self.processes) for batch in batches]
                shares = [batch[part] for batch, part in zip(batches, slices, strict=True)]
                sizes = [len(share) for share in shares]
                rows = torch.cat(shares)
            tensors = [tensor[rows] for tensor in tensors]
        yield from zip(*(tensor.split(sizes) for tensor in tensors), strict=True)
