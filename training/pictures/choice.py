"""The pictures that --pictures names."""

from collections.abc import Sequence

from cli.errors import unknown
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


def make_pictures(pictures: str | Sequence[str]) -> list[Picture]:
    """The pictures of a choice: a key of WHEN, or the names of some pictures.

    Raises:
        ValueError: A name is unknown.
    """
    if isinstance(pictures, str) and pictures in WHEN:
        epochs = WHEN[pictures]
        if epochs is None:
            return []
        return [picture(epochs) for picture in PICTURES.values()]
    names = [pictures] if isinstance(pictures, str) else pictures
    for name in names:
        if name not in PICTURES:
            raise ValueError(unknown("picture", name, [*PICTURES, *WHEN]))
    return [PICTURES[name]() for name in names]
