"""Calibration: the temperature that makes probabilities as sure as they are right."""

from math import exp, log

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from torch.nn.functional import cross_entropy

MIN_TEMPERATURE = 0.05
MAX_TEMPERATURE = 20.0
SMALLEST_PROBABILITY = 1e-300


def best_temperature(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The temperature with the smallest log-loss on rows that no weight was learned from.

    The classes have the probabilities of Laplace's rule: where all of 100 rows are right, the
    network is not certain, but about as sure as 100 right answers allow.
    Source: Platt, Probabilistic Outputs for Support Vector Machines (1999), section 2.2.

    Shapes: probabilities (rows, num_classes), targets (rows,) class indices.

    >>> best_temperature(np.array([[0.9, 0.1]] * 400), np.array([0, 0, 0, 1] * 100))  # ln 9 / ln 3
    2.0...
    """
    rows, num_classes = probabilities.shape
    logits = torch.from_numpy(probabilities).clamp_min(SMALLEST_PROBABILITY).log()
    smoothing = num_classes / (rows + num_classes)

    def log_loss(log_temperature: float) -> float:
        tempered = logits / exp(log_temperature)
        return cross_entropy(tempered, torch.from_numpy(targets), label_smoothing=smoothing).item()

    bounds = (log(MIN_TEMPERATURE), log(MAX_TEMPERATURE))
    minimum = minimize_scalar(log_loss, bounds=bounds, method="bounded")
    return exp(minimum.x)


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities whose logits are divided by a temperature, (..., num_classes).

    >>> tempered(np.array([0.9, 0.1]), temperature=2.0)
    array([0.75, 0.25])
    """
    logits = np.log(probabilities.clip(SMALLEST_PROBABILITY)) / temperature
    result: np.ndarray = softmax(logits, -1)
    return result
