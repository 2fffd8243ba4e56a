"""A convolutional network for images laid flat."""

from collections.abc import Sequence
from itertools import pairwise
from math import isqrt, prod

from torch import nn

from model.networks import MLP


class ConvNet(nn.Sequential):
    """Convolutional network: stages of two 3 x 3 convolutions that end in halving the image, then an MLP.

    Rows are images laid flat, channel by channel. Nothing is normalized over a batch: every row stands alone, so
    evaluate.py takes it too.

    Shapes: (rows, channels * height * width) standardized -> (rows, num_classes) logits.
    Source: the stages of VGG, Simonyan & Zisserman (2015).

    >>> import torch
    >>> ConvNet(64, 10)(torch.zeros(2, 64)).shape  # one channel of 8 x 8
    torch.Size([2, 10])

    Args:
        channels: Channels of each stage's convolutions.
        hidden: Width of each hidden layer after them.
        activation: Activation after each convolution and hidden layer: any of torch.nn by name.
        dropout: Share of hidden units that each training step leaves out.
        shape: Channels, height and width of an image; null takes the rows for square images of 1 or 3 channels.

    Raises:
        ValueError: An image of another size than the rows', or too small for the stages; or what MLP refuses.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        channels: Sequence[int] = (32, 64),
        hidden: Sequence[int] = (128,),
        activation: str = "SiLU",
        dropout: float = 0.0,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        depth, height, width = (
            image_shape(num_features) if shape is None else checked(shape, num_features)
        )
        if any(count < 1 for count in channels):
            raise ValueError(f"channels is {list(channels)}; every stage must have 1 or more")
        if min(height, width) < 2 ** len(channels):
            raise ValueError(
                f"channels is {list(channels)}, {len(channels)} stages that each halve the image, and it has "
                f"{height} x {width} pixels; give fewer stages"
            )
        size = (height >> len(channels)) * (width >> len(channels))
        head = MLP(size * [depth, *channels][-1], num_classes, hidden, activation, dropout)
        self.append(nn.Unflatten(1, (depth, height, width)))
        for before, after in pairwise([depth, *channels]):
            for source in (before, after):
                self.append(nn.Conv2d(source, after, kernel_size=3, padding=1))
                self.append(getattr(nn, activation)())
            self.append(nn.MaxPool2d(2))
        self.append(nn.Flatten())
        self.extend(head)


def image_shape(num_features: int) -> tuple[int, int, int]:
    """Channels, height and width of square images of so many numbers; no number is both a square and three of one.

    >>> image_shape(784), image_shape(3072)
    ((1, 28, 28), (3, 32, 32))
    """
    for depth in (1, 3):
        side = isqrt(num_features // depth)
        if depth * side * side == num_features:
            return depth, side, side
    raise ValueError(
        f"rows of {num_features} features are no square images of 1 or 3 channels; "
        "give --network.shape [channels, height, width], or a network that takes no images, such as MLP"
    )


def checked(shape: Sequence[int], num_features: int) -> Sequence[int]:
    """The shape, where it is an image of so many numbers."""
    if len(shape) != 3 or min(shape) < 1 or prod(shape) != num_features:
        raise ValueError(
            f"shape is {list(shape)}, {prod(shape)} numbers, and the rows have {num_features} features; "
            "give [channels, height, width] of the table's images"
        )
    return shape
