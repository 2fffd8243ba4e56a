"""A checkpoint's network and table, as data: what does not fit together is refused."""

from typing import Any, NamedTuple, TypeGuard

from torch import Tensor

from cli.registry import defines
from data.checkpoint_file import read_file, torch_reason
from data.checkpoint_format import KEYS, READABLE_FORMATS
from inference.checkpoint_table import check_table


class Checkpoint(NamedTuple):
    """A checkpoint's weights by name, its hyperparameters and the description of its table."""

    weights: dict[str, Tensor]
    hyper_parameters: dict[str, Any]
    table: dict[str, Any]


def read_checkpoint(path: str) -> Checkpoint:
    """Read a checkpoint that train.py or evaluate.py wrote, as data.

    Raises:
        ValueError: It is damaged, holds code, or another program wrote it; the message says which.
    """
    content = read_file(path)
    hyper_parameters = content.get("hyper_parameters") if isinstance(content, dict) else None
    if isinstance(hyper_parameters, dict) and "_instantiator" in hyper_parameters:
        raise ValueError(f"{path} names code to run (_instantiator), and was not loaded")
    tables = find_tables(content) if hyper_parameters else []
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not (isinstance(hyper_parameters, dict) and is_state(weights) and len(tables) == 1):
        raise ValueError(
            f"{path} is a checkpoint of another program; "
            "give one that train.py or evaluate.py wrote"
        )
    (table,) = tables
    readable = [str(number) for number in READABLE_FORMATS]
    if str(table["format"]) not in readable:
        raise ValueError(
            f"{path} is of format {table['format']}, which this version does not know; update it"
        )
    try:
        check_table(table, hyper_parameters)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} does not fit together: {torch_reason(error)}") from error
    return Checkpoint(weights, hyper_parameters, table)


def is_state(weights: Any) -> TypeGuard[dict[str, Tensor]]:
    """Whether a value is tensors by name."""
    if not isinstance(weights, dict):
        return False
    return all(isinstance(n, str) and isinstance(w, Tensor) for n, w in weights.items())


def find_tables(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries that describe a table; Lightning names each after its datamodule's class."""
    dictionaries = [value for value in content.values() if isinstance(value, dict)]
    return [value for value in dictionaries if value.keys() >= KEYS]


def check_classes(hyper_parameters: dict[str, Any], path: str) -> None:
    """Refuse classes outside this program and torch that their modules' source does not define.

    Importing a module runs it, so the checkpoint must not be able to name just any.
    """
    configs = [hyper_parameters.get("network")]
    candidates = hyper_parameters.get("settings")
    for candidate in candidates if isinstance(candidates, list) else []:
        if isinstance(candidate, dict):
            configs += candidate.values()
    for config in configs:
        while isinstance(config, dict):
            check_class(config.get("class"), path)
            config = config.get("network")  # that of the members of an Ensemble


def check_class(name: Any, path: str) -> None:
    """Refuse a class whose module is not known to define it."""
    if not isinstance(name, str):
        raise ValueError(f"{path} does not fit together: a component has no class")
    if "." in name and not defines(name):
        raise ValueError(
            f"{path} names {name}, and no module defines such a class; it was not imported"
        )
