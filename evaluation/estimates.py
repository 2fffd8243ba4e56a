"""What held-out rows say: scores with intervals that know how much the training sets overlap. Plain NumPy."""

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
    """The mean of paired differences, its 95 % interval, and the p-value of there being none."""

    mean: float
    low: float
    high: float
    p: float


def deviation(values: np.ndarray, test_per_train: float) -> float:
    """Standard deviation of the mean of a cross-validation's folds.

    Training sets overlap, so folds are no independent samples: their variance counts 1/folds + test rows per training
    row times, and not 1/folds times. Source: Nadeau & Bengio, Inference for the Generalization Error (2003), eq. 9.
    """
    return float(np.sqrt((1 / len(values) + test_per_train) * np.var(values, ddof=1)))


def estimate(
    values: np.ndarray, test_per_train: float, center: float | None = None, most: float = np.inf
) -> Estimate:
    """The mean of the folds' scores with the corrected resampled t interval, cut to [0, most].

    >>> estimate(np.array([0.9, 1.0, 0.9, 1.0]), test_per_train=1 / 3, most=1.0)
    Estimate(mean=0.95, low=0.8096..., high=1.0)
    """
    mean = float(np.mean(values)) if center is None else center
    reach = float(t.ppf(0.975, len(values) - 1)) * deviation(values, test_per_train)
    return Estimate(mean, max(mean - reach, 0.0), min(mean + reach, most))


def difference(first: np.ndarray, second: np.ndarray, test_per_train: float) -> Difference:
    """The gain from first to second over the same folds: the paired corrected resampled t-test.

    >>> difference(np.array([0.9, 1.0, 0.9]), np.array([0.9, 1.0, 0.9]), test_per_train=1 / 2)
    Difference(mean=0.0, low=0.0, high=0.0, p=1.0)
    """
    gains = second - first
    mean, scale, freedom = float(np.mean(gains)), deviation(gains, test_per_train), len(gains) - 1
    reach = float(t.ppf(0.975, freedom)) * scale
    p = 2 * t.sf(abs(mean) / scale, freedom) if scale else float(mean == 0)
    return Difference(mean, mean - reach, mean + reach, float(p))


def scores(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Accuracy, log-loss (of probabilities no smaller than float64's epsilon, as scikit-learn has it), Brier score.

    Shapes: (..., rows, num_classes), (rows,); the mean over rows and whatever is in front of them.
    Source of the last: Brier (1950), the squared error summed over classes, 0 to 2.

    >>> scores(np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([0, 1]))
    {'accuracy': 1.0, 'log_loss': 0.3465..., 'brier': 0.25}
    """
    true = np.take_along_axis(
        probabilities, np.broadcast_to(targets, probabilities.shape[:-1])[..., None], -1
    )
    square = ((probabilities - np.eye(probabilities.shape[-1])[targets]) ** 2).sum(-1)
    return {
        "accuracy": float((probabilities.argmax(-1) == targets).mean()),
        "log_loss": float(-np.log(true.clip(np.finfo(float).eps, 1)).mean()),
        "brier": float(square.mean()),
    }


def calibration(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of each bin of confidence, its predictions' number, sum of confidences and number right: (BINS, 3).

    Shapes: (..., rows, num_classes), (rows,).
    """
    confidence = probabilities.max(-1).ravel()
    right = (probabilities.argmax(-1) == targets).ravel()
    bins = (
        (np.ceil(confidence * BINS) - 1).clip(0, BINS - 1).astype(int)
    )  # each bin holds its upper edge
    return np.stack(
        [np.bincount(bins, sums, BINS) for sums in (np.ones_like(confidence), confidence, right)], 1
    )


def calibration_error(sums: np.ndarray) -> np.ndarray:
    """Expected calibration error, the mean distance of confidence and accuracy over bins: (..., BINS, 3) -> (...).

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), eq. 3.
    """
    error: np.ndarray = np.abs(sums[..., 1] - sums[..., 2]).sum(-1) / sums[..., 0].sum(-1)
    return error


def summarize(
    probabilities: Sequence[np.ndarray], targets: Sequence[np.ndarray], train_rows: Sequence[int]
) -> dict[str, Estimate]:
    """The scores of a cross-validation, each with its interval.

    Where not one row is wrong the folds do not differ, and the accuracy's interval is Wilson's for as many rows as one
    repeat holds out. The calibration error is that of all predictions together (a fold of 15 rows has none to speak
    of); its interval takes each fold's influence, by the jackknife, for the fold's score.

    Args:
        probabilities: Of each fold (seeds, rows, num_classes).
        targets: Of each fold (rows,).
        train_rows: Of each fold their number.
    """
    per_train = float(np.mean([len(y) / n for y, n in zip(targets, train_rows, strict=True)]))
    folds = [scores(p, y) for p, y in zip(probabilities, targets, strict=True)]
    values = {name: np.array([fold[name] for fold in folds]) for name in folds[0]}
    found = {
        name: estimate(values[name], per_train, most=1.0 if name == "accuracy" else np.inf)
        for name in values
    }
    if np.all(values["accuracy"] == 1):
        rows = round(np.mean([len(y) for y in targets]) + np.mean(train_rows))
        found["accuracy"] = Estimate(
            1.0, binomtest(rows, rows).proportion_ci(method="wilson").low, 1.0
        )
    sums = np.stack([calibration(p, y) for p, y in zip(probabilities, targets, strict=True)])
    pooled, n = calibration_error(sums.sum(0)), len(sums)
    influence = n * pooled - (n - 1) * calibration_error(sums.sum(0) - sums)
    return found | {
        "calibration_error": estimate(influence, per_train, center=float(pooled), most=1.0)
    }


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a proportion.

    >>> wilson_interval(30, 30)
    (0.8864..., 1.0)
    """
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
