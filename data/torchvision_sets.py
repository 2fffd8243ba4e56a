"""Image data sets of torchvision: which can be named, and opening one, downloaded if needed."""

import os
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from inspect import signature
from io import StringIO
from pathlib import Path
from typing import Any

from PIL import Image
from torchvision import datasets

from cli.errors import first_line, unknown

# The sets with a class for each image that need no argument but their folder.
SETS = [
    "CIFAR10", "CIFAR100", "Caltech101", "Caltech256", "Country211", "DTD", "EuroSAT",
    "FGVCAircraft", "FakeData", "FashionMNIST", "Flowers102", "Food101", "GTSRB", "ImageFolder",
    "KMNIST", "MNIST", "OxfordIIITPet", "PCAM", "RenderedSST2", "SEMEION", "STL10", "SUN397",
    "SVHN", "USPS",
]  # fmt: skip

# (image, class index) pairs.
ImageSet = Sequence[tuple[Any, int]]


def check_name(name: str, others: Sequence[str] = ()) -> None:
    """Refuse a name that is neither one of `SETS` nor of `others`.

    >>> check_name("mnist")
    Traceback (most recent call last):
    ValueError: data set 'mnist' is not known; nearest: MNIST
    """
    if name in others or name in SETS:
        return
    if name in datasets.__all__:
        raise ValueError(
            f"torchvision's {name} needs more than a folder, or has no single class for each "
            "image; give a set such as MNIST, CIFAR10 or ImageFolder"
        )
    raise ValueError(unknown("data set", name, (*others, *SETS)))


def open_set(name: str, root: str) -> list[ImageSet]:
    """Open the images of a set in the folder `root`, downloaded if they are not there.

    Returns:
        The set's training and test images, or all its images in a single set.

    Raises:
        ValueError: The set is not in the folder and cannot be downloaded.
    """
    cls = getattr(datasets, name)
    if name == "FakeData":
        return [cls()]
    if name == "ImageFolder":
        return open_folders(root)
    parameters = signature(cls).parameters
    if "train" in parameters:
        return [load_or_download(cls, root, train=True), load_or_download(cls, root, train=False)]
    if "split" in parameters:
        return [load_or_download(cls, root), load_or_download(cls, root, split="test")]
    return [load_or_download(cls, root)]


def open_folders(root: str) -> list[ImageSet]:
    """Open the images of a folder, or those of its folders train and test if it has both."""
    folders = [Path(root, "train"), Path(root, "test")]
    if not all(folder.is_dir() for folder in folders):
        folders = [Path(root)]
    for folder in folders:
        check_links(folder)
    try:
        sets = [datasets.ImageFolder(folder, loader=read_image) for folder in folders]
    except FileNotFoundError as error:
        raise ValueError(
            f"{root} is not a folder of images ({error}); put a folder of images for each class "
            f"into it, such as {Path(root, 'cat', '1.png')}"
        ) from error
    classes = [set(images.classes) for images in sets]
    if len(sets) == 2 and classes[0] != classes[1]:
        odd = min(classes[0] ^ classes[1])
        raise ValueError(
            f"{root} has class {odd!r} in only one of train and test; give both the same classes"
        )
    return sets


def check_links(folder: Path) -> None:
    """Refuse a link to a folder that was read already, as in a loop: its images would count twice.

    Raises:
        ValueError: With the link.
    """
    links: dict[str, str] = {}
    for path, _, _ in os.walk(folder, followlinks=True):
        real_path = os.path.realpath(path)
        if real_path in links:
            raise ValueError(
                f"{path} leads to the same images as {links[real_path]}; remove one of them"
            )
        links[real_path] = path


def read_image(path: str) -> Image.Image:
    """Read an image of a folder in three colours.

    Raises:
        ValueError: It is cut, no image, or has too many pixels; with the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.convert("RGB")
    except Exception as error:  # each format has errors of its own
        raise ValueError(f"{path} cannot be read as an image: {first_line(error)}") from error


def load_or_download(cls: Any, root: str, **arguments: Any) -> ImageSet:
    """Open a set of torchvision in the folder `root`; if it is not there, download it first."""
    # torchvision raises many kinds of error for files that are missing or incomplete.
    with suppress(Exception):
        images: ImageSet = cls(root, download=False, **arguments)
        return images
    before = tree(root)
    try:
        with redirect_stdout(StringIO()):  # a line for each mirror that does not answer
            images = cls(root, download=True, **arguments)
    except Exception as error:  # mirrors and archives fail in many ways
        # torchvision makes folders before it downloads.
        for path in sorted(tree(root) - before, reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        reason = first_line(error).rstrip(":")
        raise ValueError(
            f"{cls.__name__} is not in the folder {root}, or is incomplete, and could not be "
            f"downloaded ({reason}); put {needed_files(cls, root)}"
        ) from error
    return images


def tree(root: str) -> set[Path]:
    """A folder and everything in it; nothing if it does not exist."""
    folder = Path(root)
    if not folder.exists():
        return set()
    return {folder, *folder.rglob("*")}


def needed_files(cls: Any, root: str) -> str:
    """Which files of a set to put where, as far as torchvision tells.

    >>> needed_files(datasets.CIFAR10, "datasets")
    'cifar-10-python.tar.gz into datasets'
    """
    if hasattr(cls, "resources"):  # MNIST and those like it
        names = [name for name, _ in cls.resources]
        return f"{', '.join(names)} into {Path(root, cls.__name__, 'raw')}"
    if hasattr(cls, "split_list"):  # SVHN, USPS
        names = [cls.split_list[split][1] for split in ("train", "test")]
        return f"{', '.join(names)} into {root}"
    if hasattr(cls, "filename"):
        return f"{cls.filename} into {root}"
    return f"the files that torchvision.datasets.{cls.__name__} describes into {root}"
