"""Members: networks that predict as one, each of which holds out a fold of the training rows."""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from data.tabular import Splits, TabularData


def member_splits(splits: Splits, members: int, datamodule: TabularData) -> list[Splits]:
    """The splits of each member; "val" is its fold of the training rows, "test" is everybody's.

    >>> import torch
    >>> rows = torch.zeros(6, 2), torch.arange(6) % 2
    >>> folds = member_splits({"train": rows, "test": rows}, 3, TabularData())
    >>> [len(targets) for _, targets in folds[0].values()]
    [4, 2, 6]

    Args:
        splits: The standardized training and test rows.
        members: Number of members.
        datamodule: Its stratify and split_seed are used.

    Raises:
        ValueError: Fewer than 2 members, or more than the smallest class has training rows.
    """
    features, targets = splits["train"]
    most = most_members(targets.numpy(), datamodule.stratify)
    if not 2 <= members <= most:
        raise ValueError(
            f"members is {members}; give from 1 to {most}: each holds out a fold of the "
            "training rows, with a row of every class"
        )
    cutter = StratifiedKFold if datamodule.stratify else KFold
    folds = cutter(members, shuffle=True, random_state=datamodule.split_seed)
    return [
        {
            "train": (features[train], targets[train]),
            "val": (features[held_out], targets[held_out]),
            "test": splits["test"],
        }
        for train, held_out in folds.split(targets, targets)
    ]


def most_members(targets: np.ndarray, stratify: bool) -> int:
    """The most folds that these training rows (rows,) can be cut into."""
    if not stratify:
        return len(targets)
    counts = np.bincount(targets)
    return int(counts[counts > 0].min())


def choose_members(
    datamodule: TabularData, members: int | None, folds: Sequence[np.ndarray]
) -> int:
    """The number of networks: what the user gave, or what suits the data.

    Args:
        datamodule: Its members are taken where the user gave none and it has no validation rows.
        members: What the user gave.
        folds: Class indices of the training rows, (rows,), of each fold.

    Raises:
        ValueError: Fewer than 1.
    """
    if members is None and datamodule.val_fraction:
        return 1
    if members is None:
        most = min(most_members(targets, datamodule.stratify) for targets in folds)
        return min(datamodule.members, most)
    if members < 1:
        raise ValueError(f"members is {members}; give 1 or more")
    return members


def check_validation(datamodule: TabularData, members: int) -> None:
    """Refuse a validation split beside several networks.

    Raises:
        ValueError: The datamodule has one.
    """
    if datamodule.val_fraction:
        raise ValueError(
            f"val_fraction is {datamodule.val_fraction}, but each of {members} members validates "
            "on a fold of its own; leave it out, or give --members 1"
        )
