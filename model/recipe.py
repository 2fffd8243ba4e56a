"""The default recipe, one for every table: what each part is for, and what it brought.

bench/results/recipe.json has the figures.
"""

from functools import partial
from typing import Any

from torch.nn import CrossEntropyLoss
from torch.optim.lr_scheduler import OneCycleLR

from cli.component import find, parameters_of
from model.networks import MLP
from model.optimizers import ScaledAdamW

NETWORK = MLP
LOSS = partial(CrossEntropyLoss, label_smoothing=0.1)
OPTIMIZER = partial(ScaledAdamW, fused=True)
SCHEDULE = OneCycleLR
MAX_EPOCHS = 100

# Numbers are embedded (model/embedding.py) in tables of at least this many rows.
EMBEDDING = 4
EMBEDDED_ROWS = 1000


def fit_to_table(components: dict[str, Any], rows: int, numbers: list[int]) -> dict[str, Any]:
    """The components, with what the network's class asks of the table.

    >>> components = {"network": {"class": "MLP", "hidden": [8], "embedding": None}}
    >>> fit_to_table(components, rows=5000, numbers=[0, 3])
    {'network': {'class': 'MLP', 'hidden': [8], 'embedding': 4, 'numbers': [0, 3]}}

    Args:
        components: The components as plain data.
        rows: Number of rows of the table.
        numbers: Indices of the features that are numbers, not categories.
    """
    network = dict(components["network"])
    if "embedding" in network and network["embedding"] is None:
        network["embedding"] = EMBEDDING if rows >= EMBEDDED_ROWS else 0
    if "numbers" in parameters_of(find("network", network["class"])):
        network["numbers"] = numbers
    return components | {"network": network}
