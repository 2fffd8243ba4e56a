"""A trained network as a program for torch.export, and the check that its file predicts alike."""

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cli.component import build
from cli.errors import first_line
from cli.yaml_files import read_yaml_file
from data.checkpoint_format import run_dir_of
from inference.checkpoint import check_class
from inference.predictor import Predictor

LARGEST_DIFFERENCE = 1e-5  # of a probability, between the file and torch
PACKAGE = "lightning-iris"
RANDOM_ROWS = 1000
MOST_ROWS = 100_000  # of the run's table
MISSING_SHARE = 0.1  # of random values


@dataclass(frozen=True)
class Agreement:
    """How closely a file predicts what torch does; `difference` is the largest of a probability."""

    difference: float
    same_labels: bool

    @property
    def is_close(self) -> bool:
        return self.same_labels and self.difference <= LARGEST_DIFFERENCE  # false for NaN


class Program(nn.Module):
    """What is written: the predictor, with the class index of each row.

    Shapes: (rows, columns) float64 -> class indices (rows,), probabilities (rows, classes) and, for
    a population, their spread (rows, classes).
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.classifier = predictor

    def forward(self, raw: Tensor) -> tuple[Tensor, ...]:
        probabilities, spread = self.classifier(raw)
        indices = probabilities.argmax(1)
        if self.classifier.is_population:
            return indices, probabilities, spread
        return indices, probabilities


def trace(predictor: Predictor, raw: np.ndarray) -> torch.export.ExportedProgram:
    """Trace the predictor with torch.export, for any number of rows.

    Raises:
        ValueError: The network does something that torch.export cannot express.
    """
    example = torch.from_numpy(raw[:3])
    any_rows = {0: torch.export.Dim("rows", min=1)}
    try:
        with redirect_stderr(StringIO()):  # on failure torch prints the whole graph
            return torch.export.export(Program(predictor), (example,), dynamic_shapes=(any_rows,))
    except Exception as error:  # torch raises many kinds
        raise ValueError(
            f"torch.export cannot write this network down: {first_line(error)}"
        ) from error


def write_pt2(program: torch.export.ExportedProgram, metadata: dict[str, Any], path: Path) -> None:
    """Write the program as torch's .pt2 file, with its metadata as metadata.json inside."""
    text = json.dumps(metadata, ensure_ascii=False)
    buffer = BytesIO()  # torch aborts the process where a disk is full
    torch.export.save(program, buffer, extra_files={"metadata.json": text})
    path.write_bytes(buffer.getbuffer())


def run_pt2(path: Path, predictor: Predictor, raw: np.ndarray) -> list[np.ndarray]:
    """What a .pt2 file predicts for a raw table: labels (rows,), probabilities and spread."""
    program = torch.export.load(path).module()
    indices, *figures = program(torch.from_numpy(raw))
    return [predictor.names_of(indices.numpy()), *(figure.numpy() for figure in figures)]


def compare(outputs: Sequence[np.ndarray], predictor: Predictor, raw: np.ndarray) -> Agreement:
    """How closely a file predicts what the predictor predicts in torch.

    Args:
        outputs: The file's labels, probabilities and, for a population, spread.
        predictor: The network or population in torch.
        raw: The rows (rows, columns) that both predicted.
    """
    labels, *figures = outputs
    expected = predictor.predict_raw(raw)
    pairs = zip(figures, expected, strict=False)  # a network has no spread to compare
    differences = [np.abs(figure - in_torch).max() for figure, in_torch in pairs]
    expected_labels = predictor.names_of(expected[0].argmax(1))
    same_labels = bool((labels.astype(str) == expected_labels.astype(str)).all())
    return Agreement(float(np.max(differences)), same_labels)


def make_metadata(predictor: Predictor, checkpoint: Path) -> dict[str, Any]:
    """What a user of the file must know, as plain data."""
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    return {
        "columns": [describe_column(predictor, name) for name in predictor.column_names],
        "class_names": predictor.class_names,
        "target": predictor.target,
        "version": f"{PACKAGE} {package_version()}",
        "run": f"{run_dir_of(checkpoint).name} {digest[:16]}",
    }


def describe_column(predictor: Predictor, name: str) -> dict[str, Any]:
    """A column's name and type, its unit if the name ends in one, its categories if it is text."""
    categories = predictor.categories.get(name)
    column: dict[str, Any] = {"name": name, "type": predictor.columns.kind(name)}
    unit = re.search(r"\(([^()]+)\)\s*$", name)
    if unit:
        column["unit"] = unit[1]
    if name in predictor.columns.dates:
        column["unit"] = "days since 1970-01-01"
        column["form"] = predictor.columns.dates[name]
    if categories is not None:
        column["categories"] = categories
    return column


def package_version() -> str:
    """This program's version, as installed."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "from a clone"


def comparison_rows(predictor: Predictor, checkpoint: Path) -> tuple[np.ndarray, str]:
    """Raw rows to compare the file with torch on, and where they are from.

    They are the run's table, or random rows if it is not there any more, and two special rows: one
    with every value missing, one with every category unseen.
    """
    table = read_run_table(predictor, checkpoint)
    if table is not None:
        rows, source = table, "the run's table"
    else:
        rows = random_rows(predictor, RANDOM_ROWS, np.random.default_rng(0))
        source = "drawn: the run's table is not there"
    missing = np.full((1, len(predictor.column_names)), np.nan)
    unseen = missing.copy()
    for i, name in enumerate(predictor.column_names):
        unseen[0, i] = len(predictor.categories.get(name, ()))
    return np.concatenate([rows, missing, unseen]), source


def read_run_table(predictor: Predictor, checkpoint: Path) -> np.ndarray | None:
    """The raw table (rows, columns) of a checkpoint's run; null if it is gone or has changed."""
    try:
        config = read_yaml_file(str(run_dir_of(checkpoint) / "config.yaml"))
        check_class(config["data"]["class"], "config.yaml")
        datamodule = build("data", config["data"])()
        table = datamodule.read()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if datamodule.columns != predictor.columns:
        return None
    rows = np.linspace(0, len(table.targets) - 1, min(len(table.targets), MOST_ROWS)).astype(int)
    raw: np.ndarray = table.features[rows].astype(np.float64)
    return raw


def random_rows(predictor: Predictor, count: int, generator: np.random.Generator) -> np.ndarray:
    """Random raw rows (count, columns) like the training rows, some values missing or unseen."""
    encoder = predictor.encoder
    source = encoder.source.numpy()
    mean = encoder.mean.numpy().reshape(-1, len(source))[0]  # the first member's
    scale = encoder.scale.numpy().reshape(-1, len(source))[0]
    raw = np.empty((count, len(predictor.column_names)))
    for i, name in enumerate(predictor.column_names):
        if name in predictor.categories:
            unseen = len(predictor.categories[name])
            raw[:, i] = generator.integers(0, unseen + 1, count)
        else:
            feature = int(np.flatnonzero(source == i)[0])
            # The scale of a constant feature is infinite.
            feature_scale = np.nan_to_num(scale[feature], posinf=1.0)
            raw[:, i] = generator.normal(mean[feature], 3 * feature_scale, count)
    raw[generator.random(raw.shape) < MISSING_SHARE] = np.nan
    return raw
