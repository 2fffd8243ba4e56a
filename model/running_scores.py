"""The scores of rows that come in batches, in memory that does not grow with their number."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from model.scores import (
    BINS,
    COUNTED,
    brier,
    calibration,
    confusion,
    log_loss,
    probabilities,
)

# The AUROC counts rows by the log-odds of each class, in bins from -LARGEST_ODDS to LARGEST_ODDS:
# 2**16 of up to 16 classes, fewer of more. Rows in one bin count as tied, which moves the AUROC of
# a trained network by less than 1e-5, of few bins 1e-4.
LARGEST_ODDS = 20.0
FEWEST_BINS = 2**12
MOST_BINS = 2**16
ALL_BINS = 2**20

COUNTED_LOGITS = 2**13  # that are counted together: small batches by themselves take time


class RunningScores:
    """Sums from which the scores of all rows follow: exactly, but for the AUROC of a histogram.

    It takes the place of a list of (loss, logits, targets): the loss of a batch, logits (rows,
    num_classes) and class indices (rows,).

    >>> from model.scores import METRICS
    >>> scores = RunningScores(2, METRICS)
    >>> scores.append((torch.tensor(0.5), torch.eye(2), torch.tensor([0, 1])))
    >>> scores.append((torch.tensor(0.8), torch.zeros(1, 2), torch.tensor([1])))
    >>> {name: round(value, 2) for name, value in scores.values(["loss", "accuracy"]).items()}
    {'loss': 0.6, 'accuracy': 0.67}

    Args:
        num_classes: Number of classes.
        metrics: The scores of METRICS that will be asked for, beside loss and accuracy.
    """

    def __init__(self, num_classes: int, metrics: Iterable[str] = ()) -> None:
        self.num_classes = num_classes
        self.metrics = set(metrics)
        shapes = {"loss": (), "rows": (), "log_loss": (), "brier": (), "calibration": (BINS, 3)}
        shapes["confusion"] = (num_classes, num_classes)
        if "auroc" in self.metrics:
            shapes["auroc"] = (2, num_classes, num_bins(num_classes))
        self.totals = {name: torch.zeros(shape).double() for name, shape in shapes.items()}
        self.waiting: list[tuple[Tensor, Tensor]] = []  # logits and targets, not yet counted
        self.waiting_logits = 0

    @property
    def sums(self) -> dict[str, Tensor]:
        """The sums of all rows so far."""
        self.count_waiting()
        return self.totals

    @sums.setter
    def sums(self, sums: dict[str, Tensor]) -> None:
        self.totals = sums
        self.waiting.clear()
        self.waiting_logits = 0

    def append(self, outputs: tuple[Tensor, Tensor, Tensor]) -> None:
        """Add a batch; its rows are counted together with those of some others."""
        loss, logits, targets = outputs
        if logits.device.type == "mps":  # which has no float64
            loss, logits, targets = loss.cpu(), logits.cpu(), targets.cpu()
        rows = len(targets)
        if not rows:
            return
        self.add({"loss": loss.double() * rows, "rows": torch.tensor(rows)})
        self.waiting.append((logits, targets))
        self.waiting_logits += logits.numel()
        if self.waiting_logits >= COUNTED_LOGITS:
            self.count_waiting()
        if self.metrics - {"accuracy"}:
            self.add_scores(logits, targets)

    def count_waiting(self) -> None:
        """Count the predicted classes of the rows that wait: whole numbers, in whatever order."""
        if self.waiting:
            logits, targets = (torch.cat(tensors) for tensors in zip(*self.waiting, strict=True))
            self.waiting.clear()
            self.waiting_logits = 0
            # 16 bits cannot count to 300.
            self.add({"confusion": confusion(logits.float(), targets)})

    def add_scores(self, logits: Tensor, targets: Tensor) -> None:
        """Add what other scores than the accuracy are made of."""
        rows = len(targets)
        predicted = probabilities(logits)
        self.add(
            {
                "log_loss": log_loss(predicted, targets) * rows,
                "brier": brier(predicted, targets) * rows,
                "calibration": calibration(predicted, targets),
            }
        )
        if "auroc" in self.metrics:
            self.add({"auroc": odds_counts(predicted, targets)})

    def add(self, values: dict[str, Tensor]) -> None:
        """Add to the sums of these names, on the device of the values."""
        for name, value in values.items():
            self.totals[name] = self.totals[name].to(value.device) + value

    def values(self, names: Iterable[str]) -> dict[str, float]:
        """Scores by name: loss, and those of METRICS."""
        sums = self.sums
        values = {}
        for name in names:
            if name == "accuracy":
                score = sums["confusion"].trace() / sums["rows"]
            elif name == "auroc":
                score = counted_auroc(sums["auroc"])
            elif name in COUNTED:
                count, finish = COUNTED[name]
                score = finish(sums[count.__name__])
            else:
                score = sums[name] / sums["rows"]
            values[name] = score.item()
        return values


def num_bins(num_classes: int) -> int:
    """How many bins of log-odds each class has."""
    return min(MOST_BINS, max(FEWEST_BINS, ALL_BINS // num_classes))


def odds_counts(predicted: Tensor, targets: Tensor) -> Tensor:
    """Rows outside and inside of each class by its log-odds: (2, num_classes, bins)."""
    num_classes = predicted.shape[1]
    size = num_bins(num_classes)
    odds = predicted.logit(eps=1e-12).clamp(-LARGEST_ODDS, LARGEST_ODDS)
    bins = ((odds + LARGEST_ODDS) * ((size - 1) / (2 * LARGEST_ODDS))).round().long()
    classes = torch.arange(num_classes, device=targets.device)
    is_class = one_hot(targets, num_classes)
    cells = (is_class * num_classes + classes) * size + bins
    counts = torch.bincount(cells.flatten(), minlength=2 * num_classes * size)
    return counts.reshape(2, num_classes, size)


def counted_auroc(counts: Tensor) -> Tensor:
    """The AUROC, as `model.scores.auroc` has it, of counts that `odds_counts` returns."""
    if counts.shape[1] == 2:
        counts = counts[:, 1:]
    outside, inside = counts
    below = outside.cumsum(-1) - outside
    won = (inside * (below + outside / 2)).sum(-1)
    shares: Tensor = won / (inside.sum(-1) * outside.sum(-1))
    return shares.nanmean(-1)
