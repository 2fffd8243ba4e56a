"""What the scripts share that estimate accuracies: evaluate.py, run silently, and small tables."""

import tempfile
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from data.tabular import RawTable, TabularData
from evaluate import evaluate

# scikit-learn's small tables, with the number of repeats of 10-fold cross-validation on each.
LOADERS = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
}
REPEATS = {"iris": 10, "wine": 10, "breast cancer": 10, "digits": 1}


class SmallTable(TabularData):
    """One of scikit-learn's small tables.

    Args:
        name: A key of `LOADERS`.
        split: The arguments of TabularData.
    """

    def __init__(self, name: str, **split: Any) -> None:
        super().__init__(**split)
        self.name = name

    def load(self) -> RawTable:
        bunch = LOADERS[str(self.name)]()
        column_names = [f"x{i}" for i in range(bunch.data.shape[1])]
        class_names = [str(name) for name in bunch.target_names]
        return RawTable(bunch.data, bunch.target, column_names, class_names)


def estimate(**arguments: Any) -> dict[str, Any]:
    """The result.json of evaluate.py's function on the CPU, without output and baselines."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        settings = {"accelerator": "cpu", "log_dir": folder, "baselines": []}
        result = evaluate(**arguments | settings)
    assert result is not None  # only a process of several would have none
    return result.to_json()
