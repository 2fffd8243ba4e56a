"""Cross-entropy of many networks at once, and its gradient, on soft targets."""

from typing import NamedTuple

import torch
from torch import Tensor

from model.links import Reused


class SoftTargets(NamedTuple):
    """What cross-entropy asks for, once for all epochs in which the rows keep their order.

    Args:
        shares: Each class's share of a row, times the row's weight, (members, num_classes, rows).
        is_class: 1 for the class of a row, else 0, (members, num_classes, rows).
        weights: Each row's weight, (members, 1, rows); None for 1.
    """

    shares: Tensor
    is_class: Tensor
    weights: Tensor | None = None

    def rows(self, rows: slice) -> "SoftTargets":
        """Those of some rows."""
        weights = None if self.weights is None else self.weights[..., rows]
        return SoftTargets(self.shares[..., rows], self.is_class[..., rows], weights)


def soft_targets(
    targets: Tensor, smoothing: Tensor | None, num_classes: int, like: Tensor
) -> SoftTargets:
    """The class probabilities that cross-entropy with label smoothing asks for.

    >>> smoothing = torch.tensor([0.3])
    >>> soft_targets(torch.tensor([[2]]), smoothing, 3, like=smoothing).shares.squeeze()
    tensor([0.1000, 0.1000, 0.8000])

    Args:
        targets: Class indices, (members, rows).
        smoothing: Each member's label smoothing, (members,); None for none.
        num_classes: Number of classes.
        like: A tensor of the type that they are to have.
    """
    classes = torch.arange(num_classes, device=targets.device)
    is_class = (targets.unsqueeze(1) == classes.unsqueeze(1)).to(like)
    if smoothing is None:
        return SoftTargets(is_class, is_class)
    smoothing = smoothing[:, None, None]
    return SoftTargets(is_class * (1 - smoothing) + smoothing / num_classes, is_class)


def weighted(soft: SoftTargets, weights: Tensor) -> SoftTargets:
    """The same targets with a weight for each row, (members, rows)."""
    weights = weights.unsqueeze(1)
    return SoftTargets(soft.shares * weights, soft.is_class, weights)


def cross_entropies(logits: Tensor, soft: SoftTargets) -> Tensor:
    """Each member's cross-entropy.

    Shapes: (members, num_classes, rows) logits -> (members,).
    """
    # log_softmax over the middle dimension: over a last dimension of 3 it is slow.
    return -(soft.shares * logits.log_softmax(1)).sum((1, 2)) / logits.shape[2]


class CrossEntropy:
    """Cross-entropy, its gradient, and the hits, in place on a tensor that is used again."""

    def __init__(self) -> None:
        self.reused = Reused()

    def __call__(self, logits: Tensor, soft: SoftTargets) -> tuple[Tensor, Tensor, Tensor]:
        """Each member's loss, its gradient by the logits, (softmax - shares) / rows, and hits.

        Shapes: (members, num_classes, rows) logits -> (members,), as the logits, (members,).

        The logits are changed: a row's largest one becomes 0. The next call overwrites the
        gradient.

        >>> soft = soft_targets(torch.tensor([[0, 1]]), None, 2, like=torch.zeros(1))
        >>> loss, gradient, hits = CrossEntropy()(torch.tensor([[[5.0, 0.0], [5.0, -9.0]]]), soft)
        >>> gradient
        tensor([[[-0.2500,  0.4999],
                 [ 0.2500, -0.4999]]])
        >>> hits  # where classes share the largest logit, each is a hit
        tensor([1.])
        """
        rows = logits.shape[2]
        scratch = self.reused.like(logits, logits.shape)
        logits.sub_(logits.amax(1, keepdim=True))  # so that exp cannot overflow
        hits = torch.eq(logits, 0, out=scratch).mul_(soft.is_class).sum((1, 2))
        target_sums = torch.mul(logits, soft.shares, out=scratch).sum((1, 2))
        gradient = torch.exp(logits, out=scratch)
        sums = gradient.sum(1, keepdim=True)
        log_sums = sums.log()
        if soft.weights is not None:
            log_sums.mul_(soft.weights)
            gradient.mul_(soft.weights)
        # -log softmax of a class is log_sums - logits; a row's shares add up to its weight.
        losses = (log_sums.sum((1, 2)) - target_sums) / rows
        gradient.div_(sums.mul_(rows)).sub_(soft.shares, alpha=1 / rows)
        return losses, gradient, hits
