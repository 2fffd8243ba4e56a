"""Scores of held-out rows, with intervals that allow for overlapping training sets. Plain NumPy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, t

BINS = 15  # of the calibration error, as in Guo et al. (2017)


class Estimate(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """The mean of paired differences, its 95 % interval, and the p-value for a true mean of 0."""

    mean: float
    low: float
    high: float
    p: float


class Scores(NamedTuple):
    """Scores of some predictions."""

    accuracy: float
    log_loss: float
    brier: float


class Estimates(NamedTuple):
    """The scores of a cross-validation, each with its interval."""

    accuracy: Estimate
    log_loss: Estimate
    brier: Estimate
    calibration_error: Estimate


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion: (low, high).

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference (1927).

    >>> low, high = wilson_interval(29, 30)
    >>> round(low, 3), round(high, 3)
    (0.833, 0.994)
    """
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def standard_error(values: np.ndarray, test_per_train: float) -> float:
    """Standard error of the mean of a cross-validation's fold scores, (folds,).

    The training sets of two folds overlap, so their scores are not independent: the variance
    counts (1/folds + test rows per training row) times instead of 1/folds times.
    Source: Nadeau & Bengio, Inference for the Generalization Error (2003), eq. 9.
    """
    return float(np.sqrt((1 / len(values) + test_per_train) * np.var(values, ddof=1)))


def estimate(
    values: np.ndarray, test_per_train: float, center: float | None = None, most: float = np.inf
) -> Estimate:
    """The mean of the folds' scores with the corrected resampled t interval, cut to [0, most].

    >>> estimate(np.array([0.9, 1.0, 0.9, 1.0]), test_per_train=1 / 3, most=1.0)
    Estimate(mean=0.95, low=0.8096..., high=1.0)

    Args:
        values: One score per fold, (folds,).
        test_per_train: Test rows of a fold per training row.
        center: The middle of the interval; None takes the mean.
        most: The largest value that the score can have.
    """
    mean = float(np.mean(values)) if center is None else center
    quantile = float(t.ppf(0.975, len(values) - 1))
    half_width = quantile * standard_error(values, test_per_train)
    return Estimate(mean, max(mean - half_width, 0.0), min(mean + half_width, most))


def difference(first: np.ndarray, second: np.ndarray, test_per_train: float) -> Difference:
    """The gain from first to second over the same folds: the paired corrected resampled t-test.

    >>> difference(np.array([0.9, 1.0, 0.9]), np.array([0.9, 1.0, 0.9]), test_per_train=1 / 2)
    Difference(mean=0.0, low=0.0, high=0.0, p=1.0)
    """
    gains = second - first
    mean = float(np.mean(gains))
    error = standard_error(gains, test_per_train)
    degrees_of_freedom = len(gains) - 1
    half_width = float(t.ppf(0.975, degrees_of_freedom)) * error
    p = float(mean == 0)  # where every fold gains the same
    if error != 0:
        p = float(2 * t.sf(abs(mean) / error, degrees_of_freedom))
    return Difference(mean, mean - half_width, mean + half_width, p)


def scores(probabilities: np.ndarray, targets: np.ndarray) -> Scores:
    """Accuracy, log-loss and Brier score, as means over all rows.

    As in scikit-learn, the log-loss takes no probability below float64's epsilon. The Brier score
    is the squared error summed over the classes, from 0 to 2. Source: Brier (1950).

    Shapes: (..., rows, num_classes) probabilities, (rows,) class indices.

    >>> scores(np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([0, 1]))
    Scores(accuracy=1.0, log_loss=0.3465..., brier=0.25)
    """
    num_classes = probabilities.shape[-1]
    every_target = np.broadcast_to(targets, probabilities.shape[:-1])
    of_target = np.take_along_axis(probabilities, every_target[..., None], -1)
    log_loss = -np.log(of_target.clip(np.finfo(float).eps, 1)).mean()
    squared_error = ((probabilities - np.eye(num_classes)[targets]) ** 2).sum(-1)
    accuracy = (probabilities.argmax(-1) == targets).mean()
    return Scores(float(accuracy), float(log_loss), float(squared_error.mean()))


def calibration(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Predictions by confidence: each bin's count, sum of confidences and number correct.

    Shapes: (..., rows, num_classes) probabilities, (rows,) class indices -> (BINS, 3).
    """
    confidence = probabilities.max(-1).ravel()
    correct = (probabilities.argmax(-1) == targets).ravel()
    bins = np.ceil(confidence * BINS) - 1  # each bin includes its upper edge
    bins = bins.clip(0, BINS - 1).astype(int)
    weights = (np.ones_like(confidence), confidence, correct)
    return np.stack([np.bincount(bins, weight, BINS) for weight in weights], 1)


def calibration_error(sums: np.ndarray) -> np.ndarray:
    """Expected calibration error: the mean distance of confidence and accuracy over the bins.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), eq. 3.

    Shapes: (..., BINS, 3), as `calibration` returns it -> (...).
    """
    distances = np.abs(sums[..., 1] - sums[..., 2])
    error: np.ndarray = distances.sum(-1) / sums[..., 0].sum(-1)
    return error


def summarize(
    probabilities: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    train_rows: Sequence[int],
    rows: int,
) -> Estimates:
    """The scores of a cross-validation, each with its interval.

    If no prediction is wrong, the folds have no variance: the accuracy's interval is then a
    Wilson interval over the rows of the table, each of which is held out once per repeat.

    The calibration error is that of all predictions together, since 15 rows of one fold do not
    give a usable one. Its interval uses the jackknife: each fold's influence on the pooled value
    takes the place of a fold's score.

    Args:
        probabilities: For each fold (seeds, rows, num_classes).
        targets: For each fold its class indices, (rows,).
        train_rows: For each fold its number of training rows.
        rows: Number of rows of the table.
    """
    test_rows = [len(fold_targets) for fold_targets in targets]
    test_per_train = float(np.mean(np.divide(test_rows, train_rows)))
    fold_scores = [
        scores(fold_probabilities, fold_targets)
        for fold_probabilities, fold_targets in zip(probabilities, targets, strict=True)
    ]
    accuracies = np.array([fold.accuracy for fold in fold_scores])
    log_losses = np.array([fold.log_loss for fold in fold_scores])
    briers = np.array([fold.brier for fold in fold_scores])

    accuracy = estimate(accuracies, test_per_train, most=1.0)
    if np.all(accuracies == 1):
        accuracy = Estimate(1.0, wilson_interval(rows, rows)[0], 1.0)

    bins = np.stack(
        [
            calibration(fold_probabilities, fold_targets)
            for fold_probabilities, fold_targets in zip(probabilities, targets, strict=True)
        ]
    )
    folds = len(bins)
    pooled = calibration_error(bins.sum(0))
    without_fold = calibration_error(bins.sum(0) - bins)
    influence = folds * pooled - (folds - 1) * without_fold
    return Estimates(
        accuracy,
        estimate(log_losses, test_per_train),
        estimate(briers, test_per_train),
        estimate(influence, test_per_train, center=float(pooled), most=1.0),
    )
