"""From the outcomes of members to what they predict as one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from model.calibration import best_temperature, tempered
from model.population import Outcome


class Together(NamedTuple):
    """What members predict as one.

    `temperature` calibrates each member; `probabilities` (test rows, num_classes) are the mean of
    the members'; `held_out` (training rows, num_classes) are, for each training row, those of the
    member that held it out, and `held_out_targets` (training rows,) its class indices, both in the
    order of the members.
    """

    temperature: float
    probabilities: np.ndarray
    held_out: np.ndarray
    held_out_targets: np.ndarray


def together(outcomes: Sequence[Outcome], val_targets: Sequence[np.ndarray]) -> Together:
    """Calibrate the members on the rows that they held out, and take the mean of them.

    Args:
        outcomes: The outcome of each member.
        val_targets: Class indices of the rows that each member held out.
    """
    held_out = np.concatenate([outcome.val_probabilities for outcome in outcomes])
    targets = np.concatenate(val_targets)
    temperature = best_temperature(held_out, targets)
    by_member = np.stack([outcome.probabilities for outcome in outcomes])
    return Together(
        temperature=temperature,
        probabilities=tempered(by_member, temperature).mean(0),
        held_out=tempered(held_out, temperature),
        held_out_targets=targets,
    )
