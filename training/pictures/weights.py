"""Weights as images: a layer's matrix, and a convolution's kernels."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torchvision.utils import make_grid

from training.pictures.base import Picture
from training.pictures.figures import heat_map
from training.pictures.view import MAX_TAGS, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_KERNELS = 16  # of outputs, and of inputs
PADDING_COLOUR = "#999999"


class Weights(Picture):
    """Each layer's weights as a heat map, a convolution's kernels as small images; 0 is white."""

    def draw(self, view: View) -> None:
        matrices = [
            (name, weight) for name, weight in view.network.named_parameters() if weight.ndim > 1
        ]
        for name, parameter in matrices[:MAX_TAGS]:
            weight = parameter.detach().float().cpu()
            if weight.ndim > 2:
                figure = draw_kernels(weight, name)
            else:
                figure = draw_layer(weight, name, view.feature_names, view.class_names)
            view.show(f"Weights/{name}", figure)


def draw_layer(
    weight: Tensor, name: str, feature_names: Sequence[str], class_names: Sequence[str]
) -> "Figure":
    """A linear layer's weights (outputs, inputs), the longer side across.

    Inputs and outputs that are features or classes, by their number, have their names.
    """
    outputs, inputs = weight.shape
    title = f"{name}, {outputs:,} outputs x {inputs:,} inputs"
    input_names = feature_names if len(feature_names) == inputs else []
    output_names = class_names if len(class_names) == outputs else []
    limit = float(weight.abs().max())
    if outputs > inputs:
        figure, axes = heat_map(weight.T.numpy(), title, input_names, output_names, limit)
        axes.set(ylabel="input", xlabel="output")
    else:
        figure, axes = heat_map(weight.numpy(), title, output_names, input_names, limit)
        axes.set(ylabel="output", xlabel="input")
    return figure


def kernel_grid(weight: Tensor) -> Tensor:
    """A convolution's kernels (outputs, inputs, ..., height, width) as an image (rows, columns).

    A row of kernels for each output. A single input's kernels fill rows of 8. Lines of NaN between.

    >>> import torch
    >>> kernel_grid(torch.zeros(2, 3, 5, 5)).shape  # 2 rows of 3 kernels of 5 x 5, and lines of 1
    torch.Size([13, 19])
    """
    inputs, width = weight.shape[1], weight.shape[-1]
    per_row = inputs if inputs > 1 else MAX_KERNELS // 2
    height = weight[0, 0].numel() // width
    kernels = weight.reshape(-1, 1, height, width)
    image: Tensor = make_grid(kernels, per_row, padding=1, pad_value=math.nan)
    return image[0]


def draw_kernels(weight: Tensor, name: str) -> "Figure":
    """A convolution's first kernels, (outputs, inputs, ..., height, width)."""
    outputs, inputs = weight.shape[:2]
    has_inputs = inputs > 1
    shown = weight[:MAX_KERNELS, :MAX_KERNELS]
    if not has_inputs:
        shown = weight[: 4 * MAX_KERNELS]
    title = (
        f"{name}, {shown.shape[0]} of {outputs:,} outputs, {shown.shape[1]} of {inputs:,} inputs"
    )
    grid = kernel_grid(shown).numpy()
    figure, axes = heat_map(grid, title, [], [], limit=float(shown.abs().max()))
    axes.set(xticks=[], yticks=[], aspect="equal", facecolor=PADDING_COLOUR)
    if has_inputs:
        axes.set(xlabel="input", ylabel="output")
    else:
        axes.set(xlabel="output")
    return figure
