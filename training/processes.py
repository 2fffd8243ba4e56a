"""The processes of one run: they agree before its first step, and end together."""

import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed import DistError

from cli.interrupts import EXIT_CODES, catch, interrupt_of, stop
from model.shares import gathered
from training.agreement import Splits, check_agreement, files_in, make_claim

LOOK_SECONDS = 1.0  # between two looks at the other processes
SIGNAL_SECONDS = 2.0  # in which a launcher that ends all processes ends this one, too
PATIENCE_SECONDS = 15.0  # for a process to notice itself that it has to end


class Processes(Callback):
    """The processes of a run.

    Before the first step all of them must have the same settings and rows, and see the run's
    folder. Each has random numbers of its own, for dropout and augmentation. A thread ends this
    process where another one was killed.

    Args:
        settings: The run's settings as plain data.
        splits: The rows of each split as tensors, from which it learns; of a stream a sample.
        enter: Called with the run's folder, which the first process made.
        end: Called with a signal or None where this process must end at once; does not return.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        splits: Splits,
        enter: Callable[[Path], None],
        end: Callable[[int | None], None],
    ) -> None:
        self.settings = settings
        self.splits = splits
        self.enter = enter
        self.agreed = False
        self.watch = Watch(end)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not self.agreed:
            self.agreed = True
            self.watch.know(trainer)
            run_dir = Path(str(trainer.log_dir))
            self.enter(run_dir)
            names = trainer.strategy.broadcast(files_in(run_dir))
            rows = dict(self.splits) | table_statistics(trainer)
            claim = make_claim(self.settings, rows, run_dir, names)
            check_agreement(gathered(claim))
        if stage == "fit":
            seed_process(trainer.global_rank)

    def kill_children(self) -> None:
        """Kill the processes that this one started: they would wait for it."""
        for child in self.watch.children:
            child.kill()

    # Lightning's own handler of SIGTERM waits for the other processes for ever.
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        catch(stop)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        catch(stop)


def table_statistics(trainer: Trainer) -> dict[str, Iterable[Tensor]]:
    """How many rows the splits of a fit's table have, and its means and scales: a stream's too."""
    table = getattr(trainer, "datamodule", None)
    if table is None:  # a population has its rows
        return {}
    counts = torch.tensor([len(table.indices[split]) for split in sorted(table.indices)])
    return {"statistics": [counts, table.encoder.mean, table.encoder.scale]}


class Watch(threading.Thread):
    """Ends this process where its main thread waits for a process that is gone, or for a signal.

    The main thread cannot do it itself: as long as it is in a collective operation, Python calls no
    handler. Of the processes that Lightning started the first one watches the others, in place of
    Lightning's own observer, which kills without a word, and they watch the first one. Those of
    torchrun, SLURM and Kubernetes are watched by these, which send a signal.

    Args:
        end: Called with a signal or None; does not return.
    """

    def __init__(self, end: Callable[[int | None], None]) -> None:
        super().__init__(daemon=True, name="watch")
        self.end = end
        self.over = threading.Event()
        self.children: list[Popen[bytes]] = []
        self.parent: int | None = None
        self.signals, self.wakeup = os.pipe()
        os.set_blocking(self.wakeup, False)

    def begin(self) -> None:
        """Watch from now on whether a signal comes."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)
        self.start()

    def know(self, trainer: Trainer) -> None:
        """Watch the processes that Lightning started, too."""
        started = getattr(trainer.strategy.launcher, "procs", [])
        self.children = list(started)
        started.clear()  # for Lightning's observer, which thereby ends
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if isinstance(environment, LightningEnvironment) and trainer.local_rank:
            self.parent = os.getppid()

    def close(self) -> None:
        """Watch no more."""
        self.over.set()
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)

    def run(self) -> None:
        number = None
        while not self.over.is_set():
            number = self.signal()
            if number or self.is_alone():
                break
        if not self.over.wait(PATIENCE_SECONDS):
            self.end(number)

    def signal(self) -> int | None:
        """The signal that came within the time between two looks, if one did."""
        ready, _, _ = select.select([self.signals], [], [], LOOK_SECONDS)
        if not ready:
            return None
        return next((number for number in os.read(self.signals, 100) if number in EXIT_CODES), None)

    def is_alone(self) -> bool:
        """Whether a process that this one knows is gone."""
        if self.parent is not None and os.getppid() != self.parent:
            return True
        return any(child.poll() for child in self.children)


def late_interrupt(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that an error comes from, or that follows it.

    Where a launcher ends all processes, the connection to another one may be gone before this one
    gets its signal.
    """
    interrupt = interrupt_of(error)
    if interrupt is None and is_lost(error):
        try:
            time.sleep(SIGNAL_SECONDS)
        except KeyboardInterrupt as late:
            return late
    return interrupt


def is_lost(error: BaseException | None) -> bool:
    """Whether an error comes from a process that cannot be reached any more."""
    while error is not None:
        # Gloo's errors have no class of their own.
        is_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
        if isinstance(error, DistError) or is_gloo:
            return True
        error = error.__cause__ or error.__context__
    return False


def seed_process(rank: int) -> None:
    """Seed all random numbers by the run's seed and the process: no two draw the same noise.

    The first process goes on with the numbers of a single one.
    """
    if rank == 0:
        return
    (seed,) = np.random.SeedSequence([torch.initial_seed(), rank]).generate_state(1).tolist()
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
