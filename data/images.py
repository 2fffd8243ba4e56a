"""Images: scikit-learn's digits, a torchvision data set by name, or a folder of your own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import ConcatDataset
from torchvision.utils import make_grid

from data.augmentation import Augmentation
from data.encoder import Encoder
from data.layout import MAX_FEATURES
from data.tabular import RawTable, TabularData
from data.torchvision_sets import ImageSet, check_name, open_set

DIGITS = "digits"
CHANNELS = {"L": ["pixel"], "RGB": ["red", "green", "blue"]}
SHOWN_CLASSES = 20
SHOWN_IMAGES = 8


class Images(TabularData):
    """Images as a table: each row is a flattened image, channel by channel.

    The pixels of a channel share a mean and a standard deviation. The images are scikit-learn's
    digits, a torchvision data set (downloaded once), or a folder of your own: `ImageFolder` takes
    a folder of images for each class, or such folders in train/ and test/. If a data set has test
    images, they are the test split, whatever `test_fraction` is; evaluate.py makes its folds of
    all images.

    >>> digits = Images("digits")
    >>> digits.setup()
    >>> digits.shape, digits.num_features, digits.num_classes, digits.feature_names[:2]
    ((1, 8, 8), 64, 10, ['pixel 0 0', 'pixel 0 1'])

    Args:
        name: digits, or a class of torchvision.datasets such as MNIST, CIFAR10 or ImageFolder.
        root: Folder of torchvision's data sets, or of the images for ImageFolder.
        size: Height and width to resize every image to; null keeps the images, which must then all
            have the same size.
        rotation: Training images are rotated by up to this many degrees.
        flip: Half of the training images are mirrored, left to right.
        scale: Training images grow or shrink by up to this share.
        shift: Training images move by up to this share of their height and width.
        split: The arguments of TabularData.

    Raises:
        ValueError: An unknown or missing data set, images of several sizes, or an augmentation out
            of range.
    """

    def __init__(
        self,
        name: str = DIGITS,
        root: str = "datasets",
        size: int | None = None,
        rotation: float = 0.0,
        flip: bool = False,
        scale: float = 0.0,
        shift: float = 0.0,
        **split: Any,
    ) -> None:
        super().__init__(**split)
        check_name(name, [DIGITS])
        if size is not None and size < 1:
            raise ValueError(f"size is {size}; give 1 or more pixels, or null")
        if not 0 <= rotation <= 180:
            raise ValueError(f"rotation is {rotation}; give degrees from 0 to 180")
        for argument, value in {"scale": scale, "shift": shift}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{argument} is {value}; give a share from 0 to below 1")
        self.name = name
        self.root = root
        self.size = size
        self.rotation = rotation
        self.flip = flip
        self.scale = scale
        self.shift = shift

    def load(self) -> RawTable:
        sets = self.open_images()
        # Digits come as a list, which ConcatDataset takes, but not by its type.
        images = ConcatDataset[tuple[Image.Image, int]](sets)  # type: ignore[arg-type]
        self.set_shape(images[0][0])
        pixels, targets = self.unpack(images)
        if len(sets) == 2:
            self.test_rows = np.arange(len(sets[0]), len(targets))
        class_names = getattr(sets[0], "classes", None)
        if not class_names:
            class_names = [str(index) for index in range(targets.max() + 1)]
        if len(class_names) < 2:
            raise ValueError(
                f"{self.root} has only images of class {class_names[0]!r}; give two classes or more"
            )
        depth, height, width = self.shape
        channels = np.repeat(np.arange(depth), height * width)
        return RawTable(pixels, targets, self.pixel_names(), list(class_names), channels=channels)

    def open_images(self) -> list[ImageSet]:
        """Open the images: all in a single set, or the training and the test images."""
        if self.name != DIGITS:
            self.white = 255
            return open_set(str(self.name), self.root)
        self.white = 16
        bunch = load_digits()
        pictures = [Image.fromarray(pixels) for pixels in bunch.images.astype(np.uint8)]
        return [list(zip(pictures, bunch.target, strict=True))]

    def set_shape(self, image: Image.Image) -> None:
        """Take the colour mode and the shape of all images from the first one and `size`."""
        self.mode = "L" if image.mode in ("1", "L") else "RGB"
        width, height = image.size
        if self.size is not None:
            width = height = self.size
        self.shape = (len(CHANNELS[self.mode]), height, width)
        num_features = int(np.prod(self.shape))
        if num_features > MAX_FEATURES:
            raise ValueError(
                f"{self.name} has images of {height} x {width} pixels, which make "
                f"{num_features:,} features; the most is {MAX_FEATURES:,}: "
                "give a smaller --data.size, such as 32"
            )

    def unpack(
        self, images: ConcatDataset[tuple[Image.Image, int]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The pixels (rows, channels * height * width) as uint8, and class indices (rows,)."""
        depth, height, width = self.shape
        pixels = np.empty((len(images), depth * height * width), np.uint8)
        targets = np.empty(len(images), np.int64)
        for i in range(len(images)):
            image, targets[i] = images[i]
            if self.size is not None:
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            if image.size != (width, height):
                raise ValueError(
                    f"{self.name} has images of {height} x {width} and of "
                    f"{image.height} x {image.width} pixels; "
                    f"give --data.size {min(height, width)} to make them the same size"
                )
            by_pixel = np.asarray(image.convert(self.mode)).reshape(height * width, depth)
            pixels[i] = by_pixel.T.reshape(-1)
        return pixels, targets

    def pixel_names(self) -> list[str]:
        """The name of each column: channel, row and column of its pixel."""
        _, height, width = self.shape
        return [
            f"{channel} {row} {column}"
            for channel in CHANNELS[self.mode]
            for row in range(height)
            for column in range(width)
        ]

    def augmentation(self, encoder: Encoder) -> Augmentation | None:
        if not (self.rotation or self.flip or self.scale or self.shift):
            return None
        black = encoder(torch.zeros(1, len(self.column_names), dtype=torch.float64))
        return Augmentation(self.shape, black, self.rotation, self.flip, self.scale, self.shift)

    def example_images(self) -> dict[str, Tensor]:
        """A grid of training images for each class, augmented as the network sees them."""
        features, targets = self.splits["train"]
        names = self.class_names[:SHOWN_CLASSES]
        indices = [(targets == k).nonzero()[:SHOWN_IMAGES, 0] for k in range(len(names))]
        shown = features[torch.cat(indices)]
        if self.augment is not None:
            # Looking at a run must not change it: keep the state of the random numbers.
            with torch.random.fork_rng(devices=[]):
                shown = self.augment(shown)
        images = self.to_images(shown).split([len(rows) for rows in indices])
        return grids(names, images)

    def to_images(self, features: Tensor) -> Tensor:
        """Standardized features as images (rows, channels, height, width) between 0 and 1."""
        scale = self.encoder.scale.nan_to_num(posinf=0.0)  # infinite for a constant channel
        pixels = features * scale + self.encoder.mean
        return (pixels / self.white).clamp(0, 1).reshape(-1, *self.shape)

    def about(self) -> str:
        depth, height, width = self.shape
        colour = "grey" if depth == 1 else "colour"
        return (
            f"{self.name}: {colour} images of {height} x {width} pixels, {self.num_classes} classes"
        )


def grids(names: Sequence[str], images: Sequence[Tensor]) -> dict[str, Tensor]:
    """A grid of images by the name of their class."""
    return {name: make_grid(group, SHOWN_IMAGES) for name, group in zip(names, images, strict=True)}
