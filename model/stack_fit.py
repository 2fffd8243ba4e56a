"""StackFit: the fit of one stack, in which every member keeps and stops at its own epoch."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.sampling import row_orders
from data.tabular import EVALUATION_ROWS
from model.best_epochs import BestEpochs
from model.cross_entropy import SoftTargets
from model.member import Member, Outcome
from model.member_optimizer import MemberOptimizer
from model.scores import probabilities, score
from model.stack import Stack, hits
from model.stack_loss import StackLoss
from model.steps import Accumulated, Steps

# Probabilities in float64 of which a score is computed at a time.
SCORED_VALUES = 2**22


class StackFit:
    """What a fit knows about one stack: its members, their losses, optimizers and best epochs.

    Args:
        stack: The stack, with its rows, on the device where it is trained.
        members: The members.
        loss: Their losses.
        optimizers: Optimizers that together cover all members.
        best_epochs: In which epoch each of them is best.
        augments: Of each member a function that changes a batch of its training features at random,
            (rows, num_features), or None.
        batch_size: Rows of each member in a step.
        evaluation_rows: Rows of each member in a forward pass that learns nothing.
        steps: How gradients become steps.
    """

    def __init__(
        self,
        stack: Stack,
        members: list[Member],
        loss: StackLoss,
        optimizers: list[MemberOptimizer],
        best_epochs: BestEpochs,
        augments: Sequence[Callable[[Tensor], Tensor] | None],
        batch_size: int,
        evaluation_rows: int,
        steps: Steps,
    ) -> None:
        self.stack = stack
        self.members = members
        self.size = len(members)  # at the start
        self.loss = loss
        self.optimizers = optimizers
        self.best_epochs = best_epochs
        self.watched = best_epochs.watched
        split, self.metric = self.watched.split("/")
        # The split of which a score is watched that is not computed in any case.
        self.scored = None if self.metric in ("loss", "accuracy") else split
        self.augments = augments
        self.is_augmented = any(augment is not None for augment in augments)
        self.batch_size = batch_size
        self.evaluation_rows = evaluation_rows
        self.steps = steps
        self.device = stack.stacked[0].device
        self.rows = stack.splits["train"].num_rows

    @property
    def is_free(self) -> bool:
        """Whether its epochs draw no random numbers, and call nothing but torch and this project.

        Then it is the same which stacks train how many epochs before it, or at the same time.
        """
        return (
            self.loss.chain is not None
            and not self.loss.chain.draws
            and self.loss.is_cross_entropy
            and not self.is_augmented
            and all(optimizer.is_known for optimizer in self.optimizers)
        )

    def train(self, epochs: range) -> dict[str, np.ndarray]:
        """Train all members for some epochs, from 0, or until none is left that still trains.

        Returns:
            Each metric's values, (epochs, members): what `BestEpochs.end_epochs` returns.
        """
        recorded = []
        waiting: list[dict[str, Tensor]] = []
        for epoch in epochs:
            if not self.best_epochs.active.any():
                break
            metrics = self.train_epoch(epoch)
            if self.best_epochs.has_validation:
                metrics |= self.validate()
            for optimizer in self.optimizers:
                optimizer.follow_loss(metrics.get("val/loss", metrics["train/loss"]))
            waiting.append(metrics)
            if self.best_epochs.keeps_weights or epoch == epochs[-1]:
                first = epoch + 2 - len(waiting)
                recorded.append(self.best_epochs.end_epochs(first, waiting))
                waiting = []
        self.loss.make_chain()  # anew, without its tensors: all stacks' would grow with the members
        names = recorded[0] if recorded else {}
        return {name: np.concatenate([values[name] for values in recorded]) for name in names}

    def train_epoch(self, epoch: int) -> dict[str, Tensor]:
        """Take the optimizers' steps over all training rows.

        Returns:
            Each member's "train/loss", "train/accuracy" and what is watched of them, (members,).
        """
        first = 0
        self.accumulated = Accumulated()
        loss_sum = torch.zeros(())
        correct = torch.zeros(())
        watched_logits = []
        watched_targets = []
        for x, y, soft in self.batches("train", self.batch_size, self.order(epoch)):
            logits, losses, right = self.loss.differentiate(self.augmented(x), y, soft)
            if self.scored == "train":
                watched_logits.append(logits.clone())
                watched_targets.append(y)
            self.take_step(first, y.shape[1])
            first += y.shape[1]
            loss_sum = loss_sum + losses * y.shape[1]
            correct = correct + right
        metrics = {"train/loss": loss_sum / self.rows, "train/accuracy": correct / self.rows}
        if self.scored == "train":
            logits = torch.cat(watched_logits, 2)
            metrics[self.watched] = self.score(logits, torch.cat(watched_targets, 1))
        return metrics

    def order(self, epoch: int) -> Tensor | None:
        """Each member's own order of its rows in an epoch, (members, rows).

        None for a full batch, which keeps the order of its rows.
        """
        if self.batch_size == self.rows:
            return None
        seeds = [member.seed for member in self.members]
        return torch.from_numpy(row_orders(self.rows, seeds, epoch))

    def take_step(self, first: int, count: int) -> None:
        """Take the optimizers' steps, if no further batch belongs to this one.

        Args:
            first: Rows of the epoch before this batch.
            count: Rows of the batch, of which the last one may have fewer than others.
        """
        gradients = self.loss.gradients
        group = self.batch_size * self.steps.accumulate_grad_batches
        if group > self.batch_size:
            start = first - first % group
            rows = min(group, self.rows - start)
            gradients = self.accumulated.add(gradients, count / rows, first == start)
            if first + count < start + rows:
                return
        self.steps.clip(gradients)
        for optimizer in self.optimizers:
            optimizer.step(gradients)

    def batches(
        self, split: str, size: int, order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor, SoftTargets | None]]:
        """Yield features, targets and soft targets of `size` rows of each member at a time."""
        for features, targets in self.stack.splits[split].chunks(size, order):
            soft = self.loss.soft_targets(split, targets, size)
            for start in range(0, targets.shape[1], size):
                batch = slice(start, start + size)
                soft_batch = None if soft is None else soft.rows(batch)
                yield features[..., batch], targets[:, batch], soft_batch

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
            soft = self.loss.soft_targets("val", targets, size)
            loss_sum = torch.zeros(())
            for start in range(0, rows, size):
                batch = slice(start, start + size)
                y = targets[:, batch]
                soft_batch = None if soft is None else soft.rows(batch)
                losses = self.loss.losses(logits[..., batch], y, soft_batch)
                loss_sum = loss_sum + losses * y.shape[1]
            metrics = {"val/loss": loss_sum / rows, "val/accuracy": hits(logits, targets) / rows}
            if self.scored == "val":
                metrics[self.watched] = self.score(logits, targets)
        return metrics

    def score(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Each member's watched score, (members,)."""
        members = max(1, SCORED_VALUES // logits[0].numel())
        groups = zip(logits.split(members), targets.split(members), strict=True)
        return torch.cat([score(self.metric, probabilities(x, class_dim=1), y) for x, y in groups])

    def augmented(self, features: Tensor) -> Tensor:
        """A batch (members, num_features, rows) after each member's augmentation."""
        if not self.is_augmented:
            return features
        return torch.stack(
            [
                member_features.T if augment is None else augment(member_features).T
                for augment, member_features in zip(self.augments, features.mT, strict=True)
            ]
        )

    @torch.no_grad()
    def keep_only(self, members: list[int]) -> None:
        """Go on with these members only."""
        self.stack.keep_only(torch.tensor(members, device=self.device))
        start = 0
        left = []
        for optimizer in self.optimizers:
            kept = optimizer.keep_only(self.stack, members, start)
            start += kept
            if kept:
                left.append(optimizer)
        self.optimizers = left
        self.loss.keep_only(members)
        self.best_epochs.keep_only(members)
        self.augments = [self.augments[index] for index in members]
        self.members = [self.members[index] for index in members]

    def stop(self, losers: Collection[Member]) -> None:
        """Go on without these members."""
        left = [index for index, member in enumerate(self.members) if member not in losers]
        if left and len(left) < len(self.members):
            self.keep_only(left)
        if not left:
            self.members = []
            self.best_epochs.active[:] = False

    @torch.no_grad()
    def outcomes(self) -> dict[Member, Outcome]:
        """What each member would predict if the fit ended now."""
        if not self.members:
            return {}
        best = self.best_epochs
        best.exchange()
        test = self.probabilities("test")
        val = self.probabilities("val") if best.has_validation else [None] * len(test)
        best.exchange()
        self.stack.train()
        return {
            member: Outcome(test[i], int(best.failed_in[i]), val[i], int(best.best_epoch[i]))
            for i, member in enumerate(self.members)
        }

    def probabilities(self, split: str) -> np.ndarray:
        """Each member's probabilities for the rows of a split: (members, rows, num_classes)."""
        logits, _ = self.logits(split)
        probabilities: np.ndarray = logits.cpu().double().softmax(1).mT.numpy()
        return probabilities

    def weights(self) -> dict[Member, dict[str, Tensor]]:
        """The state_dict of every member, on the CPU."""
        states = {}
        for i, member in enumerate(self.members):
            state = self.stack.member_state(i)
            states[member] = {name: tensor.cpu() for name, tensor in state.items()}
        return states

    def release_rows(self) -> None:
        """Free the memory of what is trained on."""
        self.loss.known.clear()
        for rows in self.stack.splits.values():
            rows.release()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit needs besides the weights and the optimizers."""
        schedules = [optimizer.schedule_state() for optimizer in self.optimizers]
        return self.best_epochs.state_dict() | {"schedules": schedules}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the state of a fit: first leave out the members that were left out of it."""
        positions = state.get("positions", self.best_epochs.positions)
        if len(positions) < len(self.members):
            self.keep_only(positions)
        self.best_epochs.load_state_dict(state)
        for optimizer, schedule in zip(self.optimizers, state["schedules"], strict=True):
            optimizer.load_schedule_state(schedule)
