"""Convolutional networks on scikit-learn's digits, with configs/digits.yaml's augmentation or not.

10-fold cross-validation; the ten networks train as a population. The folds are those of
bench/tables.py, which has the figures of scikit-learn's classifiers. The configuration was chosen
on other folds of the same rows (split_seed 1).

python -m bench.digits           # 9 minutes on one core
python -m bench.digits --small   # seconds, writes nothing: does it run?
"""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import torchvision

from bench.estimate import estimate
from bench.measure import processor
from cli.command import quiet
from cli.parser import parse
from evaluate import evaluate

SMALL = "--small" in sys.argv
ROOT = Path(__file__).parents[1]
FLAGS = ["--config", str(ROOT / "configs" / "digits.yaml"), "--repeats", "1"]
if SMALL:
    FLAGS += ["--folds", "2", "--max_epochs", "1"]
RUNS = {
    "with augmentation": FLAGS,
    "without": [*FLAGS, "--data.rotation=0", "--data.scale=0", "--data.shift=0"],
}
SCORES = ("accuracy", "log_loss", "brier", "calibration_error")


def main() -> None:
    """Measure, write bench/results/digits.json, print."""
    quiet()
    torch.set_num_threads(1)  # beside other programs two threads wait for each other
    runs: dict[str, dict[str, Any]] = {}
    for name, flags in RUNS.items():
        result = estimate(**parse(evaluate, flags))
        row: dict[str, Any] = {}
        for score in SCORES:
            points = [result[f"{score}/{point}"] for point in ("mean", "low", "high")]
            row[score] = [round(value, 4) for value in points]
        row["fit_seconds"] = round(result["fit_seconds"], 1)
        runs[name] = row
        print(f"{name:20}{row['accuracy']}  {row['fit_seconds']} s", flush=True)
    threads = torch.get_num_threads()
    content = {
        "command": "python -m bench.digits",
        "hardware": {"cpus": os.cpu_count(), "processor": processor(), "threads": threads},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "n": result["members"],
        "figures": "mean, and low and high of its 95 % interval, over the folds",
        "runs": runs,
    }
    if not SMALL:
        path = Path(__file__).with_name("results") / "digits.json"
        path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
