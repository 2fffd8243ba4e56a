"""A checkpoint's network and table, as data: what does not fit together is refused."""

from typing import Any, NamedTuple

from torch import Tensor

from cli.component import ComponentConfig, defines
from data.checkpoint_file import read_file
from data.checkpoint_format import KEYS, LABEL_TYPES, READABLE_FORMATS


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
    if not isinstance(hyper_parameters, dict) or "state_dict" not in content or len(tables) != 1:
        raise ValueError(
            f"{path} is a checkpoint of another program; "
            "give one that train.py or evaluate.py wrote"
        )
    (table,) = tables
    check_table(table, hyper_parameters, path)
    return Checkpoint(content["state_dict"], hyper_parameters, table)


def find_tables(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries that describe a table; Lightning names each after its datamodule's class."""
    dictionaries = [value for value in content.values() if isinstance(value, dict)]
    return [value for value in dictionaries if value.keys() >= KEYS]


def check_table(table: dict[str, Any], hyper_parameters: dict[str, Any], path: str) -> None:
    """Refuse a table of another format, or one whose names do not fit together."""
    readable = [str(number) for number in READABLE_FORMATS]
    if str(table["format"]) not in readable:
        raise ValueError(
            f"{path} is of format {table['format']}, which this version does not know; update it"
        )
    categories = table["categories"]
    fits = (
        isinstance(categories, dict)
        and is_names(table["class_names"])
        and is_names(table["column_names"])
        and all(is_names(names) for names in categories.values())
        and hyper_parameters.get("num_classes") == len(table["class_names"])
        and categories.keys() <= set(table["column_names"])
        and isinstance(table["target"], str)
        and are_texts(table.get("dates", {}))
        and set(table.get("dates", {})) <= set(table["column_names"]) - categories.keys()
        and isinstance(table.get("reading", {}), dict)
        and table.get("label_type", "text") in LABEL_TYPES
    )
    if not fits:
        raise ValueError(
            f"{path} does not fit together: its names of columns, categories or classes"
        )


def are_texts(texts: Any) -> bool:
    """Whether a value is a dictionary of texts."""
    if not isinstance(texts, dict):
        return False
    return all(isinstance(text, str) for pair in texts.items() for text in pair)


def is_names(names: Any) -> bool:
    """Whether a value is a list of distinct texts."""
    if not isinstance(names, list):
        return False
    if not all(isinstance(name, str) for name in names):
        return False
    return len(set(names)) == len(names)


def check_class(config: ComponentConfig | None, path: str) -> None:
    """Refuse a class outside this program and torch that its module's source does not define.

    Importing a module runs it, so the checkpoint must not be able to name just any.
    """
    if config is None:
        return
    check_class(config.get("network"), path)  # that of the members of an Ensemble
    name = str(config["class"])
    if "." in name and not defines(name):
        raise ValueError(
            f"{path} names {name}, and no module defines such a class; it was not imported"
        )
