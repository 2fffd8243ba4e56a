"""What the pictures cost: a fit with and without them, and the whole command.

Iris in 100 epochs of one batch has the shortest epochs, in which a picture weighs most. The fits
take turns in one process, then the commands take turns; all figures are medians.

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
from statistics import median
from typing import Any

import lightning
import matplotlib
import torch

from bench.measure import ROOT, processor, whole
from cli.command import quiet
from train import train

CHOICES = ("none", "final", "all")
FULL = (15, 7, 100)  # fits, commands, epochs
SMALL = (1, 0, 3)
IMPORTS = (
    "import lightning, jsonargparse, sklearn.datasets, sklearn.model_selection, "
    "torch.utils.tensorboard"
)


def main() -> None:
    """Measure, print, and write bench/results/pictures.json."""
    is_small = "--small" in sys.argv
    quiet()
    # Beside other programs, two threads that wait for each other are slower than one.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the commands
    size = SMALL if is_small else FULL
    result = measure(*size)
    text = json.dumps(result, indent=2)
    if not is_small:
        (ROOT / "bench" / "results" / "pictures.json").write_text(text + "\n")
    print(text)


def measure(fits: int, commands: int, epochs: int) -> dict[str, Any]:
    """The content of pictures.json."""
    fit_seconds("final", epochs)  # not measured: imports at first use
    fit_turns = [{name: fit_seconds(name, epochs) for name in CHOICES} for _ in range(fits)]
    command_turns = [command_seconds() for _ in range(commands)]
    return {
        "command": "python -m bench.pictures",
        "hardware": {"cpus": os.cpu_count(), "processor": processor(), "threads": 1},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "matplotlib": matplotlib.__version__,
        },
        "n": {"fits": fits, "commands": commands},
        "fit": ratios(fit_turns, "none"),
        "whole command": ratios(command_turns, "import"),
        "import": IMPORTS,
    }


def fit_seconds(pictures: str, epochs: int) -> float:
    """Seconds of the fit alone, as train.py measures them."""
    with tempfile.TemporaryDirectory() as log_dir, redirect_stdout(StringIO()):
        result = train(pictures=pictures, max_epochs=epochs, accelerator="cpu", log_dir=log_dir)
    return result.fit_seconds


def command_seconds() -> dict[str, float]:
    """Seconds of the imports alone, and of the whole command with each choice of pictures."""
    seconds = {}
    seconds["import"], _ = whole("-c", IMPORTS)
    for name in CHOICES:
        flags = ("--accelerator", "cpu", "--pictures", name)
        seconds[name], _ = whole(str(ROOT / "train.py"), *flags)
    return seconds


def ratios(turns: list[dict[str, float]], base: str) -> dict[str, dict[str, float]]:
    """Median seconds, and the median of the ratios to `base` in the same turn."""
    result = {}
    names = list(turns[0]) if turns else []
    for name in names:
        seconds = median(turn[name] for turn in turns)
        ratio = median(turn[name] / turn[base] for turn in turns)
        result[name] = {"seconds": round(seconds, 3), f"of {base}": round(ratio, 3)}
    return result


if __name__ == "__main__":
    main()
