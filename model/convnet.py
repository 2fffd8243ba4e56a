"""A convolutional network for images laid flat."""

from collections.abc import Sequence
from itertools import pairwise
from math import isqrt, prod

from torch import nn

from model.hidden import make_activation
from model.networks import MLP


class ConvNet(nn.Sequential):
    """Convolutional network: stages of two 3 x 3 convolutions and max-pooling, then an MLP.

    A row is an image laid flat, channel by channel. Nothing is normalized over a batch, so each row
    is predicted by itself and evaluate.py can train a population of these networks.

    Shapes: standardized (rows, channels * height * width) -> logits (rows, num_classes).
    Source: the stages of VGG, Simonyan & Zisserman (2015).

    >>> import torch
    >>> ConvNet(64, 10)(torch.zeros(2, 64)).shape  # one channel of 8 x 8
    torch.Size([2, 10])

    Args:
        channels: Channels of each stage's convolutions.
        hidden: Width of each hidden layer after them.
        activation: Activation after each convolution and hidden layer: any of torch.nn by name.
        dropout: Share of hidden units dropped in each training step.
        shape: Channels, height and width of an image; null assumes square images of 1 or 3
            channels.

    Raises:
        ValueError: The shape does not match the number of features, or the image is too small for
            the stages; or what MLP refuses.
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
        if shape is None:
            shape = square_shape(num_features)
        check_shape(shape, num_features)
        depth, height, width = shape
        stages = len(channels)
        if any(count < 1 for count in channels):
            raise ValueError(f"channels is {list(channels)}; every stage must have 1 or more")
        if min(height, width) < 2**stages:
            raise ValueError(
                f"channels is {list(channels)}, {stages} stages that each halve the image, and it "
                f"has {height} x {width} pixels; give fewer stages"
            )
        last_channels = [depth, *channels][-1]
        last_pixels = (height >> stages) * (width >> stages)
        head = MLP(last_pixels * last_channels, num_classes, hidden, activation, dropout)

        self.append(nn.Unflatten(1, (depth, height, width)))
        for channels_in, channels_out in pairwise([depth, *channels]):
            for source in (channels_in, channels_out):
                self.append(nn.Conv2d(source, channels_out, kernel_size=3, padding=1))
                self.append(make_activation(activation))
            self.append(nn.MaxPool2d(2))
        self.append(nn.Flatten())
        self.extend(head)


def square_shape(num_features: int) -> tuple[int, int, int]:
    """Channels, height and width of a square image with this many numbers.

    No number is both a square and three times a square, so the answer is unique.

    >>> square_shape(784), square_shape(3072)
    ((1, 28, 28), (3, 32, 32))
    """
    for depth in (1, 3):
        side = isqrt(num_features // depth)
        if depth * side * side == num_features:
            return depth, side, side
    raise ValueError(
        f"rows of {num_features} features are not square images of 1 or 3 channels; give "
        "--network.shape [channels, height, width], or a network that takes no images, such as MLP"
    )


def check_shape(shape: Sequence[int], num_features: int) -> None:
    """Refuse a shape that is not an image of `num_features` numbers."""
    if len(shape) != 3 or min(shape) < 1 or prod(shape) != num_features:
        raise ValueError(
            f"shape is {list(shape)}, {prod(shape)} numbers, and the rows have {num_features} "
            "features; give [channels, height, width] of the table's images"
        )
