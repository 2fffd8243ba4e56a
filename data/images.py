"""Images: scikit-learn's digits, a set of torchvision by its name, or a folder of one's own."""

from contextlib import redirect_stdout, suppress
from difflib import get_close_matches
from inspect import signature
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import ConcatDataset
from torchvision import datasets
from torchvision.transforms import InterpolationMode, v2
from torchvision.utils import make_grid

from data.encoder import MOST_FEATURES, Encoder
from data.tabular import RawTable, TabularData

# torchvision's sets of one class for each image that need no other argument than their folder.
SETS = [
    "CIFAR10",
    "CIFAR100",
    "Caltech101",
    "Caltech256",
    "Country211",
    "DTD",
    "EuroSAT",
    "FGVCAircraft",
    "FakeData",
]
SETS += [
    "FashionMNIST",
    "Flowers102",
    "Food101",
    "GTSRB",
    "ImageFolder",
    "KMNIST",
    "MNIST",
    "OxfordIIITPet",
    "PCAM",
]
SETS += ["RenderedSST2", "SEMEION", "STL10", "SUN397", "SVHN", "USPS"]
CHANNELS = {"L": ["pixel"], "RGB": ["red", "green", "blue"]}
GROUP_ROWS, MOST_GROUPS = 8, 64
SHOWN_CLASSES, SHOWN_ROWS = 20, 8


class Images(TabularData):
    """Images as a table: a row is an image laid flat, channel by channel; a channel has one mean and deviation.

    The images are those of scikit-learn's digits, of a set of torchvision, downloaded once, or of a folder of yours
    (ImageFolder: a folder of images for each class, or such folders within train/ and test/). A set with a test part
    of its own keeps it, whatever test_fraction says; evaluate.py cuts all its images into folds.

    >>> digits = Images("digits")
    >>> digits.setup()
    >>> digits.shape, digits.num_features, digits.num_classes, digits.feature_names[:2]
    ((1, 8, 8), 64, 10, ['pixel 0 0', 'pixel 0 1'])

    Args:
        name: digits, or a set of torchvision.datasets such as MNIST, CIFAR10 or ImageFolder.
        root: Folder of torchvision's sets, or of ImageFolder's own images.
        size: Height and width to bring every image to; null leaves them as they are, and all must be alike.
        rotation: Training images turn by up to so many degrees.
        flip: Half of the training images are mirrored, left to right.
        scale: Training images grow or shrink by up to this share.
        shift: Training images move by up to this share of their height and width.
        split: What TabularData takes.

    Raises:
        ValueError: A set that is not known or not there, images of several sizes, or an augmentation out of range.
    """

    def __init__(
        self,
        name: str = "digits",
        root: str = "datasets",
        size: int | None = None,
        rotation: float = 0.0,
        flip: bool = False,
        scale: float = 0.0,
        shift: float = 0.0,
        **split: Any,
    ) -> None:
        super().__init__(**split)
        if name not in ("digits", *SETS):
            if name in datasets.__all__:
                raise ValueError(
                    f"torchvision's {name} is no set of one class for each image that its folder alone describes; "
                    "give one such as MNIST, CIFAR10 or ImageFolder"
                )
            known = {one.lower(): one for one in ("digits", *SETS)}
            near = known[get_close_matches(name.lower(), known, n=1, cutoff=0.0)[0]]
            raise ValueError(f"data set {name!r} is not known; nearest: {near}")
        if size is not None and size < 1:
            raise ValueError(f"size is {size}; give 1 or more pixels, or null")
        if not 0 <= rotation <= 180:
            raise ValueError(f"rotation is {rotation}; give degrees from 0 to 180")
        for argument, value in {"scale": scale, "shift": shift}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{argument} is {value}; give a share from 0 to below 1")
        self.name, self.root, self.size = name, root, size
        self.rotation, self.flip, self.scale, self.shift = rotation, flip, scale, shift

    def load(self) -> RawTable:
        sets = self.sets()
        pixels, targets = self.unpack(ConcatDataset(sets))
        if len(sets) == 2:
            self.test_rows = np.arange(len(sets[0]), len(targets))
        class_names = getattr(sets[0], "classes", None) or [
            str(number) for number in range(targets.max() + 1)
        ]
        if len(class_names) < 2:
            raise ValueError(
                f"{self.root} has images of class {class_names[0]!r} alone; give two classes or more"
            )
        names = CHANNELS[self.mode]
        depth, height, width = self.shape
        return RawTable(
            pixels,
            targets,
            [
                f"{name} {row} {column}"
                for name in names
                for row in range(height)
                for column in range(width)
            ],
            list(class_names),
            channels=np.repeat(np.arange(depth), height * width),
        )

    def sets(self) -> list[Any]:
        """Images with their class numbers: all of them, or the training and the test part."""
        self.white = 255
        if self.name == "digits":
            bunch = load_digits()
            self.white = 16
            return [
                list(
                    zip(
                        map(Image.fromarray, bunch.images.astype(np.uint8)),
                        bunch.target,
                        strict=True,
                    )
                )
            ]
        kind = getattr(datasets, str(self.name))
        if self.name == "FakeData":
            return [kind()]
        if self.name == "ImageFolder":
            return self.folders()
        options = signature(kind).parameters
        if "train" in options:
            return [self.open(kind, train=train) for train in (True, False)]
        return (
            [self.open(kind), self.open(kind, split="test")]
            if "split" in options
            else [self.open(kind)]
        )

    def folders(self) -> list[Any]:
        """The images of `root`, or of its folders train and test."""
        parts = [Path(self.root, part) for part in ("train", "test")]
        try:
            sets = [
                datasets.ImageFolder(part)
                for part in (parts if all(map(Path.is_dir, parts)) else [self.root])
            ]
        except FileNotFoundError as error:
            raise ValueError(
                f"{self.root} is no folder of images ({error}); put a folder of images for each class into it, "
                f"such as {Path(self.root, 'cat', '1.png')}"
            ) from error
        if len(sets) == 2 and sets[0].classes != sets[1].classes:
            odd = min(set(sets[0].classes) ^ set(sets[1].classes))
            raise ValueError(
                f"{self.root} has class {odd!r} in one of train and test alone; give both the same classes"
            )
        return sets

    def open(self, kind: Any, **part: Any) -> Any:
        """A set of torchvision, downloaded where it is not in `root` yet."""
        with suppress(
            Exception
        ):  # torchvision has many kinds for files that are not there or cut short
            return kind(self.root, download=False, **part)
        before = (
            {Path(self.root), *Path(self.root).rglob("*")} if Path(self.root).exists() else set()
        )
        try:
            with redirect_stdout(StringIO()):  # a line for each mirror that does not answer
                return kind(self.root, download=True, **part)
        except Exception as error:
            for path in sorted(
                {Path(self.root), *Path(self.root).rglob("*")} - before, reverse=True
            ):
                if path.is_dir() and not any(
                    path.iterdir()
                ):  # torchvision makes folders before it downloads
                    path.rmdir()
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
            raise ValueError(
                f"{self.name} is not in the folder {self.root}, or not whole, and could not be downloaded "
                f"({reason}); put {files(kind, self.root)}"
            ) from error

    def unpack(
        self, images: ConcatDataset[tuple[Image.Image, int]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (rows, channels * height * width) in uint8 and class numbers (rows,)."""
        first = images[0][0]
        self.mode = "L" if first.mode in ("1", "L") else "RGB"
        width, height = first.size if self.size is None else (self.size, self.size)
        self.shape = len(CHANNELS[self.mode]), height, width
        if (count := int(np.prod(self.shape))) > MOST_FEATURES:
            raise ValueError(
                f"{self.name} has images of {height} x {width} pixels, which make {count:,} features; "
                f"the most is {MOST_FEATURES:,}: give a smaller --data.size, such as 32"
            )
        pixels, targets = np.empty((len(images), count), np.uint8), np.empty(len(images), np.int64)
        for i in range(len(images)):
            image, targets[i] = images[i]
            if self.size is not None:
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            if image.size != (width, height):
                raise ValueError(
                    f"{self.name} has images of {height} x {width} and of {image.height} x {image.width} pixels; "
                    f"give --data.size {min(height, width)} to make them alike"
                )
            pixels[i] = (
                np.asarray(image.convert(self.mode)).reshape(height * width, -1).T.reshape(-1)
            )
        return pixels, targets

    def augmentation(self, encoder: Encoder) -> "Augmentation | None":
        if not (self.rotation or self.flip or self.scale or self.shift):
            return None
        black = encoder(torch.zeros(1, len(self.column_names), dtype=torch.float64))
        return Augmentation(self.shape, black, self.rotation, self.flip, self.scale, self.shift)

    def example_images(self) -> dict[str, Tensor]:
        """Of each class a few training images, changed as in training: what the network sees."""
        features, targets = self.splits["train"]
        names = self.class_names[:SHOWN_CLASSES]
        rows = [(targets == number).nonzero()[:SHOWN_ROWS, 0] for number in range(len(names))]
        shown = features[torch.cat(rows)]
        if self.augment is not None:
            with torch.random.fork_rng(devices=[]):  # looking at a run does not change it
                shown = self.augment(shown)
        pixels = shown * self.encoder.scale.nan_to_num(posinf=0.0) + self.encoder.mean
        images = (
            (pixels / self.white)
            .clamp(0, 1)
            .reshape(-1, *self.shape)
            .split([len(own) for own in rows])
        )
        return {name: make_grid(own, SHOWN_ROWS) for name, own in zip(names, images, strict=True)}

    def about(self) -> str:
        depth, height, width = self.shape
        kind = "grey" if depth == 1 else "colour"
        return (
            f"{self.name}: {kind} images of {height} x {width} pixels, {self.num_classes} classes"
        )


class Augmentation:
    """Standardized images, mirrored, turned, scaled and shifted at random; what comes in from outside is black.

    torchvision draws one transform for all images that it is given, so random groups of eight rows are given to it,
    or of more, so that a batch is at most 64 groups.

    Shapes: (rows, channels * height * width) -> the same.

    >>> image = torch.tensor([[0.0, 1.0]])
    >>> Augmentation((1, 1, 2), black=torch.zeros(1, 2), flip=True)(image).sum()
    tensor(1.)

    Args:
        shape: Channels, height and width of an image.
        black: The standardized features (1, channels * height * width) of a black image.
        rotation: Up to so many degrees.
        flip: Whether half of the groups are mirrored.
        scale: Up to this share larger or smaller.
        shift: Up to this share of height and width.
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
        self.shape, self.black = shape, black
        steps: list[Any] = [v2.RandomHorizontalFlip()] if flip else []
        if rotation or scale or shift:
            ranges = rotation, (shift, shift), (1 - scale, 1 + scale)
            # Without a fill what comes in is 0, which black is made below; with one it takes half as long again.
            steps.append(
                v2.RandomAffine(*ranges, interpolation=InterpolationMode.BILINEAR, fill=None)
            )
        self.transform = v2.Compose(steps)

    def __call__(self, features: Tensor) -> Tensor:
        self.black = self.black.to(features.device)
        images = (features - self.black).reshape(-1, *self.shape)
        changed = torch.empty_like(images)
        count = min(-(-len(images) // GROUP_ROWS), MOST_GROUPS)
        for rows in torch.randperm(len(images)).to(features.device).tensor_split(count):
            changed[rows] = self.transform(images[rows])
        return (changed.flatten(1) + self.black).to(features.dtype)


def files(kind: Any, root: str) -> str:
    """Which files of a set to put where, as far as torchvision says it.

    >>> files(datasets.CIFAR10, "datasets")
    'cifar-10-python.tar.gz into datasets'
    """
    if hasattr(kind, "resources"):  # MNIST and its like
        return f"{', '.join(name for name, _ in kind.resources)} into {Path(root, kind.__name__, 'raw')}"
    if hasattr(kind, "split_list"):  # SVHN, USPS
        return f"{', '.join(kind.split_list[part][1] for part in ('train', 'test'))} into {root}"
    name = getattr(
        kind, "filename", f"the files that torchvision.datasets.{kind.__name__} describes"
    )
    return f"{name} into {root}"
