"""Members: networks that predict as one, each of which holds out a fold of the training rows."""

from collections.abc import Iterable

import numpy as np

from data.shared_rows import SharedSplits, shared
from data.splits import ALL_ROWS
from data.tabular import Splits, TabularData


def member_splits(
    splits: Splits | SharedSplits,
    members: int,
    datamodule: TabularData,
    rows: np.ndarray | slice = ALL_ROWS,
) -> list[SharedSplits]:
    """The splits of each member; "val" is its fold of the training rows, "test" is everybody's.

    All members share the rows.

    With groups a fold is of whole groups. With times there are no folds: all members hold out the
    last rows, and differ in their initial weights.

    >>> import torch
    >>> rows = torch.zeros(6, 2), torch.arange(6) % 2
    >>> folds = member_splits({"train": rows, "test": rows}, 3, TabularData())
    >>> [rows.num_rows for rows in folds[0].values()]
    [4, 2, 6]

    Args:
        splits: The standardized training and test rows.
        members: Number of members.
        datamodule: It says how rows are cut.
        rows: Indices of the training rows in the table; not needed without groups and times.

    Raises:
        ValueError: Fewer than 2 members, or more than the smallest class has training rows.
    """
    splits = shared(splits)
    known = splits["train"]
    cutter = datamodule.cutter(known.targets.numpy(), rows)
    everything = np.arange(known.num_rows)
    most, limit = cutter.most_folds(everything)
    if not 2 <= members <= most:
        raise ValueError(
            f"members is {members}; give from 1 to {most}: each holds out a fold of the training "
            f"rows, of which there are at most {most}, {limit}"
        )
    return [
        {
            "train": known.take(train),
            "val": known.take(held_out),
            "test": splits["test"],
        }
        for train, held_out in cutter.hold_out(everything, members)
    ]


def choose_members(
    datamodule: TabularData, members: int | None, folds: Iterable[np.ndarray]
) -> int:
    """The number of networks: what the user gave, or what suits the data.

    Args:
        datamodule: After `read()`. Its members are taken where the user gave none and it has no
            validation rows.
        members: What the user gave.
        folds: Indices of the training rows, (rows,), of each fold.

    Raises:
        ValueError: Fewer than 1.
    """
    if members is None and (datamodule.val_fraction or datamodule.members == 1):
        return 1
    if members is None:
        cutter = datamodule.cutter(datamodule.targets)
        most = min(cutter.most_folds(rows)[0] for rows in folds)
        return max(1, min(datamodule.members, most))
    if members < 1:
        raise ValueError(f"members is {members}; give 1 or more")
    return members


def check_validation(datamodule: TabularData, members: int) -> None:
    """Refuse several networks beside a validation split, or of rows that are streamed.

    Raises:
        ValueError: The datamodule has such.
    """
    if datamodule.is_streamed:
        raise ValueError(
            f"members is {members}, and a stream's rows are not there for folds; "
            "give --members 1, or --data Table"
        )
    if datamodule.val_fraction:
        raise ValueError(
            f"val_fraction is {datamodule.val_fraction}, but each of {members} members validates "
            "on a fold of its own; leave it out, or give --members 1"
        )


def check_rows_on(datamodule: TabularData) -> None:
    """Refuse rows in the host's memory for networks that train as one.

    Raises:
        ValueError: They are asked for.
    """
    if datamodule.rows_on == "host":
        raise ValueError(
            "rows_on is host, but networks that are trained together have their rows on the "
            "device; leave it out, or train one with train.py and --members 1"
        )
