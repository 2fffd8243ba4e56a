"""The text that evaluate.py prints, with the answer first."""

from collections.abc import Iterator, Sequence
from math import inf

from evaluation.baselines import MAJORITY
from evaluation.estimates import MARGIN, Estimate
from evaluation.result import (
    BaselineResult,
    CandidateResult,
    EvaluationResult,
    PairedDifference,
    Performance,
)
from model.scores import BEST_IS_HIGH

TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}
MAX_CANDIDATES = 20  # that are shown, and have curves
MAX_LINES = 10  # of a list of rows or failures; result.json has all of them


def report(result: EvaluationResult) -> Iterator[str]:
    """The lines of the report."""
    if result.performance:
        better = list(better_lines(result.performance, result.baselines or []))
        if better:
            yield from better
            yield ""
        yield from performance_lines(result, result.performance)
        yield ""
    if result.baselines:
        yield from baseline_lines(result.baselines)
        yield ""
    if len(result.candidates) > 1:
        metric = result.choice.metric if result.choice else "log_loss"
        yield from candidate_lines(result.candidates, metric)
        yield ""
    for difference in result.differences or []:
        yield from difference_lines(difference)
        yield ""
    if result.performance:
        yield from confusion_lines(result.performance, result.networks_per_row)
        yield ""
    if result.failures:
        failed = f"{len(result.failures)} of {result.run.members} networks failed"
        yield f"{failed}, their loss or weights are not finite:"
        yield from shortened(result.failures)
        yield ""
    if result.choice:
        yield f"chosen   {result.choice.train}"
        yield ""
    yield speed_line(result)


def performance_lines(result: EvaluationResult, performance: Performance) -> Iterator[str]:
    """The scores with their intervals; beside the one that chose, what it would flatter."""
    choice = result.choice
    groups = "" if result.groups is None else f", of {result.groups} groups"
    yield f"{'':22}{'mean':>8}   95 % interval{groups}"
    for name, title in TITLES.items():
        estimate = getattr(performance.estimates, name)
        if estimate is None:
            continue
        is_metric = choice is not None and choice.metric == name
        note = "   nested: what to expect" if is_metric else ""
        yield f"{title:22}{interval(estimate)}{note}"
        if choice is not None and is_metric and choice.optimistic:
            optimistic = interval(getattr(choice.optimistic, name))
            yield f"{'  optimistic':22}{optimistic}   the best candidate, on the rows that chose it"
    networks = result.networks_per_row
    if networks > 1:
        line = f"{'ensemble accuracy':22}{performance.ensemble_accuracy:8.4f}"
        yield f"{line}   {networks} networks per row"


def better_lines(performance: Performance, baselines: list[BaselineResult]) -> Iterator[str]:
    """A line for each baseline that is better than the networks."""
    for baseline in baselines:
        figures = []
        for name in baseline.better_in():
            theirs = baseline.scores[name].estimate.mean
            ours = getattr(performance.estimates, name).mean
            figures.append(f"{TITLES[name]} {theirs:.4f} against {ours:.4f}")
        if figures:
            yield f"{title(baseline)} is better than the network: {', '.join(figures)}"


def baseline_lines(baselines: list[BaselineResult]) -> Iterator[str]:
    """The scores of each baseline, and the difference of the networks to it."""
    heading = f"{'on the same folds':22}{'mean':>8}   95 % interval "
    yield f"{heading}   ours minus it   95 % interval      P(better by {MARGIN})"
    for baseline in baselines:
        if baseline.failure:
            yield f"{title(baseline)} failed: {baseline.failure}"
            continue
        yield title(baseline)
        for name, score in baseline.scores.items():
            line = f"  {TITLES[name]:20}{interval(score.estimate)}"
            gain = score.difference
            if gain is not None:
                line += f"{gain.mean:+16.4f}   {gain.low:+.3f} to {gain.high:+.3f}"
                line += f"{score.probability_better:8.3f}"
            yield line


def title(baseline: BaselineResult) -> str:
    """What a baseline is called on the screen."""
    return "Majority class" if baseline.name == MAJORITY else baseline.name


def candidate_lines(candidates: list[CandidateResult], metric: str) -> Iterator[str]:
    """A table with a line for each candidate: accuracy, log-loss, and what the choice goes by."""
    width = max(len(candidate.name) for candidate in candidates)
    nested = candidates[0].chosen is not None
    heading = f"{'candidate':{width}}  accuracy   95 % interval   log-loss"
    column = ""
    if metric not in ("accuracy", "log_loss"):
        column = f"   {TITLES[metric]}"
    heading += column
    if nested:
        heading += "   chosen in folds"
    yield heading
    for candidate in leading(candidates, metric):
        line = f"{candidate.name:{width}}"
        if candidate.estimates:
            line += interval(candidate.estimates.accuracy, width=10)
            line += f"{candidate.estimates.log_loss.mean:9.4f}"
            estimate = getattr(candidate.estimates, metric)
            if column and estimate:
                line += f"{estimate.mean:{len(column)}.4f}"
        else:
            reason = "all networks failed"
            if candidate.stopped_in is not None:
                reason = f"stopped in epoch {candidate.stopped_in}"
            line += f"{reason:>{36 + len(column)}}"
        if nested:
            line += f"{candidate.chosen:18}"
        yield line
    if len(candidates) > MAX_CANDIDATES:
        yield f"  and {len(candidates) - MAX_CANDIDATES} more, in result.json"


def leading(candidates: list[CandidateResult], metric: str) -> list[CandidateResult]:
    """The candidates to show: all in their order, or the best of too many."""
    if len(candidates) <= MAX_CANDIDATES:
        return candidates
    sign = -1 if metric in BEST_IS_HIGH else 1

    def rank(candidate: CandidateResult) -> tuple[float, int]:
        estimate = getattr(candidate.estimates, metric, None)
        score = sign * estimate.mean if estimate else inf
        return score, -(candidate.stopped_in or 0)

    return sorted(candidates, key=rank)[:MAX_CANDIDATES]


def difference_lines(row: PairedDifference) -> Iterator[str]:
    """The difference of two candidates, and whether it can be told from chance."""
    gain = row.difference
    verdict = "no difference can be told from these data"
    if gain.p < 0.05:
        better = row.second if gain.mean > 0 else row.first
        verdict = f"{better} is better"
    values = f"{gain.mean:+.4f}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f}"
    yield f"{row.second} minus {row.first}: {values}"
    yield f"p = {gain.p:.3f}: {verdict}"


def confusion_lines(performance: Performance, networks_per_row: int) -> Iterator[str]:
    """The confusion matrix in rows of the table, each class's recall, and rows often wrong."""
    names = performance.class_names
    first_width = max(len("true class"), *(len(name) for name in names))
    width = max(9, *(len(name) + 3 for name in names))
    columns = "".join(f"{name:>{width}}" for name in names)
    yield f"{'true class':{first_width}}{columns}   recall   (columns: predicted)"
    rows = zip(names, performance.confusion, performance.recall, strict=True)
    for name, counts, recall in rows:
        cells = "".join(f"{count / networks_per_row:{width}.1f}" for count in counts)
        yield f"{name:{first_width}}{cells}{recall:9.3f}"
    yield ""
    count = performance.rows_often_wrong
    yield f"rows that most networks get wrong, counted from 1: {count or 'none'}"
    yield from shortened(
        [
            f"row {row.row}: {row.true_class}, taken for {row.predicted_class} "
            f"by {row.wrong} of {row.networks}"
            for row in performance.often_wrong
        ]
    )


def speed_line(result: EvaluationResult) -> str:
    """How many networks were trained in which time."""
    run = result.run
    rate = run.members / run.fit_seconds
    speed = f"{rate:,.0f} per second"
    if rate < 1:
        speed = f"{1 / rate:,.1f} s each"
    networks = f"{run.members:,} networks, {run.folds} folds x {run.repeats} repeats"
    return f"{networks}, in {run.fit_seconds:.1f} s: {speed}"


def shortened(lines: Sequence[str]) -> Iterator[str]:
    """The first lines, indented, and how many more there are."""
    for line in lines[:MAX_LINES]:
        yield f"  {line}"
    if len(lines) > MAX_LINES:
        yield f"  and {len(lines) - MAX_LINES} more, in result.json"


def interval(estimate: Estimate, width: int = 8) -> str:
    """A mean and its interval.

    >>> interval(Estimate(0.95, 0.9, 1.0))
    '  0.9500   0.900 to 1.000'
    """
    return f"{estimate.mean:{width}.4f}   {estimate.low:.3f} to {estimate.high:.3f}"
