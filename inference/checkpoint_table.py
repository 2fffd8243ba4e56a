"""A checkpoint's description of its table: its names, layout and statistics must agree."""

from math import isnan
from typing import Any

import torch
from torch import Tensor

from data.checkpoint_format import LABEL_TYPES
from data.dates import check_form
from data.encoder import STATISTICS
from data.labels import LabelType, typed_names
from data.layout import CYCLES, MAX_FEATURES
from data.values import Reading

# The tensors of a layout, a value for each feature.
LAYOUT = {
    "source": torch.int64,
    "code": torch.float64,
    "indicator": torch.bool,
    "period": torch.float64,
    "phase": torch.float64,
}
ADDED_LATER = ("period", "phase")  # format 1 and 2 have none


def check_table(table: dict[str, Any], hyper_parameters: dict[str, Any]) -> None:
    """Refuse a description whose parts do not agree.

    Raises:
        ValueError: With what is wrong.
    """
    if not names_agree(table, hyper_parameters):
        raise ValueError("its names of columns, categories or classes")
    check_class_names(table["class_names"], table.get("label_type", "text"))
    for column, form in table.get("dates", {}).items():
        if form:
            check_form(form)
        if column in table["categories"]:
            raise ValueError(f"column {column!r} is both text and dates")
    Reading(**table.get("reading", {}))
    check_layout(table)
    check_statistics(table, hyper_parameters.get("members"))


def names_agree(table: dict[str, Any], hyper_parameters: dict[str, Any]) -> bool:
    """Whether all names are texts, distinct, and as many as the network has inputs and outputs."""
    categories = table["categories"]
    dates = table.get("dates", {})
    id_column = table.get("id_column")
    return (
        isinstance(categories, dict)
        and is_names(table["class_names"])
        and is_names(table["column_names"])
        and all(is_names(names) for names in categories.values())
        and is_names(table["feature_names"])
        and len(table["feature_names"]) <= MAX_FEATURES
        and is_count(hyper_parameters.get("num_classes"), len(table["class_names"]))
        and is_count(hyper_parameters.get("num_features"), len(table["feature_names"]))
        and categories.keys() <= set(table["column_names"])
        and is_text(table["target"])
        and (id_column is None or is_text(id_column))
        and are_texts(dates)
        and dates.keys() <= set(table["column_names"])
        and isinstance(table.get("reading", {}), dict)
        and table.get("label_type", "text") in LABEL_TYPES
    )


def is_names(names: Any) -> bool:
    """Whether a value is a list of distinct texts, of one at least."""
    if not isinstance(names, list) or not names:
        return False
    return all(is_text(name) for name in names) and len(set(names)) == len(names)


def is_text(value: Any) -> bool:
    """Whether a value is text that a file can hold: a lone surrogate is not."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def check_class_names(names: list[str], label_type: LabelType) -> None:
    """Refuse names that are no distinct values of the labels' type."""
    try:
        values = set(typed_names(names, label_type).tolist())
    except ValueError:
        values = set()
    if len(values) != len(names):
        raise ValueError(f"its class names are not of type {label_type}")


def is_count(value: Any, count: int) -> bool:
    """Whether a value is this whole number."""
    return type(value) is int and value == count


def are_texts(texts: Any) -> bool:
    """Whether a value is a dictionary of texts."""
    if not isinstance(texts, dict):
        return False
    return all(is_text(text) for pair in texts.items() for text in pair)


def check_layout(table: dict[str, Any]) -> None:
    """Refuse a layout whose features are not those of their names, in their order."""
    features = table["feature_names"]
    columns: dict[str, list[Any]] = {}
    for name, dtype in LAYOUT.items():
        if name in ADDED_LATER and name not in table:
            missing = torch.full((len(features),), torch.nan if name == "period" else 0.0)
            columns[name] = missing.tolist()
            continue
        check_tensor(table, name, dtype, (len(features),))
        columns[name] = table[name].tolist()
    for index, feature in enumerate(features):
        values = {name: columns[name][index] for name in LAYOUT}
        if feature_name(table, **values) != feature:
            raise ValueError(f"feature {feature!r} is not what its name says")


def feature_name(
    table: dict[str, Any], source: int, code: float, indicator: bool, period: float, phase: float
) -> str | None:
    """The name that data/layout.py gives to such a feature; null if it makes no such one."""
    if not 0 <= source < len(table["column_names"]):
        return None
    name: str = table["column_names"][source]
    categories = table["categories"].get(name)
    if indicator:
        is_alone = isnan(code) and isnan(period)
        return f"{name} missing" if is_alone else None
    if not isnan(period):
        cycles = {days: cycle for cycle, days in CYCLES.items()}
        waves = {0.0: "sine", 0.25: "cosine"}
        is_cycle = name in table.get("dates", {}) and isnan(code)
        if not (is_cycle and period in cycles and phase in waves):
            return None
        return f"{name} {cycles[period]} {waves[phase]}"
    if isnan(code):
        return None if categories else name
    if not categories or code not in range(len(categories)):
        return None
    return f"{name}={categories[int(code)]}"


def check_statistics(table: dict[str, Any], members: Any) -> None:
    """Refuse statistics that no training rows have."""
    shape: tuple[int, ...] = (len(table["feature_names"]),)
    if members is not None:
        shape = (len(members), *shape)
    for name in STATISTICS:
        check_tensor(table, name, torch.float64, shape)
    if not (table["fill"].isfinite().all() and table["mean"].isfinite().all()):
        raise ValueError("its means, or what replaces missing values, are not finite")
    if not (table["scale"] > 0).all():
        raise ValueError("a scale is not above 0")
    if "limit" in table:
        check_tensor(table, "limit", torch.float64, ())
        if not table["limit"] > 0:
            raise ValueError("the limit of its features is not above 0")


def check_tensor(
    table: dict[str, Any], name: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    """Refuse a value that is no tensor of this type and shape."""
    value = table.get(name)
    if not isinstance(value, Tensor):
        raise ValueError(f"its {name} is no tensor")
    if (value.dtype, tuple(value.shape)) != (dtype, shape):
        raise ValueError(
            f"its {name} is {value.dtype} of shape {tuple(value.shape)}; expected {dtype}, {shape}"
        )
