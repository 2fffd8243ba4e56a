"""Decision regions: which class the network predicts where, in two dimensions."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from data.encoder import Encoder
from training.pictures.base import Picture
from training.pictures.figures import HEIGHT, WIDTH, new_figure, palette, shorten, text_width
from training.pictures.view import MAX_LEGEND, MAX_ROWS, View, evenly_spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_DOTS = 300
GRID = (48, 60)  # points, down and across, at which logits are computed
ZOOM = 4  # how much finer they are interpolated
MARKERS = "osD^vP*X"
LEGEND_LINE = 19  # pixels


@dataclass(frozen=True)
class Plane:
    """A plane through the mean of the training rows.

    Args:
        center: The mean (num_features,).
        axes: Two orthogonal unit vectors (2, num_features).
        labels: A label for each axis.
        origin: What each axis shows at the center (2,).
        unit: What each axis shows for a step of 1 (2,).
    """

    center: Tensor
    axes: Tensor
    labels: list[str]
    origin: Tensor
    unit: Tensor

    def project(self, features: Tensor) -> Tensor:
        """Features (rows, num_features) to coordinates in the plane (rows, 2)."""
        return (features - self.center) @ self.axes.T

    def lift(self, points: Tensor) -> Tensor:
        """Coordinates in the plane (rows, 2) to features (rows, num_features)."""
        return points @ self.axes + self.center

    def shown(self, points: Tensor) -> np.ndarray:
        """Coordinates in the plane (..., 2) to what the axes show."""
        return (self.origin + self.unit * points).numpy()


class Dots(NamedTuple):
    """Rows in a plane: coordinates (rows, 2), targets (rows,), and which are wrong (rows,)."""

    points: Tensor
    targets: Tensor
    is_wrong: Tensor


class RegionMap(NamedTuple):
    """The network's answers over a rectangle: its corners (2,), and images (height, width)."""

    low: Tensor
    high: Tensor
    classes: Tensor
    confidence: Tensor


class Regions(Picture):
    """Which class the network predicts where, in the plane of the two principal components and in
    that of the two best features.

    Both planes lie through the mean of the training rows. Colours are deeper where the network is
    surer. The dots are rows of all splits that may be shown, the wrong ones ringed. A table of one
    feature has no plane.
    """

    def draw(self, view: View) -> None:
        features, targets = (tensor.cpu() for tensor in view.splits["train"])
        if min(features.shape) < 2:
            return
        planes = {
            "components": component_plane(features),
            "features": feature_plane(features, targets, view.encoder, view.feature_names),
        }
        sample = view.sample(MAX_DOTS)
        is_wrong = view.predict(sample.features).argmax(1) != sample.targets
        total = sum(len(split_targets) for _, split_targets in view.splits.values())
        title = f"{len(is_wrong):,} of {total:,} rows, {int(is_wrong.sum())} wrong (ringed)"
        for name, plane in planes.items():
            dots = Dots(plane.project(sample.features), sample.targets, is_wrong)
            region_map = map_regions(view.predict, plane, dots.points)
            figure = draw_regions(plane, dots, region_map, view.class_names, title)
            view.show(f"Regions/{name}", figure)


def component_plane(features: Tensor) -> Plane:
    """The plane of the two principal components of (rows, num_features)."""
    center = features.mean(0)
    sample = features[evenly_spaced(len(features), MAX_ROWS)] - center
    _, singular_values, components = torch.linalg.svd(sample, full_matrices=False)
    # A component's sign is arbitrary: make its largest weight positive.
    axes = components[:2]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = axes * largest.sign()
    variance = singular_values.square()
    shares = variance / variance.sum()
    labels = [f"component {i + 1} ({shares[i]:.0%} of variance)" for i in (0, 1)]
    return Plane(center, axes, labels, origin=torch.zeros(2), unit=torch.ones(2))


def feature_plane(
    features: Tensor, targets: Tensor, encoder: Encoder, feature_names: list[str]
) -> Plane:
    """The plane of the two features that separate the classes best, in the table's units."""
    center = features.mean(0)
    indices = evenly_spaced(len(features), 10 * MAX_ROWS)
    best = f_values(features[indices], targets[indices]).topk(2).indices
    mean = encoder.mean.cpu()[best]
    scale = encoder.scale.cpu()[best].nan_to_num(posinf=1.0)  # infinite for a constant feature
    return Plane(
        center=center,
        axes=torch.eye(len(center))[best],
        labels=[feature_names[i] for i in best.tolist()],
        origin=(mean + scale * center[best]).float(),
        unit=scale.float(),
    )


def f_values(features: Tensor, targets: Tensor) -> Tensor:
    """How well each feature alone separates the classes, (num_features,).

    The F-value of a one-way analysis of variance.

    >>> features = torch.tensor([[0.0, 1.0], [1.0, 2.0], [10.0, 1.0], [11.0, 2.0]])
    >>> f_values(features, targets=torch.tensor([0, 0, 1, 1]))
    tensor([200.,   0.])
    """
    features = features.double()
    one_hot = nn.functional.one_hot(targets).double()
    counts = one_hot.sum(0).clip(1)
    means = one_hot.T @ features / counts[:, None]
    between = (counts[:, None] * (means - features.mean(0)).square()).sum(0)
    within = (features - means[targets]).square().sum(0)
    rows, num_classes = one_hot.shape
    f = (between / (num_classes - 1)) / (within / (rows - num_classes))
    return f.nan_to_num(0.0, posinf=torch.finfo(torch.double).max).float()


def map_regions(predict: Callable[[Tensor], Tensor], plane: Plane, points: Tensor) -> RegionMap:
    """Predicted class and confidence over the rectangle of the points (rows, 2) and a margin.

    Args:
        predict: Features (rows, num_features) to logits (rows, num_classes).
        plane: The plane of the points.
        points: Coordinates that the rectangle contains.
    """
    low = points.amin(0)
    high = points.amax(0)
    margin = 0.05 * (high - low).clamp(min=1e-3)
    low = low - margin
    high = high + margin
    height, width = GRID
    y = torch.linspace(float(low[1]), float(high[1]), height)
    x = torch.linspace(float(low[0]), float(high[0]), width)
    grid = torch.cartesian_prod(y, x).flip(1)
    logits = predict(plane.lift(grid)).reshape(1, height, width, -1).permute(0, 3, 1, 2)
    fine = interpolate(logits, scale_factor=ZOOM, mode="bilinear", align_corners=True)
    confidence, classes = fine.softmax(1)[0].max(0)
    return RegionMap(low, high, classes, confidence)


def draw_regions(
    plane: Plane, dots: Dots, region_map: RegionMap, class_names: list[str], title: str
) -> "Figure":
    """Coloured regions, the rows as dots, and a legend if classes are few."""
    has_legend = len(class_names) <= MAX_LEGEND
    entries = [*map(shorten, class_names), "wrong"] if has_legend else []
    widest = max(map(text_width, entries), default=0)
    columns = max(1, int((WIDTH - 20) // (widest + 40)))
    legend_height = LEGEND_LINE * math.ceil(len(entries) / columns)

    figure, axes = new_figure(title, left=62, bottom=48 + legend_height)
    colours = palette(len(class_names))
    draw_background(axes, plane, region_map, colours)
    handles = draw_dots(axes, plane, dots, colours, has_legend)
    x_label = shorten(plane.labels[0], WIDTH - 60)
    y_label = shorten(plane.labels[1], HEIGHT - 40 - legend_height)
    axes.set(xlabel=x_label, ylabel=y_label)
    if has_legend:
        figure.legend(
            handles,
            entries,
            loc="lower center",
            ncols=columns,
            frameon=False,
            columnspacing=1,
            handletextpad=0.2,
            borderaxespad=0.1,
            labelspacing=0.3,
        )
    return figure


def draw_background(axes: "Axes", plane: Plane, region_map: RegionMap, colours: np.ndarray) -> None:
    """The predicted class as colour, deeper where the network is surer."""
    depth = 0.15 + 0.45 * region_map.confidence.numpy()[..., None]
    image = 1 - (1 - colours[region_map.classes]) * depth
    left, bottom = plane.shown(region_map.low).tolist()
    right, top = plane.shown(region_map.high).tolist()
    extent = (left, right, bottom, top)
    axes.imshow(image, origin="lower", extent=extent, aspect="auto", interpolation="bilinear")
    axes.set(xlim=(left, right), ylim=(bottom, top))


def draw_dots(
    axes: "Axes", plane: Plane, dots: Dots, colours: np.ndarray, has_legend: bool
) -> list[Any]:
    """The rows, with a marker for each class (which repeat if classes are many), then rings.

    Returns:
        What a legend shows for each class, and for the wrong rows.
    """
    points = plane.shown(dots.points)
    markers = len(colours) if has_legend else len(MARKERS)
    handles = []
    for i in range(markers):
        is_marked = dots.targets % markers == i
        dot_colours = colours[dots.targets[is_marked]]
        x, y = points[is_marked].T
        marker = MARKERS[i % len(MARKERS)]
        dots_style: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.6, "s": 20}
        handles.append(axes.scatter(x, y, color=dot_colours, marker=marker, **dots_style))
    x, y = points[dots.is_wrong].T
    ring_style: dict[str, Any] = {"edgecolors": "black", "linewidths": 1.2, "s": 80}
    handles.append(axes.scatter(x, y, facecolors="none", **ring_style))
    return handles
