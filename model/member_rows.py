"""MemberRows: the rows of a stack's members in one split, as batches of tensors."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


class MemberRows(nn.Module):
    """The rows of every member of a stack in one split; all members have as many.

    Shapes: features (members, num_features, rows), class indices (members, rows).

    >>> rows = MemberRows([(torch.zeros(5, 4), torch.arange(5))], owners=torch.tensor([0, 0]))
    >>> rows.num_rows, rows.num_features
    (5, 4)
    >>> [x.shape for x, _ in rows.chunks(size=5)]
    [torch.Size([2, 4, 5])]

    Args:
        folds: Features (rows, num_features) and targets (rows,) of each fold.
        owners: The index of each member's fold, (members,).
    """

    features: Tensor
    targets: Tensor

    def __init__(self, folds: Sequence[tuple[Tensor, Tensor]], owners: Tensor) -> None:
        super().__init__()
        features = torch.stack([fold_features.T for fold_features, _ in folds])[owners]
        targets = torch.stack([fold_targets for _, fold_targets in folds])[owners]
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("targets", targets, persistent=False)

    @property
    def num_rows(self) -> int:
        """Rows of a member."""
        return self.targets.shape[1]

    @property
    def num_features(self) -> int:
        return self.features.shape[1]

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Features (members, num_features, k) and targets (members, k) at positions (members, k).

        A position counts the rows of a member, from 0.
        """
        index = positions.unsqueeze(1).expand(-1, self.num_features, -1)
        return self.features.gather(2, index), self.targets.gather(1, positions)

    def chunks(self, size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features and targets of all rows, a bounded number of bytes at a time.

        A chunk has a multiple of `size` rows, so that it splits into batches of that size; the
        last one has what is left. Where all rows are one chunk in their own order, it is the same
        tensors every time.

        Args:
            size: Rows of a member in a batch.
            order: The order in which each member takes its rows, (members, rows); None keeps it.
        """
        if order is None:
            yield self.features, self.targets
        else:
            yield self.at(order)

    def keep_only(self, indices: Tensor) -> None:
        """Leave out all members but these."""
        self.features = self.features[indices]
        self.targets = self.targets[indices]
