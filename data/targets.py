"""Labels of any kind as class indices, and names of any kind as text."""

from difflib import get_close_matches
from typing import Any

import numpy as np

from data.arrays import as_array, is_missing, value_text
from data.labels import MAX_NUMERIC_CLASSES, LabelType


def class_indices(targets: Any, class_names: Any) -> tuple[np.ndarray, list[str]]:
    """The class indices (rows,) of targets, and the names of the classes.

    Targets are class indices, or labels of any kind. Labels are found by name among the class
    names; where there are none, the labels are the names, numbers by value and texts
    alphabetically. Beside other names, -1 and 1, or 1 to K, or false and true, are the classes in
    order.

    >>> class_indices(["red", "blue", "red"], [])
    (array([1, 0, 1]), ['blue', 'red'])
    >>> class_indices([-1, 1, 1], ["no", "yes"])
    (array([0, 1, 1]), ['no', 'yes'])

    Args:
        targets: The target of each row.
        class_names: The names of the classes; none takes the labels.

    Raises:
        ValueError: A target is missing or has no class, a class has no row, or targets are not
            classes.
    """
    values = label_values(as_array("targets", targets))
    labels, label_of_row = np.unique(values, return_inverse=True)
    if len(labels) < 2:
        raise ValueError(f"targets is {labels[0]} in every row; give two classes or more")
    names = [name.strip() for name in names_of("class_names", class_names)]
    if names:
        indices = index_of_labels(labels, names)
        check_rows(indices, names)
        return indices[label_of_row], names
    if labels.dtype.kind in "iuf" and len(labels) > MAX_NUMERIC_CLASSES:
        raise ValueError(
            f"targets is a number with {len(labels):,} values, which looks like regression; "
            "give classes"
        )
    return label_of_row, names_of("targets", labels)


def label_values(targets: np.ndarray) -> np.ndarray:
    """The target of each row (rows,), as numbers or as stripped text.

    Raises:
        ValueError: They are not one for each row, or some are missing.
    """
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim != 1 or not len(targets):
        raise ValueError(
            f"targets is of shape {targets.shape}; give (rows,), such as targets.argmax(1) of a "
            "column for each class"
        )
    missing = is_missing(targets)
    values = targets
    if targets.dtype.kind not in "iuf":
        texts = [str(value_text(value)).strip() for value in targets]
        values = np.array(texts, dtype=object)
        missing |= values == ""
    if missing.any():
        raise ValueError(
            f"targets is missing in {missing.sum()} of {len(values)} rows, first in row "
            f"{missing.argmax() + 1}; leave them out"
        )
    if targets.dtype.kind == "O" and all(map(is_number, targets)):
        values = np.array(targets.tolist())
    return values


def is_number(value: Any) -> bool:
    """Whether a value is a number, and no boolean."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def label_type(targets: Any) -> LabelType:
    """What labels are, so that predictions are of the same type.

    >>> label_type(["a", "b"]), label_type([1, 2.0]), label_type([0.5, 1]), label_type([True])
    ('text', 'int', 'float', 'bool')
    """
    array = as_array("targets", targets).reshape(-1)
    if all(isinstance(value, bool | np.bool_) for value in array):
        return "bool"
    values = label_values(array)
    if values.dtype.kind not in "iuf":
        return "text"
    return "int" if (values == np.floor(values)).all() else "float"


def index_of_labels(labels: np.ndarray, names: list[str]) -> np.ndarray:
    """The class index of each distinct label, sorted (labels,).

    Raises:
        ValueError: A label has no class, or it could be either a name or an index.
    """
    texts = names_of("targets", labels)
    unknown = [text for text in texts if text not in names]
    by_name = np.array([names.index(text) for text in texts if text in names])
    in_order = np.arange(len(names))
    outside = labels[~np.isin(labels, in_order)]
    if not len(outside):
        indices: np.ndarray = labels.astype(np.int64)
        if not unknown and (by_name != indices).any():
            raise ValueError(
                f"targets has {texts[0]}, which is both the index of a class and the name of "
                "another; give targets as text, or other class_names"
            )
        return indices
    if not unknown:
        return by_name
    customary = [[-1, 1], ["false", "true"], (in_order + 1).tolist()]
    if len(labels) == len(names) and labels.tolist() in customary:
        return in_order
    if labels.dtype.kind in "iuf":
        raise ValueError(
            f"targets has {outside[0]}; give class indices from 0 to {len(names) - 1}, or leave "
            "class_names out, and the labels are the names"
        )
    nearest = get_close_matches(unknown[0], names, n=1, cutoff=0.0)[0]
    raise ValueError(
        f"targets has {unknown[0]!r}, which is not in class_names; nearest: {nearest!r}"
    )


def check_rows(indices: np.ndarray, names: list[str]) -> None:
    """Refuse a class without rows."""
    for index, name in enumerate(names):
        if index not in indices:
            raise ValueError(
                f"class_names has {name!r}, which is the target of no row; leave it out"
            )


def names_of(what: str, names: Any) -> list[str]:
    """Names of any kind as a list of text.

    >>> names_of("class_names", np.array([1, 2])), names_of("class_names", ("a", np.str_("b")))
    (['1', '2'], ['a', 'b'])

    Args:
        what: What they are, for messages.
        names: The names: a list, an array, an index; None is no names.

    Raises:
        ValueError: They are a text or have no order, one is missing, or two are the same.
    """
    if names is None:
        return []
    if isinstance(names, str | bytes | set | frozenset) or not hasattr(names, "__iter__"):
        raise ValueError(f"{what} is {names!r}; give a list of names")
    texts: list[str] = []
    known: set[str] = set()
    for name in names:
        text = value_text(name)
        if text is None:
            raise ValueError(f"{what} has no text in place {len(texts) + 1}; give a name")
        if text in known:
            raise ValueError(f"{what} has {text!r} twice; rename one")
        known.add(text)
        texts.append(text)
    return texts
