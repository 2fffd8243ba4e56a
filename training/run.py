"""The folder of a run: made when all arguments are valid, removed when nothing was kept."""

import atexit
import errno
import json
import os
import shlex
import shutil
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from platform import python_version
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import lightning
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn

from cli.component import as_plain, to_yaml
from cli.errors import LostProcessError, Speaker
from cli.files import lock_folder, write_whole
from cli.interrupts import EXIT_CODES, catch, restore, stop, uninterrupted
from cli.output import show
from data.checkpoint_file import read_file
from data.checkpoint_format import run_dir_of
from data.tabular import TabularData
from training.agreement import Splits
from training.event_files import EventLogger, RunLogger
from training.processes import Processes, is_lost, late_interrupt
from training.stopping import advice_on, disk_fault, leave_process_group, resume_words

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
# Not 16-true: the 1e-8 that AdamW adds to a divisor is 0 in half precision.
Precision = Literal["64-true", "32-true", "bf16-true", "16-mixed", "bf16-mixed"]
VERSIONS = {
    "python": python_version(),
    "torch": torch.__version__,
    "lightning": lightning.__version__,
}


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
        settings: The run's settings as plain data, which all processes must have.
        splits: The rows of each split as tensors, which all processes must have.

    Raises:
        ValueError: The folder cannot be made, or `resume` is not a checkpoint in a run's folder, or
            another process trains this run.
    """

    unlock: Callable[[], object] = list  # nothing to unlock

    def __init__(
        self,
        trainer: Trainer,
        log_dir: str,
        resume: str | None,
        settings: dict[str, Any],
        splits: Splits,
    ) -> None:
        self.is_main_process = trainer.is_global_zero
        self.is_resumed = resume is not None
        self.has_result = False
        self.processes: Processes | None = None
        if trainer.world_size > 1:
            self.processes = Processes(settings, splits, self.enter, self.end_at_once)
        try:
            with uninterrupted():
                if resume is not None:
                    self.lock(run_dir_of(resume))
                self.logger = RunLogger(log_dir, trainer.global_rank, resume)
                self.loggers: list[EventLogger] = [self.logger]
                self.enter(Path(self.logger.log_dir))
                if resume is None:
                    self.lock(self.run_dir)
                self.follow(trainer)
                if self.processes:
                    self.processes.watch.begin()
                    if self.is_main_process:
                        self.word.touch()
        except KeyboardInterrupt:  # the folder was made
            self.remove_unused()
            raise
        if trainer.world_size > 1:
            atexit.register(leave_process_group)

    def __enter__(self) -> Self:
        self.handlers = catch(stop)
        self.thread_hook = threading.excepthook
        threading.excepthook = self.report_thread
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        interrupt = late_interrupt(error)
        fault = disk_fault(error, self.run_dir)
        if self.processes:
            self.processes.watch.close()
            Speaker.is_this = self.take_word()
        try:
            with uninterrupted():
                words = self.resume_words()
                if self.is_main_process:
                    self.close()
        except OSError as write_error:
            fault = fault or write_error
        self.remove_unused()
        self.unlock()
        threading.excepthook = self.thread_hook
        restore(self.handlers)
        if error is not None and self.processes:
            self.processes.kill_children()
        if interrupt is not None:
            raise type(interrupt)(self.farewell("stopped", words)) from error
        if fault is not None:
            raise OSError(f"{self.run_dir} cannot be written: {advice_on(fault, words)}") from error
        if is_lost(error):
            raise LostProcessError(self.farewell("another process ended", words)) from error

    def enter(self, run_dir: Path) -> None:
        """Take the run's folder for this; the first process tells the others which it is."""
        self.run_dir = run_dir
        self.last_checkpoint = run_dir / "checkpoints" / "last.ckpt"
        self.word = run_dir / "running"

    def take_word(self) -> bool:
        """Whether this is the one of several processes that reports the end.

        It is the first to remove the file "running": the main process, unless that was killed.
        """
        try:
            self.word.unlink()
        except OSError:
            return False
        return True

    def farewell(self, end: str, words: Sequence[str]) -> str:
        """How the run ended, where, and what to do.

        Args:
            end: How.
            words: Words of the command that goes on with the run; none where nothing was kept.
        """
        advice = f"resume with: {shlex.join(words)}" if words else "nothing was kept"
        return f"{end} {self.stage()}; {advice}"

    def end_at_once(self, number: int | None) -> None:
        """End this process while its main thread waits for another one; does not return.

        Args:
            number: The signal that came; None where another process ended.
        """
        assert self.processes is not None
        end = "stopped" if number else "another process ended"
        if self.take_word():
            show(f"error: {self.farewell(end, self.resume_words())}", file=sys.stderr)
        self.remove_unused()
        self.processes.kill_children()
        os._exit(EXIT_CODES.get(number or 0, 1))

    def lock(self, run_dir: Path) -> None:
        """Let no other process write into the folder; the main process does so for all.

        Raises:
            ValueError: Another process does so already.
        """
        if not self.is_main_process:
            return
        try:
            descriptor = lock_folder(run_dir)
        except BlockingIOError as error:
            raise ValueError(
                f"{run_dir} belongs to a run that is not over; wait for it, or stop it"
            ) from error
        self.unlock = weakref.finalize(self, os.close, descriptor)

    def resume_words(self) -> list[str]:
        """The words of the command that goes on with this run; empty if nothing was kept."""
        if not (self.last_checkpoint.exists() and (self.run_dir / "config.yaml").exists()):
            return []
        return resume_words("train.py", self.last_checkpoint)

    def follow(self, trainer: Trainer) -> None:
        """Go on with this Trainer, which gets the logger."""
        self.trainer = trainer
        trainer.logger = self.logger
        if self.processes:
            # Lightning does not declare its list of callbacks.
            trainer.callbacks.insert(0, self.processes)  # type: ignore[attr-defined]

    def add_logger(self, name: str) -> TensorBoardLogger:
        """Add a logger in a subfolder, which TensorBoard shows as a run of its own."""
        logger = EventLogger(self.run_dir, "", name)
        self.loggers.append(logger)
        return logger

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.yaml, from which the run can be replayed."""
        write_whole(self.run_dir / "config.yaml", to_yaml(config).encode())

    def write_result(self, result: Result) -> None:
        """Write result.json.

        Raises:
            OSError: It cannot be written, or the folder was removed meanwhile.
        """
        if not (self.run_dir / "config.yaml").exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.run_dir))
        text = json.dumps(result.to_json(), indent=2, default=as_plain) + "\n"
        write_whole(self.run_dir / "result.json", text.encode())
        self.has_result = True

    def show_columns(
        self, datamodule: TabularData, warnings: Sequence[str], is_logged: bool
    ) -> None:
        """Print how the table is used, and what makes its scores too good.

        Args:
            datamodule: The table.
            warnings: What makes the scores too good.
            is_logged: Whether the run's event file has it already.
        """
        cutter = datamodule.cutter(datamodule.targets)
        about = "\n".join(filter(None, [datamodule.about(), cutter.describe(), *warnings]))
        if about:
            show(*about.split("\n"), "")
            if not is_logged:
                self.logger.experiment.add_text("columns", textwrap.indent(about, "    "))

    def print_report(self, lines: Iterable[str]) -> None:
        """Print the result, where the run is, and how to see its curves."""
        show(*lines, "")
        show(f"run      {self.run_dir}", f"curves   tensorboard --logdir {self.run_dir.parent}")

    def stage(self) -> str:
        """Where the run is, in words."""
        state = self.trainer.state
        if state.fn == TrainerFn.TESTING:
            return "in the test"
        if state.fn is None:
            return "before the fit"
        if state.finished:
            return "after the fit"
        return f"in epoch {self.trainer.current_epoch + 1}"

    def close(self) -> None:
        """Close all event files: a writer's thread would go on in a folder that is gone.

        Raises:
            OSError: One of them is not complete.
        """
        errors = []
        for logger in self.loggers:
            try:
                logger.close()
            except OSError as error:
                errors.append(error)
        for path in self.run_dir.glob("**/events.out.tfevents.*"):
            if not path.stat().st_size:  # the disk was full
                path.unlink()
        if errors:
            raise errors[0]

    def remove_unused(self) -> None:
        """Remove the folder of a run that kept nothing."""
        is_kept = self.is_resumed or self.has_result or self.resume_words()
        if self.is_main_process and not is_kept:
            shutil.rmtree(self.run_dir, ignore_errors=True)

    def report_thread(self, thread: threading.ExceptHookArgs) -> None:
        """Report an error in a thread, but for a writer's, which comes to the main thread too."""
        if not isinstance(thread.exc_value, OSError):
            self.thread_hook(thread)


def saved_epoch(path: Path) -> int:
    """The epoch, counted from 1, at whose end a checkpoint was saved."""
    return int(read_file(str(path))["epoch"]) + 1
