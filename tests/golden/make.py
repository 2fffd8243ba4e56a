"""Made the files beside it: python tests/golden/make.py, once for each format of a checkpoint's table.

A file that is there stays as it is: it must load for ever.
"""

import json
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent


def make() -> None:
    """Write a network's and a population's checkpoint of this format, and what they predict."""
    sys.path.insert(0, str(HERE.parents[1]))

    import polars as pl

    from data.table import Table
    from data.tabular import FORMAT
    from evaluate import evaluate
    from model.networks import MLP
    from predict import load
    from train import train

    data = partial(Table, str(HERE / "table.csv"), "kind")
    options = {"data": data, "network": partial(MLP, hidden=[4]), "accelerator": "cpu"}
    folds = {"folds": 3, "repeats": 1, "save": True}
    for name, function in {"best": train, "population": partial(evaluate, **folds)}.items():
        target = HERE / f"{name}_{FORMAT}.ckpt"
        with (
            target.open("xb") as file,
            TemporaryDirectory() as folder,
        ):  # x: never another one in its place
            function(log_dir=folder, **options)
            file.write(Path(folder, "version_0", "checkpoints", f"{name}.ckpt").read_bytes())
        probabilities = load(str(target)).predict_proba(pl.read_csv(HERE / "table.csv"))
        target.with_suffix(".json").write_text(json.dumps(probabilities.round(6).tolist()) + "\n")


if __name__ == "__main__":
    make()
