"""Do the intervals mean what they say? Simulated tables whose truth is known.

Each table has 60 rows of two classes, normal in 5 measures, whose means lie `distance` apart. What is estimated is the
accuracy of networks trained on 9 of 10 such rows: known from training on 2,000 other tables of 54 rows, each tested on
2,000 fresh rows. On every table 5 x 10-fold cross-validation gives a mean and a 95 % interval, as evaluate.py does; the
interval covers where the known accuracy lies in it. Besides, on labels that are pure noise (distance 0), a sweep over 8
settings: the nested estimate beside the optimistic one; the truth is 0.5.

python -m bench.coverage           # 15 minutes on 2 cores
python -m bench.coverage --small   # seconds, writes nothing: does it run?
"""

import json
import os
import platform
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from scipy.stats import binomtest

from bench.measure import processor
from cli.command import quiet
from data.folds import Fold, cross_validation, standardized
from data.tabular import RawTable, TabularData
from evaluation.evaluation import Evaluation
from model.population import Member, Population

SMALL = "--small" in sys.argv
TABLES, NOISE_TABLES, TRUTH, FRESH = (4, 2, 10, 100) if SMALL else (400, 300, 2000, 2000)
ROWS, COLUMNS, FOLDS, REPEATS, EPOCHS = 60, 5, 10, 5, 40
DISTANCES = [0.0, 1.5, 3.0]
SETTING: dict[str, Any] = {
    "network": {"class": "MLP", "hidden": [8]},
    "loss": {"class": "CrossEntropyLoss"},
    "optimizer": {"class": "AdamW", "lr": 0.03, "fused": True},
    "schedule": None,
}
SWEEP = [
    SETTING | {"optimizer": {"class": "AdamW", "lr": lr, "weight_decay": decay, "fused": True}}
    for lr, decay in product((0.003, 0.01, 0.03, 0.1), (0.0, 1.0))
]


def made(generator: np.random.Generator, rows: int, distance: float) -> RawTable:
    """A table of two classes, equally many rows of each."""
    targets = np.arange(rows) % 2
    features = generator.normal(size=(rows, COLUMNS))
    features[:, 0] += distance * targets
    return RawTable(features, targets, [f"x{i}" for i in range(COLUMNS)], ["a", "b"])


def outcomes(settings: list[dict[str, Any]], members: list[Member], parts: list[Any]) -> Population:
    """The trained population."""
    population = Population(COLUMNS, 2, settings, members, folds=parts)
    trainer = Trainer(
        accelerator="cpu", max_epochs=EPOCHS, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(population, range(len(population.stacks)))
    return population


def truth(distance: float) -> float:
    """Mean accuracy on fresh rows of networks that were trained on as many rows as a fold trains on."""
    generator = np.random.default_rng(1)
    rows = ROWS * (FOLDS - 1) // FOLDS
    split = [Fold(1, 1, 0, {"train": np.arange(rows), "test": np.arange(rows, rows + FRESH)})]
    parts = [
        standardized(made(generator, rows + FRESH, distance), split)[0][0] for _ in range(TRUTH)
    ]
    population = outcomes([SETTING], [Member(0, i, i) for i in range(TRUTH)], parts)
    right = [
        (outcome.probabilities.argmax(-1) == parts[member.fold]["test"][1].numpy()).mean()
        for member, outcome in population.outcomes.items()
    ]
    return float(np.mean(right))


def evaluations(
    distance: float, tables: int, settings: list[dict[str, Any]], repeats: int, inner: int
) -> Any:
    """An Evaluation of each simulated table; many tables train together."""
    generator = np.random.default_rng(2)
    batch = 10
    for start in range(0, tables, batch):
        every = [made(generator, ROWS, distance) for _ in range(min(batch, tables - start))]
        cuts = [
            cross_validation(
                TabularData(split_seed=start + i), table.targets, FOLDS, repeats, inner
            )
            for i, table in enumerate(every)
        ]
        parts = [
            part
            for table, splits in zip(every, cuts, strict=True)
            for part in standardized(table, splits)[0]
        ]
        each = len(cuts[0])
        members = [
            Member(s, i, start * each + i) for s in range(len(settings)) for i in range(len(parts))
        ]
        found = outcomes(settings, members, parts).outcomes
        for i, (table, splits) in enumerate(zip(every, cuts, strict=True)):
            own = {
                Member(member.candidate, member.fold - i * each, member.seed): outcome
                for member, outcome in found.items()
                if i * each <= member.fold < (i + 1) * each
            }
            yield Evaluation(table.targets, splits, own, len(settings))


def share(hits: list[bool]) -> dict[str, float]:
    """A share with its own 95 % interval."""
    interval = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    values = {"share": np.mean(hits), "low": interval.low, "high": interval.high}
    return {name: round(float(value), 3) for name, value in values.items()}


def main() -> None:
    """Simulate, write bench/results/coverage.json, print."""
    quiet()
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
        known = 0.5 if distance == 0 else truth(distance)
        found = [
            one.estimate([0] * len(one.outer))["accuracy"]
            for one in evaluations(distance, TABLES, [SETTING], REPEATS, 0)
        ]
        row = {
            "true accuracy": round(known, 4),
            "mean estimate": round(float(np.mean([estimate.mean for estimate in found])), 4),
            "mean width": round(
                float(np.mean([estimate.high - estimate.low for estimate in found])), 3
            ),
            "covered": share([estimate.low <= known <= estimate.high for estimate in found]),
        }
        result["coverage"].append(row)
        print(row, flush=True)
    nested, optimistic = [], []
    for one in evaluations(0.0, NOISE_TABLES, SWEEP, 1, 3):
        nested.append(one.estimate(one.choose())["accuracy"])
        optimistic.append(one.estimate([one.best()] * len(one.outer))["accuracy"])
    result["noise"] = {"settings": len(SWEEP)}
    for name, found in (("nested", nested), ("optimistic", optimistic)):
        means = np.array([estimate.mean for estimate in found])
        reach = 1.96 * means.std(ddof=1) / len(means) ** 0.5
        result["noise"][name] = {
            "mean": round(float(means.mean()), 4),
            "low": round(float(means.mean() - reach), 4),
            "high": round(float(means.mean() + reach), 4),
            "covered": share([estimate.low <= 0.5 <= estimate.high for estimate in found]),
        }
    print(result["noise"])
    if not SMALL:
        (Path(__file__).with_name("results") / "coverage.json").write_text(
            json.dumps(result, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
