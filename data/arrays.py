"""What a caller has (lists, tensors, sparse matrices, DataFrames, masked arrays) as an array."""

from typing import Any

import numpy as np

from cli.errors import first_line

MAX_DENSE_VALUES = 2**27  # of a sparse matrix that is made dense: 1 GiB of float64


def as_array(what: str, values: Any) -> np.ndarray:
    """An array of anything array-like, in the machine's byte order.

    >>> as_array("features", [[1, 2], [3, 4]]).shape
    (2, 2)

    Args:
        what: What the values are, for messages.
        values: The values; the masked ones of a masked array become None.

    Raises:
        ValueError: They cannot be made an array, or only one that is too large.
    """
    if hasattr(values, "detach"):  # a tensor, on any device
        values = values.detach().cpu()
    if hasattr(values, "toarray"):
        return densified(what, values)
    if isinstance(values, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(values)
        values = values.data.astype(object)
        values[mask] = None
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be made an array: {first_line(error)}") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def densified(what: str, matrix: Any) -> np.ndarray:
    """A sparse matrix (rows, columns) as an array; what is not stored is 0.

    Raises:
        ValueError: It has more than 2**27 values.
    """
    rows, columns = matrix.shape
    if rows * columns > MAX_DENSE_VALUES:
        raise ValueError(
            f"{what} is sparse, of {rows:,} rows and {columns:,} columns, and would take "
            f"{rows * columns / 2**27:.1f} GiB; reduce its columns, such as with TruncatedSVD"
        )
    array: np.ndarray = matrix.toarray()
    return array


def is_missing(values: np.ndarray) -> np.ndarray:
    """Which values of an array of any type are missing, in the shape of the array."""
    if values.dtype.kind == "f":
        missing: np.ndarray = np.isnan(values)
        return missing
    if values.dtype.kind != "O":
        return np.zeros(values.shape, dtype=bool)
    found = [is_missing_value(value) for value in values.flat]
    return np.array(found, dtype=bool).reshape(values.shape)


def is_missing_value(value: Any) -> bool:
    """Whether a value is None, NaN, or pandas' NA or NaT.

    >>> is_missing_value(None), is_missing_value(np.nan), is_missing_value("")
    (True, True, False)
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(value != value)


def value_text(value: Any) -> str | None:
    """A single value as text, None if it is missing; numbers of equal value have one text.

    >>> [value_text(value) for value in (np.str_("a"), b"a", 1.0, np.int8(1), True, np.nan)]
    ['a', 'a', '1', '1', 'true', None]
    """
    if is_missing_value(value):
        return None
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
