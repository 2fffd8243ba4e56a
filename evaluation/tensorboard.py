"""What TensorBoard shows of an evaluation besides the curves."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from evaluation.result import CandidateResult


def log_candidate(
    logger: TensorBoardLogger,
    candidate: CandidateResult,
    hyperparameters: dict[str, Any],
    metrics: Iterable[str],
) -> None:
    """Log a candidate's arguments and scores, and the layout of its curves."""
    logger.log_hyperparams(hyperparameters, candidate.figures())
    logger.experiment.add_custom_scalars(bands(metrics))


def bands(metrics: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The layout of the Custom Scalars tab: the mean of each metric, within its band.

    >>> bands(["train/loss"])
    {'train': {'loss': ['Margin', ['train/loss/mean', 'train/loss/low', 'train/loss/high']]}}
    """
    layout: dict[str, dict[str, Any]] = {}
    for tag in metrics:
        split, metric = tag.split("/")
        curves = [f"{tag}/{point}" for point in ("mean", "low", "high")]
        layout.setdefault(split, {})[metric] = ["Margin", curves]
    return layout
