"""What a worker of a cluster does: train a stack of an evaluation's networks, or a part of its fit.

A stack is the same as in one process, and so are its networks, bit for bit on the same processor:
rows, their order and initial weights follow from each network's seed. Only what is drawn during the
training differs, dropout and random augmentation: each stack draws its own.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer, seed_everything

from evaluation.devices import device_name
from model.member import Member, Outcome
from model.population import Population
from training.checkpoints import LastCheckpoint
from training.fast import skip_driver_lookup

# Arguments of a population that its parts share.
ARGUMENTS = (
    *("candidates", "num_classes", "folds", "batch_size", "patience", "metric", "keeps_rows"),
    *("stack_bytes", "steps"),
)


class Shared(NamedTuple):
    """What the tasks of a population share.

    `arguments` are those of the Population; `make_trainer` makes the Trainer of a task, of
    `max_epochs`; `save` is whether the weights are asked for, `torch` the version that all must
    have.
    """

    arguments: dict[str, Any]
    make_trainer: Callable[..., Trainer]
    max_epochs: int
    save: bool
    torch: str


class Memory(CheckpointIO):
    """Holds a checkpoint, in place of a file."""

    def __init__(self, content: dict[str, Any] | None) -> None:
        self.content = content

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        # Copied: the tensors are those that the end of the fit changes.
        self.content = deepcopy(move_data_to_device(checkpoint, torch.device("cpu")))

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        assert self.content is not None
        return self.content

    def remove_checkpoint(self, path: Any) -> None:
        self.content = None


class Part(LastCheckpoint):
    """Trains one part of a fit: from the state of an earlier part, until an epoch.

    Args:
        until: The epoch after which the fit pauses, from 1.
        state: The checkpoint of the earlier part; None at the start.
        losers: Members that stop before this part.
    """

    def __init__(self, until: int, state: dict[str, Any] | None, losers: set[Member]) -> None:
        super().__init__()
        self.until = until
        self.path = Path("in memory")
        self.memory = Memory(state)
        self.losers = losers
        self.outcomes: dict[Member, Outcome] | None = None  # at the pause

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        trainer.strategy.checkpoint_io = self.memory

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        pl_module.pauses = [self.until]
        if self.losers:
            pl_module.stop(self.losers, pl_module.predict())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        epoch = trainer.current_epoch + 1
        if epoch == self.until and epoch != trainer.max_epochs:
            self.outcomes = pl_module.predict()
            self.save(trainer, is_epoch_end=True)
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pass


def fit_stack(
    shared: Shared,
    members: list[Member],
    until: int,
    state: dict[str, Any] | None,
    losers: set[Member],
) -> dict[str, Any]:
    """Train a stack until an epoch; what it has then, as plain data and tensors. A task.

    Args:
        shared: What all tasks share.
        members: The members of the stack.
        until: The epoch, from 1.
        state: The state in which an earlier task left it; None at the start.
        losers: Members that stop before this task.

    Raises:
        ValueError: The worker has another version of torch.
    """
    if torch.__version__ != shared.torch:
        raise ValueError(
            f"a worker of the cluster has torch {torch.__version__}, and this machine "
            f"{shared.torch}, which would give other numbers; install the same on all machines"
        )
    skip_driver_lookup()
    arguments, own_members = part_of(shared.arguments, members)
    names = dict(zip(own_members, members, strict=True))
    own = {member: own_member for own_member, member in names.items()}
    population = Population(
        **arguments, members=own_members, stacks=[list(range(len(own_members)))]
    )
    part = Part(until, state, {own[member] for member in losers})
    trainer = shared.make_trainer(max_epochs=shared.max_epochs)
    trainer.callbacks.append(part)  # type: ignore[attr-defined]  # Lightning does not declare it
    seed_everything(members[0].seed, verbose=False)
    path = None if state is None else part.path
    trainer.fit(population, ckpt_path=path, weights_only=True)
    outcomes = population.outcomes if part.outcomes is None else part.outcomes
    is_over = part.outcomes is None
    weights = population.weights() if shared.save and is_over else {}
    curves = {name: np.stack(epochs) for name, epochs in population.curves.items()}
    return {
        "members": [list(member) for member in members],
        "outcomes": [
            [list(names[member]), outcome.state()] for member, outcome in outcomes.items()
        ],
        "curves": {name: torch.from_numpy(values) for name, values in curves.items()},
        "weights": [[list(names[member]), values] for member, values in weights.items()],
        "state": None if is_over else part.memory.content,
        "device": device_name(trainer),
    }


def part_of(
    arguments: dict[str, Any], members: Sequence[Member]
) -> tuple[dict[str, Any], list[Member]]:
    """The arguments of a population of some members, and the members by its own indices.

    It has the candidates and folds of these members only.
    """
    candidates = positions(member.candidate for member in members)
    folds = positions(member.fold for member in members)
    kept = {
        "candidates": [arguments["candidates"][i] for i in candidates],
        "folds": [arguments["folds"][i] for i in folds],
    }
    own_members = [
        Member(candidates[member.candidate], folds[member.fold], member.seed) for member in members
    ]
    return arguments | kept, own_members


def positions(indices: Iterable[int]) -> dict[int, int]:
    """The position of each index among those that there are.

    >>> positions([7, 3, 7])
    {3: 0, 7: 1}
    """
    return {index: position for position, index in enumerate(sorted(set(indices)))}
