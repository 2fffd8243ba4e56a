"""What members predict as one: their mean probability, calibrated on the rows they held out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data.shared_rows import SharedSplits
from model.calibration import best_temperature, tempered
from model.member import Outcome


class Prediction(NamedTuple):
    """What members predict as one.

    `temperature` divides the logits of each member. `probabilities` (test rows, num_classes) are
    the mean of the members'. `held_out` (training rows, num_classes) are those of the member that
    held out the row, and `held_out_targets` (training rows,) its class; both member by member.
    """

    temperature: float
    probabilities: np.ndarray
    held_out: np.ndarray
    held_out_targets: np.ndarray


def as_one(outcomes: Sequence[Outcome], splits: Sequence[SharedSplits]) -> Prediction:
    """Calibrate the members on the rows that they held out, and take the mean of them.

    Args:
        outcomes: The outcome of each member.
        splits: The splits of each member.

    Raises:
        FloatingPointError: A member failed.
    """
    failed = [outcome.failed_in for outcome in outcomes if outcome.failed_in]
    if failed:
        raise FloatingPointError(
            f"{len(failed)} of {len(outcomes)} networks did not stay finite, the first in epoch "
            f"{min(failed)}; give a lower --optimizer.lr"
        )
    held_out = np.concatenate([outcome.val_probabilities for outcome in outcomes])
    targets = np.concatenate([split["val"].targets.numpy() for split in splits])
    temperature = best_temperature(held_out, targets)
    by_member = np.stack([outcome.probabilities for outcome in outcomes])
    return Prediction(
        temperature=temperature,
        probabilities=tempered(by_member, temperature).mean(0),
        held_out=tempered(held_out, temperature),
        held_out_targets=targets,
    )
