"""StackLoss: each member's own loss, and its gradients, for all members of a stack at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model.cross_entropy import (
    CrossEntropy,
    SoftTargets,
    cross_entropies,
    soft_targets,
    weighted,
)
from model.losses import ClassWeighted
from model.probes import is_plain_cross_entropy
from model.stack import Stack, hits, member_losses


class LossGroup(NamedTuple):
    """Members next to each other in a stack that share a loss."""

    loss: nn.Module
    use_vmap: bool
    size: int


class StackLoss:
    """The losses of a stack's members.

    Where all of them are cross-entropies, each with its label smoothing and class weights, they are
    one expression of soft targets; else each group's loss is called. Gradients are those of the
    written-out chain rule where the network is a chain of layers, else autograd's.

    Args:
        stack: The stack, on the device where it is trained.
        groups: The members' losses, in the order of the stack.
        num_classes: Number of classes.
    """

    def __init__(self, stack: Stack, groups: list[LossGroup], num_classes: int) -> None:
        self.stack = stack
        self.groups = groups
        self.num_classes = num_classes
        self.is_cross_entropy = all(is_plain_cross_entropy(group.loss) for group in groups)
        self.smoothing: Tensor | None = None  # each member's, (members,); None for none
        self.class_weights: Tensor | None = None  # (members, num_classes); None for none
        if self.is_cross_entropy:
            self.read_arguments()
        # By split: class indices and their soft targets, kept while the rows are the same.
        self.known: dict[str, tuple[Tensor, SoftTargets]] = {}
        self.make_chain()

    def read_arguments(self) -> None:
        """Take label smoothing and class weights from cross-entropies."""
        like = self.stack.stacked[0].detach()
        smoothing: list[float] = []
        weights = []
        for group in self.groups:
            loss = group.loss
            weight = like.new_ones(self.num_classes)
            if isinstance(loss, ClassWeighted):
                weight = loss.weight.to(like)
                loss = loss.row_loss
            # nn.Module declares its attributes as tensors or modules; this one is a number.
            smoothing += [loss.label_smoothing] * group.size  # type: ignore[list-item]
            weights.append(weight.expand(group.size, self.num_classes))
        if any(smoothing):
            self.smoothing = like.new_tensor(smoothing)
        if any(isinstance(group.loss, ClassWeighted) for group in self.groups):
            self.class_weights = torch.cat(weights)

    def make_chain(self) -> None:
        """Write out the stack's backward pass, for the parameters where they lie now."""
        is_precise = all(x.dtype in (torch.float32, torch.float64) for x in self.stack.stacked)
        self.chain = self.stack.chain() if is_precise else None
        self.cross_entropy = CrossEntropy()
        # Of the stack's parameters: those of the chain are the same tensors in every step.
        self.gradients: Sequence[Tensor | None] = []
        if self.chain is not None:
            self.gradients = list(self.chain.gradients.values())

    def soft_targets(self, split: str, targets: Tensor, size: int) -> SoftTargets | None:
        """Soft targets of a split's class indices (members, rows); None without cross-entropy.

        Class weights multiply those of their rows, in batches of `size` rows by 1 on average.
        """
        known, soft = self.known.get(split, (None, None))
        if targets is known or not self.is_cross_entropy:
            return soft
        soft = soft_targets(targets, self.smoothing, self.num_classes, self.stack.stacked[0])
        if self.class_weights is not None:
            weights = self.class_weights.gather(1, targets)
            batches = [batch / batch.mean(1, keepdim=True) for batch in weights.split(size, 1)]
            soft = weighted(soft, torch.cat(batches, 1))
        if self.stack.splits[split].is_kept:
            self.known[split] = targets, soft
        return soft

    def losses(self, logits: Tensor, targets: Tensor, soft: SoftTargets | None) -> Tensor:
        """Each member's loss, (members,)."""
        if soft is not None:
            return cross_entropies(logits, soft)
        sizes = [group.size for group in self.groups]
        groups = zip(self.groups, logits.split(sizes), targets.split(sizes), strict=True)
        return torch.cat(
            [
                member_losses(group.loss, group_logits, group_targets, group.use_vmap)
                for group, group_logits, group_targets in groups
            ]
        )

    def differentiate(
        self, x: Tensor, y: Tensor, soft: SoftTargets | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, each member's loss and its hits; `gradients` are then those of the parameters.

        The next call overwrites logits and gradients. The logits of a row can be off by a number
        that is the same for all its classes.
        """
        if self.chain is None or torch.is_autocast_enabled(x.device.type):
            logits = self.stack(x)
            losses = self.losses(logits, y, soft)
            losses.sum().backward()
            self.gradients = [stacked.grad for stacked in self.stack.stacked]
            for stacked in self.stack.stacked:
                stacked.grad = None
            return logits.detach(), losses.detach(), hits(logits.detach(), y)
        with torch.no_grad():
            logits = self.chain.forward(x)
            if soft is None:
                losses, slopes = self.slopes(logits, y)
                right = hits(logits, y)
            else:
                losses, slopes, right = self.cross_entropy(logits, soft)
            self.chain.backward(slopes)
        return logits, losses, right

    def slopes(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Each member's loss, and the gradient of it by the logits: autograd's, for any loss."""
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            losses = self.losses(leaf, targets, None)
            (slopes,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach(), slopes

    def keep_only(self, members: list[int]) -> None:
        """Go on with these members only; the stack has already left out the others."""
        owners = np.repeat(np.arange(len(self.groups)), [group.size for group in self.groups])
        sizes = np.bincount(owners[members], minlength=len(self.groups))
        self.groups = [
            group._replace(size=int(size))
            for group, size in zip(self.groups, sizes, strict=True)
            if size
        ]
        if self.smoothing is not None:
            self.smoothing = self.smoothing[members]
        if self.class_weights is not None:
            self.class_weights = self.class_weights[members]
        self.known = {}
        self.make_chain()
