"""Predict the class of each row of a table with a trained network, or a population of them.

python predict.py lightning_logs/version_0/checkpoints/best.ckpt today.csv
"""

import shutil
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from polars.selectors import by_name
from torch import Tensor, nn

from cli.command import command
from cli.component import build, defines
from data.encoder import Encoder
from data.file import File, matrix, text_of

FORMATS = {1}  # of a checkpoint's table that this version reads; a golden file of each is in tests/
ROWS = 16_384  # at a time: its hidden units stay in the cache
KEYS = {
    "format",
    "column_names",
    "categories",
    "feature_names",
    "class_names",
    "target",
    "source",
    "mean",
    "scale",
}


def predict(
    checkpoint: str,
    table: str,
    output: str | None = None,
    score: bool = False,
    delimiter: str | None = None,
) -> None:
    """Predict the class of each row of a table with a trained network, or a population of them.

    Args:
        checkpoint: A run's best.ckpt or population.ckpt.
        table: CSV, TSV or Parquet file of raw columns, found by name; - reads CSV from standard input.
        output: CSV or Parquet file to write, whole or not at all; null writes CSV to standard output.
        score: Compare with the table's own column of classes.
        delimiter: Between a CSV file's fields; null takes what its first line has most of.

    Raises:
        ValueError: A checkpoint or table that cannot be used; nothing was written.
    """
    classifier = load(checkpoint)
    with opened(table, output, delimiter) as (file, spool):
        result = classifier.predict_file(file, spool, score)
        if output is None:
            with spool.open("rb") as done:
                shutil.copyfileobj(done, sys.stdout.buffer)
            sys.stdout.flush()
        else:
            place(spool, output, classifier.output_names)
    tell_ignored(file, classifier)
    if result:
        print(result, file=sys.stdout if output else sys.stderr)


@contextmanager
def opened(table: str, output: str | None, delimiter: str | None) -> Iterator[tuple[File, Path]]:
    """A table's file, - being standard input, and the path of a CSV file that waits beside the output.

    All rows wait there until every row has been read: not one is written of a table that has a bad row.
    """
    if output is not None and Path(output).suffix.lower() not in (".csv", ".parquet"):
        raise ValueError(f"output is {output!r}; give a name that ends in .csv or .parquet")
    folder = Path(output).absolute().parent if output else None
    if folder and not folder.is_dir():
        raise ValueError(f"output is {output!r}, but there is no folder {folder}; make it first")
    if output and Path(output).is_dir():
        raise ValueError(f"output is {output!r}, which is a folder; give a file")
    if output and Path(output).exists() and Path(table).exists() and Path(output).samefile(table):
        raise ValueError(f"output is {output!r}, the table itself; give another file")
    if table == "-" and sys.stdin is None:
        raise ValueError("standard input is closed; give a file")
    piped = (
        table == "-" or Path(table).is_fifo()
    )  # read once, and a table may be read again for its lines
    if piped:
        signal.siginterrupt(
            signal.SIGINT, True
        )  # polars' handler goes on reading: Ctrl-C would not end it
    with tempfile.TemporaryDirectory(dir=folder, prefix=".predict-") as name:
        copy, waiting = Path(name, "table"), Path(name, "rows.csv")
        if piped:
            with (
                copy.open("wb") as sink,
                sys.stdin.buffer if table == "-" else Path(table).open("rb") as source,
            ):
                shutil.copyfileobj(source, sink)
            yield File(str(copy), delimiter, "standard input" if table == "-" else table), waiting
        else:
            yield File(table, delimiter), waiting


def place(spool: Path, output: str, names: Sequence[str]) -> None:
    """Make the CSV file that waits, of a label and numbers, the output, as the output's name says."""
    if Path(output).suffix.lower() == ".parquet":
        schema = {name: pl.String if name == "label" else pl.Float64 for name in names}
        options: dict[str, Any] = {"schema": schema, "glob": False}
        pl.scan_csv(spool, **options).sink_parquet(spool.with_suffix(".parquet"))
        spool = spool.with_suffix(".parquet")
    spool.replace(output)


def tell_ignored(file: File, classifier: "Predictor") -> None:
    """Name a table's columns that the network does not know."""
    extra = [
        name for name in file.names if name not in (*classifier.column_names, classifier.target)
    ]
    if extra:
        print(
            f"ignored columns: {', '.join(extra[:5])}{', ...' if len(extra) > 5 else ''}",
            file=sys.stderr,
        )


class Predictor(nn.Module):
    """A trained network, or a population of them, that takes raw columns and gives class names.

    `forward` takes a raw table (rows, columns; data/encoder.py says how) and gives each class's probability and, of a
    population, its standard deviation between the members: two tensors (rows, classes), the second empty of a network.

    Args:
        state: What the checkpoint says of its table.
        network: From standardized features to logits; of a population to (members, rows, classes) probabilities.
        many: Whether it is a population.
    """

    def __init__(self, state: dict[str, Any], network: nn.Module, many: bool) -> None:
        super().__init__()
        self.column_names, self.class_names = (
            list(state["column_names"]),
            list(state["class_names"]),
        )
        self.categories, self.target = dict(state["categories"]), state["target"]
        self.encoder, self.network, self.many = Encoder.of_state(state), network, many
        self.output_names = ["label", *(f"probability {name}" for name in self.class_names)]
        self.output_names += [f"spread {name}" for name in self.class_names] if many else []

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(raw)
        if not self.many:
            probabilities = self.network(features).softmax(1)
            return probabilities, probabilities[:, :0]
        each = self.network.probabilities(features)  # type: ignore[operator]  # a Population
        return each.mean(0), each.std(0, correction=0)

    def predict_raw(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities and spread of a raw table, a piece at a time."""
        with torch.inference_mode():
            pieces = [self(piece) for piece in torch.from_numpy(raw).split(ROWS)]
        return tuple(torch.cat(each).numpy() for each in zip(*pieces, strict=True))  # type: ignore[return-value]

    def predict_proba(self, table: Any) -> np.ndarray:
        """Each class's probability, in the order of `class_names`: (rows, classes).

        Args:
            table: A pandas or polars DataFrame with the columns by name, or an array (rows, columns) in their order.
        """
        frame = as_frame(table, self.column_names)
        if not len(frame):
            return np.empty((0, len(self.class_names)), np.float32)
        return self.predict_raw(matrix(frame, self.column_names, self.categories))[0]

    def predict(self, table: Any) -> np.ndarray:
        """The class name of each row."""
        names: np.ndarray = np.array(self.class_names, object)[self.predict_proba(table).argmax(1)]
        return names

    def predict_file(self, file: File, output: Path, score: bool = False) -> str:
        """Write a CSV of each row's label and probabilities, batch by batch; what to tell of the score."""
        file.need([*self.column_names, self.target] if score else self.column_names)
        seen, right, log_loss = 0, 0, 0.0
        names = [*self.column_names, *([self.target] if score else [])]
        with output.open("wb") as sink:
            for frame in file.frames(names):
                probabilities, spread = self.predict_raw(
                    matrix(frame, self.column_names, self.categories, file, seen)
                )
                numbers = probabilities.argmax(1)
                labels = pl.Series(self.class_names).gather(numbers)
                figures = np.concatenate([probabilities, spread], 1)
                columns = dict(zip(self.output_names, [labels, *figures.T], strict=True))
                pl.DataFrame(columns).write_csv(sink, include_header=not seen)
                if score:
                    true = self.numbers(text_of(frame.get_column(self.target)), file, seen)
                    right += int((numbers == true).sum())
                    log_loss -= float(
                        np.log(
                            probabilities[np.arange(len(true)), true].astype(float) + 1e-300
                        ).sum()
                    )
                seen += len(frame)
        return report(seen, right, log_loss / seen) if score else ""

    def numbers(self, labels: pl.Series, file: File, first: int) -> np.ndarray:
        """The class numbers of labels."""
        lookup = dict(zip(self.class_names, range(len(self.class_names)), strict=True))
        labels = labels.str.to_lowercase() if self.class_names == ["false", "true"] else labels
        numbers = labels.replace_strict(lookup, default=None, return_dtype=pl.Int64)
        if numbers.null_count():
            row = int(numbers.is_null().arg_max() or 0)
            place = file.place(first + row, self.target)
            raise ValueError(
                f"{place} is {labels[row]!r}; the network knows {', '.join(self.class_names[:10])}"
            )
        return numbers.to_numpy()


def report(rows: int, right: int, log_loss: float) -> str:
    """The score of a table in words."""
    from scipy.stats import binomtest

    low, high = binomtest(right, rows).proportion_ci(method="wilson")
    return f"{rows:,} rows   accuracy {right / rows:.4f}   95 % interval {low:.3f} to {high:.3f}   log-loss {log_loss:.4f}"


def as_frame(table: Any, names: Sequence[str]) -> pl.DataFrame:
    """A pandas or polars DataFrame, or an array in the columns' order, as polars has it."""
    if isinstance(table, pl.LazyFrame):
        table = table.collect()
    if not hasattr(table, "columns"):
        table = np.asarray(table)
        if table.ndim != 2 or table.shape[1] != len(names):
            raise ValueError(
                f"the array is of shape {table.shape}; give (rows, {len(names)}): {', '.join(names[:10])}"
            )
        return pl.DataFrame(
            {name: series(name, column) for name, column in zip(names, table.T, strict=True)}
        )
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise ValueError(f"the table has no column {', '.join(map(repr, missing[:5]))}")
    if isinstance(table, pl.DataFrame):
        return table.select(by_name(list(names)))
    if len(set(table.columns)) < len(table.columns):
        raise ValueError("the table has two columns of one name; rename one")
    # pandas has several kinds of numbers, texts and missing values: one of each here.
    columns = {name: table[name] for name in names}
    plain = {
        name: (
            column if is_number(column.dtype) else column.astype(object).where(column.notna(), None)
        ).to_numpy()
        for name, column in columns.items()
    }
    return pl.DataFrame({name: series(name, values) for name, values in plain.items()})


def is_number(dtype: Any) -> bool:
    """Whether NumPy knows the type as one of booleans or numbers."""
    return isinstance(dtype, np.dtype) and dtype.kind in "biuf"


def series(name: str, values: np.ndarray) -> pl.Series:
    """An array as polars has it; of mixed values, as text, with None and NaN missing."""
    if is_number(values.dtype):
        return pl.Series(name, values)
    known = [None if value is None or value != value else value for value in values.tolist()]
    whole = [
        int(value) if isinstance(value, float) and value.is_integer() else value for value in known
    ]
    return pl.Series(name, [None if value is None else str(value) for value in whole], pl.String)


class Content(NamedTuple):
    """What a checkpoint holds: weights, plain settings, and what it says of its table."""

    weights: dict[str, Tensor]
    settings: dict[str, Any]
    table: dict[str, Any]


def read(path: str) -> Content:
    """Read a checkpoint as data: nothing in it runs.

    Raises:
        ValueError: It is damaged, holds code, or is no checkpoint of this program; the message says which.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; give a checkpoint in it, such as best.ckpt")
    if not Path(path).is_file():
        raise ValueError(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            # As torch writes it: nothing packed, no folders; torch itself would take those for empty weights.
            plain = not any(info.compress_type or info.external_attr for info in archive.infolist())
            damaged = (
                archive.testzip() if plain else "its list of files"
            )  # torch does not look at the checksums
    except Exception as error:  # a damaged archive breaks zipfile in many ways
        raise ValueError(f"{path} is damaged, or no checkpoint: {reason(error)}") from error
    if damaged:
        raise ValueError(f"{path} is damaged: the checksum of {damaged} is wrong; copy it again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(
            f"{path} holds code, not data alone, and was not loaded: {reason(error)}"
        ) from error
    except Exception as error:
        raise ValueError(f"{path} is damaged, or no checkpoint: {reason(error)}") from error
    settings = content.get("hyper_parameters") if isinstance(content, dict) else None
    if isinstance(settings, dict) and "_instantiator" in settings:
        raise ValueError(f"{path} names code to run (_instantiator), and was not loaded")
    tables = (
        [value for value in content.values() if isinstance(value, dict) and value.keys() >= KEYS]
        if settings
        else []
    )
    if not isinstance(settings, dict) or "state_dict" not in content or len(tables) != 1:
        raise ValueError(
            f"{path} is a checkpoint of another program; give one that train.py or evaluate.py wrote"
        )
    if str(tables[0]["format"]) not in map(str, FORMATS):
        raise ValueError(
            f"{path} is of format {tables[0]['format']}, which this version does not know; update it"
        )
    classes, columns, categories = (
        tables[0][name] for name in ("class_names", "column_names", "categories")
    )
    if not (
        isinstance(categories, dict)
        and all(map(is_names, (classes, columns, *categories.values())))
        and settings.get("num_classes") == len(classes)
        and categories.keys() <= set(columns)
        and isinstance(tables[0]["target"], str)
    ):
        raise ValueError(
            f"{path} does not fit together: its names of columns, categories or classes"
        )
    return Content(content["state_dict"], settings, tables[0])


def is_names(names: Any) -> bool:
    """Whether they are texts, all different."""
    return (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and len(set(names)) == len(names)
    )


def reason(error: Exception) -> str:
    """Torch's many lines in one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [
        type(error).__name__
    ]
    return next(
        (line for line in lines if "GLOBAL" in line or "Unsupported" in line),
        (lines or [repr(error)])[0],
    )[:200]


def load(path: str) -> Predictor:
    """A checkpoint of train.py or evaluate.py, ready to predict.

    Args:
        path: The file.

    Raises:
        ValueError: It is damaged, holds code, or is no checkpoint of this program; the message says which.
    """
    weights, settings, table = read(path)
    try:
        many = "members" in settings
        if many:
            from model.population import (
                Population,
            )  # with Lightning, which one network does not need

            for setting in settings["settings"]:
                for spec in setting.values():
                    trust(spec, path)
            network: nn.Module = Population(**settings)
        else:
            sizes = settings["num_features"], settings["num_classes"]
            trust(settings["network"], path)
            network = build("network", settings["network"])(*sizes)
            weights = {
                name.removeprefix("network."): value
                for name, value in weights.items()
                if name.startswith("network.")
            }
        network.load_state_dict(weights)
        classifier = Predictor(table, network, many).eval().requires_grad_(False)
        if not np.isfinite(
            classifier.predict_raw(np.zeros((1, len(classifier.column_names))))[0]
        ).all():
            raise ValueError(f"{path} has weights that are not finite; train again")
    except (RuntimeError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} does not fit together: {reason(error)}") from error
    return classifier


def trust(spec: Any, path: str) -> None:
    """Refuse a description of a class that only an import could tell from any other code."""
    name = spec["class"] if spec else "MLP"
    if "." in str(name) and not defines(name):
        raise ValueError(
            f"{path} names {name}, and no module defines such a class; it was not imported"
        )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what waits to be written is removed
    command(predict)
