"""What a loader says about its rows: groups, times, and which are for validation and the test."""

from typing import Any

import numpy as np

MISSING_OBJECTS = ("None", "nan", "NaN", "NaT", "<NA>")


def order_of(
    groups: np.ndarray | None, times: np.ndarray | None, rows: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The groups and times of a table's rows as whole numbers, checked.

    Raises:
        ValueError: Both are given, or one of them cannot be used.
    """
    if groups is not None and times is not None:
        raise ValueError("the table has groups and times; give one of them")
    if groups is not None:
        return group_codes(groups, rows), None
    if times is not None:
        return None, time_numbers(times, rows)
    return None, None


def group_codes(groups: Any, rows: int) -> np.ndarray:
    """The group of each row (rows,) as a whole number from 0, whatever groups are called.

    >>> group_codes(["ann", "bob", "ann"], rows=3)
    array([0, 1, 0])

    Raises:
        ValueError: A group is missing, or there are not as many as rows.
    """
    values = np.asarray(groups)
    check_complete("groups", values, rows)
    if values.dtype.kind == "O":  # which may not be comparable
        values = values.astype(str)
    codes: np.ndarray = np.unique(values, return_inverse=True)[1]
    return codes


def time_numbers(times: Any, rows: int) -> np.ndarray:
    """The time of each row (rows,) as a whole number from 0 that orders them.

    >>> time_numbers(np.array(["2024-02-01", "2023-01-01"], "datetime64[D]"), rows=2)
    array([1, 0])

    Raises:
        ValueError: A time is missing or neither a number nor a date, or there are not as many as
            rows.
    """
    values = np.asarray(times)
    if values.dtype.kind not in "iufM":
        raise ValueError(
            f"times are an array of {values.dtype}; give one of numbers or of datetime64"
        )
    check_complete("times", values, rows)
    order: np.ndarray = np.unique(values, return_inverse=True)[1]
    return order


def check_complete(name: str, values: np.ndarray, rows: int) -> None:
    """Refuse groups or times that are not one for each row, or missing in some."""
    if values.shape != (rows,):
        raise ValueError(f"{name} have the shape {values.shape}; give one for each of {rows} rows")
    missing = np.zeros(rows, bool)
    if values.dtype.kind in "fOM":
        missing = np.isin(values.astype(str), MISSING_OBJECTS)
    if missing.any():
        raise ValueError(
            f"{name} are missing in {missing.sum()} rows, first in row {missing.argmax() + 1}; "
            "fill them, or leave the rows out"
        )


def checked_rows(given: Any, rows: int, name: str = "test_rows") -> np.ndarray | None:
    """The row indices that a loader assigned to `name`; a mask of the rows becomes indices.

    >>> checked_rows([True, False, True], 3)
    array([0, 2])

    Raises:
        ValueError: An index that no row has, one that is there twice, none, or all rows.
    """
    if given is None:
        return None
    array = np.asarray(given)
    if array.dtype == bool and array.shape == (rows,):
        array = np.flatnonzero(array)
    if array.size in (0, rows):
        raise ValueError(f"{name} has {array.size} of {rows} rows; give some, and not all")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} is not a list of row indices; give whole numbers, or a mask")
    check_indices(array, rows, name)
    return array.astype(np.int64)


def check_indices(indices: np.ndarray, rows: int, name: str) -> None:
    """Refuse row indices that no row has, or that are there twice."""
    outside = indices[(indices < 0) | (indices >= rows)]
    if len(outside):
        raise ValueError(f"{name} has {outside[0]}; give row indices from 0 to {rows - 1}")
    values, counts = np.unique(indices, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"{name} has {values[counts.argmax()]} twice; give each row once")


def check_val_rows(datamodule: Any, rows: int) -> None:
    """Take the validation rows that a loader assigned for the share of rows to validate on.

    Raises:
        ValueError: Another share was asked for, or a row is for the test too.
    """
    if datamodule.val_rows is None:
        return
    share = len(datamodule.val_rows) / rows
    if datamodule.val_fraction not in (0, share):
        raise ValueError(
            f"val_fraction is {datamodule.val_fraction}, but {len(datamodule.val_rows)} rows are "
            "given for validation; leave it out"
        )
    if datamodule.test_rows is not None:
        shared = np.intersect1d(datamodule.val_rows, datamodule.test_rows)
        if len(shared):
            raise ValueError(f"row {shared[0]} is in val_rows and in test_rows; give it once")
    datamodule.val_fraction = share
