"""The default recipe, one for every table: what each part is for, and what it brought.

bench/results/recipe.json has the figures.
"""

from functools import partial
from typing import Any

from torch.nn import CrossEntropyLoss
from torch.optim.lr_scheduler import OneCycleLR

from cli.component import find, parameters_of
from data.encoder import Layout
from data.tabular import TabularData
from model.networks import MLP
from model.optimizers import ScaledAdamW

NETWORK = MLP
LOSS = partial(CrossEntropyLoss, label_smoothing=0.1)
OPTIMIZER = partial(ScaledAdamW, fused=True)
SCHEDULE = OneCycleLR
MAX_EPOCHS = 100

# Numbers are embedded (model/embedding.py) in tables of at least this many rows.
EMBEDDED_ROWS = 1000


def fit_to_table(
    components: dict[str, Any], datamodule: TabularData, layout: Layout
) -> dict[str, Any]:
    """The components, with what the network's class asks of the table.

    Args:
        components: The components as plain data.
        datamodule: The table, after `read()`.
        layout: Its features.
    """
    network = dict(components["network"])
    if "embedding" in network and network["embedding"] is None:
        is_large = datamodule.num_rows >= EMBEDDED_ROWS
        network["embedding"] = datamodule.embedding if is_large else 0
    if "numbers" in parameters_of(find("network", network["class"])):
        network["numbers"] = layout.numbers
    return components | {"network": network}
