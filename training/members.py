"""Many as one: networks that train as a population and predict as a single network."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer

from data.members import member_splits
from data.sampling import row_order
from data.tabular import TabularData
from evaluation.devices import stack_bytes, train_shares
from evaluation.ensemble import write_checkpoint
from model.members import Together, together
from model.population import Member, Population
from training.fast import FastClassifier


def make_members(
    datamodule: TabularData,
    components: dict[str, Any],
    members: int,
    seed: int,
    patience: int | None,
    trainer: Trainer,
    strategy: str,
) -> Population:
    """The networks that a run trains as one, of which each process fits its share.

    Each holds out a fold of the training rows and ends with its best epoch on them.

    Args:
        datamodule: The table, after `setup()`.
        components: The components of every network.
        members: Number of networks.
        seed: The seed of the first network; the others count up from it.
        patience: A network stops after this many epochs without a better loss.
        trainer: The Trainer of the run.
        strategy: The strategy that the user gave, for messages.

    Raises:
        ValueError: More networks than the smallest class has rows, a validation split, or a
            network that cannot be a member.
    """
    if datamodule.val_fraction:
        raise ValueError(
            f"val_fraction is {datamodule.val_fraction} with {members} members, each of which "
            "validates on its own fold; leave it out, or give --members 1"
        )
    train_shares(trainer, strategy)
    everyone = [Member(0, index, seed + index) for index in range(members)]
    augments = [] if datamodule.augment is None else [datamodule.augment] * members
    return Population(
        datamodule.num_features,
        datamodule.num_classes,
        [components],
        everyone[trainer.global_rank :: trainer.world_size],
        folds=member_splits(
            datamodule.splits, members, datamodule.stratify, datamodule.split_seed
        ),
        batch_size=datamodule.batch_size,
        row_order=row_order,
        augments=augments,
        patience=patience,
        stack_bytes=stack_bytes(trainer.strategy.root_device),
    )


def as_one(
    population: Population, datamodule: TabularData, components: dict[str, Any]
) -> tuple[FastClassifier, Together]:
    """The fitted networks as a single one, and what they predict for the rows they held out.

    Raises:
        FloatingPointError: A network ended with weights or a loss that are not finite.
    """
    outcomes = population.outcomes
    members = sorted(outcomes)
    failed = [member for member in members if outcomes[member].failed_in]
    if failed:
        raise FloatingPointError(
            f"{len(failed)} of {len(members)} networks did not stay finite, the first in epoch "
            f"{outcomes[failed[0]].failed_in}; give a lower --optimizer.lr"
        )
    prediction = together(
        [outcomes[member] for member in members],
        [population.folds[member.fold]["val"][1].numpy() for member in members],
    )
    ensemble = {
        "class": "Ensemble",
        "network": components["network"],
        "members": len(members),
        "temperature": prediction.temperature,
    }
    classifier = FastClassifier(
        datamodule.num_features, datamodule.num_classes, **components | {"network": ensemble}
    )
    weights = population.weights()
    classifier.network.load_members([weights[member] for member in members])
    return classifier, prediction
