"""Commands that a GPU must run as a CPU does; `works`, a section of bench/gpu.py."""

import contextlib
import io
import json
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.measure import ROOT
from cli.command import command
from evaluate import evaluate
from train import train

SMALL = "--small" in sys.argv
DEVICE = "cpu" if SMALL else "gpu"
QUICK = "--pictures none --max_epochs 20"
MINI_BATCHES = "--data.batch_size 16 --data.val_fraction 0.1"
PRECISIONS = ["32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true"]
IMAGES = (
    "--data Images --data.rotation 10 --data.shift 0.1 --data.flip true "
    "--network ConvNet --optimizer AdamW --optimizer.lr 0.003 --data.batch_size 64 --max_epochs 3"
)
RATES = '{"low":0.01,"high":0.1,"log":true}'
TRAIN_RUNS = {
    "train": "--pictures all",
    **{f"train, {name}": f"--pictures none --precision {name}" for name in PRECISIONS},
    **{
        f"train, {name}, patience": f"{QUICK} {MINI_BATCHES} --precision {name} --patience 9"
        for name in PRECISIONS
    },
    **{
        f"train, {name}, clipped": f"{QUICK} --precision {name} --trainer.gradient_clip_val 1"
        for name in ("32-true", "bf16-mixed", "16-mixed")
    },
    "train, SGD, 16-mixed": "--optimizer SGD --optimizer.lr 0.1 --precision 16-mixed",
    "train, deterministic": f"{QUICK} {MINI_BATCHES} --trainer.deterministic true",
    "train, accumulated": f"{QUICK} {MINI_BATCHES} --trainer.accumulate_grad_batches 4",
    "train, MSELoss": f"{QUICK} --loss MSELoss",
    "train, MultiMarginLoss": f"{QUICK} --loss MultiMarginLoss",
    "train, balanced": f"{QUICK} --data.class_weight balanced",
    "train, auroc": f"{QUICK} {MINI_BATCHES} --metric auroc",
    "train, members": f"{QUICK} --members 8",
    "train, members, bf16-mixed": f"{QUICK} --members 8 --precision bf16-mixed",
    "train, images": f"{IMAGES} --pictures none",
    "train, images, bf16-mixed": f"{IMAGES} --pictures none --precision bf16-mixed",
    "train, ddp": f"{QUICK} --strategy ddp",
    "train, fsdp": f"{QUICK} --strategy fsdp",
}
FOLDS = "--folds 5 --repeats 2"
EVALUATE_RUNS = {
    "evaluate": FOLDS,
    "evaluate, batches": f"{FOLDS} --data.batch_size 16",
    "evaluate, patience": f"{FOLDS} {MINI_BATCHES} --patience 10",
    "evaluate, auroc": f"{FOLDS} {MINI_BATCHES} --metric auroc",
    "evaluate, bf16-mixed": f"{FOLDS} --precision bf16-mixed",
    "evaluate, bf16-true": f"{FOLDS} --precision bf16-true",
    "evaluate, 64-true": f"{FOLDS} --precision 64-true",
    "evaluate, MSELoss": f"{FOLDS} --loss MSELoss",
    "evaluate, balanced": f"{FOLDS} --data.class_weight balanced",
    "evaluate, dropout": f"{FOLDS} --network.dropout 0.2",
    "evaluate, SGD": f"{FOLDS} --optimizer SGD --optimizer.lr 0.1",
    "evaluate, plateau": f"{FOLDS} --schedule ReduceLROnPlateau --max_epochs 10",
    "evaluate, members": f"{FOLDS} --members 8 --max_epochs 20",
    "evaluate, sweep": "--folds 3 --sweep.network.hidden [[16],[32]] --inner_folds 2 --save",
    "evaluate, search": f"--folds 3 --sweep.optimizer.lr {RATES} --search 4 --inner_folds 2",
    "evaluate, images": f"{IMAGES} --max_epochs 1 --folds 2 --repeats 1",
    "evaluate, ddp": f"{FOLDS} --strategy ddp",
}

if SMALL:
    # A CPU has no half precision.
    TRAIN_RUNS = {name: line for name, line in TRAIN_RUNS.items() if ", 16-mixed" not in name}
    TRAIN_RUNS = dict(list(TRAIN_RUNS.items())[::9])
    EVALUATE_RUNS = dict(list(EVALUATE_RUNS.items())[::6])


class Attempt:
    """A command that was run: seconds, result.json, its error, warnings and folder.

    Args:
        function: train or evaluate.
        argv: Its arguments, between spaces.
        device: Where it computes.
        alone: Whether to run it in a process of its own, as process groups need it.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        argv: str,
        device: str = DEVICE,
        alone: bool = False,
    ) -> None:
        self.error = ""
        self.warnings: list[str] = []
        line = [*argv.split(), "--accelerator", device, "--devices", "1", "--log_dir", "logs"]
        start = time.perf_counter()
        if alone:
            self.run_alone(f"{function.__name__}.py", line)
        else:
            self.run_here(function, line)
        self.seconds = time.perf_counter() - start
        folders = sorted(Path("logs").glob("version_*"), key=lambda path: int(path.name[8:]))
        self.run_dir = folders[-1] if folders else Path("logs")
        self.result: dict[str, Any] = {}
        if not self.error:
            self.result = json.loads((self.run_dir / "result.json").read_text())

    def run_here(self, function: Callable[..., Any], line: list[str]) -> None:
        """Run it in this process."""
        stderr = io.StringIO()
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(stderr),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            try:
                command(function, line)
            except SystemExit:
                self.error = stderr.getvalue().strip().splitlines()[-1]
            except Exception as error:  # what a user would see as a traceback
                self.error = f"{type(error).__name__}: {error}"[:300]
        self.warnings = sorted({str(warning.message)[:200] for warning in caught})

    def run_alone(self, script: str, line: list[str]) -> None:
        """Run it in a process of its own; whatever it says on standard error is a warning."""
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *line], capture_output=True, text=True
        )
        said = done.stderr.strip()[-400:]
        if done.returncode:
            self.error = said
        elif said:
            self.warnings = [said]


def works() -> dict[str, Any]:
    """Each command on the GPU and on the CPU: the same loss, no error, no warning.

    Within 5 %; within 25 % for images, whose convolutions a GPU computes in TF32.
    """
    Attempt(train, QUICK)  # makes the GPU's context
    rows = {}
    commands: list[tuple[str, Callable[..., Any], str, str]] = [
        *((name, train, line, "train/loss") for name, line in TRAIN_RUNS.items()),
        *((name, evaluate, line, "log_loss/mean") for name, line in EVALUATE_RUNS.items()),
    ]
    for name, function, line, key in commands:
        gpu = Attempt(function, line, alone="--strategy" in line)
        row: dict[str, Any] = {"seconds": round(gpu.seconds, 2)}
        if gpu.warnings:
            row["warnings"] = gpu.warnings
        if gpu.error:
            row["error"] = gpu.error
        else:
            cpu = Attempt(function, line.partition("--strategy")[0], "cpu")
            row["loss"] = gpu.result[key]
            row["on the CPU"] = cpu.result[key]
        tolerance = 0.25 if "images" in name else 0.05
        same = math.isclose(row.get("loss", math.inf), row.get("on the CPU", 0), rel_tol=tolerance)
        row["ok"] = same and not gpu.warnings
        rows[name] = row
        print(f"{name:34}", row, flush=True)
    return rows
