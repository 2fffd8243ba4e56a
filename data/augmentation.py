"""Random changes of training images: mirror, rotate, scale, shift."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


class Augmentation:
    """Mirror, rotate, scale and shift standardized images at random, with black around them.

    Each image has a transform of its own, drawn as torchvision's RandomHorizontalFlip and
    RandomAffine do, which draw one for all images of a call.

    Shapes: (rows, channels * height * width) -> the same.

    >>> image = torch.tensor([[0.0, 1.0]])
    >>> Augmentation((1, 1, 2), black=torch.zeros(1, 2), flip=True)(image).sum()
    tensor(1.)

    Args:
        shape: Channels, height and width of an image.
        black: The standardized features (1, channels * height * width) of a black image.
        rotation: Largest rotation, in degrees.
        flip: Whether half of the images are mirrored, left to right.
        scale: Largest change of size, as a share of the size.
        shift: Largest shift, as a share of the height and width, in whole pixels.
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
        self.rotation = rotation
        self.flip = flip
        self.scale = scale
        self.shift = shift

    def __call__(self, features: Tensor) -> Tensor:
        # Drawn on the CPU: the same on every device. In float32, also where training has 16 bits.
        self.black = self.black.to(features.device)
        images = (features - self.black).float().reshape(-1, *self.shape)
        if self.flip:
            mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
            images = torch.where(mirrored.to(images.device), images.flip(3), images)
        if self.rotation or self.scale or self.shift:
            grid = affine_grid(self.matrices(len(images)), list(images.shape), align_corners=False)
            images = grid_sample(images, grid.to(images.device), align_corners=False)
        return (images.flatten(1) + self.black).to(features.dtype)

    def matrices(self, count: int) -> Tensor:
        """Random maps from an output's coordinates to the input's, (count, 2, 3).

        Both go from -1 to 1 over the image, as `affine_grid` has them.
        """
        _, height, width = self.shape
        size = torch.tensor([width, height])
        angle = torch.empty(count).uniform_(-self.rotation, self.rotation).deg2rad()
        scale = torch.empty(count).uniform_(1 - self.scale, 1 + self.scale)
        shift = (torch.empty(count, 2).uniform_(-self.shift, self.shift) * size).round()
        cos = angle.cos() / scale
        sin = angle.sin() / scale
        # In pixels from the center: back by the shift, the rotation and the scale.
        pixels = torch.stack([cos, sin, -sin, cos], 1).reshape(count, 2, 2)
        offset = -pixels @ shift.unsqueeze(2)
        return torch.cat([pixels * size / size.unsqueeze(1), 2 * offset / size.unsqueeze(1)], 2)
