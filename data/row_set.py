"""RowSet: some rows of a table, remembered in little memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np


class RowSet:
    """Row indices of a table, held as a bit for each of its rows where they are in order.

    So 100 folds of a million rows take 25 MB, where int64 takes 800. A range is held as one, and
    few indices, or those in another order, in 32 bits each. numpy makes an array of it where it
    needs one, so that it takes the place of an index array.

    >>> rows = RowSet(np.array([1, 3]), table_rows=4)
    >>> len(rows), np.asarray(rows), np.array([5, 6, 7, 8])[rows]
    (2, array([1, 3]), array([6, 8]))

    Args:
        indices: The row indices, (rows,).
        table_rows: Rows of the table.
    """

    def __init__(self, indices: np.ndarray, table_rows: int) -> None:
        self.count = len(indices)
        self.table_rows = table_rows
        self.kind = "indices"
        steps = np.diff(indices)
        if self.count and (steps == 1).all():
            self.kind = "range"
            self.content = np.array([indices[0], indices[-1] + 1])
        elif 32 * self.count > table_rows and (steps > 0).all():
            self.kind = "bits"
            mask = np.zeros(table_rows, bool)
            mask[indices] = True
            self.content = np.packbits(mask)
        else:
            self.content = indices.astype(np.int32 if table_rows < 2**31 else np.int64)

    @classmethod
    def of(cls, rows: "np.ndarray | RowSet", table_rows: int) -> "RowSet":
        """Row indices as a RowSet, if they are none yet."""
        return rows if isinstance(rows, RowSet) else cls(rows, table_rows)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(np.asarray(self).tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.kind == "range":
            return np.arange(*self.content, dtype=dtype or np.int64)
        indices = self.content
        if self.kind == "bits":
            bits = np.unpackbits(self.content, count=self.table_rows)
            indices = np.flatnonzero(bits.view(bool))
        return indices.astype(dtype or np.int64)  # a copy
