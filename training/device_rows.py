"""Where a table's rows are while it is trained: on the device, or in the host's memory."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from cli.output import show
from data.memory import readable
from data.tabular import RowsOn, TabularData
from model.classifier import Classifier

# Rows go to a GPU if they take at most this share of its free memory: the network's gradients, the
# optimizer's states and what a step keeps come on top.
SHARE = 0.5
EVALUATION_BYTES = 2**25  # that an evaluation's batch may take on a CPU, layers included
EVALUATION_SHARE = 16  # on a GPU a 16th of the free memory


class DeviceRows:
    """The rows of a run, which are in the memory of the device once, if they fit.

    Args:
        datamodule: The table, after `setup()`.
        trainer: The Trainer, which knows the device.

    Raises:
        ValueError: The rows are to be on the device, and are larger than its free memory.
    """

    def __init__(self, datamodule: TabularData, trainer: Trainer) -> None:
        self.device = trainer.strategy.root_device
        self.is_on_device = True
        self.moved: dict[tuple[int, torch.Size], Tensor] = {}
        if self.device.type != "cuda" or datamodule.is_streamed:
            return
        needed = sum(tensor.nbytes for rows in datamodule.splits.values() for tensor in rows)
        free, _ = torch.cuda.mem_get_info(self.device)
        self.is_on_device = are_on_device(datamodule.rows_on, needed, free)
        if trainer.is_global_zero:
            where = f"on {self.device}" if self.is_on_device else "in the host's memory"
            show(
                f"rows: {readable(needed)} {where}; {readable(free)} of {self.device} are free",
                file=sys.stderr,
            )

    def place(self, tensor: Tensor) -> Tensor:
        """A tensor where the rows are; the same one is moved once."""
        if not self.is_on_device or tensor.device == self.device:
            return tensor
        key = tensor.data_ptr(), tensor.shape
        if key not in self.moved:
            self.moved[key] = tensor.to(self.device)
        return self.moved[key]


def are_on_device(rows_on: RowsOn, needed: int, free: int) -> bool:
    """Whether rows go to the device.

    >>> are_on_device("auto", needed=2, free=5), are_on_device("auto", needed=3, free=5)
    (True, False)

    Args:
        rows_on: What the user wants.
        needed: Bytes of the rows.
        free: Bytes that are free on the device.

    Raises:
        ValueError: They are to be there, and do not fit.
    """
    if rows_on == "device" and needed > free:
        raise ValueError(
            f"rows_on is device, but the rows need {readable(needed)} and {readable(free)} are "
            "free; give host, or leave it out"
        )
    return rows_on == "device" or (rows_on == "auto" and needed <= SHARE * free)


class Transfer:
    """Copies batches from the host to a device, each while the one before it is computed.

    A batch is copied into one of two pinned buffers, from where the device fetches it on a stream
    of its own. A buffer is filled again only when its last batch has arrived.

    Args:
        device: Where batches go. On a CPU, where nothing overlaps, they are copied all the same.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.buffers: list[list[Tensor]] = [[], []]
        self.arrivals: list[torch.cuda.Event | None] = [None, None]

    def copies(self, batches: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches on the device; the next one is under way when one is yielded."""
        ready = None
        for index, batch in enumerate(batches):
            sent = self.send(batch, index % 2)
            if ready is not None:
                yield self.receive(*ready)
            ready = sent, index % 2
        if ready is not None:
            yield self.receive(*ready)

    def send(self, batch: tuple[Tensor, ...], slot: int) -> tuple[Tensor, ...]:
        """Start to copy a batch through one of the buffers."""
        arrival = self.arrivals[slot]
        if arrival is not None:
            arrival.synchronize()
        if not self.buffers[slot] or len(self.buffers[slot][0]) < len(batch[0]):
            pin = self.stream is not None
            self.buffers[slot] = [torch.empty_like(tensor, pin_memory=pin) for tensor in batch]
        sent = []
        with self.on_stream():
            for buffer, tensor in zip(self.buffers[slot], batch, strict=True):
                rows = buffer[: len(tensor)].copy_(tensor)
                sent.append(rows.to(self.device, non_blocking=True, copy=True))
            if self.stream is not None:
                self.arrivals[slot] = self.stream.record_event()
        return tuple(sent)

    def receive(self, batch: tuple[Tensor, ...], slot: int) -> tuple[Tensor, ...]:
        """Let what is computed from here on wait for a batch."""
        arrival = self.arrivals[slot]
        if arrival is not None:
            computing = torch.cuda.current_stream(self.device)
            computing.wait_event(arrival)
            for tensor in batch:
                tensor.record_stream(computing)  # its memory is not used again before
        return batch

    def on_stream(self) -> AbstractContextManager[Any]:
        """The stream of the copies, where the device has streams."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)


def evaluation_rows(classifier: Classifier, device: torch.device) -> int:
    """How many rows of an evaluation's batch fit into a small part of the memory."""
    budget = EVALUATION_BYTES
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        budget = max(budget, free // EVALUATION_SHARE)
    return max(1, budget // row_bytes(classifier.network, classifier.example))


def row_bytes(network: nn.Module, example: Tensor) -> int:
    """Bytes of a row's features and of the outputs of all layers for it.

    >>> row_bytes(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)), torch.zeros(1, 4))
    156

    Args:
        network: The network.
        example: A row of features (1, num_features).
    """
    sizes = [example.nbytes]

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not list(module.children()):
            sizes.append(output.nbytes)

    was_training = network.training
    handles = [module.register_forward_hook(record) for module in network.modules()]
    device = next(network.parameters(), example).device
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            network.eval()(example.to(device))
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return sum(sizes)
