"""The default recipe: what each part is for. docs/benchmarks.md has what each brought.

Iris and other data that is no Table: one network, standardized features, all rows in a step. It was
chosen among its neighbours in bench/results/recipe.json.

- MLP: one hidden layer of 128 SiLU units. Twice as many, or a second layer, are not better.
- Label smoothing of 0.1: without it a network of this size is sure of its mistakes.
- ScaledAdamW: a rate and a decay that suit 100 steps as well as 10,000 (model/optimizers.py).
- OneCycleLR: warms up, then falls to 0, so that the last epoch is a good one.

A Table adds what its class says (data/table.py); bench/results/parts.json has what each brought.

- Eight members: each chooses its epoch on its own fold, and all rows are used. A single network
  without validation rows memorizes small noisy tables.
- Calibration (model/calibration.py): label smoothing leaves a network too unsure, which costs
  log-loss; a temperature takes that back.
- Robust scaling (data/encoder.py): outliers and rare categories do not outweigh the other rows.
- Batches of 256: thousands of rows get more than 100 steps.
- Embedded numbers (model/embedding.py) from EMBEDDED_ROWS on; fewer rows overfit them.

Tried on the same tables, and no better: dropout, embeddings of 8 units, other rates and decays.
"""

from functools import partial
from typing import Any

from torch.nn import CrossEntropyLoss
from torch.optim.lr_scheduler import OneCycleLR

from cli.registry import find, parameters_of
from data.layout import Layout
from data.tabular import TabularData
from model.networks import MLP
from model.optimizers import ScaledAdamW

NETWORK = MLP
LOSS = partial(CrossEntropyLoss, label_smoothing=0.1)
OPTIMIZER = partial(ScaledAdamW, fused=True)
SCHEDULE = OneCycleLR
MAX_EPOCHS = 100

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
