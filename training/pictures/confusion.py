"""The confusion matrix: true classes against predicted ones."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from model.running_scores import RunningScores
from training.pictures.base import Picture
from training.pictures.figures import heat_map
from training.pictures.view import MAX_LEGEND, SPLIT_NAMES, View, evenly_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_EPOCHS_DRAWN = 6
MAX_EPOCHS_KEPT = 100  # bounds the memory: with 1,000 classes a matrix takes 8 MB


class EpochCounts(NamedTuple):
    """A confusion matrix, and when and of which split it was counted."""

    split: str
    epoch: int
    step: int
    counts: Tensor


class ConfusionMatrix(Picture):
    """True classes against predicted ones: of the test rows, and how the matrix changed in the fit.

    The fit's matrices are of the validation rows, or else of the training rows as they were trained
    on (the share of process 0). They are recorded every epoch; a few evenly spaced epochs in which
    a count changed are drawn later. The LightningModule keeps the epoch's loss, logits and targets
    by split in `outputs` (training/fast.py); without it, only the test rows are drawn.
    """

    def __init__(self, epochs: int = 0) -> None:
        super().__init__(epochs)
        self.recorded: list[EpochCounts] = []

    @property
    def watches(self) -> bool:
        return True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.record(trainer, pl_module, "val")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.enable_validation:
            self.record(trainer, pl_module, "train")
        super().on_train_epoch_end(trainer, pl_module)

    def record(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Count the epoch's predictions, and keep the counts if they changed."""
        outputs = getattr(pl_module, "outputs", {})
        if self.has_failed or split not in outputs or not trainer.is_global_zero:
            return
        with self.errors_as_warning():
            counts = epoch_counts(outputs[split])
            epoch = trainer.current_epoch + 1
            if not self.recorded or not torch.equal(counts, self.recorded[-1].counts.to(counts)):
                self.recorded.append(EpochCounts(split, epoch, trainer.global_step, counts))
            if len(self.recorded) > MAX_EPOCHS_KEPT:
                del self.recorded[1:-1:2]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[type(self).__name__] = to_state(self.recorded)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint.get(type(self).__name__)
        if state and trainer.state.fn == TrainerFn.FITTING:  # the test loads a checkpoint, too
            self.recorded = from_state(state)

    def draw(self, view: View) -> None:
        number_drawn = MAX_EPOCHS_DRAWN if view.is_tested else 1
        for i in evenly_spaced(len(self.recorded), number_drawn):
            split, epoch, step, counts = self.recorded[i]
            title = f"{int(counts.sum()):,} {SPLIT_NAMES[split]} rows, epoch {epoch}"
            figure = draw_matrix(counts.cpu().numpy(), view.class_names, title)
            # During the fit at the current step, to which the counts have not changed.
            view.show(
                f"ConfusionMatrix/{SPLIT_NAMES[split]}", figure, step if view.is_tested else None
            )
        self.recorded.clear()
        if view.is_tested:
            features, targets = view.splits["test"]
            counts = count_predictions(view.predict(features), targets.cpu())
            figure = draw_matrix(counts.numpy(), view.class_names, view.title)
            view.show("ConfusionMatrix/test", figure)


def to_state(recorded: list[EpochCounts]) -> dict[str, Any]:
    """Matrices as plain data: most counts of many classes are 0, and only the others are kept.

    >>> recorded = [EpochCounts("val", 1, 5, torch.tensor([[2, 0], [0, 0]]))]
    >>> from_state(to_state(recorded))[0].counts
    tensor([[2, 0],
            [0, 0]])
    """
    if not recorded:
        return {}
    flat = [counts.flatten().cpu() for *_, counts in recorded]
    cells = [counts.nonzero().flatten() for counts in flat]
    return {
        "epochs": [(split, epoch, step) for split, epoch, step, _ in recorded],
        "num_classes": len(recorded[0].counts),
        "sizes": [len(indices) for indices in cells],
        "cells": torch.cat(cells),
        "counts": torch.cat([counts[indices] for counts, indices in zip(flat, cells, strict=True)]),
    }


def from_state(state: dict[str, Any]) -> list[EpochCounts]:
    """The matrices of which `to_state` returned the state."""
    num_classes = state["num_classes"]
    recorded = []
    cells = state["cells"].split(state["sizes"])
    values = state["counts"].split(state["sizes"])
    for (split, epoch, step), indices, counts in zip(state["epochs"], cells, values, strict=True):
        flat = torch.zeros(num_classes * num_classes, dtype=torch.long)
        flat[indices] = counts
        matrix = flat.reshape(num_classes, num_classes)
        recorded.append(EpochCounts(split, epoch, step, matrix))
    return recorded


def epoch_counts(outputs: Any) -> Tensor:
    """The matrix of an epoch's batches, or of a stream's, which are sums already."""
    if isinstance(outputs, RunningScores):
        return outputs.sums["confusion"].long()
    _, logits, targets = zip(*outputs, strict=True)
    return count_predictions(torch.cat(logits), torch.cat(targets))


def count_predictions(logits: Tensor, targets: Tensor) -> Tensor:
    """Rows of each true class (down) predicted as each class (across), (num_classes, num_classes).

    >>> logits = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    >>> count_predictions(logits, targets=torch.tensor([0, 1, 0]))
    tensor([[1, 1],
            [0, 1]])
    """
    num_classes = logits.shape[1]
    pairs = targets * num_classes + logits.argmax(1)
    counts = torch.bincount(pairs, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes)


def draw_matrix(counts: np.ndarray, class_names: list[str], title: str) -> "Figure":
    """A confusion matrix, coloured by the share of the true class; numbers if classes are few."""
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    accuracy = counts.trace() / max(counts.sum(), 1)
    figure, axes = heat_map(shares, f"{title}, {accuracy:.3f} right", class_names, class_names)
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(class_names) <= MAX_LEGEND:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
    return figure
