"""StackFit: the fit of one stack, in which every member keeps and stops at its own epoch."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from data.tabular import EVALUATION_ROWS
from model.classifier import Classifier
from model.losses import ClassWeighted
from model.probes import is_plain_cross_entropy
from model.scores import best_mode, probabilities, score
from model.stack import Stack, cross_entropies, hits, member_losses, soft_targets

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
        self.members = members
        self.views = [
            nn.Parameter(stacked.detach()[members], stacked.requires_grad)
            for stacked in stack.stacked
        ]
        self.optimizer, self.schedule = classifier.optimize(self.views, total_steps)

    def step(self, gradients: Iterable[Tensor | None]) -> None:
        """One step with these members' slices of the stack's gradients."""
        for view, gradient in zip(self.views, gradients, strict=True):
            view.grad = None if gradient is None else gradient[self.members]
        self.optimizer.step()
        if self.schedule is not None and not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()

    def keep_only(self, stack: Stack, members: Sequence[int], start: int) -> int:
        """Leave out all members but these; the stack has already left them out.

        Args:
            stack: The stack.
            members: Indices of the members of the stack as it was, of all optimizers.
            start: How many members of earlier optimizers are left.

        Returns:
            How many members of this optimizer are left.
        """
        if isinstance(self.members, int):
            own = [0] * (self.members in members)
            selection: slice | int = start
        else:
            first = self.members.start
            own = [index - first for index in members if first <= index < self.members.stop]
            selection = slice(start, start + len(own))
        self.members = selection
        if not own:
            return 0
        for view, stacked in zip(self.views, stack.stacked, strict=True):
            state = self.optimizer.state[view]
            for name, value in state.items():
                is_stacked = torch.is_tensor(value) and value.shape == view.shape
                if is_stacked and isinstance(selection, slice):
                    state[name] = value[own]
            view.grad = None
            view.data = stacked.detach()[selection]
        return len(own)

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
    ) -> None:
        self.stack = stack
        self.loss_groups = loss_groups
        self.optimizers = optimizers
        self.num_classes = num_classes
        self.augments = augments
        self.patience = patience
        self.watched = watched
        self.evaluation_rows = evaluation_rows
        self.has_validation = "val" in stack.splits
        # Whether a member may end with the weights of another epoch than the last.
        self.keeps_best = self.has_validation or patience is not None

        parameter = stack.stacked[0].detach()
        self.device = parameter.device
        self.smoothing = label_smoothing(loss_groups, parameter)
        self.class_weights = class_weights(loss_groups, num_classes, parameter)
        # By split: class indices and their soft targets, kept while the rows are the same.
        self.soft: dict[str, tuple[Tensor, Tensor | None]] = {}

        members = sum(group.size for group in loss_groups)
        self.positions = np.arange(members)  # of the members that are left, in the first ones
        self.size = members
        self.kept = [stacked.detach().clone() for stacked in stack.stacked]
        self.best = np.full(members, np.inf)
        self.best_epoch = np.zeros(members, dtype=int)  # from 1
        self.waited = np.zeros(members, dtype=int)
        self.active = np.ones(members, dtype=bool)
        self.failed_in = np.zeros(members, dtype=int)  # the epoch, from 1; 0: it did not fail

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
        loss_sum = torch.zeros(())
        correct = torch.zeros(())
        watched_logits = []
        watched_targets = []
        for x, y, soft in self.batches("train", size, order):
            logits = self.stack(self.augmented(x))
            losses = self.losses(logits, y, soft)
            losses.sum().backward()
            for optimizer in self.optimizers:
                optimizer.step(stacked.grad for stacked in self.stack.stacked)
            for stacked in self.stack.stacked:
                stacked.grad = None
            with torch.no_grad():
                loss_sum = loss_sum + losses * y.shape[1]
                correct = correct + hits(logits, y)
                if self.is_extra("train"):
                    watched_logits.append(logits.detach())
                    watched_targets.append(y)
        metrics = {"train/loss": loss_sum / rows, "train/accuracy": correct / rows}
        if self.is_extra("train"):
            logits = torch.cat(watched_logits, 2)
            metrics[self.watched] = self.score(logits, torch.cat(watched_targets, 1))
        return metrics

    def batches(
        self, split: str, size: int, order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield features, targets and soft targets of `size` rows of each member at a time."""
        for features, targets in self.stack.splits[split].chunks(size, order):
            soft = self.known_soft_targets(split, targets, size)
            for start in range(0, targets.shape[1], size):
                batch = slice(start, start + size)
                soft_batch = None if soft is None else soft[..., batch]
                yield features[..., batch], targets[:, batch], soft_batch

    def known_soft_targets(self, split: str, targets: Tensor, size: int) -> Tensor | None:
        """`soft_targets` of a split: those of the last call, where the targets are the same."""
        known, soft = self.soft.get(split, (None, None))
        if targets is not known:
            soft = self.soft_targets(targets, size)
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
                soft_batch = None if soft is None else soft[..., batch]
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

    def soft_targets(self, targets: Tensor, size: int) -> Tensor | None:
        """Soft targets where all members learn by plain cross-entropy, else None.

        Class weights multiply those of their rows, in batches of `size` rows by 1 on average.
        """
        if self.smoothing is None:
            return None
        soft = soft_targets(targets, self.smoothing, self.num_classes)
        if self.class_weights is None:
            return soft
        weights = self.class_weights.gather(1, targets)
        batches = [batch / batch.mean(1, keepdim=True) for batch in weights.split(size, 1)]
        return soft * torch.cat(batches, 1).unsqueeze(1)

    def losses(self, logits: Tensor, targets: Tensor, soft: Tensor | None) -> Tensor:
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

    def end_epoch(self, epoch: int, metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Mark the members that diverged; keep the best weights and stop members, where asked to.

        Args:
            epoch: The epoch, from 1.
            metrics: Each metric's values, (members,).

        Returns:
            The metrics, with NaN for members that had stopped before this epoch, those that were
            left out included.
        """
        recorded = {}
        for name, values in metrics.items():
            recorded[name] = np.full(self.size, np.nan)
            recorded[name][self.positions] = np.where(self.active, values, np.nan)
        finite = np.isfinite(list(metrics.values())).all(0)
        self.failed_in[self.active & ~finite] = epoch
        self.active &= finite
        if self.keeps_best:
            values = metrics[self.watched]
            self.keep_best(epoch, -values if best_mode(self.watched) == "max" else values)
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
