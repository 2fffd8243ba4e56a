"""Any table: CSV, TSV or Parquet, read by polars."""

from typing import Any, Literal

import numpy as np
import polars as pl

from cli.output import printable
from cli.paths import expand_path
from data.columns import refuse, shown
from data.description import Kind, describe
from data.encoder import Scaling
from data.file import File
from data.kinds import Kinds, make_columns
from data.labels import label_indices, read_labels
from data.layout import check_columns
from data.raw_table import in_memory
from data.roles import Roles
from data.store import LazyFeatures, Part, Store
from data.tabular import RawTable, TabularData
from data.values import Reading

SHOWN_CLASSES = 10  # in a message


class Table(TabularData):
    """A table from a file: CSV, TSV or Parquet, whose first line has the names of its columns.

    A column is numbers, text, whose categories become features, or dates (data/encoder.py); what is
    said of it, or else all its values, decides (data/kinds.py). An empty value is missing; so are
    words such as NA (data/values.py).

    Args:
        path: The file.
        target: The column of classes: text, whole numbers, or true and false.
        ignore: Columns to leave out.
        id: A column that predictions repeat and that is not learned.
        categorical: Columns of text, whatever it looks like.
        numeric: Columns of numbers.
        dates: Columns of dates with their forms, such as "{when: '%d.%m.%Y'}".
        decimal: The decimal sign of numbers, a point or a comma.
        thousands: The sign between a number's groups of three digits.
        missing: Words or numbers for missing values, beside the usual words.
        unlabelled: refuse, or drop rows whose class is missing.
        rare_classes: refuse classes of fewer than 3 rows, drop their rows, or merge them.
        delimiter: The character between a CSV file's fields; null takes the most frequent one in
            its first line.
        encoding: A CSV file's encoding, such as cp1252; null is UTF-8, or what the file's byte
            order mark says.
        batch_size: Rows per optimizer step; null takes all training rows at once.
        scaling: robust: median and quartiles, with outliers limited; or standard.
        groups: A column whose rows of the same value stay together in every cut, such as a patient.
        time: A column of numbers or dates: training rows come before held-out ones in every cut.
        split: A column that says train, val or test of each row.
        test_path: A file of the rows to test on, with the same columns.
        more: The other arguments of TabularData.

    Raises:
        ValueError: A file that cannot be read, with the line and column, or one that is not a
            table to learn classes from.
    """

    members = 8
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
        rare_classes: Literal["refuse", "drop", "merge"] = "refuse",
        delimiter: str | None = None,
        encoding: str | None = None,
        batch_size: int | None = 256,
        scaling: Scaling = "robust",
        groups: str | None = None,
        time: str | None = None,
        split: str | None = None,
        test_path: str | None = None,
        **more: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, scaling=scaling, **more)
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
        self.rare_classes = rare_classes
        self.delimiter = delimiter
        self.encoding = encoding
        self.roles = Roles(groups, time, split, test_path and expand_path(test_path))
        self.roles.check(target, self.ignore)

    def load(self) -> RawTable:
        file = File(self.path, self.delimiter, encoding=self.encoding)
        left_out = [self.target, *self.roles.columns, *self.ignore]
        if self.id_column is not None:
            left_out.append(self.id_column)
        file.need([*left_out, *self.categorical, *self.numeric, *self.dates])
        names = [name for name in file.names if name not in left_out]
        if not names:
            raise ValueError(
                f"{self.path} has no column left but the target {self.target!r}; ignore fewer"
            )
        check_columns(len(names))
        store = Store([*names, *self.roles.columns, self.target], file)
        labels = read_labels(
            store.read([self.target]).get_column(self.target),
            f"{self.path}: the target {self.target!r}",
            self.reading,
            file.parquet,
            self.target in self.categorical,
            self.unlabelled,
            self.rare_classes,
        )
        self.label_type = labels.type
        self.notes = labels.notes
        kinds = Kinds(self.reading, self.categorical, self.numeric, self.dates, file.parquet, file)
        self.kinds = {column.name: kinds.kind_of(column) for column in store.columns(names)}
        if any(not kind.is_learned for kind in self.kinds.values()):
            self.notes.append(
                "keep a column that is left out with --data.numeric or --data.categorical"
            )
        columns = make_columns(self.kinds, self.reading)
        roles = store.read(self.roles.columns)
        self.roles = self.roles.with_form(roles, kinds)
        if not columns.names:
            reasons = "; ".join(f"{name!r}: {kind.about}" for name, kind in self.kinds.items())
            raise ValueError(
                f"{self.path} has no column to learn from ({reasons}); "
                "say what one is with --data.numeric or --data.categorical"
            )
        rows = labels.indices >= 0
        groups, times = self.roles.order(roles, file, self.reading)
        table = RawTable(
            LazyFeatures(columns, [Part(store, None if rows.all() else rows)]),
            labels.indices[rows],
            columns.names,
            labels.names,
            columns.categories,
            columns.dates,
            groups=None if groups is None else groups[rows],
            times=None if times is None else times[rows],
        )
        if self.roles.split is not None:
            splits = self.roles.splits(roles, file, rows, self.reading)
            self.test_rows = self.held_back = splits["test"]
            self.val_rows = splits.get("val")
        if self.roles.test_path is not None:
            table = self.with_test_file(table)
        assert isinstance(table.features, LazyFeatures)
        return table._replace(features=in_memory(table.features))

    def with_test_file(self, table: RawTable) -> RawTable:
        """The table with the rows of the test file behind it, read as those of the table are."""
        features = table.features
        assert isinstance(features, LazyFeatures)
        columns = features.columns
        file = File(str(self.roles.test_path), self.delimiter, encoding=self.encoding)
        names = [*columns.names, *self.roles.columns, self.target]
        file.need(names)
        store = Store(names, file)
        labels = store.read([self.target]).get_column(self.target)
        targets = label_indices(labels, table.class_names, self.label_type, self.reading)
        known = ", ".join(map(shown, table.class_names[:SHOWN_CLASSES]))
        advice = f"the classes of {self.path} are {known}"
        wrong = (targets < 0) | (targets == len(table.class_names))
        refuse(labels, pl.Series(wrong), advice, file, first=0)
        groups, times = self.roles.order(store.read(self.roles.columns), file, self.reading)
        rows = len(table.targets)
        self.test_rows = self.held_back = np.arange(rows, rows + len(targets))
        return table._replace(
            features=LazyFeatures(columns, [*features.parts, Part(store)]),
            targets=np.concatenate([table.targets, targets]),
            groups=None if groups is None else np.concatenate([table.groups, groups]),
            times=None if times is None else np.concatenate([table.times, times]),
        )

    def about(self) -> str:
        """Describe each column in a line, and the table in the last ones."""
        told = {name: Kind("left out", "--data.ignore") for name in self.ignore}
        if self.id_column is not None:
            told[self.id_column] = Kind("left out", "--data.id")
        told |= self.roles.told()
        lines = describe(self.kinds | told)
        target = printable(self.target)
        lines.append(f"{len(self.column_names)} columns, {self.num_classes} classes of {target}")
        if self.test_rows is not None:
            lines.append(f"{len(self.test_rows)} rows are for the test, in no fold of evaluate.py")
        return "\n".join([*lines, *self.notes])
