"""How often the 95 % intervals cover the truth, on simulated tables whose truth is known.

Each table has 60 rows of two classes, normal in 5 columns, whose means are `distance` apart. What
is estimated is the accuracy of networks trained on 9 of 10 of such rows. It is known from networks
trained on 2,000 other tables of 54 rows, each tested on 2,000 fresh rows. On every table 5 x
10-fold cross-validation gives a mean and a 95 % interval, as evaluate.py does; the interval covers
the truth if it contains the known accuracy.

Then, on labels that are pure noise (distance 0), a sweep over 8 candidates: the nested estimate
beside the optimistic one. The truth is 0.5.

python -m bench.coverage           # 15 minutes on 2 cores
python -m bench.coverage --small   # seconds; writes nothing, shows that it runs
"""

import json
import os
import platform
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer

from bench.measure import processor
from cli.command import quiet
from data.folds import Fold, cross_validation, standardize_folds
from data.tabular import RawTable, Splits, TabularData
from evaluation.estimates import Estimate, wilson_interval
from evaluation.evaluation import Evaluation
from model.population import Member, Outcome, Population
from training.fast import skip_driver_lookup

RESULTS = Path(__file__).with_name("results")
SMALL = "--small" in sys.argv
TABLES = 4 if SMALL else 400
NOISE_TABLES = 2 if SMALL else 300
TRUTH_TABLES = 10 if SMALL else 2000
FRESH_ROWS = 100 if SMALL else 2000
TABLES_AT_ONCE = 10
ROWS = 60
COLUMNS = 5
FOLDS = 10
REPEATS = 5
EPOCHS = 40
DISTANCES = [0.0, 1.5, 3.0]
CANDIDATE: dict[str, Any] = {
    "network": {"class": "MLP", "hidden": [8]},
    "loss": {"class": "CrossEntropyLoss"},
    "optimizer": {"class": "AdamW", "lr": 0.03, "fused": True},
    "schedule": None,
}
SWEEP = [
    CANDIDATE | {"optimizer": {"class": "AdamW", "lr": lr, "weight_decay": decay, "fused": True}}
    for lr, decay in product((0.003, 0.01, 0.03, 0.1), (0.0, 1.0))
]


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
    population = Population(COLUMNS, 2, candidates, members, folds=folds)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(population)
    return population.outcomes


def true_accuracy(distance: float) -> float:
    """Mean accuracy on fresh rows of networks trained on as many rows as a fold trains on."""
    generator = np.random.default_rng(1)
    train_rows = ROWS * (FOLDS - 1) // FOLDS
    rows = train_rows + FRESH_ROWS
    indices = {"train": np.arange(train_rows), "test": np.arange(train_rows, rows)}
    folds = []
    for _ in range(TRUTH_TABLES):
        table = simulated(generator, rows, distance)
        splits, _ = standardize_folds(table, [Fold(1, 1, 0, indices)])
        folds += splits
    members = [Member(0, i, i) for i in range(TRUTH_TABLES)]
    accuracies = []
    for member, outcome in train([CANDIDATE], members, folds).items():
        _, targets = folds[member.fold]["test"]
        predicted = outcome.probabilities.argmax(-1)
        accuracies.append((predicted == targets.numpy()).mean())
    return float(np.mean(accuracies))


def evaluations(
    distance: float,
    tables: int,
    candidates: list[dict[str, Any]],
    repeats: int,
    inner_folds: int = 0,
) -> Iterator[Evaluation]:
    """An Evaluation of each simulated table; the networks of several tables train together."""
    generator = np.random.default_rng(2)
    for start in range(0, tables, TABLES_AT_ONCE):
        count = min(TABLES_AT_ONCE, tables - start)
        raw_tables = [simulated(generator, ROWS, distance) for _ in range(count)]
        folds_of_tables = []
        all_splits: list[Splits] = []
        for i, table in enumerate(raw_tables):
            datamodule = TabularData(split_seed=start + i)
            folds = cross_validation(datamodule, table.targets, FOLDS, repeats, inner_folds)
            folds_of_tables.append(folds)
            all_splits += standardize_folds(table, folds)[0]
        num_folds = len(folds_of_tables[0])
        members = [
            Member(candidate, fold, start * num_folds + fold)
            for candidate in range(len(candidates))
            for fold in range(len(all_splits))
        ]
        outcomes = train(candidates, members, all_splits)
        for i, (table, folds) in enumerate(zip(raw_tables, folds_of_tables, strict=True)):
            table_outcomes = {
                member._replace(fold=member.fold % num_folds): outcome
                for member, outcome in outcomes.items()
                if member.fold // num_folds == i
            }
            yield Evaluation(table.targets, folds, table_outcomes, len(candidates), "accuracy")


def coverage(estimates: list[Estimate], truth: float) -> dict[str, float]:
    """The share of intervals that contain the truth, with its own 95 % interval."""
    covering = sum(estimate.low <= truth <= estimate.high for estimate in estimates)
    low, high = wilson_interval(covering, len(estimates))
    values = {"share": covering / len(estimates), "low": low, "high": high}
    return {name: round(value, 3) for name, value in values.items()}


def measure_coverage(distance: float) -> dict[str, Any]:
    """The estimates of one candidate beside the true accuracy."""
    truth = 0.5 if distance == 0 else true_accuracy(distance)
    estimates = [
        evaluation.estimate(evaluation.same_candidate(0)).accuracy
        for evaluation in evaluations(distance, TABLES, [CANDIDATE], REPEATS)
    ]
    widths = [estimate.high - estimate.low for estimate in estimates]
    return {
        "true accuracy": round(truth, 4),
        "mean estimate": round(float(np.mean([estimate.mean for estimate in estimates])), 4),
        "mean width": round(float(np.mean(widths)), 3),
        "covered": coverage(estimates, truth),
    }


def measure_noise() -> dict[str, Any]:
    """The nested and the optimistic estimate of a sweep where there is nothing to learn."""
    estimates: dict[str, list[Estimate]] = {"nested": [], "optimistic": []}
    for evaluation in evaluations(0.0, NOISE_TABLES, SWEEP, repeats=1, inner_folds=3):
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
        "rows": ROWS,
        "coverage": [],
    }
    for distance in DISTANCES:
        row = measure_coverage(distance)
        result["coverage"].append(row)
        print(row, flush=True)
    result["noise"] = measure_noise()
    print(result["noise"])
    if not SMALL:
        text = json.dumps(result, indent=2) + "\n"
        (RESULTS / "coverage.json").write_text(text)


if __name__ == "__main__":
    main()
