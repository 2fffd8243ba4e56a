"""A run's checkpoints: last.ckpt, from which it goes on, and best.ckpt, its best epoch.

Every save and load of the Trainer goes through data/checkpoint_file.py: files are written whole,
and read with all checks.
"""

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn

from data.checkpoint_file import read_file, write_file
from data.streaming.batches import StreamBatches
from model.scores import best_mode
from model.shares import gathered

# What a fit needs to go on; Lightning writes it.
RESUMED = frozenset({"epoch", "global_step", "state_dict", "loops", "callbacks"}) | {
    "optimizer_states",
    "lr_schedulers",
}


def read_resumed(path: str) -> dict[str, Any]:
    """Read a checkpoint that a fit can go on from, and the best epoch beside it.

    Raises:
        ValueError: One of them is missing, damaged or of another kind; nothing was changed.
    """
    content = read_file(path)
    if not isinstance(content, dict) or not content.keys() >= RESUMED:
        raise ValueError(f"{path} is no checkpoint of a fit to go on with; give a run's last.ckpt")
    for key in content["callbacks"]:
        if key.startswith("ModelCheckpoint{"):
            best_score(Path(path).with_name("best.ckpt"), key)
    return content


class CheckedFiles(TorchCheckpointIO):
    """Lightning's access to checkpoint files: written whole, read with all checks."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        write_file(Path(path), checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        content: dict[str, Any] = read_file(str(path))
        return content


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt after the first epoch, then every two seconds, and when the fit is over.

    Saved between epochs: the order of the rows depends on the epoch alone. A stream, whose epochs
    can be long, is saved within them too, after a whole step of the optimizer. The checkpoint also
    holds the state of all random numbers (dropout, augmentation), so a resumed run ends with the
    weights of an uninterrupted one. As a `Checkpoint`, it runs after the metrics were checked, and
    Lightning adds no ModelCheckpoint.
    """

    seconds = 2.0
    seconds_within = 30.0  # between two checkpoints of a stream's epoch
    steps_between = 16  # steps after which the processes agree on whether to save

    def __init__(self) -> None:
        self.is_saving = False
        self.state: dict[str, Any] = {}  # of the resumed checkpoint

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # else the strategy's own
            trainer.strategy.checkpoint_io = CheckedFiles()
        self.path = Path(str(trainer.log_dir), "checkpoints", "last.ckpt")
        self.written = float("-inf")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = self.state.get("metrics", {})
        trainer.callback_metrics.update({name: torch.tensor(metrics[name]) for name in metrics})
        if "position" in self.state:
            # Lightning would, had not the number of steps been asked for before it loads the state.
            batches: Any = trainer.train_dataloader
            batches.load_state_dict(self.state["position"])
        if self.state.get("is_epoch_end"):  # Lightning steps ReduceLROnPlateau after the callbacks
            loop = trainer.fit_loop.epoch_loop
            loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if isinstance(trainer.train_dataloader, StreamBatches) and may_save(trainer, batch_idx + 1):
            is_due = time.monotonic() - self.written > self.seconds_within
            if trainer.world_size > 1 and (batch_idx + 1) % self.steps_between:
                is_due = False
            elif trainer.world_size > 1:
                is_due = trainer.strategy.broadcast(is_due)
            if is_due:
                self.save(trainer, is_epoch_end=False, is_within=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_due = time.monotonic() - self.written > self.seconds
        is_due = trainer.strategy.broadcast(is_due)  # all processes save together
        # The end of the fit has a checkpoint of its own, after every callback's on_train_end.
        if is_due and not ends_here(trainer):
            self.save(trainer, is_epoch_end=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer, is_epoch_end=False)

    def save(self, trainer: Trainer, is_epoch_end: bool, is_within: bool = False) -> None:
        """Write the checkpoint, after all that was logged before it."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                logger.experiment.flush()
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.state = {
            "is_epoch_end": is_epoch_end,
            "should_stop": trainer.should_stop,
            "metrics": metrics,
            "random_states": gathered(random_state(trainer.strategy.root_device)),
        }
        if is_within:
            module: Any = trainer.lightning_module
            self.state["epoch_states"] = gathered(module.epoch_state())
            batches: Any = trainer.train_dataloader
            self.state["position"] = batches.state_dict()
        self.is_saving = True
        trainer.save_checkpoint(self.path)
        self.is_saving = False
        self.written = time.monotonic()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.is_saving:  # others, such as best.ckpt, do without
            checkpoint["resume"] = self.state

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:  # the test loads a checkpoint, too
            return
        self.state = checkpoint.get("resume", {})
        trainer.should_stop = self.state.get("should_stop", False)
        states = self.state.get("random_states", [])
        if trainer.global_rank < len(states):
            set_random_state(states[trainer.global_rank], trainer.strategy.root_device)
        if "epoch_states" in self.state:
            module: Any = pl_module
            module.resume_epoch(self.state["epoch_states"][trainer.global_rank])


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best epoch in best.ckpt.

    A resumed run reads the score to beat from that file, wherever its folder lies now. Lightning
    would forget it when the path is another one. The file can be of a later epoch than last.ckpt:
    it was written after it, and the epochs that are trained again lead to the same one.

    Args:
        curve: The curve that says which epoch is best.
    """

    def __init__(self, curve: str) -> None:
        super().__init__(
            monitor=curve, mode=best_mode(curve), filename="best", enable_version_counter=False
        )

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__name__, "ModelCheckpoint", 1)

    def state_dict(self) -> dict[str, Any]:
        return {"best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        path = self.format_checkpoint_name({})
        self.best_model_score = best_score(Path(path), self.state_key)
        self.best_k_models = {path: self.best_model_score}
        self.best_model_path = path
        self.kth_best_model_path = path
        self.kth_value = self.best_model_score


def best_score(path: Path, key: str) -> torch.Tensor:
    """The score of the epoch in best.ckpt, which its BestCheckpoint's state of this key holds.

    Raises:
        ValueError: The file is missing, damaged or another program's.
    """
    content = read_file(str(path))
    try:
        score = content["callbacks"][key]["best_model_score"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the best epoch of the run to resume") from error
    if not isinstance(score, torch.Tensor):
        raise ValueError(f"{path} is not the best epoch of the run to resume")
    return score


class Patience(EarlyStopping):
    """Stops the fit after some epochs without a better value; a resumed run may be more patient.

    Args:
        curve: The curve of the values.
        patience: Number of epochs.
    """

    def __init__(self, curve: str, patience: int) -> None:
        super().__init__(curve, mode=best_mode(curve), patience=patience)

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__name__, "EarlyStopping", 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        was_impatient = self.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED
        if was_impatient and self.wait_count < self.patience:
            trainer.should_stop = False


def may_save(trainer: Trainer, steps: int) -> bool:
    """Whether a resumed epoch could go on after so many of its batches, with nothing half-done."""
    is_validated = steps % (trainer.val_check_batch or 1) == 0
    is_stepped = steps % trainer.accumulate_grad_batches == 0
    return is_stepped and not (is_validated or trainer.is_last_batch)


def ends_here(trainer: Trainer) -> bool:
    """Whether the fit ends with the current epoch."""
    epoch = trainer.current_epoch + 1
    step = trainer.global_step
    if epoch == trainer.max_epochs or step == trainer.max_steps:
        return True
    may_stop = epoch >= (trainer.min_epochs or 0) and step >= (trainer.min_steps or 0)
    return trainer.should_stop and may_stop


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of all random numbers of this process, as plain data.

    >>> state = random_state(torch.device("cpu"))
    >>> drawn = torch.rand(1)
    >>> set_random_state(state, torch.device("cpu"))
    >>> bool(torch.rand(1) == drawn)
    True
    """
    numpy_state: Any = np.random.get_state()
    name, keys, *position = numpy_state
    state = {
        "torch": torch.get_rng_state(),
        "numpy": (name, keys.tolist(), *position),
        "python": random.getstate(),
    }
    generators = torch.get_device_module(device)
    if device.type != "cpu" and hasattr(generators, "get_rng_state"):
        state["device"] = generators.get_rng_state()
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Set all random numbers of this process to a state that `random_state` returned."""
    name, keys, *position = state["numpy"]
    torch.set_rng_state(state["torch"])
    np.random.set_state((name, keys, *position))
    random.setstate(state["python"])
    if "device" in state and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device"])
