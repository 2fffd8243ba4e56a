"""Scores over folds, and their intervals against SciPy and their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    roc_auc_score,
)

from evaluation.estimates import (
    Estimates,
    accuracy_estimate,
    difference,
    estimate,
    fold_statistics,
    over_folds,
    summarize,
    wilson_interval,
)
from model.scores import score


def drawn(seed, rows=200, classes=3, folds=1):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), (folds, 1, rows))
    targets = (probabilities.cumsum(-1) > generator.random((folds, 1, rows, 1))).argmax(-1)[:, 0]
    return probabilities, targets


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


def wilson(successes, trials):
    return stats.binomtest(successes, trials).proportion_ci(method="wilson")


def test_the_accuracys_interval_is_wilsons_over_its_effective_rows():
    """Independent rows whose proportion has the standard error of Nadeau and Bengio."""
    values = np.array([0.7, 0.9, 0.8, 0.6, 1.0])
    error = np.sqrt((1 / 5 + 1 / 4) * values.var(ddof=1))
    effective_rows = 0.8 * 0.2 / error**2
    assert effective_rows < 15
    result = accuracy_estimate(values, 1 / 4, rows=50)
    z = stats.norm.ppf(0.975)
    for bound in result[1:]:  # Wilson's equation
        distance = z * np.sqrt(bound * (1 - bound) / effective_rows)
        assert abs(result.mean - bound) == pytest.approx(distance)


@pytest.mark.parametrize("values", [[0.8] * 5, [0.79, 0.8, 0.81, 0.8, 0.8]])
def test_no_more_rows_are_effective_than_the_table_has(values):
    assert accuracy_estimate(np.array(values), 1 / 4, rows=50)[1:] == pytest.approx(wilson(40, 50))


CLASS_ROWS = np.array([100, 100, 100])


def test_a_summary_averages_folds_or_pools_them():
    probabilities, targets = drawn(3, rows=30, folds=6)
    result = summarize(list(probabilities), list(targets), [150] * 6, CLASS_ROWS)
    of_folds = list(zip(targets, probabilities[:, 0], strict=True))
    accuracies = [accuracy_score(y, p.argmax(-1)) for y, p in of_folds]
    expected = accuracy_estimate(np.array(accuracies), 30 / 150, rows=300)
    assert result.accuracy == pytest.approx(expected)
    averaged = {
        "log_loss": [log_loss(y, p, labels=range(3)) for y, p in of_folds],
        "auroc": [roc_auc_score(y, p, multi_class="ovr") for y, p in of_folds],
    }
    for name, values in averaged.items():
        most = np.inf if name == "log_loss" else 1.0
        expected = estimate(np.array(values), 30 / 150, most=most)
        assert getattr(result, name) == pytest.approx(expected), name

    all_targets = targets.ravel()
    predicted = probabilities.argmax(-1).ravel()
    assert result.balanced_accuracy.mean == pytest.approx(
        balanced_accuracy_score(all_targets, predicted)
    )
    assert result.macro_f1.mean == pytest.approx(f1_score(all_targets, predicted, average="macro"))
    together = torch.from_numpy(probabilities.reshape(-1, 3)), torch.from_numpy(all_targets)
    assert result.calibration_error.mean == pytest.approx(
        score("calibration_error", *together).item()
    )
    for value in result:
        assert value.low < value.mean < value.high


def test_the_pooled_interval_is_the_jackknifes():
    probabilities, targets = drawn(4, rows=30, folds=5)
    predicted = probabilities.argmax(-1)[:, 0]
    pooled = f1_score(targets.ravel(), predicted.ravel(), average="macro")
    influences = []
    for fold in range(5):
        rest = np.arange(5) != fold
        without = f1_score(targets[rest].ravel(), predicted[rest].ravel(), average="macro")
        influences.append(5 * pooled - 4 * without)
    expected = estimate(np.array(influences), 30 / 120, center=pooled, most=1.0)
    result = summarize(list(probabilities), list(targets), [120] * 5, CLASS_ROWS)
    assert result.macro_f1 == pytest.approx(expected)


def test_several_networks_and_folds_of_different_sizes():
    """Means over networks, and folds in their order, whatever their sizes."""
    generator = np.random.default_rng(5)
    sizes = [8, 9, 8, 10]
    probabilities = [generator.dirichlet(np.ones(3), (2, size)) for size in sizes]
    targets = [np.arange(size) % 3 for size in sizes]
    values = fold_statistics("brier", probabilities, targets)
    counts = fold_statistics("macro_f1", probabilities, targets)
    assert counts.shape == (4, 3, 3)
    for fold in range(4):
        of_fold = torch.from_numpy(probabilities[fold]), torch.from_numpy(targets[fold])
        assert values[fold].item() == pytest.approx(score("brier", *of_fold).mean().item())
        assert counts[fold].sum(1).tolist() == (2 * np.bincount(targets[fold])).tolist()
    assert over_folds("brier", values) == pytest.approx(values.mean().item())


def test_without_errors_the_intervals_are_wilsons():
    targets = [np.array([0, 1, 2])] * 10
    class_rows = np.array([10, 10, 10])
    result = summarize([np.eye(3)[None]] * 10, targets, [27] * 10, class_rows)
    assert result.accuracy == pytest.approx((1.0, wilson(30, 30).low, 1.0))
    low = wilson(10, 10).low
    for name in ("balanced_accuracy", "macro_f1", "auroc"):
        assert getattr(result, name) == pytest.approx((1.0, low, 1.0))


def test_folds_of_one_class_have_no_auroc():
    probabilities, targets = drawn(6, rows=30, folds=5)
    targets[0] = 1
    some = summarize(list(probabilities), list(targets), [120] * 5, CLASS_ROWS)
    rest = summarize(list(probabilities[1:]), list(targets[1:]), [120] * 4, CLASS_ROWS)
    assert some.auroc == pytest.approx(rest.auroc)
    targets[:] = 1
    none = summarize(list(probabilities), list(targets), [120] * 5, CLASS_ROWS)
    assert none.auroc is None
    assert all(getattr(none, name) for name in Estimates._fields if name != "auroc")


@given(st.integers(1, 1000), st.floats(0, 1))
def test_the_wilson_interval_is_scipys(trials, share):
    successes = round(share * trials)
    assert wilson_interval(successes, trials) == pytest.approx(wilson(successes, trials), abs=1e-9)


@given(st.floats(1, 1000), st.floats(0, 1))
def test_the_wilson_interval_solves_wilsons_equation(trials, share):
    successes = share * trials
    z = stats.norm.ppf(0.975)
    for bound in wilson_interval(successes, trials):
        distance = abs(successes / trials - bound)
        assert distance == pytest.approx(z * np.sqrt(bound * (1 - bound) / trials), abs=1e-7)
