"""The default recipe beside scikit-learn's classifiers, on the same folds of its small tables.

10-fold cross-validation, repeated 10 times (digits: once), features standardized with statistics
of each fold's training rows for all alike, a network for each fold. The recipe was chosen on these
same tables (bench/recipe.py); the others have scikit-learn's defaults, with more iterations where
they would stop early. "Ten as one" averages the probabilities of the ten networks that did not
train on a row.

python -m bench.small_tables           # 10 minutes on 2 cores
python -m bench.small_tables --small   # seconds, writes nothing: does it run?
"""

import json
import os
import platform
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bench.estimate import LOADERS, REPEATS, SmallTable, estimate
from bench.measure import processor
from cli.command import quiet

SMALL = "--small" in sys.argv
if SMALL:
    REPEATS = {"iris": 1}
OTHERS: dict[str, Any] = {
    "LogisticRegression": LogisticRegression(max_iter=2000),
    "SVC": SVC(),
    "LinearDiscriminantAnalysis": LinearDiscriminantAnalysis(),
    "RandomForestClassifier": RandomForestClassifier(random_state=0),
    "MLPClassifier": MLPClassifier(max_iter=500, random_state=0),
}


def measure(table: str) -> dict[str, list[float]]:
    """The accuracy of each classifier on a table, for the recipe with its interval."""
    repeats = REPEATS[table]
    result = estimate(data=partial(SmallTable, table), repeats=repeats)
    accuracies = {
        "the recipe": [result[f"accuracy/{point}"] for point in ("mean", "low", "high")],
        "the recipe, ensemble of ten": [result["ensemble/accuracy"]],
    }
    features, targets = LOADERS[table](return_X_y=True)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=repeats, random_state=0)
    for name, classifier in OTHERS.items():
        pipeline = make_pipeline(StandardScaler(), classifier)
        scores = cross_val_score(pipeline, features, targets, cv=folds, n_jobs=2)
        accuracies[name] = [float(scores.mean())]
    return accuracies


def main() -> None:
    """Measure, write bench/results/small_tables.json, print."""
    quiet()
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows: dict[str, dict[str, list[float]]] = {}
    for table in REPEATS:
        for name, accuracy in measure(table).items():
            rows.setdefault(name, {})[table] = accuracy
        print(table, "measured", file=sys.stderr, flush=True)
    for row in rows.values():
        row["mean"] = [float(np.mean([accuracy[0] for accuracy in row.values()]))]

    for name, row in rows.items():
        print(f"{name:32}" + "".join(f"{accuracy[0]:10.4f}" for accuracy in row.values()))
    rounded = {
        name: {table: [round(value, 4) for value in accuracy] for table, accuracy in row.items()}
        for name, row in rows.items()
    }
    result = {
        "command": "python -m bench.small_tables",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "sklearn": sklearn.__version__,
        },
        "n": {table: 10 * repeats for table, repeats in REPEATS.items()},
        "accuracy": rounded,
    }
    if not SMALL:
        path = Path(__file__).with_name("results") / "small_tables.json"
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
