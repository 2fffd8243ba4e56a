"""What surrounds a fit: its folder, its progress bar, its last checkpoint."""

import os
import time
import warnings
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from pickle import UnpicklingError
from platform import python_version
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from tqdm import tqdm

from model.spec import flatten

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
Precision = Literal["64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"]
VERSIONS = {"python": python_version(), "torch": torch.__version__, "lightning": lightning.__version__}
MACHINE = {"accelerator", "devices", "strategy", "num_nodes", "log_dir", "pictures"}  # no setting of what is learned


class RunLogger(TensorBoardLogger):
    """TensorBoard's writer in a run's folder: a new `version_N`, or the folder of the checkpoint that goes on.

    Raises:
        ValueError: The folder cannot be made, or there is no run around the checkpoint.
    """

    def __init__(self, log_dir: str, rank: int, resume: str | None = None) -> None:
        self.rank = rank  # only process 0 writes; the others ask it for the folder (`Trainer.log_dir`)
        version, purge_step = "of process 0", None
        if resume is not None:
            folder = Path(resume).absolute().parents[1]
            log_dir, version = os.path.relpath(folder.parent), folder.name
            # What was logged after the checkpoint is logged again: TensorBoard drops the first of the two.
            try:
                purge_step = torch.load(resume, weights_only=True)["global_step"] + 1
            except (RuntimeError, UnpicklingError, EOFError, KeyError, OSError) as error:
                raise ValueError(
                    f"resume is {resume!r}, which is no whole checkpoint; give a run's last.ckpt"
                ) from error
        elif rank == 0:
            try:
                version = new_version(Path(log_dir))
            except OSError as error:
                raise ValueError(f"log_dir {log_dir!r} cannot be written: {error.strerror}; give another") from error
        super().__init__(log_dir, "", version, default_hp_metric=False, purge_step=purge_step)

    def draw_graph(self, network: nn.Module, example: Tensor) -> None:
        """Draw the network into the Graphs tab."""
        try:
            self.experiment.add_graph(network, example)
        except Exception as error:  # whatever cannot be traced can still be trained
            warnings.warn(f"no graph in TensorBoard: {str(error).splitlines()[0]}", stacklevel=2)

    def save(self) -> None:
        pass  # no hparams.yaml: config.yaml says it, and replays

    def finalize(self, status: str) -> None:
        if self.rank == 0:
            self.experiment.flush()  # closing it after the fit would start another event file for the test


def check_run(accelerator: str, max_epochs: int, patience: int | None) -> None:
    """Refuse what no run can be made of.

    Raises:
        ValueError: One of them cannot be used here.
    """
    if max_epochs < 1:
        raise ValueError(f"max_epochs is {max_epochs}; give 1 or more")
    if patience is not None and patience < 1:
        raise ValueError(f"patience is {patience}; give 1 or more epochs, or null to go to the end")
    has_gpu = torch.cuda.is_available() or (accelerator == "gpu" and torch.backends.mps.is_available())
    if accelerator in ("gpu", "cuda") and not has_gpu:
        raise ValueError(f"accelerator is {accelerator}, but PyTorch finds no such GPU; give cpu or auto")


def device_name(run: Trainer) -> str:
    """What a run computes on."""
    device = run.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """What the HParams tab shows of a run's settings."""
    return {key: value for key, value in flatten(config).items() if key not in MACHINE and value is not None}


def new_version(log_dir: Path) -> str:
    """Make the first free folder version_N. Of two runs that start together each gets its own: mkdir is atomic."""
    log_dir.mkdir(parents=True, exist_ok=True)
    for name in map("version_{}".format, count()):
        try:
            (log_dir / name).mkdir()
        except FileExistsError:
            continue
        return name
    raise AssertionError("count() has no end")


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
        self.bar = tqdm(total=total, initial=done, desc="fit", unit="step", leave=False, disable=self.off)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert self.bar is not None
        self.bar.update()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.bar is not None
        metrics = {name: f"{value:.4f}" for name, value in trainer.callback_metrics.items() if name.endswith("/loss")}
        self.bar.set_postfix(metrics | {"epoch": str(trainer.current_epoch + 1)}, refresh=False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()


class Bands(Callback):
    """Writes the learning curves of a population, of each setting's members mean and band, as they grow.

    Between several processes only at the end, when each knows its own members' curves.
    """

    quantiles, seconds = (0.05, 0.95), 2.0

    def __init__(self, loggers: Sequence[TensorBoardLogger]) -> None:
        self.loggers, self.epochs, self.written = loggers, 0, time.monotonic()  # a logger for each setting

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        # Lightning calls this before the population's own: at the end of the first epoch there are no curves.
        if trainer.world_size == 1 and pl_module.curves and time.monotonic() - self.written > self.seconds:
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
                        points = {f"{tag}/mean": known.mean(), f"{tag}/low": low, f"{tag}/high": high}
                        logger.log_metrics(points, step=epoch)
        self.epochs, self.written = len(parts[0][1]["train/loss"]), time.monotonic()


def gathered(item: Any) -> list[Any]:
    """The item of every process."""
    if not torch.distributed.is_initialized():
        return [item]
    items = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(items, item)
    return items


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt after the first epoch, every two seconds and after the last epoch.

    Only between two epochs: the order of rows is a function of the epoch, so a run that goes on from there gets the
    weights that it would have got. Not after every epoch: writing takes 8 ms, as long as a small table's epoch.
    """

    seconds = 2.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.path, self.written = Path(str(trainer.log_dir), "checkpoints", "last.ckpt"), float("-inf")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = time.monotonic() - self.written > self.seconds
        due = trainer.strategy.broadcast(due)  # one answer for all processes
        if due:
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)  # written beside it, then renamed: never half a checkpoint
        self.written = time.monotonic()
