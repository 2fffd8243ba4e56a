"""scikit-learn's digits by a convolutional network: configs/digits.yaml with its augmentation, and without.

10-fold cross-validation, the ten networks trained as one population; the folds are those of bench/tables.py, where
scikit-learn's classifiers stand. The settings were chosen on other folds of the same rows (split_seed 1).

python bench/digits.py           # 9 minutes on one core
python bench/digits.py --small   # seconds, writes nothing: does it run?
"""

import json
import os
import platform
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import torchvision

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.measure import processor  # noqa: E402
from cli.command import quiet  # noqa: E402
from cli.parser import parse  # noqa: E402
from evaluate import evaluate  # noqa: E402

SMALL = "--small" in sys.argv
FLAGS = [
    "--config",
    str(ROOT / "configs" / "digits.yaml"),
    "--repeats",
    "1",
    "--accelerator",
    "cpu",
]
FLAGS += ["--folds", "2", "--max_epochs", "1"] if SMALL else []
PLAIN = [f"--data.{name}=0" for name in ("rotation", "scale", "shift")]


def main() -> None:
    """Measure, write bench/results/digits.json, print."""
    quiet()
    torch.set_num_threads(
        1
    )  # beside other programs two threads, which wait for each other, are slower
    runs: dict[str, dict[str, Any]] = {}
    for name, flags in {"with augmentation": FLAGS, "without": [*FLAGS, *PLAIN]}.items():
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            found = evaluate(**parse(evaluate, [*flags, "--log_dir", folder])).to_json()
        figures = ("accuracy", "log_loss", "brier", "calibration_error")
        runs[name] = {
            figure: [round(found[f"{figure}/{point}"], 4) for point in ("mean", "low", "high")]
            for figure in figures
        }
        runs[name]["fit_seconds"] = round(found["fit_seconds"], 1)
        print(f"{name:20}{runs[name]['accuracy']}  {runs[name]['fit_seconds']} s", flush=True)
    result = {
        "command": "python bench/digits.py",
        "hardware": {
            "cpus": os.cpu_count(),
            "processor": processor(),
            "threads": torch.get_num_threads(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "n": found["members"],
        "figures": "mean, and low and high of its 95 % interval, over the folds",
        "runs": runs,
    }
    if not SMALL:
        (Path(__file__).with_name("results") / "digits.json").write_text(
            json.dumps(result, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
