"""Baselines against scikit-learn's own cross-validation; differences against SciPy and baycomp."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_predict, cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cli.command import command
from data.folds import cross_validation, standardize_folds
from data.iris import Iris
from evaluate import evaluate
from evaluation.baselines import fit_baseline, predict_fold
from evaluation.estimates import accuracy_estimate, difference, probability_better
from evaluation.report import report
from evaluation.result import EvaluationResult

SHORT = ("--accelerator", "cpu", "--folds", "5", "--repeats", "2", "--network.hidden", "[8]")
PREDICTIONS = {
    "LogisticRegression": LogisticRegression(random_state=0),
    "DummyClassifier": DummyClassifier(strategy="prior"),
    "RandomForestClassifier": RandomForestClassifier(random_state=0),
}


def run(*arguments):
    """The result.json of `python evaluate.py …`."""
    command(evaluate, [*SHORT, *arguments])
    run_dir = max(Path("lightning_logs").iterdir(), key=os.path.getmtime)
    return json.loads((run_dir / "result.json").read_text())


def report_lines(result):
    return list(report(EvaluationResult.from_json(result)))


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    """An evaluation of two networks per fold, with the baselines of PREDICTIONS."""
    log_dir = str(tmp_path_factory.mktemp("baselines"))
    names = f"[{','.join(PREDICTIONS)}]"
    flags = ("--seeds", "2", "--max_epochs", "20", "--log_dir", log_dir, "--baselines", names)
    command(evaluate, [*SHORT, *flags])
    return json.loads(Path(log_dir, "version_0", "result.json").read_text())


@pytest.mark.parametrize("index", range(len(PREDICTIONS)), ids=list(PREDICTIONS))
def test_a_baseline_is_what_scikit_learn_finds_on_the_same_folds(iris, index):
    name, classifier = list(PREDICTIONS.items())[index]
    baseline = iris["baselines"][index]
    assert baseline["name"] == name
    features, targets = load_iris(return_X_y=True)
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), classifier)
    scoring = ["accuracy", "neg_log_loss"]
    theirs = cross_validate(pipeline, features, targets, cv=folds, scoring=scoring)
    accuracies = theirs["test_accuracy"]
    assert baseline["accuracy/mean"] == pytest.approx(accuracies.mean())
    assert baseline["log_loss/mean"] == pytest.approx(-theirs["test_neg_log_loss"].mean(), rel=1e-4)
    low = accuracy_estimate(accuracies, 1 / 4, rows=150).low
    assert baseline["accuracy/low"] == pytest.approx(low)


def test_balanced_accuracy_is_that_of_all_predictions_together():
    result = run("--repeats", "1", "--max_epochs", "1", "--baselines", "[LogisticRegression]")
    features, targets = load_iris(return_X_y=True)
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=1, random_state=0)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    predicted = cross_val_predict(pipeline, features, targets, cv=folds)
    theirs = balanced_accuracy_score(targets, predicted)
    assert result["baselines"][0]["balanced_accuracy/mean"] == pytest.approx(theirs)
    assert result["baselines"][0]["difference"].keys() == {"accuracy", "log_loss"}


@pytest.mark.parametrize("score", ["accuracy", "log_loss"])
def test_the_difference_is_ours_minus_the_baselines(iris, score):
    for baseline in iris["baselines"]:
        gain = baseline["difference"][score]
        ours_minus_theirs = iris[f"{score}/mean"] - baseline[f"{score}/mean"]
        assert gain["mean"] == pytest.approx(ours_minus_theirs)
        # Its posterior, a Student t distribution, from the interval alone.
        scale = (gain["high"] - gain["mean"]) / stats.t.ppf(0.975, 9)
        better = gain["mean"] if score == "accuracy" else -gain["mean"]
        assert baseline["probability_better"][score] == pytest.approx(
            stats.t(9, better, scale).sf(0.01)
        )


def test_the_probability_is_baycomps():
    """CorrelatedTTest(theirs, ours, rope, runs=2).probs() of baycomp 1.0.3."""
    ours = "91 89 93 91 87 92 97 95 86 84 87 90 78 89 84 86 87 88 92 95"
    theirs = "87 95 85 90 93 88 84 83 86 89 83 87 87 91 89 90 85 87 92 95"
    gains = np.array([ours.split(), theirs.split()], dtype=float) / 100
    gains = gains[0] - gains[1]
    assert probability_better(gains, 1 / 9) == pytest.approx(0.45821205514338115)
    assert probability_better(-gains, 1 / 9) == pytest.approx(0.23286859563057116)
    assert probability_better(gains, 1 / 9, margin=0) == pytest.approx(0.6234086272869166)
    # Without a margin the one-sided p-value says the same.
    p = difference(np.zeros(20), gains, 1 / 9).p
    assert probability_better(gains, 1 / 9, margin=0) == pytest.approx(1 - p / 2)


def test_equal_folds_leave_no_doubt():
    assert probability_better(np.full(5, 0.02), 1 / 4) == 1
    assert probability_better(np.full(5, 0.0), 1 / 4) == 0


def test_the_defaults_are_the_majority_class_and_logistic_regression():
    result = run("--max_epochs", "5")
    names = [baseline["name"] for baseline in result["baselines"]]
    assert names == ["DummyClassifier", "LogisticRegression"]
    assert result["baselines"][0]["accuracy/mean"] == pytest.approx(1 / 3)
    assert result["baselines"][0]["log_loss/mean"] == pytest.approx(np.log(3))


def test_a_better_baseline_is_said_first():
    result = run("--max_epochs", "1", "--baselines", "[LogisticRegression, DummyClassifier]")
    better = result["baselines"][0]
    assert better["difference"]["accuracy"]["high"] < 0
    assert better["difference"]["log_loss"]["low"] > 0
    lines = report_lines(result)
    assert lines[0] == (
        "LogisticRegression is better than the network: "
        f"accuracy {better['accuracy/mean']:.4f} against {result['accuracy/mean']:.4f}, "
        f"log-loss {better['log_loss/mean']:.4f} against {result['log_loss/mean']:.4f}"
    )
    assert lines[1] == ""
    for gain in better["difference"].values():
        (line,) = [line for line in lines if f"{gain['mean']:+.4f}" in line]
        assert f"{gain['low']:+.3f} to {gain['high']:+.3f}" in line


def test_a_network_that_is_not_worse_keeps_the_first_line():
    result = run("--max_epochs", "60", "--baselines", "[DummyClassifier]")
    lines = report_lines(result)
    assert lines[0].split() == ["mean", "95", "%", "interval"]
    assert "Majority class" in lines


def test_a_sweep_compares_its_nested_estimate():
    sweep = ("--sweep.optimizer.lr", "[1e-5, 0.05]", "--inner_folds", "2", "--max_epochs", "5")
    result = run(*sweep)
    gain = result["baselines"][1]["difference"]["accuracy"]
    theirs = result["baselines"][1]["accuracy/mean"]
    assert gain["mean"] == pytest.approx(result["accuracy/mean"] - theirs)


def test_a_comparison_has_no_baselines():
    Path("a.yaml").write_text("max_epochs: 2\n")
    Path("b.yaml").write_text("max_epochs: 2\nloss: MSELoss\n")
    command(evaluate, ["--accelerator", "cpu", "--folds", "2", "--compare", "a.yaml", "b.yaml"])
    assert "baselines" not in json.loads(Path("lightning_logs/version_0/result.json").read_text())


def test_none_can_be_asked_for():
    result = run("--max_epochs", "2", "--baselines", "[]")
    assert result["baselines"] == []
    assert not any("same folds" in line for line in report_lines(result))


def test_a_baseline_that_fails_does_not_lose_the_run():
    names = "[CategoricalNB, RidgeClassifier]"
    result = run("--max_epochs", "2", "--baselines", names)
    failed, decides = result["baselines"]
    assert failed.keys() == {"name", "failure"}
    assert f"CategoricalNB failed: {failed['failure']}" in report_lines(result)
    # RidgeClassifier has decisions only.
    assert decides["difference"].keys() == {"accuracy"}
    assert "log_loss/mean" not in decides
    again = EvaluationResult.from_json(result)
    assert again.to_json() == result


def iris_folds(**arguments):
    datamodule = Iris(**arguments)
    table = datamodule.read()
    folds = cross_validation(datamodule, table.targets, folds=3, repeats=1)
    splits, _ = standardize_folds(table, folds)
    return folds, splits


def test_decisions_are_probabilities_of_one():
    _, splits = iris_folds()
    features, _ = splits[0]["test"]
    predicted = predict_fold(RidgeClassifier(), splits[0], 3)
    train_features, train_targets = splits[0]["train"]
    theirs = RidgeClassifier().fit(train_features, train_targets).predict(features)
    np.testing.assert_array_equal(predicted, np.eye(3)[theirs])


def test_validation_rows_are_for_training_too():
    _, splits = iris_folds(val_fraction=0.2)
    rows = [splits[0][split][0].double() for split in ("train", "val")]
    labels = [splits[0][split][1] for split in ("train", "val")]
    classifier = LogisticRegression().fit(torch.cat(rows), torch.cat(labels))
    theirs = classifier.predict_proba(splits[0]["test"][0].double())
    np.testing.assert_allclose(predict_fold(LogisticRegression(), splits[0], 3), theirs)


def test_a_class_without_training_rows_has_probability_0():
    _, splits = iris_folds()
    features, targets = splits[0]["train"]
    without = {**splits[0], "train": (features[targets != 1], targets[targets != 1])}
    predicted = predict_fold(GaussianNB(), without, 3)
    assert not predicted[:, 1].any()
    np.testing.assert_allclose(predicted.sum(1), 1)


def test_warnings_do_not_reach_the_screen():
    """Warnings are errors in these tests; this classifier gives one for every fold."""
    folds, splits = iris_folds()
    outer = {fold[:2]: fold_splits for fold, fold_splits in zip(folds, splits, strict=True)}
    baseline = fit_baseline("LogisticRegression", LogisticRegression(max_iter=1), outer, 3)
    assert not baseline.failure
    assert len(baseline.probabilities) == 3


def test_a_table_of_text_and_missing_values_has_baselines():
    generator = np.random.default_rng(0)
    lines = ["size,colour,kind"]
    for i in range(60):
        size = "" if i % 7 == 0 else f"{generator.normal():.3f}"
        colour = ["red", "blue", ""][i % 3]
        lines.append(f"{size},{colour},{'yes' if i % 3 == 0 else 'no'}")
    Path("table.csv").write_text("\n".join(lines) + "\n")
    table = ("--data", "Table", "--data.path", "table.csv", "--data.target", "kind")
    names = "[DummyClassifier, LogisticRegression, DecisionTreeClassifier]"
    result = run(*table, "--max_epochs", "2", "--baselines", names)
    accuracies = [baseline["accuracy/mean"] for baseline in result["baselines"]]
    assert accuracies == pytest.approx([2 / 3, 1, 1], abs=0.05)
