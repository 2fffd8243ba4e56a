"""Which optimizers cover a stack: one for each candidate, or joint or single ones."""

from collections.abc import Sequence
from itertools import groupby

from model.classifier import Classifier
from model.joint_adamw import JointOptimizer, is_joinable
from model.member_optimizer import MemberOptimizer
from model.stack import Stack

# Elements of a candidate's members in a stack below which its AdamW joins those of others: there a
# call costs more than what it computes. Joint is 5 times as fast at 100 elements, 1.4 times at
# 5,000 and no faster at 20,000 (bench/results/joint.json); SGD and GPUs were not measured.
JOINT_ELEMENTS = 2**13


def make_optimizers(
    stack: Stack,
    candidates: Sequence[int],
    classifiers: Sequence[Classifier],
    separate: Sequence[bool],
    total_steps: int,
) -> list[MemberOptimizer]:
    """Optimizers that together cover a stack.

    Candidates are joined where a call costs more than the elements that it updates.

    Args:
        stack: The stack, on the device where it is trained.
        candidates: The index of each member's candidate; those of one are next to each other.
        classifiers: Each candidate's Classifier, which makes its optimizer.
        separate: Whether each member of a candidate needs an optimizer of its own.
        total_steps: Steps of the whole fit.
    """
    different = set(candidates)
    elements = sum(stacked.numel() for stacked in stack.stacked) / len(different)
    joined: set[int] = set()
    if elements < JOINT_ELEMENTS and stack.stacked[0].device.type == "cpu":
        joined = {i for i in different if not separate[i] and is_joinable(classifiers[i])}
    if len(joined) < 2:
        joined = set()
    optimizers: list[MemberOptimizer] = []
    start = 0
    for key, group in groupby(candidates, lambda index: -1 if index in joined else index):
        own = [classifiers[candidate] for candidate in group]
        stop = start + len(own)
        if key == -1:
            optimizers.append(JointOptimizer(stack, own, start, total_steps))
        elif separate[key]:
            for index in range(start, stop):
                optimizers.append(MemberOptimizer(stack, index, own[0], total_steps))
        else:
            optimizers.append(MemberOptimizer(stack, slice(start, stop), own[0], total_steps))
        start = stop
    return optimizers
