"""Several processes: the same numbers as one, and what a process that is killed costs."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import ROOT

TWO = ("--accelerator", "cpu", "--devices", "2", "--pictures", "none")
LINE = ("--data.batch_size", "30", "--data.val_fraction", "0.2")
LIMIT = 120  # seconds that a command may take

# A network that kills the worker which trains it, once.
KILLER = """
import os
import signal
from pathlib import Path

from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_features, num_classes, dies=False):
        super().__init__(nn.Linear(num_features, 8), nn.Tanh(), nn.Linear(8, num_classes))
        self.dies = dies
        self.calls = 0

    def forward(self, features):
        self.calls += 1
        word = Path(__file__).with_name("killed")
        if self.dies and self.calls == 20 and not word.exists():
            word.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(features)
"""


def agreement(epochs: int, strategies: Sequence[str]) -> dict[str, Any]:
    """How far the losses of two processes are from those of one, and whether the test is the same.

    The differences are relative, and the largest of all splits.
    """
    line = (*LINE, "--max_epochs", str(epochs))
    alone = result_of("train.py", *line, "--accelerator", "cpu", "--pictures", "none")
    rows = {}
    for strategy in strategies:
        both = result_of("train.py", *TWO, "--strategy", strategy, *line)
        losses = [name for name in alone if name.endswith("/loss")]
        rows[strategy] = {
            "losses": max(abs(both[name] / alone[name] - 1) for name in losses),
            "the same test": both["test/accuracy"] == alone["test/accuracy"],
        }
    return rows


def killed_rank(epochs: int, rounds: int) -> dict[str, Any]:
    """Seconds until the other process ends, and whether the resumed run ends as an undisturbed one.

    Args:
        epochs: Epochs of the run, long enough for a checkpoint (two seconds).
        rounds: How often one is killed.
    """
    line = (*TWO, "--strategy", "ddp", *LINE, "--max_epochs", str(epochs))
    undisturbed = result_of("train.py", *line)
    seconds = []
    codes = []
    same = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            last = Path(folder, "lightning_logs", "version_0", "checkpoints", "last.ckpt")
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *line],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            wait_for(last)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            start = time.perf_counter()
            os.kill(int(children.split()[0]), signal.SIGKILL)
            codes.append(process.wait(LIMIT))
            seconds.append(time.perf_counter() - start)
            result = result_of("train.py", "--resume", str(last.parents[1]), cwd=folder)
            same.append(abs(result["test/loss"] / undisturbed["test/loss"] - 1) < 1e-5)
    return {
        "seconds until the other ends": round(median(seconds), 1),
        "exit code of the other": max(codes),
        "the same after --resume": all(same),
        "n": rounds,
    }


def killed_worker(epochs: int) -> dict[str, Any]:
    """Whether an evaluation on Ray, a worker of which is killed, ends as that of one process."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "mine.py").write_text(KILLER)
        line = ("--network", "mine.Net", "--max_epochs", str(epochs), "--accelerator", "cpu")
        alone = result_of("evaluate.py", *line, cwd=folder)
        found = result_of(
            "evaluate.py", *line, "--network.dies", "true", "--cluster", "ray", cwd=folder
        )
        was_killed = Path(folder, "killed").exists()
    names = ("accuracy/mean", "log_loss/mean", "confusion")
    return {
        "a worker was killed": was_killed,
        "the same numbers": all(alone[name] == found[name] for name in names),
    }


def result_of(script: str, *arguments: str, cwd: str | None = None) -> dict[str, Any]:
    """Run a command; the result.json of the newest run."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(cwd or folder)
        line = [sys.executable, str(ROOT / script), *arguments]
        environment = os.environ | {"PYTHONPATH": str(where)}  # for a network there
        done = subprocess.run(
            line, cwd=where, env=environment, capture_output=True, text=True, timeout=LIMIT
        )
        assert done.returncode == 0, done.stderr[-1000:]
        results = where.glob("lightning_logs/*/result.json")
        newest = max(results, key=lambda path: path.stat().st_mtime_ns)
        result: dict[str, Any] = json.loads(newest.read_text())
    return result


def wait_for(path: Path) -> None:
    """Wait for a file."""
    until = time.monotonic() + LIMIT
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.05)
