"""The Classifier of a run: checked against the memory, then built, whole or in shares."""

import os
import sys
from shutil import which
from typing import Any

from lightning.pytorch import Trainer

from cli.registry import LEARNED
from data.tabular import TabularData
from evaluation.devices import is_sharded
from evaluation.size import BYTES, check_size, memory_of_network
from model.losses import weigh
from model.recipe import fit_to_table
from training.fast import FastClassifier

KEPT_LOGITS = 2**20  # of an epoch: 4 MiB, and ten times as much for all scores of them


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
    compiles = config.get("compile", False)
    if compiles:
        check_compiler(trainer.strategy.root_device.type)
    most_rows = max(len(targets) for _, targets in datamodule.splits.values())
    is_large = most_rows * num_classes > KEPT_LOGITS
    make = FastClassifier
    if is_sharded(trainer):
        from training.sharding import ShardedClassifier  # here: its imports take half a second

        make = ShardedClassifier
    return make(
        num_features,
        num_classes,
        watched=curve,
        is_summed=datamodule.is_streamed or is_large,
        compiles=compiles,
        **components,
    )


def check_compiler(device: str) -> None:
    """Refuse --compile where no compiler is installed that torch.compile needs.

    Raises:
        ValueError: It says which.
    """
    # As torch's inductor looks for them: a C++ compiler for a CPU, a C compiler for Triton.
    variable = "CXX" if device == "cpu" else "CC"
    usual = ["g++"] if device == "cpu" else ["gcc", "clang"]
    if sys.platform == "darwin":
        usual = ["clang++"]
    names = [os.environ[variable]] if os.environ.get(variable) else usual
    if not any(which(name) for name in names):
        raise ValueError(
            f"--compile needs a compiler, and there is no {' or '.join(names)}; "
            f"install {usual[0]}, or name one in the variable {variable}"
        )
