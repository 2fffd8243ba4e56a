"""Tables larger than memory: which library reads them, in what order, how fast, in what memory.

    python -m bench.streaming                   # all sections, half an hour on 2 cores
    python -m bench.streaming order accuracy    # some of them
    python -m bench.streaming --small           # does it run? Writes nothing

`libraries` reads the same batches by several libraries, those that are installed; `order` says how
far an epoch's order is from a full shuffle, and `accuracy` what that costs on a folder that is
sorted by class; `speed` compares epochs of a stream and of a table in memory; `memory` watches
train.py on 1 and on 10 million rows, and runs it in less memory than its data take. Results in
bench/results/streaming.json, written after every section.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import numpy as np
import polars as pl
import torch
from lightning.pytorch import seed_everything

from bench.large_tables import Noise, project_epochs
from bench.measure import ROOT, processor
from bench.scale_runs import measure, numbers
from bench.stream_libraries import LIBRARIES
from cli.command import quiet
from data.stream import Stream
from data.streaming.batches import StreamBatches
from data.streaming.order import Share
from data.streaming.scratch import ScratchFile
from training.fast import skip_driver_lookup

RESULT = Path(__file__).with_name("results") / "streaming.json"
SMALL = "--small" in sys.argv
MILLION = 20_000 if SMALL else 1_000_000
COLUMNS = 5 if SMALL else 50
BATCH = 256 if SMALL else 4096
HIDDEN = [8] if SMALL else [256, 256]
ROUNDS = 1 if SMALL else 3
FILES_PER_MILLION = 10
PACKAGES = {"Hugging Face datasets": "datasets", "LitData": "litdata", "pyarrow": "pyarrow"}
LIMIT = 1850  # MiB that a process may allocate, less than the data; imports take 1,110
BUFFER = 262_144
ROW_GROUPS = (16_384, MILLION // FILES_PER_MILLION)


def write_folder(folder: Path, rows: int, columns: int, row_group: int = 100_000) -> Path:
    """A folder of Parquet files of random numbers, and of a class y of two."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    files = max(1, rows * FILES_PER_MILLION // MILLION)
    for i in range(files):
        count = rows * (i + 1) // files - rows * i // files
        frame = numbers(random, count, columns)
        frame.write_parquet(folder / f"part-{i:04}.parquet", row_group_size=row_group)
    return folder


def stream_arguments(folder: Path) -> list[str]:
    """The command line of the memory runs, behind train.py."""
    return [
        *("--data", "Stream", "--data.path", str(folder), "--data.target", "y"),
        *("--network", "MLP", "--network.hidden", json.dumps(HIDDEN), "--network.embedding", "0"),
        *("--data.batch_size", str(BATCH), "--max_epochs", "1", "--pictures", "none"),
        *("--accelerator", "cpu"),
    ]


def libraries() -> dict[str, Any]:
    """Rows per second of each library, on one million rows in small and in large row groups."""
    results: dict[str, Any] = {}
    names = [name for name in LIBRARIES if find_spec(PACKAGES.get(name, "polars"))]
    for group in ROW_GROUPS:
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder, "rows"), MILLION, COLUMNS, group)
            for _ in range(ROUNDS):
                for name in names:
                    rows[name].append(read_alone(name, Path(folder, "rows")))
        results[f"row groups of {group:,}"] = {
            name: {key: round(median(run[key] for run in runs)) for key in runs[0]}
            for name, runs in rows.items()
        }
        print(group, results[f"row groups of {group:,}"], flush=True)
    return results


def read_alone(name: str, folder: Path) -> dict[str, float]:
    """Read by one library, in a process of its own."""
    line = [sys.executable, "-m", "bench.stream_libraries", name, str(folder), str(BATCH), "4"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-1000:]
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def order() -> dict[str, Any]:
    """How far orders of a million rows are from a full shuffle, which is the last line.

    Rank correlation: of a row's place in the epoch and in the folder; 0 in a full shuffle.
    Distance: how far apart in the folder rows are that follow each other, relative to a third of
    the rows, its mean in a full shuffle. Class spread: in a folder sorted by ten classes, the
    standard deviation of a class's share of a batch, relative to that of a full shuffle.
    """
    rows = MILLION
    orders = {
        "as it is in the files": np.arange(rows),
        "shuffle buffer of 262,144 rows": np.fromiter(sliding_buffer(rows), np.int64, rows),
        "stream, buffer of 262,144 rows": stream_order(rows, BUFFER),
        "stream, buffer of 65,536 rows": stream_order(rows, BUFFER // 4),
        "full shuffle": np.random.default_rng(0).permutation(rows),
    }
    return {name: order_figures(found) for name, found in orders.items()}


def sliding_buffer(rows: int) -> Iterator[int]:
    """The order of a shuffle buffer as in tf.data: a random row leaves, the next one comes."""
    random = np.random.default_rng(0)
    size = min(BUFFER, rows)
    held = list(range(size))
    places = random.integers(0, size, rows)
    for row in range(size, rows):
        place = places[row]
        yield held[place]
        held[place] = row
    yield from random.permutation(held).tolist()


def stream_order(rows: int, buffer: int) -> np.ndarray:
    """The order of a stream's epoch."""
    file = ScratchFile(1, np.float64)
    file.append(np.zeros((rows, 1)), np.arange(rows))
    batches = StreamBatches(file, torch.nn.Identity(), Share(rows, BATCH), buffer, seed=0)
    return torch.cat([found for _, found in batches]).numpy()


def order_figures(found: np.ndarray) -> dict[str, float]:
    rows = len(found)
    ranks = np.corrcoef(np.arange(rows), found)[0, 1]
    distance = np.abs(np.diff(found)).mean() / (rows / 3)
    batches = (found[: rows // BATCH * BATCH] * 10 // rows).reshape(-1, BATCH)
    shares = np.stack([(batches == k).mean(1) for k in range(10)])
    expected = np.sqrt(0.1 * 0.9 / BATCH)
    return {
        "rank correlation": round(float(ranks), 4),
        "distance": round(float(distance), 3),
        "class spread": round(float(shares.std(1).mean() / expected), 2),
    }


def accuracy() -> dict[str, Any]:
    """Test accuracy and log-loss after two epochs of a folder that is sorted by class."""
    folders = {
        "shuffled beforehand": ("shuffled", BUFFER),
        "sorted, buffer of 131,072 rows": ("sorted", BUFFER // 2),
        "sorted, buffer of 32,768 rows": ("sorted", BUFFER // 8),
        "sorted, buffer of one chunk": ("sorted", 1),
    }
    figures: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_classes(Path(folder), MILLION // 2)
        for name, (part, buffer) in folders.items():
            line = stream_arguments(Path(folder, part))
            line += ["--network.hidden", "[64]", "--max_epochs", "2", "--data.buffer", str(buffer)]
            runs = [
                measure("train.py", *line, "--seed", str(seed)).result for seed in range(ROUNDS)
            ]
            figures[name] = {
                key: [round(run[f"test/{key}"], 4) for run in runs]
                for key in ("accuracy", "log_loss")
            }
            print(name, figures[name], flush=True)
    return figures


def write_classes(folder: Path, rows: int) -> None:
    """The same rows of ten classes, in files by class and in random order."""
    random = np.random.default_rng(0)
    centers = random.standard_normal((10, COLUMNS))
    targets = np.sort(random.integers(0, 10, rows))
    values = random.standard_normal((rows, COLUMNS), np.float32) * 3
    features = (values + centers[targets] + np.sin(values[:, ::-1])).astype(np.float32)
    frame = pl.DataFrame({f"x{i}": features[:, i] for i in range(COLUMNS)})
    frame = frame.with_columns(y=pl.Series(targets))
    for name, order_ in (("sorted", np.arange(rows)), ("shuffled", random.permutation(rows))):
        (folder / name).mkdir()
        for i, part in enumerate(np.array_split(order_, 10)):
            path = folder / name / f"{i}.parquet"
            frame[part].write_parquet(path, row_group_size=50_000)


def speed() -> dict[str, Any]:
    """Rows per second of a stream and of a table in memory, in turns: MLP, one million rows.

    The start reads the files twice, for statistics and for the copy that epochs read.
    """
    table = Noise(MILLION, COLUMNS, BATCH)
    table.setup()
    return {f"row groups of {group:,}": speed_beside(table, group) for group in ROW_GROUPS}


def speed_beside(table: Noise, group: int) -> dict[str, Any]:
    rows: dict[str, list[float]] = {"in memory": [], "stream": []}
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), MILLION, COLUMNS, group)
        stream = Stream(folder, "y", batch_size=BATCH)
        start = time.perf_counter()
        stream.setup()
        stream.train_dataloader()
        start = time.perf_counter() - start
        for _ in range(ROUNDS):
            for name, data in (("in memory", table), ("stream", stream)):
                seed_everything(0, verbose=False)
                seconds = project_epochs(data, {"class": "MLP", "hidden": HIDDEN}, 1)[0]
                rows[name].append(len(data.indices["train"]) / seconds)
    ratios = [ours / theirs for ours, theirs in zip(rows["stream"], rows["in memory"], strict=True)]
    return {
        **{name: {"rows per second": round(median(values))} for name, values in rows.items()},
        "ratio": round(median(ratios), 2),
        "start, in epochs in memory": round(
            start * median(rows["in memory"]) / len(table.indices["train"]), 2
        ),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def memory() -> dict[str, Any]:
    """Peak resident memory of train.py, and the same run with less memory than its data take."""
    result: dict[str, Any] = {}
    for millions in (1, 3, 10):
        rows = millions * MILLION
        with tempfile.TemporaryDirectory() as folder:
            line = stream_arguments(write_folder(Path(folder), rows, COLUMNS))
            line += ["--network.hidden", "[16]"]  # what the rows take, not the arithmetic
            measured = measure("train.py", *line)
            row = {
                "features, MiB": round(rows * COLUMNS * 4 / 2**20),
                "peak, MiB": round(measured.peak),
                "rows per second of the fit": round(
                    measured.result["rows"]["train"] / measured.result["fit_seconds"]
                ),
            }
            print(rows, row, flush=True)
            if millions == 10 and not SMALL:
                limited = measure("train.py", *line, limit=LIMIT)
                row["limit of data (RLIMIT_DATA), MiB"] = LIMIT
                row["the same loss"] = limited.result["test/loss"] == measured.result["test/loss"]
        result[f"{rows:,} rows"] = row
    return result


SECTIONS: tuple[Callable[[], dict[str, Any]], ...] = (libraries, order, accuracy, speed, memory)


def main() -> None:
    """Run the sections named on the command line, or all; write streaming.json."""
    quiet()
    skip_driver_lookup()
    # Lightning says so of the empty list that stands for no validation rows.
    warnings.filterwarnings("ignore", message="Total length of `list`")
    named = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    result: dict[str, Any] = {}
    if RESULT.exists():
        result = json.loads(RESULT.read_text())
    result |= {
        "command": "python -m bench.streaming",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "polars": pl.__version__,
        },
        "n": ROUNDS,
    }
    for section in SECTIONS:
        if named and section.__name__ not in named:
            continue
        result[section.__name__] = section()
        print(section.__name__, json.dumps(result[section.__name__], indent=2), flush=True)
        if not SMALL:
            RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
