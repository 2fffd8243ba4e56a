"""Successive halving: in a search the worse half of the candidates stops, again and again."""

from collections.abc import Collection
from typing import Any

from data.folds import Fold
from evaluation.evaluation import FINAL, Evaluation, Race, race_of
from evaluation.plan import Plan
from model.member import Member, Outcome

# The shares of the epochs after which the worse half of the candidates stops.
SHARES = (0.25, 0.5, 0.75)


class Halving:
    """The candidates that are left in each race, for `Population`.

    A race chooses a candidate: one in each outer fold, judged by the rows held out in its inner
    folds; and one in the end, judged by the rows held out in the outer folds. So no row decides
    about a candidate that is estimated on it. A network stops when no race needs it any more.

    Jamieson and Talwalkar (2016), Non-stochastic best arm identification and hyperparameter
    optimization.

    Args:
        plan: The networks.
        epochs: Epochs of those that are never stopped.
        metric: The score by which candidates are chosen.
    """

    def __init__(self, plan: Plan, epochs: int, metric: str) -> None:
        self.plan = plan
        self.metric = metric
        self.rungs: Collection[int] = {round(share * epochs) for share in SHARES} - {0, epochs}
        races = {FINAL, *map(race_of, plan.folds)}
        # The epoch in which each candidate that lost a race was stopped, from 1.
        self.stopped: dict[Race, dict[int, int]] = {race: {} for race in races}

    def losers(self, epoch: int, outcomes: dict[Member, Outcome]) -> set[Member]:
        """The networks that stop.

        Args:
            epoch: The epoch that has ended, from 1.
            outcomes: What each network that is left predicts now.
        """
        plan = self.plan
        joined = plan.joined(outcomes)
        candidates = len(plan.candidates)
        evaluation = Evaluation(plan.targets, plan.folds, joined, candidates, self.metric)
        for race, stopped in self.stopped.items():
            left = [candidate for candidate in range(candidates) if candidate not in stopped]
            scores = evaluation.scores(evaluation.judging(race), left)
            ranked = sorted(left, key=scores.__getitem__, reverse=True)
            for candidate in ranked[-(-len(left) // 2) :]:
                stopped[candidate] = epoch
        return {member for member in outcomes if not self.is_needed(member)}

    def state_dict(self) -> dict[str, Any]:
        """Where the races stand, as plain data."""
        return {
            "stopped": [[*race, list(stops.items())] for race, stops in self.stopped.items()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stopped = {(repeat, fold): dict(stops) for repeat, fold, stops in state["stopped"]}

    def is_needed(self, member: Member) -> bool:
        """Whether a network's candidate is left in a race in which it takes part."""
        fold: Fold = self.plan.folds[member.fold // self.plan.members_per_fold]
        races = [race_of(fold)] if fold.inner else [race_of(fold), FINAL]
        return any(member.candidate not in self.stopped[race] for race in races)
