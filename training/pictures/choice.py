"""The pictures that --pictures names."""

from collections.abc import Sequence

from cli.errors import unknown
from cli.registry import ROOT, make_object
from training.pictures.base import Picture
from training.pictures.card import Card
from training.pictures.confusion import ConfusionMatrix
from training.pictures.curves import PrecisionRecall
from training.pictures.embedding import Embedding
from training.pictures.histograms import Histograms
from training.pictures.regions import Regions
from training.pictures.reliability import Reliability
from training.pictures.weights import Weights

PICTURES: dict[str, type[Picture]] = {
    "ConfusionMatrix": ConfusionMatrix,
    "Regions": Regions,
    "Weights": Weights,
    "Reliability": Reliability,
    "Histograms": Histograms,
    "PrecisionRecall": PrecisionRecall,
    "Embedding": Embedding,
    "Card": Card,
}
# Choices of all pictures or none: at how many epochs of the fit they are drawn too.
WHEN = {"none": None, "final": 0, "all": 10}


def make_pictures(pictures: str | Sequence[str | Picture]) -> list[Picture]:
    """The pictures of a choice: a key of WHEN, or names, import paths and pictures.

    Raises:
        ValueError: A name is unknown, or leads to something else.
    """
    if isinstance(pictures, str) and pictures in WHEN:
        epochs = WHEN[pictures]
        if epochs is None:
            return []
        return [picture(epochs) for picture in PICTURES.values()]
    chosen = [pictures] if isinstance(pictures, str) else pictures
    return [make_picture(picture) for picture in chosen]


def make_picture(picture: str | Picture) -> Picture:
    """The picture of this name or import path; a picture is returned unchanged."""
    if isinstance(picture, str) and picture in PICTURES:
        return PICTURES[picture]()
    if isinstance(picture, str) and "." not in picture:
        raise ValueError(unknown("picture", picture, [*PICTURES, *WHEN]))
    made: Picture = make_object("picture", picture, f"{ROOT}training.pictures.base.Picture")
    return made
