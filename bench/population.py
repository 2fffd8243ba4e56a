"""What a network costs in a population, beside scikit-learn's: the same networks, folds, epochs and steps.

Networks 4-16-3 with ReLU, cross-entropy and Adam's steps, 100 epochs on the folds of 10-fold cross-validation of Iris,
standardized before the clock starts. The population's time includes building its networks. Both sides take turns in
one process, and the figures are medians. Then the cost of a network as members and rows grow, and the whole command
`python evaluate.py` beside `python train.py`. On a CUDA GPU also populations of up to a million.

python -m bench.population           # 6 minutes on 2 cores
python -m bench.population --small   # seconds, writes nothing: does it run?
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
from lightning.pytorch import Trainer
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from bench.measure import processor
from cli.command import quiet
from data.folds import cross_validation, standardized
from data.iris import Iris
from data.sampling import row_order
from data.tabular import Splits
from model.population import STACK_BYTES, Member, Population

ROOT = Path(__file__).parents[1]
SMALL = "--small" in sys.argv
EPOCHS, ROUNDS = (3, 1) if SMALL else (100, 5)
SETTING = {
    "network": {"class": "MLP", "hidden": [16], "activation": "ReLU"},
    "loss": {"class": "CrossEntropyLoss"},
    "optimizer": {"class": "AdamW", "lr": 0.001, "fused": True},
    "schedule": None,
}
ROW_COUNTS = [150, 1500] if SMALL else [150, 1500, 15_000]
MEMBER_COUNTS = [1, 10] if SMALL else [1, 10, 100, 1000, 10_000]
STACKS = [1, 4, 16, 64]
GPU_COUNTS = [10] if SMALL else [1000, 10_000, 100_000, 1_000_000]


def folds(repeats: int, copies: int = 1) -> list[Splits]:
    """Standardized parts of repeated 10-fold cross-validation of Iris, its rows copied with noise."""
    iris = Iris()
    table = iris.read()
    noise = np.random.default_rng(0).normal(0, 0.05, (150 * copies, 4)) * (copies > 1)
    features, targets = np.tile(table.features, (copies, 1)) + noise, np.tile(table.targets, copies)
    splits = cross_validation(iris, targets, 10, repeats)
    return standardized(table._replace(features=features, targets=targets), splits)[0]


def population(
    parts: list[Splits],
    count: int,
    batch: int | None,
    accelerator: str = "cpu",
    size: int = STACK_BYTES,
) -> float:
    """Milliseconds for each of `count` networks, building them included."""
    trainer = Trainer(
        accelerator=accelerator, devices=1, max_epochs=EPOCHS, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    members = [Member(0, i % len(parts), i) for i in range(count)]
    start = time.perf_counter()
    model = Population(
        4,
        3,
        [SETTING],
        members,
        folds=parts,
        batch_size=batch,
        row_order=row_order,
        stack_bytes=size,
    )
    trainer.fit(model, range(len(model.stacks)))
    return (time.perf_counter() - start) / count * 1000


def scikit_learn(parts: list[Splits], count: int, batch: int | None) -> float:
    """Milliseconds for each of `count` networks."""
    start = time.perf_counter()
    for seed in range(count):
        features, targets = (tensor.numpy() for tensor in parts[seed % len(parts)]["train"])
        MLPClassifier(
            (16,),
            batch_size=batch or len(targets),
            max_iter=EPOCHS,
            tol=0,
            n_iter_no_change=EPOCHS,
            random_state=seed,
        ).fit(features, targets)
    return (time.perf_counter() - start) / count * 1000


def commands() -> dict[str, float]:
    """Seconds of the two whole commands, medians of turns."""
    seconds: dict[str, list[float]] = {"train.py": [], "evaluate.py": []}
    for _ in range(ROUNDS):
        for script, times in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                subprocess.run(
                    [sys.executable, str(ROOT / script)],
                    cwd=folder,
                    check=True,
                    capture_output=True,
                )
                times.append(time.perf_counter() - start)
    return {script: round(median(times), 2) for script, times in seconds.items()}


def draw(members: dict[str, float], rows: dict[str, float]) -> None:
    """docs/images/population.png: cost against members, and against rows."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, costs, label in zip(
        axes, (members, rows), ("networks (150 rows)", "rows (100 networks)"), strict=True
    ):
        axis.loglog([int(count) for count in costs], list(costs.values()), "o-", color="#1f5fa8")
        for count, cost in costs.items():
            axis.annotate(
                f"{cost:.2f}",
                (int(count), cost),
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
    """Measure, write bench/results/population.json and docs/images/population.png, print."""
    quiet()
    warnings.simplefilter("ignore", ConvergenceWarning)
    parts = folds(100 if not SMALL else 1)
    population(parts, 10, None)  # warm
    scikit_learn(parts, 1, None)
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
    for name, batch, ours, theirs in (
        ("full batch", None, 1000, 20),
        ("batches of 16", 16, 1000, 10),
    ):
        if SMALL:
            ours, theirs = 10, 1
        times = [
            (population(parts, ours, batch), scikit_learn(parts, theirs, batch))
            for _ in range(ROUNDS)
        ]
        result[name] = {
            "population ms": round(median(one for one, _ in times), 3),
            "scikit-learn ms": round(median(other for _, other in times), 2),
            "ratio": round(median(other / one for one, other in times), 1),
        }
        print(name, result[name], flush=True)
    rounds = range(min(ROUNDS, 3))
    tables = {rows: folds(1, rows // 150) for rows in ROW_COUNTS}
    result["members"] = {
        str(n): round(median(population(parts, n, None) for _ in rounds), 3) for n in MEMBER_COUNTS
    }
    print("members", result["members"], flush=True)
    thousand = 10 if SMALL else 1000
    turns = [
        {size: population(parts, thousand, None, size=size * 2**20) for size in STACKS}
        for _ in range(ROUNDS)
    ]
    result["MiB of a stack"] = {
        str(size): round(median(turn[size] for turn in turns), 3) for size in STACKS
    }
    print("MiB of a stack", result["MiB of a stack"], flush=True)
    hundred = 10 if SMALL else 100
    result["rows"] = {
        str(n): round(median(population(table, hundred, None) for _ in rounds), 3)
        for n, table in tables.items()
    }
    print("rows", result["rows"], flush=True)
    if not SMALL:
        seconds = commands()
        result["whole command"] = seconds | {
            "ratio": round(seconds["evaluate.py"] / seconds["train.py"], 2)
        }
        print("whole command", result["whole command"], flush=True)
    result["gpu"] = None
    if torch.cuda.is_available():
        population(parts, 10, None, "gpu")
        costs = {str(n): population(parts, n, None, "gpu", 2**34) for n in GPU_COUNTS}
        cpu = scikit_learn(parts, 5, None)
        result["gpu"] = {
            "device": torch.cuda.get_device_name(),
            "networks per second": {n: round(1000 / cost) for n, cost in costs.items()},
            "ratio to scikit-learn": {n: round(cpu / cost, 1) for n, cost in costs.items()},
        }
        print("gpu", result["gpu"])
    if not SMALL:
        (Path(__file__).with_name("results") / "population.json").write_text(
            json.dumps(result, indent=2) + "\n"
        )
        draw(result["members"], result["rows"])


if __name__ == "__main__":
    main()
