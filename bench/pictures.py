"""What the pictures cost: the fit without and with them, and the whole command.

Iris, 100 epochs of one batch: the shortest epochs there are, so what a picture adds to each weighs most. The fits take
turns in one process, then the commands; medians.

python -m bench.pictures           # 5 minutes on 2 cores
python -m bench.pictures --small   # seconds, writes nothing: does it run?
"""

import json
import os
import platform
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median

import lightning
import matplotlib
import torch

from bench.measure import processor, whole
from cli.command import quiet
from train import train

ROOT = Path(__file__).parents[1]
SMALL = "--small" in sys.argv
FITS, COMMANDS, EPOCHS = (1, 0, 3) if SMALL else (15, 7, 100)
IMPORTS = "import lightning, jsonargparse, sklearn.datasets, sklearn.model_selection, torch.utils.tensorboard"


def fit(pictures: str) -> float:
    """Seconds of the fit alone, as train.py measures them."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        return float(
            train(pictures=pictures, max_epochs=EPOCHS, accelerator="cpu", log_dir=folder)[
                "fit_seconds"
            ]
        )


def main() -> None:
    """Measure, write bench/results/pictures.json, print."""
    quiet()
    torch.set_num_threads(
        1
    )  # beside other programs two threads, which wait for each other, are slower
    os.environ["OMP_NUM_THREADS"] = "1"  # for the commands
    choices = ("none", "final", "all")
    lines = {"import": ("-c", IMPORTS)}
    lines |= {
        name: (str(ROOT / "train.py"), "--accelerator", "cpu", "--pictures", name)
        for name in choices
    }
    fits: dict[str, list[float]] = {name: [] for name in choices}
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    fit("final")  # before the clock: what is imported at first use
    for _ in range(FITS):
        for name in choices:
            fits[name].append(fit(name))
    for _ in range(COMMANDS):
        for name, line in lines.items():
            seconds[name].append(whole(*line)[0])
    result = {
        "command": "python -m bench.pictures",
        "hardware": {"cpus": os.cpu_count(), "processor": processor(), "threads": 1},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "matplotlib": matplotlib.__version__,
        },
        "n": {"fits": FITS, "commands": COMMANDS},
        "fit": ratios(fits, "none"),
        "whole command": ratios(seconds, "import") if COMMANDS else {},
        "import": IMPORTS,
    }
    if not SMALL:
        (Path(__file__).with_name("results") / "pictures.json").write_text(
            json.dumps(result, indent=2) + "\n"
        )
    print(json.dumps(result, indent=2))


def ratios(seconds: dict[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """Median seconds, and the median of the ratios to `base` in the same turn."""
    return {
        name: {
            "seconds": round(median(own), 3),
            f"of {base}": round(median(a / b for a, b in zip(own, seconds[base], strict=True)), 3),
        }
        for name, own in seconds.items()
    }


if __name__ == "__main__":
    main()
