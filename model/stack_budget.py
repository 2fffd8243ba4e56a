"""Which members share a stack: as many of the same network and sizes as its memory is good for."""

from collections.abc import Sequence
from functools import cache
from itertools import groupby

import numpy as np

from data.shared_rows import SharedSplits
from model.classifier import Classifier
from model.losses import weigh
from model.member import FoldData, Member
from model.probes import activation_bytes

# Activation budget per stack on a CPU: smaller stacks are call-bound, larger ones memory-bound
# (bench/population.py).
STACK_BYTES = 4 * 2**20

# What a member counts for at least, so that a stack on a CPU has 1,024 members at most: a call
# computes that many small ones as fast as more. A quarter of them takes 1.6 times as long for
# batches of 16 rows (bench/population.py).
MEMBER_BYTES = 2**12

# Bytes of a population's rows up to which each member has its own: the small networks of a small
# table take less time for a step than gathering its rows does (bench/population.py).
KEPT_BYTES = 2**26

# Bytes of a stack's orders of rows and of its logits, which a large table limits.
ORDER_BYTES = 2**28


def group_members(
    members: Sequence[Member],
    classifiers: Sequence[Classifier],
    folds: Sequence[FoldData],
    batch_size: int | None,
    stack_bytes: int,
) -> list[list[int]]:
    """The member indices of each stack: the same network, and splits of the same sizes.

    Members of one candidate, and candidates of one loss, are next to each other. Arguments as for
    `Population`; `classifiers` are those of the candidates.
    """

    @cache  # members are many, candidates and folds few
    def position(candidate: int, fold: int) -> tuple[str, str, int, str]:
        components = dict(classifiers[candidate].hparams)
        rows = {split: rows.num_rows for split, rows in folds[fold].splits.items()}
        loss = weigh(components, folds[fold].class_weights)["loss"]
        return f"{components['network']} {rows}", str(components["loss"]), candidate, str(loss)

    positions = [position(member.candidate, member.fold) for member in members]
    stacks: list[list[int]] = []
    ordered = sorted(range(len(members)), key=positions.__getitem__)
    for _, group in groupby(ordered, lambda index: positions[index][0]):
        indices = list(group)
        first = members[indices[0]]
        classifier = classifiers[first.candidate]
        splits = folds[first.fold].splits
        rows = splits["train"].num_rows
        activations = activation_bytes(classifier, min(batch_size or rows, rows))
        needed = len(indices) * max(activations, MEMBER_BYTES)
        orders = len(indices) * order_bytes(splits, classifier.hparams["num_classes"])
        num_stacks = max(-(-needed // stack_bytes), -(-orders // ORDER_BYTES))
        num_stacks = min(num_stacks, len(indices))
        stacks += [stack.tolist() for stack in np.array_split(indices, num_stacks)]
    return stacks


def order_bytes(splits: SharedSplits, num_classes: int) -> int:
    """Bytes that a member needs for the order of its rows and for logits."""
    held_out = max(splits[split].num_rows for split in ("test", "val") if split in splits)
    return 8 * splits["train"].num_rows + 12 * num_classes * held_out


def rows_are_small(members: Sequence[Member], folds: Sequence[FoldData]) -> bool:
    """Whether the rows of all members, as tensors of their own, take little memory."""
    sizes = [sum(rows.num_bytes for rows in fold.splits.values()) for fold in folds]
    return sum(sizes[member.fold] for member in members) <= KEPT_BYTES
