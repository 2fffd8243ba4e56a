"""The DataModule that every table shares: split, standardize, batches on the training device."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from sklearn.model_selection import train_test_split
from torch import Tensor

from data.checkpoint_format import FORMAT
from data.encoder import Encoder, Layout

EVALUATION_ROWS = (
    65_536  # rows per batch where nothing is trained: bounds memory, changes no figure
)


class RawTable(NamedTuple):
    """A table in memory, as it was measured.

    Shapes: features (rows, columns) in their own units, NaN where missing, a text column as numbers of its categories;
    targets (rows,), integers from 0 to num_classes - 1. `categories` has the text columns' categories by column name,
    `channels` (columns,) the channel of each column, where columns share one mean and deviation.
    """

    features: np.ndarray
    targets: np.ndarray
    column_names: list[str]
    class_names: list[str]
    categories: dict[str, list[str]] = {}  # noqa: RUF012  # never changed
    channels: np.ndarray | None = None

    def layout(self, rows: np.ndarray | None = None) -> Layout:
        """Which features these rows make; null takes all."""
        features = self.features if rows is None else self.features[rows]
        text = {
            i: self.categories[name]
            for i, name in enumerate(self.column_names)
            if name in self.categories
        }
        return Layout.of(features, text, self.column_names)


Splits = dict[
    str, tuple[Tensor, Tensor]
]  # of each part: standardized features (rows, num_features), targets (rows,)


def cut(
    rows: np.ndarray, size: int, targets: np.ndarray, stratify: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers in two: those that remain, and `size` of them drawn at random.

    Stratified shares of a class of three or four rows round to none: then one of its rows takes the place of one of the
    most frequent class.
    """
    labels = targets[rows] if stratify else None
    remain, drawn = train_test_split(rows, test_size=size, random_state=seed, stratify=labels)
    for rare in np.setdiff1d(targets[remain], targets[drawn]) if stratify else ():
        i, j = (
            np.flatnonzero(targets[remain] == rare),
            np.flatnonzero(targets[drawn] == np.bincount(targets[drawn]).argmax()),
        )
        if len(i) > 1 and len(j) > 1:
            remain[i[0]], drawn[j[0]] = drawn[j[0]], remain[i[0]]
    return remain, drawn


def standardize(
    table: RawTable, rows: dict[str, np.ndarray], layout: Layout | None = None
) -> tuple[Splits, Encoder]:
    """The rows of each part as tensors of features, by the statistics of the training rows alone; and the encoder.

    Without a layout the training rows make it; the folds of a table share one.
    """
    encoder = Encoder(layout or table.layout(rows["train"])).fit(
        table.features[rows["train"]], table.channels
    )
    if encoder.scale.isinf().all():
        raise ValueError("every column is the same in all training rows; give columns that differ")
    parts = {}
    for part, numbers in rows.items():
        parts[part] = (
            encoder.transform(table.features[numbers]),
            torch.from_numpy(table.targets[numbers]).long(),
        )
    return parts, encoder


def row_order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `rows` rows in one epoch, a function of seed and epoch alone: a resumed run meets the same batches.

    >>> sorted(row_order(4, seed=0, epoch=7).tolist())
    [0, 1, 2, 3]
    """
    return np.random.default_rng((seed, epoch)).permutation(rows)


class Batches:
    """Tensors cut into batches; Lightning takes it where it takes a DataLoader.

    A batch is a slice of tensors that already lie on the device: no row is fetched, collated or copied over alone.
    The last batch holds what is left over. `order` gives the epoch's row numbers, of which process `rank` takes
    every `world_size`-th; they wrap around, as in DistributedSampler, so that all processes take as many steps.

    >>> [rows.tolist() for rows, in Batches([torch.arange(5)], batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        batch_size: int,
        order: Callable[[], np.ndarray] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.tensors, self.batch_size, self.order = tensors, batch_size, order
        self.rank, self.world_size = rank, world_size
        self.rows = -(-len(tensors[0]) // world_size)

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        tensors = self.tensors
        if self.order is not None:
            share = np.resize(self.order(), self.rows * self.world_size)[
                self.rank :: self.world_size
            ]
            tensors = [tensor[torch.from_numpy(share)] for tensor in tensors]
        # A generator asks for the order only when a batch is fetched: before, a resumed run's epoch is not known.
        yield from zip(*(tensor.split(self.batch_size) for tensor in tensors), strict=True)


class TabularData(LightningDataModule):
    """A table in three parts, standardized by what its training rows alone say. Subclasses `load` the table.

    After `setup()`: `num_features`, `num_classes`, `feature_names`, `class_names`; `indices[part]`, the row numbers of
    "train", "val" and "test"; `splits[part]`, their standardized features (rows, num_features) and targets (rows,);
    `encoder`, which goes into the checkpoint with the names, so it can predict from raw columns by itself.

    A table that has a test part of its own sets `test_rows` in `load`; one that changes its training rows at random,
    batch by batch, defines `augmentation`.

    Args:
        batch_size: Rows in a step of the optimizer; null takes all training rows at once.
        test_fraction: Share of the rows kept for the one test at the end.
        val_fraction: Share of the rows that choose the best epoch; with 0 the last epoch is kept.
        stratify: Whether each part keeps the classes' shares.
        split_seed: Seed of the split alone, so that runs with other seeds are tested on the same rows.
        class_weight: balanced makes the rows of each class weigh as much in the loss as those of any other.

    Raises:
        ValueError: A batch size below 1, or fractions that leave a part without a class.
    """

    def __init__(
        self,
        batch_size: int | None = None,
        test_fraction: float = 0.2,
        val_fraction: float = 0.0,
        stratify: bool = True,
        split_seed: int = 0,
        class_weight: Literal["balanced"] | None = None,
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise ValueError(
                f"batch_size is {batch_size}; give 1 or more, or null for all training rows at once"
            )
        if not (
            0 < test_fraction < 1 and 0 <= val_fraction < 1 and test_fraction + val_fraction < 1
        ):
            raise ValueError(
                f"test_fraction is {test_fraction} and val_fraction {val_fraction}; "
                "give a test fraction above 0, a validation fraction of 0 or more, and leave rows to train on"
            )
        self.save_hyperparameters(logger=False)
        self.batch_size, self.split_seed, self.stratify = batch_size, split_seed, stratify
        self.test_fraction, self.val_fraction, self.class_weight = (
            test_fraction,
            val_fraction,
            class_weight,
        )
        self.splits: Splits = {}
        self.test_rows: np.ndarray | None = None

    def load(self) -> RawTable:
        """Return the whole table; called once."""
        raise NotImplementedError(f"{type(self).__name__} must define load(self) -> RawTable")

    def setup(self, stage: str | None = None) -> None:
        if self.splits:  # Lightning calls this again for every stage
            return
        table = self.read()
        self.indices = self.split(table.targets)
        self.splits, self.encoder = standardize(table, self.indices)
        self.feature_names = self.encoder.layout.names
        self.num_features = len(self.feature_names)
        self.augment = self.augmentation(self.encoder)

    def read(self) -> RawTable:
        """Load the table and take down its names."""
        table = self.load()
        self.column_names, self.categories, self.class_names = (
            table.column_names,
            table.categories,
            table.class_names,
        )
        self.num_classes = len(table.class_names)
        counts = np.bincount(table.targets, minlength=self.num_classes)
        self.class_weights = (
            (counts.sum() / (self.num_classes * counts)).tolist() if self.class_weight else None
        )
        return table

    def about(self) -> str:
        """What the program made of the table's columns, for its user to read; nothing where they are all numbers."""
        return ""

    def augmentation(self, encoder: Encoder) -> Callable[[Tensor], Tensor] | None:
        """What changes a batch of training features (rows, num_features) that this encoder made; null for nothing."""
        return None

    def example_images(self) -> dict[str, Tensor]:
        """Pictures (channels, height, width) of what the network sees, for TensorBoard; none of what is no image."""
        return {}

    def split(self, targets: np.ndarray) -> dict[str, np.ndarray]:
        """Row numbers of each part; the test rows are drawn first, so another `val_fraction` keeps them."""
        fractions = {"test": self.test_fraction, "val": self.val_fraction}
        rows = {"train": np.arange(len(targets))}
        try:
            for part, fraction in fractions.items():
                if part == "test" and self.test_rows is not None:
                    rows["train"], rows["test"] = (
                        np.setdiff1d(rows["train"], self.test_rows),
                        self.test_rows,
                    )
                elif fraction:
                    size = round(fraction * len(targets))
                    rows["train"], rows[part] = cut(
                        rows["train"], size, targets, self.stratify, self.split_seed
                    )
            for part, numbers in rows.items():
                missing = set(range(self.num_classes)) - set(targets[numbers].tolist())
                if missing:
                    raise ValueError(f"the {part} part has no {self.class_names[min(missing)]!r}")
        except ValueError as error:
            raise ValueError(
                f"test_fraction {self.test_fraction} and val_fraction {self.val_fraction} of {len(targets)} rows leave "
                f"a part without some of the {self.num_classes} classes ({error}); change the fractions"
            ) from error
        return {part: rows[part] for part in ("train", "val", "test") if part in rows}

    def batches(self, part: str, **arguments: Any) -> Batches:
        """One part's batches, on the training device."""
        device = self.trainer.strategy.root_device if self.trainer else "cpu"
        size = self.batch_size or len(self.indices[part]) if part == "train" else EVALUATION_ROWS
        return Batches([tensor.to(device) for tensor in self.splits[part]], size, **arguments)

    def train_dataloader(self) -> Batches:
        trainer, rows = self.trainer, len(self.indices["train"])
        assert trainer is not None
        seed = torch.initial_seed()  # the run's: train.py seeds everything with it

        def order() -> np.ndarray:
            # One batch of all rows needs no shuffling; unshuffled, its sums are those of plain gradient descent.
            return (
                row_order(rows, seed, trainer.current_epoch) if self.batch_size else np.arange(rows)
            )

        return self.batches(
            "train", order=order, rank=trainer.global_rank, world_size=trainer.world_size
        )

    # Every process evaluates all rows: their metrics agree without padding or counting a row twice.

    def val_dataloader(self) -> Batches | list[Batches]:
        return self.batches("val") if self.val_fraction else []

    def test_dataloader(self) -> dict[str, Batches]:
        return {part: self.batches(part) for part in self.splits}

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        return batch  # it is there already

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.augment is None or not (self.trainer and self.trainer.training):
            return batch
        features, targets = batch
        return self.augment(
            features
        ), targets  # train/loss and train/accuracy are those of augmented rows

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to read raw columns and to name classes."""
        return {
            "format": FORMAT,
            "column_names": self.column_names,
            "categories": self.categories,
            "feature_names": self.encoder.layout.names,
            "class_names": self.class_names,
            "target": getattr(self, "target", "target"),
            **self.encoder.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.splits and not torch.equal(state_dict["mean"], self.encoder.mean):
            raise ValueError(
                "the checkpoint was trained on other rows; give the data settings of its config.yaml"
            )
