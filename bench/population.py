"""What a network costs in a population, and what it costs as scikit-learn's MLPClassifier.

Both train networks 4-16-3 with ReLU, cross-entropy and Adam's steps for 100 epochs, on the folds
of 10-fold cross-validation of Iris, standardized before the clock starts. The population's time
includes building its networks. Both sides take turns in one process; the figures are medians.
Then: the cost of a network as members and rows grow, and the whole command `python evaluate.py`
beside `python train.py`. On a CUDA GPU also populations of up to a million networks.

python -m bench.population           # 6 minutes on 2 cores
python -m bench.population --small   # seconds; writes nothing, shows that it runs
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from bench.measure import processor, quiet_trainer
from cli.command import quiet
from data.folds import cross_validation, standardize_folds
from data.iris import Iris
from data.shared_rows import SharedSplits
from model.member import FoldData, Member
from model.population import Population
from model.stack_budget import STACK_BYTES
from training.fast import skip_driver_lookup

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
SMALL = "--small" in sys.argv
EPOCHS = 3 if SMALL else 100
ROUNDS = 1 if SMALL else 5
HUNDRED = 10 if SMALL else 100
THOUSAND = 10 if SMALL else 1000
MEMBER_COUNTS = [1, 10] if SMALL else [1, 10, 100, 1000, 10_000]
ROW_COUNTS = [150, 1500] if SMALL else [150, 1500, 15_000]
STACK_MIB = [1, 4, 16, 64]
GPU_COUNTS = [10] if SMALL else [1000, 10_000, 100_000, 1_000_000]
CANDIDATE: dict[str, Any] = {
    "network": {"class": "MLP", "hidden": [16], "activation": "ReLU"},
    "loss": {"class": "CrossEntropyLoss"},
    "optimizer": {"class": "AdamW", "lr": 0.001, "fused": True},
    "schedule": None,
}


def make_folds(repeats: int, copies: int = 1) -> list[SharedSplits]:
    """Standardized splits of repeated 10-fold cross-validation of Iris.

    With several copies of the rows, each has its own noise.
    """
    iris = Iris()
    table = iris.read()
    features = np.tile(table.features, (copies, 1))
    targets = np.tile(table.targets, copies)
    if copies > 1:
        features = features + np.random.default_rng(0).normal(0, 0.05, features.shape)
    folds = cross_validation(iris, targets, 10, repeats)
    splits, _ = standardize_folds(table._replace(features=features, targets=targets), folds)
    return splits


def population_cost(
    folds: list[SharedSplits],
    count: int,
    batch_size: int | None = None,
    accelerator: str = "cpu",
    stack_bytes: int = STACK_BYTES,
) -> float:
    """Milliseconds per network of a population of `count` networks, building included."""
    trainer = quiet_trainer(EPOCHS, accelerator)
    start = time.perf_counter()
    population = Population(
        4,
        3,
        [CANDIDATE],
        [Member(0, i % len(folds), i) for i in range(count)],
        [FoldData(splits) for splits in folds],
        batch_size=batch_size,
        stack_bytes=stack_bytes,
    )
    trainer.fit(population)
    return (time.perf_counter() - start) / count * 1000


def scikit_learn_cost(
    folds: list[SharedSplits], count: int, batch_size: int | None = None
) -> float:
    """Milliseconds per network of scikit-learn."""
    start = time.perf_counter()
    for seed in range(count):
        features, targets = folds[seed % len(folds)]["train"]
        classifier = MLPClassifier(
            (16,),
            batch_size=batch_size or len(targets),
            max_iter=EPOCHS,
            tol=0,
            n_iter_no_change=EPOCHS,
            random_state=seed,
        )
        classifier.fit(features.numpy(), targets.numpy())
    return (time.perf_counter() - start) / count * 1000


def compare(
    folds: list[SharedSplits], networks: int, sklearn_networks: int, batch_size: int | None
) -> dict[str, float]:
    """Both costs, and the median of their ratio in one round."""
    ours = []
    theirs = []
    for _ in range(ROUNDS):
        ours.append(population_cost(folds, networks, batch_size))
        theirs.append(scikit_learn_cost(folds, sklearn_networks, batch_size))
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    return {
        "population ms": round(median(ours), 3),
        "scikit-learn ms": round(median(theirs), 2),
        "ratio": round(median(ratios), 1),
    }


def cost_by_members(folds: list[SharedSplits]) -> dict[str, float]:
    """Cost of a network by the number of networks."""
    costs = {}
    for count in MEMBER_COUNTS:
        turns = [population_cost(folds, count) for _ in range(min(ROUNDS, 3))]
        costs[str(count)] = round(median(turns), 3)
    return costs


def cost_by_stack_size(folds: list[SharedSplits]) -> dict[str, float]:
    """Cost of a network by the activation budget of a stack in MiB; all sizes take turns."""
    turns: dict[int, list[float]] = {size: [] for size in STACK_MIB}
    for _ in range(ROUNDS):
        for size, costs in turns.items():
            costs.append(population_cost(folds, THOUSAND, stack_bytes=size * 2**20))
    return {str(size): round(median(costs), 3) for size, costs in turns.items()}


def cost_by_rows() -> dict[str, float]:
    """Cost of a network by the number of rows of its table."""
    tables = {rows: make_folds(1, copies=rows // 150) for rows in ROW_COUNTS}
    costs = {}
    for rows, folds in tables.items():
        turns = [population_cost(folds, HUNDRED) for _ in range(min(ROUNDS, 3))]
        costs[str(rows)] = round(median(turns), 3)
    return costs


def command_seconds() -> dict[str, float]:
    """Seconds of the two whole commands, as medians; they take turns."""
    turns: dict[str, list[float]] = {"train.py": [], "evaluate.py": []}
    for _ in range(ROUNDS):
        for script, seconds in turns.items():
            line = [sys.executable, str(ROOT / script)]
            with tempfile.TemporaryDirectory() as cwd:
                start = time.perf_counter()
                subprocess.run(line, cwd=cwd, check=True, capture_output=True)
                seconds.append(time.perf_counter() - start)
    medians = {script: median(seconds) for script, seconds in turns.items()}
    result = {script: round(value, 2) for script, value in medians.items()}
    result["ratio"] = round(result["evaluate.py"] / result["train.py"], 2)
    return result


def gpu_costs(folds: list[SharedSplits]) -> dict[str, Any] | None:
    """Networks per second on a CUDA GPU, also as a ratio to scikit-learn; None without one."""
    if not torch.cuda.is_available():
        return None
    population_cost(folds, 10, accelerator="gpu")  # warm up
    costs = {}
    for count in GPU_COUNTS:
        costs[str(count)] = population_cost(folds, count, accelerator="gpu", stack_bytes=2**34)
    cpu = scikit_learn_cost(folds, 5)
    return {
        "device": torch.cuda.get_device_name(),
        "networks per second": {count: round(1000 / cost) for count, cost in costs.items()},
        "ratio to scikit-learn": {count: round(cpu / cost, 1) for count, cost in costs.items()},
    }


def draw(members: dict[str, float], rows: dict[str, float]) -> None:
    """docs/images/population.png: the cost by networks, and by rows."""
    from matplotlib import pyplot

    panels = {"networks (150 rows)": members, "rows (100 networks)": rows}
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, (label, costs) in zip(axes, panels.items(), strict=True):
        counts = [int(count) for count in costs]
        axis.loglog(counts, list(costs.values()), "o-", color="#1f5fa8")
        for count, cost in zip(counts, costs.values(), strict=True):
            axis.annotate(
                f"{cost:.2f}",
                (count, cost),
                (0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
        axis.set(xlabel=label, ylabel="ms per network")
        axis.margins(0.15, 0.2)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(ROOT / "docs" / "images" / "population.png", dpi=110)


def main() -> None:
    """Measure, print, write bench/results/population.json and .png."""
    quiet()
    skip_driver_lookup()
    warnings.simplefilter("ignore", ConvergenceWarning)
    folds = make_folds(1 if SMALL else 100)
    population_cost(folds, 10)  # warm up
    scikit_learn_cost(folds, 1)
    result: dict[str, Any] = {
        "command": "python -m bench.population",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "sklearn": sklearn.__version__,
        },
        "n": ROUNDS,
        "epochs": EPOCHS,
    }

    def record(name: str, value: Any) -> None:
        result[name] = value
        print(name, value, flush=True)

    record("full batch", compare(folds, THOUSAND, 1 if SMALL else 20, None))
    record("batches of 16", compare(folds, THOUSAND, 1 if SMALL else 10, 16))
    record("members", cost_by_members(folds))
    record("MiB of a stack", cost_by_stack_size(folds))
    record("rows", cost_by_rows())
    if not SMALL:
        record("whole command", command_seconds())
    record("gpu", gpu_costs(folds))
    if not SMALL:
        text = json.dumps(result, indent=2) + "\n"
        (RESULTS / "population.json").write_text(text)
        draw(result["members"], result["rows"])


if __name__ == "__main__":
    main()
