"""Predictor: a trained network, or a population, that takes raw columns and names classes."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from cli.component import build
from data.checkpoint_file import torch_reason
from data.columns import Columns, shown
from data.encoder import Encoder
from data.file import File
from data.frames import to_frame
from data.labels import LabelType, label_indices, typed_names
from inference.checkpoint import Checkpoint, check_classes, read_checkpoint
from inference.weights import check_network, check_population

PASS_ROWS = 16_384  # rows in one forward pass: their hidden units stay in the cache
SMALLEST_PROBABILITY = 1e-300  # keeps the log-loss finite where a probability is 0
SHOWN_CLASSES = 10  # class names in a message


@dataclass(frozen=True)
class Score:
    """How well a table's classes were predicted.

    Args:
        rows: Number of rows with a class.
        correct: How many of them were predicted right.
        log_loss: Mean over these rows.
        unlabelled: Number of rows without a class.
    """

    rows: int
    correct: int
    log_loss: float
    unlabelled: int = 0

    @property
    def accuracy(self) -> float:
        return self.correct / self.rows


@dataclass
class Summary:
    """What was predicted of a file: rows, unseen categories by column, and how well."""

    rows: int = 0
    unseen: Counter[str] = field(default_factory=Counter)
    labelled: int = 0
    correct: int = 0
    log_loss_sum: float = 0.0

    def add_unseen(self, counts: dict[str, int]) -> None:
        """Count the values of some rows that are categories which training did not have."""
        self.unseen.update(counts)

    def add_score(self, probabilities: np.ndarray, targets: np.ndarray) -> None:
        """Compare probabilities (rows, classes) with class indices (rows,), -1 where missing."""
        labelled = targets >= 0
        targets = targets[labelled]
        probabilities = probabilities[labelled]
        self.labelled += len(targets)
        self.correct += int((probabilities.argmax(1) == targets).sum())
        self.log_loss_sum += float(log_losses(probabilities, targets).sum())

    @property
    def score(self) -> Score:
        """How well the rows with a class were predicted."""
        log_loss = self.log_loss_sum / self.labelled
        return Score(self.labelled, self.correct, log_loss, self.rows - self.labelled)


class Predictor(nn.Module):
    """A trained network, or a population of them, that takes raw columns and names classes.

    `forward` takes a raw table (rows, columns), as data/encoder.py describes it. It returns two
    tensors (rows, classes): each class's probability and, for a population, the standard deviation
    of the probability between members; for a single network the second tensor is (rows, 0).

    Args:
        table: The checkpoint's description of its table.
        network: From standardized features to logits; for a population, a
            model.population_networks.PopulationNetworks.
        is_population: Which of the two it is.
    """

    def __init__(self, table: dict[str, Any], network: nn.Module, is_population: bool) -> None:
        super().__init__()
        self.columns = Columns.from_state(table)
        self.column_names = self.columns.names
        self.categories = self.columns.categories
        self.class_names: list[str] = list(table["class_names"])
        self.target: str = table["target"]
        self.label_type: LabelType = table.get("label_type", "text")  # format 3
        self.id_column: str | None = table.get("id_column")
        self.encoder = Encoder.from_state(table)
        self.network = network
        self.is_population = is_population
        self.output_names = ["label", *(f"probability {name}" for name in self.class_names)]
        if is_population:
            self.output_names += [f"spread {name}" for name in self.class_names]

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(raw)
        if self.is_population:
            by_member = self.network.probabilities(features)  # type: ignore[operator]
            return by_member.mean(0), by_member.std(0, correction=0)
        probabilities = self.network(features).softmax(1)
        no_spread = probabilities[:, :0]
        return probabilities, no_spread

    def predict_raw(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`forward` for a NumPy array of any length, in passes of limited size."""
        with torch.inference_mode():
            passes = [self(rows) for rows in torch.from_numpy(raw).split(PASS_ROWS)]
        probabilities, spreads = zip(*passes, strict=True)
        return torch.cat(probabilities).numpy(), torch.cat(spreads).numpy()

    def predict_proba(self, table: Any) -> np.ndarray:
        """Each class's probability, in the order of `class_names`: (rows, classes).

        Args:
            table: A pandas or polars DataFrame with the columns by name, or an array (rows,
                columns) in the order of `column_names`.

        Raises:
            ValueError: A column is missing, or holds text where the network learned numbers.
        """
        frame = to_frame(table, self.column_names)
        if not len(frame):
            return np.empty((0, len(self.class_names)), np.float32)
        raw = self.columns.matrix(frame)
        probabilities, _ = self.predict_raw(raw)
        return probabilities

    def predict_log_proba(self, table: Any) -> np.ndarray:
        """The logarithm of `predict_proba`: (rows, classes); minus infinity for a probability 0."""
        with np.errstate(divide="ignore"):
            logarithms: np.ndarray = np.log(self.predict_proba(table))
        return logarithms

    def predict(self, table: Any) -> np.ndarray:
        """The class of each row of what `predict_proba` takes, in the table's own type: (rows,)."""
        classes: np.ndarray = typed_names(self.class_names, self.label_type)
        predicted: np.ndarray = classes[self.predict_proba(table).argmax(1)]
        return predicted

    def names_of(self, indices: np.ndarray) -> np.ndarray:
        """The class names of class indices, as text."""
        names: np.ndarray = np.array(self.class_names, object)[indices]
        return names

    def predict_file(self, file: File, output: Path, score: bool = False) -> Summary:
        """Write a CSV file of each row's label and probabilities, batch by batch.

        Args:
            file: The table.
            output: CSV file to write.
            score: Whether to compare with the table's target column.

        Raises:
            ValueError: A column or value that cannot be used, or nothing to compare with.
        """
        names = list(self.column_names)
        if score:
            names.append(self.target)
        file.need(names)
        has_id = self.id_column in file.names
        if has_id:
            names.append(str(self.id_column))
        summary = Summary()
        with output.open("wb") as sink:
            for frame in file.frames(list(dict.fromkeys(names))):
                raw = self.columns.matrix(frame, file, summary.rows)
                probabilities, spread = self.predict_raw(raw)
                predictions = self.to_output(probabilities, spread)
                if has_id:
                    predictions.insert_column(0, frame.get_column(str(self.id_column)))
                predictions.write_csv(sink, include_header=summary.rows == 0)
                if score:
                    targets = self.read_targets(frame, file, summary.rows)
                    summary.add_score(probabilities, targets)
                summary.add_unseen(self.columns.count_unseen(raw))
                summary.rows += len(frame)
        if score and not summary.labelled:
            raise ValueError(
                f"{file.name}: {self.target!r} is empty in every row; leave out --score"
            )
        return summary

    def output_columns(self, file: File) -> list[str]:
        """The columns that `predict_file` writes for a table."""
        if self.id_column in file.names:
            return [str(self.id_column), *self.output_names]
        return self.output_names

    def read_rows(self, file: File) -> tuple[np.ndarray, np.ndarray | None]:
        """All rows of a file: the raw table (rows, columns) and the class indices (rows,).

        A class index is -1 where the class is missing; they are None if there is no class at all.
        """
        file.need(self.column_names)
        has_target = self.target in file.names
        names = list(self.column_names)
        if has_target:
            names.append(self.target)
        raw: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        rows = 0
        for frame in file.frames(names):
            raw.append(self.columns.matrix(frame, file, rows))
            if has_target:
                targets.append(self.read_targets(frame, file, rows))
            rows += len(frame)
        indices = np.concatenate(targets) if has_target else np.array([-1])
        return np.concatenate(raw), indices if (indices >= 0).any() else None

    def to_output(self, probabilities: np.ndarray, spread: np.ndarray) -> pl.DataFrame:
        """Labels, probabilities and spread as the columns `output_names`."""
        labels = pl.Series(self.class_names).gather(probabilities.argmax(1))
        numbers = np.concatenate([probabilities, spread], 1)
        columns = zip(self.output_names, [labels, *numbers.T], strict=True)
        return pl.DataFrame(dict(columns))

    def read_targets(self, frame: pl.DataFrame, file: File, first_row: int) -> np.ndarray:
        """The class indices in the target column of some rows of a file: (rows,); -1 if missing.

        Raises:
            ValueError: A class that the network was not trained on, with its line.
        """
        column = frame.get_column(self.target)
        reading = self.columns.reading
        indices = label_indices(column, self.class_names, self.label_type, reading)
        unknown = np.flatnonzero(indices == len(self.class_names))
        if len(unknown):
            row = int(unknown[0])
            where = file.locate(first_row + row, self.target)
            known = ", ".join(self.class_names[:SHOWN_CLASSES])
            raise ValueError(f"{where} is {shown(column[row])}; the network knows {known}")
        return indices


def log_losses(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Each row's log-loss: (rows, classes) probabilities and (rows,) class indices -> (rows,)."""
    of_target = probabilities[np.arange(len(targets)), targets]
    losses: np.ndarray = -np.log(of_target.astype(float) + SMALLEST_PROBABILITY)
    return losses


def load(path: str) -> Predictor:
    """Load a checkpoint of train.py or evaluate.py, ready to predict.

    Args:
        path: The file.

    Raises:
        ValueError: It is damaged, holds code, or another program wrote it; the message says which.
    """
    checkpoint = read_checkpoint(path)
    is_population = "members" in checkpoint.hyper_parameters
    check_classes(checkpoint.hyper_parameters, path)
    try:
        make_network = build_population if is_population else build_network
        network = make_network(checkpoint, path)
        predictor = Predictor(checkpoint.table, network, is_population)
        predictor.eval().requires_grad_(False)
        zeros = np.zeros((1, len(predictor.column_names)))
        probabilities, _ = predictor.predict_raw(zeros)
    except Exception as error:  # a class of torch or one's own fails in any way
        raise ValueError(f"{path} does not fit together: {torch_reason(error)}") from error
    if probabilities.shape != (1, len(predictor.class_names)):
        raise ValueError(
            f"{path} does not fit together: its network makes no logits of its classes"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError(f"{path} has weights that are not finite; train again")
    return predictor


def build_network(checkpoint: Checkpoint, path: str) -> nn.Module:
    """The network of a checkpoint of train.py, with its weights."""
    arguments = checkpoint.hyper_parameters
    config = arguments["network"]
    sizes = arguments["num_features"], arguments["num_classes"]
    prefix = "network."
    weights = {
        name.removeprefix(prefix): weight
        for name, weight in checkpoint.weights.items()
        if name.startswith(prefix)
    }
    check_network(config, *sizes, weights)
    network: nn.Module = build("network", config)(*sizes)
    network.load_state_dict(weights)
    return network


def build_population(checkpoint: Checkpoint, path: str) -> nn.Module:
    """The population of a checkpoint of evaluate.py, with its weights."""
    arguments = checkpoint.hyper_parameters
    check_population(arguments, checkpoint.weights)
    # Imports Lightning, which a network does not need.
    from model.population_networks import PopulationNetworks

    population = PopulationNetworks(
        arguments["num_features"],
        arguments["num_classes"],
        arguments["settings"],
        arguments["members"],
        arguments["stacks"],
    )
    population.load_state_dict(checkpoint.weights)
    return population
