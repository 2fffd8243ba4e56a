"""Which networks a population has, what they learn from, and what each predicts in the end."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from data.shared_rows import SharedSplits


class Member(NamedTuple):
    """One network: the index of its candidate, that of its fold in all folds, and its seed."""

    candidate: int
    fold: int
    seed: int


class FoldData(NamedTuple):
    """What the members of a fold learn from.

    Args:
        splits: "train", "test" and, where an epoch is chosen, "val".
        augment: Changes a batch of training features (rows, num_features) at random; None: nothing.
        class_weights: The weight of each class in the loss; None for none.
    """

    splits: SharedSplits
    augment: Callable[[Tensor], Tensor] | None = None
    class_weights: list[float] | None = None


class Outcome(NamedTuple):
    """What a member predicts for its test rows, and whether its training failed.

    `probabilities` (test rows, num_classes); `failed_in` is the epoch in which the member
    diverged, from 1, or 0 if it did not; `val_probabilities` (validation rows, num_classes), None
    if there are none; `best_epoch` is the epoch of its weights, from 1.
    """

    probabilities: np.ndarray
    failed_in: int
    val_probabilities: np.ndarray | None = None
    best_epoch: int = 0

    def state(self) -> list[Any]:
        """The same as plain data and tensors, for a checkpoint."""
        return [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in self]

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> "Outcome":
        return cls._make(x.numpy() if isinstance(x, Tensor) else x for x in state)


class Stopper(Protocol):
    """What decides after some epochs, the rungs, which members stop."""

    rungs: Collection[int]

    def losers(self, epoch: int, outcomes: dict[Member, Outcome]) -> set[Member]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
