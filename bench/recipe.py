"""The default recipe beside its neighbours: accuracies on scikit-learn's small tables.

Each candidate differs from the recipe (model/recipe.py) in what its name says and is estimated by
evaluate.py: 10-fold cross-validation, repeated 10 times (digits: once), a network for each fold.
The networks of all candidates that train for the same epochs on the same rows are a population.
The recipe was chosen on these same tables, so its figures are optimistic, and differences below
about 0.002 are noise.

python -m bench.recipe           # 6 minutes on 2 cores
python -m bench.recipe --small   # seconds, writes nothing: does it run?
"""

import json
import os
import platform
import sys
from functools import partial
from pathlib import Path
from typing import Any

import sklearn
import torch

from bench.estimate import REPEATS, SmallTable, estimate
from bench.measure import processor
from cli.command import quiet
from cli.component import ComponentConfig, describe
from model import recipe

SMALL = "--small" in sys.argv

# Changes of the recipe's components: candidates of a single population.
COMPONENT_CHANGES: list[dict[str, Any]] = [
    {},
    {"hidden": [32]},
    {"hidden": [32], "weight_decay": 0.1},
    {"hidden": [64]},
    {"activation": "ReLU"},
    {"activation": "Tanh"},
    {"lr": 0.02},
    {"weight_decay": 0.1},
    {"weight_decay": 1.0},
    {"label_smoothing": 0.0},
    {"label_smoothing": 0.2},
]
# Changes of the whole run: each trains a population of its own. With a validation split, a share of
# all rows, the epoch with the lowest validation loss is kept; otherwise the last epoch.
RUN_CHANGES: list[dict[str, Any]] = [
    {"max_epochs": 50},
    {"max_epochs": 200},
    {"val_fraction": 0.1},
    {"val_fraction": 0.2},
]
COMPONENT_OF_ARGUMENT = {
    "hidden": "network",
    "activation": "network",
    "label_smoothing": "loss",
    "lr": "optimizer",
    "weight_decay": "optimizer",
}
RECIPE = {"network": recipe.NETWORK, "loss": recipe.LOSS, "optimizer": recipe.OPTIMIZER}
EPOCHS = recipe.MAX_EPOCHS
if SMALL:
    REPEATS = {"iris": 1}
    COMPONENT_CHANGES = COMPONENT_CHANGES[:3]
    RUN_CHANGES = [{"max_epochs": 3}, {"val_fraction": 0.1}]
    EPOCHS = 2


def components(change: dict[str, Any]) -> dict[str, ComponentConfig]:
    """The components of a candidate that differ from the recipe's."""
    changed: dict[str, ComponentConfig] = {}
    for argument, value in change.items():
        component = COMPONENT_OF_ARGUMENT[argument]
        config = changed.get(component) or describe(component, RECIPE[component]) or {}
        changed[component] = config | {argument: value}
    return changed


def title(change: dict[str, Any]) -> str:
    """What the printed table calls a candidate."""
    words = [f"{argument} {value}" for argument, value in change.items()]
    return ", ".join(words) or "the recipe"


def measure(table: str) -> list[list[float]]:
    """Mean, low and high of the accuracy of each candidate, in the order of the changes."""
    arguments: dict[str, Any] = {"repeats": REPEATS[table], "max_epochs": EPOCHS}
    candidates = {title(change): components(change) for change in COMPONENT_CHANGES}
    results = [estimate(data=partial(SmallTable, table), compare=candidates, **arguments)]
    for change in RUN_CHANGES:
        options = dict(change)
        fraction = options.pop("val_fraction", 0.0)
        data = partial(SmallTable, table, val_fraction=fraction)
        results.append(estimate(data=data, **arguments | options))
    rows = [row for result in results for row in result["settings"]]
    return [[row[f"accuracy/{point}"] for point in ("mean", "low", "high")] for row in rows]


def main() -> None:
    """Measure, write bench/results/recipe.json, print the table."""
    quiet()
    changes = COMPONENT_CHANGES + RUN_CHANGES
    candidates: list[dict[str, Any]] = [
        {"change": change, "accuracy": {}, "interval": {}} for change in changes
    ]
    totals = [0.0] * len(changes)
    for table in REPEATS:
        for i, (mean, low, high) in enumerate(measure(table)):
            candidates[i]["accuracy"][table] = round(mean, 4)
            candidates[i]["interval"][table] = [round(low, 4), round(high, 4)]
            totals[i] += mean
        print(f"{table} measured", file=sys.stderr, flush=True)
    for candidate, total in zip(candidates, totals, strict=True):
        candidate["accuracy"]["mean"] = round(total / len(REPEATS), 4)

    print(f"{'':32}" + "".join(f"{name:>15}" for name in (*REPEATS, "mean")))
    for candidate in candidates:
        figures = "".join(f"{mean:15.4f}" for mean in candidate["accuracy"].values())
        print(f"{title(candidate['change']):32}{figures}")
    result = {
        "command": "python -m bench.recipe",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "sklearn": sklearn.__version__,
        },
        "n": {table: 10 * repeats for table, repeats in REPEATS.items()},
        "recipe": {name: describe(name, factory) for name, factory in RECIPE.items()},
        "candidates": candidates,
    }
    if not SMALL:
        path = Path(__file__).with_name("results") / "recipe.json"
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
