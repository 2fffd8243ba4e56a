"""Whole commands on tables of many sizes: seconds of the fit, and peak memory by phase."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from bench.measure import ROOT

MIB = 2**20
PAGE = 4096
ROWS_AT_ONCE = 250_000  # written to a file at once


class Measured(NamedTuple):
    """What a command cost.

    Args:
        seconds: Of the whole process.
        reading: Peak MiB until the run's folder was made.
        training: Peak MiB from then on.
        result: Its result.json.
    """

    seconds: float
    reading: float
    training: float
    result: dict[str, Any]

    @property
    def peak(self) -> float:
        return max(self.reading, self.training)


def measure(script: str, *arguments: str, limit: int | None = None) -> Measured:
    """Run a command in an empty folder, and watch its memory every 5 ms.

    Args:
        script: train.py or evaluate.py.
        arguments: Its arguments.
        limit: MiB of data that the process may allocate; None for no limit.
    """
    line = [sys.executable, str(ROOT / script), *arguments, "--log_dir", "runs"]
    if limit is not None:
        line = ["prlimit", f"--data={limit * MIB}", *line]
    peaks = [0, 0]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            line, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        config = Path(folder, "runs", "version_0", "config.yaml")
        while process.poll() is None:
            phase = int(config.exists())
            peaks[phase] = max(peaks[phase], resident(process.pid))
            time.sleep(0.005)
        seconds = time.perf_counter() - start
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()[-1000:]
        result = json.loads((config.parent / "result.json").read_text())
    return Measured(seconds, peaks[0] / MIB, peaks[1] / MIB, result)


def whole_tree(*line: str) -> tuple[float, float]:
    """Seconds of a command in an empty folder, and peak MiB of it and its workers together."""
    peak = 0
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            line, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None:
            peak = max(peak, sum(map(proportional, tree(process.pid))))
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()[-1000:]
    return seconds, peak / MIB


def tree(pid: int) -> list[int]:
    """A process and those that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return [pid]
    return [pid, *(descendant for child in children for descendant in tree(int(child)))]


def proportional(pid: int) -> int:
    """Bytes of a process that are in memory, less what others share; 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def resident(pid: int) -> int:
    """Bytes of a process that are in memory; 0 if it has just ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def write_numbers(path: Path, rows: int, columns: int) -> Path:
    """A file (CSV or Parquet, by its suffix) of random numbers, and of a class y of two."""
    random = np.random.default_rng(0)
    frames = []
    for start in range(0, rows, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, rows - start)
        frames.append(numbers(random, count, columns))
    write(pl.concat(frames, rechunk=False), path)
    return path


def numbers(random: np.random.Generator, rows: int, columns: int) -> pl.DataFrame:
    """Columns x0, x1, ... and a class y that depends on the first two."""
    values = random.standard_normal((rows, columns), np.float32)
    noise = random.standard_normal(rows, np.float32)
    is_positive = values[:, 0] + values[:, 1 % columns] + noise > 0
    frame = pl.DataFrame({f"x{i}": values[:, i] for i in range(columns)})
    return frame.with_columns(y=pl.Series(np.where(is_positive, "yes", "no")))


def write_mixed(path: Path, rows: int) -> Path:
    """A CSV file of 15 columns of numbers, 5 of text, and a class y of two."""
    random = np.random.default_rng(0)
    frame = numbers(random, rows, 15)
    texts = {f"t{i}": random.choice(["a", "b", "c", "d"], rows) for i in range(5)}
    write(frame.with_columns(**{name: pl.Series(text) for name, text in texts.items()}), path)
    return path


def write(frame: pl.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        frame.write_parquet(path, row_group_size=100_000)
    else:
        frame.write_csv(path)


def exponent(sizes: list[float], costs: list[float]) -> float:
    """The slope of log(cost) over log(size): 1 where the cost grows as the size does."""
    slope, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    return round(float(slope), 2)
