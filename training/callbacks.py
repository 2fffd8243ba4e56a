"""Callbacks of a fit: the progress bar, and the curves of a population."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm


class FitBar(ProgressBar):
    """One bar over all steps of the fit, with the epoch and its losses.

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
        self.bar = tqdm(
            total=(trainer.max_epochs or 0) * batches,
            initial=trainer.current_epoch * batches,
            desc="fit",
            unit="step",
            leave=False,
            disable=self.is_disabled,
        )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert self.bar is not None
        self.bar.update()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.bar is not None
        shown = {
            name: f"{value:.4f}"
            for name, value in trainer.callback_metrics.items()
            if name.endswith("/loss")
        }
        shown["epoch"] = str(trainer.current_epoch + 1)
        self.bar.set_postfix(shown, refresh=False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()
