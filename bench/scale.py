"""From 150 rows to tables that fill the memory: speed, memory, and how both grow.

    python -m bench.scale                  # all sections, about an hour on 2 cores
    python -m bench.scale memory growth    # some of them
    python -m bench.scale speed 1          # of a million rows only, in two minutes
    python -m bench.scale --small          # does it run? Writes nothing

`speed` compares fits of up to 10 million rows with a bare loop over tensors and with what others
offer; `memory` measures what train.py holds while it reads and while it trains, `population` what
evaluate.py holds; `growth` fits exponents to time and memory; `cross_validation` compares
evaluate.py with scikit-learn; `processes` kills some. Results in bench/results/scale.json, written
after every section.
"""

import json
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import polars
import sklearn
import torch

from bench.large_tables import compare
from bench.measure import ROOT, processor
from bench.scale_figures import draw
from bench.scale_processes import agreement, killed_rank, killed_worker
from bench.scale_runs import (
    Measured,
    exponent,
    measure,
    whole_tree,
    write_mixed,
    write_numbers,
)
from cli.command import quiet
from training.fast import skip_driver_lookup

RESULT = Path(__file__).with_name("results") / "scale.json"
SMALL = "--small" in sys.argv
MILLION = 10_000 if SMALL else 1_000_000
COLUMNS = 5 if SMALL else 50
BATCH = 256 if SMALL else 4096
HIDDEN = [8] if SMALL else [256, 256]
ROUNDS = 1 if SMALL else 3
MILLIONS = [int(word) for word in sys.argv[1:] if word.isdecimal()] or [1, 3, 10]
FEW_ROWS = 600 if SMALL else 10_000  # of a table whose size costs next to nothing

# One network, without the choices that a Table's default makes.
NETWORK = [
    *("--network", "MLP", "--network.embedding", "0", "--members", "1"),
    *("--optimizer", "AdamW", "--optimizer.fused", "true", "--data.scaling", "standard"),
    *("--accelerator", "cpu", "--max_epochs", "1"),
]
EVALUATION = [*NETWORK, "--repeats", "1", "--baselines", "[]"]


def speed() -> dict[str, Any]:
    """Rows per second of this project and of others, on 1, 3 and 10 million rows."""
    network = {"class": "MLP", "hidden": HIDDEN}
    rows = {}
    for millions in MILLIONS:
        count = millions * MILLION
        rounds = 1 if millions == 10 else ROUNDS
        rows[str(count)] = compare(count, COLUMNS, network, BATCH, rounds, steps=30)
        print(count, rows[str(count)], flush=True)
    return rows


def table_arguments(path: Path) -> list[str]:
    return ["--data", "Table", "--data.path", str(path), "--data.target", "y"]


def fit(path: Path, batch_size: int | None = BATCH, hidden: Sequence[int] = HIDDEN) -> Measured:
    """train.py of a table, for one epoch."""
    line = [*NETWORK, "--pictures", "none", "--network.hidden", json.dumps(list(hidden))]
    line += ["--data.batch_size", json.dumps(batch_size)]
    return measure("train.py", *table_arguments(path), *line)


def memory() -> dict[str, Any]:
    """Peak memory beyond that of a small table, relative to the float32 features."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("parquet", "csv"):
            small = fit(write_numbers(Path(folder, f"small.{suffix}"), FEW_ROWS, COLUMNS))
            for millions in sorted({MILLIONS[0], MILLIONS[-1]}):
                count = millions * MILLION
                path = write_numbers(Path(folder, f"large.{suffix}"), count, COLUMNS)
                large = fit(path)
                path.unlink()
                features = count * COLUMNS * 4 / 2**20
                row = {
                    "features, MiB": round(features),
                    "reading": round((large.reading - small.reading) / features, 2),
                    "training": round((large.training - small.training) / features, 2),
                }
                rows[f"{count:,} rows, {suffix}"] = row
                print(count, suffix, row, flush=True)
    return rows


def population() -> dict[str, Any]:
    """Peak memory of evaluate.py: 10 folds, 10 times, of a million rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_numbers(Path(folder, "large.parquet"), MILLION, COLUMNS)
        line = [*NETWORK, "--baselines", "[]", "--network.hidden", "[16]"]
        line += ["--data.batch_size", str(BATCH)]
        measured = measure("evaluate.py", *table_arguments(path), *line)
    return {
        "rows": MILLION,
        "networks": measured.result["members"],
        "MiB": round(measured.peak),
    }


def growth() -> dict[str, Any]:
    """Seconds of the fit and MiB beyond a tenth of the first size, and how both grow."""
    rows: dict[str, Any] = {}
    factor = 100 if SMALL else 1
    for name, (sizes, run) in GROWTH.items():
        sizes = [max(2, size // factor) for size in sizes]
        seconds = []
        mib = []
        with tempfile.TemporaryDirectory() as folder:
            base = run(Path(folder), max(2, sizes[0] // 10))
            for size in sizes:
                measured = run(Path(folder), size)
                seconds.append(measured.result["fit_seconds"])
                mib.append(measured.peak)
        beyond = [max(value - base.peak, 1.0) for value in mib]
        rows[name] = {
            "sizes": sizes,
            "seconds": [round(value, 2) for value in seconds],
            "MiB": [round(value) for value in beyond],
            "exponent of time": exponent(sizes[-3:], seconds[-3:]),
            "exponent of memory": exponent(sizes[-3:], beyond[-3:]),
        }
        print(name, rows[name], flush=True)
    return rows


def by_rows(folder: Path, size: int) -> Measured:
    batch_size = BATCH if size > 2 * BATCH else None
    return fit(write_numbers(folder / "table.parquet", max(size, 50), COLUMNS), batch_size)


def by_features(folder: Path, size: int) -> Measured:
    return fit(write_numbers(folder / "table.parquet", 20 * MILLION // 1000, size))


def by_width(folder: Path, size: int) -> Measured:
    path = write_numbers(folder / "table.parquet", 20 * MILLION // 1000, 20)
    return fit(path, hidden=[size, size])


def by_members(folder: Path, size: int) -> Measured:
    """evaluate.py with two folds and half as many networks of each as `size` says."""
    path = write_numbers(folder / "table.parquet", 10 * MILLION // 1000, 20)
    line = [*EVALUATION, "--network.hidden", "[16]", "--max_epochs", "2"]
    line += ["--folds", "2", "--seeds", str(max(1, size // 2))]
    return measure("evaluate.py", *table_arguments(path), *line)


GROWTH: dict[str, tuple[list[int], Callable[[Path, int], Measured]]] = {
    "rows": ([30_000, 100_000, 300_000, 1_000_000], by_rows),
    "features": ([30, 100, 300, 1000], by_features),
    "width": ([256, 512, 1024, 2048], by_width),
    "members": ([30, 100, 300, 1000], by_members),
}

CROSS_VAL_SCORE = """
import sys
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

path, folds, epochs, batch_size = sys.argv[1:]
table = pl.read_csv(path).to_pandas()
texts = [f"t{i}" for i in range(5)]
numbers = [name for name in table.columns if name not in (*texts, "y")]
classifier = MLPClassifier(
    (64,), alpha=0, batch_size=int(batch_size), max_iter=int(epochs), tol=0,
    n_iter_no_change=int(epochs),
)
pipeline = make_pipeline(
    make_column_transformer((StandardScaler(), numbers), (OneHotEncoder(), texts)), classifier
)
cv = StratifiedKFold(int(folds), shuffle=True, random_state=0)
scores = cross_val_score(pipeline, table.drop(columns="y"), table["y"], cv=cv, n_jobs=2)
print(scores.mean())
"""


def cross_validation() -> dict[str, Any]:
    """Seconds and MiB of ten folds of 100,000 rows x 20 columns, here and in scikit-learn."""
    rows = MILLION // 10
    train = [sys.executable, str(ROOT / "evaluate.py"), "--log_dir", "runs", *EVALUATION]
    train += ["--network.hidden", "[64]", "--data.batch_size", "256"]
    train += ["--optimizer.lr", "0.001", "--optimizer.weight_decay", "0"]
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = write_mixed(Path(folder, "mixed.csv"), rows)
        for epochs in (5, 20):
            lines = {
                "evaluate.py": [*train, *table_arguments(path), "--max_epochs", str(epochs)],
                "cross_val_score": [
                    *(sys.executable, "-c", CROSS_VAL_SCORE),
                    *(str(path), "10", str(epochs), "256"),
                ],
            }
            costs: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
            for _ in range(ROUNDS):
                for name, line in lines.items():
                    costs[name].append(whole_tree(*line))
            result[f"{epochs} epochs"] = side_by_side(costs)
    return result


def side_by_side(costs: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Median seconds and MiB of each command, and how many times as long the second one takes."""
    row: dict[str, Any] = {}
    for name, pairs in costs.items():
        seconds, mib = zip(*pairs, strict=True)
        row[name] = {"seconds": round(median(seconds), 1), "MiB": round(median(mib))}
    ours, theirs = costs.values()
    ratios = [their[0] / our[0] for our, their in zip(ours, theirs, strict=True)]
    row["ratio of time"] = round(median(ratios), 2)
    return row


def processes() -> dict[str, Any]:
    """What two processes give, and what it costs that one is killed."""
    result: dict[str, Any] = {}
    if SMALL:
        result["agreement"] = agreement(epochs=2, strategies=["ddp"])
    else:
        result["agreement"] = agreement(epochs=20, strategies=["ddp", "fsdp"])
        result["a killed process"] = killed_rank(epochs=2000, rounds=3)
        if find_spec("ray"):
            result["a killed worker of Ray"] = killed_worker(epochs=100)
    return result


SECTIONS = (speed, memory, population, growth, cross_validation, processes)


def main() -> None:
    """Run the sections named on the command line, or all; write scale.json."""
    quiet()
    skip_driver_lookup()
    # Lightning says so of the empty list that stands for no validation rows.
    warnings.filterwarnings("ignore", message="Total length of `list`")
    named = [word for word in sys.argv[1:] if word.isalpha() or "_" in word]
    result: dict[str, Any] = {}
    if RESULT.exists():
        result = json.loads(RESULT.read_text())
    result |= {
        "command": "python -m bench.scale",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "polars": polars.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "n": f"{ROUNDS} rounds of speed and cross-validation, 1 of 10 million rows and of the rest",
    }
    for section in SECTIONS:
        if named and section.__name__ not in named:
            continue
        start = time.perf_counter()
        result[section.__name__] = section()
        seconds = time.perf_counter() - start
        print(f"{section.__name__}: {seconds:.0f} s", flush=True)
        print(json.dumps(result[section.__name__], indent=2), flush=True)
        if section is growth and not SMALL:
            draw(result["growth"])
        if not SMALL:
            RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
