"""Evaluation: what the networks of a cross-validation predict for the rows held out from them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from torch import Tensor

from data.folds import Fold
from evaluation.estimates import (
    Difference,
    Estimates,
    difference,
    fold_statistics,
    over_folds,
    summarize,
)
from model.member import Member, Outcome
from model.scores import BEST_IS_HIGH

# A choice of a candidate: that of an outer fold by its repeat and fold, or the final one.
Race = tuple[int, int]
FINAL: Race = (0, 0)


def race_of(fold: Fold) -> Race:
    """The race of an outer fold, or the one in which an inner fold judges."""
    return fold[:2]


class Evaluation:
    """The held-out predictions of all members of a cross-validation.

    Several methods take `selection`: the index of a candidate for each outer fold. It is the same
    candidate in all of them, `same_candidate(index)`, or that of a nested cross-validation,
    `nested_selection()`.

    Args:
        targets: Class indices of the whole table, (rows,).
        folds: The outer folds, each followed by its inner folds.
        outcomes: The outcome of every member. Members that failed are counted and left out.
        num_candidates: Number of candidates.
        metric: The score by which candidates are chosen.
        stopped: For each race the candidates that were stopped in it, and in which epoch: it
            cannot choose them.
        groups: The group of each row (rows,), where rows belong together; None for none.
    """

    def __init__(
        self,
        targets: np.ndarray,
        folds: Sequence[Fold],
        outcomes: dict[Member, Outcome],
        num_candidates: int,
        metric: str,
        stopped: Mapping[Race, Mapping[int, int]] = MappingProxyType({}),
        groups: np.ndarray | None = None,
    ) -> None:
        self.stopped = stopped
        self.targets = targets
        self.folds = folds
        self.num_candidates = num_candidates
        self.metric = metric
        self.outer_folds = [index for index, fold in enumerate(folds) if not fold.inner]
        self.is_held_out = np.zeros(len(targets), bool)  # the first rows in time never are
        for index in self.outer_folds:
            self.is_held_out[folds[index].indices["test"]] = True
        self.num_groups = None
        if groups is not None:
            self.num_groups = len(np.unique(groups[self.is_held_out]))
        self.members = sorted(outcomes)
        self.failures = [member for member in self.members if outcomes[member].failed_in]
        # By candidate and fold, of each network: (test rows, num_classes).
        self.probabilities: dict[tuple[int, int], list[np.ndarray]] = {}
        for member in self.members:
            if not outcomes[member].failed_in:
                key = (member.candidate, member.fold)
                self.probabilities.setdefault(key, []).append(outcomes[member].probabilities)

    def same_candidate(self, candidate: int) -> list[int]:
        """The selection of one candidate in all outer folds."""
        return [candidate] * len(self.outer_folds)

    def nested_selection(self) -> list[int]:
        """For each outer fold the candidate that is best on its inner folds.

        No test row of the outer fold takes part, so an estimate of this selection includes the
        cost of selecting.
        """
        return [self.winner(race_of(self.folds[outer])) for outer in self.outer_folds]

    def final_candidate(self) -> int:
        """The candidate to train with in the end: the best on the outer folds."""
        return self.winner(FINAL)

    def judging(self, race: Race) -> list[int]:
        """The folds whose held-out rows judge the candidates of a race."""
        if race == FINAL:
            return self.outer_folds
        return [
            index for index, fold in enumerate(self.folds) if fold.inner and race_of(fold) == race
        ]

    def winner(self, race: Race) -> int:
        """The candidate with the best score in a race; the first of equal ones."""
        stopped = self.stopped.get(race, {})
        left = [index for index in range(self.num_candidates) if index not in stopped]
        scores = self.scores(self.judging(race), left)
        return max(left, key=scores.__getitem__)

    def scores(self, folds: Sequence[int], candidates: Sequence[int]) -> dict[int, float]:
        """The score of each of these candidates on these folds, the higher the better.

        That of a candidate of which a network failed there is minus infinity.
        """
        failed = {member.candidate for member in self.failures if member.fold in folds}
        scores = {}
        for candidate in candidates:
            scores[candidate] = -np.inf
            if candidate not in failed:
                statistics = self.statistics(self.metric, candidate, folds)
                score = over_folds(self.metric, statistics)
                scores[candidate] = score if self.metric in BEST_IS_HIGH else -score
        return scores

    def statistics(self, metric: str, candidate: int, folds: Sequence[int]) -> Tensor:
        """What a candidate's networks contribute to a score on the test rows of these folds."""
        return fold_statistics(
            metric,
            [self.probabilities[candidate, fold] for fold in folds],
            [self.targets[self.folds[fold].indices["test"]] for fold in folds],
        )

    def predictions(self, selection: Sequence[int]) -> list[tuple[Fold, list[np.ndarray]]]:
        """Each outer fold with the probabilities of the candidate selected there.

        Folds in which all networks of that candidate failed are left out.
        """
        predictions = []
        for candidate, fold in zip(selection, self.outer_folds, strict=True):
            if (candidate, fold) in self.probabilities:
                predictions.append((self.folds[fold], self.probabilities[candidate, fold]))
        return predictions

    def estimate(self, selection: Sequence[int]) -> Estimates:
        """All scores with their intervals.

        Raises:
            FloatingPointError: None of the selected networks stayed finite.
        """
        predictions = self.predictions(selection)
        if not predictions:
            raise FloatingPointError(
                "no network of the chosen candidates stayed finite; give a lower --optimizer.lr"
            )
        return summarize(
            [probabilities for _, probabilities in predictions],
            [self.targets[fold.indices["test"]] for fold, _ in predictions],
            [len(fold.indices["train"]) for fold, _ in predictions],
            self.class_rows,
        )

    @property
    def class_rows(self) -> np.ndarray:
        """How many of each class's held-out rows count in an interval, (num_classes,).

        All rows; with groups, shares of the groups as large as those of the rows: rows of a group
        are right or wrong together, so that at worst a group says no more than one row.
        """
        rows: np.ndarray = np.bincount(self.targets[self.is_held_out])
        if self.num_groups is not None:
            rows = rows * (self.num_groups / rows.sum())
        return rows

    def difference(self, first: int, second: int) -> Difference:
        """The accuracy gained from the first candidate to the second, over the same folds."""
        shared_folds = [
            fold
            for fold in self.outer_folds
            if (first, fold) in self.probabilities and (second, fold) in self.probabilities
        ]
        return difference(
            self.statistics("accuracy", first, shared_folds).numpy(),
            self.statistics("accuracy", second, shared_folds).numpy(),
            mean_test_per_train([self.folds[fold] for fold in shared_folds]),
        )

    def votes(self, selection: Sequence[int]) -> np.ndarray:
        """How many networks put each held-out row into each class: (rows, num_classes)."""
        votes = self.zeros(int)
        for fold, networks in self.predictions(selection):
            test = np.asarray(fold.indices["test"])
            for probabilities in networks:
                votes[test, probabilities.argmax(-1)] += 1
        return votes

    def ensemble_accuracy(self, selection: Sequence[int]) -> float:
        """Accuracy of the mean probabilities of all networks that a row was held out from."""
        total = self.zeros(float)
        for fold, networks in self.predictions(selection):
            test = np.asarray(fold.indices["test"])
            for probabilities in networks:
                total[test] += probabilities
        correct = total.argmax(-1) == self.targets
        return float(correct[self.is_held_out].mean())

    def zeros(self, dtype: type) -> np.ndarray:
        """An array (rows, num_classes) of zeros."""
        (probabilities, *_) = next(iter(self.probabilities.values()))
        return np.zeros((len(self.targets), probabilities.shape[-1]), dtype)


def mean_test_per_train(folds: Sequence[Fold]) -> float:
    """Test rows of a fold per training row."""
    shares = [len(fold.indices["test"]) / len(fold.indices["train"]) for fold in folds]
    return float(np.mean(shares))
