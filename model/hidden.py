"""Hidden layers: how many there may be, and their activation by its name in torch.nn."""

from torch import nn
from torch.nn.modules import activation as activations

from cli.errors import unknown

MAX_LAYERS = 10_000  # are built in seconds; each is a few objects of Python
OVER_UNITS = ("LogSoftmax", "Softmax", "Softmin")  # of the units of a layer, which they mix
UNUSABLE = ("GLU", "MultiheadAttention", "Softmax2d", "Threshold")  # other arguments or shapes
ACTIVATIONS = [name for name in activations.__all__ if name not in UNUSABLE]


def check_depth(name: str, layers: int) -> None:
    """Refuse a network of so many layers that it is built for minutes.

    Args:
        name: The argument that says how many.
        layers: Number of layers, or of blocks of layers.

    Raises:
        ValueError: There are too many.
    """
    if layers > MAX_LAYERS:
        raise ValueError(f"{name} makes {layers:,} layers; give at most {MAX_LAYERS:,}")


def check_activation(name: str) -> None:
    """Refuse a name that is no activation, or one that needs other arguments or shapes.

    Raises:
        ValueError: It is.
    """
    if name in UNUSABLE:
        raise ValueError(
            f"activation {name!r} needs arguments or changes the shape of a layer; give one that "
            "does neither, such as SiLU or ReLU"
        )
    if name not in ACTIVATIONS:
        raise ValueError(unknown("activation", name, ACTIVATIONS))


def make_activation(name: str) -> nn.Module:
    """A new activation of rows (rows, units); of a softmax over the units of each row.

    >>> make_activation("ReLU"), make_activation("Softmax")
    (ReLU(), Softmax(dim=1))
    """
    layer: type[nn.Module] = getattr(nn, name)
    return layer(dim=1) if name in OVER_UNITS else layer()
