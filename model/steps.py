"""Steps: how gradients of batches become steps of an optimizer, for each network by itself."""

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from lightning.pytorch import Trainer
from torch import Tensor


class StepArguments(TypedDict, total=False):
    """The arguments of Lightning's Trainer that mean something for each of many networks."""

    accumulate_grad_batches: int
    gradient_clip_val: float | None
    gradient_clip_algorithm: str | None


class Steps(NamedTuple):
    """What the arguments of Lightning's Trainer with these names say.

    >>> gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4]])  # of two networks
    >>> Steps(gradient_clip_val=1.0).clip([gradient])
    >>> gradient
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])

    Args:
        accumulate_grad_batches: Batches of a step; the last step of an epoch may have fewer.
        gradient_clip_val: The largest gradient; None or 0 for any.
        gradient_clip_algorithm: Whether that is the norm of a network's gradient or each "value".
    """

    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str | None = None

    @classmethod
    def take(cls, trainer: Trainer) -> "Steps":
        """Those of a Trainer, which then has none: it refuses them for steps that are not its."""
        algorithm = trainer.gradient_clip_algorithm
        steps = cls(
            trainer.accumulate_grad_batches,
            trainer.gradient_clip_val,
            None if algorithm is None else str(algorithm),
        )
        trainer.accumulate_grad_batches = 1
        trainer.gradient_clip_val = None
        return steps

    def of_epoch(self, batches: int) -> int:
        """Steps of an epoch."""
        return -(-batches // self.accumulate_grad_batches)

    def clip(self, gradients: Sequence[Tensor | None]) -> None:
        """Clip the gradients of all networks, (members, *shape), in place."""
        limit = self.gradient_clip_val
        if not limit:
            return
        known = [gradient for gradient in gradients if gradient is not None]
        if self.gradient_clip_algorithm == "value":
            for gradient in known:
                gradient.clamp_(-limit, limit)
            return
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in known]).norm(dim=0)
        factors = (limit / (norms + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
        for gradient in known:
            gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))


class Accumulated:
    """The mean gradient of the rows of several batches."""

    def __init__(self) -> None:
        self.totals: list[Tensor | None] = []

    def add(
        self, gradients: Sequence[Tensor | None], share: float, is_first: bool
    ) -> list[Tensor | None]:
        """Add a batch; return the sum so far, in the same list every time.

        Args:
            gradients: Those of the batch's mean loss.
            share: The batch's share of the rows.
            is_first: Whether it is the first batch of a step.
        """
        if not self.totals:
            self.totals = [None if x is None else torch.zeros_like(x) for x in gradients]
        for total, gradient in zip(self.totals, gradients, strict=True):
            if total is None or gradient is None:
                continue
            if is_first:
                total.zero_()
            total.add_(gradient, alpha=share)
        return self.totals
