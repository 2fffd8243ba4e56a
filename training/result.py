"""What a run of train.py ends with: loss and scores of the kept epoch on every split."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from data.tabular import TabularData
from evaluation.estimates import wilson_interval
from evaluation.report import TITLES
from model.classifier import Classifier
from model.scores import BEST_IS_HIGH, confusion, recalls, score
from training.fast import FastClassifier

SPLITS = {
    "train": "train",
    "held_out": "out of fold",  # training rows, by the member that held them out
    "val": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class SplitMetrics:
    """Metrics of a split: number of rows, training criterion, and the scores of model/scores.py.

    The AUROC is None where all rows are of one class. A result.json of version 0.1.0 has only loss
    and accuracy. `recall` holds each class's share of right rows, by its name. `groups` is the
    number of groups that the rows are of, where rows belong together.
    """

    rows: int
    loss: float | None
    accuracy: float
    balanced_accuracy: float | None = None
    macro_f1: float | None = None
    auroc: float | None = None
    log_loss: float | None = None
    brier: float | None = None
    calibration_error: float | None = None
    recall: dict[str, float] = field(default_factory=dict)
    groups: int | None = None

    @classmethod
    def from_test(
        cls,
        metrics: Mapping[str, Tensor],
        split: str,
        recalls: Tensor,
        datamodule: TabularData,
    ) -> Self:
        """The metrics that a test of a FastClassifier logged.

        Args:
            metrics: The Trainer's, with final/SPLIT/NAME; result.json calls it SPLIT/NAME.
            split: The split's name.
            recalls: Each class's recall, NaN without rows, (num_classes,).
            datamodule: Knows the number of rows and the classes' names.
        """
        values: dict[str, Any] = {}
        for name in ("loss", *TITLES):
            value = metrics[f"final/{split}/{name}"].item()
            values[name] = value if isfinite(value) else None
        recall = dict(zip(datamodule.class_names, recalls.tolist(), strict=True))
        recall = {name: value for name, value in recall.items() if isfinite(value)}
        rows = datamodule.indices[split]
        groups = None
        if datamodule.groups is not None:
            groups = datamodule.cutter(datamodule.targets).independent(rows)
        return cls(rows=len(rows), **values, recall=recall, groups=groups)

    @classmethod
    def from_probabilities(
        cls, probabilities: np.ndarray, targets: np.ndarray, class_names: list[str]
    ) -> Self:
        """The metrics of predictions (rows, num_classes) of classes (rows,); no loss."""
        predictions = torch.from_numpy(probabilities), torch.from_numpy(targets)
        values: dict[str, Any] = {name: score(name, *predictions).item() for name in TITLES}
        recall = dict(zip(class_names, recalls(confusion(*predictions)).tolist(), strict=True))
        return cls(rows=len(targets), loss=None, **values, recall=recall)

    def named(self) -> dict[str, float]:
        """Loss and scores by name, each class's recall as recall/CLASS; none that is undefined."""
        values = {name: getattr(self, name) for name in ("loss", *TITLES)}
        values |= {f"recall/{name}": value for name, value in self.recall.items()}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class TrainResult:
    """The result of a run.

    Args:
        splits: Metrics of the kept epoch by split: train, val if there are validation rows, test.
        num_parameters: Number of trained parameters.
        device: What the run computed on.
        epochs: Epochs of the fit.
        best_epoch: The kept epoch, counted from 1.
        fit_seconds: Seconds of the fit.
        seed: The run's seed.
        versions: Versions of Python and the libraries.
        warnings: What makes the test too good.
        checkpoint: The kept epoch's checkpoint, in the run's folder.
        classifier: The Classifier with the weights of the kept epoch, in evaluation mode.
    """

    splits: dict[str, SplitMetrics]
    num_parameters: int
    device: str
    epochs: int
    best_epoch: int
    fit_seconds: float
    seed: int
    versions: dict[str, str]
    warnings: list[str] = field(default_factory=list)
    checkpoint: Path | None = None
    classifier: Classifier | None = field(default=None, repr=False)

    @property
    def run_dir(self) -> Path | None:
        """The run's folder."""
        return self.checkpoint and self.checkpoint.parents[1]

    @property
    def test_interval(self) -> tuple[float, float]:
        """The test accuracy's 95 % Wilson interval, of groups where rows belong together.

        Rows of a group are right or wrong together: at worst they say no more than one row.
        """
        test = self.splits["test"]
        if test.groups is not None:
            return wilson_interval(test.accuracy * test.groups, test.groups)
        correct = round(test.accuracy * test.rows)  # accuracy is a rounded ratio of whole numbers
        return wilson_interval(correct, test.rows)

    def metrics(self) -> dict[str, float]:
        """Loss and scores of every split, by names such as test/loss."""
        return {
            f"{split}/{name}": value
            for split, values in self.splits.items()
            for name, value in values.named().items()
        }

    def to_json(self) -> dict[str, Any]:
        """What result.json holds."""
        low, high = self.test_interval
        groups = {split: values.groups for split, values in self.splits.items() if values.groups}
        dependent = {"groups": groups, "warnings": self.warnings}
        content = {name: value for name, value in dependent.items() if value}
        return self.metrics() | {
            "test/accuracy/low": low,
            "test/accuracy/high": high,
            "rows": {split: values.rows for split, values in self.splits.items()},
            "num_parameters": self.num_parameters,
            "device": self.device,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "fit_seconds": self.fit_seconds,
            "seed": self.seed,
            "versions": self.versions,
            **content,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The result that a result.json holds."""
        splits = {}
        for split, rows in content["rows"].items():
            prefix = f"{split}/recall/"
            recall = {
                key.removeprefix(prefix): value
                for key, value in content.items()
                if key.startswith(prefix)
            }
            values: dict[str, Any] = {
                name: content.get(f"{split}/{name}") for name in ("loss", *TITLES)
            }
            groups = content.get("groups", {}).get(split)
            splits[split] = SplitMetrics(rows=rows, **values, recall=recall, groups=groups)
        names = [name.name for name in fields(cls) if name.name in content]
        return cls(splits=splits, **{name: content[name] for name in names})

    def lines(self) -> Iterator[str]:
        """The table that train.py prints: a column for each split, the answer first."""
        low, high = self.test_interval
        names = [split for split in SPLITS if split in self.splits]
        splits = [self.splits[split] for split in names]
        yield f"{'':20}" + "".join(f"{SPLITS[split]:>13}" for split in names)
        yield f"{'rows':20}" + "".join(f"{values.rows:13,}" for values in splits)
        for name, title in (TITLES | {"loss": "loss"}).items():
            numbers = [getattr(values, name) for values in splits]
            if all(number is None for number in numbers):
                continue
            digits = 3 if name in BEST_IS_HIGH else 4
            line = f"{title:20}" + "".join(cell(number, digits) for number in numbers)
            if name == "accuracy":
                line += f"   95 % interval {low:.3f} to {high:.3f}"
                if splits[-1].groups is not None:
                    line += f", of {splits[-1].groups} groups"
            if name == "loss":
                line += "   what training minimizes"
            yield line
            if name == "accuracy" and all(values.recall for values in splits):
                yield self.lowest_recall(splits)

    def lowest_recall(self, splits: list[SplitMetrics]) -> str:
        """The line of the classes that are right least often, and which it is in the test."""
        lowest = [min(values.recall.values()) for values in splits]
        line = f"{'lowest recall':20}" + "".join(cell(recall, digits=3) for recall in lowest)
        test = self.splits["test"].recall
        if lowest[-1] < 1:
            line += f"   {min(test, key=test.__getitem__)}"
        return line


def cell(number: float | None, digits: int) -> str:
    """A number of the table, 13 wide; a dash for one that is not defined."""
    return f"{'-':>13}" if number is None else f"{number:13.{digits}f}"


def evaluate_splits(
    trainer: Trainer, classifier: FastClassifier, datamodule: TabularData, checkpoint: Path
) -> dict[str, SplitMetrics]:
    """Load the kept epoch and evaluate every split once."""
    trainer.test(classifier, datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True)
    return {
        split: SplitMetrics.from_test(trainer.callback_metrics, split, recall, datamodule)
        for split, recall in classifier.recalls.items()
    }
