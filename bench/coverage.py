"""How often the 95 % intervals cover the truth, on simulated tables whose truth is known.

Each table has two classes of equally many rows, normal in 5 columns, whose means are `distance`
apart. On every table repeated cross-validation gives a mean and an interval of each score, as
evaluate.py does. The truth is the mean score of the same networks on fresh rows, 500 for each
table and drawn anew: what networks reach that are trained on as many rows as a fold trains on. An
interval covers the truth if it contains it.

The accuracy's interval is compared with two others: the corrected resampled t-interval of Nadeau
and Bengio (2003), and Wilson's (1927) for the share of right rows among all rows of the table.
A difference is that of two candidates on the same folds: a hidden layer of 8 units, and none.

Then, on labels that are pure noise (distance 0), a sweep over 8 candidates: the nested estimate
beside the optimistic one. The truth is 0.5.

python -m bench.coverage           # 20 minutes on one core
python -m bench.coverage --small   # seconds; writes nothing, shows that it runs
"""

import json
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.measure import processor, quiet_trainer
from cli.command import quiet
from data.folds import Fold, cross_validation
from data.members import member_splits
from data.shared_rows import shared
from data.tabular import RawTable, Splits, TabularData
from evaluation.estimates import (
    Difference,
    Estimate,
    difference,
    estimate,
    estimate_over_folds,
    wilson_interval,
)
from evaluation.evaluation import Evaluation, mean_test_per_train
from evaluation.members import as_one
from model.member import FoldData, Member, Outcome
from model.population import Population
from model.scores import score
from training.fast import skip_driver_lookup

RESULTS = Path(__file__).with_name("results")
SMALL = "--small" in sys.argv
TABLES = 4 if SMALL else 500
NOISE_TABLES = 2 if SMALL else 300
FRESH_ROWS = 100 if SMALL else 500
TABLES_AT_ONCE = 20
COLUMNS = 5
EPOCHS = 40
NOISE_ROWS = 60
CANDIDATE: dict[str, Any] = {
    "network": {"class": "MLP", "hidden": [8]},
    "loss": {"class": "CrossEntropyLoss", "label_smoothing": 0.1},
    "optimizer": {"class": "AdamW", "lr": 0.03, "fused": True},
    "schedule": None,
}
LINEAR = CANDIDATE | {"network": {"class": "MLP", "hidden": []}}
SWEEP = [
    CANDIDATE | {"optimizer": {"class": "AdamW", "lr": lr, "weight_decay": decay, "fused": True}}
    for lr, decay in product((0.003, 0.01, 0.03, 0.1), (0.0, 1.0))
]
SCORES = ("accuracy", "balanced_accuracy", "log_loss")


class Setting(NamedTuple):
    """What is simulated: tables of some difficulty, and how they are cross-validated.

    `members` is how many networks predict as one.
    """

    rows: int
    distance: float
    members: int = 1
    folds: int = 10
    repeats: int = 3


def settings() -> dict[str, list[Setting]]:
    """The settings of each group: a grid of tables, and a few of them for other procedures."""
    grid = product((30, 60, 100, 200, 500), (0.0, 1.2, 2.4, 3.6, 5.2))
    some = list(product((30, 100), (1.2, 3.6)))
    groups = {
        "one network, 10 folds x 3 repeats": [Setting(*table) for table in grid],
        "three networks as one, 10 folds x 3 repeats": [
            Setting(*table, members=3) for table in some
        ],
        "one network, 10 folds x 10 repeats": [Setting(*table, repeats=10) for table in some],
        "one network, 5 folds x 1 repeat": [Setting(*table, folds=5, repeats=1) for table in some],
    }
    if SMALL:
        return {name: [group[1]._replace(repeats=1)] for name, group in groups.items()}
    return groups


class Simulation(NamedTuple):
    """A simulated table's cross-validation, and the mean scores of its networks on fresh rows.

    `truths` has those of each candidate.
    """

    evaluation: Evaluation
    truths: list[dict[str, float]]


def simulated(generator: np.random.Generator, rows: int, distance: float) -> RawTable:
    """A table of two classes with equally many rows."""
    targets = np.arange(rows) % 2
    features = generator.normal(size=(rows, COLUMNS))
    features[:, 0] += distance * targets
    return RawTable(features, targets, [f"x{i}" for i in range(COLUMNS)], ["a", "b"])


def train(
    candidates: list[dict[str, Any]], members: list[Member], folds: list[Splits]
) -> dict[Member, Outcome]:
    """The outcomes of a trained population."""
    population = Population(
        COLUMNS, 2, candidates, members, [FoldData(shared(splits)) for splits in folds]
    )
    trainer = quiet_trainer(EPOCHS)
    trainer.fit(population)
    return population.outcomes


def simulations(
    setting: Setting,
    tables: int,
    candidates: list[dict[str, Any]],
    inner_folds: int = 0,
) -> Iterator[Simulation]:
    """The evaluation of each simulated table; the networks of several tables train together."""
    generator = np.random.default_rng([setting.rows, round(10 * setting.distance)])
    for start in range(0, tables, TABLES_AT_ONCE):
        raw_tables = []
        folds_of_tables = []
        all_splits: list[Splits] = []
        for i in range(start, min(start + TABLES_AT_ONCE, tables)):
            table = simulated(generator, setting.rows + FRESH_ROWS, setting.distance)
            datamodule = TabularData(split_seed=i)
            targets = table.targets[: setting.rows]
            folds = cross_validation(
                datamodule, targets, setting.folds, setting.repeats, inner_folds
            )
            raw_tables.append(table)
            folds_of_tables.append(folds)
            all_splits += standardized(table, with_fresh_rows(folds, setting.rows))
        outcomes = fold_outcomes(candidates, all_splits, setting.members, start)
        num_folds = len(folds_of_tables[0])
        for i, (table, folds) in enumerate(zip(raw_tables, folds_of_tables, strict=True)):
            table_outcomes = {
                member._replace(fold=member.fold % num_folds): outcome
                for member, outcome in outcomes.items()
                if member.fold // num_folds == i
            }
            yield simulation(table.targets, setting.rows, folds, table_outcomes, len(candidates))


def with_fresh_rows(folds: list[Fold], rows: int) -> list[Fold]:
    """The folds of a table's first rows, with all further rows behind the held-out ones."""
    fresh = np.arange(rows, rows + FRESH_ROWS)
    return [
        fold._replace(indices=fold.indices | {"test": np.append(fold.indices["test"], fresh)})
        for fold in folds
    ]


def standardized(table: RawTable, folds: list[Fold]) -> list[Splits]:
    """Each fold's splits, with the mean and deviation of its training rows.

    What the project's encoder does, in less time than the training takes.
    """
    splits = []
    for fold in folds:
        train_features = table.features[fold.indices["train"]]
        features = (table.features - train_features.mean(0)) / train_features.std(0)
        fold_splits = {}
        for split, rows in fold.indices.items():
            x = torch.from_numpy(features[rows]).float()
            fold_splits[split] = x, torch.from_numpy(table.targets[rows])
        splits.append(fold_splits)
    return splits


def fold_outcomes(
    candidates: list[dict[str, Any]], folds: list[Splits], together: int, first_table: int
) -> dict[Member, Outcome]:
    """What each candidate's network, or several as one, predicts for the test rows of each fold."""
    splits = folds
    if together > 1:
        splits = [
            member
            for fold_splits in folds
            for member in member_splits(fold_splits, together, TabularData())
        ]
    first_seed = first_table * len(splits)
    members = [
        Member(candidate, i, first_seed + i)
        for candidate in range(len(candidates))
        for i in range(len(splits))
    ]
    outcomes = train(candidates, members, splits)
    if together == 1:
        return outcomes
    result = {}
    for first in range(0, len(members), together):
        group = members[first : first + together]
        key = group[0]._replace(fold=group[0].fold // together)
        prediction = as_one(
            [outcomes[member] for member in group], [splits[member.fold] for member in group]
        )
        result[key] = Outcome(prediction.probabilities, failed_in=0)
    return result


def simulation(
    targets: np.ndarray,
    rows: int,
    folds: list[Fold],
    outcomes: dict[Member, Outcome],
    num_candidates: int,
) -> Simulation:
    """Tell the predictions of held-out rows from those of fresh ones, which give the truth."""
    held_out = {}
    fresh: list[list[np.ndarray]] = [[] for _ in range(num_candidates)]
    for member, outcome in outcomes.items():
        held_out[member] = outcome._replace(probabilities=outcome.probabilities[:-FRESH_ROWS])
        fresh[member.candidate].append(outcome.probabilities[-FRESH_ROWS:])
    fresh_targets = torch.from_numpy(targets[rows:])
    truths = []
    for candidate in range(num_candidates):
        probabilities = torch.from_numpy(np.stack(fresh[candidate]))
        truths.append(
            {name: float(score(name, probabilities, fresh_targets).mean()) for name in SCORES}
        )
    evaluation = Evaluation(targets[:rows], folds, held_out, num_candidates, "accuracy")
    return Simulation(evaluation, truths)


def intervals(evaluation: Evaluation) -> dict[str, Estimate | Difference]:
    """The intervals of one table, by score and kind."""
    folds = evaluation.outer_folds
    test_per_train = mean_test_per_train([evaluation.folds[fold] for fold in folds])
    rows = len(evaluation.targets)
    statistics = [
        {name: evaluation.statistics(name, candidate, folds) for name in SCORES}
        for candidate in range(evaluation.num_candidates)
    ]
    class_rows = np.bincount(evaluation.targets)
    result: dict[str, Estimate | Difference] = {}
    for name in SCORES:
        ours = estimate_over_folds(name, statistics[0][name], test_per_train, class_rows)
        assert ours is not None
        result[name] = ours
        if name != "log_loss":
            wilson = wilson_interval(ours.mean * rows, rows)
            result[f"{name}, Wilson of all rows"] = Estimate(ours.mean, *wilson)
    accuracies = statistics[0]["accuracy"].numpy()
    corrected = estimate(accuracies, test_per_train, most=1.0)
    if corrected.mean == 1:  # the folds do not differ
        corrected = Estimate(1.0, *wilson_interval(rows, rows))
    result["accuracy, corrected t"] = corrected
    for name in ("accuracy", "log_loss"):
        values = statistics[0][name].numpy()
        values_of_other = statistics[1][name].numpy()
        result[f"difference of {name}"] = difference(values_of_other, values, test_per_train)
    return result


def coverage(estimates: Sequence[Estimate | Difference], truth: float) -> dict[str, float]:
    """The share of intervals that contain the truth, with its own 95 % interval; their width."""
    covering = sum(estimate.low <= truth <= estimate.high for estimate in estimates)
    low, high = wilson_interval(covering, len(estimates))
    width = np.mean([estimate.high - estimate.low for estimate in estimates])
    values = {"share": covering / len(estimates), "low": low, "high": high, "width": width}
    return {name: round(float(value), 3) for name, value in values.items()}


def measure_coverage(setting: Setting) -> dict[str, Any]:
    """How often the intervals of two candidates cover the truth, and how wide they are."""
    estimates = defaultdict(list)
    truths: dict[str, list[float]] = defaultdict(list)
    for evaluation, (truth, truth_of_other) in simulations(setting, TABLES, [CANDIDATE, LINEAR]):
        for name, interval in intervals(evaluation).items():
            estimates[name].append(interval)
        for name in SCORES:
            truths[name].append(truth[name])
            truths[f"difference of {name}"].append(truth[name] - truth_of_other[name])
    result: dict[str, Any] = setting._asdict()
    for name in ("accuracy", "log_loss", "difference of accuracy", "difference of log_loss"):
        result[f"true {name}"] = round(float(np.mean(truths[name])), 4)
    means = [estimate.mean for estimate in estimates["accuracy"]]
    result["mean estimate"] = round(float(np.mean(means)), 4)
    result["intervals"] = {
        name: coverage(of_score, float(np.mean(truths[name.partition(",")[0]])))
        for name, of_score in estimates.items()
    }
    return result


def measure_noise() -> dict[str, Any]:
    """The nested and the optimistic estimate of a sweep where there is nothing to learn."""
    estimates: dict[str, list[Estimate]] = {"nested": [], "optimistic": []}
    setting = Setting(NOISE_ROWS, distance=0.0, repeats=1)
    for evaluation, _ in simulations(setting, NOISE_TABLES, SWEEP, inner_folds=3):
        nested = evaluation.nested_selection()
        best = evaluation.same_candidate(evaluation.final_candidate())
        estimates["nested"].append(evaluation.estimate(nested).accuracy)
        estimates["optimistic"].append(evaluation.estimate(best).accuracy)
    result: dict[str, Any] = {"settings": len(SWEEP)}
    for name, named_estimates in estimates.items():
        means = np.array([estimate.mean for estimate in named_estimates])
        half_width = 1.96 * means.std(ddof=1) / len(means) ** 0.5
        result[name] = {
            "mean": round(float(means.mean()), 4),
            "low": round(float(means.mean() - half_width), 4),
            "high": round(float(means.mean() + half_width), 4),
            "covered": coverage(named_estimates, truth=0.5),
        }
    return result


def main() -> None:
    """Simulate, print, write bench/results/coverage.json."""
    quiet()
    skip_driver_lookup()
    result: dict[str, Any] = {
        "command": "python -m bench.coverage",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "n": {"tables": TABLES, "tables of noise": NOISE_TABLES},
        "coverage": {},
    }
    for name, group in settings().items():
        result["coverage"][name] = []
        for setting in group:
            row = measure_coverage(setting)
            result["coverage"][name].append(row)
            print(row, flush=True)
    result["noise"] = measure_noise()
    print(result["noise"])
    if not SMALL:
        text = json.dumps(result, indent=2) + "\n"
        (RESULTS / "coverage.json").write_text(text)


if __name__ == "__main__":
    main()
