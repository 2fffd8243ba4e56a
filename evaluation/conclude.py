"""From an Evaluation to its result: the questions that each part of the result answers."""

from collections.abc import Sequence

import numpy as np

from evaluation.baselines import Baseline
from evaluation.estimates import (
    Estimates,
    difference,
    fold_statistics,
    probability_better,
    summarize,
)
from evaluation.evaluation import FINAL, Evaluation, mean_test_per_train
from evaluation.result import (
    BaselineResult,
    BaselineScore,
    CandidateResult,
    Choice,
    EvaluationResult,
    MisclassifiedRow,
    PairedDifference,
    Performance,
    RunInfo,
)
from model.scores import BEST_IS_HIGH

MOST_ROWS = 10_000  # that result.json names


def conclude(
    evaluation: Evaluation,
    names: list[str],
    class_names: list[str],
    run: RunInfo,
    train_commands: list[str] | None = None,
    baselines: Sequence[Baseline] = (),
    warnings: Sequence[str] = (),
) -> EvaluationResult:
    """The result of an evaluation: of one candidate, of a sweep, or of a comparison.

    Args:
        evaluation: The held-out predictions.
        names: The candidates' names.
        class_names: The names of the classes.
        run: How the evaluation was run.
        train_commands: For a sweep, the command that trains each candidate; else None.
        baselines: What scikit-learn's classifiers predict; left out of a comparison.
        warnings: What makes the estimates too good.

    Raises:
        FloatingPointError: No network is left to estimate the performance from.
    """
    if not evaluation.probabilities:
        raise FloatingPointError(
            f"none of {run.members} networks stayed finite; give a lower --optimizer.lr"
        )
    nested = None if train_commands is None else evaluation.nested_selection()
    performance = None
    differences = None
    baseline_results = None
    if nested is None and len(names) > 1:
        differences = paired_differences(evaluation, names)
    else:
        selection = nested or evaluation.same_candidate(0)
        performance = performance_of(evaluation, selection, class_names)
        baseline_results = [
            baseline_result(evaluation, selection, baseline) for baseline in baselines
        ]
    candidates = candidate_results(evaluation, names, nested)
    choice = None
    if train_commands is not None:
        best = evaluation.final_candidate()
        choice = Choice(
            candidate=names[best],
            metric=evaluation.metric,
            optimistic=candidates[best].estimates,
            train=train_commands[best],
        )
    return EvaluationResult(
        performance=performance,
        differences=differences,
        choice=choice,
        candidates=candidates,
        failures=describe_failures(evaluation, names),
        run=run,
        baselines=baseline_results,
        groups=evaluation.num_groups,
        warnings=list(warnings),
    )


def performance_of(
    evaluation: Evaluation, selection: list[int], class_names: list[str]
) -> Performance:
    """What the held-out predictions of the selected candidates say.

    Raises:
        FloatingPointError: None of the selected networks stayed finite.
    """
    targets = evaluation.targets
    votes = evaluation.votes(selection)
    confusion = [votes[targets == k].sum(0).tolist() for k in range(len(class_names))]
    often_wrong, rows_often_wrong = misclassified_rows(votes, targets, class_names)
    return Performance(
        estimates=evaluation.estimate(selection),
        ensemble_accuracy=evaluation.ensemble_accuracy(selection),
        confusion=confusion,
        often_wrong=often_wrong,
        class_names=class_names,
        rows_often_wrong=rows_often_wrong,
    )


def misclassified_rows(
    votes: np.ndarray, targets: np.ndarray, class_names: list[str]
) -> tuple[list[MisclassifiedRow], int]:
    """The first rows that more than half of the networks get wrong, and how many there are."""
    correct = votes[np.arange(len(votes)), targets]
    networks = votes.sum(1)
    rows = np.flatnonzero(2 * correct < networks)
    first = [
        MisclassifiedRow(
            row=int(row) + 1,
            true_class=class_names[targets[row]],
            predicted_class=class_names[votes[row].argmax()],
            wrong=int(networks[row] - correct[row]),
            networks=int(networks[row]),
        )
        for row in rows[:MOST_ROWS]
    ]
    return first, len(rows)


def candidate_results(
    evaluation: Evaluation, names: list[str], nested: list[int] | None
) -> list[CandidateResult]:
    """The scores of each candidate, and how often a nested selection chose it."""
    results = []
    for candidate, name in enumerate(names):
        selection = evaluation.same_candidate(candidate)
        estimates = None
        stopped_in = evaluation.stopped.get(FINAL, {}).get(candidate)
        if stopped_in is None and evaluation.predictions(selection):
            estimates = evaluation.estimate(selection)
        failed = sum(member.candidate == candidate for member in evaluation.failures)
        chosen = None if nested is None else nested.count(candidate)
        results.append(CandidateResult(name, estimates, failed, chosen, stopped_in))
    return results


def paired_differences(evaluation: Evaluation, names: list[str]) -> list[PairedDifference]:
    """Every other candidate against the first, where networks of both are left."""
    if not evaluation.predictions(evaluation.same_candidate(0)):
        return []
    differences = []
    for candidate in range(1, len(names)):
        if evaluation.predictions(evaluation.same_candidate(candidate)):
            gain = evaluation.difference(0, candidate)
            differences.append(PairedDifference(names[0], names[candidate], gain))
    return differences


def baseline_result(
    evaluation: Evaluation, selection: list[int], baseline: Baseline
) -> BaselineResult:
    """A baseline's scores on the outer folds, and how the selected networks differ from it."""
    if baseline.failure:
        return BaselineResult(baseline.name, {}, baseline.failure)
    outer_folds = [evaluation.folds[index] for index in evaluation.outer_folds]
    estimates = summarize(
        [baseline.probabilities[fold[:2]][None] for fold in outer_folds],
        [evaluation.targets[fold.indices["test"]] for fold in outer_folds],
        [len(fold.indices["train"]) for fold in outer_folds],
        evaluation.class_rows,
    )
    scores = {"accuracy": baseline_score("accuracy", estimates, evaluation, selection, baseline)}
    if estimates.balanced_accuracy is not None:
        scores["balanced_accuracy"] = BaselineScore(estimates.balanced_accuracy)
    if baseline.has_probabilities:
        score = baseline_score("log_loss", estimates, evaluation, selection, baseline)
        scores["log_loss"] = score
    return BaselineResult(baseline.name, scores)


def baseline_score(
    name: str,
    estimates: Estimates,
    evaluation: Evaluation,
    selection: list[int],
    baseline: Baseline,
) -> BaselineScore:
    """A baseline's score, and the selected networks' score minus it over the same folds.

    Folds in which all networks failed are left out of the difference; there is none over a single
    fold. A fold's score of several networks is their mean.
    """
    predictions = evaluation.predictions(selection)
    folds = [fold for fold, _ in predictions]
    if len(folds) < 2:
        return BaselineScore(getattr(estimates, name))
    targets = [evaluation.targets[fold.indices["test"]] for fold in folds]
    ours = fold_statistics(name, [probabilities for _, probabilities in predictions], targets)
    theirs = fold_statistics(
        name, [baseline.probabilities[fold[:2]][None] for fold in folds], targets
    )
    test_per_train = mean_test_per_train(folds)
    gains = ours - theirs if name in BEST_IS_HIGH else theirs - ours
    return BaselineScore(
        estimate=getattr(estimates, name),
        difference=difference(theirs.numpy(), ours.numpy(), test_per_train),
        probability_better=probability_better(gains.numpy(), test_per_train),
    )


def describe_failures(evaluation: Evaluation, names: list[str]) -> list[str]:
    """One line for each network that failed."""
    lines = []
    for member in evaluation.failures:
        fold = evaluation.folds[member.fold]
        line = f"fold {fold.fold}, repeat {fold.repeat}, seed {member.seed}"
        line += f", candidate {names[member.candidate]}"
        if fold.inner:
            line += f", inner fold {fold.inner}"
        lines.append(line)
    return lines
