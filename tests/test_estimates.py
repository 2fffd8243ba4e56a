"""Scores against scikit-learn and torchmetrics; intervals against SciPy and their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, log_loss
from torchmetrics.classification import MulticlassCalibrationError

from evaluation.estimates import (
    calibration,
    calibration_error,
    difference,
    estimate,
    scores,
    summarize,
    wilson_interval,
)


def drawn(seed, rows=200, classes=3, folds=1):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), (folds, 1, rows))
    targets = (probabilities.cumsum(-1) > generator.random((folds, 1, rows, 1))).argmax(-1)[:, 0]
    return probabilities, targets


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_scores_are_scikit_learns(seed, classes):
    probabilities, targets = drawn(seed, classes=classes)
    result = scores(probabilities[0, 0], targets[0])
    assert result.accuracy == accuracy_score(targets[0], probabilities[0, 0].argmax(1))
    assert result.log_loss == pytest.approx(
        log_loss(targets[0], probabilities[0, 0], labels=range(classes))
    )
    one_hot = np.eye(classes)[targets[0]]
    squared_errors = ((probabilities[0, 0] - one_hot) ** 2).sum(1)
    assert result.brier == pytest.approx(squared_errors.mean())


def test_a_certain_mistake_costs_as_much_as_in_scikit_learn():
    probabilities = np.array([[1.0, 0.0], [0.3, 0.7]])
    targets = np.array([1, 1])
    assert scores(probabilities, targets).log_loss == pytest.approx(
        log_loss(targets, probabilities, labels=[0, 1])
    )


@given(st.integers(0, 2**32 - 1))
def test_calibration_error_is_torchmetrics(seed):
    probabilities, targets = drawn(seed)
    theirs = MulticlassCalibrationError(3, n_bins=15)(
        torch.from_numpy(probabilities[0, 0]), torch.from_numpy(targets[0])
    )
    assert calibration_error(calibration(probabilities[0], targets[0])) == pytest.approx(
        theirs.item(), abs=1e-6
    )


def test_the_interval_is_nadeau_and_bengios():
    values = np.array([0.9, 0.95, 1.0, 0.85, 0.9])
    half_width = stats.t.ppf(0.975, 4) * np.sqrt((1 / 5 + 1 / 4) * values.var(ddof=1))
    assert estimate(values, 0.25) == pytest.approx((0.92, 0.92 - half_width, 0.92 + half_width))
    assert estimate(values, 0.25, most=1.0).high == 1.0
    # Without overlap it is the ordinary t interval.
    ordinary = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert estimate(values, 0.0)[1:] == pytest.approx(ordinary)


def test_the_difference_is_the_paired_t_test_where_nothing_overlaps():
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 12))
    theirs = stats.ttest_rel(second, first)
    result = difference(first, second, 0.0)
    assert result.p == pytest.approx(theirs.pvalue)
    assert result[1:3] == pytest.approx(tuple(theirs.confidence_interval()))
    assert difference(first, second, 1 / 9).p > result.p
    assert difference(np.zeros(12), np.ones(12), 1 / 9) == (1.0, 1.0, 1.0, 0.0)


def test_a_summary_averages_folds_of_several_networks():
    probabilities, targets = drawn(3, rows=30, folds=6)
    result = summarize(list(probabilities), list(targets), [150] * 6, 300)
    accuracies = [
        accuracy_score(y, p[0].argmax(-1)) for p, y in zip(probabilities, targets, strict=True)
    ]
    assert result.accuracy == estimate(np.array(accuracies), 30 / 150, most=1.0)
    pooled = calibration_error(calibration(probabilities[:, 0].reshape(-1, 3), targets.ravel()))
    assert result.calibration_error.mean == pytest.approx(pooled)
    assert result.calibration_error.low < pooled < result.calibration_error.high


def test_without_errors_the_accuracy_has_a_wilson_interval():
    targets = [np.array([0, 1, 2])] * 10
    result = summarize([np.eye(3)[None]] * 10, targets, [27] * 10, 30)
    wilson = stats.binomtest(30, 30).proportion_ci(method="wilson")
    assert result.accuracy == (1.0, wilson.low, 1.0)


@given(st.integers(1, 1000), st.floats(0, 1))
def test_the_wilson_interval_solves_wilsons_equation(trials, share):
    successes = round(share * trials)
    z = stats.norm.ppf(0.975)
    for bound in wilson_interval(successes, trials):
        distance = abs(successes / trials - bound)
        assert distance == pytest.approx(z * np.sqrt(bound * (1 - bound) / trials), abs=1e-7)
