"""The classes of a table: a target column of text, whole numbers, or true and false."""

from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from cli.errors import in_list
from data.columns import category_codes, has_leading_zeros, shown
from data.values import LARGEST_WHOLE, Reading, canonical, is_boolean, text_of

LabelType = Literal["text", "int", "float", "bool"]  # LABEL_TYPES of the checkpoint

MAX_NUMERIC_CLASSES = 100  # numeric targets with more distinct values are rejected as regression
MAX_FRACTIONS = 10  # so are more values with decimals, if one is rare
MIN_CLASS_ROWS = 3
OTHER = "other"  # the class of merged rare classes


class Labels(NamedTuple):
    """The classes of a target column.

    Args:
        names: The class names in order: numbers by value, text alphabetically.
        indices: The class index of each row, (rows,); -1 for rows to leave out.
        type: What the labels are.
        notes: What was left out or merged, a line for each.
    """

    names: list[str]
    indices: np.ndarray
    type: LabelType
    notes: list[str]


def read_labels(
    column: pl.Series,
    source: str,
    reading: Reading,
    is_typed: bool,
    is_text: bool,
    unlabelled: str,
    rare_classes: str,
) -> Labels:
    """The classes of a target column.

    Args:
        column: All of its values.
        source: How a message begins: which table and target.
        reading: How numbers are written.
        is_typed: Whether text is text, as in a Parquet file; in a CSV file it may be numbers.
        is_text: Whether the user says that it is text, whatever it looks like.
        unlabelled: refuse or drop rows without a class.
        rare_classes: refuse, drop or merge classes of fewer than MIN_CLASS_ROWS rows.

    Raises:
        ValueError: A target that cannot be learned.
    """
    notes = []
    text, label_type = texts_and_type(column, reading, is_typed, is_text)
    missing = text.null_count()
    if missing and unlabelled == "refuse":
        first = int(text.is_null().arg_max() or 0)
        advice = "leave them out, or give --data.unlabelled drop"
        word = text_of(column)[first]
        if word is not None:
            advice += f'; if {word!r} is a class, --data.categorical "[{in_list(column.name)}]"'
        raise ValueError(
            f"{source} is missing in {missing} rows, first in row {first + 1}; {advice}"
        )
    if missing:
        notes.append(f"{missing:,} rows without a class are left out, and not counted")
    counts = dict(text.drop_nulls().value_counts().iter_rows())
    check_number(counts, label_type, source)
    rare = sorted(name for name in counts if counts[name] < MIN_CLASS_ROWS)
    if rare and rare_classes != "refuse":
        rows = sum(counts.pop(name) for name in rare)
        listed = ", ".join(shown(name) for name in rare[:5]) + ", ..." * (len(rare) > 5)
        if rare_classes == "merge":
            text = text.replace(rare, [OTHER] * len(rare))
            counts[OTHER] = counts.get(OTHER, 0) + rows
            label_type = "text"
            notes.append(f"{rows:,} rows of rare classes are one class, {OTHER!r}: {listed}")
        else:
            text = text.set(text.is_in(rare), None)
            notes.append(f"{rows:,} rows of rare classes are left out, and not counted: {listed}")
    check_counts(counts, source)
    names = sorted(counts) if label_type == "text" else sorted(counts, key=value_of)
    indices = text.replace_strict(names, range(len(names)), default=-1, return_dtype=pl.Int64)
    return Labels(names, indices.fill_null(-1).to_numpy(), label_type, notes)


def texts_and_type(
    column: pl.Series, reading: Reading, is_typed: bool, is_text: bool
) -> tuple[pl.Series, LabelType]:
    """The labels as text, null where missing, equal numbers spelled alike; and what they are."""
    text = text_of(column)
    if is_text:
        return text, "text"
    if column.dtype == pl.Boolean:
        return text, "bool"
    known = reading.known(text)
    if column.dtype.is_numeric() or not is_typed:
        numbers = reading.numbers(known)
        all_numbers = known.count() > 0 and numbers.null_count() == known.null_count()
        if all_numbers and not has_leading_zeros(known):
            whole = canonical(known)
            if whole.drop_nulls().str.contains(r"^-?\d+$").all():  # exact, however large
                return whole, "int"
            check_told_apart(whole, numbers, column.name)
            return canonical(text_of(numbers)), "float"
    known = reading.known_text(text)
    if is_boolean(known):
        return known.str.to_lowercase(), "bool"
    return canonical(known), "text"


def check_told_apart(text: pl.Series, numbers: pl.Series, target: str) -> None:
    """Refuse whole numbers that are different as text and equal as floats.

    Args:
        text: Labels, of which some have decimals.
        numbers: The same as numbers.
        target: Their column's name, for the message.
    """
    is_large = (numbers.abs() >= LARGEST_WHOLE) & text.str.contains(r"^-?\d+$")
    large = text.filter(is_large.fill_null(False))
    if large.n_unique() > numbers.filter(is_large.fill_null(False)).n_unique():
        raise ValueError(
            f"the target {target!r} has whole numbers such as {large[0]} beside decimals, which as "
            f'floats cannot be told apart; give --data.categorical "[{in_list(target)}]"'
        )


def value_of(name: str) -> float:
    """What the name of a class that is no text is sorted by.

    >>> sorted(["10", "9", "-2.5"], key=value_of), sorted(["true", "false"], key=value_of)
    (['-2.5', '9', '10'], ['false', 'true'])
    """
    if name in ("false", "true"):
        return name == "true"
    return int(name) if name.lstrip("-").isdigit() else float(name)


def check_number(counts: dict[str, int], label_type: LabelType, source: str) -> None:
    """Refuse a target of numbers that is a quantity, not a class."""
    if label_type not in ("int", "float"):
        return
    rare = sum(rows < MIN_CLASS_ROWS for rows in counts.values())
    has_many_fractions = label_type == "float" and len(counts) > MAX_FRACTIONS
    is_many = len(counts) > MAX_NUMERIC_CLASSES or (has_many_fractions and rare > 0)
    if is_many or rare > len(counts) / 2 > 1:
        raise ValueError(
            f"{source} is a number with {len(counts):,} values, "
            "which looks like regression; give classes"
        )


def check_counts(
    counts: dict[str, int], source: str, advice: str = "give --data.rare_classes drop or merge"
) -> None:
    """Refuse a target with a single class, or with one of too few rows.

    Args:
        counts: The rows of each class.
        source: How the message begins: which file and target.
        advice: What helps where a class has too few rows.
    """
    if len(counts) < 2:
        only = next(iter(counts), "missing")
        raise ValueError(
            f"{source} is {shown(only)} in every row; give one with two classes or more"
        )
    rarest = min(counts, key=lambda name: (counts[name], name))
    rows = counts[rarest]
    if rows < MIN_CLASS_ROWS:
        few = "1 row" if rows == 1 else f"{rows} rows"
        raise ValueError(
            f"{source} has {few} of class {shown(rarest)}; each class needs {MIN_CLASS_ROWS}: "
            f"add rows, or {advice}"
        )


def label_indices(
    column: pl.Series, class_names: list[str], label_type: LabelType, reading: Reading
) -> np.ndarray:
    """The class index of each label, -1 where missing, len(class_names) where it is no class."""
    text = text_of(column)
    if label_type in ("int", "float"):
        text = reading.known(text)
    codes = category_codes(text, class_names, reading)
    return codes.fill_null(-1).cast(pl.Int64).to_numpy()


def typed_names(class_names: list[str], label_type: LabelType) -> np.ndarray:
    """The class names as what the labels are, (classes,).

    >>> typed_names(["-1", "1"], "int"), typed_names(["false", "true"], "bool")
    (array([-1,  1]), array([False,  True]))
    """
    values: list[Any] = class_names
    if label_type == "bool":
        values = [name == "true" for name in class_names]
    elif label_type != "text":
        values = [int(name) if label_type == "int" else float(name) for name in class_names]
    return np.array(values, object if label_type == "text" else None)
