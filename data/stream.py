"""A table larger than memory: a folder of Parquet files, read in a random order."""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch

from cli.output import printable
from cli.paths import expand_path
from data.description import Kind, describe
from data.encoder import Scaling
from data.kinds import Kinds
from data.streaming.batches import StreamBatches, check_buffer
from data.streaming.copy import StreamCopy
from data.streaming.folder import Folder
from data.streaming.labels import StreamLabels
from data.streaming.splits import NAMES, StreamSplits
from data.streaming.statistics import fit_encoder
from data.streaming.survey import Survey, look
from data.tabular import RawTable, Splits, TabularData
from data.temporary import temporary_folder
from data.values import Reading

SHOWN_ROWS = 10_000  # of each split, for pictures and warnings
SHOWN_VALUES = 2**24
EVALUATION_ROWS = 8192  # of a batch


class Stream(TabularData):
    """A folder of Parquet files that need not fit into memory, trained in constant memory.

    A column is what it is in a Table. The files are read twice before training: for statistics of
    the training rows, and for a copy of the rows in temporary files, from which each epoch takes
    them in a random order (data/streaming/order.py). After `setup()`, `splits` has a sample of each
    split's rows, for pictures and warnings, and `indices` the range of their number.

    Args:
        path: The folder; files in its subfolders count too.
        target: The column of classes: text, whole numbers, or true and false.
        ignore: Columns to leave out.
        id: A column that predictions repeat and that is not learned.
        categorical: Columns of text, whatever it looks like.
        numeric: Columns of numbers.
        dates: Columns of dates with their forms, such as "{when: '%d.%m.%Y'}".
        decimal: The decimal sign of numbers in columns of text, a point or a comma.
        thousands: The sign between a number's groups of three digits.
        missing: Words or numbers for missing values, beside the usual words.
        unlabelled: refuse, or drop rows whose class is missing.
        split: A column that says train, val or test of each row.
        batch_size: Rows per optimizer step, of all processes together.
        buffer: Rows that wait in memory to be shuffled, in each process.
        test_fraction: Share of the rows kept for the one test at the end.
        val_fraction: Share of the rows that choose the best epoch; with 0 the last epoch is kept.
        split_seed: Seed of the split alone: runs with different --seed share their test rows.
        class_weight: balanced gives the training rows of every class the same total weight.
        scaling: robust: median and quartiles, with outliers limited; or standard.

    Raises:
        ValueError: A folder without such files, a damaged one, files whose columns differ, or a
            table that cannot be learned.
    """

    is_streamed = True
    embedding = 4

    def __init__(
        self,
        path: str,
        target: str,
        ignore: list[str] | None = None,
        id: str | None = None,  # the word that users look for
        categorical: list[str] | None = None,
        numeric: list[str] | None = None,
        dates: dict[str, str] | None = None,
        decimal: str = ".",
        thousands: str | None = None,
        missing: list[str | int | float] | None = None,
        unlabelled: Literal["refuse", "drop"] = "refuse",
        split: str | None = None,
        batch_size: int = 4096,
        buffer: int = 262_144,
        test_fraction: float = 0.2,
        val_fraction: float = 0.0,
        split_seed: int = 0,
        class_weight: Literal["balanced"] | None = None,
        scaling: Scaling = "robust",
    ) -> None:
        super().__init__(
            batch_size, test_fraction, val_fraction, True, split_seed, class_weight, scaling
        )
        if buffer < 1:
            raise ValueError(f"buffer is {buffer}; give the rows that wait in memory")
        self.path = expand_path(path)
        self.target = target
        self.ignore = ignore or []
        self.id_column = id
        self.categorical = categorical or []
        self.numeric = numeric or []
        self.dates = dates or {}
        self.reading = Reading(
            decimal, thousands, tuple(str(word).strip() for word in missing or [])
        )
        self.unlabelled = unlabelled
        self.split_column = split
        self.buffer = buffer
        self.copied_for: tuple[int, int] | None = None  # rank and number of processes

    @property
    def step_size(self) -> int:
        """Rows of an optimizer step."""
        return int(self.batch_size or 1)

    def load(self) -> RawTable:
        raise ValueError(
            "a Stream is trained by train.py alone, which tests it once: with as many rows, one "
            "test says what folds would. For evaluate.py, write a sample to one Parquet file and "
            "give --data Table"
        )

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        self.folder = Folder(self.path)
        names = self.names_to_learn()
        kinds = Kinds(self.reading, self.categorical, self.numeric, self.dates)
        source = f"{self.path}: the target {self.target!r}"
        is_text = self.target in self.categorical
        self.labels = StreamLabels(self.target, source, self.reading, is_text, len(NAMES))
        self.by_row = StreamSplits(
            self.folder,
            self.test_fraction,
            self.val_fraction,
            self.split_seed,
            self.split_column,
            self.reading,
        )
        found = look(self.folder, names, kinds)
        survey = Survey(self.folder, kinds, found, self.by_row, self.labels, self.unlabelled)
        self.describe_table(survey)
        self.encoder = fit_encoder(
            survey.statistics, survey.sample[survey.sample_codes == 0], self.scaling
        )
        self.feature_names = self.encoder.layout.names
        self.num_features = len(self.feature_names)
        self.augment = None
        counts = {name: len(rows) for name, rows in self.indices.items()}
        self.copy = StreamCopy(
            self.folder, self.columns, self.encoder, self.labels, self.by_row, counts
        )
        check_buffer(min(self.buffer, counts["train"]), self.copy.row_bytes)
        self.splits = self.samples(survey)

    def names_to_learn(self) -> list[str]:
        """The columns that features may be made of.

        Raises:
            ValueError: A column that is named is not there, or none is left.
        """
        left_out = [self.target, *self.ignore, *filter(None, [self.split_column, self.id_column])]
        first = self.folder.files[0]
        first.need([*left_out, *self.categorical, *self.numeric, *self.dates])
        names = [name for name in self.folder.schema if name not in left_out]
        if not names:
            raise ValueError(
                f"{self.path} has no column left but the target {self.target!r}; ignore fewer"
            )
        return names

    def describe_table(self, survey: Survey) -> None:
        """Keep what the folder holds: columns, classes and how many rows each split has.

        Raises:
            ValueError: A split is empty, the training rows lack a class, or a batch is too large.
        """
        totals = dict(zip(NAMES, survey.counts.tolist(), strict=True))
        if self.split_column is not None:
            self.val_fraction = totals["val"] / sum(totals.values())
        needed = ["train", "val", "test"] if self.val_fraction else ["train", "test"]
        advice = "change the fractions, or give another --data.split_seed"
        if self.split_column is not None:
            advice = f"change the column {self.split_column!r}, or leave out --data.split"
        for name in needed:
            if not totals[name]:
                raise ValueError(f"{self.path}: no row is in {name}; {advice}")
        self.kinds = survey.kinds
        self.columns = survey.columns
        if not self.columns.names:
            raise ValueError(f"{self.path} has no column to learn from; see --data.numeric")
        self.column_names = self.columns.names
        self.class_names = self.labels.names
        self.num_classes = len(self.class_names)
        self.label_type = self.labels.type
        for name, rows in zip(self.class_names, self.labels.rows[:, 0].tolist(), strict=True):
            if not rows:
                raise ValueError(f"{self.path}: train has no row of class {name!r}; {advice}")
        if totals["train"] < self.step_size:
            raise ValueError(
                f"batch_size is {self.step_size}, more than the {totals['train']:,} training "
                f"rows of {self.path}; give a smaller one, or --data Table"
            )
        # Elsewhere arrays; of a stream only their lengths are asked for.
        self.indices = {name: range(totals[name]) for name in needed}  # type: ignore[misc]
        self.num_rows = sum(totals.values())
        self.targets = np.empty(0, np.int64)  # of which every row is elsewhere
        self.class_weights = None
        if self.class_weight is not None:
            shares = self.num_classes * self.labels.rows[:, 0] / totals["train"]
            self.class_weights = (1 / shares).tolist()

    def samples(self, survey: Survey) -> Splits:
        """A sample of each split: features and targets."""
        most = min(SHOWN_ROWS, SHOWN_VALUES // self.num_features)
        splits = {}
        for name in self.indices:
            rows = np.flatnonzero(survey.sample_codes == NAMES.index(name))
            rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
            features = self.encoder.transform(survey.sample[rows])
            splits[name] = features, torch.from_numpy(survey.sample_targets[rows])
        return splits

    def __getstate__(self) -> dict[str, Any]:
        # The copy is of this process.
        return self.__dict__ | {"copied": {}, "copied_for": None}

    def make_batches(
        self, split: str, buffer: int, seed: int | None = None, joined: int = 1
    ) -> StreamBatches:
        """The batches of this process."""
        rank, processes, pin = 0, 1, False
        if self.trainer is not None:
            rank, processes = self.trainer.global_rank, self.trainer.world_size
            pin = self.trainer.strategy.root_device.type == "cuda"
        if self.copied_for != (rank, processes):
            self.copied = self.copy.write(self.step_size, rank, processes)
            self.copied_for = rank, processes
        file, share = self.copied[split]
        return StreamBatches(file, self.copy.features, share, buffer, seed, joined, pin)

    def train_dataloader(self) -> Iterable[Any]:
        # The seed is the run's: train.py seeds everything with it.
        return self.make_batches("train", self.buffer, torch.initial_seed())

    def evaluation_dataloader(self, split: str) -> Iterable[Any]:
        joined = max(1, EVALUATION_ROWS // self.step_size)
        return self.make_batches(split, 2 * EVALUATION_ROWS, joined=joined)

    @property
    def fingerprint(self) -> str:
        """A text that is equal for folders of the same files, with as many rows of each class."""
        return f"{self.folder.fingerprint} {self.labels.rows.tolist()}"

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("fingerprint") != self.fingerprint:
            raise ValueError(
                f"{self.path} has other files, or files of other sizes, rows or classes, than when "
                "the run began; put them back, or start a new run"
            )
        super().load_state_dict(state_dict)

    def about(self) -> str:
        """Describe each column in a line, and the folder in the last ones."""
        told = {name: Kind("left out", "--data.ignore") for name in self.ignore}
        for flag, name in (("--data.id", self.id_column), ("--data.split", self.split_column)):
            if name is not None:
                told[name] = Kind("left out", flag)
        lines = describe(self.kinds | told)
        target = printable(self.target)
        lines.append(f"{len(self.column_names)} columns, {self.num_classes} classes of {target}")
        lines.append(
            f"{self.num_rows:,} rows in {len(self.folder.files):,} files are streamed, from a copy "
            f"in {printable(temporary_folder())}"
        )
        others = self.folder.others
        if others:
            name = printable(others[0].name)
            lines.append(f"{len(others):,} other files are not read, such as {name}")
        return "\n".join(lines)
