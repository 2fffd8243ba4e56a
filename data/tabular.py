"""The DataModule of every table: split the rows, standardize the columns, make batches."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from data import checks
from data.checkpoint_format import FORMAT
from data.columns import Columns
from data.encoder import Encoder, Scaling
from data.labels import LabelType
from data.raw_table import RawTable as RawTable  # loaders import it from here
from data.sampling import EpochSampler, balanced_weights
from data.splits import ALL_ROWS, Cutter, draw_splits, remaining
from data.standardize import Splits as Splits
from data.standardize import standardize as standardize
from data.values import Reading

EVALUATION_ROWS = 65_536  # per batch: bounds the memory of an evaluation, changes no metric

RowsOn = Literal["auto", "device", "host"]


class TabularData(LightningDataModule):
    """A train/val/test split of a table, standardized with training-set statistics only.

    A subclass defines `load`. After `setup()` there are, for each split, `indices[split]`, its row
    indices in the table, and `splits[split]`, its standardized features (rows, num_features) and
    targets (rows,); further `num_features`, `num_classes`, `feature_names`, `class_names` and
    `encoder`. The checkpoint holds the encoder and the names, so it predicts from raw columns.

    A table with its own test set assigns `test_rows` in `load`, one with its own validation rows
    also `val_rows`. A table with random augmentation of training batches defines `augmentation`.

    Args:
        batch_size: Rows per optimizer step; null takes all training rows at once.
        test_fraction: Share of the rows kept for the one test at the end.
        val_fraction: Share of the rows that choose the best epoch; with 0 the last epoch is kept.
        stratify: Whether each split keeps the shares of the classes.
        split_seed: Seed of the split alone: runs with different --seed share their test rows.
        class_weight: balanced gives the training rows of every class the same total weight.
        scaling: standard, or robust: median and quartiles, with outliers limited (data/encoder.py).
        rows_on: Where rows are while train.py trains one network on a GPU: device, host, or auto,
            which is the device if they take at most half of its free memory.

    Raises:
        ValueError: A batch size below 1, or fractions that leave a split without a class.
    """

    make_loader: Callable[..., Iterable[Any]] = DataLoader  # training/fast.py has a faster one
    target = "target"  # name of the class column
    label_type: LabelType = "text"  # what its values are
    id_column: str | None = None  # a column that predictions repeat
    reading = Reading()  # how numbers are written
    members = 1  # networks that train.py trains as one, if it is not told
    held_back: np.ndarray | None = None  # test rows that evaluate.py leaves alone
    is_streamed = False  # whether the rows stay in files: data/stream.py
    embedding = 0  # units of an embedded number, if the network is not told
    splits: Splits = {}  # noqa: RUF012  # until `setup`

    def __init__(
        self,
        batch_size: int | None = None,
        test_fraction: float = 0.2,
        val_fraction: float = 0.0,
        stratify: bool = True,
        split_seed: int = 0,
        class_weight: Literal["balanced"] | None = None,
        scaling: Scaling = "standard",
        rows_on: RowsOn = "auto",
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise ValueError(
                f"batch_size is {batch_size}; give 1 or more, or null for all training rows at once"
            )
        fractions_fit = test_fraction + val_fraction < 1
        if not (0 < test_fraction < 1 and 0 <= val_fraction < 1 and fractions_fit):
            raise ValueError(
                f"test_fraction is {test_fraction} and val_fraction {val_fraction}; give a test "
                "fraction above 0, a validation fraction of 0 or more, and leave rows to train on"
            )
        self.save_hyperparameters(logger=False)
        self.batch_size = batch_size
        self.test_fraction = test_fraction
        self.val_fraction = val_fraction
        self.stratify = stratify
        self.split_seed = split_seed
        self.class_weight = class_weight
        self.scaling = scaling
        self.rows_on = rows_on
        self.test_rows: np.ndarray | None = None
        self.val_rows: np.ndarray | None = None
        self.groups: np.ndarray | None = None
        self.times: np.ndarray | None = None

    def load(self) -> RawTable:
        """Return the whole table; called once."""
        raise NotImplementedError(f"{type(self).__name__} must define load(self) -> RawTable")

    def about(self) -> str:
        """How the table's columns are used, for the user to read; empty if all are numbers."""
        return ""

    def augmentation(self, encoder: Encoder) -> Callable[[Tensor], Tensor] | None:
        """A random change of training features (rows, num_features); None for no change."""
        return None

    def example_images(self) -> dict[str, Tensor]:
        """Images (channels, height, width) for TensorBoard; none if the rows are not images."""
        return {}

    def setup(self, stage: str | None = None) -> None:
        if self.splits:  # Lightning calls this again for every stage
            return
        table = self.read()
        self.indices = self.split(table.targets)
        self.class_weights = self.weigh_classes(table.targets[self.indices["train"]])
        self.splits, self.encoder = standardize(table, self.indices, self.scaling)
        self.feature_names = self.encoder.layout.names
        self.num_features = len(self.feature_names)
        self.augment = self.augmentation(self.encoder)

    def read(self) -> RawTable:
        """Load the table, check it, and keep its names."""
        table = checks.read_table(self)
        self.targets = table.targets
        self.num_rows = len(remaining(len(table.targets), self.held_back))
        self.columns = Columns(table.column_names, table.categories, table.dates, self.reading)
        self.column_names = table.column_names
        self.class_names = table.class_names
        self.num_classes = len(table.class_names)
        self.groups = table.groups
        self.times = table.times
        return table

    def weigh_classes(self, targets: np.ndarray) -> list[float] | None:
        """Each class's weight in the loss, from the training rows' class indices; None for none."""
        if self.class_weight is None:
            return None
        return balanced_weights(targets, self.num_classes)

    def split(self, targets: np.ndarray) -> dict[str, np.ndarray]:
        """Row indices of each split."""
        fractions = {"test": self.test_fraction, "val": self.val_fraction}
        given = {"test": self.test_rows, "val": self.val_rows}
        splits = draw_splits(self.cutter(targets), self.class_names, fractions, given)
        checks.check_batch_size(self, len(splits["train"]))
        return splits

    def cutter(self, targets: np.ndarray, rows: np.ndarray | slice = ALL_ROWS) -> Cutter:
        """How these rows, of these class indices, are cut into splits and folds."""
        groups = None if self.groups is None else self.groups[rows]
        times = None if self.times is None else self.times[rows]
        return Cutter(targets, groups, times, self.stratify, self.split_seed)

    def train_dataloader(self) -> Iterable[Any]:
        dataset = TensorDataset(*self.splits["train"])
        batch_size = min(self.batch_size or len(dataset), len(dataset))
        # A full batch is not shuffled: the order of its rows does not change the gradient.
        shuffle = batch_size < len(dataset)
        # The seed is the run's: train.py seeds everything with it.
        sampler = EpochSampler(len(dataset), torch.initial_seed(), shuffle)
        return self.make_loader(dataset, batch_size=batch_size, sampler=sampler)

    def evaluation_dataloader(self, split: str) -> Iterable[Any]:
        return self.make_loader(TensorDataset(*self.splits[split]), batch_size=EVALUATION_ROWS)

    def val_dataloader(self) -> Iterable[Any]:
        return self.evaluation_dataloader("val") if self.val_fraction else []

    def test_dataloader(self) -> dict[str, Iterable[Any]]:
        return {split: self.evaluation_dataloader(split) for split in self.splits}

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        is_training = self.trainer is not None and self.trainer.training
        if self.augment is None or not is_training:
            return batch
        features, targets = batch
        return self.augment(features), targets

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to read raw columns and to name classes."""
        return {
            "format": FORMAT,
            "feature_names": self.encoder.layout.names,
            "class_names": self.class_names,
            "target": self.target,
            "label_type": self.label_type,
            "id_column": self.id_column,
            **self.columns.state(),
            **self.encoder.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.splits and not torch.equal(state_dict["mean"], self.encoder.mean):
            raise ValueError(
                "the checkpoint was trained on other rows; "
                "give the data settings of its config.yaml"
            )
