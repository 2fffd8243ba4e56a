"""Rows that are not independent: near twins across a cut, and columns that look like a group's id.

Held-out rows say how new rows will fare only if they are as new to the network as those will be.
Six samples of one patient, cut at random, are not: a network recognizes the patient.

Equal rows alone are no sign of it. Tables of few discrete values have many (led7digit: nearly all
rows), and so has any dense region. A warning therefore asks for three things together, which 54
public tables were tried on (tests/test_leakage.py):

- A gap: a held-out row's nearest training rows, its twins, are at most half as far as the next one.
- Labels: twins have its class nearly always, the rows behind the gap much less often. Where both
  agree alike, the features predict the class and no twin is needed. Where twins often differ, their
  labels were drawn row by row. The gain in accuracy that twins explain, the share of rows that have
  some times this difference, must be MIN_GAIN.
- Not by chance: with each column's values shuffled, there are at most half as many twins.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.layout import Layout
from data.memory import give_back
from data.shared_rows import SharedRows, SharedSplits, shared
from data.tabular import Splits, TabularData

MAX_QUERIES = 300  # held-out rows that are looked at
NEIGHBOURS = 50  # training rows next to each
PIECE_VALUES = 2**22  # of training rows that are looked at together: 16 MiB
PRODUCTS = 5e9  # multiplications for all distances: half a second on a core
TWIN_DISTANCE = 0.5  # of a row's farthest twin, relative to its next neighbour
BEHIND = 5  # neighbours behind the gap that twins are compared with
MIN_TWINS = 5  # held-out rows with twins
MIN_GAIN = 0.1  # of accuracy
MIN_AGREEMENT = 0.95  # of the classes of twins, and of rows of the same id
MIN_STANDARD_ERRORS = 3  # that twins agree more than others
MIN_IDS = 10  # values of a column of ids that several rows have
ID_VALUES = 2e7  # of the training rows, in which ids are looked for: bounds the time


@dataclass(frozen=True)
class Twins:
    """Held-out rows that have twins among the training rows, and what the twins' classes gain."""

    rows: int  # with twins
    of: int  # looked at
    agreement: float = 0.0  # share of twins of the same class
    gain: float = 0.0  # of accuracy, over all rows that were looked at
    is_certain: bool = False  # that the gain is above 0

    @property
    def is_leak(self) -> bool:
        return (
            self.rows >= MIN_TWINS
            and self.gain >= MIN_GAIN
            and self.agreement >= MIN_AGREEMENT
            and self.is_certain
        )


class Id(NamedTuple):
    """A column that looks like a group's id: how many values how many rows have."""

    column: int
    values: int
    rows: int


def warnings_of(datamodule: TabularData, cut: Splits | SharedSplits, layout: Layout) -> list[str]:
    """At most one line: why the scores of a cut's test rows are too good, and what to do.

    Args:
        datamodule: The table, after `read()`. With groups or times nothing is looked for.
        cut: The standardized rows, of which "train" and "test" are used, a piece at a time.
        layout: What their features are made of.
    """
    if datamodule.groups is not None or datamodule.times is not None:
        return []
    splits = shared(cut)
    rows = id_rows(splits["train"], layout)
    ids = find_ids(rows.features.numpy(), rows.targets.numpy(), layout)
    twins = find_twins(splits)
    give_back()
    if twins.is_leak and 2 * find_twins(splits, layout).rows <= twins.rows:
        # Exact copies make every column look like an id.
        name = datamodule.column_names[ids[0].column] if len(ids) == 1 else "COLUMN"
        looked_at = "" if twins.of == splits["test"].num_rows else " that were looked at"
        return [
            f"warning: {twins.rows} of {twins.of} test rows{looked_at} nearly equal training rows "
            "of their class. If rows belong together, as those of a patient do, the scores are too "
            f"good; --data.groups {name} keeps them together"
        ]
    if ids:
        name = datamodule.column_names[ids[0].column]
        return [
            f"warning: {name!r} looks like an id: {ids[0].rows} training rows have {ids[0].values} "
            "values of it, and rows of a value have one class. For new ids the scores are too "
            f"good; --data.groups {name} keeps the rows of each together"
        ]
    return []


def find_twins(splits: SharedSplits, shuffled: Layout | None = None) -> Twins:
    """Look for twins of some test rows among the training rows.

    Args:
        splits: The standardized rows.
        shuffled: Put each column's values in random order; this says of which features it is made.
    """
    train = splits["train"]
    test = splits["test"]
    num_values = train.num_rows * train.table.features.shape[1]
    count = min(MAX_QUERIES, test.num_rows, max(MIN_TWINS, int(PRODUCTS / (num_values + 1))))
    neighbours = min(NEIGHBOURS, train.num_rows // 2)
    if neighbours < 2:
        return Twins(0, count)
    queries = torch.linspace(0, test.num_rows - 1, count).long()
    if shuffled is None:
        looked_at = test.take(queries.numpy()).features
    else:
        looked_at = shuffle(test.features, shuffled, seed=1)[queries]
    nearest, distances = nearest_rows(looked_at, pieces_of(train, shuffled), neighbours)
    same = (train.targets[nearest] == test.targets[queries].unsqueeze(1)).double()

    gap = distances[:, :-1] <= TWIN_DISTANCE * distances[:, 1:]
    gap &= distances[:, 1:] > 0  # behind the exact copies
    place = torch.arange(neighbours)
    num_twins = torch.where(gap, place[1:], 0).amax(1, keepdim=True)
    has_twins = num_twins[:, 0] > 0
    found = int(has_twins.sum())
    if found < 2:
        return Twins(found, count)
    is_twin = place < num_twins
    is_behind = (place >= num_twins) & (place < num_twins + BEHIND)
    agreement = mean_where(same, is_twin)[has_twins]
    gains = agreement - mean_where(same, is_behind)[has_twins]
    gain = float(gains.mean())
    error = float(gains.std()) / found**0.5
    return Twins(
        rows=found,
        of=count,
        agreement=float(agreement.mean()),
        gain=gain * found / count,
        is_certain=gain > MIN_STANDARD_ERRORS * error,
    )


def pieces_of(rows: SharedRows, shuffled: Layout | None = None) -> Iterator[Tensor]:
    """Yield features, some rows at a time; with a layout each piece is shuffled in itself."""
    size = max(MAX_QUERIES, PIECE_VALUES // rows.table.features.shape[1])
    for index, start in enumerate(range(0, rows.num_rows, size)):
        features = rows.take(slice(start, start + size)).features
        yield features if shuffled is None else shuffle(features, shuffled, seed=index)


def nearest_rows(
    queries: Tensor, pieces: Iterable[Tensor], neighbours: int
) -> tuple[Tensor, Tensor]:
    """The nearest rows of each query, in order, and their distances: (queries, neighbours)."""
    indices = torch.empty(len(queries), 0, dtype=torch.long)
    distances = torch.empty(len(queries), 0, dtype=torch.float64)
    start = 0
    for features in pieces:
        count = min(neighbours, len(features))
        near = torch.cat(
            [
                torch.cdist(some, features).topk(count, largest=False).indices
                for some in queries.split(30)  # bounds the memory
            ]
        )
        # Again without the rounding errors of cdist, in which exact copies are not at 0.
        exact = torch.stack(
            [
                (features[rows] - query).double().norm(dim=1)
                for query, rows in zip(queries, near, strict=True)
            ]
        )
        indices = torch.cat([indices, near + start], 1)
        distances, order = torch.cat([distances, exact], 1).sort(1)
        distances = distances[:, :neighbours]
        indices = indices.gather(1, order)[:, :neighbours]
        start += len(features)
    return indices, distances


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of each row of values where a mask holds: (rows, columns) -> (rows,)."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)


def shuffle(features: Tensor, layout: Layout, seed: int) -> Tensor:
    """Features (rows, features) with the values of each column of the table in random order."""
    generator = torch.Generator().manual_seed(seed)
    features = features.clone()
    for column in np.unique(layout.source):
        order = torch.randperm(len(features), generator=generator)
        of_column = torch.from_numpy(np.flatnonzero(layout.source == column))
        features[:, of_column] = features[:, of_column][order]
    return features


def id_rows(train: SharedRows, layout: Layout) -> SharedRows:
    """The training rows in which ids are looked for: the first ones."""
    rows = max(1000, int(ID_VALUES / len(layout.names)))
    return train.take(slice(0, rows))


def find_ids(features: np.ndarray, targets: np.ndarray, layout: Layout) -> list[Id]:
    """The columns that look like a group's id, the likeliest first.

    Rows that share a value of it nearly always share a class, and much more often than rows of
    neighbouring values do, of text than any two rows. (Petal lengths predict the species too, but
    as well from one value to the next.)
    """
    columns, counts = np.unique(layout.source[~layout.indicator], return_counts=True)
    rows = len(targets)
    gains: dict[Id, float] = {}
    for column, count in zip(columns.tolist(), counts.tolist(), strict=True):
        of_column = np.flatnonzero((layout.source == column) & ~layout.indicator)
        is_text = not np.isnan(layout.code[of_column[0]])
        if is_text and count < MIN_IDS:
            continue
        values = features[:, of_column].argmax(1) if is_text else features[:, of_column[0]]
        gain = id_gain(values, targets, is_text)
        if gain >= MIN_GAIN:
            gains[Id(column, len(np.unique(values)), rows)] = gain
    return sorted(gains, key=lambda found: gains[found], reverse=True)


def id_gain(values: np.ndarray, targets: np.ndarray, is_text: bool) -> float:
    """How much more often rows of a value agree in class than others do; 0 if not as ids do.

    >>> patients = np.repeat(np.arange(30.0), 4)
    >>> illness = np.repeat(np.random.default_rng(0).integers(0, 2, 30), 4)
    >>> id_gain(patients, illness, is_text=False) > 0.2
    True
    >>> id_gain(patients, (patients > 15).astype(int), is_text=False)
    0.0
    """
    codes, rows = np.unique(values, return_inverse=True)
    counts = np.zeros((len(codes), targets.max() + 1))
    np.add.at(counts, (rows, targets), 1)
    sizes = counts.sum(1)
    is_repeated = sizes > 1
    if is_repeated.sum() < MIN_IDS or 2 * sizes[is_repeated].sum() < len(targets):
        return 0.0
    pairs = (counts * (counts - 1)).sum(1)[is_repeated]
    agreement = (pairs / (sizes[is_repeated] - 1)).sum() / sizes[is_repeated].sum()
    if is_text:
        shares = counts.sum(0) / len(targets)
        others = (shares**2).sum()
    else:
        among_next = (counts[:-1] * counts[1:]).sum(1) / sizes[1:]
        others = among_next.sum() / sizes[:-1].sum()
    gain = float(agreement - others)
    return gain if agreement >= MIN_AGREEMENT and gain >= MIN_GAIN else 0.0
