"""The reliability diagram: accuracy against confidence."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from model.scores import BINS, calibration, calibration_error
from training.pictures.base import Picture
from training.pictures.figures import BLUE, HEIGHT, RED, new_figure
from training.pictures.view import SPLIT_NAMES, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ConfidenceBins(NamedTuple):
    """The bins of confidence that hold predictions, (bins,) each, and the calibration error."""

    starts: np.ndarray
    rows: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


class Reliability(Picture):
    """How often the network is right at each confidence, and how many rows that concerns."""

    def draw(self, view: View) -> None:
        bins = confidence_bins(*view.probabilities())
        title = f"{view.title}, calibration error {bins.error:.3f}"
        view.show(f"Reliability/{SPLIT_NAMES[view.split]}", draw_reliability(bins, title))


def confidence_bins(probabilities: np.ndarray, targets: np.ndarray) -> ConfidenceBins:
    """Group predictions by their confidence. Shapes: (rows, num_classes), (rows,).

    >>> bins = confidence_bins(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1]))
    >>> bins.rows, bins.confidence, bins.accuracy
    (array([2.]), array([0.9]), array([0.5]))
    """
    sums = calibration(torch.from_numpy(probabilities), torch.from_numpy(targets))
    is_filled = (sums[:, 0] > 0).numpy()
    rows, confidence, right = sums.numpy()[is_filled].T
    return ConfidenceBins(
        starts=np.arange(BINS)[is_filled] / BINS,
        rows=rows,
        confidence=confidence / rows,
        accuracy=right / rows,
        error=float(calibration_error(sums)),
    )


def draw_reliability(bins: ConfidenceBins, title: str) -> "Figure":
    """Accuracy of each bin above, its number of rows below."""
    bar_style: dict[str, Any] = {"width": 1 / BINS, "align": "edge", "edgecolor": "white"}
    figure, axes = new_figure(title, left=55, bottom=125)
    axes.bar(bins.starts, bins.accuracy, color=BLUE, **bar_style)
    axes.plot([0, 1], [0, 1], "--", color="black", linewidth=1)  # perfect calibration
    axes.plot(bins.confidence, bins.accuracy, "o", color=RED, markeredgecolor="black")
    axes.set(xlim=(0, 1), ylim=(0, 1.04), ylabel="share right", xticklabels=[])

    box = axes.get_position()
    below = figure.add_axes((box.x0, 45 / HEIGHT, box.width, 65 / HEIGHT))
    below.bar(bins.starts, bins.rows, color=BLUE, **bar_style)
    below.set(xlim=(0, 1), xlabel="confidence of the prediction", ylabel="rows")
    return figure
