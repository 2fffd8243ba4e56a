"""Batches of tensors that are on the training device, or on their way to it."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import TensorDataset

from data.sampling import EpochSampler, slice_of
from data.tabular import TabularData
from model.classifier import Classifier
from training.device_rows import DeviceRows, Transfer, evaluation_rows

GATHERED_VALUES = 2**20  # of training rows that are gathered at a time: 4 MiB


class TensorBatches:
    """Batches as slices of tensors; takes the place of a DataLoader.

    Rows are not fetched, collated or copied one at a time: those of several small batches are
    gathered together, and a batch is a slice of them. The last batch has the remaining rows. With a
    sampler, each process takes its share of every batch, in the order of a single process. Without
    one, every process takes all rows: their metrics agree, and no row counts twice.

    Args:
        dataset: Tensors of equal length.
        batch_size: Rows of a batch, of all processes together.
        sampler: Order of the rows in each epoch; None keeps theirs.
        trainer: The Trainer, which knows the device and the processes.
        rows: Where the rows are; None moves them to the training device.
        most_rows: Rows of a batch at most, if there is no sampler; None for no limit.
    """

    def __init__(
        self,
        dataset: TensorDataset,
        batch_size: int,
        sampler: EpochSampler | None = None,
        *,
        trainer: Trainer,
        rows: DeviceRows | None = None,
        most_rows: int | None = None,
    ) -> None:
        self.device = trainer.strategy.root_device
        self.tensors = [
            tensor.to(self.device) if rows is None else rows.place(tensor)
            for tensor in dataset.tensors
        ]
        self.batch_size = batch_size
        self.order = sampler
        if sampler is None and most_rows is not None:
            self.batch_size = min(batch_size, most_rows)
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
        if self.order is None or (self.processes == 1 and not self.order.shuffle):
            batches: Iterable[tuple[Tensor, ...]] = self.slices(self.tensors, self.batch_size)
        else:
            batches = self.gathered(torch.from_numpy(self.order.indices()))
        if self.tensors[0].device != self.device:
            batches = Transfer(self.device).copies(batches)
        yield from batches

    def gathered(self, order: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Batches of the rows in this order."""
        values = self.batch_size * self.tensors[0][0].numel()
        count = max(1, GATHERED_VALUES // values)  # of batches that are gathered together
        order = order.to(self.tensors[0].device)
        for rows in order.split(count * self.batch_size):
            sizes: int | list[int] = self.batch_size
            if self.processes > 1:
                batches = rows.split(self.batch_size)
                parts = [slice_of(len(batch), self.rank, self.processes) for batch in batches]
                shares = [batch[part] for batch, part in zip(batches, parts, strict=True)]
                sizes = [len(share) for share in shares]
                rows = torch.cat(shares)
            yield from self.slices([tensor.index_select(0, rows) for tensor in self.tensors], sizes)

    def slices(self, tensors: list[Tensor], sizes: int | list[int]) -> Iterator[tuple[Tensor, ...]]:
        """Tensors cut into batches of these sizes."""
        return zip(*(tensor.split(sizes) for tensor in tensors), strict=True)


def loader_of(
    datamodule: TabularData, trainer: Trainer, classifier: Classifier
) -> Callable[..., Iterable[Any]]:
    """What makes a run's batches of a dataset.

    Args:
        datamodule: The table, after `setup()`.
        trainer: The Trainer of the run.
        classifier: Its network bounds the rows of an evaluation's batch.

    Raises:
        ValueError: The rows do not fit where they are to be.
    """
    rows = DeviceRows(datamodule, trainer)
    most_rows = evaluation_rows(classifier, rows.device)
    return partial(TensorBatches, trainer=trainer, rows=rows, most_rows=most_rows)
