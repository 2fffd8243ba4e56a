"""An optimizer whose rates follow the length of the run."""

from collections.abc import Iterable
from math import sqrt
from typing import Any

from torch import nn, optim


class ScaledAdamW(optim.AdamW):
    """AdamW with a learning rate and a weight decay that fit any number of steps.

    A learning rate of 0.5 / √steps and a decay of 3 / √steps: 0.05 and 0.3 for 100 steps, and no
    more for fewer. The product of steps, rate and decay, by which the weights shrink in a run, is
    then the same in every run of 100 steps or more; with fixed rates a table of thousands of rows,
    whose epochs have many steps, shrinks its weights to nothing (bench/results/recipe.json).

    >>> from torch.nn import Linear
    >>> ScaledAdamW(Linear(4, 3).parameters(), total_steps=2500).defaults["lr"]
    0.01

    Args:
        params: Parameters to train.
        total_steps: Steps of the whole run.
        lr: Learning rate; null for 0.5 / √steps, at most 0.05.
        weight_decay: Weight decay; null for 3 / √steps, at most 0.3.
        fused: Whether torch updates all parameters in one kernel.
        arguments: Any other argument of torch.optim.AdamW.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        total_steps: int,
        lr: float | None = None,
        weight_decay: float | None = None,
        fused: bool | None = None,
        **arguments: Any,
    ) -> None:
        root = sqrt(max(total_steps, 100))
        if lr is None:
            lr = 0.5 / root
        if weight_decay is None:
            weight_decay = 3 / root
        super().__init__(params, lr=lr, weight_decay=weight_decay, fused=fused, **arguments)
