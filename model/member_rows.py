"""MemberRows: the rows of a stack's members in one split, as batches of tensors."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from data.shared_rows import Affine, SharedRows, joined

# Bytes of a chunk's features: on a CPU they stay in its cache, a GPU takes more at a time.
CPU_CHUNK = 2**22
CHUNK = 2**28


class MemberRows:
    """The rows of every member of a stack in one split; all members have as many.

    The members share a table, of which each has the indices of its rows: a chunk of them is
    gathered and standardized at a time. Rows that take little memory are kept as batches need
    them, member by member: to gather them takes longer than a step of a small network.

    Shapes: features (members, num_features, rows), class indices (members, rows).

    >>> fold = SharedRows.all_of(torch.zeros(5, 4), torch.arange(5))
    >>> rows = MemberRows([fold], owners=[0, 0])
    >>> rows.num_rows, rows.num_features
    (5, 4)
    >>> [x.shape for x, _ in rows.chunks(size=5)]
    [torch.Size([2, 4, 5])]

    Args:
        folds: The rows of each fold.
        owners: The index of each member's fold, (members,).
        is_kept: Whether the rows of all members are kept as tensors of their own.
    """

    def __init__(
        self, folds: Sequence[SharedRows], owners: Sequence[int], is_kept: bool = True
    ) -> None:
        self.folds = joined(folds)
        self.owners = np.array(owners)
        self.is_kept = is_kept
        self.num_rows = folds[0].num_rows
        self.num_features = folds[0].table.features.shape[1]
        self.kept: tuple[Tensor, Tensor] | None = None
        self.move_to(torch.zeros(()))

    def move_to(self, like: Tensor) -> None:
        """Make batches on the device of a tensor, with features of its type."""
        self.device = like.device
        self.dtype = like.dtype
        self.kept = None
        self.affine = self.member_affine()

    def release(self) -> None:
        """Free what is kept, and the memory of other devices."""
        self.kept = None
        self.folds[0].table.release()

    def member_affine(self) -> Affine | None:
        """How the features of each member are standardized; None where the table is."""
        affines = [fold.affine for fold in self.folds if fold.affine is not None]
        if not affines:
            return None
        owners = torch.from_numpy(self.owners)
        like, _ = self.folds[0].table.on(self.device)
        fill, center, factor = (
            torch.stack(of_folds)[owners].to(like)
            for of_folds in zip(*(affine[:3] for affine in affines), strict=True)
        )
        return Affine(fill, center, factor, affines[0].limit)

    def chunks(self, size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features and targets of all rows, a bounded number of bytes at a time.

        A chunk has a multiple of `size` rows, so that it splits into batches of that size; the
        last one has what is left. Rows that are kept are one chunk, in their own order the same
        tensors every time.

        Args:
            size: Rows of a member in a batch.
            order: The order in which each member takes its rows, (members, rows), on the CPU; None
                keeps it.
        """
        if self.is_kept:
            yield self.all_rows() if order is None else self.at(order)
            return
        indices = self.table_rows(order)
        budget = CPU_CHUNK if self.device.type == "cpu" else CHUNK
        batch_bytes = 4 * len(self.owners) * self.num_features * size
        step = max(1, budget // batch_bytes) * size
        for start in range(0, self.num_rows, step):
            yield self.gathered(indices[:, start : start + step])

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Features (members, num_features, k) and targets (members, k) at positions (members, k).

        A position counts the rows of a member, from 0. For rows that are not kept, the indices of
        all rows are made for it: chunks of an order take less time than many calls.
        """
        if not self.is_kept:
            return self.gathered(self.table_rows(positions))
        features, targets = self.all_rows()
        positions = positions.to(self.device)
        index = positions.unsqueeze(1).expand(-1, self.num_features, -1)
        return features.gather(2, index), targets.gather(1, positions)

    def all_rows(self) -> tuple[Tensor, Tensor]:
        """The rows that are kept, made when they are first asked for."""
        if self.kept is None:
            self.kept = self.gathered(self.table_rows(None))
        return self.kept

    def table_rows(self, positions: Tensor | None) -> np.ndarray:
        """The index in the table of each member's rows at positions (members, k); None for all."""
        count = self.num_rows if positions is None else positions.shape[1]
        indices = np.empty((len(self.owners), count), np.int32)
        last = None
        for i, owner in enumerate(self.owners):
            if owner != last:
                of_fold = np.asarray(self.folds[owner].row_set, np.int32)
                last = owner
            indices[i] = of_fold if positions is None else of_fold[positions[i].numpy()]
        return indices

    def gathered(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Standardized features and targets of rows of the table, indices (members, k)."""
        features, targets = self.folds[0].table.on(self.device)
        flat = torch.from_numpy(indices.reshape(-1)).to(self.device)
        x = features.index_select(0, flat).view(*indices.shape, -1).mT.contiguous()
        if self.affine is not None:
            if self.folds[0].table.has_missing:
                x = torch.where(x.isnan(), self.affine.fill, x)
            x = self.affine.standardize(x)
        return x.to(self.dtype), targets.index_select(0, flat).view(indices.shape)

    def keep_only(self, indices: Tensor) -> None:
        """Leave out all members but these."""
        self.owners = self.owners[indices.cpu().numpy()]
        self.affine = self.member_affine()
        if self.kept is not None:
            features, targets = self.kept
            self.kept = features[indices], targets[indices]
