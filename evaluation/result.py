"""EvaluationResult: what an evaluation found, as result.json holds it."""

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from evaluation.estimates import Difference, Estimate, Estimates
from model.scores import BEST_IS_HIGH


@dataclass(frozen=True)
class MisclassifiedRow:
    """A row that most networks get wrong; `row` counts from 1."""

    row: int
    true_class: str
    predicted_class: str
    wrong: int
    networks: int

    def to_json(self) -> dict[str, Any]:
        return {
            "row": self.row,
            "class": self.true_class,
            "taken_for": self.predicted_class,
            "wrong": self.wrong,
            "of": self.networks,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "MisclassifiedRow":
        return cls(*(content[key] for key in ("row", "class", "taken_for", "wrong", "of")))


@dataclass(frozen=True)
class Performance:
    """What to expect of a network that is trained like those evaluated.

    `confusion[i][j]` counts how often a network put a row of class i into class j. `often_wrong`
    has the first of the `rows_often_wrong` rows that most networks get wrong.
    """

    estimates: Estimates
    ensemble_accuracy: float
    confusion: list[list[int]]
    often_wrong: list[MisclassifiedRow]
    class_names: list[str]
    rows_often_wrong: int

    @property
    def recall(self) -> list[float]:
        """Of each class's rows the share that the networks put into it."""
        return [counts[i] / max(sum(counts), 1) for i, counts in enumerate(self.confusion)]

    def to_json(self) -> dict[str, Any]:
        return {
            **estimates_to_json(self.estimates),
            "ensemble/accuracy": self.ensemble_accuracy,
            "recall": self.recall,
            "confusion": self.confusion,
            "often_wrong": [row.to_json() for row in self.often_wrong],
            "rows_often_wrong": self.rows_often_wrong,
            "class_names": self.class_names,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Performance":
        return cls(
            estimates=estimates_from_json(content),
            ensemble_accuracy=content["ensemble/accuracy"],
            confusion=content["confusion"],
            often_wrong=[MisclassifiedRow.from_json(row) for row in content["often_wrong"]],
            class_names=content["class_names"],
            rows_often_wrong=content.get("rows_often_wrong", len(content["often_wrong"])),
        )


@dataclass(frozen=True)
class PairedDifference:
    """The accuracy gained from the first candidate to the second."""

    first: str
    second: str
    difference: Difference

    def to_json(self) -> dict[str, Any]:
        return {"first": self.first, "second": self.second, **self.difference._asdict()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "PairedDifference":
        values = Difference(*(content[key] for key in Difference._fields))
        return cls(content["first"], content["second"], values)


@dataclass(frozen=True)
class CandidateResult:
    """The scores of one candidate; None where all its networks failed, or a search stopped it.

    `chosen` counts the outer folds in which a nested cross-validation selected the candidate.
    `stopped_in` is the epoch, from 1, in which it left the final choice of a search.
    """

    name: str
    estimates: Estimates | None
    failed: int
    chosen: int | None = None
    stopped_in: int | None = None

    def figures(self) -> dict[str, float]:
        """The scores by their tags in TensorBoard."""
        return estimates_to_json(self.estimates) if self.estimates else {}

    def to_json(self) -> dict[str, Any]:
        content = {"setting": self.name, **self.figures(), "failed": self.failed}
        if self.chosen is not None:
            content["chosen"] = self.chosen
        if self.stopped_in is not None:
            content["stopped_in"] = self.stopped_in
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "CandidateResult":
        has_estimates = "accuracy/mean" in content
        return cls(
            name=content["setting"],
            estimates=estimates_from_json(content) if has_estimates else None,
            failed=content["failed"],
            chosen=content.get("chosen"),
            stopped_in=content.get("stopped_in"),
        )


@dataclass(frozen=True)
class Choice:
    """The candidate that a sweep chose for the final training.

    `metric` is the score that chose it, `optimistic` are its scores on the folds that chose it;
    `train` is the command to train it.
    """

    candidate: str
    metric: str
    optimistic: Estimates | None
    train: str


class BaselineScore(NamedTuple):
    """A baseline's score and, if folds can be compared by it, the networks' score minus it.

    `probability_better` is the probability that the networks are better by more than 0.01.
    """

    estimate: Estimate
    difference: Difference | None = None
    probability_better: float | None = None


@dataclass(frozen=True)
class BaselineResult:
    """The scores of a classifier of scikit-learn on the folds of the networks, by their names.

    Log-loss is left out where the classifier gives no probabilities. `failure` says why there are
    no scores.
    """

    name: str
    scores: dict[str, BaselineScore]
    failure: str = ""

    def better_in(self) -> list[str]:
        """The scores in which it is better than the networks: the interval excludes 0."""
        names = []
        for name, score in self.scores.items():
            if score.difference is None:
                continue
            if name in BEST_IS_HIGH:
                is_better = score.difference.high < 0
            else:
                is_better = score.difference.low > 0
            if is_better:
                names.append(name)
        return names

    def to_json(self) -> dict[str, Any]:
        content: dict[str, Any] = {"name": self.name}
        if self.failure:
            return content | {"failure": self.failure}
        differences = {}
        probabilities = {}
        for name, score in self.scores.items():
            for key, value in score.estimate._asdict().items():
                content[f"{name}/{key}"] = value
            if score.difference is not None:
                differences[name] = score.difference._asdict()
                probabilities[name] = score.probability_better
        return content | {"difference": differences, "probability_better": probabilities}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "BaselineResult":
        scores = {}
        for name in Estimates._fields:
            if f"{name}/mean" not in content:
                continue
            estimate = Estimate(*(content[f"{name}/{key}"] for key in Estimate._fields))
            scores[name] = BaselineScore(estimate)
            if name in content["difference"]:
                difference = Difference(**content["difference"][name])
                probability = content["probability_better"][name]
                scores[name] = BaselineScore(estimate, difference, probability)
        return cls(content["name"], scores, content.get("failure", ""))


@dataclass(frozen=True)
class RunInfo:
    """How the evaluation was run."""

    members: int
    folds: int
    repeats: int
    seeds: int
    fit_seconds: float
    seed: int
    device: str
    versions: dict[str, str]


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Args:
        performance: The estimate for the only candidate, or for a sweep's selection; None for a
            comparison.
        differences: Every other candidate against the first; None unless it is a comparison.
        choice: The chosen candidate; None unless it is a sweep.
        candidates: The scores of every candidate.
        failures: A description of each network that failed.
        run: How the evaluation was run.
        baselines: The scores of scikit-learn's classifiers; None for a comparison.
        groups: How many groups were held out, where rows belong together; None for none.
        warnings: What makes the estimates too good.
    """

    performance: Performance | None
    differences: list[PairedDifference] | None
    choice: Choice | None
    candidates: list[CandidateResult]
    failures: list[str]
    run: RunInfo
    baselines: list[BaselineResult] | None = None
    groups: int | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def networks_per_row(self) -> int:
        """How many networks each row was held out from."""
        return self.run.repeats * self.run.seeds

    def to_json(self) -> dict[str, Any]:
        """The content of result.json."""
        content: dict[str, Any] = {}
        if self.performance:
            content |= self.performance.to_json()
        if self.differences is not None:
            content["differences"] = [row.to_json() for row in self.differences]
        if self.choice:
            content["chosen"] = self.choice.candidate
            content["metric"] = self.choice.metric
            content["optimistic"] = (
                estimates_to_json(self.choice.optimistic) if self.choice.optimistic else {}
            )
        if self.baselines is not None:
            content["baselines"] = [baseline.to_json() for baseline in self.baselines]
        if self.groups is not None:
            content["groups"] = self.groups
        if self.warnings:
            content["warnings"] = self.warnings
        content["settings"] = [candidate.to_json() for candidate in self.candidates]
        content["failed"] = len(self.failures)
        content["failures"] = self.failures
        content |= asdict(self.run)
        if self.choice:
            content["train"] = self.choice.train
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "EvaluationResult":
        """The result that a result.json holds."""
        choice = None
        if "optimistic" in content:
            optimistic = content["optimistic"]
            choice = Choice(
                candidate=content["chosen"],
                metric=content.get("metric", "accuracy"),  # version 0.1.0 chose by accuracy
                optimistic=estimates_from_json(optimistic) if optimistic else None,
                train=content["train"],
            )
        differences = None
        if "differences" in content:
            differences = [PairedDifference.from_json(row) for row in content["differences"]]
        baselines = None
        if "baselines" in content:
            baselines = [BaselineResult.from_json(row) for row in content["baselines"]]
        return cls(
            performance=Performance.from_json(content) if "confusion" in content else None,
            differences=differences,
            choice=choice,
            candidates=[CandidateResult.from_json(row) for row in content["settings"]],
            failures=content["failures"],
            run=RunInfo(**{name: content[name] for name in RunInfo.__dataclass_fields__}),
            baselines=baselines,
            groups=content.get("groups"),
            warnings=content.get("warnings", []),
        )


def estimates_to_json(estimates: Estimates) -> dict[str, float]:
    """NAME/mean, NAME/low and NAME/high of each score."""
    content = {}
    for name, estimate in estimates._asdict().items():
        if estimate is not None:
            for key, value in estimate._asdict().items():
                content[f"{name}/{key}"] = value
    return content


def estimates_from_json(content: dict[str, Any]) -> Estimates:
    """The scores that `estimates_to_json` wrote."""
    estimates = {}
    for name in Estimates._fields:
        if f"{name}/mean" in content:
            estimates[name] = Estimate(*(content[f"{name}/{key}"] for key in Estimate._fields))
    return Estimates(**estimates)
