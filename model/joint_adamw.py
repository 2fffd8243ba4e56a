"""One AdamW for many candidates: each member has its own rate, decay, betas and epsilon."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

from model.classifier import Classifier
from model.links import Reused
from model.member_optimizer import MemberOptimizer, is_adamw
from model.stack import Stack

# Arguments of AdamW of which each member has its own value.
RATES = ("lr", "weight_decay", "eps", "beta1", "beta2")


class MemberAdamW(optim.Optimizer):
    """`torch.optim.AdamW`, whose rates are tensors: a value for each member of a stack.

    Args:
        params: Stacked parameters, (members, *shape).
    """

    def __init__(self, params: Iterable[nn.Parameter]) -> None:
        super().__init__(params, {})
        self.steps = 0
        self.kept = Reused()
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter] = {
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    @torch.no_grad()
    def update(self, rates: dict[str, np.ndarray]) -> None:
        """One step.

        With m and v the averages of gradients and of their squares, c = sqrt(1 - beta2^t) and
        s = lr c / (1 - beta1^t), AdamW's step t is w - lr weight_decay w - s m / (sqrt(v) + eps c).

        Args:
            rates: The `RATES` of each member, (members,).
        """
        self.steps += 1
        correction = np.sqrt(1 - rates["beta2"] ** self.steps)
        values = [
            1 - rates["lr"] * rates["weight_decay"],
            1 - rates["beta1"],
            1 - rates["beta2"],
            -rates["lr"] / (1 - rates["beta1"] ** self.steps) * correction,
            rates["eps"] * correction,
        ]
        # In float64 until here, as torch has numbers; one copy to the type of the parameters.
        table = torch.from_numpy(np.stack(values)).to(self.param_groups[0]["params"][0])
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is None:
                continue
            shape = (-1, *[1] * (parameter.dim() - 1))  # a value for all of a member's elements
            shrink, keep, keep_square, step, eps = (row.view(shape) for row in table)
            average, square = self.state[parameter].values()
            scratch = self.kept.like(parameter, parameter.shape)
            parameter.mul_(shrink)
            average.lerp_(parameter.grad, keep)
            square.lerp_(torch.mul(parameter.grad, parameter.grad, out=scratch), keep_square)
            torch.sqrt(square, out=scratch).add_(eps)
            parameter.addcmul_(torch.div(average, scratch, out=scratch), step)


class JointOptimizer(MemberOptimizer):
    """The optimizers and schedules of several candidates, next to each other in a stack, as one.

    Each candidate has an optimizer and a schedule of its own, of an empty parameter: they only tell
    its rates in each step.

    Args:
        stack: The stack that holds the parameters.
        classifiers: The classifier of each member, from the first member of the slice on.
        start: Index of the first member.
        total_steps: Steps of the whole fit.
    """

    def __init__(
        self, stack: Stack, classifiers: Sequence[Classifier], start: int, total_steps: int
    ) -> None:
        self.set_members(stack, slice(start, start + len(classifiers)))
        self.adamw = MemberAdamW(self.views)
        self.optimizer = self.adamw
        self.schedule = None
        self.sources = []
        sizes = []
        for _, group in groupby(classifiers, id):
            members = list(group)
            optimizer, schedule = members[0].optimize([nn.Parameter(torch.zeros(0))], total_steps)
            optimizer.step()  # a schedule expects its optimizer's step before its own
            self.sources.append((optimizer, schedule))
            sizes.append(len(members))
        self.owners = np.repeat(np.arange(len(sizes)), sizes)  # the source of each member

    @property
    def is_known(self) -> bool:
        return True

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        self.set_gradients(gradients)
        groups = [optimizer.param_groups[0] for optimizer, _ in self.sources]
        rows = [
            (group["lr"], group["weight_decay"], group["eps"], *group["betas"]) for group in groups
        ]
        columns = np.array(rows, dtype=float)[self.owners].T
        self.adamw.update(dict(zip(RATES, columns, strict=True)))
        for _, schedule in self.sources:
            if schedule is not None:
                schedule.step()

    def keep_only(self, stack: Stack, members: Sequence[int], start: int) -> int:
        owners = self.owners[self.left(members)]
        sources, self.owners = np.unique(owners, return_inverse=True)
        self.sources = [self.sources[index] for index in sources]
        return super().keep_only(stack, members, start)

    def schedule_state(self) -> Any:
        sources = [
            (optimizer.state_dict(), schedule and schedule.state_dict())
            for optimizer, schedule in self.sources
        ]
        return {"steps": self.adamw.steps, "sources": sources}

    def load_schedule_state(self, state: Any) -> None:
        self.adamw.steps = state["steps"]
        for source, source_state in zip(self.sources, state["sources"], strict=True):
            optimizer, schedule = source
            optimizer_state, schedule_state = source_state
            optimizer.load_state_dict(optimizer_state)
            if schedule is not None:
                schedule.load_state_dict(schedule_state)


def is_joinable(classifier: Classifier) -> bool:
    """Whether a candidate's optimizer is an AdamW whose rates can be those of a joint one."""
    optimizer, _ = classifier.optimize([nn.Parameter(torch.zeros(1))], 1000)
    return is_adamw(optimizer)
