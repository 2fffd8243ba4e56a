"""TensorBoard's event files in the folder of a run."""

import os
import warnings
from collections import Counter
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from cli.errors import first_line
from cli.interrupts import uninterrupted
from cli.paths import expand_path
from data.checkpoint_format import run_dir_of
from training.checkpoints import read_resumed
from training.hparams import VALUES, VISUAL

BY_EPOCH = "/by_epoch"  # ends the tag of a curve whose steps are epochs
AFTER_FIT = ".after_fit"  # ends the name of the event file of what is logged after the fit


class EventLogger(TensorBoardLogger):
    """A TensorBoard logger whose writer is not interrupted while it takes an event."""

    is_open = False
    held: Any = None  # the writer of the event file, which holds signals back

    @property
    def experiment(self) -> Any:
        experiment = super().experiment
        if isinstance(experiment, SummaryWriter):
            self.is_open = True
            writer: Any = experiment.file_writer
            if writer is not None and writer is not self.held:
                writer.add_event = uninterrupted()(writer.add_event)
                self.held = writer
        return experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        writer = self.experiment.file_writer
        if writer is None:  # the first event of a file opens it
            super().log_metrics(metrics, step)
            return
        # One event for all: TensorBoardLogger writes one for each.
        values = [Summary.Value(tag=tag, simple_value=metrics[tag]) for tag in metrics]
        writer.add_summary(Summary(value=values), step)

    def close(self) -> None:
        """Close the event file, if there is one.

        Raises:
            OSError: It is not complete.
        """
        if not self.is_open:
            return
        self.is_open = False
        experiment = super().experiment
        try:
            experiment.flush()
        finally:
            experiment.close()


class RunLogger(EventLogger):
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
        self.known: Counter[tuple[str, int]] = Counter()  # points over epochs that come again
        log_dir = expand_path(log_dir)  # as TensorBoardLogger would, in another folder than ours
        version = "unused"  # only process 0 writes; the others ask it for the folder
        purge_step = 0  # TensorBoard takes the second session of a run for a restart, not the first
        if resume is not None:
            run_dir = run_dir_of(resume)
            if not Path(resume).is_dir():
                # Steps after the checkpoint are logged a second time: TensorBoard drops the first.
                purge_step = checkpoint_step(resume) + 1
            log_dir = os.path.relpath(run_dir.parent)
            version = run_dir.name
            if rank == 0:
                for path in run_dir.glob(f"*{AFTER_FIT}"):
                    path.unlink()
                self.known = later_points(run_dir, purge_step)
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
        self.close()
        self.experiment.filename_suffix = AFTER_FIT

    def draw_graph(self, network: nn.Module, example: Tensor) -> None:
        """Draw the network into the Graphs tab."""
        try:
            self.experiment.add_graph(network, example)
        except OSError:  # the event file
            raise
        except Exception as error:  # a network that cannot be traced can still be trained
            if not example.is_meta:  # where not even layers of ours can always be traced
                warnings.warn(f"no graph in TensorBoard: {first_line(error)}", stacklevel=2)

    def add_images(self, images: dict[str, Tensor]) -> None:
        """Show samples of what the network sees, images (channels, height, width) by name."""
        for name, image in images.items():
            self.experiment.add_image(f"{VISUAL}/samples/{name}", image)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log at a step, and curves whose epochs have several steps at their epoch, from 1, too."""
        # Under its own name, the epoch would come before the learning curves.
        tags = {"epoch": f"{VALUES}/epoch"}
        super().log_metrics({tags.get(name, name): metrics[name] for name in metrics}, step)
        epoch = int(metrics.get("epoch", -1)) + 1
        if epoch not in (0, step):
            curves = {
                f"{name}{BY_EPOCH}": metrics[name]
                for name in metrics
                if name.startswith(("train/", "val/"))
            }
            # purge_step is about steps: an epoch that is trained again is there already.
            new = {tag: curves[tag] for tag in curves if not self.known[tag, epoch]}
            self.known.subtract((tag, epoch) for tag in curves if tag not in new)
            super().log_metrics(new, epoch)

    def save(self) -> None:
        pass  # no hparams.yaml: config.yaml has the settings

    def finalize(self, status: str) -> None:
        if self.rank == 0 and status != "failed":
            self.experiment.flush()


def later_points(run_dir: Path, purge_step: int) -> Counter[tuple[str, int]]:
    """How many points of each curve over epochs, (tag, epoch), were logged from a step on.

    Without those that TensorBoard drops, which takes their epochs for steps.
    """
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    points: Counter[tuple[str, int]] = Counter()
    step = 0
    for path in sorted(run_dir.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if not value.tag.endswith(BY_EPOCH):
                    step = event.step
                elif step >= purge_step > event.step:
                    points[value.tag, event.step] += 1
    return points


def has_text(run_dir: Path, name: str) -> bool:
    """Whether a run's event files hold a text of this name."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    tag = f"{name}/text_summary"
    return any(
        value.tag == tag
        for path in run_dir.glob("events.out.tfevents.*")
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
    )


def checkpoint_step(path: str) -> int:
    """The optimizer step at which a checkpoint was written.

    Raises:
        ValueError: The fit cannot go on from this file.
    """
    return int(read_resumed(path)["global_step"])


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
