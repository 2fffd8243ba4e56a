"""Shared rows: the features of a table are held once, and each fold standardizes those it takes."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.encoder import MAX_STANDARD_DEVIATIONS, Encoder, pieces, robust_scale
from data.raw_table import RawTable
from data.row_set import RowSet
from data.standardize import Splits, check_size

# Features of a shared table up to this size are held in float64: standardized they then have the
# last digit of those that the fold's encoder makes.
SMALL_VALUES = 2**20
# Larger tables too, if a fold's center is so many of its scales away from the table's, or its scale
# so many times as large or small: float32 would be less exact than 1e-6.
MAX_SHIFT = 8.0
MAX_RATIO = 1e18
LARGEST = 1e30  # of a shared feature: further away no fold tells values apart
CENTER_ROWS = 10_000  # from which the table's center of a feature is computed, roughly


class SharedTable:
    """Features and class indices of all rows of a table, once.

    Args:
        features: (rows, num_features), NaN where a value is missing.
        targets: Class indices (rows,).
    """

    def __init__(self, features: Tensor, targets: Tensor) -> None:
        self.features = features
        self.targets = targets
        self.moved: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Features and class indices on a device, moved there once until they are released."""
        if device == self.features.device:
            return self.features, self.targets
        if device not in self.moved:
            features = self.features
            if device.type == "mps":  # which has no float64
                features = features.float()
            self.moved[device] = features.to(device), self.targets.to(device)
        return self.moved[device]

    def release(self) -> None:
        """Free the memory of other devices."""
        self.moved.clear()

    @cached_property
    def has_missing(self) -> bool:
        return any(bool(piece.isnan().any()) for piece in self.features.split(2**16))

    @cached_property
    def digest(self) -> bytes:
        """A hash of all rows."""
        digest = hashlib.sha256()
        for tensor in (self.features, self.targets):
            digest.update(tensor.contiguous().numpy().data)
        return digest.digest()


class Affine(NamedTuple):
    """How a fold standardizes the features of a shared table: (x - center) * factor.

    `fill` replaces missing values. What follows is the encoder's: no value is more than a million
    standard deviations away, and beyond `limit` it grows no further. Tensors (num_features, 1) or
    (members, num_features, 1), in the units of the shared table.
    """

    fill: Tensor
    center: Tensor
    factor: Tensor
    limit: float = torch.inf

    def standardize(self, features: Tensor) -> Tensor:
        """Standardize features (..., num_features, rows) in place; without the missing values."""
        features.sub_(self.center).mul_(self.factor)
        features.clamp_(-MAX_STANDARD_DEVIATIONS, MAX_STANDARD_DEVIATIONS)
        if self.limit < torch.inf:
            features.div_((features / self.limit).square_().add_(1).sqrt_())
        return features


class SharedRows:
    """Rows of a shared table, standardized as a fold has them whenever they are asked for.

    They are a pair like those of `Splits`, the features (rows, num_features) and the class indices
    (rows,): `features, targets = rows`.

    >>> table = SharedTable(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 1, 1]))
    >>> affine = Affine(torch.zeros(1, 1), torch.full((1, 1), 2.0), torch.full((1, 1), 0.5))
    >>> features, targets = SharedRows(table, RowSet(np.array([0, 2]), 3), affine)
    >>> features.flatten(), targets
    (tensor([-0.5000,  2.5000]), tensor([0, 1]))

    Args:
        table: All rows.
        row_set: Which of them.
        affine: How they are standardized; None where the table is.
    """

    def __init__(self, table: SharedTable, row_set: RowSet, affine: Affine | None = None) -> None:
        self.table = table
        self.row_set = row_set
        self.affine = affine

    @classmethod
    def all_of(cls, features: Tensor, targets: Tensor) -> "SharedRows":
        """All rows of standardized features (rows, num_features) and class indices (rows,)."""
        rows = len(targets)
        return cls(SharedTable(features, targets), RowSet(np.arange(rows), rows))

    @property
    def num_rows(self) -> int:
        return len(self.row_set)

    @property
    def num_bytes(self) -> int:
        """Bytes of the rows as tensors of their own."""
        features, targets = self.table.features[:1], self.table.targets[:1]
        return self.num_rows * (features.nbytes + targets.nbytes)

    @property
    def indices(self) -> Tensor:
        """The row indices in the shared table, (rows,)."""
        return torch.from_numpy(np.asarray(self.row_set))

    @property
    def features(self) -> Tensor:
        """The standardized features, (rows, num_features)."""
        features = self.chosen(self.table.features)
        if self.affine is None:
            return features
        by_feature = features.mT
        if self.table.has_missing:
            by_feature = torch.where(by_feature.isnan(), self.affine.fill, by_feature)
        return self.affine.standardize(by_feature).mT.float()

    @property
    def targets(self) -> Tensor:
        """Class indices (rows,)."""
        return self.chosen(self.table.targets)

    def chosen(self, tensor: Tensor) -> Tensor:
        """These rows of one of the table's tensors: a slice of it where they are in a row."""
        if self.row_set.kind == "range" and self.affine is None:
            start, stop = self.row_set.content.tolist()
            return tensor[start:stop]
        return tensor.index_select(0, self.indices)

    def __getitem__(self, index: int) -> Tensor:
        return (self.features, self.targets)[index] if index else self.features

    def __iter__(self) -> Iterator[Tensor]:
        yield self.features
        yield self.targets

    def take(self, positions: np.ndarray | slice) -> "SharedRows":
        """Some of these rows, by their positions (rows,) among them."""
        indices = np.asarray(self.row_set)[positions]
        return SharedRows(self.table, RowSet(indices, self.row_set.table_rows), self.affine)

    def digest(self) -> bytes:
        """A hash of the rows and of how they are standardized."""
        digest = hashlib.sha256(self.table.digest)
        digest.update(self.row_set.content.data)
        for tensor in self.affine[:3] if self.affine else ():
            digest.update(tensor.numpy().data)
        return digest.digest()


def joined(folds: Sequence[SharedRows]) -> Sequence[SharedRows]:
    """The same rows, of one table; where they are of several, of a copy of all of them."""
    tables = {id(rows.table): rows.table for rows in folds}
    if len(tables) == 1:
        return folds
    starts = {}
    table_rows = 0
    for key, table in tables.items():
        starts[key] = table_rows
        table_rows += len(table.targets)
    together = SharedTable(
        torch.cat([table.features for table in tables.values()]),
        torch.cat([table.targets for table in tables.values()]),
    )
    return [
        SharedRows(
            together,
            RowSet(np.asarray(rows.row_set) + starts[id(rows.table)], table_rows),
            rows.affine,
        )
        for rows in folds
    ]


# Per split ("train", "val", "test") the rows of a fold, or of a member.
SharedSplits = Mapping[str, SharedRows]


def shared(splits: Splits | SharedSplits) -> SharedSplits:
    """Splits as rows of shared tables: each split of tensors becomes a table of its own."""
    return {
        name: rows if isinstance(rows, SharedRows) else SharedRows.all_of(*rows)
        for name, rows in splits.items()
    }


def share(table: RawTable, encoders: Sequence[Encoder]) -> tuple[SharedTable, list[Affine]]:
    """A table's features once, and how each of several encoders standardizes them.

    The features lie around their medians, since float32 is most exact around 0. Where it is not
    exact enough, as for folds by time of a number that grows with it, float64 takes its place.

    Args:
        table: The table.
        encoders: Encoders of one layout, each fitted to some of the rows.
    """
    center, scale = rough_centers(table, encoders[0])
    shift = torch.stack([(encoder.mean - center) / encoder.scale for encoder in encoders])
    ratio = torch.stack([scale / encoder.scale for encoder in encoders])
    ratio = torch.where(ratio == 0, 1.0, ratio)  # constant features are 0 in any case
    is_far = shift.abs().max() > MAX_SHIFT or ratio.log().abs().max() > np.log(MAX_RATIO)
    is_small = len(table.targets) * len(center) <= SMALL_VALUES
    dtype = torch.float64 if is_small or is_far else torch.float32
    check_size(len(table.targets), len(center), dtype.itemsize)
    features = torch.empty(len(table.targets), len(center), dtype=dtype)
    for columns, raw in table.blocks():
        some, part = encoders[0].part(columns)
        start = 0
        for piece in pieces(raw):
            encoded = encode_known(part, piece, center[some], scale[some])
            features[start : start + len(piece), some] = encoded
            start += len(piece)
    affines = [affine_of(encoder, center, scale, dtype) for encoder in encoders]
    return SharedTable(features, torch.from_numpy(table.targets).long()), affines


def rough_centers(table: RawTable, encoder: Encoder) -> tuple[Tensor, Tensor]:
    """A median and a scale of each feature; 0 and 1 of those that are no numbers."""
    layout = encoder.layout
    center = torch.zeros(len(layout.names), dtype=torch.float64)
    scale = torch.ones_like(center)
    step = -(-len(table.targets) // CENTER_ROWS)
    for feature in layout.numbers:
        values = table.features[::step, layout.source[feature]].astype(float)
        center[feature], scale[feature] = robust_scale(values[~np.isnan(values)])
    return center, scale


def encode_known(encoder: Encoder, raw: Tensor, center: Tensor, scale: Tensor) -> Tensor:
    """Features of raw rows, NaN where their value is missing, around a center."""
    features = ((encoder.encode(raw) - center) / scale).clamp_(-LARGEST, LARGEST)
    is_missing = raw.index_select(1, encoder.source).isnan() & ~encoder.indicator
    return features.masked_fill_(is_missing, torch.nan)


def affine_of(encoder: Encoder, center: Tensor, scale: Tensor, dtype: torch.dtype) -> Affine:
    """What an encoder does to features that lie around a center."""
    columns = int(encoder.source.max()) + 1
    nothing = torch.full((1, columns), torch.nan, dtype=torch.float64)
    fill = (encoder.encode(nothing)[0] - center) / scale
    shift = (encoder.mean - center) / scale
    is_constant = encoder.scale.isinf()
    return Affine(
        fill=fill.to(dtype).unsqueeze(1),
        center=torch.where(is_constant, 0.0, shift).to(dtype).unsqueeze(1),
        factor=(scale / encoder.scale).to(dtype).unsqueeze(1),
        limit=float(encoder.limit),
    )
