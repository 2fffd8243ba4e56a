"""Scores of held-out rows, with intervals that allow for overlapping training sets."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm, t
from torch import Tensor

from model.scores import BEST_IS_HIGH, COUNTED, METRICS, SCORES

MARGIN = 0.01  # a smaller gain does not matter in practice
VALUES_AT_ONCE = 2**21  # probabilities that are scored together: 16 MiB

# The probabilities of a fold's networks, each (rows, num_classes).
Networks = Sequence[np.ndarray] | np.ndarray


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


class Estimates(NamedTuple):
    """The scores of a cross-validation, each with its interval.

    The AUROC is None where every fold is of a single class; a result.json of version 0.1.0 has only
    the first four.
    """

    accuracy: Estimate
    log_loss: Estimate
    brier: Estimate
    calibration_error: Estimate
    balanced_accuracy: Estimate | None = None
    macro_f1: Estimate | None = None
    auroc: Estimate | None = None


def wilson_interval(successes: float, trials: float) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion: (low, high). Counts need not be whole.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference (1927).

    >>> low, high = wilson_interval(29, 30)
    >>> round(low, 3), round(high, 3)
    (0.833, 0.994)
    """
    share = successes / trials
    z_squared = norm.ppf(0.975) ** 2
    center = (successes + z_squared / 2) / (trials + z_squared)
    variance = share * (1 - share) / trials + z_squared / (4 * trials**2)
    half_width = trials / (trials + z_squared) * np.sqrt(z_squared * variance)
    return float(max(center - half_width, 0.0)), float(min(center + half_width, 1.0))


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


def accuracy_estimate(values: np.ndarray, test_per_train: float, rows: float) -> Estimate:
    """The mean of the folds' accuracies with a Wilson interval over its effective rows.

    The effective rows are as many independent ones as have the same standard error. They are at
    most the rows of the table, each of which is held out once per repeat: where few rows are wrong
    the folds' variance is often too small, or 0. The interval is not symmetric: near 1, where a
    t-interval covers the truth too rarely on small tables (bench/coverage.py), it is longer below.
    Source: Franco, Little, Louis & Slud, Comparative Study of Confidence Intervals for Proportions
    in Complex Sample Surveys (2019); there the standard error is that of a survey.

    >>> result = accuracy_estimate(np.array([0.9, 1.0, 0.9, 1.0]), test_per_train=1 / 3, rows=40)
    >>> [round(value, 3) for value in result]
    [0.95, 0.788, 0.99]

    Args:
        values: One accuracy per fold, (folds,).
        test_per_train: Test rows of a fold per training row.
        rows: Rows of the table, or groups where rows belong together.
    """
    mean = float(np.mean(values))
    error = standard_error(values, test_per_train)
    effective_rows = rows
    if error > 0:
        effective_rows = min(effective_rows, mean * (1 - mean) / error**2)
    return Estimate(mean, *wilson_interval(mean * effective_rows, effective_rows))


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


def probability_better(gains: np.ndarray, test_per_train: float, margin: float = MARGIN) -> float:
    """The probability that the true mean of paired gains is above a margin.

    The Bayesian correlated t-test: the posterior of the mean is a Student t distribution around
    the mean of the folds' gains, (folds,), with the corrected standard error as its scale.
    Source: Benavoli, Corani, Demsar & Zaffalon, Time for a Change (JMLR 2017).

    >>> round(probability_better(np.array([0.03, 0.01, 0.02]), test_per_train=1 / 2), 3)
    0.806
    """
    mean = float(np.mean(gains))
    error = standard_error(gains, test_per_train)
    if error == 0:
        return float(mean > margin)
    return float(t.sf((margin - mean) / error, len(gains) - 1))


def fold_statistics(
    metric: str, probabilities: Sequence[Networks], targets: Sequence[np.ndarray]
) -> Tensor:
    """What each fold contributes to a score: the score itself, or the counts it is made of.

    Args:
        metric: The score's name.
        probabilities: For each fold those of its networks, each (rows, num_classes).
        targets: For each fold its class indices, (rows,).

    Returns:
        The mean of the networks' scores, (folds,), or the sum of their counts, (folds, ...).
    """
    statistics: dict[int, Tensor] = {}
    # Folds of the same size at once: a call for each fold takes ten times as long.
    shapes = [(len(networks), *np.shape(networks[0])) for networks in probabilities]
    for shape in set(shapes):
        folds = [fold for fold, other in enumerate(shapes) if other == shape]
        step = max(1, VALUES_AT_ONCE // prod(shape))
        for start in range(0, len(folds), step):
            some = folds[start : start + step]
            values = statistics_of_folds(
                metric, [probabilities[fold] for fold in some], [targets[fold] for fold in some]
            )
            statistics |= dict(zip(some, values, strict=True))
    return torch.stack([statistics[fold] for fold in range(len(shapes))])


def statistics_of_folds(
    metric: str, probabilities: Sequence[Networks], targets: Sequence[np.ndarray]
) -> Tensor:
    """`fold_statistics` of folds of the same size; of many networks a few at a time."""
    classes = torch.from_numpy(np.stack(targets)).long().unsqueeze(1)
    rows, num_classes = np.shape(probabilities[0][0])
    step = max(1, VALUES_AT_ONCE // (len(targets) * rows * num_classes))
    compute = SCORES[metric] if metric in SCORES else COUNTED[metric][0]
    values = []
    for start in range(0, len(probabilities[0]), step):
        some = np.stack([networks[start : start + step] for networks in probabilities])
        values.append(compute(torch.from_numpy(some), classes))
    by_network = torch.cat(values, 1)
    return by_network.mean(1) if metric in SCORES else by_network.sum(1)


def over_folds(metric: str, statistics: Tensor) -> float:
    """A score over several folds, from its `fold_statistics` (folds, ...).

    Accuracy, log-loss, Brier score and AUROC are means of the folds' scores. The AUROC is one of
    them because the probabilities of different networks need not rank rows alike; folds whose rows
    are all of one class are left out. Balanced accuracy, macro F1 and calibration error are those
    of all predictions together: a fold has too few rows of a rare class, or in a bin of
    confidences, and the mean of such ratios is biased.
    Source: Forman & Scholz, Apples-to-Apples in Cross-Validation Studies (2010).
    """
    if metric in SCORES:
        return float(statistics.nanmean())
    _, finish = COUNTED[metric]
    return float(finish(statistics.sum(0)))


def estimate_over_folds(
    metric: str, statistics: Tensor, test_per_train: float, class_rows: np.ndarray
) -> Estimate | None:
    """A score over several folds, with its interval; None if fewer than two folds define it.

    Where a score is that of all predictions together, its interval uses the jackknife: each fold's
    influence on the pooled value takes the place of a fold's score.

    Args:
        metric: The score's name.
        statistics: Its `fold_statistics`, (folds, ...).
        test_per_train: Test rows of a fold per training row.
        class_rows: Rows of each class that count (Evaluation.class_rows), (num_classes,).
    """
    mean = over_folds(metric, statistics)
    if metric in BEST_IS_HIGH and metric != "accuracy" and mean == 1:
        return perfect(class_rows)
    most = np.inf if metric in ("log_loss", "brier") else 1.0
    if metric in SCORES:
        values = statistics[~statistics.isnan()].numpy()
        if len(values) < 2:
            return None
        if metric == "accuracy":
            return accuracy_estimate(values, test_per_train, float(class_rows.sum()))
        return estimate(values, test_per_train, most=most)
    _, finish = COUNTED[metric]
    folds = len(statistics)
    without_fold = finish(statistics.sum(0) - statistics).numpy()
    influence = folds * mean - (folds - 1) * without_fold
    return estimate(influence, test_per_train, center=mean, most=most)


def perfect(class_rows: np.ndarray) -> Estimate:
    """The estimate of a mean over the classes that is 1, so that the folds have no variance.

    The interval is the mean of a Wilson interval for each class, over the rows of the class or the
    other rows, whichever are fewer: for the AUROC, so many pairs of rows are independent.

    Args:
        class_rows: Rows of each class that count (Evaluation.class_rows), (num_classes,).
    """
    trials = np.minimum(class_rows, class_rows.sum() - class_rows)
    if not trials.any():  # all rows are of one class
        trials = class_rows
    lows = [wilson_interval(count, count)[0] for count in trials.tolist() if count]
    return Estimate(1.0, float(np.mean(lows)), 1.0)


def summarize(
    probabilities: Sequence[Networks],
    targets: Sequence[np.ndarray],
    train_rows: Sequence[int],
    class_rows: np.ndarray,
) -> Estimates:
    """The scores of a cross-validation, each with its interval.

    Args:
        probabilities: For each fold those of its networks, each (rows, num_classes).
        targets: For each fold its class indices, (rows,).
        train_rows: For each fold its number of training rows.
        class_rows: Rows of each class that count (Evaluation.class_rows), (num_classes,).
    """
    test_rows = [len(fold_targets) for fold_targets in targets]
    test_per_train = float(np.mean(np.divide(test_rows, train_rows)))
    estimates: dict[str, Estimate] = {}
    for metric in METRICS:
        statistics = fold_statistics(metric, probabilities, targets)
        result = estimate_over_folds(metric, statistics, test_per_train, class_rows)
        if result is not None:
            estimates[metric] = result
    return Estimates(**estimates)
