"""What a run of train.py ends with: loss and accuracy of the kept epoch on every split."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evaluation.estimates import wilson_interval

TITLES = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class SplitMetrics:
    """Metrics of a split: number of rows, mean loss, share of right rows."""

    rows: int
    loss: float
    accuracy: float


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
    """

    splits: dict[str, SplitMetrics]
    num_parameters: int
    device: str
    epochs: int
    best_epoch: int
    fit_seconds: float
    seed: int
    versions: dict[str, str]

    @property
    def test_interval(self) -> tuple[float, float]:
        """The test accuracy's 95 % Wilson interval."""
        test = self.splits["test"]
        correct = round(test.accuracy * test.rows)  # accuracy is a rounded ratio of whole numbers
        return wilson_interval(correct, test.rows)

    def metrics(self) -> dict[str, float]:
        """Loss and accuracy of every split, by names such as test/loss."""
        metrics = {}
        for split, values in self.splits.items():
            metrics[f"{split}/loss"] = values.loss
            metrics[f"{split}/accuracy"] = values.accuracy
        return metrics

    def to_json(self) -> dict[str, Any]:
        """What result.json holds."""
        low, high = self.test_interval
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
        }

    def lines(self) -> Iterator[str]:
        """The table that train.py prints."""
        low, high = self.test_interval
        yield f"{'':12}{'rows':>6}{'loss':>9}{'accuracy':>10}"
        for split, values in self.splits.items():
            line = f"{TITLES[split]:12}{values.rows:6}{values.loss:9.4f}{values.accuracy:10.3f}"
            if split == "test":
                line += f"   95 % interval {low:.3f} to {high:.3f}"
            yield line
