"""Groups: candidates of the same data settings, epochs and members, which one population trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from lightning.pytorch import Trainer
from torch import Tensor

from cli.component import build
from cli.registry import LEARNED
from data.tabular import TabularData
from evaluation.candidates import SHARED, Candidate
from evaluation.devices import memory_of_all
from evaluation.evaluation import Evaluation, Race
from evaluation.halving import Halving
from evaluation.plan import Plan, check_folds, check_save, make_population
from model.member import Member, Outcome
from model.population import Population
from model.scores import Metric

Item = TypeVar("Item")


@dataclass
class Group:
    """Candidates that one population trains.

    Args:
        candidates: Their indices in all candidates; a member of the population has the index in
            this list.
        patience: Epochs without a better metric after which a network stops.
        datamodule: The table with their data settings.
        plan: Their networks.
        trainer: The Trainer of their epochs.
        halving: What stops networks of a search early; None for nothing.
        population: Their networks, as they are trained, once `make_population` has been called.
        checkpoint: The file with which an interrupted fit goes on; None where there is none.
        weights: The state_dict of every network after the fit, if they are to be saved.
    """

    candidates: list[int]
    patience: int | None
    datamodule: TabularData
    plan: Plan
    trainer: Trainer
    halving: Halving | None = None
    population: Population = field(init=False)
    checkpoint: str | None = None
    weights: dict[Member, dict[str, Tensor]] = field(default_factory=dict)

    def make_population(self, metric: Metric, is_search: bool, is_elsewhere: bool) -> None:
        """Make this process's share of the networks.

        Args:
            metric: The score by which epochs are chosen.
            is_search: Whether the worse candidates stop early.
            is_elsewhere: Whether other processes train the networks: there are no stacks then.

        Raises:
            ValueError: A network cannot be a member.
        """
        if is_search:
            self.halving = Halving(self.plan, self.trainer.max_epochs or 1, metric)
        self.population = make_population(
            self.plan,
            self.datamodule,
            self.trainer,
            self.patience,
            metric,
            self.halving,
            stacks=[] if is_elsewhere else None,
        )

    def outcomes(self) -> dict[Member, Outcome]:
        """What the networks predict, by members with the index of all candidates."""
        outcomes = self.plan.outcomes(self.population)
        return {
            member._replace(candidate=self.candidates[member.candidate]): outcome
            for member, outcome in outcomes.items()
        }

    def select(self, items: Sequence[Item]) -> list[Item]:
        """Those of this group, of one item for each candidate or of none at all."""
        return [items[candidate] for candidate in self.candidates] if items else []

    def own(self, member: Member) -> Member:
        """A member as the group's population knows it."""
        return member._replace(candidate=self.candidates.index(member.candidate))


def make_groups(
    candidates: Sequence[Candidate],
    make_trainer: Callable[[int], Trainer],
    plan_networks: Callable[..., Plan],
    available: int | None = None,
) -> list[Group]:
    """The candidates in groups, all on the same folds.

    Args:
        candidates: The settings of each candidate.
        make_trainer: Called with max_epochs.
        plan_networks: `make_plan` without its datamodule, candidates, members and memory.
        available: Bytes of memory for all networks; None for that of the Trainer's devices.

    Raises:
        ValueError: A setting cannot be used, or candidates have different rows.
    """
    indices: dict[str, list[int]] = {}
    for index, candidate in enumerate(candidates):
        key = str([candidate[name] for name in SHARED])
        indices.setdefault(key, []).append(index)
    groups = []
    for group_indices in indices.values():
        settings = candidates[group_indices[0]]
        trainer = make_trainer(settings["max_epochs"])
        datamodule = build("data", settings["data"])()
        plan = plan_networks(
            datamodule,
            [{name: candidates[index][name] for name in LEARNED} for index in group_indices],
            members=settings["members"],
            memory=(available or memory_of_all(trainer)) // len(indices),
        )
        groups.append(Group(group_indices, settings["patience"], datamodule, plan, trainer))
    for group in groups:
        if not np.array_equal(group.plan.targets, groups[0].plan.targets):
            raise ValueError(
                "the sweep's data settings change which rows there are, or their classes; "
                "give those once, outside the sweep"
            )
    return groups


def evaluation_of(groups: Sequence[Group], metric: Metric) -> Evaluation:
    """What the networks of all groups predict for the rows held out from them."""
    plan = smallest_plan(groups)
    return Evaluation(
        plan.targets,
        plan.folds,
        joined_outcomes(groups),
        sum(len(group.candidates) for group in groups),
        metric,
        joined_stops(groups),
        groups[0].datamodule.groups,
    )


def joined_outcomes(groups: Sequence[Group]) -> dict[Member, Outcome]:
    """What the networks of all groups predict."""
    outcomes: dict[Member, Outcome] = {}
    for group in groups:
        outcomes |= group.outcomes()
    return outcomes


def joined_stops(groups: Sequence[Group]) -> dict[Race, dict[int, int]]:
    """For each race the candidates that were stopped in it, with their epoch."""
    stops: dict[Race, dict[int, int]] = {}
    for group in groups:
        if group.halving is None:
            continue
        for race, stopped in group.halving.stopped.items():
            for index, epoch in stopped.items():
                stops.setdefault(race, {})[group.candidates[index]] = epoch
    return stops


def group_of(groups: Sequence[Group], candidate: int) -> Group:
    """The group that has a candidate."""
    return next(group for group in groups if candidate in group.candidates)


def smallest_plan(groups: Sequence[Group]) -> Plan:
    """The plan whose folds have the fewest training rows: intervals are then never too narrow.

    All plans have the same test rows in the same folds.
    """
    plans = [group.plan for group in groups]
    return min(plans, key=lambda plan: len(plan.folds[0].indices["train"]))


def check_groups(groups: Sequence[Group], metric: Metric, is_sweep: bool, save: bool) -> None:
    """Refuse a metric that is not defined in a fold, and to save networks that predict as one.

    Raises:
        ValueError: The metric cannot be used, or the networks cannot be saved.
    """
    for group in groups:
        check_folds(group.plan, metric, is_sweep)
        check_save(save, group.plan)
