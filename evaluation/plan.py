"""Plan: which networks an evaluation trains, and on which rows."""

from dataclasses import dataclass

import numpy as np
from lightning.pytorch import Trainer

from data.encoder import Encoder
from data.folds import Fold, cross_validation, standardize_folds
from data.sampling import row_order
from data.tabular import Splits, TabularData
from evaluation.candidates import Components
from evaluation.devices import check_memory, stack_bytes
from model.classifier import Classifier
from model.losses import weigh
from model.population import Member, Population
from model.scores import Metric, check_metric, watched


@dataclass(frozen=True)
class Plan:
    """The networks of an evaluation: one member for every candidate, fold and seed.

    Args:
        candidates: The components of each candidate, class weights included.
        num_features: Number of features.
        num_classes: Number of classes.
        targets: Class indices of the whole table, (rows,).
        folds: The outer folds, each followed by its inner folds.
        splits: The standardized splits of each fold.
        encoders: The encoder of each fold.
        members: The networks.
    """

    candidates: list[Components]
    num_features: int
    num_classes: int
    targets: np.ndarray
    folds: list[Fold]
    splits: list[Splits]
    encoders: list[Encoder]
    members: list[Member]


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
    memory: int,
) -> Plan:
    """Read the table, cut it into folds, and list the networks to train.

    Args:
        datamodule: The DataModule of the table.
        candidates: The components of each candidate.
        folds: Number of folds; each is held out once.
        repeats: How often the rows are shuffled and cut into folds.
        inner_folds: Folds of an outer fold's training rows; 0 for none.
        seeds: Networks for each candidate and fold.
        first_seed: The seed of the first network.
        memory: Bytes that the population may take.

    Raises:
        ValueError: A component, number of folds or size that cannot be used.
    """
    table = datamodule.read()
    num_features = len(table.layout().names)
    num_classes = datamodule.num_classes
    weighted = [weigh(candidate, datamodule.class_weights) for candidate in candidates]
    # Before the folds are cut: a table has fewer rows than a population may have networks.
    check_memory(
        [Classifier(num_features, num_classes, **candidate) for candidate in weighted],
        table_bytes=len(table.targets) * (4 * num_features + 8),
        folds=folds * repeats * (1 + inner_folds),
        seeds=seeds,
        available=memory,
    )
    cut_folds = cross_validation(datamodule, table.targets, folds, repeats, inner_folds)
    splits, encoders = standardize_folds(table, cut_folds, datamodule.scaling)
    return Plan(
        candidates=weighted,
        num_features=num_features,
        num_classes=num_classes,
        targets=table.targets,
        folds=cut_folds,
        splits=splits,
        encoders=encoders,
        members=make_members(len(weighted), len(cut_folds), seeds, first_seed),
    )


def make_members(candidates: int, folds: int, seeds: int, first_seed: int) -> list[Member]:
    """A member for every candidate, fold and seed; candidates share their seeds.

    >>> make_members(candidates=1, folds=2, seeds=1, first_seed=7)
    [Member(candidate=0, fold=0, seed=7), Member(candidate=0, fold=1, seed=8)]
    """
    return [
        Member(candidate, fold, first_seed + fold * seeds + i)
        for candidate in range(candidates)
        for fold in range(folds)
        for i in range(seeds)
    ]


def make_population(
    plan: Plan,
    datamodule: TabularData,
    trainer: Trainer,
    patience: int | None,
    metric: Metric,
) -> Population:
    """This process's population: its share of the members.

    Raises:
        ValueError: There are fewer networks than processes, or a network cannot be a member.
    """
    processes = trainer.world_size
    if len(plan.members) < processes:
        raise ValueError(
            f"{len(plan.members)} networks are too few for {processes} devices; give fewer devices"
        )
    augments = []
    for encoder in plan.encoders:
        augment = datamodule.augmentation(encoder)
        if augment is not None:
            augments.append(augment)
    return Population(
        plan.num_features,
        plan.num_classes,
        plan.candidates,
        plan.members[trainer.global_rank :: processes],
        folds=plan.splits,
        batch_size=datamodule.batch_size,
        row_order=row_order,
        augments=augments,
        patience=patience,
        metric=metric,
        stack_bytes=stack_bytes(trainer.strategy.root_device),
    )


def check_folds(plan: Plan, metric: str, is_sweep: bool) -> None:
    """Refuse a metric that is not defined in a fold for the rows that it chooses by.

    Raises:
        ValueError: The metric cannot be used.
    """
    for fold, splits in zip(plan.folds, plan.splits, strict=True):
        name = f"the {{}} rows of fold {fold.fold}, repeat {fold.repeat}"
        split = watched(metric, "val" in splits).partition("/")[0]
        check_metric(metric, splits[split][1], name.format(split))
        if is_sweep:
            check_metric(metric, splits["test"][1], name.format("held-out"))
