"""What surrounds a fit: its folder, its progress bar, its last checkpoint."""

import os
import warnings
from itertools import count
from pathlib import Path
from pickle import UnpicklingError
from platform import python_version
from typing import Literal

import lightning
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
Precision = Literal["64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"]
VERSIONS = {
    "python": python_version(),
    "torch": torch.__version__,
    "lightning": lightning.__version__,
}


class RunLogger(TensorBoardLogger):
    """TensorBoard's writer in a run's folder: a new `version_N`, or the folder of the checkpoint that goes on.

    Raises:
        ValueError: The folder cannot be made, or there is no run around the checkpoint.
    """

    def __init__(self, log_dir: str, rank: int, resume: str | None = None) -> None:
        self.rank = (
            rank  # only process 0 writes; the others ask it for the folder (`Trainer.log_dir`)
        )
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
                raise ValueError(
                    f"log_dir {log_dir!r} cannot be written: {error.strerror}; give another"
                ) from error
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
    has_gpu = torch.cuda.is_available() or (
        accelerator == "gpu" and torch.backends.mps.is_available()
    )
    if accelerator in ("gpu", "cuda") and not has_gpu:
        raise ValueError(
            f"accelerator is {accelerator}, but PyTorch finds no such GPU; give cpu or auto"
        )


def device_name(run: Trainer) -> str:
    """What a run computes on."""
    device = run.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


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
