"""Callbacks of a fit: progress bar, curves of a population, last checkpoint."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from tqdm import tqdm

from model.population import gathered


class FitBar(ProgressBar):
    """One bar over all steps of the fit, with the epoch and its losses; silent where standard error is no terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.bar: tqdm[Any] | None = None
        self.off: bool | None = None  # tqdm's word for: wherever there is no terminal

    def disable(self) -> None:  # Lightning's call on every process but the first
        self.off = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches = int(trainer.num_training_batches)
        total, done = (trainer.max_epochs or 0) * batches, trainer.current_epoch * batches
        self.bar = tqdm(
            total=total, initial=done, desc="fit", unit="step", leave=False, disable=self.off
        )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert self.bar is not None
        self.bar.update()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.bar is not None
        metrics = {
            name: f"{value:.4f}"
            for name, value in trainer.callback_metrics.items()
            if name.endswith("/loss")
        }
        self.bar.set_postfix(metrics | {"epoch": str(trainer.current_epoch + 1)}, refresh=False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()


class CurveBands(Callback):
    """Writes the learning curves of a population, of each setting's members mean and band, as they grow.

    Between several processes only at the end, when each knows its own members' curves.
    """

    quantiles, seconds = (0.05, 0.95), 2.0

    def __init__(self, loggers: Sequence[TensorBoardLogger]) -> None:
        self.loggers, self.epochs, self.written = (
            loggers,
            0,
            time.monotonic(),
        )  # a logger for each setting

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        # Lightning calls this before the population's own: at the end of the first epoch there are no curves.
        if (
            trainer.world_size == 1
            and pl_module.curves
            and time.monotonic() - self.written > self.seconds
        ):
            self.write([pl_module.learning_curves()])

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.write(gathered(pl_module.learning_curves()))

    def write(self, parts: list[tuple[np.ndarray, dict[str, np.ndarray]]]) -> None:
        """Write the epochs that are new, of members whose settings and curves the parts have."""
        member_settings = np.concatenate([settings for settings, _ in parts])
        for tag in parts[0][1]:
            curves = np.concatenate([curves[tag][self.epochs :] for _, curves in parts], 1)
            curves = np.where(np.isfinite(curves), curves, np.nan)
            for setting, logger in enumerate(self.loggers):
                own = curves[:, member_settings == setting]
                for epoch, values in enumerate(own, self.epochs + 1):
                    known = values[~np.isnan(values)]  # without those that stopped or failed
                    if len(known):
                        low, high = np.quantile(known, self.quantiles)
                        points = {
                            f"{tag}/mean": known.mean(),
                            f"{tag}/low": low,
                            f"{tag}/high": high,
                        }
                        logger.log_metrics(points, step=epoch)
        self.epochs, self.written = len(parts[0][1]["train/loss"]), time.monotonic()
