"""What a picture sees of a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from cli.component import flatten
from data.encoder import Encoder
from training.hparams import VISUAL
from training.pictures.figures import one_line, render

if TYPE_CHECKING:  # matplotlib takes long to import: only when something is drawn
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

MAX_LEGEND = 10  # with more classes there is no legend, and a confusion matrix has no numbers
MAX_ROWS = 1000  # rows of an embedding, and of one pass through the network
MAX_TAGS = 50
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Sample:
    """Evenly spaced rows of all splits: features, targets, and the name of each row's split."""

    features: Tensor
    targets: Tensor
    split_names: list[str]


@dataclass(frozen=True)
class View:
    """What a picture sees of a run.

    Shapes: features (rows, num_features) are standardized, logits (rows, num_classes), targets
    (rows,) class indices.

    Args:
        forward: Features to logits, all rows at once; gradients can flow through it.
        loss: Features and targets to the training loss.
        network: The network, in evaluation mode.
        splits: Features and targets of train, val (if there are validation rows), and of test once
            the run is tested.
        class_names: A name for each class.
        feature_names: A name for each feature.
        column_names: A name for each column of the table.
        encoder: Turned the table's columns into features.
        settings: The run's settings by name.
        metrics: The latest metrics by name.
        writer: TensorBoard's writer.
        step: Training step of the network.
    """

    forward: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    network: nn.Module
    splits: dict[str, tuple[Tensor, Tensor]]
    class_names: list[str]
    feature_names: list[str]
    column_names: list[str]
    encoder: Encoder
    settings: dict[str, Any]
    metrics: dict[str, float]
    writer: "SummaryWriter"
    step: int

    @property
    def is_tested(self) -> bool:
        """Whether the run was tested, so that pictures may show test rows."""
        return "test" in self.splits

    @property
    def split(self) -> str:
        """The split to assess the network on: test, else val, else train."""
        return next(split for split in ("test", "val", "train") if split in self.splits)

    @property
    def title(self) -> str:
        """Number and split of the assessed rows."""
        _, targets = self.splits[self.split]
        return f"{len(targets):,} {SPLIT_NAMES[self.split]} rows"

    def predict(self, features: Tensor) -> Tensor:
        """Features to logits on the CPU, without gradients, some rows at a time."""
        with torch.inference_mode():
            batches = [self.forward(batch).float().cpu() for batch in features.split(MAX_ROWS)]
        return torch.cat(batches)

    def probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (rows, num_classes) and targets (rows,) of the assessed split."""
        features, targets = self.splits[self.split]
        return self.predict(features).double().softmax(1).numpy(), targets.cpu().numpy()

    def sample(self, size: int) -> Sample:
        """About `size` rows, from every split in proportion to its rows."""
        total = sum(len(targets) for _, targets in self.splits.values())
        features = []
        targets = []
        split_names: list[str] = []
        for split, (split_features, split_targets) in self.splits.items():
            rows = len(split_targets)
            indices = evenly_spaced(rows, math.ceil(size * rows / total))
            features.append(split_features[indices].cpu())
            targets.append(split_targets[indices].cpu())
            split_names += [SPLIT_NAMES[split]] * len(indices)
        return Sample(torch.cat(features), torch.cat(targets), split_names)

    def record_layers(
        self, kind: type[nn.Module], features: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Input and output of each innermost module of a kind, in the order in which they run."""
        layers: dict[str, tuple[Tensor, Tensor]] = {}

        def keep(name: str, _: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            layers.pop(name, None)  # a module that runs twice keeps the position of its last run
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                layers[name] = (inputs[0].float().cpu(), output.float().cpu())

        hooks = []
        for name, module in self.network.named_modules():
            is_innermost = not list(module.children())
            if isinstance(module, kind) and is_innermost:
                hook = partial(keep, name or "network")
                hooks.append(module.register_forward_hook(hook))
        try:
            with torch.inference_mode():
                self.forward(features)
        finally:
            for handle in hooks:
                handle.remove()
        return layers

    def show(self, tag: str, figure: "Figure", step: int | None = None) -> None:
        """Draw a figure into the Images tab."""
        if step is None:
            step = self.step
        self.writer.add_image(f"{VISUAL}/{tag}", render(figure), step, dataformats="HWC")


def view_of(trainer: Trainer, module: LightningModule, is_tested: bool) -> View:
    """The view of a run.

    The LightningModule maps features to logits; Histograms also call its `loss`. The datamodule has
    `splits`, `class_names` and `feature_names`; Regions also need its `encoder`.

    Args:
        trainer: The Trainer, with a TensorBoardLogger.
        module: Its LightningModule.
        is_tested: Whether pictures may show test rows.

    Raises:
        ValueError: There is no TensorBoardLogger, or no process has all weights.
    """
    check_strategy(trainer)
    precision = trainer.precision_plugin
    # Lightning's Trainer does not declare its datamodule.
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    encoder: Any = getattr(datamodule, "encoder", None)

    def forward(features: Tensor) -> Tensor:
        with precision.forward_context():
            logits: Tensor = module(precision.convert_input(features).to(module.device))
        return logits

    def loss(features: Tensor, targets: Tensor) -> Tensor:
        criterion: Any = module.loss
        with precision.forward_context():
            value: Tensor = criterion(forward(features), targets.to(module.device))
        return value

    return View(
        forward=forward,
        loss=loss,
        network=getattr(module, "network", module),
        splits={
            split: rows for split, rows in datamodule.splits.items() if is_tested or split != "test"
        },
        class_names=[one_line(name) for name in datamodule.class_names],
        feature_names=[one_line(name) for name in datamodule.feature_names],
        column_names=getattr(datamodule, "column_names", datamodule.feature_names),
        encoder=encoder,
        settings=settings_of(trainer, module),
        metrics={name: float(value) for name, value in trainer.callback_metrics.items()},
        writer=writer_of(trainer),
        step=trainer.global_step,
    )


def check_strategy(trainer: Trainer) -> None:
    """Refuse a strategy that shards the weights."""
    if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        strategy = type(trainer.strategy).__name__
        raise ValueError(f"under {strategy} no process has all weights; use ddp")


def writer_of(trainer: Trainer) -> "SummaryWriter":
    """The writer of the run's TensorBoardLogger."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            writer: SummaryWriter = logger.experiment
            return writer
    raise ValueError("the run has no TensorBoardLogger; give the Trainer one")


def settings_of(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """The run's settings: those of the module, the datamodule and the Trainer."""
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    settings = flatten(dict(module.hparams))
    settings["data"] = type(datamodule).__name__
    for name, value in getattr(datamodule, "hparams", {}).items():
        settings[f"data.{name}"] = value
    settings["max_epochs"] = trainer.max_epochs
    settings["precision"] = trainer.precision
    settings["seed"] = torch.initial_seed()
    return settings


def evenly_spaced(count: int, size: int) -> list[int]:
    """Indices from 0 to count - 1: all, or `size` evenly spaced ones that include the last.

    >>> evenly_spaced(3, 5), evenly_spaced(10, 3), evenly_spaced(10, 1)
    ([0, 1, 2], [0, 5, 9], [9])
    """
    if count <= size:
        return list(range(count))
    last = count - 1
    steps = max(1, size - 1)
    return sorted({last - i * last // steps for i in range(size)})
