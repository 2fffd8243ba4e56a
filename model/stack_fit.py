"""StackFit: the fit of one stack, in which every member keeps and stops at its own epoch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from data.tabular import EVALUATION_ROWS
from model.cross_entropy import (
    CrossEntropy,
    SoftTargets,
    cross_entropies,
    soft_targets,
    weighted,
)
from model.losses import ClassWeighted
from model.member_optimizer import MemberOptimizer
from model.probes import is_plain_cross_entropy
from model.scores import best_mode, probabilities, score
from model.stack import Stack, hits, member_losses
from model.steps import Accumulated, Steps

Value = TypeVar("Value")

# Arrays (members,) of a StackFit that a resumed fit goes on with.
MEMBER_STATE = ("best", "best_epoch", "waited", "active", "failed_in")


# Probabilities in float64 of which a score is computed at a time.
SCORED_VALUES = 2**22


class LossGroup(NamedTuple):
    """Members next to each other in a stack that share a loss."""

    loss: nn.Module
    use_vmap: bool
    size: int


class StackFit:
    """What a fit knows about one stack: losses, optimizers, and each member's best epoch.

    Args:
        stack: The stack, with its rows, on the device where it is trained.
        loss_groups: The members' losses, in the order of the stack.
        optimizers: Optimizers that together cover all members.
        num_classes: Number of classes.
        augments: One function per member that changes a batch of its training features at
            random, (rows, num_features); empty for none.
        patience: A member stops after this many epochs without a better value; None: never.
        watched: The curve that decides about epochs, such as val/log_loss.
        evaluation_rows: Rows of each member in a forward pass that learns nothing.
        steps: How gradients become steps.
    """

    def __init__(
        self,
        stack: Stack,
        loss_groups: list[LossGroup],
        optimizers: list[MemberOptimizer],
        num_classes: int,
        augments: Sequence[Callable[[Tensor], Tensor]],
        patience: int | None,
        watched: str,
        evaluation_rows: int,
        steps: Steps,
    ) -> None:
        self.stack = stack
        self.loss_groups = loss_groups
        self.optimizers = optimizers
        self.num_classes = num_classes
        self.augments = augments
        self.patience = patience
        self.watched = watched
        self.evaluation_rows = evaluation_rows
        self.steps = steps
        self.has_validation = "val" in stack.splits
        # Whether a member may end with the weights of another epoch than the last.
        self.keeps_best = self.has_validation or patience is not None

        parameter = stack.stacked[0].detach()
        self.device = parameter.device
        self.smoothing = label_smoothing(loss_groups, parameter)
        self.is_smoothed = self.smoothing is not None and bool(self.smoothing.any())
        self.class_weights = class_weights(loss_groups, num_classes, parameter)
        self.make_chain()
        # By split: class indices and their soft targets, kept while the rows are the same.
        self.soft: dict[str, tuple[Tensor, SoftTargets | None]] = {}

        members = sum(group.size for group in loss_groups)
        self.positions = np.arange(members)  # of the members that are left, in the first ones
        self.size = members
        self.kept = [stacked.detach().clone() for stacked in stack.stacked]
        self.best = np.full(members, np.inf)
        self.best_epoch = np.zeros(members, dtype=int)  # from 1
        self.waited = np.zeros(members, dtype=int)
        self.active = np.ones(members, dtype=bool)
        self.failed_in = np.zeros(members, dtype=int)  # the epoch, from 1; 0: it did not fail

    def make_chain(self) -> None:
        """Write out the stack's backward pass, for the parameters where they lie now."""
        is_precise = all(x.dtype in (torch.float32, torch.float64) for x in self.stack.stacked)
        self.chain = self.stack.chain() if is_precise else None
        if self.chain is not None:
            self.chain_gradients = list(self.chain.gradients.values())
        self.cross_entropy = CrossEntropy()
        self.accumulated = Accumulated()
        self.gradients: Sequence[Tensor | None] = []

    @property
    def is_free(self) -> bool:
        """Whether its epochs draw no random numbers, and call nothing but torch and this project.

        Then it is the same which stacks train how many epochs before it, or at the same time.
        """
        return (
            self.chain is not None
            and not self.chain.draws
            and self.smoothing is not None
            and not self.augments
            and all(optimizer.is_known for optimizer in self.optimizers)
        )

    def train(
        self,
        epochs: range,
        batch_size: int | None,
        order: Callable[[int], Tensor | None],
    ) -> dict[str, np.ndarray]:
        """Train all members for some epochs, or until none is left that still trains.

        Args:
            epochs: The epochs, from 0.
            batch_size: Rows of each member in a step; None takes all of them.
            order: Called with the epoch; returns what `train_epoch` takes.

        Returns:
            Each metric's values, (epochs, members): what `end_epochs` returns.
        """
        recorded = []
        waiting: list[dict[str, Tensor]] = []
        for epoch in epochs:
            if not self.active.any():
                break
            metrics = self.train_epoch(batch_size, order(epoch))
            if self.has_validation:
                metrics |= self.validate()
            for optimizer in self.optimizers:
                optimizer.follow_loss(monitored(metrics))
            waiting.append(metrics)
            if self.keeps_best or epoch == epochs[-1]:
                recorded.append(self.end_epochs(epoch + 2 - len(waiting), waiting))
                waiting = []
        self.make_chain()  # anew, without its tensors: all stacks' would grow with the members
        names = recorded[0] if recorded else {}
        return {name: np.concatenate([values[name] for values in recorded]) for name in names}

    def train_epoch(self, batch_size: int | None, order: Tensor | None) -> dict[str, Tensor]:
        """Take the optimizers' steps over all training rows.

        Args:
            batch_size: Rows of each member in a step; None takes all of them.
            order: The order in which each member takes its rows, (members, rows); None keeps it.

        Returns:
            Each member's "train/loss", "train/accuracy" and what is watched of them, (members,).
        """
        rows = self.stack.splits["train"].num_rows
        size = min(batch_size or rows, rows)
        first = 0
        loss_sum = torch.zeros(())
        correct = torch.zeros(())
        watched_logits = []
        watched_targets = []
        for x, y, soft in self.batches("train", size, order):
            logits, losses, right = self.differentiate(self.augmented(x), y, soft)
            if self.is_extra("train"):
                watched_logits.append(logits.clone())
                watched_targets.append(y)
            self.take_step(first, y.shape[1], size)
            first += y.shape[1]
            loss_sum = loss_sum + losses * y.shape[1]
            correct = correct + right
        metrics = {"train/loss": loss_sum / rows, "train/accuracy": correct / rows}
        if self.is_extra("train"):
            logits = torch.cat(watched_logits, 2)
            metrics[self.watched] = self.score(logits, torch.cat(watched_targets, 1))
        return metrics

    def take_step(self, first: int, count: int, size: int) -> None:
        """Take the optimizers' steps, if no further batch belongs to this one.

        Args:
            first: Rows of the epoch before this batch.
            count: Rows of the batch.
            size: Rows of a batch, of which the last one may have fewer.
        """
        gradients = self.gradients
        group = size * self.steps.accumulate_grad_batches
        if group > size:
            start = first - first % group
            rows = min(group, self.stack.splits["train"].num_rows - start)
            gradients = self.accumulated.add(gradients, count / rows, first == start)
            if first + count < start + rows:
                return
        self.steps.clip(gradients)
        for optimizer in self.optimizers:
            optimizer.step(gradients)

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
                losses, slopes = self.loss_slopes(logits, y)
                right = hits(logits, y)
            else:
                losses, slopes, right = self.cross_entropy(logits, soft)
            self.chain.backward(slopes)
        self.gradients = self.chain_gradients
        return logits, losses, right

    def loss_slopes(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Each member's loss, and the gradient of it by the logits: autograd's, for any loss."""
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            losses = self.losses(leaf, y, None)
            (slopes,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach(), slopes

    def batches(
        self, split: str, size: int, order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor, SoftTargets | None]]:
        """Yield features, targets and soft targets of `size` rows of each member at a time."""
        for features, targets in self.stack.splits[split].chunks(size, order):
            soft = self.known_soft_targets(split, targets, size)
            for start in range(0, targets.shape[1], size):
                batch = slice(start, start + size)
                soft_batch = None if soft is None else soft.rows(batch)
                yield features[..., batch], targets[:, batch], soft_batch

    def known_soft_targets(self, split: str, targets: Tensor, size: int) -> SoftTargets | None:
        """`soft_targets` of a split: those of the last call, where the targets are the same."""
        known, soft = self.soft.get(split, (None, None))
        if targets is not known:
            soft = self.soft_targets(targets, size)
            if self.stack.splits[split].is_kept:
                self.soft[split] = targets, soft
        return soft

    def logits(self, split: str) -> tuple[Tensor, Tensor]:
        """Logits (members, num_classes, rows) of a split and class indices (members, rows)."""
        self.stack.eval()
        slices = []
        targets = []
        with torch.no_grad():
            size = self.evaluation_rows
            for features, chunk_targets in self.stack.splits[split].chunks(size):
                slices += [self.stack(rows) for rows in features.split(size, 2)]
                targets.append(chunk_targets)
        if len(targets) > 1:
            targets = [torch.cat(targets, 1)]
        return torch.cat(slices, 2), targets[0]

    def validate(self) -> dict[str, Tensor]:
        """Each member's "val/loss", "val/accuracy" and what is watched of them, (members,)."""
        logits, targets = self.logits("val")
        self.stack.train()
        rows = targets.shape[1]
        size = min(rows, EVALUATION_ROWS)  # as the network alone has its validation batches
        with torch.no_grad():
            soft = self.known_soft_targets("val", targets, size)
            loss_sum = torch.zeros(())
            for start in range(0, rows, size):
                batch = slice(start, start + size)
                y = targets[:, batch]
                soft_batch = None if soft is None else soft.rows(batch)
                loss_sum = loss_sum + self.losses(logits[..., batch], y, soft_batch) * y.shape[1]
            metrics = {"val/loss": loss_sum / rows, "val/accuracy": hits(logits, targets) / rows}
            if self.is_extra("val"):
                metrics[self.watched] = self.score(logits, targets)
        return metrics

    def is_extra(self, split: str) -> bool:
        """Whether a score of this split is watched that is not computed in any case."""
        watched_split, name = self.watched.split("/")
        return watched_split == split and name not in ("loss", "accuracy")

    def score(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Each member's watched score, (members,)."""
        _, name = self.watched.split("/")
        members = max(1, SCORED_VALUES // logits[0].numel())
        groups = zip(logits.split(members), targets.split(members), strict=True)
        return torch.cat([score(name, probabilities(x, class_dim=1), y) for x, y in groups])

    def augmented(self, features: Tensor) -> Tensor:
        """A batch (members, num_features, rows) after each member's augmentation."""
        if not self.augments:
            return features
        return torch.stack(
            [
                augment(member_features).T
                for augment, member_features in zip(self.augments, features.mT, strict=True)
            ]
        )

    def soft_targets(self, targets: Tensor, size: int) -> SoftTargets | None:
        """Soft targets where all members learn by plain cross-entropy, else None.

        Class weights multiply those of their rows, in batches of `size` rows by 1 on average.
        """
        if self.smoothing is None:
            return None
        smoothing = self.smoothing if self.is_smoothed else None
        soft = soft_targets(targets, smoothing, self.num_classes, like=self.smoothing)
        if self.class_weights is None:
            return soft
        weights = self.class_weights.gather(1, targets)
        batches = [batch / batch.mean(1, keepdim=True) for batch in weights.split(size, 1)]
        return weighted(soft, torch.cat(batches, 1))

    def losses(self, logits: Tensor, targets: Tensor, soft: SoftTargets | None) -> Tensor:
        """Each member's loss, (members,)."""
        if soft is not None:
            return cross_entropies(logits, soft)
        sizes = [group.size for group in self.loss_groups]
        groups = zip(self.loss_groups, logits.split(sizes), targets.split(sizes), strict=True)
        return torch.cat(
            [
                member_losses(group.loss, group_logits, group_targets, group.use_vmap)
                for group, group_logits, group_targets in groups
            ]
        )

    def end_epochs(self, first: int, metrics: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
        """Mark the members that diverged; keep the best weights and stop members, where asked to.

        Args:
            first: The first epoch, from 1. Where weights are kept there is one epoch.
            metrics: For each epoch each metric's values, (members,).

        Returns:
            Each metric's values, (epochs, members), with NaN for members that had stopped before
            an epoch, those that were left out included.
        """
        # One copy from the device for all metrics, in float64 only there: some devices have none.
        rows = torch.stack([value for epoch in metrics for value in epoch.values()])
        table = rows.cpu().double().numpy().reshape(len(metrics), len(metrics[0]), -1)
        stays = self.active & np.logical_and.accumulate(np.isfinite(table).all(1))
        begins = np.concatenate([self.active[None], stays[:-1]])
        failed = self.active & ~stays[-1]
        self.failed_in[failed] = first + (~stays).argmax(0)[failed]
        self.active = stays[-1].copy()
        recorded = {}
        for i, name in enumerate(metrics[0]):
            recorded[name] = np.full((len(metrics), self.size), np.nan)
            recorded[name][:, self.positions] = np.where(begins, table[:, i], np.nan)
        if self.keeps_best:
            values = table[-1, list(metrics[0]).index(self.watched)]
            self.keep_best(first, -values if best_mode(self.watched) == "max" else values)
        return recorded

    def keep_best(self, epoch: int, losses: np.ndarray) -> None:
        """Do for every member what ModelCheckpoint and EarlyStopping do for one network.

        Args:
            epoch: The epoch, from 1.
            losses: What is watched, the lower the better, (members,).
        """
        better = self.active & (losses < self.best)
        # Without validation rows the weights of a member's last epoch are kept.
        keep = better if self.has_validation else self.active
        indices = torch.from_numpy(np.flatnonzero(keep)).to(self.device)
        for kept, stacked in zip(self.kept, self.stack.stacked, strict=True):
            kept[indices] = stacked.detach()[indices]
        self.best[better] = losses[better]
        self.best_epoch[keep] = epoch
        if self.patience is not None:
            self.waited = np.where(better, 0, self.waited + 1)
            self.active &= self.waited < self.patience

    @torch.no_grad()
    def end_fit(self, epochs: int) -> None:
        """Give every member the weights it kept; mark those that the last step ruined."""
        for kept, stacked in zip(self.kept, self.stack.stacked, strict=True):
            if self.keeps_best:
                stacked.copy_(kept)
            finite = stacked.flatten(1).isfinite().all(1).cpu().numpy()
            self.failed_in[~finite & (self.failed_in == 0)] = epochs

    @torch.no_grad()
    def keep_only(self, members: list[int]) -> None:
        """Go on with these members only."""
        indices = torch.tensor(members, device=self.device)
        self.stack.keep_only(indices)
        self.make_chain()
        start = 0
        left = []
        for optimizer in self.optimizers:
            kept = optimizer.keep_only(self.stack, members, start)
            start += kept
            if kept:
                left.append(optimizer)
        self.optimizers = left
        owners = np.repeat(np.arange(len(self.loss_groups)), [g.size for g in self.loss_groups])
        sizes = np.bincount(owners[members], minlength=len(self.loss_groups))
        self.loss_groups = [
            group._replace(size=int(size))
            for group, size in zip(self.loss_groups, sizes, strict=True)
            if size
        ]
        self.soft = {}
        for name in ("smoothing", "class_weights"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else value[indices])
        self.kept = [kept_stack[indices] for kept_stack in self.kept]
        if self.augments:
            self.augments = [self.augments[index] for index in members]
        for name in (*MEMBER_STATE, "positions"):
            setattr(self, name, getattr(self, name)[members])

    @torch.no_grad()
    def probabilities_now(self, split: str) -> np.ndarray:
        """What `probabilities` would be if the fit ended here."""
        now = [stacked.detach().clone() for stacked in self.stack.stacked]
        for stacked, kept in zip(self.stack.stacked, self.kept, strict=True):
            if self.keeps_best:
                stacked.copy_(kept)
        probabilities = self.probabilities(split)
        for stacked, value in zip(self.stack.stacked, now, strict=True):
            stacked.copy_(value)
        self.stack.train()
        return probabilities

    @torch.no_grad()
    def probabilities(self, split: str) -> np.ndarray:
        """Each member's probabilities for the rows of a split: (members, rows, num_classes)."""
        logits, _ = self.logits(split)
        probabilities: np.ndarray = logits.cpu().double().softmax(1).mT.numpy()
        return probabilities

    def release_rows(self) -> None:
        """Free the memory of what is trained on."""
        self.soft.clear()
        for rows in self.stack.splits.values():
            rows.release()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit needs besides the weights and the optimizers."""
        state: dict[str, Any] = {"kept": self.kept, "positions": self.positions.tolist()}
        for name in MEMBER_STATE:
            state[name] = torch.from_numpy(getattr(self, name))
        state["schedules"] = [member.schedule_state() for member in self.optimizers]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the state of a fit: first leave out the members that were left out of it."""
        positions = state.get("positions", self.positions)
        if len(positions) < self.size:
            self.keep_only(positions)
        self.kept = [kept.to(self.device) for kept in state["kept"]]
        for name in MEMBER_STATE:
            setattr(self, name, state[name].numpy().copy())
        for member, schedule in zip(self.optimizers, state["schedules"], strict=True):
            member.load_schedule_state(schedule)


def label_smoothing(loss_groups: list[LossGroup], like: Tensor) -> Tensor | None:
    """Each member's label smoothing, (members,); None where a loss is not plain cross-entropy.

    Args:
        loss_groups: The members' losses, in the order of the stack.
        like: A tensor of the type and device that the values are to have.
    """
    values: list[float] = []
    for group in loss_groups:
        if not is_plain_cross_entropy(group.loss):
            return None
        loss = group.loss.row_loss if isinstance(group.loss, ClassWeighted) else group.loss
        # nn.Module declares its attributes as tensors or modules; this one is a number.
        values += [loss.label_smoothing] * group.size  # type: ignore[list-item]
    return like.new_tensor(values)


def class_weights(loss_groups: list[LossGroup], num_classes: int, like: Tensor) -> Tensor | None:
    """Each member's class weights, (members, num_classes); None where all rows count the same.

    Args:
        loss_groups: The members' losses, in the order of the stack.
        num_classes: Number of classes.
        like: A tensor of the type and device that the weights are to have.
    """
    if not any(isinstance(group.loss, ClassWeighted) for group in loss_groups):
        return None
    weights = []
    for group in loss_groups:
        weight = like.new_ones(num_classes)
        if isinstance(group.loss, ClassWeighted):
            weight = group.loss.weight.to(like)
        weights.append(weight.expand(group.size, num_classes))
    return torch.cat(weights)


def monitored(metrics: Mapping[str, Value]) -> Value:
    """The loss that ReduceLROnPlateau follows: of the validation rows, if there are any."""
    return metrics["val/loss"] if "val/loss" in metrics else metrics["train/loss"]
