"""The classes of a stream's target column, collected from batches of its values."""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from data.labels import check_counts, check_number, texts_and_type, value_of
from data.values import Reading, check_type, plain

MAX_LABELS = 10_000


class StreamLabels:
    """Collects the labels of a target column, and then turns them into class indices.

    After `finish` there are `names`, `type` and `rows`, how many rows each class has in each split
    (classes, splits).

    Args:
        target: The column's name.
        source: How a message begins: which folder and target.
        reading: How values are written.
        is_text: Whether the user says that it is text, whatever it looks like.
        splits: Number of splits.
    """

    def __init__(
        self, target: str, source: str, reading: Reading, is_text: bool, splits: int
    ) -> None:
        self.target = target
        self.source = source
        self.reading = reading
        self.is_text = is_text
        self.splits = splits
        self.counts: Counter[tuple[Any, int]] = Counter()  # of a value in a split

    def add(self, frame: pl.DataFrame, codes: np.ndarray) -> np.ndarray:
        """Count the labels of some rows, and return whether each row has one (rows,).

        Args:
            frame: The rows.
            codes: The index of each row's split (rows,).
        """
        check_type(frame.get_column(self.target))
        column = plain(frame.get_column(self.target))
        self.dtype = column.dtype  # a number's is not Python's
        pairs = pl.DataFrame({"label": column, "split": codes})
        counted = pairs.group_by("label", "split").len()
        labels = counted.get_column("label")
        is_missing = texts_and_type(labels, self.reading, True, self.is_text)[0].is_null()
        for label, split, rows in counted.filter(~is_missing).iter_rows():
            self.counts[label, split] += rows
        if len(self.counts) > MAX_LABELS * self.splits:
            raise ValueError(
                f"{self.source} has more than {MAX_LABELS:,} values; give a column of classes"
            )
        known = column.is_not_null() & ~column.is_in(labels.filter(is_missing).implode())
        return known.to_numpy()

    def finish(self) -> None:
        """Find the classes.

        Raises:
            ValueError: The target cannot be learned.
        """
        values = list(dict.fromkeys(label for label, _ in self.counts))
        column = pl.Series(self.target, values, self.dtype)
        texts, self.type = texts_and_type(column, self.reading, True, self.is_text)
        text_of_value = dict(zip(values, texts, strict=True))
        totals: Counter[str] = Counter()
        for (label, _), rows in self.counts.items():
            totals[text_of_value[label]] += rows
        check_number(dict(totals), self.type, self.source)
        check_counts(dict(totals), self.source, "leave its rows out of the files")
        self.names = sorted(totals) if self.type == "text" else sorted(totals, key=value_of)
        index = {name: i for i, name in enumerate(self.names)}
        self.index_of_value = {value: index[text] for value, text in text_of_value.items()}
        self.rows = np.zeros((len(self.names), self.splits), np.int64)
        for (label, split), rows in self.counts.items():
            self.rows[self.index_of_value[label], split] += rows

    def indices(self, frame: pl.DataFrame) -> np.ndarray:
        """The class index of each row (rows,); -1 where it has none."""
        column = plain(frame.get_column(self.target))
        values = list(self.index_of_value)
        codes = column.replace_strict(
            pl.Series(values, dtype=self.dtype),
            list(self.index_of_value.values()),
            default=-1,
            return_dtype=pl.Int64,
        )
        return codes.to_numpy()
