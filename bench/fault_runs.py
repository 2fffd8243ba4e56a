"""Runs that are killed, and what is left of them: the tools of bench/faults.py."""

import importlib
import json
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from bench.measure import ROOT

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # "Detected out of order event.step"

# Commands start from a process that has imported everything: a run then costs no more than itself.
FORKS = multiprocessing.get_context("forkserver")
SECONDS = 300  # the longest that a run may take


class Ended(NamedTuple):
    """How a command ended: exit code (below 0: the signal that ended it) and what it printed."""

    code: int
    stdout: str
    stderr: str


class Command:
    """A command that runs in a process of its own.

    Args:
        line: Its script and arguments, such as ["train.py", "--max_epochs", "3"].
        folder: Where it runs.
        fresh: Whether to start a new Python, whose imports take seconds.
        environment: Further variables.
    """

    def __init__(
        self,
        line: list[str],
        folder: Path,
        fresh: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.outputs = [folder.parent / f"{folder.name}.{name}" for name in ("out", "err")]
        self.process: Any
        if fresh:
            stdout, stderr = (path.open("wb") for path in self.outputs)
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / line[0]), *line[1:]],
                cwd=folder,
                stdout=stdout,
                stderr=stderr,
                env=os.environ | (environment or {}),
            )
        else:
            arguments = (line, str(folder), [str(path) for path in self.outputs], environment or {})
            self.process = FORKS.Process(target=run_forked, args=arguments)
            self.process.start()

    def is_running(self) -> bool:
        if isinstance(self.process, subprocess.Popen):
            return self.process.poll() is None
        return bool(self.process.is_alive())

    def send(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        if self.is_running():
            os.kill(self.process.pid, number)

    def wait(self) -> Ended:
        """Wait until it has ended; one that takes too long is killed, with exit code -9."""
        if isinstance(self.process, subprocess.Popen):
            try:
                self.process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            code = self.process.returncode
        else:
            self.process.join(SECONDS)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
            code = self.process.exitcode
        return Ended(code, *(path.read_text(errors="replace") for path in self.outputs))


def run_forked(
    line: list[str], folder: str, outputs: list[str], environment: dict[str, str]
) -> None:
    """Run a command in this process, a fork."""
    tqdm.set_lock(RLock())  # its usual lock is a semaphore, which a killed process would leave
    os.environ |= environment
    os.chdir(folder)
    for number, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [str(ROOT / line[0]), *line[1:]]
    torch.set_num_threads(1)
    name = Path(line[0]).stem
    function = getattr(importlib.import_module(name), name)
    importlib.import_module("cli.command").command(function, line[1:])


def preload() -> None:
    """Let forks begin with the commands imported."""
    FORKS.set_forkserver_preload(["bench.fault_runs", "evaluate", "explain", "export", "predict"])


class Outcome(NamedTuple):
    """What a run of train.py or evaluate.py ended with, as far as two runs must agree."""

    result: dict[str, Any]
    weights: dict[str, Any]
    scalars: dict[str, list[tuple[int, float]]]


VARYING = ("fit_seconds", "run_dir", "checkpoint")  # keys of result.json


def outcome(run_dir: Path) -> Outcome:
    """The outcome of the run in a folder."""
    result = json.loads((run_dir / "result.json").read_text())
    for key in VARYING:
        result.pop(key, None)
    weights = {}
    for path in sorted((run_dir / "checkpoints").glob("*.ckpt")):
        if path.name != "last.ckpt":
            content = torch.load(path, "cpu", weights_only=True)
            state = {name: tensor.tolist() for name, tensor in content["state_dict"].items()}
            weights[path.name] = {"epoch": content.get("epoch"), "weights": state}
    return Outcome(result, weights, scalars(run_dir))


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of a run's event files."""
    found = {}
    for folder in sorted({path.parent for path in run_dir.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            if "fit_seconds" in tag or "/throughput/" in tag:  # what the clock says
                continue
            values = [(event.step, event.value) for event in events.Scalars(tag)]
            found[f"{folder.relative_to(run_dir)} {tag}"] = values
    return found


def differences(ours: Outcome, theirs: Outcome) -> list[str]:
    """The names of what differs between two runs, and of scalars that stand twice."""
    names = []
    for key in sorted(ours.result.keys() | theirs.result.keys()):
        if str(ours.result.get(key)) != str(theirs.result.get(key)):  # as text: NaN equals itself
            names.append(f"result {key}")
    if str(ours.weights) != str(theirs.weights):
        names.append("weights")
    for tag in sorted(ours.scalars.keys() | theirs.scalars.keys()):
        if str(ours.scalars.get(tag)) != str(theirs.scalars.get(tag)):
            names.append(f"scalar {tag}")
    return names


def wait_for(command: Command, pattern: str, folder: Path) -> float | None:
    """Seconds until a file of this pattern is in the folder; None if the command ended before."""
    start = time.monotonic()
    while command.is_running():
        if any(folder.glob(pattern)):
            return time.monotonic() - start
        time.sleep(0.005)
    return None


def leftovers(folder: Path) -> list[str]:
    """Files that a write that did not end would leave, and JSON that cannot be read."""
    names = [str(path) for path in folder.rglob("*") if path.suffix in (".part", ".tmp")]
    for path in folder.rglob("*.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            names.append(f"{path} (damaged)")
    return names


def damaged(content: bytes, random_numbers: random.Random) -> bytes:
    """A file with some bytes flipped, cut off, zeroed or doubled."""
    data = bytearray(content)
    start = random_numbers.randrange(len(data))
    kind = random_numbers.choice(["flip", "cut", "zero", "double", "insert"])
    if kind == "flip":
        data[start] ^= 1 << random_numbers.randrange(8)
    elif kind == "cut":
        del data[start:]
    elif kind == "zero":
        data[start : start + 64] = bytes(len(data[start : start + 64]))
        if data == content:
            data[-1] ^= 255
    elif kind == "double":
        data[start:start] = data[start : start + 100]
    else:
        data[start:start] = b"\0"
    return bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    """The content of every file of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


KILL, STOP, INTERRUPT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
