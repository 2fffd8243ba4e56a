"""Rows per second of predict.py, beside pandas and scikit-learn's MLPClassifier.

Both are whole processes from start to end on the same file of a million rows, with the same network
(4-128-3): read a CSV, predict, write a CSV of labels and probabilities. Their runs alternate.
"the same, not writing" ends with predict_proba, so it does less than predict.py. Peak memory is
also measured at four times as many rows. Latency of a single row: the ONNX file in onnxruntime, and
the others in this process; and ONNX files of 2,000 columns, with an input for each or a single one.
All figures are medians.

python -m bench.predict           # 3 minutes on 2 cores
python -m bench.predict --small   # seconds, writes nothing: does it run?
"""

import json
import os
import pickle
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import polars as pl
import sklearn
import torch
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.measure import ROOT, processor, whole
from cli.command import quiet
from data.table import Table
from export import export
from inference.predictor import load
from train import train

SMALL = "--small" in sys.argv
RUNS = 1 if SMALL else 5
ROWS = 2000 if SMALL else 1_000_000
CALLS = 10 if SMALL else 2000
WIDE_COLUMNS = 20 if SMALL else 2000
WIDE_CALLS = 10 if SMALL else 100
RESULT = Path(__file__).with_name("results") / "predict.json"

SCIKIT_LEARN = """
import pickle, sys
import pandas as pd
model, table, output = sys.argv[1:]
with open(model, "rb") as file:
    classifier, names = pickle.load(file)
probabilities = classifier.predict_proba(pd.read_csv(table).to_numpy())
if output != "null":
    frame = pd.DataFrame(probabilities, columns=[f"probability {name}" for name in names])
    frame.insert(0, "label", [names[i] for i in probabilities.argmax(1)])
    frame.to_csv(output, index=False)
"""

Runs = dict[str, list[tuple[float, float]]]  # of each program: seconds and peak MiB of each run


def main() -> None:
    """Measure, write bench/results/predict.json, print it."""
    quiet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint, model = train_network(folder)
        classifier, pickled = train_scikit_learn(folder)
        runs = measure_processes(folder, checkpoint, pickled)
        latency = measure_latency(checkpoint, model, classifier)
        wide = measure_wide(folder)
    text = json.dumps(summarize(runs, latency) | wide, indent=2)
    if not SMALL:
        RESULT.write_text(text + "\n")
    print(text)


def train_network(folder: Path) -> tuple[str, str]:
    """Train the default network on Iris: the paths of its checkpoint and of its ONNX file."""
    checkpoint = str(folder / "version_0" / "checkpoints" / "best.ckpt")
    model = str(folder / "model.onnx")
    with redirect_stdout(StringIO()):
        train(log_dir=str(folder), accelerator="cpu")
        export(checkpoint, model)
    return checkpoint, model


def train_scikit_learn(folder: Path) -> tuple[Any, str]:
    """Train scikit-learn's network on Iris: the classifier, and the path of its pickle."""
    bunch = load_iris()
    network = MLPClassifier((128,), max_iter=1000, random_state=0)
    classifier = make_pipeline(StandardScaler(), network)
    classifier.fit(bunch.data, bunch.target)
    class_names = [str(name) for name in bunch.target_names]
    path = folder / "classifier.pickle"
    path.write_bytes(pickle.dumps((classifier, class_names)))
    return classifier, str(path)


def write_table(path: Path, rows: int) -> None:
    """Write random flowers of Iris, each changed a little."""
    bunch = load_iris()
    generator = np.random.default_rng(0)
    indices = generator.integers(0, len(bunch.data), rows)
    noise = generator.normal(0, 0.1, (rows, bunch.data.shape[1]))
    flowers = bunch.data[indices] + noise
    pl.DataFrame(flowers.round(3), schema=list(bunch.feature_names)).write_csv(path)


def measure_processes(folder: Path, checkpoint: str, pickled: str) -> Runs:
    """Run each program several times, in turn."""
    table = str(folder / "table.csv")
    long_table = str(folder / "long.csv")
    output = str(folder / "output.csv")
    write_table(Path(table), ROWS)
    write_table(Path(long_table), 4 * ROWS)
    ours = partial(whole, str(ROOT / "predict.py"), checkpoint)
    theirs = partial(whole, "-c", SCIKIT_LEARN, pickled)
    programs = {
        "predict.py": partial(ours, table, "--output", output),
        "pandas and scikit-learn": partial(theirs, table, output),
        "the same, not writing": partial(theirs, table, "null"),
        "predict.py, four times the rows": partial(ours, long_table, "--output", output),
    }
    runs: Runs = {name: [] for name in programs}
    for _ in range(RUNS):
        for name, program in programs.items():
            runs[name].append(program())
    return runs


def measure_latency(checkpoint: str, model: str, classifier: Any) -> dict[str, float]:
    """Microseconds to predict a single row, medians of many calls in turn."""
    row = load_iris().data[:1]
    predictor = load(checkpoint)
    frame = pd.DataFrame(row, columns=predictor.column_names)
    session = onnxruntime.InferenceSession(model)
    inputs = {}
    for i, column in enumerate(session.get_inputs()):
        inputs[column.name] = row[:, i : i + 1].astype(np.float32)
    calls: dict[str, Callable[[], Any]] = {
        "onnxruntime": lambda: session.run(None, inputs),
        "classifier.predict_proba, an array": lambda: predictor.predict_proba(row),
        "classifier.predict_proba, pandas": lambda: predictor.predict_proba(frame),
        "scikit-learn": lambda: classifier.predict_proba(row),
    }
    return medians(calls, CALLS)


def measure_wide(folder: Path) -> dict[str, Any]:
    """Microseconds to predict a single row of many columns by the two kinds of ONNX file."""
    table = folder / "wide.parquet"
    numbers = np.random.default_rng(0).normal(size=(60, WIDE_COLUMNS))
    frame = pl.DataFrame(numbers, schema=[f"x{i}" for i in range(WIDE_COLUMNS)])
    frame.with_columns(y=pl.Series(["a", "b"] * 30)).write_parquet(table)
    data = partial(Table, str(table), "y")
    sessions = {}
    with redirect_stdout(StringIO()):
        run = train(data, members=1, max_epochs=1, log_dir=str(folder / "wide"), accelerator="cpu")
        for single_input in (False, True):
            path = folder / f"wide_{single_input}.onnx"
            export(str(run.checkpoint), str(path), single_input=single_input)
            sessions[single_input] = onnxruntime.InferenceSession(path)
    row = numbers[:1].astype(np.float32)
    by_column = {f"x{i}": row[:, i : i + 1] for i in range(WIDE_COLUMNS)}
    calls: dict[str, Callable[[], Any]] = {
        "an input for each column": lambda: sessions[False].run(None, by_column),
        "a single input": lambda: sessions[True].run(None, {"X": row}),
    }
    times = medians(calls, WIDE_CALLS)
    ratio = times["an input for each column"] / times["a single input"]
    return {
        "columns of the wide table": WIDE_COLUMNS,
        "microseconds for one wide row": times,
        "speed of a single input, relative to an input for each column": round(ratio),
    }


def medians(calls: dict[str, Callable[[], Any]], count: int) -> dict[str, float]:
    """The median microseconds of calls that are made in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e6 * (time.perf_counter() - start))
    return {name: round(median(values), 1) for name, values in times.items()}


def summarize(runs: Runs, latency: dict[str, float]) -> dict[str, Any]:
    """The content of bench/results/predict.json."""
    reference = median(seconds for seconds, _ in runs["predict.py"])
    processes = {}
    for name, measured in runs.items():
        seconds = median(seconds for seconds, _ in measured)
        rows = 4 * ROWS if "four times" in name else ROWS
        processes[name] = {
            "seconds": round(seconds, 2),
            "of predict.py": round(seconds / reference, 2),
            "rows per second": round(rows / seconds),
            "peak MiB": round(median(peak for _, peak in measured)),
        }
    return {
        "command": "python -m bench.predict",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "polars": pl.__version__,
            "pandas": pd.__version__,
            "scikit-learn": sklearn.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        "n": RUNS,
        "rows": ROWS,
        "whole process": processes,
        "calls": CALLS,
        "microseconds for one row": latency,
    }


if __name__ == "__main__":
    main()
