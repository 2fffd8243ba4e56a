"""Every score against scikit-learn's: with ties, with classes that are absent, for many at once."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs
from torchmetrics.classification import MulticlassCalibrationError

from model import scores
from model.scores import METRICS, best_mode, check_metric, score, watched


@st.composite
def predictions(draw):
    """Probabilities (rows, classes) with ties among them, and targets, not of all classes."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = draw(st.integers(2, 5))
    rows = draw(st.integers(2, 40))
    counts = generator.integers(0, draw(st.integers(2, 50)), (rows, classes)) + 1e-3
    present = generator.permutation(classes)[: draw(st.integers(1, classes))]
    return counts / counts.sum(1, keepdims=True), generator.choice(present, rows)


def ours(metric, probabilities, targets):
    return score(metric, torch.from_numpy(probabilities), torch.from_numpy(targets)).item()


def mean_auroc(probabilities, targets):
    """The mean of scikit-learn's binary areas, of the classes that are there."""
    if probabilities.shape[1] == 2:
        return theirs.roc_auc_score(targets, probabilities[:, 1])
    areas = [theirs.roc_auc_score(targets == k, probabilities[:, k]) for k in np.unique(targets)]
    return np.mean(areas)


@given(predictions())
def test_scores_are_scikit_learns(drawn):
    probabilities, targets = drawn
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(1)
    one_hot = np.eye(num_classes)[targets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of absent classes
        expected = {
            "accuracy": theirs.accuracy_score(targets, predicted),
            "balanced_accuracy": theirs.balanced_accuracy_score(targets, predicted),
            "macro_f1": theirs.f1_score(targets, predicted, average="macro"),
            "log_loss": theirs.log_loss(targets, probabilities, labels=range(num_classes)),
            "brier": ((probabilities - one_hot) ** 2).sum(1).mean(),
        }
    for metric, value in expected.items():
        assert ours(metric, probabilities, targets) == pytest.approx(value), metric
    if len(np.unique(targets)) == 1:
        assert np.isnan(ours("auroc", probabilities, targets))
    else:
        expected_auroc = mean_auroc(probabilities, targets)
        assert ours("auroc", probabilities, targets) == pytest.approx(expected_auroc)


@given(st.integers(0, 2**32 - 1), st.integers(3, 5))
def test_with_all_classes_the_auroc_is_scikit_learns_macro_average(seed, classes):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), 30)
    targets = np.arange(30) % classes
    expected = theirs.roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
    assert ours("auroc", probabilities, targets) == pytest.approx(expected)


@given(predictions())
def test_recalls_and_counts_are_scikit_learns(drawn):
    probabilities, targets = drawn
    labels = range(probabilities.shape[1])
    predicted = probabilities.argmax(1)
    counts = scores.confusion(torch.from_numpy(probabilities), torch.from_numpy(targets))
    assert counts.tolist() == theirs.confusion_matrix(targets, predicted, labels=labels).tolist()
    expected = theirs.recall_score(
        targets, predicted, labels=labels, average=None, zero_division=np.nan
    )
    np.testing.assert_allclose(scores.recalls(counts).numpy(), expected)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_the_calibration_error_is_torchmetrics(seed, classes):
    """Of confidences that no rounding moves over the edge of a bin: torchmetrics' are float32."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), 40)
    targets = generator.integers(0, classes, 40)
    reference = MulticlassCalibrationError(classes, n_bins=scores.BINS)
    expected = reference(torch.from_numpy(probabilities), torch.from_numpy(targets)).item()
    assert ours("calibration_error", probabilities, targets) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("are_shared", [True, False])
def test_many_networks_at_once_are_each_by_itself(metric, classes, are_shared):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, classes, 20, generator=generator)
    probabilities = scores.probabilities(logits, class_dim=2)
    assert probabilities.shape == (2, 3, 20, classes)
    targets = torch.randint(classes, (2, 3, 20), generator=generator)
    if are_shared:
        targets = targets[0, 0]
    values = score(metric, probabilities, targets)
    assert values.dtype == torch.float64
    every_target = targets.expand(2, 3, 20)
    for i in (0, 1):
        for j in (0, 1, 2):
            alone = score(metric, probabilities[i, j], every_target[i, j])
            torch.testing.assert_close(values[i, j], alone)


def test_a_sure_mistake_costs_as_much_as_in_scikit_learn():
    probabilities = np.array([[1.0, 0.0], [0.3, 0.7]])
    targets = np.array([1, 1])
    expected = theirs.log_loss(targets, probabilities, labels=[0, 1])
    assert ours("log_loss", probabilities, targets) == pytest.approx(expected)


def test_two_classes_are_ranked_by_the_second_even_where_the_first_is_certain():
    logits = torch.tensor([[90.0, 0.0], [60.0, 0.0], [80.0, 0.0]])
    targets = torch.tensor([0, 1, 0])
    assert score("auroc", scores.probabilities(logits), targets) == 1


def test_what_is_watched_and_when_it_is_best():
    assert watched("brier", has_validation=True) == "val/brier"
    assert watched("brier", has_validation=False) == "train/brier"
    assert [best_mode(f"val/{metric}") for metric in METRICS] == ["max"] * 4 + ["min"] * 3
    assert best_mode("train/loss") == "min"


def test_bad_metrics_are_refused():
    with pytest.raises(ValueError, match="metric 'auc' is not known; nearest: auroc"):
        check_metric("auc", torch.tensor([0, 1]), "the rows")
    check_metric("auroc", torch.tensor([0, 1]), "the rows")
    check_metric("balanced_accuracy", torch.tensor([1, 1]), "the rows")
    with pytest.raises(ValueError, match="auroc, and the rows are all of one class"):
        check_metric("auroc", torch.tensor([1, 1]), "the rows")
