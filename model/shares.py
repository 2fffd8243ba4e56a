"""Shares: what the checkpoint of a population has of each process, which trains its own members."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from lightning.fabric.utilities import move_data_to_device

from data.shared_rows import SharedSplits

Item = TypeVar("Item")
Key = TypeVar("Key")

# The entries of a checkpoint that are the share of one process.
SHARE = ("state_dict", "optimizer_states", "fits", "curves", "stacks", "stopped", "fingerprint")


def gathered(item: Item) -> list[Item]:
    """The items of all processes, in the order of their ranks; one item without processes."""
    if not torch.distributed.is_initialized():
        return [item]
    items: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(items, item)
    return items


def merged(share: dict[Key, Item]) -> dict[Key, Item]:
    """The dictionaries of all processes as one."""
    return {key: value for items in gathered(share) for key, value in items.items()}


def add_other_shares(checkpoint: dict[str, Any]) -> None:
    """Add the shares of the other processes to the checkpoint of the first; all call it."""
    if not torch.distributed.is_initialized():
        return
    share = {name: checkpoint[name] for name in SHARE if name in checkpoint}
    shares = gathered(move_data_to_device(share, torch.device("cpu")))
    checkpoint["other_shares"] = shares[1:]


def share_of(
    checkpoint: Mapping[str, Any], fingerprint: str, rank: int, processes: int
) -> dict[str, Any]:
    """The share of a process.

    Args:
        checkpoint: The checkpoint of a fit.
        fingerprint: That of the population which is to go on with it.
        rank: Index of the process.
        processes: Number of processes.

    Raises:
        ValueError: It is that of other members or rows, or of another number of processes.
    """
    shares = [checkpoint, *checkpoint.get("other_shares", [])]
    if "fits" in checkpoint and "fingerprint" not in checkpoint:  # that of an earlier version
        stacks = checkpoint["hyper_parameters"]["stacks"]
        shares[0] = {**checkpoint, "stopped": [], "stacks": stacks, "fingerprint": fingerprint}
    if len(shares) != processes:
        raise ValueError(
            f"{len(shares)} devices trained its networks, and there are {processes}; "
            f"give --devices {len(shares)}"
        )
    share = shares[rank]
    if share.get("fingerprint") != fingerprint:
        raise ValueError("its networks learned from other rows; has the table changed since?")
    return {name: share[name] for name in SHARE}


def fingerprint_of(members: Sequence[tuple[int, int, int]], folds: Sequence[SharedSplits]) -> str:
    """A text that is equal for the same members and rows.

    >>> from data.shared_rows import SharedRows
    >>> rows = SharedRows.all_of(torch.zeros(2, 4), torch.zeros(2))
    >>> fingerprint_of([(0, 0, 7)], [{"test": rows}])[:8]
    '310bb834'

    Args:
        members: Candidate, fold and seed of each.
        folds: The rows of each fold.
    """
    digest = hashlib.sha256(str([tuple(member) for member in members]).encode())
    for splits in folds:
        for rows in splits.values():
            digest.update(rows.digest())
    return digest.hexdigest()
