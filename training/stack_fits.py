"""The fits of an evaluation on a cluster: a task for each stack of networks, kept when it is over.

`python evaluate.py --resume FOLDER` goes on with the stacks that are kept.
"""

import shlex
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from tqdm import tqdm

from data.checkpoint_file import read_file, write_file
from evaluation.cluster import Workers
from evaluation.devices import stack_bytes
from evaluation.groups import Group
from evaluation.halving import Halving
from model.member import Member, Outcome
from model.population import Population
from training.curves import CurveBands, add_layout
from training.groups import EvaluationRun, kept_file, kept_stack, kept_stacks
from training.stack_task import ARGUMENTS, Shared, fit_stack

# What is kept of a stack: what its task returned, of which population, after how long.
KEPT = {"members", "outcomes", "curves", "weights", "state", "device", "fingerprint", "seconds"}


class StackFits:
    """The fits of a population's stacks.

    Args:
        run: The run, whose folder keeps what each task returned.
        workers: The workers of the cluster.
        index: Index of the population's group.
        population: The population, which has no stacks in this process.
        stacks: The member indices of each stack.
        shared: What the tasks share.
    """

    def __init__(
        self,
        run: EvaluationRun,
        workers: Workers,
        index: int,
        population: Population,
        stacks: list[list[int]],
        shared: Shared,
    ) -> None:
        self.run = run
        self.workers = workers
        self.index = index
        self.population = population
        self.stacks = [[population.members[index] for index in stack] for stack in stacks]
        self.max_epochs = shared.max_epochs
        self.shared = workers.share(shared)
        self.results: dict[int, dict[str, Any]] = {}  # of each stack's last task
        self.stopped: dict[Member, Outcome] = {}  # by halving
        self.started = time.perf_counter()

    def fit(self, halving: Halving | None) -> None:
        """Train all stacks. Halving stops members between two tasks of a stack."""
        rungs = [] if halving is None else sorted(halving.rungs)
        losers: set[Member] = set()
        before = 0
        for until in rungs:
            self.train(before, until, losers)
            if halving is None or not self.left():  # all members stopped before the rung
                return
            outcomes = self.outcomes()
            losers = halving.losers(until, outcomes)
            self.stopped |= {member: outcomes[member] for member in losers}
            before = until
        self.train(before, self.max_epochs, losers)

    def left(self) -> list[int]:
        """The stacks that have members whose fit is not over."""
        return [
            index
            for index, members in enumerate(self.stacks)
            if not self.stopped.keys() >= set(members)
            and (index not in self.results or self.results[index]["is_paused"])
        ]

    def train(self, before: int, until: int, losers: set[Member]) -> None:
        """Train the stacks that are left, but for those that are kept, from one epoch to another.

        Args:
            before: The epoch, from 1, after which the last tasks ended; 0 at the start.
            until: The epoch, from 1, after which these end.
            losers: The members that stop before.
        """
        left = self.left()
        missing = [index for index in left if not self.find(until, index)]
        tasks = ((index, self.task(before, until, index, losers)) for index in missing)
        bar = tqdm(
            total=len(left),
            initial=len(left) - len(missing),
            desc="fit",
            unit="stack",
            leave=False,
            disable=None,  # unless there is a terminal
        )
        done = len(left) - len(missing)
        self.run.progress = f"after {done} of {len(left)} stacks"
        networks = 0
        start = time.monotonic()
        with bar:
            for index, result in self.workers.run(fit_stack, tasks):
                self.keep(until, index, result)
                done += 1
                self.run.progress = f"after {done} of {len(left)} stacks"
                networks += len(self.stacks[index])
                speed = networks / (time.monotonic() - start)
                bar.set_postfix({"networks/s": f"{speed:.1f}", "epoch": until}, refresh=False)
                bar.update()

    def task(self, before: int, until: int, index: int, losers: set[Member]) -> tuple[Any, ...]:
        """The arguments of `fit_stack`."""
        members = self.stacks[index]
        state = None
        if before:
            state = read_file(str(self.path(before, index)))["state"]
        return self.shared, members, until, state, losers & set(members)

    def path(self, until: int, index: int) -> Path:
        """The file that keeps what the task of a stack until an epoch returned."""
        return kept_stack(self.run.run_dir, self.index, until, index)

    def keep(self, until: int, index: int, result: dict[str, Any]) -> None:
        """Write what a task returned into the run's folder, and hold what is needed here."""
        seconds = self.population.kept_seconds + time.perf_counter() - self.started
        content = {"fingerprint": self.population.fingerprint, "seconds": seconds} | result
        write_file(self.path(until, index), content)
        self.hold(index, content)

    def find(self, until: int, index: int) -> bool:
        """Hold what an earlier sitting kept of a stack; whether there is something."""
        path = self.path(until, index)
        if not path.is_file():
            return False
        content = read_file(str(path))
        if content["members"] != [list(member) for member in self.stacks[index]]:
            return False  # other stacks: those of another device
        self.population.kept_seconds = max(self.population.kept_seconds, content["seconds"])
        self.hold(index, content)
        return True

    def hold(self, index: int, content: dict[str, Any]) -> None:
        """Hold what a task returned, without the state, which can be large."""
        self.results[index] = content | {"state": None, "is_paused": content["state"] is not None}

    def outcomes(self) -> dict[Member, Outcome]:
        """What each member that is left predicts, in the order of the stacks."""
        return {
            Member(*member): Outcome.from_state(state)
            for _, result in sorted(self.results.items())
            for member, state in result["outcomes"]
            if Member(*member) not in self.stopped
        }

    def weights(self) -> dict[Member, dict[str, Tensor]]:
        """The state_dict of each member that is left."""
        return {
            Member(*member): state
            for _, result in sorted(self.results.items())
            for member, state in result["weights"]
            if Member(*member) not in self.stopped
        }

    def curves(self) -> dict[str, list[np.ndarray]]:
        """Each metric's values (members,) by epoch, in the order of the stacks.

        NaN for the members of a stack that was over.
        """
        by_stack = [result["curves"] for _, result in sorted(self.results.items())]
        epochs = max(len(values) for curves in by_stack for values in curves.values())
        joined = {}
        for name in by_stack[0]:
            values = [curves[name].numpy() for curves in by_stack]
            padded = [
                np.pad(stack, ((0, epochs - len(stack)), (0, 0)), constant_values=np.nan)
                for stack in values
            ]
            joined[name] = list(np.concatenate(padded, axis=1))
        return joined


def fit_on_cluster(
    workers: Workers,
    run: EvaluationRun,
    groups: Sequence[Group],
    loggers: Sequence[TensorBoardLogger],
    make_trainer: Callable[..., Trainer],
    save: bool,
) -> str:
    """Fit each group's population on a cluster: it has outcomes and curves then, as after a fit.

    Args:
        workers: The workers of the cluster.
        run: The run.
        groups: The groups, whose populations have no stacks.
        loggers: A logger for each candidate's curves; empty for no curves.
        make_trainer: Called with accelerator and max_epochs; returns the Trainer of a task.
        save: Whether the weights are asked for.

    Returns:
        The name of the device that trained.

    Raises:
        ConnectionError: The cluster is lost, or a task ended its worker again and again.
    """
    device = workers.accelerator
    for index, group in enumerate(groups):
        population = group.population
        shared = Shared(
            arguments={name: getattr(population, name) for name in ARGUMENTS}
            | {"num_features": population.hparams["num_features"]},
            make_trainer=partial(make_trainer, accelerator=workers.accelerator),
            max_epochs=group.trainer.max_epochs or 1,
            save=save,
            torch=torch.__version__,
        )
        stacks = make_stacks(workers, population)
        fits = StackFits(run, workers, index, population, stacks, shared)
        try:
            fits.fit(group.halving)
        except ConnectionError as error:
            words = run.resume_words()
            if not words:
                raise
            raise ConnectionError(f"{error}; resume with: {shlex.join(words)}") from error
        population.stack_indices = stacks
        population.curves = fits.curves()
        population.outcomes = fits.outcomes() | fits.stopped
        group.weights = fits.weights()
        device = fits.results[0]["device"]
        own_loggers = group.select(loggers)
        CurveBands(own_loggers).write([population.learning_curves()])
        add_layout(own_loggers, population.curves)
    return device


def make_stacks(workers: Workers, population: Population) -> list[list[int]]:
    """The member indices of each stack: on CPUs those of one process.

    On GPUs a stack is as large as the memory of one of them allows, and smaller where some of them
    would have none.
    """
    if workers.accelerator == "cpu":
        return population.group_members(stack_bytes(torch.device("cpu")))
    budget = workers.call(stack_bytes, torch.device("cuda"))
    stacks = population.group_members(budget)
    while len(stacks) < min(workers.count(), len(population.members)):
        budget //= 2
        stacks = population.group_members(budget)
    return stacks


def check_kept_stacks(resume: str | None, groups: Sequence[Group]) -> None:
    """Refuse to go on with stacks that are damaged, or those of other networks or rows.

    Args:
        resume: Folder of the evaluation; None for a new one.
        groups: The groups, with their populations.

    Raises:
        ValueError: It names the file.
    """
    if resume is None:
        return
    for index, group in enumerate(groups):
        if kept_file(Path(resume), index).is_file():
            raise ValueError(f"{resume} was begun without a cluster; leave out --cluster")
        for path in kept_stacks(Path(resume), index):
            content = read_file(str(path))
            if not (isinstance(content, dict) and content.keys() >= KEPT):
                raise ValueError(f"{path} cannot be resumed: it is no stack of an evaluation")
            if content["fingerprint"] != group.population.fingerprint:
                raise ValueError(
                    f"{path} cannot be resumed: its networks learned from other rows; has the "
                    "table changed since?"
                )
