"""What each option of a fit brings: its time and memory, relative to the same fit without.

    python -m bench.options           # 3 minutes on 2 cores
    python -m bench.options --small   # seconds, writes nothing: does it run?

Fits of an MLP with two hidden layers and of a ResidualMLP with two blocks (expansion 1), of width
256 and 2,048, on drawn rows of 32 columns in batches of 256. Time is that of an epoch after the
first, in which torch.compile works; that is said apart. Accumulation takes four batches of 64 for a
step. Memory is what the network keeps of a batch for the backward pass. Medians of interleaved
fits; results in bench/results/options.json.
"""

import json
import os
import platform
import sys
import tempfile
import warnings
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from torch.autograd.graph import saved_tensors_hooks

from bench.large_tables import EpochClock, Noise
from bench.measure import processor, quiet_trainer
from cli.command import quiet
from cli.component import describe
from model.recipe import LOSS, OPTIMIZER, SCHEDULE
from training.batches import TensorBatches
from training.classifiers import make_classifier
from training.fast import FastClassifier, skip_driver_lookup

SMALL = "--small" in sys.argv
RESULTS = Path(__file__).with_name("results") / "options.json"
N = 1 if SMALL else 3
ROWS = 768
COLUMNS = 32
NETWORKS = ("ResidualMLP",) if SMALL else ("MLP", "ResidualMLP")
WIDTHS = (8,) if SMALL else (256, 2048)
PLAIN = "none"
COMPILE = "`--compile`"
CHECKPOINTING = "`--network ResidualMLP --network.checkpointing true`"
# By flags: precision, batch size, arguments of the Trainer.
OPTIONS: dict[str, tuple[str, int, dict[str, Any]]] = {
    PLAIN: ("32-true", 256, {}),
    COMPILE: ("32-true", 256, {}),
    "`--precision bf16-mixed`": ("bf16-mixed", 256, {}),
    "`--data.batch_size 64 --trainer.accumulate_grad_batches 4`": (
        *("32-true", 64),
        {"accumulate_grad_batches": 4},
    ),
    "`--trainer.gradient_clip_val 1.0`": ("32-true", 256, {"gradient_clip_val": 1.0}),
    CHECKPOINTING: ("32-true", 256, {}),
}


def network_of(name: str, width: int, option: str) -> dict[str, Any]:
    """A network as plain data."""
    if name == "MLP":
        return {"class": "MLP", "hidden": [width, width]}
    checkpointing = option == CHECKPOINTING
    sizes = {"width": width, "blocks": 2, "expansion": 1}
    return {"class": "ResidualMLP", **sizes, "checkpointing": checkpointing}


def fit(name: str, width: int, option: str) -> tuple[float, float, int]:
    """Seconds of the first epoch and of a later one, and bytes kept for a backward pass."""
    precision, batch_size, arguments = OPTIONS[option]
    table = Noise(ROWS, COLUMNS, batch_size)
    table.setup()
    config = {
        "network": network_of(name, width, option),
        "loss": describe("loss", LOSS),
        "optimizer": describe("optimizer", OPTIMIZER),
        "schedule": describe("schedule", SCHEDULE),
        "compile": option == COMPILE,
    }
    seed_everything(0, verbose=False)
    trainer = quiet_trainer(2 if width > 1000 else 20, precision=precision)
    for argument, value in arguments.items():
        setattr(trainer, argument, value)
    classifier = make_classifier(table, config, "train/loss", trainer)
    kept = bytes_kept(classifier, trainer, batch_size)
    clock = EpochClock()
    # Lightning does not declare its list of callbacks.
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    table.make_loader = partial(TensorBatches, trainer=trainer)
    torch._dynamo.reset()
    trainer.fit(classifier, table)
    return clock.seconds[0], median(clock.seconds[1:]), kept


def bytes_kept(classifier: FastClassifier, trainer: Trainer, rows: int) -> int:
    """Bytes that the network keeps of a batch for its backward pass, besides its weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in classifier.parameters()}
    sizes: dict[int, int] = {}

    def record(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = saved_tensors_hooks(record, lambda tensor: tensor)
    with hooks, trainer.precision_plugin.forward_context():
        classifier.network(torch.zeros(rows, COLUMNS))
    return sum(sizes.values())


def measure(name: str, width: int) -> dict[str, dict[str, float]]:
    """Time and memory of every option, relative to the fit without."""
    options = [option for option in OPTIONS if name != "MLP" or option != CHECKPOINTING]
    runs: dict[str, list[tuple[float, float, int]]] = {option: [] for option in options}
    for _ in range(N):
        for option in options:
            runs[option].append(fit(name, width, option))
    usual = median(seconds for _, seconds, _ in runs[PLAIN])
    result = {}
    for option in options:
        seconds = median(second for _, second, _ in runs[option])
        result[option] = {
            "seconds per epoch": round(seconds, 4),
            "time": round(seconds / usual, 2),
        }
        if option == COMPILE:
            first = runs[option][0][0]  # later ones find the program in the cache
            result[option]["seconds to compile"] = round(first - seconds, 1)
        else:
            result[option]["memory"] = round(runs[option][0][2] / runs[PLAIN][0][2], 2)
    return result


def main() -> None:
    """Measure, write bench/results/options.json, print."""
    quiet()
    skip_driver_lookup()
    warnings.simplefilter("ignore")
    networks = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for name, width in product(NETWORKS, WIDTHS):
            networks[f"{name}, width {width:,}"] = measure(name, width)
            print(name, width, networks[f"{name}, width {width:,}"], flush=True)
    result = {
        "command": "python -m bench.options",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "lightning": version("lightning"),
        },
        "n": N,
        "threads": torch.get_num_threads(),
        "networks": networks,
    }
    if not SMALL:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
