"""Scores of predicted probabilities: for a report, and for every epoch of every network at once.

All functions take probabilities (..., rows, num_classes) and class indices (rows,) or (..., rows),
and return one value for each leading dimension, (...). They keep the dtype of the probabilities;
`probabilities` makes float64 ones, in which a sure mistake has a finite log-loss of 36.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from cli.errors import unknown

Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "auroc",
    "log_loss",
    "brier",
    "calibration_error",
]
METRICS: tuple[str, ...] = get_args(Metric)
BEST_IS_HIGH = frozenset({"accuracy", "balanced_accuracy", "macro_f1", "auroc"})
BINS = 15  # of the calibration error, as in Guo et al. (2017)


def probabilities(logits: Tensor, class_dim: int = -1) -> Tensor:
    """Probabilities in float64, on a Mac's GPU in float32; the classes become the last dimension.

    >>> probabilities(torch.zeros(2, 3, 5), class_dim=1).shape  # (members, num_classes, rows)
    torch.Size([2, 5, 3])
    """
    dtype = torch.float32 if logits.device.type == "mps" else torch.float64
    # Over a last dimension of few classes, softmax is slow where they are first.
    return logits.to(dtype).softmax(class_dim).movedim(class_dim, -1).contiguous()


def accuracy(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Share of rows whose most probable class is theirs.

    >>> accuracy(torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 1]))
    tensor(0.5000)
    """
    return (probabilities.argmax(-1) == targets).to(probabilities).mean(-1)


def log_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean negative logarithm of the true class's probability.

    As in scikit-learn, no probability is below the dtype's epsilon.

    >>> log_loss(torch.tensor([[0.5, 0.5], [0.0, 1.0]]), torch.tensor([0, 1]))  # log(2) / 2
    tensor(0.3466)
    """
    index = targets.expand(probabilities.shape[:-1]).unsqueeze(-1)
    of_target = probabilities.gather(-1, index).squeeze(-1)
    smallest = torch.finfo(probabilities.dtype).eps
    return -of_target.clamp(smallest, 1).log().mean(-1)


def brier(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Brier score: the squared error summed over the classes, from 0 to 2, mean over the rows.

    Source: Brier, Verification of Forecasts Expressed in Terms of Probability (1950).

    >>> brier(torch.tensor([[0.5, 0.5], [0.0, 1.0]]), torch.tensor([0, 1]))
    tensor(0.2500)
    """
    errors = probabilities - one_hot(targets, probabilities.shape[-1]).to(probabilities)
    return errors.square().sum(-1).mean(-1)


def auroc(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Area under the ROC curve of each class against the rest, mean over the classes.

    It is the probability that a row of the class is ranked above one of another class; a tie
    counts half. Classes without a row here are left out; NaN if all rows are of one class. Of two
    classes only the second is ranked, as in scikit-learn.
    Source: Fawcett, An Introduction to ROC Analysis (2006), section 8.

    >>> auroc(torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]]), torch.tensor([0, 1, 0]))
    tensor(0.7500)
    """
    is_class = one_hot(targets, probabilities.shape[-1]).mT
    by_class = probabilities.mT.contiguous()  # (..., num_classes, rows)
    if probabilities.shape[-1] == 2:
        is_class = is_class[..., 1:, :]
        by_class = by_class[..., 1:, :].contiguous()
    ordered = by_class.sort(-1).values
    # Ranks from 1; equal values share the mean of theirs. The rank sum is Mann and Whitney's.
    below = torch.searchsorted(ordered, by_class)
    not_above = torch.searchsorted(ordered, by_class, right=True)
    ranks = (below + not_above + 1).to(probabilities) / 2
    inside = is_class.sum(-1).to(probabilities)
    outside = probabilities.shape[-2] - inside
    pairs_won = (ranks * is_class).sum(-1) - inside * (inside + 1) / 2
    return (pairs_won / (inside * outside)).nanmean(-1)


def confusion(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Rows of each true class (down) predicted as each class (across).

    Shapes: (..., rows, num_classes), (..., rows) -> counts (..., num_classes, num_classes).
    """
    num_classes = probabilities.shape[-1]
    predicted = probabilities.argmax(-1)
    cells = targets * num_classes + predicted
    counts = probabilities.new_zeros(*predicted.shape[:-1], num_classes * num_classes)
    counts.scatter_add_(-1, cells, torch.ones_like(cells).to(counts))
    return counts.reshape(*predicted.shape[:-1], num_classes, num_classes)


def recalls(counts: Tensor) -> Tensor:
    """The share of each class's rows that are predicted as it; NaN for a class without rows.

    Shapes: counts (..., num_classes, num_classes) -> (..., num_classes).

    >>> recalls(torch.tensor([[3.0, 1.0], [0.0, 2.0]]))
    tensor([0.7500, 1.0000])
    """
    return counts.diagonal(dim1=-2, dim2=-1) / counts.sum(-1)


def balanced_accuracy(counts: Tensor) -> Tensor:
    """Mean recall of the classes; as in scikit-learn, those without a row are left out.

    Shapes: counts (..., num_classes, num_classes) -> (...).
    """
    return recalls(counts).nanmean(-1)


def macro_f1(counts: Tensor) -> Tensor:
    """Mean over the classes of F1, the harmonic mean of recall and precision.

    As in scikit-learn, classes that are neither there nor predicted are left out.

    Shapes: counts (..., num_classes, num_classes) -> (...).
    """
    right = counts.diagonal(dim1=-2, dim2=-1)
    return (2 * right / (counts.sum(-1) + counts.sum(-2))).nanmean(-1)


def calibration(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Predictions by confidence: each bin's count, sum of confidences and number correct.

    Shapes: (..., rows, num_classes), (..., rows) -> (..., BINS, 3).
    """
    confidence, predicted = probabilities.max(-1)
    correct = (predicted == targets).to(confidence)
    bins = (confidence * BINS).ceil() - 1  # each bin includes its upper edge
    bins = bins.clamp(0, BINS - 1).long()
    values = torch.stack([torch.ones_like(confidence), confidence, correct], -1)
    sums = confidence.new_zeros(*confidence.shape[:-1], BINS, 3)
    return sums.scatter_add_(-2, bins.unsqueeze(-1).expand_as(values), values)


def calibration_error(sums: Tensor) -> Tensor:
    """Expected calibration error: the mean distance of confidence and accuracy over the bins.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), eq. 3.

    Shapes: (..., BINS, 3), as `calibration` returns it -> (...).
    """
    distances = (sums[..., 1] - sums[..., 2]).abs()
    return distances.sum(-1) / sums[..., 0].sum(-1)


Score = Callable[[Tensor, Tensor], Tensor]
SCORES: dict[str, Score] = {
    "accuracy": accuracy,
    "log_loss": log_loss,
    "brier": brier,
    "auroc": auroc,
}
# Scores that few rows do not determine: counts that can be added up, and the score of the sum.
COUNTED: dict[str, tuple[Score, Callable[[Tensor], Tensor]]] = {
    "balanced_accuracy": (confusion, balanced_accuracy),
    "macro_f1": (confusion, macro_f1),
    "calibration_error": (calibration, calibration_error),
}


def score(metric: str, probabilities: Tensor, targets: Tensor) -> Tensor:
    """A score by its name.

    Shapes: (..., rows, num_classes), (rows,) or (..., rows) -> (...).

    >>> score("balanced_accuracy", torch.eye(3), torch.tensor([0, 1, 1]))
    tensor(0.7500)
    """
    if metric in SCORES:
        return SCORES[metric](probabilities, targets)
    count, finish = COUNTED[metric]
    return finish(count(probabilities, targets))


def watched(metric: str, has_validation: bool) -> str:
    """The curve that decides about epochs.

    Without validation rows it is that of the training rows, and log-loss leaves it to the training
    criterion, which is computed anyway.

    >>> watched("auroc", has_validation=True), watched("log_loss", has_validation=False)
    ('val/auroc', 'train/loss')
    """
    if has_validation:
        return f"val/{metric}"
    if metric == "log_loss":
        return "train/loss"
    return f"train/{metric}"


def best_mode(metric: str) -> str:
    """Whether the best value is the "max" or the "min", as Lightning's callbacks call it.

    >>> best_mode("accuracy"), best_mode("val/log_loss")
    ('max', 'min')
    """
    return "max" if metric.rpartition("/")[2] in BEST_IS_HIGH else "min"


def check_metric(metric: str, targets: Tensor, rows: str = "the rows that it goes by") -> None:
    """Refuse a metric that is not known, or not defined for the rows that it is to choose by.

    Args:
        metric: The metric's name.
        targets: Class indices of the rows.
        rows: What the rows are called in the message.

    Raises:
        ValueError: The metric cannot be used.
    """
    if metric not in METRICS:
        raise ValueError(unknown("metric", metric, METRICS))
    if metric == "auroc" and len(targets.unique()) < 2:
        raise ValueError(
            f"metric is auroc, and {rows} are all of one class, which leaves it undefined; "
            "give another metric or other splits"
        )
