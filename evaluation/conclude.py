"""From an Evaluation to its result: the questions that each part of the result answers."""

import numpy as np

from evaluation.evaluation import Evaluation
from evaluation.result import (
    CandidateResult,
    Choice,
    EvaluationResult,
    MisclassifiedRow,
    PairedDifference,
    Performance,
    RunInfo,
)


def conclude(
    evaluation: Evaluation,
    names: list[str],
    class_names: list[str],
    run: RunInfo,
    train_commands: list[str] | None = None,
) -> EvaluationResult:
    """The result of an evaluation: of one candidate, of a sweep, or of a comparison.

    Args:
        evaluation: The held-out predictions.
        names: The candidates' names.
        class_names: The names of the classes.
        run: How the evaluation was run.
        train_commands: For a sweep, the command that trains each candidate; else None.

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
    if nested is not None:
        performance = performance_of(evaluation, nested, class_names)
    elif len(names) == 1:
        performance = performance_of(evaluation, evaluation.same_candidate(0), class_names)
    else:
        differences = paired_differences(evaluation, names)
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
    return Performance(
        estimates=evaluation.estimate(selection),
        ensemble_accuracy=evaluation.ensemble_accuracy(selection),
        confusion=confusion,
        often_wrong=misclassified_rows(votes, targets, class_names),
        class_names=class_names,
    )


def misclassified_rows(
    votes: np.ndarray, targets: np.ndarray, class_names: list[str]
) -> list[MisclassifiedRow]:
    """The rows that more than half of the networks get wrong."""
    correct = votes[np.arange(len(votes)), targets]
    networks = votes.sum(1)
    return [
        MisclassifiedRow(
            row=int(row) + 1,
            true_class=class_names[targets[row]],
            predicted_class=class_names[votes[row].argmax()],
            wrong=int(networks[row] - correct[row]),
            networks=int(networks[row]),
        )
        for row in np.flatnonzero(2 * correct < networks)
    ]


def candidate_results(
    evaluation: Evaluation, names: list[str], nested: list[int] | None
) -> list[CandidateResult]:
    """The scores of each candidate, and how often a nested selection chose it."""
    results = []
    for candidate, name in enumerate(names):
        selection = evaluation.same_candidate(candidate)
        estimates = None
        if evaluation.predictions(selection):
            estimates = evaluation.estimate(selection)
        failed = sum(member.candidate == candidate for member in evaluation.failures)
        chosen = None if nested is None else nested.count(candidate)
        results.append(CandidateResult(name, estimates, failed, chosen))
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
