"""Population: many networks trained as one tensor program, each as if it were alone."""

import time
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from cli.component import build
from model.best_epochs import BestEpochs
from model.blocks import Blocks
from model.checks import built_loss
from model.losses import weigh
from model.member import FoldData, Member, Outcome, Stopper
from model.member_rows import MemberRows
from model.population_networks import PopulationNetworks
from model.probes import bytes_per_row, can_vmap_loss, mixes_members, refuse_state_across_rows
from model.scores import Metric, watched
from model.shares import add_other_shares, fingerprint_of, gathered, merged, share_of
from model.stack import Stack
from model.stack_budget import STACK_BYTES, group_members, rows_are_small
from model.stack_fit import StackFit
from model.stack_loss import LossGroup, StackLoss
from model.stack_optimizers import make_optimizers
from model.steps import Steps


class Population(PopulationNetworks):
    """Many networks trained at once, for Lightning's Trainer.

    Each member ends with the weights that `Classifier` would give it alone: same seed, same rows,
    same order. Members share no norm, gradient or decision: their losses are summed, so that each
    gets its own gradient; optimizers work elementwise (one that does not is made once per
    member); each member keeps its own best epoch and stops at its own.

    Train it with `Trainer.fit(population)`: a step of the Trainer is a block of epochs of all
    members (model/blocks.py), which the Trainer counts, so that processes whose shares have
    different sizes take the same number of steps. Afterwards `outcomes` holds what each member
    predicts for its test rows, which were used for nothing else. A fit that was interrupted goes on
    with `Trainer.fit(population, ckpt_path=...)`, in as many processes; one that was over ends at
    once.

    Args:
        num_features: Number of features.
        num_classes: Number of classes.
        candidates: The components of each candidate: arguments of `Classifier`.
        members: The networks, each a `Member`.
        folds: What the members of each fold learn from.
        stacks: The member indices of each stack; None groups the members.
        batch_size: Rows of a member per optimizer step; None takes all its training rows.
        patience: A member stops after this many epochs without a better metric (of the validation
            rows if there are any, else of the training rows).
        metric: The score by which a member's epoch is chosen, `watched` in model/scores.py.
        stack_bytes: Activation budget per stack. It changes no result, except dropout's noise.
        keeps_rows: Whether every member has its rows as tensors of its own; None where those of all
            members take little memory.
        stopper: Stops members early; they have the outcome that they had then.
        steps: How gradients become steps; None for a step after every batch.

    Raises:
        ValueError: What `Classifier` refuses, a network that mixes rows, or an optimizer that
            must call the loss itself.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        candidates: Sequence[dict[str, Any]],
        members: Sequence[Sequence[int]],
        folds: Sequence[FoldData],
        stacks: list[list[int]] | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        metric: Metric = "log_loss",
        stack_bytes: int = STACK_BYTES,
        keeps_rows: bool | None = None,
        stopper: Stopper | None = None,
        steps: Steps | None = None,
    ) -> None:
        super().__init__(num_features, num_classes, candidates, members, stacks=[])
        self.automatic_optimization = False
        self.folds = folds
        self.batch_size = batch_size
        self.patience = patience
        self.metric = metric
        self.stack_bytes = stack_bytes
        self.stopper = stopper
        self.steps = steps or Steps()
        for classifier in self.classifiers:
            refuse_state_across_rows(classifier)
        self.separate_optimizers = [mixes_members(classifier) for classifier in self.classifiers]
        self.vmaps_loss = [can_vmap_loss(loss, num_classes) for loss in self.criteria]
        is_small = rows_are_small(self.members, self.folds)
        self.keeps_rows = is_small if keeps_rows is None else keeps_rows
        self.row_bytes = cache(lambda index: bytes_per_row(self.classifiers[index]))
        self.make_stacks(self.group_members(stack_bytes) if stacks is None else stacks)

        # One array (members,) per epoch for each metric; NaN for members that had stopped.
        self.curves: dict[str, list[np.ndarray]] = {}
        self.outcomes: dict[Member, Outcome] = {}
        self.stopped: dict[Member, Outcome] = {}  # by the stopper
        self.kept: dict[str, Any] = {}  # the share of a resumed fit, until it starts
        self.pauses: list[int] = []  # epochs after which somebody else has a say, from 1
        self.kept_seconds = 0.0  # that the resumed fit had taken

    def group_members(self, stack_bytes: int) -> list[list[int]]:
        """The member indices of each stack, within an activation budget."""
        return group_members(
            self.members, self.classifiers, self.folds, self.batch_size, stack_bytes
        )

    def make_stack(self, members: list[Member]) -> Stack:
        """A new stack of these members, with the rows of their folds."""
        stack = super().make_stack(members)
        folds = sorted({member.fold for member in members})
        owners = [folds.index(member.fold) for member in members]
        for split in self.folds[folds[0]].splits:
            of_folds = [self.folds[fold].splits[split] for fold in folds]
            stack.splits[split] = MemberRows(of_folds, owners, self.keeps_rows)
        return stack

    def configure_optimizers(self) -> OptimizerLRScheduler:
        self.fits = [
            self.make_fit(stack, [self.members[index] for index in indices])
            for stack, indices in zip(self.stacks, self.stack_indices, strict=True)
        ]
        return [member.optimizer for fit in self.fits for member in fit.optimizers]

    def make_fit(self, stack: Stack, members: list[Member]) -> StackFit:
        """The state of one stack's fit: a loss and an optimizer for every member."""
        for split_rows in stack.splits.values():
            split_rows.move_to(stack.stacked[0])
        rows = stack.splits["train"].num_rows
        batch_size = min(self.batch_size or rows, rows)
        total_steps = (self.trainer.max_epochs or 1) * self.steps.of_epoch(-(-rows // batch_size))
        candidates = [member.candidate for member in members]
        optimizers = make_optimizers(
            stack, candidates, self.classifiers, self.separate_optimizers, total_steps
        )
        groups = groupby(members, lambda member: str(self.loss_config(member)))
        loss_groups = [self.loss_group(list(group)) for _, group in groups]
        loss = StackLoss(stack, loss_groups, self.num_classes)
        curve = watched(self.metric, "val" in stack.splits)
        evaluation_rows = self.stack_bytes // (len(members) * self.row_bytes(candidates[0]))
        return StackFit(
            stack,
            members,
            loss,
            optimizers,
            BestEpochs(list(stack.stacked), curve, self.patience),
            [self.folds[member.fold].augment for member in members],
            batch_size,
            max(1, evaluation_rows),
            self.steps,
        )

    def loss_config(self, member: Member) -> Any:
        """A member's loss as plain data, with the class weights of its fold."""
        weights = self.folds[member.fold].class_weights
        return weigh(self.candidates[member.candidate], weights)["loss"]

    def loss_group(self, members: list[Member]) -> LossGroup:
        """Members of the same loss, with this loss."""
        candidate = members[0].candidate
        if self.folds[members[0].fold].class_weights is None:
            return LossGroup(self.criteria[candidate], self.vmaps_loss[candidate], len(members))
        loss = built_loss(build("loss", self.loss_config(members[0])))
        use_vmap = can_vmap_loss(loss, self.num_classes)
        return LossGroup(loss.to(self.device), use_vmap, len(members))

    def train_dataloader(self) -> list[int]:
        return [0]  # the members have their rows

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Train all stacks for a block of epochs, of which this is the first."""
        begin = time.perf_counter()
        epochs = range(self.current_epoch, self.current_epoch + self.block_size())
        stack_values = self.blocks.train(epochs)
        trained = max(len(values.get("train/loss", [])) for values in stack_values)
        trained = max(gathered(trained))  # members that all have stopped train no further epoch
        self.record(stack_values, trained)
        self.block_epochs = trained
        self.trainer.fit_loop.epoch_progress.increment_by(trained - 1)
        self.blocks.end(trained, time.perf_counter() - begin)

    def batch_rows(self, batch: int) -> int:
        """Rows of the last block of epochs, of each network that still trains."""
        return self.block_epochs * sum(fit.size * fit.rows for fit in self.fits if fit.members)

    def block_size(self) -> int:
        """How many epochs to train before the Trainer, the stopper or a checkpoint has its say."""
        size: int = self.trainer.strategy.broadcast(self.blocks.size)
        ends = [self.trainer.max_epochs or 1, *self.pauses]
        if self.stopper is not None:
            ends += self.stopper.rungs
        return min(size, *(end - self.current_epoch for end in ends if end > self.current_epoch))

    def record(self, stack_values: list[dict[str, np.ndarray]], epochs: int) -> None:
        """Append to the curves what all stacks trained in a block of epochs; NaN where nothing."""
        names = dict.fromkeys(name for values in stack_values for name in values)
        for name in names or self.curves:
            block = np.full((epochs, sum(fit.size for fit in self.fits)), np.nan)
            start = 0
            for fit, values in zip(self.fits, stack_values, strict=True):
                if name in values:
                    block[: len(values[name]), start : start + fit.size] = values[name]
                start += fit.size
            self.curves.setdefault(name, []).extend(block)

    def on_train_epoch_end(self) -> None:
        for name, epochs in self.curves.items():
            finite = epochs[-1][np.isfinite(epochs[-1])]
            if len(finite):
                self.trainer.callback_metrics[name] = torch.tensor(finite.mean())
        epoch = self.current_epoch + 1
        if self.stopper is not None and epoch in self.stopper.rungs:
            outcomes = self.predict()
            self.stop(self.stopper.losers(epoch, outcomes), outcomes)
        if not self.any_active():
            self.trainer.should_stop = True

    def any_active(self) -> bool:
        """Whether any member, of any process, still trains."""
        active = any(bool(fit.best_epochs.active.any()) for fit in self.fits)
        return self.trainer.strategy.reduce_boolean_decision(active, all=False)

    def stop(self, losers: set[Member], outcomes: dict[Member, Outcome]) -> None:
        """Stop members, with the outcomes that they have; their stacks go on without them."""
        self.stopped |= {member: outcomes[member] for member in losers}
        for fit in self.fits:
            fit.stop(losers)

    def on_train_end(self) -> None:
        """Give every member the weights it kept, and predict its test rows, once."""
        for fit in self.fits:
            fit.best_epochs.end_fit(self.num_epochs)
        self.outcomes = self.predict() | self.stopped
        for fit in self.fits:
            fit.release_rows()

    def predict(self) -> dict[Member, Outcome]:
        """What each member that is left would predict if its fit ended now; of all processes."""
        return merged({key: value for fit in self.fits for key, value in fit.outcomes().items()})

    def weights(self) -> dict[Member, dict[str, Tensor]]:
        """The state_dict of every member that is left, those of other processes included."""
        return merged({key: value for fit in self.fits for key, value in fit.weights().items()})

    @property
    def num_epochs(self) -> int:
        """How many epochs were trained."""
        return len(self.curves.get("train/loss", []))

    @cached_property
    def fingerprint(self) -> str:
        """A text that is equal for populations of the same members and rows."""
        return fingerprint_of(self.members, [fold.splits for fold in self.folds])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["fits"] = [fit.state_dict() for fit in self.fits]
        checkpoint["curves"] = {
            name: torch.from_numpy(np.stack(epochs)) for name, epochs in self.curves.items()
        }
        checkpoint["stacks"] = self.stack_indices
        checkpoint["stopped"] = [
            [list(member), outcome.state()] for member, outcome in self.stopped.items()
        ]
        checkpoint["fingerprint"] = self.fingerprint
        checkpoint["seconds"] = self.kept_seconds + time.perf_counter() - self.started
        if self.stopper is not None:
            checkpoint["stopper"] = self.stopper.state_dict()
        add_other_shares(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        processes = self.trainer.world_size
        self.kept = share_of(checkpoint, self.fingerprint, self.global_rank, processes)
        if self.kept["stacks"] != self.stack_indices:  # on a GPU they depend on its free memory
            self.make_stacks(self.kept["stacks"])
        checkpoint["optimizer_states"] = self.kept["optimizer_states"]
        # The weights follow when the fits have left out the members that were stopped.
        checkpoint["state_dict"] = self.state_dict()
        self.kept_seconds = checkpoint.get("seconds", 0.0)
        if self.stopper is not None:
            self.stopper.load_state_dict(checkpoint["stopper"])

    def on_fit_start(self) -> None:
        self.started = time.perf_counter()
        self.blocks = Blocks(self.fits)
        if self.kept:
            self.resume(self.kept)
            self.kept = {}

    def resume(self, kept: dict[str, Any]) -> None:
        """Go on with a fit, or end one that was over: Lightning then trains no epoch."""
        self.curves = {name: list(epochs.numpy()) for name, epochs in kept["curves"].items()}
        self.stopped = {
            Member(*member): Outcome.from_state(state) for member, state in kept["stopped"]
        }
        for fit, state in zip(self.fits, kept["fits"], strict=True):
            fit.load_state_dict(state)
            fit.stop(self.stopped)
        self.load_state_dict(kept["state_dict"])
        if not self.any_active():
            self.trainer.should_stop = True
        if self.trainer.should_stop or self.num_epochs >= (self.trainer.max_epochs or 1):
            self.on_train_end()

    def learning_curves(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Each member's candidate (members,), and each metric as (epochs, members).

        In the order of the stacks; NaN for members that had stopped.
        """
        indices = [index for stack in self.stack_indices for index in stack]
        candidates = [self.members[index].candidate for index in indices]
        curves = {name: np.stack(epochs) for name, epochs in self.curves.items()}
        return np.array(candidates), curves
