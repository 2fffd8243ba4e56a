"""The DataModule that every table shares: split, standardize, batches on the training device."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor

EVALUATION_ROWS = 65_536  # rows per batch where nothing is trained: bounds memory, changes no figure


class Table(NamedTuple):
    """A table in memory, as it was measured.

    Shapes: features (rows, num_features) in their own units; targets (rows,), integers from 0 to num_classes - 1.
    """

    features: np.ndarray
    targets: np.ndarray
    feature_names: list[str]
    class_names: list[str]


Parts = dict[str, tuple[Tensor, Tensor]]  # of each part: standardized features (rows, num_features), targets (rows,)


def cut(rows: np.ndarray, size: int, targets: np.ndarray, stratify: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers in two: those that remain, and `size` of them drawn at random."""
    labels = targets[rows] if stratify else None
    remain, drawn = train_test_split(rows, test_size=size, random_state=seed, stratify=labels)
    return remain, drawn


def standardize(table: Table, rows: dict[str, np.ndarray]) -> tuple[Parts, StandardScaler]:
    """The rows of each part in units of the training rows' deviation from their mean, as tensors; and the scaler.

    Source: the article, section 4.3, step 1, with statistics of the training rows alone.
    """
    scaler = StandardScaler().fit(table.features[rows["train"]].astype(np.float64))
    parts = {}
    for part, numbers in rows.items():
        features = torch.from_numpy(scaler.transform(table.features[numbers].astype(np.float64))).float()
        parts[part] = features, torch.from_numpy(table.targets[numbers]).long()
    return parts, scaler


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
            share = np.resize(self.order(), self.rows * self.world_size)[self.rank :: self.world_size]
            tensors = [tensor[torch.from_numpy(share)] for tensor in tensors]
        # A generator asks for the order only when a batch is fetched: before, a resumed run's epoch is not known.
        yield from zip(*(tensor.split(self.batch_size) for tensor in tensors), strict=True)


class TabularData(LightningDataModule):
    """A table in three parts, standardized by what its training rows alone say. Subclasses `load` the table.

    After `setup()`: `num_features`, `num_classes`, `feature_names`, `class_names`; `rows[part]`, the row numbers of
    "train", "val" and "test"; `parts[part]`, their standardized features (rows, num_features) and targets (rows,).
    Means, scales and names go into the checkpoint, so it can predict from raw measures by itself.

    Args:
        batch_size: Rows in a step of the optimizer; null takes all training rows at once.
        test_fraction: Share of the rows kept for the one test at the end.
        val_fraction: Share of the rows that choose the best epoch; with 0 the last epoch is kept.
        stratify: Whether each part keeps the classes' shares.
        split_seed: Seed of the split alone, so that runs with other seeds are tested on the same rows.

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
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more, or null for all training rows at once")
        if not (0 < test_fraction < 1 and 0 <= val_fraction < 1 and test_fraction + val_fraction < 1):
            raise ValueError(
                f"test_fraction is {test_fraction} and val_fraction {val_fraction}; "
                "give a test fraction above 0, a validation fraction of 0 or more, and leave rows to train on"
            )
        self.save_hyperparameters(logger=False)
        self.batch_size, self.split_seed, self.stratify = batch_size, split_seed, stratify
        self.test_fraction, self.val_fraction = test_fraction, val_fraction
        self.parts: Parts = {}

    def load(self) -> Table:
        """Return the whole table; called once."""
        raise NotImplementedError(f"{type(self).__name__} must define load(self) -> Table")

    def setup(self, stage: str | None = None) -> None:
        if self.parts:  # Lightning calls this again for every stage
            return
        table = self.read()
        self.rows = self.split(table.targets)
        self.parts, self.scaler = standardize(table, self.rows)

    def read(self) -> Table:
        """Load the table and take down its names."""
        table = self.load()
        self.feature_names, self.class_names = table.feature_names, table.class_names
        self.num_features, self.num_classes = len(table.feature_names), len(table.class_names)
        return table

    def split(self, targets: np.ndarray) -> dict[str, np.ndarray]:
        """Row numbers of each part; the test rows are drawn first, so another `val_fraction` keeps them."""
        fractions = {"test": self.test_fraction, "val": self.val_fraction}
        rows = {"train": np.arange(len(targets))}
        try:
            for part, fraction in fractions.items():
                if fraction:
                    size = round(fraction * len(targets))
                    rows["train"], rows[part] = cut(rows["train"], size, targets, self.stratify, self.split_seed)
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
        size = self.batch_size or len(self.rows[part]) if part == "train" else EVALUATION_ROWS
        return Batches([tensor.to(device) for tensor in self.parts[part]], size, **arguments)

    def train_dataloader(self) -> Batches:
        trainer, rows = self.trainer, len(self.rows["train"])
        assert trainer is not None
        seed = torch.initial_seed()  # the run's: train.py seeds everything with it

        def order() -> np.ndarray:
            # One batch of all rows needs no shuffling; unshuffled, its sums are those of plain gradient descent.
            return row_order(rows, seed, trainer.current_epoch) if self.batch_size else np.arange(rows)

        return self.batches("train", order=order, rank=trainer.global_rank, world_size=trainer.world_size)

    # Every process evaluates all rows: their metrics agree without padding or counting a row twice.

    def val_dataloader(self) -> Batches | list[Batches]:
        return self.batches("val") if self.val_fraction else []

    def test_dataloader(self) -> dict[str, Batches]:
        return {part: self.batches(part) for part in self.parts}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # it is there already

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to read raw features and to name classes."""
        return {
            "mean": torch.from_numpy(self.scaler.mean_),
            "scale": torch.from_numpy(self.scaler.scale_),
            "feature_names": self.feature_names,
            "class_names": self.class_names,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.parts and not torch.equal(state_dict["mean"], torch.from_numpy(self.scaler.mean_)):
            raise ValueError("the checkpoint was trained on other rows; give the data settings of its config.yaml")
