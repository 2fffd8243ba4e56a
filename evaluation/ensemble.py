"""The networks of an evaluation as one checkpoint, an ensemble."""

from pathlib import Path

import lightning
from lightning.pytorch import LightningModule

from data.checkpoint_file import write_file
from data.tabular import TabularData
from evaluation.evaluation import Evaluation
from evaluation.groups import Group
from model.member import Member
from model.population_networks import PopulationNetworks


def save_ensemble(path: Path, evaluation: Evaluation, group: Group) -> None:
    """Write the best candidate's networks of the outer folds as one checkpoint.

    Each member standardizes with the statistics of its own training rows.

    Args:
        path: The checkpoint.
        evaluation: Says which candidate is best and which networks failed.
        group: The candidates that were trained with the best one, and their weights.
    """
    datamodule = group.datamodule
    encoders = group.plan.encoders
    population = group.population
    members = [group.own(member) for member in ensemble_members(evaluation)]
    ensemble = PopulationNetworks(
        population.hparams["num_features"],
        population.num_classes,
        [population.candidates[members[0].candidate]],
        [member._replace(candidate=0) for member in members],
        [list(range(len(members)))],
    )
    ensemble.stacks[0].load_members([group.weights[member] for member in members])
    datamodule.encoder = encoders[0].stack([encoders[member.fold] for member in members])
    write_checkpoint(path, ensemble, datamodule)


def write_checkpoint(path: Path, module: LightningModule, datamodule: TabularData) -> None:
    """Write a module that predicts, with what its table needs, as Lightning would.

    Raises:
        OSError: It cannot be written, for example because the disk is full; nothing is left of it.
    """
    checkpoint = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": lightning.__version__,
        type(datamodule).__qualname__: datamodule.state_dict(),
    }
    write_file(path, checkpoint)


def ensemble_members(evaluation: Evaluation) -> list[Member]:
    """The best candidate's networks of the outer folds that did not fail."""
    best = evaluation.final_candidate()
    return [
        member
        for member in evaluation.members
        if member.candidate == best
        and member.fold in evaluation.outer_folds
        and member not in evaluation.failures
    ]
