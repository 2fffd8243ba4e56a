"""The default recipe beside scikit-learn's classifiers, on scikit-learn's four small tables and the same folds.

10 x 10-fold cross-validation (RepeatedStratifiedKFold, random_state 0; digits once), features standardized on each
fold's training rows, for all alike; one network each. The recipe was chosen on these very tables (bench/recipe.py), the
others are scikit-learn's defaults (more iterations where they would stop early). "As one" is the mean of the
probabilities of the ten networks that a row was held out from.

python bench/tables.py           # 10 minutes on 2 cores
python bench/tables.py --small   # seconds, writes nothing: does it run?
"""

import json
import os
import platform
import sys
import tempfile
import warnings
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.measure import processor  # noqa: E402
from cli.command import quiet  # noqa: E402
from data.tabular import RawTable, TabularData  # noqa: E402
from evaluate import evaluate  # noqa: E402

SMALL = "--small" in sys.argv
TABLES = {
    "iris": (load_iris, 10),
    "wine": (load_wine, 10),
    "breast cancer": (load_breast_cancer, 10),
}
TABLES |= {"digits": (load_digits, 1)}
if SMALL:
    TABLES = {"iris": (load_iris, 1)}
OTHERS: dict[str, Any] = {
    "LogisticRegression": LogisticRegression(max_iter=2000),
    "SVC": SVC(),
    "LinearDiscriminantAnalysis": LinearDiscriminantAnalysis(),
    "RandomForestClassifier": RandomForestClassifier(random_state=0),
    "MLPClassifier": MLPClassifier(max_iter=500, random_state=0),
}


class Bunch(TabularData):
    """One of scikit-learn's tables."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def load(self) -> RawTable:
        bunch = TABLES[self.name][0]()
        names = (
            [f"x{i}" for i in range(bunch.data.shape[1])],
            [str(name) for name in bunch.target_names],
        )
        return RawTable(bunch.data, bunch.target, *names)


def main() -> None:
    """Measure, write bench/results/tables.json, print."""
    quiet()
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows: dict[str, dict[str, Any]] = {
        name: {} for name in ("the recipe", "the recipe, ten as one", *OTHERS)
    }
    for name, (load, repeats) in TABLES.items():
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            found = evaluate(
                partial(Bunch, name=name), repeats=repeats, accelerator="cpu", log_dir=folder
            ).to_json()
        rows["the recipe"][name] = [found[f"accuracy/{key}"] for key in ("mean", "low", "high")]
        rows["the recipe, ten as one"][name] = [found["ensemble/accuracy"]]
        data, targets = load(return_X_y=True)
        folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=repeats, random_state=0)
        for other, classifier in OTHERS.items():
            scores = cross_val_score(
                make_pipeline(StandardScaler(), classifier), data, targets, cv=folds, n_jobs=2
            )
            rows[other][name] = [float(scores.mean())]
        print(name, {one: round(row[name][0], 4) for one, row in rows.items()}, flush=True)
    for row in rows.values():
        row["mean"] = [float(np.mean([value[0] for value in row.values()]))]
    result = {
        "command": "python bench/tables.py",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "sklearn": sklearn.__version__,
        },
        "n": {name: 10 * repeats for name, (_, repeats) in TABLES.items()},
        "accuracy": {
            one: {name: [round(v, 4) for v in value] for name, value in row.items()}
            for one, row in rows.items()
        },
    }
    if not SMALL:
        (Path(__file__).with_name("results") / "tables.json").write_text(
            json.dumps(result, indent=2) + "\n"
        )
    for one, row in rows.items():
        print(f"{one:32}" + "".join(f"{value[0]:10.4f}" for value in row.values()))


if __name__ == "__main__":
    main()
