"""The optimizers of a stack's members: torch's own, on views of the stack."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.adamw import adamw
from torch.optim.lr_scheduler import ReduceLROnPlateau

from model.classifier import Classifier
from model.optimizers import ScaledAdamW
from model.stack import Stack

# Arguments of AdamW that must be off where its step is called directly, or written out.
FLAGS = ("amsgrad", "maximize", "capturable", "differentiable")


class MemberOptimizer:
    """An optimizer and its schedule for some members of a stack; it updates views of the stack.

    Args:
        stack: The stack that holds the parameters.
        members: A slice of the stack, or one index where the optimizer would mix members.
        classifier: Makes the optimizer and the schedule.
        total_steps: Steps of the whole fit.
    """

    def __init__(
        self, stack: Stack, members: slice | int, classifier: Classifier, total_steps: int
    ) -> None:
        self.set_members(stack, members)
        self.optimizer, self.schedule = classifier.optimize(self.views, total_steps)
        self.is_fused = is_fused(self.optimizer)

    def set_members(self, stack: Stack, members: slice | int) -> None:
        """Make the views of these members."""
        self.members = members
        self.views = [
            nn.Parameter(stacked.detach()[members], stacked.requires_grad)
            for stacked in stack.stacked
        ]
        self.gradients: Sequence[Tensor | None] = []

    @property
    def is_known(self) -> bool:
        """Whether the optimizer is torch's or this project's."""
        return type(self.optimizer).__module__.partition(".")[0] == "torch" or isinstance(
            self.optimizer, ScaledAdamW
        )

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """One step with these members' slices of the stack's gradients."""
        self.set_gradients(gradients)
        if self.is_fused and self.optimizer.state:
            fused_step(self.optimizer)
        else:  # also the first step of a fused one, which makes its state
            self.optimizer.step()
        if self.schedule is not None and not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()

    def set_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        """Let the views have these members' slices of the gradients."""
        if gradients is self.gradients:  # those of a chain stay the same tensors
            return
        self.gradients = gradients
        for view, gradient in zip(self.views, gradients, strict=True):
            view.grad = None if gradient is None else gradient[self.members]

    def keep_only(self, stack: Stack, members: Sequence[int], start: int) -> int:
        """Leave out all members but these; the stack has already left them out.

        Args:
            stack: The stack.
            members: Indices of the members of the stack as it was, of all optimizers.
            start: How many members of earlier optimizers are left.

        Returns:
            How many members of this optimizer are left.
        """
        left = self.left(members)
        is_single = isinstance(self.members, int)
        self.members = start if is_single else slice(start, start + len(left))
        self.gradients = []
        if not left:
            return 0
        for view, stacked in zip(self.views, stack.stacked, strict=True):
            state = self.optimizer.state[view]
            for name, value in state.items():
                is_stacked = torch.is_tensor(value) and value.shape == view.shape
                if is_stacked and not is_single:
                    state[name] = value[left]
            view.grad = None
            view.data = stacked.detach()[self.members]
        return len(left)

    def left(self, members: Sequence[int]) -> list[int]:
        """The positions, among this optimizer's members, of those that the stack keeps."""
        if isinstance(self.members, int):
            return [0] if self.members in members else []
        positions = range(self.members.start, self.members.stop)
        return [positions.index(index) for index in members if index in positions]

    def follow_loss(self, losses: Tensor) -> None:
        """At the end of an epoch: give ReduceLROnPlateau its member's loss."""
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(losses[self.members])

    def schedule_state(self) -> Any:
        """What a resumed fit needs besides the state of the optimizer; None for nothing."""
        return self.schedule and self.schedule.state_dict()

    def load_schedule_state(self, state: Any) -> None:
        """Go on with what `schedule_state` returned."""
        if self.schedule is not None:
            self.schedule.load_state_dict(state)


def is_adamw(optimizer: Optimizer) -> bool:
    """Whether an optimizer is a plain AdamW, whose rates are numbers."""
    if type(optimizer) not in (AdamW, ScaledAdamW):
        return False
    group: dict[str, Any] = optimizer.param_groups[0]
    return not any(group[name] for name in FLAGS) and not torch.is_tensor(group["lr"])


def is_fused(optimizer: Optimizer) -> bool:
    """Whether `fused_step` can take an optimizer's step."""
    return is_adamw(optimizer) and bool(optimizer.param_groups[0]["fused"])


def fused_step(optimizer: Optimizer) -> None:
    """The step of a fused AdamW; what Optimizer.step does around it takes a small stack longer."""
    (group,) = optimizer.param_groups
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    states = [optimizer.state[parameter] for parameter in parameters]
    beta1, beta2 = group["betas"]
    with torch.no_grad():
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
