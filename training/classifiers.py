"""The Classifier of a run: checked against the memory, then built, whole or in shares."""

from typing import Any

from lightning.pytorch import Trainer

from cli.component import LEARNED
from data.tabular import TabularData
from evaluation.devices import is_sharded
from evaluation.size import BYTES, check_size, memory_of_network
from model.losses import weigh
from model.recipe import fit_to_table
from training.fast import FastClassifier


def make_classifier(
    datamodule: TabularData, config: dict[str, Any], curve: str, trainer: Trainer
) -> FastClassifier:
    """A FastClassifier for a table.

    Args:
        datamodule: The table, after `setup()`.
        config: The arguments of train.py as plain data; it has the components.
        curve: The curve that decides about epochs.
        trainer: The Trainer of the fit.

    Raises:
        ValueError: A component cannot be used, or the network does not fit into memory.
    """
    components = {name: config[name] for name in LEARNED}
    components = weigh(components, datamodule.class_weights)
    components = fit_to_table(components, datamodule, datamodule.encoder.layout)
    num_features = datamodule.num_features
    num_classes = datamodule.num_classes
    bytes_each = BYTES.get(trainer.precision, 4)
    check_size(components, num_features, num_classes, memory_of_network(trainer), bytes_each)
    make = FastClassifier
    if is_sharded(trainer):
        from training.sharding import ShardedClassifier  # here: its imports take half a second

        make = ShardedClassifier
    is_streamed = datamodule.is_streamed
    return make(num_features, num_classes, watched=curve, is_streamed=is_streamed, **components)
