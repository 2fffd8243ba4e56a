"""How rows are cut into splits and folds: at random, by whole groups, or by time."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
)
from sklearn.utils import check_random_state

from data.sampling import split_off

ALL_ROWS = slice(None)
MOST_PARTS = 20  # equal parts of which a share of the groups is made

Cut = tuple[np.ndarray, np.ndarray]  # indices of the rows to train on, and of the held-out ones


@dataclass(frozen=True)
class Cutter:
    """The rule by which rows are cut.

    - Without groups and times: at random, each class by itself if `stratify`.
    - With groups: the rows of a group stay together, so that held-out rows are of new groups.
    - With times: training rows are earlier than held-out ones, and rows of the same time stay
      together. There is one such cut into folds, so that repeating it adds nothing.

    Args:
        targets: Class indices (rows,).
        groups: The group of each row (rows,), as whole numbers from 0; None for none.
        times: When each row was (rows,), as numbers; None if that does not matter.
        stratify: Whether each part keeps the shares of the classes; times take no notice of it.
        seed: Seed of the draws.
    """

    targets: np.ndarray
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    stratify: bool = True
    seed: int = 0

    def most_folds(self, rows: np.ndarray) -> tuple[int, str]:
        """The most folds that rows can be cut into, and what limits them."""
        if self.times is not None:
            return len(np.unique(self.times[rows])) - 1, "one less than there are times"
        if not self.stratify:
            if self.groups is None:
                return len(rows), "the rows of the table"
            return len(np.unique(self.groups[rows])), "the groups of the table"
        counts = np.bincount(self.targets[rows])
        if self.groups is None:
            return int(counts[counts > 0].min()), "the rows of the smallest class"
        pairs = np.unique(np.stack([self.groups[rows], self.targets[rows]]), axis=1)
        groups = np.bincount(pairs[1])
        return int(groups[groups > 0].min()), "the groups of the smallest class"

    def k_fold(self, rows: np.ndarray, folds: int, repeats: int = 1) -> Iterable[Cut]:
        """Cut rows into folds: scikit-learn's cuts, each fold held out once per repeat.

        At random they are made one after the other: all of them take a lot of memory.

        Args:
            rows: Indices of the rows.
            folds: Number of folds.
            repeats: How often the rows are shuffled and cut; times allow one.

        Raises:
            ValueError: A fold would have no row.
        """
        if self.times is not None:
            return self.by_time(rows, folds)
        if self.groups is not None:
            cuts = self.by_group(rows, folds, repeats)
            if not all(len(held_out) for _, held_out in cuts):
                raise ValueError(f"{folds} folds of whole groups leave one empty; give fewer")
            return cuts
        cutter = RepeatedStratifiedKFold if self.stratify else RepeatedKFold
        splitter = cutter(n_splits=folds, n_repeats=repeats, random_state=self.seed)
        return (
            (rows[train], rows[held_out])
            for train, held_out in splitter.split(rows, self.targets[rows])
        )

    def by_group(self, rows: np.ndarray, folds: int, repeats: int) -> list[Cut]:
        """Folds of whole groups: scikit-learn's StratifiedGroupKFold, or its GroupKFold."""
        assert self.groups is not None
        groups = self.groups[rows]
        cutter = StratifiedGroupKFold if self.stratify else GroupKFold
        generator = check_random_state(self.seed)
        cuts = []
        with warnings.catch_warnings():
            # That a class has fewer rows than there are folds: it may be missing in some.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            for _ in range(repeats):
                splitter = cutter(folds, shuffle=True, random_state=generator)
                for train, held_out in splitter.split(rows, self.targets[rows], groups):
                    cuts.append((rows[train], rows[held_out]))
        return cuts

    def by_time(self, rows: np.ndarray, folds: int) -> list[Cut]:
        """Folds of later and later rows, as scikit-learn's TimeSeriesSplit cuts them.

        Of `folds` + 1 equal parts in the order of time, each but the first is held out once, and
        all rows before it are trained on. A boundary between rows of the same time moves to the
        first of them.
        """
        assert self.times is not None
        ordered = rows[np.argsort(self.times[rows], kind="stable")]
        times = self.times[ordered]
        size = len(rows) // (folds + 1)
        starts = len(rows) - size * np.arange(folds, 0, -1)
        starts = np.searchsorted(times, times[starts])
        ends = [*starts[1:], len(rows)]
        if starts[0] == 0 or (np.diff([*starts, len(rows)]) == 0).any():
            raise ValueError(
                f"{folds} folds need more different times; too many rows have the same one"
            )
        return [
            (np.sort(ordered[:start]), np.sort(ordered[start:end]))
            for start, end in zip(starts, ends, strict=True)
        ]

    def split_off(self, rows: np.ndarray, size: int) -> Cut:
        """Hold out about `size` of the rows: drawn at random, of whole groups, or the last ones.

        Raises:
            ValueError: There are too few rows, groups or times.
        """
        if self.times is not None:
            return self.last(rows, size)
        if self.groups is not None:
            return self.draw_groups(rows, size)
        return split_off(rows, size, self.targets, self.stratify, self.seed)

    def last(self, rows: np.ndarray, size: int) -> Cut:
        """The last `size` rows in time; with the rows of the same time, a few more."""
        assert self.times is not None
        times = np.sort(self.times[rows])
        is_late = self.times[rows] >= times[len(rows) - max(size, 1)]
        if is_late.all():
            raise ValueError("there are too few different times")
        return rows[~is_late], rows[is_late]

    def draw_groups(self, rows: np.ndarray, size: int) -> Cut:
        """About `size` rows of whole groups: some of the folds of `by_group`.

        Of the folds in a row, counted on from the last to the first, the first are taken that
        leave a group of every class on both sides.
        """
        assert self.groups is not None
        most = min(len(np.unique(self.groups[rows])), MOST_PARTS)
        if most < 2:
            raise ValueError("there is one group")
        share = Fraction(size / len(rows)).limit_denominator(most)
        share = min(max(share, Fraction(1, most)), Fraction(most - 1, most))
        parts = [held_out for _, held_out in self.by_group(rows, share.denominator, 1)]
        classes = len(np.unique(self.targets[rows]))
        cuts = []
        for start in range(len(parts)):
            chosen = [parts[(start + i) % len(parts)] for i in range(share.numerator)]
            drawn = np.concatenate(chosen)
            cut = np.setdiff1d(rows, drawn), np.sort(drawn)
            cuts.append(cut)
            if all(len(np.unique(self.targets[side])) == classes for side in cut):
                return cut
        return cuts[0]

    def hold_out(self, rows: np.ndarray, members: int) -> Iterable[Cut]:
        """What each of several members trains on and holds out: a fold, or with times the end."""
        if self.times is not None:
            return [self.last(rows, len(rows) // members)] * members
        return self.k_fold(rows, members)

    def independent(self, rows: np.ndarray) -> int:
        """How many of the rows count in an interval: all, or as many as there are groups."""
        if self.groups is None:
            return len(rows)
        return len(np.unique(self.groups[rows]))

    def describe(self) -> str:
        """How rows are cut, for the user to read; empty if they are independent of one another."""
        if self.groups is not None:
            count = len(np.unique(self.groups))
            return f"{len(self.groups)} rows of {count} groups: a group stays together in every cut"
        if self.times is not None:
            return "in every cut the rows to train on are earlier than those held out"
        return ""

    def check(self, splits: dict[str, np.ndarray]) -> None:
        """Refuse splits of the user's own that part a group, or train on later rows.

        Raises:
            ValueError: They do.
        """
        names = list(splits)
        for i, name in enumerate(names):
            for later in names[i + 1 :]:
                self.check_pair(name, splits[name], later, splits[later])

    def check_pair(self, name: str, rows: np.ndarray, later: str, later_rows: np.ndarray) -> None:
        """Refuse two splits that share a group, or of which the second is not later."""
        if self.groups is not None:
            shared = np.intersect1d(self.groups[rows], self.groups[later_rows])
            if len(shared):
                row = np.flatnonzero(np.isin(self.groups, shared))[0]
                raise ValueError(
                    f"the group of row {row + 1}, one of {len(shared)}, has rows in {name} and in "
                    f"{later}; a group must be on one side"
                )
        if self.times is not None and self.times[rows].max() >= self.times[later_rows].min():
            raise ValueError(f"{later} has rows that are not later than all of {name}")


def draw_splits(
    cutter: Cutter,
    class_names: Sequence[str],
    fractions: dict[str, float],
    given: dict[str, np.ndarray | None],
) -> dict[str, np.ndarray]:
    """Row indices of each split.

    The test rows are drawn first, so that another share of validation rows keeps them.

    Args:
        cutter: How rows are cut.
        class_names: The names of the classes.
        fractions: Share of all rows of "test" and "val"; 0 for none.
        given: The rows of those splits that are not drawn, else None.

    Raises:
        ValueError: A split would lack a class. Times, and rows that are given, may leave classes
            out of validation and test.
    """
    rows = len(cutter.targets)
    splits = {"train": np.arange(rows)}
    for given_rows in given.values():
        if given_rows is not None:
            splits["train"] = np.setdiff1d(splits["train"], given_rows)
    complete = ["train"]
    try:
        for name, given_rows in given.items():
            if given_rows is not None:
                splits[name] = given_rows
            elif fractions[name]:
                size = round(fractions[name] * rows)
                splits["train"], splits[name] = cutter.split_off(splits["train"], size)
                if cutter.times is None:
                    complete.append(name)
        check_classes(cutter, {name: splits[name] for name in complete}, class_names)
    except ValueError as error:
        if given["test"] is not None and complete == ["train"]:
            raise ValueError(f"beside the rows that are given, {error}") from error
        raise ValueError(
            f"test_fraction {fractions['test']} and val_fraction {fractions['val']} of "
            f"{rows} rows leave a split without some of the {len(class_names)} classes "
            f"({error}); change the fractions"
        ) from error
    if any(given_rows is not None for given_rows in given.values()):
        cutter.check(splits)
    return {name: splits[name] for name in ("train", "val", "test") if name in splits}


def remaining(rows: int, left_out: np.ndarray | None) -> np.ndarray:
    """Indices of the rows of a table without some."""
    if left_out is None:
        return np.arange(rows)
    return np.setdiff1d(np.arange(rows), left_out)


def check_classes(
    cutter: Cutter, splits: dict[str, np.ndarray], class_names: Sequence[str]
) -> None:
    """Refuse splits of which one lacks a class."""
    for name, rows in splits.items():
        missing = set(range(len(class_names))) - set(cutter.targets[rows].tolist())
        if missing:
            raise ValueError(f"{name} has no {class_names[min(missing)]!r}")
