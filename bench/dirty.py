"""What damage to a table costs the default for tables, beside a random forest.

On small tables that the recipe was chosen on, 5-fold cross-validation, identical folds and damage.

python -m bench.dirty           # 2 minutes on 2 cores
python -m bench.dirty --small   # seconds, writes nothing: does it run?
"""

import json
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier

from bench.measure import processor
from bench.tables import figures, ours, theirs
from cli.command import quiet
from cli.component import to_config
from cli.registry import LEARNED
from data.table import Table
from evaluation.plan import make_plan
from model import recipe
from training.fast import skip_driver_lookup

SMALL = "--small" in sys.argv
RESULTS = Path(__file__).with_name("results") / "dirty.json"
TABLES = {"iris": load_iris, "wine": load_wine, "breast cancer": load_breast_cancer}
if SMALL:
    TABLES = {"iris": load_iris}
TARGET = "class"


def lost_points(frame: pl.DataFrame, generator: np.random.Generator) -> pl.DataFrame:
    """Multiply two cells of each number by 1,000."""
    row = pl.int_range(len(frame))
    columns = []
    for name in frame.select(cs.numeric().exclude(TARGET)).columns:
        hit = generator.choice(len(frame), 2, replace=False).tolist()
        value = pl.col(name)
        columns.append(pl.when(row.is_in(hit)).then(value * 1000).otherwise(value).alias(name))
    return frame.with_columns(columns)


def missing_cells(frame: pl.DataFrame, generator: np.random.Generator) -> pl.DataFrame:
    """Take away a tenth of all cells but the class."""
    columns = []
    for name in frame.drop(TARGET).columns:
        hole = pl.Series(generator.random(len(frame)) < 0.1)
        columns.append(pl.when(hole).then(None).otherwise(pl.col(name)).alias(name))
    return frame.with_columns(columns)


def noise_column(frame: pl.DataFrame, generator: np.random.Generator) -> pl.DataFrame:
    """Add a column of noise a hundred times as wide as the widest."""
    width = max(frame.select(cs.numeric().exclude(TARGET).std()).row(0))
    noise = pl.Series("noise", generator.normal(0, 100 * width, len(frame)))
    return frame.select(noise, pl.all())


DAMAGES: dict[str, Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]] = {
    "none": lambda frame, generator: frame,
    "cells x 1,000": lost_points,
    "10 % of cells missing": missing_cells,
    "wide noise": noise_column,
}


def accuracies(path: Path) -> dict[str, float]:
    """The mean accuracy of both classifiers."""
    datamodule = Table(str(path), TARGET)
    table = datamodule.read()
    components = to_config({name: getattr(recipe, name.upper()) for name in LEARNED})
    plan = make_plan(datamodule, [components], 5, 1, 0, 1, 0, members=None, memory=2**40)
    forest = partial(RandomForestClassifier, random_state=0)
    predictions = {
        "ours": ours(datamodule, plan),
        "RandomForestClassifier": theirs(forest, table, plan.folds),
    }
    return {
        name: round(float(np.mean(figures(predicted, table, plan.folds)["accuracy"])), 4)
        for name, predicted in predictions.items()
    }


def main() -> None:
    """Measure, write bench/results/dirty.json, print."""
    quiet()
    skip_driver_lookup()
    warnings.simplefilter("ignore")
    accuracy: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, load in TABLES.items():
            bunch = load(as_frame=True)
            classes = pl.Series(TARGET, bunch.target_names[bunch.target])
            clean = pl.from_pandas(bunch.data).with_columns(classes)
            for damage, change in DAMAGES.items():
                path = Path(folder, "t.csv")
                change(clean, np.random.default_rng(0)).write_csv(path)
                accuracy.setdefault(name, {})[damage] = accuracies(path)
                print(name, damage, accuracy[name][damage], flush=True)
    result = {
        "command": "python -m bench.dirty",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {name: version(name) for name in ("torch", "scikit-learn")}
        | {"python": platform.python_version()},
        "n": {"folds": 5},
        "accuracy": accuracy,
    }
    if not SMALL:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
