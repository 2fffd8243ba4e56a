"""Arrays and DataFrames as the rows that an estimator trains on."""

from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_array

from data.checks import check_values
from data.columns import Columns
from data.tabular import RawTable, TabularData


class Rows(TabularData):
    """A raw table as a DataModule that trains on all of its rows.

    With weights a batch has a third tensor: the weight of each row in the loss, 1 on average.

    Args:
        features: Rows (rows, columns) in their own units.
        targets: Class indices (rows,).
        num_classes: Number of classes; one without a row stays unlearned.
        batch_size: Rows in a step of the optimizer; None takes all at once.
        columns: What the columns mean; None if all are numbers.
        weights: The weight of each row (rows,); None if all are equal.
        class_weights: The weight of each class in the loss, beside those of the rows.
    """

    def __init__(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        num_classes: int,
        batch_size: int | None,
        columns: Columns | None = None,
        weights: np.ndarray | None = None,
        class_weights: list[float] | None = None,
    ) -> None:
        super().__init__(batch_size)
        if columns is None:
            columns = Columns([f"column {index}" for index in range(features.shape[1])])
        if weights is not None:
            counts = weights > 0
            features = features[counts]
            targets = targets[counts]
            weights = weights[counts]
        self.weights = weights
        self.by_class = np.ones(num_classes) if class_weights is None else np.array(class_weights)
        self.features = features
        self.table = RawTable(
            features,
            targets,
            columns.names,
            [str(index) for index in range(num_classes)],
            columns.categories,
            columns.dates,
        )

    def read(self) -> RawTable:  # scikit-learn has checked the rest, and a class may have no row
        check_values(self.features, self.table.column_names, self.table.categories)
        self.num_rows = len(self.table.targets)
        self.class_names = self.table.class_names
        self.num_classes = len(self.class_names)
        return self.table

    def split(self, targets: np.ndarray) -> dict[str, np.ndarray]:
        return {"train": np.arange(len(targets))}

    def setup(self, stage: str | None = None) -> None:
        is_first = not self.splits
        super().setup(stage)
        if is_first and self.weights is not None:
            self.encoder.fit(self.features, weights=self.weights)
            features = self.encoder.transform(self.features)
            weights = torch.from_numpy(self.weights * self.by_class[self.table.targets])
            weights = (weights / weights.mean()).float()
            self.splits = {"train": (features, self.splits["train"][1], weights)}  # type: ignore[dict-item]


def checked_weights(sample_weight: Any, rows: int) -> np.ndarray | None:
    """The weight of each row (rows,); None if all are equal.

    Raises:
        ValueError: They are not one finite number of 0 or more for each row, or all are 0.
    """
    if sample_weight is None or isinstance(sample_weight, Real):
        return None
    weights: np.ndarray = check_array(
        sample_weight, dtype=np.float64, ensure_2d=False, input_name="sample_weight"
    )
    if weights.shape != (rows,):
        raise ValueError(
            f"sample_weight is of shape {weights.shape}; give a number for each of {rows} rows"
        )
    if weights.min() < 0:
        raise ValueError(f"sample_weight has {weights.min():g}; give numbers of 0 or more")
    if weights.max() == 0:
        raise ValueError("sample_weight is zero for every row; give one above 0")
    return None if weights.min() == weights.max() else weights
