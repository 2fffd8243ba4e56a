"""The learning curves of a population in TensorBoard: mean and band over its members."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from cli.interrupts import uninterrupted
from model.shares import gathered
from training.hparams import VALUES

# Candidate index of each member (members,), and each metric's curve (epochs, members).
Curves = tuple[np.ndarray, dict[str, np.ndarray]]


class CurveBands(Callback):
    """Writes a population's learning curves as they grow: mean and band over the members.

    Each candidate has curves of its own.

    With several processes they are written at the end, because each process knows only the curves
    of its own members.

    Args:
        loggers: A logger for each candidate.
    """

    quantiles = (0.05, 0.95)
    seconds = 2.0  # between two writes

    def __init__(self, loggers: Sequence[TensorBoardLogger]) -> None:
        self.loggers = loggers
        self.epochs = 0  # already written
        self.written = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        # Lightning calls this before the population's own hook: after the first epoch there are no
        # curves yet.
        is_due = time.monotonic() - self.written > self.seconds
        if trainer.world_size == 1 and pl_module.curves and is_due:
            self.write([pl_module.learning_curves()])

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        # Not on_train_end, which a fit that is resumed and was over does not have.
        self.write(gathered(pl_module.learning_curves()))

    def write(self, shares: list[Curves]) -> None:
        """Write the epochs since the last write, from the curves of every process."""
        with uninterrupted():
            self.write_new_epochs(shares)
        self.written = time.monotonic()

    def write_new_epochs(self, shares: list[Curves]) -> None:
        candidates = np.concatenate([candidates for candidates, _ in shares])
        metrics = list(shares[0][1])
        for tag in metrics:
            values = np.concatenate([curves[tag][self.epochs :] for _, curves in shares], axis=1)
            for candidate, logger in enumerate(self.loggers):
                self.write_band(logger, tag, values[:, candidates == candidate])
        self.epochs = len(shares[0][1]["train/loss"])

    def write_band(self, logger: TensorBoardLogger, tag: str, values: np.ndarray) -> None:
        """Write mean and quantiles over the members, values (new epochs, members)."""
        for epoch, members in enumerate(values, self.epochs + 1):
            finite = members[np.isfinite(members)]  # without those that stopped or failed
            if len(finite):
                low, high = np.quantile(finite, self.quantiles)
                points = [float(finite.mean()), float(low), float(high)]
                logger.log_metrics(dict(zip(band_tags(tag), points, strict=True)), step=epoch)


def add_layout(loggers: Iterable[TensorBoardLogger], metrics: Iterable[str]) -> None:
    """Lay out TensorBoard's Custom Scalars tab, after a fit."""
    for logger in loggers:
        logger.experiment.add_custom_scalars(band_layout(metrics))


def band_tags(metric: str) -> list[str]:
    """The tags of a metric's mean, low and high quantile."""
    quantiles = f"{VALUES}/quantiles/{metric}"
    return [f"{metric}/mean", f"{quantiles}/low", f"{quantiles}/high"]


def band_layout(metrics: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The layout of the Custom Scalars tab: the mean of each metric, within its band.

    >>> band_layout(["train/loss"])["train"]["loss"][1][0]
    'train/loss/mean'
    """
    layout: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        split, name = metric.split("/")
        layout.setdefault(split, {})[name] = ["Margin", band_tags(metric)]
    return layout
