"""Random changes of training images: mirror, rotate, scale, shift."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

GROUP_ROWS = 8
MAX_GROUPS = 64


class Augmentation:
    """Mirror, rotate, scale and shift standardized images at random, with black around them.

    torchvision draws a single transform for all images of a call. So a batch is cut into random
    groups of eight rows, or larger ones so that there are at most 64, each with its own transform.

    Shapes: (rows, channels * height * width) -> the same.

    >>> image = torch.tensor([[0.0, 1.0]])
    >>> Augmentation((1, 1, 2), black=torch.zeros(1, 2), flip=True)(image).sum()
    tensor(1.)

    Args:
        shape: Channels, height and width of an image.
        black: The standardized features (1, channels * height * width) of a black image.
        rotation: Largest rotation, in degrees.
        flip: Whether half of the groups are mirrored, left to right.
        scale: Largest change of size, as a share of the size.
        shift: Largest shift, as a share of the height and width.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        black: Tensor,
        rotation: float = 0.0,
        flip: bool = False,
        scale: float = 0.0,
        shift: float = 0.0,
    ) -> None:
        self.shape = shape
        self.black = black
        steps: list[Any] = []
        if flip:
            steps.append(v2.RandomHorizontalFlip())
        if rotation or scale or shift:
            # Without `fill` pixels from outside are 0, which __call__ turns into black; with it
            # the transform takes half as long again.
            affine = v2.RandomAffine(
                degrees=rotation,
                translate=(shift, shift),
                scale=(1 - scale, 1 + scale),
                interpolation=InterpolationMode.BILINEAR,
                fill=None,
            )
            steps.append(affine)
        self.transform = v2.Compose(steps)

    def __call__(self, features: Tensor) -> Tensor:
        self.black = self.black.to(features.device)
        images = (features - self.black).reshape(-1, *self.shape)
        changed = torch.empty_like(images)
        num_groups = min(-(-len(images) // GROUP_ROWS), MAX_GROUPS)
        order = torch.randperm(len(images)).to(features.device)
        for indices in order.tensor_split(num_groups):
            changed[indices] = self.transform(images[indices])
        return (changed.flatten(1) + self.black).to(features.dtype)
