"""The folder of a run: made when all arguments are valid, removed when nothing was kept."""

import atexit
import json
import os
import shlex
import shutil
import signal
import textwrap
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from platform import python_version
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import lightning
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from cli.component import as_plain, to_yaml
from cli.errors import first_line
from cli.paths import expand_path
from data.checkpoint_file import read_file
from data.checkpoint_format import run_dir_of
from data.tabular import TabularData
from training.checkpoints import read_resumed
from training.hparams import VALUES, VISUAL

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
# Not 16-true: the 1e-8 that AdamW adds to a divisor is 0 in half precision.
Precision = Literal["64-true", "32-true", "bf16-true", "16-mixed", "bf16-mixed"]
VERSIONS = {
    "python": python_version(),
    "torch": torch.__version__,
    "lightning": lightning.__version__,
}

AFTER_FIT = ".after_fit"  # ends the name of the event file of what is logged after the fit


class Result(Protocol):
    """What a run ends with: figures that result.json holds."""

    def to_json(self) -> dict[str, Any]: ...


class Run:
    """A run's folder and its TensorBoard logger.

    Create it when all arguments are valid. It makes the folder `version_N` in `log_dir`, or opens
    the folder of the checkpoint to resume. As a context manager it turns Ctrl-C into one line that
    says how to resume, and removes a folder that holds neither a checkpoint nor a result.

    Args:
        trainer: The Trainer of the run, which gets the logger.
        log_dir: Folder of all runs.
        resume: Checkpoint of the run to resume, or the run's folder.

    Raises:
        ValueError: The folder cannot be made, or `resume` is not a checkpoint in a run's folder.
    """

    def __init__(self, trainer: Trainer, log_dir: str, resume: str | None = None) -> None:
        self.logger = RunLogger(log_dir, trainer.global_rank, resume)
        self.run_dir = Path(self.logger.log_dir)
        self.last_checkpoint = self.run_dir / "checkpoints" / "last.ckpt"
        self.is_main_process = trainer.is_global_zero
        self.is_resumed = resume is not None
        self.has_result = False
        self.loggers: list[TensorBoardLogger] = [self.logger]
        self.follow(trainer)
        if trainer.world_size > 1:
            atexit.register(leave_process_group)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        words = self.resume_words()
        if self.is_main_process:
            self.close()
            if not (words or self.is_resumed or self.has_result):
                shutil.rmtree(self.run_dir)
        if is_interrupt(error):
            advice = "nothing was kept"
            if words:
                advice = f"resume with: {shlex.join(words)}"
            stage = f"in epoch {self.trainer.current_epoch + 1}"
            if self.trainer.state.fn == TrainerFn.TESTING:
                stage = "in the test"
            raise KeyboardInterrupt(f"stopped {stage}; {advice}") from error

    def resume_words(self) -> list[str]:
        """The words of the command that goes on with this run; empty if nothing was kept."""
        if not self.last_checkpoint.exists():
            return []
        config = str(self.run_dir / "config.yaml")
        return ["python", "train.py", "--config", config, "--resume", str(self.last_checkpoint)]

    def follow(self, trainer: Trainer) -> None:
        """Go on with this Trainer, which gets the logger."""
        self.trainer = trainer
        trainer.logger = self.logger

    def add_logger(self, name: str) -> TensorBoardLogger:
        """Add a logger in a subfolder, which TensorBoard shows as a run of its own."""
        logger = TensorBoardLogger(self.run_dir, "", name)
        self.loggers.append(logger)
        return logger

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.yaml, from which the run can be replayed."""
        (self.run_dir / "config.yaml").write_text(to_yaml(config), "utf-8")

    def write_result(self, result: Result) -> None:
        """Write result.json."""
        text = json.dumps(result.to_json(), indent=2, default=as_plain) + "\n"
        (self.run_dir / "result.json").write_text(text)
        self.has_result = True

    def show_columns(self, datamodule: TabularData, warnings: Sequence[str] = ()) -> None:
        """Print how the table is used, and what makes its scores too good; log it, too."""
        cutter = datamodule.cutter(datamodule.targets)
        about = "\n".join(filter(None, [datamodule.about(), cutter.describe(), *warnings]))
        if about:
            print(about, end="\n\n")
            if not self.is_resumed:
                self.logger.experiment.add_text("columns", textwrap.indent(about, "    "))

    def print_report(self, lines: Iterable[str]) -> None:
        """Print the result, where the run is, and how to see its curves."""
        print(*lines, sep="\n")
        print(f"\nrun      {self.run_dir}")
        print(f"curves   tensorboard --logdir {self.run_dir.parent}")

    def close(self) -> None:
        """Close all event files: a writer's thread would go on in a folder that is gone."""
        for logger in self.loggers:
            logger.experiment.close()


def is_interrupt(error: BaseException | None) -> bool:
    """Whether it is Ctrl-C, which Lightning turns into a SystemExit during a fit or test."""
    if isinstance(error, SystemExit):
        return isinstance(error.__context__, KeyboardInterrupt)
    return isinstance(error, KeyboardInterrupt)


def leave_process_group() -> None:
    """Stop the threads of torch.distributed before Python ends.

    Lightning does so for NCCL only. Gloo's threads would sometimes outlive the interpreter:
    "terminate called without an active exception".
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends.

    TensorBoard's writer is a queue between two threads. Interrupted while it takes a value, it can
    lose count, and closing it would wait for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        raise KeyboardInterrupt


class RunLogger(TensorBoardLogger):
    """TensorBoard's writer in a run's folder: a new `version_N`, or that of a resumed run.

    Args:
        log_dir: Folder of all runs.
        rank: Index of this process.
        resume: Checkpoint of the run to resume, or the run's folder.

    Raises:
        ValueError: The folder cannot be made, or `resume` is not a whole checkpoint.
    """

    def __init__(self, log_dir: str, rank: int, resume: str | None = None) -> None:
        self.rank = rank
        log_dir = expand_path(log_dir)  # as TensorBoardLogger would, in another folder than ours
        version = "unused"  # only process 0 writes; the others ask it for the folder
        purge_step = 0  # TensorBoard takes the second session of a run for a restart, not the first
        if resume is not None:
            run_dir = Path(resume).resolve()
            if not run_dir.is_dir():
                run_dir = run_dir_of(resume)
                # Steps after the checkpoint are logged a second time: TensorBoard drops the first.
                purge_step = checkpoint_step(resume) + 1
            log_dir = os.path.relpath(run_dir.parent)
            version = run_dir.name
            if rank == 0:
                for path in run_dir.glob(f"*{AFTER_FIT}"):
                    path.unlink()
        elif rank == 0:
            try:
                version = new_version(Path(log_dir))
            except OSError as error:
                reason = error.strerror
                message = f"log_dir {log_dir!r} cannot be written: {reason}; give another"
                raise ValueError(message) from error
        super().__init__(log_dir, "", version, default_hp_metric=False, purge_step=purge_step)

    def end_fit(self) -> None:
        """Go on in a second file, which a resumed run replaces: test, result and pictures."""
        self.experiment.close()
        self.experiment.filename_suffix = AFTER_FIT

    def draw_graph(self, network: nn.Module, example: Tensor) -> None:
        """Draw the network into the Graphs tab."""
        try:
            self.experiment.add_graph(network, example)
        except Exception as error:  # a network that cannot be traced can still be trained
            warnings.warn(f"no graph in TensorBoard: {first_line(error)}", stacklevel=2)

    def add_images(self, images: dict[str, Tensor]) -> None:
        """Show samples of what the network sees, images (channels, height, width) by name."""
        for name, image in images.items():
            self.experiment.add_image(f"{VISUAL}/samples/{name}", image)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        # Under its own name, the epoch would come before the learning curves.
        tags = {"epoch": f"{VALUES}/epoch"}
        with uninterrupted():
            super().log_metrics({tags.get(name, name): metrics[name] for name in metrics}, step)

    def save(self) -> None:
        pass  # no hparams.yaml: config.yaml has the settings

    def finalize(self, status: str) -> None:
        if self.rank == 0:
            self.experiment.flush()


def checkpoint_step(path: str) -> int:
    """The optimizer step at which a checkpoint was written.

    Raises:
        ValueError: The fit cannot go on from this file.
    """
    return int(read_resumed(path)["global_step"])


def saved_epoch(path: Path) -> int:
    """The epoch, counted from 1, at whose end a checkpoint was saved."""
    return int(read_file(str(path))["epoch"]) + 1


def new_version(log_dir: Path) -> str:
    """Make the first free folder version_N.

    mkdir is atomic, so two runs that start together get two folders.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    for name in map("version_{}".format, count()):
        try:
            (log_dir / name).mkdir()
        except FileExistsError:
            continue
        return name
    raise AssertionError("count() is endless")


def check_run(
    accelerator: str, max_epochs: int, patience: int | None, resume: str | None = None
) -> None:
    """Refuse arguments that cannot work on this machine.

    Raises:
        ValueError: One of them cannot be used here.
    """
    if max_epochs < 1:
        raise ValueError(f"max_epochs is {max_epochs}; give 1 or more")
    if patience is not None and patience < 1:
        raise ValueError(
            f"patience is {patience}; give 1 or more epochs, or null to train for all epochs"
        )
    has_cuda = torch.cuda.is_available()
    has_mps = accelerator == "gpu" and torch.backends.mps.is_available()
    if accelerator in ("gpu", "cuda") and not (has_cuda or has_mps):
        raise ValueError(
            f"accelerator is {accelerator}, but PyTorch finds no such GPU; give cpu or auto"
        )
    if resume and not (run_dir_of(resume) / "config.yaml").is_file():
        raise ValueError(
            f"resume is {resume!r}, which is not in a run's folder; give its checkpoints/last.ckpt"
        )


def device_name(trainer: Trainer) -> str:
    """Name of the device that a Trainer computes on."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type
