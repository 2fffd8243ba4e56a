"""What each part of the default for tables brings: the same networks without it.

On six of the tables that the recipe was chosen on (bench/real_tables.py), 5-fold cross-validation,
identical folds, so the figures are optimistic.

python -m bench.parts           # 15 minutes on 2 cores
python -m bench.parts --small   # seconds, writes nothing: does it run?
"""

import json
import os
import platform
import sys
import tempfile
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.datasets import load_iris
from torch.nn import CrossEntropyLoss
from torch.optim import AdamW

from bench.measure import processor
from bench.real_tables import DEVELOPMENT, write_table
from bench.tables import fitted
from cli.command import quiet
from cli.component import to_config
from cli.registry import LEARNED
from data.table import Table
from evaluation.plan import make_plan
from model import recipe
from model.networks import MLP
from model.scores import score
from training.fast import skip_driver_lookup

SMALL = "--small" in sys.argv
RESULTS = Path(__file__).with_name("results") / "parts.json"
TABLES = ("vehicle", "german", "attrition", "segment", "mlc_churn", "phoneme")

# Arguments of Table, of the run, and components, by what is left out.
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "several networks: one, its last epoch": {"members": 1},
    "robust scaling: mean and standard deviation": {"scaling": "standard"},
    "batches of 256: all rows in a step": {"batch_size": None},
    "embedded numbers": {"network": partial(MLP, embedding=0)},
    "label smoothing": {"loss": CrossEntropyLoss},
    "rates by the number of steps: those of 100 steps": {
        "optimizer": partial(AdamW, lr=0.05, weight_decay=0.3, fused=True)
    },
}
UNCALIBRATED = "calibration"  # measured on the networks of "nothing"


def measure(path: Path, target: str, change: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Accuracy and log-loss, as means over the folds, with and without calibration."""
    arguments = dict(change)
    members = arguments.pop("members", None)
    factories = {name: getattr(recipe, name.upper()) for name in LEARNED}
    for name in LEARNED:
        factories[name] = arguments.pop(name, factories[name])
    datamodule = Table(str(path), target, **arguments)
    components = to_config(factories)
    plan = make_plan(datamodule, [components], 5, 1, 0, 1, 0, members=members, memory=2**40)
    population = fitted(datamodule, plan)
    outcomes = plan.outcomes(population)
    size = plan.members_per_fold
    alone = [population.outcomes[member].probabilities for member in sorted(population.outcomes)]
    predictions = {
        "calibrated": [outcomes[member].probabilities for member in sorted(outcomes)],
        "uncalibrated": [np.mean(alone[i : i + size], 0) for i in range(0, len(alone), size)],
    }
    result = {}
    for kind, folds in predictions.items():
        values: dict[str, list[float]] = {"accuracy": [], "log_loss": []}
        for fold, probabilities in zip(plan.folds, folds, strict=True):
            targets = torch.from_numpy(plan.targets[fold.indices["test"]])
            for name in values:
                values[name].append(score(name, torch.from_numpy(probabilities), targets).item())
        result[kind] = {name: round(float(np.mean(values[name])), 5) for name in values}
    return result


def main() -> None:
    """Measure, write bench/results/parts.json, print."""
    quiet()
    skip_driver_lookup()
    warnings.simplefilter("ignore")
    without: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        if SMALL:
            paths["iris"] = (Path(folder, "iris.csv"), "target")
            pl.from_pandas(load_iris(as_frame=True).frame).write_csv(paths["iris"][0])
        else:
            for name in TABLES:
                paths[name] = (write_table(name, Path(folder)), DEVELOPMENT[name].target)
        for part, change in CHANGES.items():
            for name, (path, target) in paths.items():
                measured = measure(path, target, change)
                without.setdefault(part, {})[name] = measured["calibrated"]
                if part == "nothing":
                    without.setdefault(UNCALIBRATED, {})[name] = measured["uncalibrated"]
            print(part, without[part], flush=True)
    result = {
        "command": "python -m bench.parts",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "n": {"folds": 5},
        "without": without,
    }
    if not SMALL:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
