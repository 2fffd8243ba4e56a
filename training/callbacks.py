"""Callbacks of a fit: the progress bar, and all those of a run of train.py."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from cli.registry import make_object
from training.checkpoints import BestCheckpoint, LastCheckpoint, Patience
from training.pictures.base import Picture
from training.throughput import Throughput


def make_callbacks(
    curve: str,
    patience: int | None,
    members: int,
    pictures: Sequence[Picture],
    added: Sequence[str | Callback],
) -> list[Callback]:
    """Progress bar, pictures drawn during the fit, the user's callbacks, checkpoints, stopping.

    Args:
        curve: The curve that decides about epochs; one of validation rows also about the kept one.
        patience: Epochs without a better value after which the fit stops; None: never.
        members: Networks that train as one: each of several stops at an epoch of its own.
        pictures: All pictures.
        added: The user's callbacks: import paths, or callbacks.

    Raises:
        ValueError: One of those added is not a callback.
    """
    callbacks: list[Callback] = [FitBar()]
    callbacks += [picture for picture in pictures if picture.watches]
    callbacks += [make_object("callback", item, "lightning.pytorch.Callback") for item in added]
    if curve.startswith("val/"):
        callbacks.append(BestCheckpoint(curve))
    if patience is not None and members == 1:
        callbacks.append(Patience(curve, patience))
    callbacks.append(LastCheckpoint())  # last, because it saves the state of the others
    return callbacks


class FitBar(ProgressBar):
    """One bar over all steps of the fit, with the epoch, its losses and the rows per second.

    The rows of a population are those of all its networks. The speed goes to the loggers, too.
    Silent where standard error is not a terminal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bar: tqdm[Any] | None = None
        self.is_disabled: bool | None = None  # for tqdm, None means: unless there is a terminal

    def disable(self) -> None:  # called by Lightning on every process but the first
        self.is_disabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches = int(trainer.num_training_batches)
        self.shown: dict[str, str] = {}
        self.throughput = Throughput()
        self.bar = tqdm(
            total=(trainer.max_epochs or 0) * batches,
            initial=trainer.current_epoch * batches,
            desc="fit",
            unit="step",
            leave=False,
            disable=self.is_disabled,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self.bar is not None
        self.throughput.rows += pl_module.batch_rows(batch) * trainer.world_size
        steps = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
        # A population trains several epochs at a time. Drawn at most ten times a second.
        if self.bar.update(steps - self.bar.n):
            self.show_speed()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.shown = {
            name: f"{value:.4f}"
            for name, value in trainer.callback_metrics.items()
            if name.endswith("/loss")
        }
        self.shown["epoch"] = str(trainer.current_epoch + 1)
        self.show_speed()
        if self.throughput.is_due():
            self.throughput.log(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.throughput.rows and not self.throughput.is_logged:
            self.throughput.log(trainer, pl_module)

    def show_speed(self) -> None:
        """Write the losses and the speed behind the bar, where it is drawn next."""
        assert self.bar is not None
        if not self.bar.disable:
            self.shown["rows/s"] = f"{self.throughput.rows_per_second():,.0f}"
            self.bar.set_postfix(self.shown, refresh=False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()
