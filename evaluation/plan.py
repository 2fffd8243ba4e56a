"""Plan: which networks an evaluation trains, and on which rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from lightning.pytorch import Trainer

from data.checks import check_batch_size
from data.encoder import Encoder
from data.folds import Fold, cross_validation, standardize_folds
from data.members import check_rows_on, check_validation, choose_members, member_splits
from data.shared_rows import SharedSplits
from data.splits import remaining
from data.tabular import TabularData
from evaluation.candidates import Components
from evaluation.devices import check_memory, stack_bytes
from evaluation.members import as_one
from evaluation.size import check_size
from model.classifier import Classifier
from model.losses import weigh
from model.member import FoldData, Member, Outcome, Stopper
from model.population import Population
from model.recipe import fit_to_table
from model.scores import Metric, check_metric, watched
from model.steps import Steps


@dataclass(frozen=True)
class Plan:
    """The networks of an evaluation: for every candidate, fold and seed one, or several as one.

    Args:
        candidates: The components of each candidate.
        num_features: Number of features.
        num_classes: Number of classes.
        targets: Class indices of the whole table, (rows,).
        folds: The outer folds, each followed by its inner folds.
        splits: The splits of each fold, rows of a table that all folds share.
        encoders: The encoder of each fold.
        class_weights: The class weights of each fold, from its training rows; empty for none.
        member_splits: Of each fold, the splits of the networks that predict as one, in sequence;
            `splits` where each network predicts by itself.
        members: The networks; their folds count in `member_splits`.
    """

    candidates: list[Components]
    num_features: int
    num_classes: int
    targets: np.ndarray
    folds: list[Fold]
    splits: list[SharedSplits]
    encoders: list[Encoder]
    class_weights: list[list[float] | None]
    member_splits: list[SharedSplits]
    members: list[Member]

    @property
    def repeats(self) -> int:
        """How often the rows were cut into folds."""
        return self.folds[-1].repeat

    @property
    def members_per_fold(self) -> int:
        """How many networks predict as one."""
        return len(self.member_splits) // len(self.splits)

    def outcomes(self, population: Population) -> dict[Member, Outcome]:
        """What each network, or several as one, predicts for the test rows of each fold."""
        return self.joined(population.outcomes)

    def joined(self, outcomes: dict[Member, Outcome]) -> dict[Member, Outcome]:
        """The outcomes of networks, with those that predict as one as one."""
        size = self.members_per_fold
        if size == 1:
            return outcomes
        groups: dict[Member, list[Member]] = {}
        for member in sorted(outcomes):
            seed = member.seed - member.fold % size
            key = Member(member.candidate, member.fold // size, seed)
            groups.setdefault(key, []).append(member)
        return {
            key: self.outcome(members, [outcomes[member] for member in members])
            for key, members in groups.items()
        }

    def outcome(self, members: list[Member], outcomes: list[Outcome]) -> Outcome:
        """What several networks predict as one; it has failed if one of them has."""
        failed = [outcome.failed_in for outcome in outcomes if outcome.failed_in]
        if failed:
            return outcomes[0]._replace(failed_in=min(failed))
        prediction = as_one(outcomes, [self.member_splits[member.fold] for member in members])
        return Outcome(prediction.probabilities, failed_in=0)


def check_arguments(repeats: int, seeds: int, precision: str) -> None:
    """Refuse arguments with which no population can be trained.

    Raises:
        ValueError: One of them cannot be used.
    """
    for name, value in {"repeats": repeats, "seeds": seeds}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; give 1 or more")
    if precision == "16-mixed":
        raise ValueError(
            "precision is 16-mixed, whose loss scale all networks would share; give bf16-mixed"
        )


def make_plan(
    datamodule: TabularData,
    candidates: list[Components],
    folds: int,
    repeats: int,
    inner_folds: int,
    seeds: int,
    first_seed: int,
    members: int | None,
    memory: int,
) -> Plan:
    """Read the table, cut it into folds, and list the networks to train.

    Args:
        datamodule: The DataModule of the table.
        candidates: The components of each candidate.
        folds: Number of folds; each is held out once.
        repeats: How often the rows are shuffled and cut into folds; once if they are cut by time.
        inner_folds: Folds of an outer fold's training rows; 0 for none.
        seeds: Networks for each candidate and fold.
        first_seed: The seed of the first network.
        members: Networks that predict as one; None for what suits the data.
        memory: Bytes that the population may take.

    Raises:
        ValueError: A component, number of folds or size that cannot be used.
    """
    table = datamodule.read()
    rows = remaining(len(table.targets), datamodule.held_back)
    if datamodule.times is not None:
        repeats = 1  # there is one way to cut by time
    layout = table.layout(None if datamodule.held_back is None else rows)
    num_features = len(layout.names)
    num_classes = datamodule.num_classes
    candidates = [fit_to_table(candidate, datamodule, layout) for candidate in candidates]
    # Any class weights show whether the losses take some; those of the folds follow.
    weights = datamodule.weigh_classes(table.targets)
    weighted = [weigh(candidate, weights) for candidate in candidates]
    for candidate in weighted:
        check_size(candidate, num_features, num_classes, memory)
    # Before the folds are cut: a table has fewer rows than a population may have networks.
    check_memory(
        [Classifier(num_features, num_classes, **candidate) for candidate in weighted],
        table_bytes=len(table.targets) * (4 * num_features + 8),
        # Its cut, two bits a row, and what it predicts for its held-out rows.
        member_bytes=len(rows) // 4 + 8 * num_classes * (len(rows) // max(folds, 1)),
        networks=folds * repeats * (1 + inner_folds) * (members or datamodule.members) * seeds,
        available=memory,
    )
    cut_folds = cross_validation(datamodule, table.targets, folds, repeats, inner_folds)
    check_batch_size(datamodule, max(len(fold.indices["train"]) for fold in cut_folds))
    check_rows_on(datamodule)
    members = choose_members(datamodule, members, train_rows(cut_folds))
    splits, encoders = standardize_folds(table, cut_folds, datamodule.scaling, layout)
    class_weights = []
    if weights is not None:
        class_weights = [
            datamodule.weigh_classes(table.targets[rows]) for rows in train_rows(cut_folds)
        ]
    split_of_member = splits
    if members > 1:
        check_validation(datamodule, members)
        split_of_member = []
        for fold_splits, rows in zip(splits, train_rows(cut_folds), strict=True):
            split_of_member += member_splits(fold_splits, members, datamodule, rows)
        class_weights = [weights for weights in class_weights for _ in range(members)]
    return Plan(
        candidates=candidates,
        num_features=num_features,
        num_classes=num_classes,
        targets=table.targets,
        folds=cut_folds,
        splits=splits,
        encoders=encoders,
        class_weights=class_weights,
        member_splits=split_of_member,
        members=make_members(len(candidates), len(cut_folds), seeds, first_seed, members),
    )


def train_rows(folds: Sequence[Fold]) -> Iterator[np.ndarray]:
    """Indices of each fold's training rows, one fold at a time: together they are large."""
    return (np.asarray(fold.indices["train"]) for fold in folds)


def make_members(
    candidates: int, folds: int, seeds: int, first_seed: int, together: int = 1
) -> list[Member]:
    """The networks of every candidate, fold and seed; candidates share their seeds.

    >>> make_members(candidates=1, folds=2, seeds=1, first_seed=7)
    [Member(candidate=0, fold=0, seed=7), Member(candidate=0, fold=1, seed=8)]

    Args:
        candidates: Number of candidates.
        folds: Number of folds.
        seeds: Networks, or groups of them, for each candidate and fold.
        first_seed: The seed of the first network.
        together: Networks that predict as one, each on its own part of a fold.
    """
    return [
        Member(candidate, fold * together + i, first_seed + (fold * seeds + seed) * together + i)
        for candidate in range(candidates)
        for fold in range(folds)
        for seed in range(seeds)
        for i in range(together)
    ]


def make_population(
    plan: Plan,
    datamodule: TabularData,
    trainer: Trainer,
    patience: int | None,
    metric: Metric,
    stopper: Stopper | None = None,
    stacks: list[list[int]] | None = None,
) -> Population:
    """This process's population: its share of the members; `stacks` as for Population.

    Raises:
        ValueError: There are fewer networks than processes, or a network cannot be a member.
    """
    processes = trainer.world_size
    if len(plan.members) < processes:
        raise ValueError(
            f"{len(plan.members)} networks are too few for {processes} devices; give fewer devices"
        )
    augments = [
        augment
        for augment in map(datamodule.augmentation, plan.encoders)
        for _ in range(plan.members_per_fold)
    ]
    class_weights = plan.class_weights or [None] * len(augments)
    folds = map(FoldData, plan.member_splits, augments, class_weights)
    return Population(
        plan.num_features,
        plan.num_classes,
        plan.candidates,
        plan.members[trainer.global_rank :: processes],
        list(folds),
        stacks,
        batch_size=datamodule.batch_size,
        patience=patience,
        metric=metric,
        stopper=stopper,
        stack_bytes=stack_bytes(trainer.strategy.root_device),
        steps=Steps.take(trainer),
    )


def check_folds(plan: Plan, metric: str, is_sweep: bool) -> None:
    """Refuse a metric that is not defined in a fold for the rows that it chooses by.

    Raises:
        ValueError: The metric cannot be used.
    """
    splits_of_folds = plan.member_splits[:: plan.members_per_fold]
    for fold, splits in zip(plan.folds, splits_of_folds, strict=True):
        name = f"the {{}} rows of fold {fold.fold}, repeat {fold.repeat}"
        split = watched(metric, "val" in splits).partition("/")[0]
        check_metric(metric, splits[split].targets, name.format(split))
        if is_sweep:
            check_metric(metric, splits["test"].targets, name.format("held-out"))


def check_save(save: bool, plan: Plan) -> None:
    """Refuse to save networks that predict as one: train.py does so.

    Raises:
        ValueError: They were to be saved.
    """
    if save and plan.members_per_fold > 1:
        raise ValueError(
            f"save is true, but {plan.members_per_fold} networks predict as one, which train.py "
            "saves; give --members 1, or train with train.py"
        )
