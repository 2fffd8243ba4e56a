"""Evaluation: what the held-out rows of a cross-validation's networks say, together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.estimates import Difference, Estimate, difference, scores, summarize
from model.population import Member, Outcome


class Evaluation:
    """The outcomes of all members over the splits that they were trained on.

    A `choice` names a setting for each outer split: one setting for all of them, or what `choose` finds.

    Args:
        targets: Class numbers of the whole table (rows,).
        splits: `data.folds.Fold`s: outer ones, each followed by its inner ones.
        outcomes: Of every member. Failed ones are counted and left out.
        num_settings: Number of settings.
    """

    def __init__(
        self,
        targets: np.ndarray,
        splits: Sequence[Any],
        outcomes: dict[Member, Outcome],
        num_settings: int,
    ) -> None:
        self.targets, self.splits, self.num_settings = targets, splits, num_settings
        self.outer = [number for number, split in enumerate(splits) if not split.inner]
        self.failures = sorted(member for member, outcome in outcomes.items() if outcome.failed_in)
        networks: dict[tuple[int, int], list[np.ndarray]] = {}
        for member, outcome in sorted(outcomes.items()):
            if not outcome.failed_in:
                networks.setdefault((member.candidate, member.fold), []).append(
                    outcome.probabilities
                )
        # Shapes: (networks, held-out rows, num_classes).
        self.held_out = {
            place: np.stack(probabilities) for place, probabilities in networks.items()
        }

    def folds(self, choice: Sequence[int]) -> list[tuple[int, np.ndarray]]:
        """Outer splits of which a network is left, with the probabilities of the setting chosen there."""
        pairs = zip(choice, self.outer, strict=True)
        return [
            (split, self.held_out[place])
            for place in pairs
            for split in place[1:]
            if place in self.held_out
        ]

    def estimate(self, choice: Sequence[int]) -> dict[str, Estimate]:
        """All scores with their intervals.

        Raises:
            FloatingPointError: None of the chosen networks stayed finite.
        """
        if not self.folds(choice):
            raise FloatingPointError(
                "no network of the chosen settings stayed finite; give a lower --optimizer.lr"
            )
        numbers, probabilities = zip(*self.folds(choice), strict=True)
        rows = [self.splits[number].indices for number in numbers]
        return summarize(
            probabilities, [self.targets[r["test"]] for r in rows], [len(r["train"]) for r in rows]
        )

    def accuracy(self, setting: int, split: int) -> float:
        """Mean accuracy of a setting's networks on a split's held-out rows."""
        targets = self.targets[self.splits[split].indices["test"]]
        return scores(self.held_out[setting, split], targets)["accuracy"]

    def rank(self, splits: Sequence[int]) -> int:
        """The setting with the best mean accuracy on the splits; the first of equals, and last what failed there."""

        def merit(setting: int) -> float:
            if any(
                member.candidate == setting and member.fold in splits for member in self.failures
            ):
                return -1.0
            return float(np.mean([self.accuracy(setting, split) for split in splits]))

        return max(range(self.num_settings), key=merit)

    def choose(self) -> list[int]:
        """For each outer split the best setting on its inner ones."""
        inner = {
            number: [
                i
                for i, split in enumerate(self.splits)
                if split.inner and split[:2] == self.splits[number][:2]
            ]
            for number in self.outer
        }
        return [self.rank(numbers) for numbers in inner.values()]

    def best(self) -> int:
        """What to train with in the end: chosen on the outer splits of the whole table, as `choose` does on theirs."""
        return self.rank(self.outer)

    def difference(self, first: int, second: int) -> Difference:
        """The accuracy gained from the first setting to the second."""
        splits = [i for i in self.outer if {(first, i), (second, i)} <= self.held_out.keys()]
        before, after = (
            np.array([self.accuracy(setting, i) for i in splits]) for setting in (first, second)
        )
        rows = [self.splits[i].indices for i in splits]
        return difference(
            before, after, float(np.mean([len(r["test"]) / len(r["train"]) for r in rows]))
        )

    def votes(self, choice: Sequence[int]) -> np.ndarray:
        """How many networks put each held-out row into each class: (rows, num_classes)."""
        first = next(iter(self.held_out.values()))
        votes = np.zeros((len(self.targets), first.shape[-1]), dtype=int)
        for split, probabilities in self.folds(choice):
            for predicted in probabilities.argmax(-1):
                votes[self.splits[split].indices["test"], predicted] += 1
        return votes

    def ensemble_accuracy(self, choice: Sequence[int]) -> float:
        """Accuracy of the mean of the probabilities of all networks that a row was held out from."""
        first = next(iter(self.held_out.values()))
        total = np.zeros((len(self.targets), first.shape[-1]))
        for split, probabilities in self.folds(choice):
            total[self.splits[split].indices["test"]] += probabilities.sum(0)
        return float((total.argmax(-1) == self.targets).mean())


def conclude(
    found: Evaluation, names: list[str], chosen: int, class_names: list[str], nested: bool
) -> dict[str, Any]:
    """What result.json holds of the estimates."""
    everywhere = [[setting] * len(found.outer) for setting in range(len(names))]
    choice = found.choose() if nested else everywhere[chosen]
    rows: list[dict[str, Any]] = [
        {"setting": name} | flat(found.estimate(same) if found.folds(same) else {})
        for name, same in zip(names, everywhere, strict=True)
    ]
    for setting, row in enumerate(rows):
        row["failed"] = sum(member.candidate == setting for member in found.failures)
        if nested:
            row["chosen"] = choice.count(setting)
    result: dict[str, Any] = {}
    if nested or len(names) == 1:
        votes = found.votes(choice)
        right = votes[np.arange(len(votes)), found.targets]
        result |= flat(found.estimate(choice))
        result["ensemble/accuracy"] = found.ensemble_accuracy(choice)
        result["confusion"] = [
            votes[found.targets == k].sum(0).tolist() for k in range(len(class_names))
        ]
        result["often_wrong"] = [
            {
                "row": int(row) + 1,
                "class": class_names[found.targets[row]],
                "taken_for": class_names[votes[row].argmax()],
                "wrong": int(votes[row].sum() - right[row]),
                "of": int(votes[row].sum()),
            }
            for row in np.flatnonzero(2 * right < votes.sum(1))
        ]
        result["class_names"] = class_names
    else:
        result["differences"] = [
            {"first": names[0], "second": names[i]} | found.difference(0, i)._asdict()
            for i in range(1, len(names))
            if found.folds(everywhere[0]) and found.folds(everywhere[i])
        ]
    if nested:
        result |= {
            "chosen": names[chosen],
            "optimistic": {k: v for k, v in rows[chosen].items() if "/" in k},
        }
    failures = []
    for member in found.failures:
        split = found.splits[member.fold]
        place = f"fold {split.fold}, repeat {split.repeat}, seed {member.seed}, setting {names[member.candidate]}"
        failures.append(place + (f", inner fold {split.inner}" if split.inner else ""))
    return result | {"settings": rows, "failed": len(failures), "failures": failures}


def flat(estimates: dict[str, Estimate]) -> dict[str, float]:
    """Name/mean, name/low and name/high of each estimate."""
    return {
        f"{name}/{key}": value
        for name, one in estimates.items()
        for key, value in one._asdict().items()
    }
