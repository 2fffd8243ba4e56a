"""Fits of large random tables: this project, a bare loop over tensors, and what others offer."""

import time
import warnings
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bench.measure import quiet_trainer
from cli.component import ComponentConfig, build, describe
from data.raw_table import RawTable
from data.tabular import TabularData
from model.recipe import LOSS, OPTIMIZER, SCHEDULE
from training.batches import loader_of
from training.classifiers import make_classifier


class Noise(TabularData):
    """A table of random numbers."""

    def __init__(self, count: int, columns: int, batch_size: int) -> None:
        super().__init__(batch_size)
        self.shape = (count, columns)

    def load(self) -> RawTable:
        random = np.random.default_rng(0)
        features = random.standard_normal(self.shape, np.float32)
        targets = (features[:, 0] > 0).astype(np.int64)
        names = [f"column {i}" for i in range(self.shape[1])]
        return RawTable(features, targets, names, ["negative", "positive"])


class EpochClock(Callback):
    """Seconds of each epoch of a fit, the GPU's work included."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds: list[float] = []
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start)
        self.start = time.perf_counter()


def project_epochs(
    table: TabularData,
    network: ComponentConfig,
    epochs: int,
    device: str = "cpu",
    precision: Any = "32-true",
) -> list[float]:
    """Seconds of each epoch of a fit as train.py runs it."""
    config = {
        "network": network,
        "loss": describe("loss", LOSS),
        "optimizer": describe("optimizer", OPTIMIZER),
        "schedule": describe("schedule", SCHEDULE),
    }
    trainer = quiet_trainer(epochs, device, precision)
    classifier = make_classifier(table, config, "train/loss", trainer)
    clock = EpochClock()
    # Lightning does not declare its list of callbacks.
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    table.make_loader = loader_of(table, trainer, classifier)
    trainer.fit(classifier, table)
    return clock.seconds


def bare_epochs(
    table: TabularData,
    network: ComponentConfig,
    epochs: int,
    device: str = "cpu",
    precision: str = "",
) -> list[float]:
    """Seconds of each epoch of a plain PyTorch loop over tensors: the limit."""
    features, targets = (tensor.to(device) for tensor in table.splits["train"])
    module = make_network(table, network).to(device)
    loss = LOSS()
    optimizer = OPTIMIZER(module.parameters(), total_steps=1000)
    size = table.batch_size or len(targets)
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for rows in torch.randperm(len(targets), device=device).split(size):
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
                value = loss(module(features[rows]), targets[rows])
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
        value.item()
        seconds.append(time.perf_counter() - start)
    return seconds


def make_network(table: TabularData, network: ComponentConfig) -> nn.Module:
    module: nn.Module = build("network", network)(table.num_features, table.num_classes)
    return module


class PlainModule(LightningModule):
    """A network in a LightningModule as the tutorials write it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        features, targets = batch
        loss = nn.functional.cross_entropy(self.network(features), targets)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


def plain_lightning(
    table: TabularData,
    network: ComponentConfig,
    steps: int,
    device: str = "cpu",
    precision: Any = "32-true",
) -> float:
    """Rows per second of plain Lightning with an ordinary DataLoader."""
    dataset = TensorDataset(*table.splits["train"])
    size = table.batch_size or len(dataset)
    loader = DataLoader(dataset, batch_size=size, shuffle=True)
    trainer = Trainer(
        accelerator=device,
        devices=1,
        precision=precision,
        max_epochs=1,
        limit_train_batches=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    clock = EpochClock()
    # Lightning does not declare its list of callbacks.
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # The tutorials' DataLoader has none.
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        trainer.fit(PlainModule(make_network(table, network)), loader)
    return min(steps * size, len(dataset)) / clock.seconds[0]


def scikit_learn(table: TabularData, network: ComponentConfig, steps: int) -> float:
    """Rows per second of MLPClassifier.partial_fit, which takes one step with each batch."""
    from sklearn.neural_network import MLPClassifier

    features, targets = (tensor.numpy() for tensor in table.splits["train"])
    size = table.batch_size or len(targets)
    classifier = MLPClassifier(tuple(network["hidden"]), batch_size=size)
    classifier.partial_fit(features[:size], targets[:size], classes=[0, 1])
    start = time.perf_counter()
    order = np.random.default_rng(0).permutation(len(targets))[: steps * size]
    for rows in batches(order, size):
        classifier.partial_fit(features[rows], targets[rows])
    return len(order) / (time.perf_counter() - start)


def skorch(table: TabularData, network: ComponentConfig, steps: int) -> float:
    """Rows per second of skorch, as its documentation starts."""
    from skorch import NeuralNetClassifier

    rows = slice(0, steps * (table.batch_size or steps))
    features, targets = (tensor[rows].numpy() for tensor in table.splits["train"])
    classifier = NeuralNetClassifier(
        make_network(table, network),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        max_epochs=1,
        batch_size=table.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).initialize()
    start = time.perf_counter()
    classifier.partial_fit(features, targets)
    return len(targets) / (time.perf_counter() - start)


def batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The order in pieces of `size`."""
    for start in range(0, len(order), size):
        yield order[start : start + size]


OTHERS: dict[str, Callable[[TabularData, ComponentConfig, int], float]] = {
    "plain Lightning, DataLoader": plain_lightning,
    "scikit-learn, partial_fit": scikit_learn,
    "skorch": skorch,
}


def compare(
    count: int, columns: int, network: ComponentConfig, batch_size: int, rounds: int, steps: int
) -> dict[str, Any]:
    """Rows per second of every contender, medians of rounds in which they take turns.

    Args:
        count: Rows of the table, of which four fifths are trained on.
        columns: Its columns.
        network: An MLP, as plain data.
        batch_size: Rows of a step.
        rounds: Number of rounds: an epoch of this project and of the bare loop.
        steps: Steps of the other contenders in a round.
    """
    table = Noise(count, columns, batch_size)
    table.setup()
    rows = len(table.splits["train"][1])
    speeds: dict[str, list[float]] = {"this project": [], "bare loop": []}
    speeds |= {name: [] for name in OTHERS}
    small = Noise(4 * batch_size, columns, batch_size)
    small.setup()
    project_epochs(small, network, 1)  # warm up
    for _ in range(rounds):
        speeds["this project"].append(rows / project_epochs(table, network, 1)[0])
        speeds["bare loop"].append(rows / bare_epochs(table, network, 1)[0])
        for name, contender in OTHERS.items():
            speeds[name].append(contender(table, network, steps))
    ours = speeds["this project"]
    return {
        name: {
            "rows per second": round(median(values)),
            "ratio": round(median(our / value for our, value in zip(ours, values, strict=True)), 2),
        }
        for name, values in speeds.items()
    }
