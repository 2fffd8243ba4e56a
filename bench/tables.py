"""`train.py --data Table` with no further flag beside what people would pick instead.

On the real tables of bench/real_tables.py, 5-fold cross-validation, repeated twice on tables of up
to 2,000 rows, identical folds for all. The classifiers of scikit-learn and LightGBM have
their defaults, in a pipeline that imputes, encodes and scales; SVC's probabilities are calibrated
as its own documentation says. RealMLP_TD and TabM_D (pytabkit) fit one network, with their own
validation split; they are measured on EIGHT tables, once.

The recipe was chosen on the half "development". The half "held out" was measured at the end.

python -m bench.tables held_out      # an hour on 2 cores; what is measured already is left out
python -m bench.tables development
python -m bench.tables --small       # seconds, writes nothing: does it run?
"""

import json
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from bench.measure import processor, quiet_trainer
from bench.real_tables import DEVELOPMENT, HELD_OUT, write_table
from cli.command import quiet
from cli.component import to_config
from cli.registry import LEARNED
from data.folds import Fold
from data.table import Table
from data.tabular import RawTable
from evaluation.plan import Plan, make_plan, make_population
from model import recipe
from model.population import Population
from model.scores import score
from training.fast import skip_driver_lookup

SMALL = "--small" in sys.argv
RESULTS = Path(__file__).with_name("results")
HALVES = {"development": DEVELOPMENT, "held_out": HELD_OUT}
EIGHT = ("fgl", "led7digit", "crx", "vowel", "OJ", "contraceptive", "HMDA", "hpc_data")
SCORES = ("accuracy", "balanced_accuracy", "log_loss")
EPOCHS = 2 if SMALL else recipe.MAX_EPOCHS

Probabilities = list[np.ndarray]  # of the test rows of each fold, (rows, num_classes)


def fitted(datamodule: Table, plan: Plan) -> Population:
    """The networks of a plan, trained as evaluate.py trains them."""
    trainer = quiet_trainer(EPOCHS)
    population = make_population(plan, datamodule, trainer, None, "log_loss")
    trainer.fit(population)
    return population


def ours(datamodule: Table, plan: Plan) -> Probabilities:
    """The default of train.py on each fold."""
    outcomes = plan.outcomes(fitted(datamodule, plan))
    return [outcomes[member].probabilities for member in sorted(outcomes)]


def others() -> dict[str, Callable[[], Any]]:
    """What people would pick instead, by name."""
    classifiers: dict[str, Callable[[], Any]] = {
        "Majority class": partial(DummyClassifier, strategy="prior"),
        "LogisticRegression": partial(LogisticRegression, max_iter=2000),
        "SVC": lambda: CalibratedClassifierCV(SVC(), ensemble=False),
        "RandomForestClassifier": partial(RandomForestClassifier, random_state=0),
        "HistGradientBoostingClassifier": partial(HistGradientBoostingClassifier, random_state=0),
        "MLPClassifier": partial(MLPClassifier, random_state=0),
    }
    if find_spec("lightgbm"):
        from lightgbm import LGBMClassifier

        classifiers["LGBMClassifier"] = partial(LGBMClassifier, random_state=0, verbose=-1)
    return classifiers


def pipeline(table: RawTable, classifier: Any) -> Any:
    """A classifier behind imputation, one-hot encoding and standardization."""
    is_text = [name in table.categories for name in table.column_names]
    number = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    text = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    columns = [
        ("numbers", number, np.flatnonzero(np.logical_not(is_text))),
        ("text", text, np.flatnonzero(is_text)),
    ]
    return make_pipeline(ColumnTransformer(columns), classifier)


def theirs(make: Callable[[], Any], table: RawTable, folds: list[Fold]) -> Probabilities:
    """A classifier's probabilities on each fold."""
    probabilities = []
    for fold in folds:
        train, test = fold.indices["train"], fold.indices["test"]
        model = pipeline(table, make())
        model.fit(table.features[train], table.targets[train])
        probabilities.append(model.predict_proba(table.features[test]))
    return probabilities


def pytabkit(name: str, table: RawTable, folds: list[Fold]) -> Probabilities:
    """A network of pytabkit on each fold of the first repeat; it encodes the table itself."""
    import pandas as pd
    from pytabkit import RealMLP_TD_Classifier, TabM_D_Classifier

    make = {"RealMLP_TD": RealMLP_TD_Classifier, "TabM_D": TabM_D_Classifier}[name]
    columns = {}
    for index, column in enumerate(table.column_names):
        values = table.features[:, index]
        if column in table.categories:
            known = np.where(np.isnan(values), -1, values).astype(int).astype(str)
            columns[column] = pd.Series(known, dtype="category")
        else:
            columns[column] = pd.Series(values).fillna(np.nanmedian(values))
    frame = pd.DataFrame(columns)
    probabilities = []
    for fold in folds:
        model = make(device="cpu", random_state=0, n_cv=1, n_threads=2)
        train, test = fold.indices["train"], fold.indices["test"]
        model.fit(frame.iloc[train], table.targets[train])
        probabilities.append(model.predict_proba(frame.iloc[test]))
    return probabilities


def figures(probabilities: Probabilities, table: RawTable, folds: list[Fold]) -> dict[str, Any]:
    """Each score of each fold."""
    values: dict[str, list[float]] = {name: [] for name in SCORES}
    for fold, predicted in zip(folds, probabilities, strict=False):
        targets = torch.from_numpy(table.targets[fold.indices["test"]])
        for name in SCORES:
            value = score(name, torch.from_numpy(predicted).double(), targets).item()
            values[name].append(round(value, 5))
    return values


def measure(path: Path, target: str, known: dict[str, Any], save: Callable[[], None]) -> None:
    """Fill in the figures of a table that are not known yet."""
    rows = pl.scan_csv(path).select(pl.len()).collect().item()
    repeats = 1 if rows > 2_000 or SMALL else 2
    datamodule = Table(str(path), target)
    table = datamodule.read()
    components = to_config({name: getattr(recipe, name.upper()) for name in LEARNED})
    plan = make_plan(datamodule, [components], 5, repeats, 0, 1, 0, members=None, memory=2**40)
    folds = plan.folds
    fits: dict[str, Callable[[], Probabilities]] = {"ours": partial(ours, datamodule, plan)}
    for name, make in others().items():
        fits[name] = partial(theirs, make, table, folds)
    if path.stem in EIGHT and find_spec("pytabkit"):
        for name in ("RealMLP_TD", "TabM_D"):
            fits[name] = partial(pytabkit, name, table, folds[:5])
    for name, fit in fits.items():
        if name in known:
            continue
        start = time.perf_counter()
        probabilities = fit()
        seconds = round(time.perf_counter() - start, 1)
        known[name] = figures(probabilities, table, folds) | {"seconds": seconds}
        save()


def line(name: str, known: dict[str, Any]) -> str:
    """A table's accuracy and log-loss for each classifier."""
    cells = [
        f"{classifier} {np.mean(values['accuracy']):.3f}/{np.mean(values['log_loss']):.3f}"
        for classifier, values in known.items()
    ]
    return f"{name}: " + "  ".join(cells)


def small() -> None:
    """Try everything but the real tables, on Iris."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "iris.csv")
        iris = load_iris(as_frame=True)
        pl.from_pandas(iris.frame).write_csv(path)
        known: dict[str, Any] = {}
        measure(path, "target", known, save=lambda: None)
        print(line("iris", known))


def main() -> None:
    """Measure one half, and write bench/results/tables_HALF.json after every classifier."""
    quiet()
    skip_driver_lookup()
    warnings.simplefilter("ignore")
    if SMALL:
        small()
        return
    half = sys.argv[1]
    results = RESULTS / f"tables_{half}.json"
    result: dict[str, Any] = {
        "command": f"python -m bench.tables {half}",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "scikit-learn", "lightgbm")},
        },
    }
    result["tables"] = json.loads(results.read_text())["tables"] if results.exists() else {}

    def save() -> None:
        results.write_text(json.dumps(result) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        for name, table in HALVES[half].items():
            known = result["tables"].setdefault(name, {})
            measure(write_table(name, Path(folder)), table.target, known, save)
            print(line(name, known), flush=True)


if __name__ == "__main__":
    main()
