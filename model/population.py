"""Population: many networks trained as one tensor program, each as if it were alone."""

import time
from collections.abc import Callable, Collection, Sequence
from functools import cache, cached_property, partial
from itertools import groupby
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from cli.component import build
from data.shared_rows import SharedSplits, shared
from data.tabular import Splits
from model.blocks import Blocks
from model.checks import built_loss
from model.classifier import Classifier
from model.joint_adamw import JointOptimizer, is_joinable
from model.losses import weigh
from model.member_optimizer import MemberOptimizer
from model.member_rows import MemberRows
from model.probes import (
    activation_bytes,
    bytes_per_row,
    can_vmap_loss,
    mixes_members,
    refuse_state_across_rows,
)
from model.scores import Metric, watched
from model.shares import add_other_shares, fingerprint_of, share_of
from model.shares import gathered as gathered  # other modules import it from here
from model.stack import Stack
from model.stack_fit import LossGroup, StackFit
from model.steps import Steps

# Activation budget per stack on a CPU: smaller stacks are call-bound, larger ones memory-bound
# (bench/population.py).
STACK_BYTES = 4 * 2**20

# What a member counts for at least, so that a stack on a CPU has 1,024 members at most: a call
# computes that many small ones as fast as more. A quarter of them takes 1.6 times as long for
# batches of 16 rows (bench/population.py).
MEMBER_BYTES = 2**12

# Bytes of a population's rows up to which each member has its own: the small networks of a small
# table take less time for a step than gathering its rows does (bench/population.py).
KEPT_BYTES = 2**26

# Bytes of a stack's orders of rows and of its logits, which a large table limits.
ORDER_BYTES = 2**28

# Elements of a candidate's members in a stack below which its AdamW joins those of others: there a
# call costs more than what it computes. Joint is 5 times as fast at 100 elements, 1.4 times at
# 5,000 and no faster at 20,000 (bench/results/joint.json); SGD and GPUs were not measured.
JOINT_ELEMENTS = 2**13

Item = TypeVar("Item")


class Member(NamedTuple):
    """One network: the index of its candidate, that of its fold in all folds, and its seed."""

    candidate: int
    fold: int
    seed: int


class Outcome(NamedTuple):
    """What a member predicts for its test rows, and whether its training failed.

    `probabilities` (test rows, num_classes); `failed_in` is the epoch in which the member
    diverged, from 1, or 0 if it did not; `val_probabilities` (validation rows, num_classes), None
    if there are none; `best_epoch` is the epoch of its weights, from 1.
    """

    probabilities: np.ndarray
    failed_in: int
    val_probabilities: np.ndarray | None = None
    best_epoch: int = 0

    def state(self) -> list[Any]:
        """The same as plain data and tensors, for a checkpoint."""
        return [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in self]

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> "Outcome":
        return cls._make(x.numpy() if isinstance(x, Tensor) else x for x in state)


class Stopper(Protocol):
    """What decides after some epochs, the rungs, which members stop."""

    rungs: Collection[int]

    def losers(self, epoch: int, outcomes: dict[Member, Outcome]) -> set[Member]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Population(LightningModule):
    """Many networks trained at once, for Lightning's Trainer; after training, their ensemble.

    Each member ends with the weights that `Classifier` would give it alone: same seed, same rows,
    same order. Members share no norm, gradient or decision: their losses are summed, so that each
    gets its own gradient; optimizers work elementwise (one that does not is made once per
    member); each member keeps its own best epoch and stops at its own.

    Train it with `Trainer.fit(population)`: a step of the Trainer is a block of epochs of all
    members (model/blocks.py), which the Trainer counts, so that processes whose shares have
    different sizes take the same number of steps. Afterwards
    `outcomes` holds what each member predicts for its test rows, which were used for nothing else.
    A fit that was interrupted goes on with `Trainer.fit(population, ckpt_path=...)`, in as many
    processes; one that was over ends at once.

    `forward` is that of the ensemble. It takes standardized features, (rows, num_features) or
    (members, rows, num_features), and returns logits: the logarithm of the mean of the members'
    probabilities.

    Args:
        num_features: Number of features.
        num_classes: Number of classes.
        candidates: The components of each candidate: arguments of `Classifier`.
        members: The networks, each a `Member`.
        stacks: The member indices of each stack; None groups the members.
        folds: The splits of each fold, "train", "test" and, where an epoch is chosen, "val": rows
            of a table that all folds share, or standardized tensors of their own. Only needed for
            training.
        batch_size: Rows of a member per optimizer step; None takes all its training rows.
        row_orders: Called with the number of rows, seeds and the epoch; returns the order in which
            batches take the rows, (seeds, rows).
        class_weights: For each fold, the weight of each class in the loss; empty for none.
        augments: For each fold, a function that changes a batch of its training features
            (rows, num_features) at random; empty for none.
        patience: A member stops after this many epochs without a better metric (of the validation
            rows if there are any, else of the training rows).
        metric: The score by which a member's epoch is chosen, `watched` in model/scores.py.
        stack_bytes: Activation budget per stack. It changes no result, except dropout's noise.
        keeps_rows: Whether every member has its rows as tensors of its own; None where those of all
            members take little memory.
        stopper: Stops members early; they have the outcome that they had then.
        settings: The candidates, by the name that checkpoints give them.
        steps: How gradients become steps; None for a step after every batch.

    Raises:
        ValueError: What `Classifier` refuses, a network that mixes rows, or an optimizer that
            must call the loss itself.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        candidates: Sequence[dict[str, Any]] = (),
        members: Sequence[Sequence[int]] = (),
        stacks: list[list[int]] | None = None,
        folds: Sequence[Splits | SharedSplits] = (),
        batch_size: int | None = None,
        row_orders: Callable[[int, Sequence[int], int], np.ndarray] | None = None,
        augments: Sequence[Callable[[Tensor], Tensor]] = (),
        class_weights: Sequence[list[float] | None] = (),
        patience: int | None = None,
        metric: Metric = "log_loss",
        stack_bytes: int = STACK_BYTES,
        keeps_rows: bool | None = None,
        stopper: Stopper | None = None,
        settings: Sequence[dict[str, Any]] = (),
        steps: Steps | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.candidates = list(candidates or settings)
        self.members = [Member(*member) for member in members]
        self.num_classes = num_classes
        self.folds = [shared(splits) for splits in folds]
        self.batch_size = batch_size
        self.row_orders = row_orders
        self.augments = augments
        self.class_weights = class_weights
        self.patience = patience
        self.metric = metric
        self.stack_bytes = stack_bytes
        self.stopper = stopper
        self.steps = steps or Steps()
        self.stopped: dict[Member, Outcome] = {}  # by the stopper

        # A tuple, so that the classifiers' networks are not registered with the population.
        self.classifiers = tuple(
            Classifier(num_features, num_classes, **candidate) for candidate in self.candidates
        )
        for classifier in self.classifiers:
            refuse_state_across_rows(classifier)
        self.separate_optimizers = [mixes_members(classifier) for classifier in self.classifiers]
        self.criteria = nn.ModuleList(classifier.loss for classifier in self.classifiers)
        self.vmaps_loss = [can_vmap_loss(loss, num_classes) for loss in self.criteria]

        self.save_hyperparameters(
            {
                "num_features": num_features,
                "num_classes": num_classes,
                "settings": self.candidates,  # the name that every checkpoint of a population has
                "members": [list(member) for member in self.members],
            },
            logger=False,
        )
        self.keeps_rows = self.row_bytes() <= KEPT_BYTES if keeps_rows is None else keeps_rows
        self.make_stacks(self.group_members(stack_bytes) if stacks is None else stacks)
        # One array (members,) per epoch for each metric; NaN for members that had stopped.
        self.curves: dict[str, list[np.ndarray]] = {}
        self.outcomes: dict[Member, Outcome] = {}
        self.kept: dict[str, Any] = {}  # the share of a resumed fit, until it starts
        self.pauses: list[int] = []  # epochs after which somebody else has a say, from 1
        self.kept_seconds = 0.0  # that the resumed fit had taken
        self.forward_bytes: dict[int, int] = {}  # of a row, by candidate, once it is asked for

    def group_members(self, stack_bytes: int) -> list[list[int]]:
        """The member indices of each stack: the same network, and splits of the same sizes.

        Members of one candidate, and candidates of one loss, are next to each other.
        """

        @cache  # members are many, candidates and folds few
        def position(candidate: int, fold: int) -> tuple[str, str, int, str]:
            rows = {split: rows.num_rows for split, rows in self.folds[fold].items()}
            network_and_rows = f"{self.candidates[candidate]['network']} {rows}"
            loss = str(self.candidates[candidate]["loss"])
            return network_and_rows, loss, candidate, self.loss_key(Member(candidate, fold, seed=0))

        positions = [position(member.candidate, member.fold) for member in self.members]
        stacks: list[list[int]] = []
        ordered = sorted(range(len(self.members)), key=positions.__getitem__)
        for _, group in groupby(ordered, lambda index: positions[index][0]):
            indices = list(group)
            first = self.members[indices[0]]
            rows = self.folds[first.fold]["train"].num_rows
            batch_rows = min(self.batch_size or rows, rows)
            member_bytes = activation_bytes(self.classifiers[first.candidate], batch_rows)
            needed = len(indices) * max(member_bytes, MEMBER_BYTES)
            num_stacks = max(
                -(-needed // stack_bytes), -(-self.order_bytes(indices) // ORDER_BYTES)
            )
            num_stacks = min(num_stacks, len(indices))
            stacks += [stack.tolist() for stack in np.array_split(indices, num_stacks)]
        return stacks

    def make_stacks(self, stack_indices: list[list[int]]) -> None:
        """Make the stacks of these member indices."""
        self.stack_indices = stack_indices
        self.stack_members = [
            [self.members[index] for index in indices] for indices in stack_indices
        ]  # without those that the stopper stopped
        num_features = self.hparams["num_features"]
        self.stacks: Sequence[Stack] = nn.ModuleList(  # type: ignore[assignment]
            self.make_stack(members, num_features) for members in self.stack_members
        )
        self.hparams["stacks"] = stack_indices

    def order_bytes(self, indices: list[int]) -> int:
        """Bytes that the members of a stack need for the order of their rows and for logits."""
        splits = self.folds[self.members[indices[0]].fold]
        held_out = max(splits[split].num_rows for split in ("test", "val") if split in splits)
        return len(indices) * (8 * splits["train"].num_rows + 12 * self.num_classes * held_out)

    def row_bytes(self) -> int:
        """Bytes of the rows of all members as tensors of their own."""
        if not self.folds:  # the networks alone
            return 0
        sizes = [sum(rows.num_bytes for rows in splits.values()) for splits in self.folds]
        return sum(sizes[member.fold] for member in self.members)

    def loss_config(self, member: Member) -> Any:
        """A member's loss as plain data, with the class weights of its fold."""
        weights = self.class_weights[member.fold] if self.class_weights else None
        return weigh(self.candidates[member.candidate], weights)["loss"]

    def loss_key(self, member: Member) -> str:
        """A text that is equal for members of the same loss."""
        return str(self.loss_config(member))

    def loss_group(self, members: list[Member]) -> LossGroup:
        """Members of the same loss, with this loss."""
        candidate = members[0].candidate
        if not self.class_weights:
            return LossGroup(self.criteria[candidate], self.vmaps_loss[candidate], len(members))
        loss = built_loss(build("loss", self.loss_config(members[0])))
        use_vmap = can_vmap_loss(loss, self.num_classes)
        return LossGroup(loss.to(self.device), use_vmap, len(members))

    def make_stack(self, members: list[Member], num_features: int) -> Stack:
        """A new stack of these members, with the rows of their folds."""
        make_network = self.classifiers[members[0].candidate].make_network
        stack = Stack(make_network, [member.seed for member in members])
        stack.loop_unless_vmap(num_features)
        if self.folds:
            folds = sorted({member.fold for member in members})
            owners = [folds.index(member.fold) for member in members]
            for split in self.folds[folds[0]]:
                of_folds = [self.folds[fold][split] for fold in folds]
                stack.splits[split] = MemberRows(of_folds, owners, self.keeps_rows)
        return stack

    def forward(self, features: Tensor) -> Tensor:
        return self.probabilities(features).mean(0).log()

    def spread(self, features: Tensor) -> Tensor:
        """Standard deviation of the probabilities between members, (rows, num_classes)."""
        return self.probabilities(features).std(0, correction=0)

    def probabilities(self, features: Tensor) -> Tensor:
        """Each member's probabilities, in the order of the stacks: (members, rows, num_classes).

        Takes what `forward` takes.
        """
        sizes = [len(members) for members in self.stack_members]
        member_features = features.expand(sum(sizes), *features.shape[-2:])
        probabilities = []
        for stack, x in zip(self.stacks, member_features.split(sizes), strict=True):
            probabilities.append(stack(x.mT).softmax(1).mT)
        return torch.cat(probabilities)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        self.fits = [
            self.make_fit(stack, members)
            for stack, members in zip(self.stacks, self.stack_members, strict=True)
        ]
        return [member.optimizer for fit in self.fits for member in fit.optimizers]

    def make_fit(self, stack: Stack, members: list[Member]) -> StackFit:
        """The state of one stack's fit: a loss and an optimizer for every member."""
        for split_rows in stack.splits.values():
            split_rows.move_to(stack.stacked[0])
        rows = stack.splits["train"].num_rows
        steps_per_epoch = self.steps.of_epoch(-(-rows // (self.batch_size or rows)))
        total_steps = (self.trainer.max_epochs or 1) * steps_per_epoch
        loss_groups = [
            self.loss_group(list(same_loss)) for _, same_loss in groupby(members, self.loss_key)
        ]

        augments = [self.augments[member.fold] for member in members] if self.augments else []
        return StackFit(
            stack,
            loss_groups,
            self.make_optimizers(stack, members, total_steps),
            self.num_classes,
            augments,
            self.patience,
            watched(self.metric, "val" in stack.splits),
            self.evaluation_rows(members),
            self.steps,
        )

    def evaluation_rows(self, members: list[Member]) -> int:
        """Rows of each member that a forward pass takes at once, within the activation budget."""
        candidate = members[0].candidate
        if candidate not in self.forward_bytes:
            self.forward_bytes[candidate] = bytes_per_row(self.classifiers[candidate])
        return max(1, self.stack_bytes // (len(members) * self.forward_bytes[candidate]))

    def make_optimizers(
        self, stack: Stack, members: list[Member], total_steps: int
    ) -> list[MemberOptimizer]:
        """Optimizers that together cover a stack: one for each candidate, or joint or single ones.

        Candidates are joined where a call costs more than the elements that it updates.
        """
        candidates = [member.candidate for member in members]
        elements = sum(stacked.numel() for stacked in stack.stacked) / len(set(candidates))
        is_small = elements < JOINT_ELEMENTS and stack.stacked[0].device.type == "cpu"

        def is_joined(candidate: int) -> bool:
            separate = self.separate_optimizers[candidate]
            return is_small and not separate and is_joinable(self.classifiers[candidate])

        joined = {candidate: is_joined(candidate) for candidate in set(candidates)}
        if sum(joined.values()) < 2:
            joined = {}
        optimizers: list[MemberOptimizer] = []
        start = 0
        for key, group in groupby(candidates, lambda index: -1 if joined.get(index) else index):
            own = [self.classifiers[candidate] for candidate in group]
            stop = start + len(own)
            if key == -1:
                optimizers.append(JointOptimizer(stack, own, start, total_steps))
            elif self.separate_optimizers[key]:
                for index in range(start, stop):
                    optimizers.append(MemberOptimizer(stack, index, own[0], total_steps))
            else:
                optimizers.append(MemberOptimizer(stack, slice(start, stop), own[0], total_steps))
            start = stop
        return optimizers

    def train_dataloader(self) -> list[int]:
        return [0]  # the members have their rows

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Train all stacks for a block of epochs, of which this is the first."""
        begin = time.perf_counter()
        epochs = range(self.current_epoch, self.current_epoch + self.block_size())
        train = partial(self.train_stack, epochs)
        stack_values = self.blocks.each(train, range(len(self.stacks)))
        trained = max(len(values.get("train/loss", [])) for values in stack_values)
        trained = max(gathered(trained))  # members that all have stopped train no further epoch
        self.record(stack_values, trained)
        self.block_epochs = trained
        self.trainer.fit_loop.epoch_progress.increment_by(trained - 1)
        self.blocks.end(trained, time.perf_counter() - begin)

    def batch_rows(self, batch: int) -> int:
        """Rows of the last block of epochs, of each network that still trains."""
        fits = [self.fits[i] for i, members in enumerate(self.stack_members) if members]
        return self.block_epochs * sum(
            fit.size * fit.stack.splits["train"].num_rows for fit in fits
        )

    def block_size(self) -> int:
        """How many epochs to train before the Trainer, the stopper or a checkpoint has its say."""
        size: int = self.trainer.strategy.broadcast(self.blocks.size)
        ends = [self.trainer.max_epochs or 1, *self.pauses]
        if self.stopper is not None:
            ends += self.stopper.rungs
        return min(size, *(end - self.current_epoch for end in ends if end > self.current_epoch))

    def train_stack(self, epochs: range, stack_index: int) -> dict[str, np.ndarray]:
        """Train one stack; return each metric as (epochs, members), until no member trains."""
        return self.fits[stack_index].train(
            epochs, self.batch_size, partial(self.order, stack_index)
        )

    def order(self, stack_index: int, epoch: int) -> Tensor | None:
        """Each member's own order of its rows in an epoch, (members, rows).

        None for a full batch, which keeps the order of its rows.
        """
        rows = self.fits[stack_index].stack.splits["train"].num_rows
        if not (self.batch_size and self.batch_size < rows):
            return None
        assert self.row_orders is not None
        seeds = [member.seed for member in self.stack_members[stack_index]]
        return torch.from_numpy(self.row_orders(rows, seeds, epoch))

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
        if self.stopper is not None and self.current_epoch + 1 in self.stopper.rungs:
            self.stop_losers(self.stopper)
        if not self.any_active():
            self.trainer.should_stop = True

    def any_active(self) -> bool:
        """Whether any member, of any process, still trains."""
        active = any(bool(fit.active.any()) for fit in self.fits)
        return self.trainer.strategy.reduce_boolean_decision(active, all=False)

    def stop_losers(self, stopper: Stopper) -> None:
        """Stop members, as the stopper says; their stacks go on without them."""
        outcomes = self.predict()
        losers = stopper.losers(self.current_epoch + 1, outcomes)
        self.stopped |= {member: outcomes[member] for member in losers}
        for i, (fit, members) in enumerate(zip(self.fits, self.stack_members, strict=True)):
            left = [index for index, member in enumerate(members) if member not in losers]
            if left and len(left) < len(members):
                fit.keep_only(left)
            if not left:
                fit.active[:] = False
            self.stack_members[i] = [members[index] for index in left]

    def on_train_end(self) -> None:
        """Give every member the weights it kept, and predict its test rows, once."""
        for fit in self.fits:
            fit.end_fit(self.num_epochs)
        self.outcomes = self.predict() | self.stopped
        for fit in self.fits:
            fit.release_rows()

    def predict(self) -> dict[Member, Outcome]:
        """What each member that is left would predict if its fit ended now; of all processes."""
        outcomes: dict[Member, Outcome] = {}
        for fit, members in zip(self.fits, self.stack_members, strict=True):
            if not members:
                continue
            test = fit.probabilities_now("test")
            val = fit.probabilities_now("val") if fit.has_validation else [None] * len(members)
            for i, member in enumerate(members):
                failed_in = int(fit.failed_in[i])
                best_epoch = int(fit.best_epoch[i])
                outcomes[member] = Outcome(test[i], failed_in, val[i], best_epoch)
        return merged(gathered(outcomes))

    @property
    def num_epochs(self) -> int:
        """How many epochs were trained."""
        return len(self.curves.get("train/loss", []))

    @cached_property
    def fingerprint(self) -> str:
        """A text that is equal for populations of the same members and rows."""
        return fingerprint_of(self.members, self.folds)

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
        if not self.folds:  # the networks alone
            return
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
        self.stack_members = [
            [member for member in members if member not in self.stopped]
            for members in self.stack_members
        ]
        for fit, state in zip(self.fits, kept["fits"], strict=True):
            fit.load_state_dict(state)
        self.load_state_dict(kept["state_dict"])
        if not self.any_active():
            self.trainer.should_stop = True
        if self.trainer.should_stop or self.num_epochs >= (self.trainer.max_epochs or 1):
            self.on_train_end()

    def ensemble(self, members: list[Member], states: list[dict[str, Tensor]]) -> "Population":
        """Members of one candidate, with these weights, as a new population that predicts.

        Args:
            members: The members, all of one candidate.
            states: Their state_dicts, in the same order.
        """
        candidate = self.candidates[members[0].candidate]
        ensemble = Population(
            self.hparams["num_features"],
            self.num_classes,
            [candidate],
            [Member(0, member.fold, member.seed) for member in members],
            stacks=[list(range(len(members)))],
        )
        (stack,) = ensemble.stacks
        with torch.no_grad():
            for name, stacked in stack.named_stacks().items():
                if name in states[0]:  # a state_dict lacks buffers that are not persistent
                    stacked.copy_(torch.stack([state[name] for state in states]))
        return ensemble.eval()

    def learning_curves(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Each member's candidate (members,), and each metric as (epochs, members).

        In the order of the stacks; NaN for members that had stopped.
        """
        indices = [index for stack in self.stack_indices for index in stack]
        candidates = [self.members[index].candidate for index in indices]
        curves = {name: np.stack(epochs) for name, epochs in self.curves.items()}
        return np.array(candidates), curves

    def weights(self) -> dict[Member, dict[str, Tensor]]:
        """The state_dict of every member, those of other processes included."""
        states: dict[Member, dict[str, Tensor]] = {}
        for stack, members in zip(self.stacks, self.stack_members, strict=True):
            for i, member in enumerate(members):
                state = stack.member_state(i)
                states[member] = {name: tensor.cpu() for name, tensor in state.items()}
        return merged(gathered(states))


def merged(shares: list[dict[Member, Item]]) -> dict[Member, Item]:
    """One dictionary from those of all processes."""
    return {member: value for share in shares for member, value in share.items()}
