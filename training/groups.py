"""The fits of an evaluation: one group of candidates after the other, each kept on disk.

`python evaluate.py --resume FOLDER` goes on with what is kept, and ends with the same numbers.
"""

import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from cli.arguments import read_file
from cli.component import flatten
from data.checkpoint_file import read_file as read_checkpoint_file
from evaluation.devices import device_name
from evaluation.groups import Group
from model.shares import share_of
from training.checkpoints import LastCheckpoint
from training.curves import CurveBands, add_layout
from training.event_files import has_text
from training.resume import check_components, compare_settings, with_defaults
from training.run import Run
from training.stopping import resume_words

# Settings with which an evaluation may go on otherwise: they say where it computes.
CHANGEABLE = {"accelerator", "devices", "strategy", "num_nodes", "cluster"}
REPORT = "result"  # the text in TensorBoard that is written last


class EvaluationRun(Run):
    """The folder of an evaluation: a new one, or that of an interrupted evaluation."""

    progress = ""  # of fits on a cluster, in words

    def remove_curves(self) -> None:
        """Remove an interrupted evaluation's curves: its checkpoints have them all, to be written.

        This is done before anything is logged.
        """
        for events in self.run_dir.rglob("events.out.tfevents.*"):
            events.unlink()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, FloatingPointError) and self.is_main_process:
            self.remove_kept()  # it would end so again
        super().__exit__(kind, error, traceback)

    def resume_words(self) -> list[str]:
        if not (kept_files(self.run_dir) or self.has_result):
            return []
        return resume_words("evaluate.py", self.run_dir)

    def stage(self) -> str:
        return self.progress or super().stage()

    def finish(self, lines: Sequence[str]) -> None:
        """Log the report, when all else is written: from here on nothing is left to resume.

        Raises:
            OSError: An event file is not complete.
        """
        for logger in self.loggers:
            logger.experiment.flush()
        self.logger.experiment.add_text(REPORT, textwrap.indent("\n".join(lines), "    "))
        self.logger.experiment.flush()
        self.remove_kept()

    def remove_kept(self) -> None:
        """Remove the checkpoints of the fits: there is nothing left to resume."""
        for file in kept_files(self.run_dir):
            file.unlink()
        folder = self.run_dir / "checkpoints"
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


class GroupCheckpoint(LastCheckpoint):
    """Writes the checkpoint of a group's fit: as often as last.ckpt, but for the first seconds.

    A large population takes long to write: it is written so rarely that a twentieth of the time
    goes into it.

    Args:
        index: Index of the group.
        started: When the first group began, by time.monotonic().
    """

    share = 0.05  # of the time, at most

    def __init__(self, index: int, started: float) -> None:
        super().__init__()
        self.index = index
        self.started = started

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.path = kept_file(self.path.parent.parent, self.index)
        self.written = self.started

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        begin = time.monotonic()
        super().on_train_epoch_end(trainer, pl_module)
        self.seconds = max(self.seconds, (time.monotonic() - begin) / self.share)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_due = time.monotonic() - self.started > LastCheckpoint.seconds
        if trainer.strategy.broadcast(is_due):
            super().on_train_end(trainer, pl_module)


def kept_file(run_dir: Path, index: int) -> Path:
    """The checkpoint of a group's fit."""
    return run_dir / "checkpoints" / f"group_{index + 1}.ckpt"


def kept_files(run_dir: Path) -> list[Path]:
    """The checkpoints of the fits that are there."""
    return list(run_dir.glob("checkpoints/group_*.ckpt"))


def kept_stack(run_dir: Path, index: int, epoch: int, stack: int) -> Path:
    """What is kept of a stack of a group, trained on a cluster until an epoch, from 1."""
    return run_dir / "checkpoints" / f"group_{index + 1}_epoch_{epoch}_stack_{stack + 1}.ckpt"


def kept_stacks(run_dir: Path, index: int) -> list[Path]:
    """What is kept of the stacks of a group."""
    return list(run_dir.glob(f"checkpoints/group_{index + 1}_epoch_*.ckpt"))


def check_settings(resume: str, config: dict[str, Any]) -> None:
    """Refuse to resume what is no evaluation, is finished, or had other settings.

    Args:
        resume: Folder of the evaluation.
        config: The settings with which it is to go on, as plain data.

    Raises:
        ValueError: It cannot be resumed; with the settings that differ.
    """
    run_dir = Path(resume)
    if not (run_dir / "config.yaml").is_file():
        raise ValueError(
            f"resume is {resume!r}, which is no run's folder; give one such as "
            "lightning_logs/version_0"
        )
    settings = read_file(str(run_dir / "config.yaml"))
    if "folds" not in settings:
        raise ValueError(f"resume is {resume!r}, which is no folder of evaluate.py")
    compare_settings(flatten(config), with_defaults(settings), CHANGEABLE)
    if is_finished(run_dir, config["save"]):
        raise ValueError(
            f"resume is {resume!r}, which is finished; nothing is missing, and its result is in "
            "result.json"
        )


def is_finished(run_dir: Path, save: bool) -> bool:
    """Whether an evaluation has all that it ends with, and nothing that it goes on from.

    Args:
        run_dir: Its folder.
        save: Whether it saves the networks.
    """
    is_saved = (run_dir / "checkpoints" / "population.ckpt").is_file() or not save
    has_result = (run_dir / "result.json").is_file()
    return is_saved and has_result and not kept_files(run_dir) and has_text(run_dir, REPORT)


def find_kept(resume: str | None, groups: Sequence[Group]) -> None:
    """Find the checkpoint with which each group's fit goes on.

    Args:
        resume: Folder of the evaluation; None for a new one.
        groups: The groups, with their populations.

    Raises:
        ValueError: A checkpoint is damaged, or that of other networks or rows, or the evaluation
            was begun on a cluster.
    """
    if resume is None:
        return
    if kept_stacks(Path(resume), 0):
        raise ValueError(f"{resume} was begun on a cluster; give --cluster ray")
    for index, group in enumerate(groups):
        file = kept_file(Path(resume), index)
        if not file.is_file():
            continue
        content = read_checkpoint_file(str(file))
        population = group.population
        trainer = group.trainer
        try:
            check_components(population, content["hyper_parameters"])
            share_of(content, population.fingerprint, trainer.global_rank, trainer.world_size)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file} cannot be resumed: {error}") from error
        group.checkpoint = str(file)


def fit_groups(
    run: Run, groups: Sequence[Group], loggers: Sequence[TensorBoardLogger], seed: int, save: bool
) -> str:
    """Fit each group's population; return the name of the device that trained.

    Args:
        run: The run.
        groups: The groups, with their populations.
        loggers: A logger for each candidate's curves; empty for no curves.
        seed: The seed of each fit.
        save: Whether the weights are asked for.
    """
    started = time.monotonic()
    for index, group in enumerate(groups):
        run.follow(group.trainer)
        seed_everything(seed, verbose=False)
        own_loggers = group.select(loggers)
        # Lightning's Trainer does not declare its list of callbacks.
        group.trainer.callbacks += [  # type: ignore[attr-defined]
            CurveBands(own_loggers),
            GroupCheckpoint(index, started),
        ]
        group.trainer.fit(group.population, ckpt_path=group.checkpoint, weights_only=True)
        add_layout(own_loggers, group.population.curves)
        if save:
            group.weights = group.population.weights()
    return device_name(groups[-1].trainer)
