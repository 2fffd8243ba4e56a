"""Rows per second of predict.py on a file of a million rows, beside pandas and scikit-learn's MLPClassifier.

Both are whole processes from start to end, interleaved, on the same file and with the same network (4-128-3): read a
CSV, predict, write a CSV of labels and probabilities. "The same, not writing" ends with predict_proba, and so does
less than predict.py. Peak memory also at four times as many rows. One row at a time: the ONNX file in onnxruntime, and
the others in this process. Medians of n.

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

from bench.measure import processor, whole
from cli.command import quiet
from export import export
from predict import load
from train import train

ROOT = Path(__file__).parents[1]
SMALL = "--small" in sys.argv
N, ROWS, CALLS = (1, 2000, 10) if SMALL else (5, 1_000_000, 2000)

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


def write_table(path: Path, rows: int) -> None:
    """Iris's flowers over and over, each a little different."""
    bunch = load_iris()
    random = np.random.default_rng(0)
    flowers = bunch.data[random.integers(0, 150, rows)] + random.normal(0, 0.1, (rows, 4))
    pl.DataFrame(flowers.round(3), schema=list(bunch.feature_names)).write_csv(path)


def one_row(checkpoint: str, model: str, classifier: Any) -> dict[str, float]:
    """Microseconds to predict one row, median of many calls."""
    row = load_iris().data[:1]
    predictor = load(checkpoint)
    session = onnxruntime.InferenceSession(model)
    inputs = {
        one.name: row[:, i : i + 1].astype(np.float32) for i, one in enumerate(session.get_inputs())
    }
    frame = pd.DataFrame(row, columns=predictor.column_names)
    calls: dict[str, Callable[[], Any]] = {
        "onnxruntime": lambda: session.run(None, inputs),
        "classifier.predict_proba, an array": lambda: predictor.predict_proba(row),
        "classifier.predict_proba, pandas": lambda: predictor.predict_proba(frame),
        "scikit-learn": lambda: classifier.predict_proba(row),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(CALLS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e6 * (time.perf_counter() - start))
    return {name: round(median(each), 1) for name, each in times.items()}


def main() -> None:
    """Measure, write bench/results/predict.json, print."""
    quiet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table, long, output = (
            str(folder / file) for file in ("table.csv", "long.csv", "output.csv")
        )
        write_table(Path(table), ROWS)
        write_table(Path(long), 4 * ROWS)
        with redirect_stdout(StringIO()):
            train(log_dir=name, accelerator="cpu")
            checkpoint, model = f"{name}/version_0/checkpoints/best.ckpt", f"{name}/model.onnx"
            export(checkpoint, model)
        bunch = load_iris()
        classifier = make_pipeline(
            StandardScaler(), MLPClassifier((128,), max_iter=1000, random_state=0)
        )
        classifier.fit(bunch.data, bunch.target)
        pickled = str(folder / "classifier.pickle")
        Path(pickled).write_bytes(
            pickle.dumps((classifier, [str(name) for name in bunch.target_names]))
        )

        script = str(ROOT / "predict.py")
        commands = {
            "predict.py": partial(whole, script, checkpoint, table, "--output", output),
            "pandas and scikit-learn": partial(whole, "-c", SCIKIT_LEARN, pickled, table, output),
            "the same, not writing": partial(whole, "-c", SCIKIT_LEARN, pickled, table, "null"),
            "predict.py, four times the rows": partial(
                whole, script, checkpoint, long, "--output", output
            ),
        }
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(N):
            for name, command in commands.items():
                runs[name].append(command())
        latency = one_row(checkpoint, model, classifier)
    seconds = {name: median(run[0] for run in each) for name, each in runs.items()}
    result = {
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
        "n": N,
        "rows": ROWS,
        "whole process": {
            name: {
                "seconds": round(value, 2),
                "of predict.py": round(value / seconds["predict.py"], 2),
                "rows per second": round(ROWS * (4 if "four" in name else 1) / value),
                "peak MiB": round(median(run[1] for run in runs[name])),
            }
            for name, value in seconds.items()
        },
        "calls": CALLS,
        "microseconds for one row": latency,
    }
    if not SMALL:
        (Path(__file__).with_name("results") / "predict.json").write_text(
            json.dumps(result, indent=2) + "\n"
        )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
