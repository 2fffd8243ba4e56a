"""Members: networks that train as one; each holds out a fold of the training rows, by which it chooses its epoch."""

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from data.tabular import Splits, TabularData


def member_splits(splits: Splits, members: int, stratify: bool, seed: int) -> list[Splits]:
    """The splits of each member; "val" is its fold of the training rows, "test" is everybody's.

    >>> import torch
    >>> rows = torch.zeros(6, 2), torch.arange(6) % 2
    >>> folds = member_splits({"train": rows, "test": rows}, members=3, stratify=True, seed=0)
    >>> [len(targets) for _, targets in folds[0].values()]
    [4, 2, 6]

    Args:
        splits: The standardized training and test rows.
        members: Number of members.
        stratify: Whether each fold keeps the shares of the classes.
        seed: Seed of the folds.

    Raises:
        ValueError: Fewer than 2 members, or more than the smallest class has training rows.
    """
    features, targets = splits["train"]
    most = most_members(targets.numpy(), stratify)
    if not 2 <= members <= most:
        raise ValueError(
            f"members is {members}; give from 1 to {most}: each holds out a fold of the "
            "training rows, with a row of every class"
        )
    cutter = StratifiedKFold if stratify else KFold
    cut = cutter(members, shuffle=True, random_state=seed).split(targets, targets)
    return [
        {
            "train": (features[train], targets[train]),
            "val": (features[held_out], targets[held_out]),
            "test": splits["test"],
        }
        for train, held_out in cut
    ]


def most_members(targets: np.ndarray, stratify: bool) -> int:
    """The most folds that these training rows (rows,) can be cut into."""
    if not stratify:
        return len(targets)
    counts = np.bincount(targets)
    return int(counts[counts > 0].min())


def choose_members(datamodule: TabularData, members: int | None, targets: np.ndarray) -> int:
    """The number of networks: what the user gave, or what suits the data.

    Args:
        datamodule: Its members are taken where the user gave none and it has no validation rows.
        members: What the user gave.
        targets: Class indices of the training rows, (rows,).

    Raises:
        ValueError: Fewer than 1.
    """
    if members is None and datamodule.val_fraction:
        return 1
    if members is None:
        most = most_members(targets, datamodule.stratify)
        return min(datamodule.members, most)
    if members < 1:
        raise ValueError(f"members is {members}; give 1 or more")
    return members
