"""The confusion matrix: true classes against predicted ones."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

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
            _, logits, targets = zip(*outputs[split], strict=True)
            counts = count_predictions(torch.cat(logits), torch.cat(targets))
            epoch = trainer.current_epoch + 1
            if not self.recorded or not torch.equal(counts, self.recorded[-1].counts):
                self.recorded.append(EpochCounts(split, epoch, trainer.global_step, counts))
            if len(self.recorded) > MAX_EPOCHS_KEPT:
                del self.recorded[1:-1:2]

    def draw(self, view: View) -> None:
        number_drawn = MAX_EPOCHS_DRAWN if view.is_tested else 1
        for i in evenly_spaced(len(self.recorded), number_drawn):
            split, epoch, step, counts = self.recorded[i]
            title = f"{int(counts.sum()):,} {SPLIT_NAMES[split]} rows, epoch {epoch}"
            figure = draw_matrix(counts.cpu().numpy(), view.class_names, title)
            view.show(f"ConfusionMatrix/{SPLIT_NAMES[split]}", figure, step)
        self.recorded.clear()
        if view.is_tested:
            features, targets = view.splits["test"]
            counts = count_predictions(view.predict(features), targets.cpu())
            figure = draw_matrix(counts.numpy(), view.class_names, view.title)
            view.show("ConfusionMatrix/test", figure)


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
