"""What a loader returned, converted to the table that is trained on, or refused in one line."""

from difflib import get_close_matches
from inspect import signature
from typing import Any

import numpy as np
import polars as pl

from data.arrays import as_array, is_missing
from data.columns import LARGEST, Columns
from data.frames import with_names
from data.order import check_val_rows, checked_rows, order_of
from data.raw_table import RawTable, in_memory
from data.store import LazyFeatures, Part, Store
from data.targets import class_indices, is_number, label_type, names_of
from data.typed import categorical_names, columns_of, whole_frame
from data.values import LARGEST_WHOLE


def read_table(datamodule: Any) -> RawTable:
    """What a datamodule's `load` returns, as arrays and lists of text.

    Its `test_rows` and `val_rows` become row indices; its `label_type` follows the labels, if the
    table has no class names.

    Args:
        datamodule: A TabularData.

    Raises:
        ValueError: What was returned is not a RawTable, or its parts do not fit together.
    """
    loader = type(datamodule).__name__
    if not hasattr(datamodule, "test_rows"):
        raise ValueError(
            f"{loader}.__init__ does not call super().__init__(); "
            "call it first, with the arguments of TabularData"
        )
    loaded = datamodule.load()
    try:
        table = checked(loaded, datamodule.target, datamodule.held_back is not None)
        datamodule.test_rows = checked_rows(datamodule.test_rows, len(table.targets))
        datamodule.val_rows = checked_rows(datamodule.val_rows, len(table.targets), "val_rows")
        check_val_rows(datamodule, len(table.targets))
    except ValueError as error:
        raise ValueError(f"{loader}.load: {error}") from error
    if loaded.class_names is None or not len(loaded.class_names):
        datamodule.label_type = label_type(loaded.targets)
    return table


def checked(table: Any, target: Any, may_be_unseen: bool = False) -> RawTable:
    """A table whose parts fit together.

    Args:
        table: What `load` returned.
        target: The name of the class column.
        may_be_unseen: Whether test rows of the user's own may have categories that are not known.
    """
    if not isinstance(table, RawTable):
        raise ValueError(
            f"it returned {kind_of(table)}; "
            "return RawTable(features, targets, column_names, class_names)"
        )
    features, columns = features_of(table.features)
    column_names = checked_names(table.column_names, columns.names, features.shape[1])
    targets, class_names = class_indices(table.targets, table.class_names)
    if len(targets) != len(features):
        raise ValueError(
            f"features has {len(features):,} rows and targets {len(targets):,}; "
            "give a target for each row"
        )
    if not isinstance(target, str):
        raise ValueError(f"target is {target!r}; set it to the name of the class column, a text")
    if target in column_names:
        raise ValueError(
            f"column_names has {target!r}, which is the target; take it out of the features, or "
            "set `target` to the name of the class column"
        )
    categories = {
        name: names_of(f"categories of {name!r}", values)
        for name, values in by_column("categories", table.categories, column_names).items()
    }
    # A frame's columns may have got other names.
    renamed = dict(zip(columns.names, column_names, strict=False))
    categories |= {renamed[name]: values for name, values in columns.categories.items()}
    dates = by_column("dates", table.dates, column_names)
    dates |= {renamed[name]: form for name, form in columns.dates.items()}
    if isinstance(features, np.ndarray):
        check_values(features, column_names, categories, may_be_unseen)
    groups, times = order_of(table.groups, table.times, len(features))
    return RawTable(
        features,
        targets,
        column_names,
        class_names,
        categories,
        dates,
        checked_channels(table.channels, features.shape[1]),
        groups,
        times,
    )


def kind_of(value: Any) -> str:
    """What a value is, for a message.

    >>> kind_of(None), kind_of((1, 2)), kind_of(7)
    ('nothing', 'a tuple', 'an int')
    """
    if value is None:
        return "nothing"
    name = type(value).__name__
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    return f"{article} {name}"


def features_of(features: Any) -> tuple[np.ndarray | LazyFeatures, Columns]:
    """Features of any kind as a raw table (rows, columns), and what the columns of a frame mean."""
    if isinstance(features, LazyFeatures):
        return features, Columns([])
    features = with_names(features)
    if not hasattr(features, "columns"):
        return feature_matrix(features), Columns([])
    frame = whole_frame(features)
    columns = columns_of(frame, categorical_names(features))
    return in_memory(LazyFeatures(columns, [Part(Store(frame.columns, frame=frame))])), columns


def feature_matrix(features: Any) -> np.ndarray:
    """Features of any kind as an array (rows, columns) of numbers, NaN where missing.

    Raises:
        ValueError: They are not a matrix of numbers, or an empty one.
    """
    matrix = as_array("features", features)
    if matrix.dtype.names:
        raise ValueError(
            "features is a structured array; "
            "give numpy.lib.recfunctions.structured_to_unstructured(features)"
        )
    if matrix.ndim > 2:
        raise ValueError(
            f"features is of shape {matrix.shape}; give (rows, columns): "
            "features.reshape(len(features), -1)"
        )
    if matrix.ndim < 2 or not matrix.size:
        raise ValueError(f"features is of shape {matrix.shape}; give (rows, columns)")
    if matrix.dtype.kind in "biuf":
        return matrix
    return to_numbers(matrix)


def to_numbers(matrix: np.ndarray) -> np.ndarray:
    """Objects (rows, columns) as float64, NaN where missing.

    Raises:
        ValueError: A value is not a number; its row and column are named.
    """
    missing = is_missing(matrix)
    is_other = [not isinstance(value, bool) and not is_number(value) for value in matrix.flat]
    others = np.argwhere(np.reshape(is_other, matrix.shape) & ~missing)
    for row, column in others:
        raise ValueError(
            f"features has {matrix[row, column]!r} in row {row + 1}, column {column + 1}; give "
            "numbers, or a DataFrame, whose columns of text become categories"
        )
    numbers = np.full(matrix.shape, np.nan)
    numbers[~missing] = matrix[~missing].astype(float)
    return numbers


def checked_names(given: Any, frame_names: list[str], columns: int) -> list[str]:
    """The column names as text: those that are given, or those of a DataFrame.

    Args:
        given: The names that are given, if any.
        frame_names: The names of the features, if they are a DataFrame.
        columns: The number of columns.

    Raises:
        ValueError: Their number is not that of the columns, or two are the same.
    """
    column_names = names_of("column_names", given)
    if not column_names and not frame_names:
        raise ValueError(f"column_names is empty; give a name for each of {columns} columns")
    if not column_names:
        return frame_names
    if len(column_names) != columns:
        raise ValueError(
            f"column_names has {len(column_names)} names and features {columns} columns; "
            "give a name for each column"
        )
    if sorted(column_names) == sorted(frame_names) and column_names != frame_names:
        raise ValueError(
            "column_names has the names of features in another order; leave it out, or reorder "
            "features"
        )
    return column_names


def by_column(what: str, given: Any, column_names: list[str]) -> dict[str, Any]:
    """What is given of some columns, by their names as text.

    Raises:
        ValueError: A name that no column has.
    """
    named = {str(key): value for key, value in dict(given or {}).items()}
    for name in named:
        if name not in column_names:
            nearest = get_close_matches(name, column_names, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"{what} has {name!r}, which is not in column_names; nearest: {nearest!r}"
            )
    return named


def check_values(
    features: np.ndarray,
    column_names: list[str],
    categories: dict[str, list[str]],
    may_be_unseen: bool = False,
) -> None:
    """Refuse numbers that are infinite or too large, and indices without a category.

    Args:
        features: The raw table (rows, columns).
        column_names: The columns' names.
        categories: The categories of each text column.
        may_be_unseen: Whether the index behind the last category is one, for unseen ones.

    Raises:
        ValueError: There is one; the message names its row and column.
    """
    if features.dtype.kind == "f":
        # fmax and fmin skip NaN without a copy of the table.
        largest = np.maximum(np.fmax.reduce(features), -np.fmin.reduce(features))
        for column in np.flatnonzero(largest.astype(float) > LARGEST).tolist():
            row = int((np.abs(features[:, column]) > LARGEST).argmax())
            raise ValueError(
                f"features has {features[row, column]} in row {row + 1}, column "
                f"{column_names[column]!r}; give a number up to {LARGEST:g}, or NaN where missing"
            )
    elif features.dtype.kind in "iu":
        largest = np.maximum(features.max(0).astype(float), -features.min(0).astype(float))
        for column in np.flatnonzero(largest >= LARGEST_WHOLE).tolist():
            name = column_names[column]
            # Refuses a number that float64 does not have, and names its row.
            Columns([name]).values(pl.Series(name, features[:, column]))
    for column, name in enumerate(column_names):
        if name in categories:
            count = len(categories[name]) + may_be_unseen
            check_codes(features[:, column].astype(float), name, count)


def check_codes(codes: np.ndarray, name: str, count: int) -> None:
    """Refuse an index (rows,) that is not one of `count` categories; NaN is missing."""
    known = np.isin(codes, np.arange(count)) | np.isnan(codes)
    if not known.all():
        row = int((~known).argmax())
        raise ValueError(
            f"features has {codes[row]:g} in row {row + 1}, column {name!r}; give the index of one "
            f"of its {count} categories, from 0, or NaN where missing"
        )


def checked_channels(channels: Any, columns: int) -> np.ndarray | None:
    """The channel of each column (columns,), if there are channels."""
    if channels is None:
        return None
    array = np.asarray(channels)
    if array.shape != (columns,):
        raise ValueError(
            f"channels is of shape {array.shape}; give the channel of each of {columns} columns"
        )
    return array


def check_batch_size(datamodule: Any, rows: int) -> None:
    """Refuse a batch that is larger than the training rows; the default of a class may be.

    Args:
        datamodule: A TabularData.
        rows: Number of training rows.

    Raises:
        ValueError: It is larger.
    """
    default = signature(type(datamodule)).parameters.get("batch_size")
    is_default = default is not None and datamodule.batch_size == default.default
    if datamodule.batch_size is None or datamodule.batch_size <= rows or is_default:
        return
    raise ValueError(
        f"batch_size is {datamodule.batch_size}, more than the {rows:,} training rows; give at "
        f"most {rows}, or null for all of them at once"
    )
