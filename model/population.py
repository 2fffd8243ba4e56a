"""Population: many networks trained as one tensor program, each as if it were alone."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.lr_scheduler import ReduceLROnPlateau

from model.classifier import Classifier

# What a stack may keep for its backward pass on a CPU: smaller ones pay for the calls, larger ones for memory
# (bench/population.py).
STACK_BYTES = 16 * 2**20
# Layers that treat every number by itself, whatever the layout.
ELEMENTWISE = (
    nn.Dropout,
    nn.ELU,
    nn.GELU,
    nn.Identity,
    nn.LeakyReLU,
    nn.ReLU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Tanh,
)

Rows = dict[
    str, tuple[Tensor, Tensor]
]  # a split's parts: features (rows, num_features), targets (rows,)


class Member(NamedTuple):
    """One network: the numbers of its setting and of its split of the rows, and its seed."""

    setting: int
    split: int
    seed: int


class Outcome(NamedTuple):
    """What became of a member: probabilities (held-out rows, num_classes); the epoch in which it diverged, or 0."""

    probabilities: np.ndarray
    failed_in: int


class Stack(nn.Module):
    """Networks of one class as one: each parameter is a tensor of (members, *its shape).

    Rows come last: (members, units, rows) is the layout in which matrix products, and a softmax over few classes, are
    fast on a CPU. A chain of Linear and elementwise layers runs through `torch.baddbmm`; any other network through
    `torch.func.vmap`, or one member after the other where vmap does not know an operation of it.

    Shapes: (members, num_features, rows) -> (members, num_classes, rows).

    >>> Stack(lambda: nn.Linear(4, 3), seeds=[0, 1])(torch.zeros(2, 4, 5)).shape
    torch.Size([2, 3, 5])

    Args:
        make: Called without arguments; returns a network.
        seeds: Of each member's initial weights.
    """

    def __init__(self, make: Callable[[], nn.Module], seeds: Sequence[int]) -> None:
        super().__init__()
        networks = []
        for seed in seeds:
            torch.default_generator.manual_seed(
                seed
            )  # torch.manual_seed without its 95 us for other devices
            networks.append(make())
        parameters, buffers = stack_module_state(networks)
        self.names, self.buffer_names = list(parameters), list(buffers)
        self.stacked = nn.ParameterList(
            nn.Parameter(stacked.detach(), requires_grad=stacked.requires_grad)
            for stacked in parameters.values()
        )
        for name, buffer in buffers.items():
            self.register_buffer(name.replace(".", "/"), buffer)
        self.template = [networks[0]]  # in a list: its own parameters are no part of the stack
        self.way = self.chain if is_chain(networks[0]) else self.mapped

    def forward(self, features: Tensor) -> Tensor:
        return self.way(dict(zip(self.names, self.stacked, strict=True)), features)

    def chain(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        for name, layer in self.template[0].named_children():
            if not isinstance(layer, nn.Linear):
                x = layer(x)
            elif layer.bias is None:
                x = torch.bmm(parameters[f"{name}.weight"], x)
            else:
                x = torch.baddbmm(
                    parameters[f"{name}.bias"].unsqueeze(-1), parameters[f"{name}.weight"], x
                )
        return x

    # On a CPU a ConvNet's grouped convolutions take as long as its members one by one; unfolded into one baddbmm each,
    # twice to four times as long.
    def mapped(self, parameters: dict[str, Tensor], features: Tensor) -> Tensor:
        logits: Tensor = vmap(self.call, randomness="different")(
            parameters, self.buffers_by_name(), features.mT
        )
        return logits.mT

    def looped(self, parameters: dict[str, Tensor], features: Tensor) -> Tensor:
        state = parameters | self.buffers_by_name()
        return torch.stack(
            [
                self.call({name: value[i] for name, value in state.items()}, {}, x).T
                for i, x in enumerate(features.mT)
            ]
        )

    def call(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], features: Tensor
    ) -> Tensor:
        logits: Tensor = functional_call(self.template[0], (parameters, buffers), features)
        return logits

    def state_by_name(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.stacked, strict=True)) | self.buffers_by_name()

    def buffers_by_name(self) -> dict[str, Tensor]:
        return {name: getattr(self, name.replace(".", "/")) for name in self.buffer_names}

    def state_of(self, index: int) -> dict[str, Tensor]:
        """One member's state_dict, as its network has it alone."""
        network, stacked = self.template[0], self.state_by_name()
        first_names = {
            id(tensor): name
            for name, tensor in (*network.named_parameters(), *network.named_buffers())
        }
        return {  # a tensor that stands in the network twice is stacked once
            name: stacked[first_names[id(tensor)]][index].detach().clone()
            for name, tensor in network.state_dict(keep_vars=True).items()
        }

    def take(self, part: str, rows: list[tuple[Tensor, Tensor]]) -> None:
        """Hold each member's own rows, (rows, num_features) features and (rows,) targets, wherever the module goes."""
        features = torch.stack([features.T for features, _ in rows])
        self.register_buffer(f"{part}_features", features.contiguous(), persistent=False)
        self.register_buffer(
            f"{part}_targets", torch.stack([targets for _, targets in rows]), persistent=False
        )

    def rows(self, part: str) -> tuple[Tensor, Tensor]:
        """Shapes: (members, num_features, rows) features, (members, rows) class numbers."""
        return getattr(self, f"{part}_features"), getattr(self, f"{part}_targets")

    def train(self, mode: bool = True) -> "Stack":
        self.template[0].train(mode)
        return super().train(mode)


def is_chain(network: nn.Module) -> bool:
    """Whether a network is nothing but Linear and elementwise layers, one after the other."""
    layers = list(network.children())
    return (
        isinstance(network, nn.Sequential)
        and type(network).forward is nn.Sequential.forward
        and len(layers) == len(network)  # no layer stands twice
        and all(type(layer) in (nn.Linear, *ELEMENTWISE) for layer in layers)
        and not any(
            module._forward_hooks or module._forward_pre_hooks for module in network.modules()
        )
    )


def is_plain_cross_entropy(loss: nn.Module) -> bool:
    """Whether every row and class counts alike."""
    return (
        type(loss) is nn.CrossEntropyLoss
        and loss.reduction == "mean"
        and loss.weight is None
        and loss.ignore_index < 0
    )


def soft_targets(targets: Tensor, smoothing: Tensor, num_classes: int) -> Tensor:
    """What cross-entropy with label smoothing wants of each class: twice as fast a loss as with class numbers.

    Shapes: (members, rows) class numbers, (members,) -> (members, num_classes, rows).

    >>> soft_targets(torch.tensor([[2]]), torch.tensor([0.3]), num_classes=3).squeeze()
    tensor([0.1000, 0.1000, 0.8000])
    """
    share = smoothing[:, None, None]
    is_class = targets.unsqueeze(1) == torch.arange(num_classes, device=targets.device).unsqueeze(1)
    return is_class * (1 - share) + share / num_classes


def cross_entropies(logits: Tensor, soft: Tensor) -> Tensor:
    """Each member's: (members, num_classes, rows) logits and soft targets -> (members,)."""
    return (
        -(soft * logits.log_softmax(1)).sum((1, 2)) / logits.shape[2]
    )  # no softmax over a last dimension of 3


def losses_of(loss: nn.Module, logits: Tensor, targets: Tensor, maps: bool = True) -> Tensor:
    """Each member's loss of any kind; by one call after the other where vmap does not know it.

    Shapes: (members, num_classes, rows) logits, (members, rows) class numbers -> (members,).
    """
    if not maps:
        return torch.stack([loss(own.T, y) for own, y in zip(logits, targets, strict=True)])
    losses: Tensor = vmap(loss, randomness="different")(logits.mT, targets)
    return losses


def hits(logits: Tensor, targets: Tensor) -> Tensor:
    """How many rows each member gets right: (members, num_classes, rows), (members, rows) -> (members,)."""
    of_target = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    return (of_target >= logits.amax(1)).sum(
        1
    )  # argmax over a middle dimension takes fifty times as long


class Share:
    """The members of a stack that share an optimizer and its schedule, which work on views of the stack."""

    def __init__(
        self, stack: Stack, where: slice | int, classifier: Classifier, steps: int
    ) -> None:
        self.where = where
        self.views = [
            nn.Parameter(stacked.detach()[where], stacked.requires_grad)
            for stacked in stack.stacked
        ]
        self.optimizer, self.schedule = classifier.optimize(self.views, steps)

    def step(self, gradients: Iterable[Tensor | None]) -> None:
        for view, gradient in zip(self.views, gradients, strict=True):
            view.grad = None if gradient is None else gradient[self.where]
        self.optimizer.step()
        if self.schedule is not None and not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()


class Population(LightningModule):
    """Many networks trained at once, for Lightning's Trainer; in use, their ensemble.

    Member i ends with the weights that `Classifier` would give it alone: same seed, same rows, same order. No norm,
    no gradient and no decision is shared between members: losses are summed, each optimizer works number by number
    (one that does not is given its members one by one), each member keeps and stops at its own epochs.

    Trained with `Trainer.fit(population, range(len(population.stacks)))`: a batch is the number of a stack, a step is
    an epoch of it. Then `outcomes` has what each member makes of its held-out rows, of which nothing else was used.

    `forward` is the ensemble's: it takes standardized features, (rows, num_features) or each member's own
    (members, rows, num_features), and returns logits, the logarithms of the members' mean probabilities.

    Args:
        num_features: Number of features.
        num_classes: Number of classes.
        settings: `Classifier`'s nouns, one dictionary of them for each setting.
        members: The networks, each a `Member`.
        stacks: Which members train as one tensor program, by number; null finds them.
        splits: For each split its parts "train", "test" and, where an epoch is chosen, "val": standardized features
            and targets. Only needed for training.
        batch_size: Rows of a member in a step of its optimizer; null takes all its training rows.
        row_order: Called with rows, seed and epoch; the order in which batches take the rows.
        augments: For each split what changes a batch of a member's training features (rows, num_features) at random;
            none where rows stay as they are.
        patience: A member stops after so many epochs without a better loss (validation's, else training's).
        stack_bytes: How much a stack may keep for its backward pass. No answer depends on it (dropout's noise does).

    Raises:
        ValueError: What `Classifier` refuses; a network that mixes rows; an optimizer that must call the loss itself.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        settings: list[dict[str, Any]],
        members: Sequence[Sequence[int]],
        stacks: list[list[int]] | None = None,
        splits: Sequence[Rows] = (),
        batch_size: int | None = None,
        row_order: Callable[[int, int, int], np.ndarray] | None = None,
        augments: Sequence[Callable[[Tensor], Tensor]] = (),
        patience: int | None = None,
        stack_bytes: int = STACK_BYTES,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings, self.members = settings, [Member(*member) for member in members]
        self.splits, self.batch_size, self.row_order, self.patience = (
            splits,
            batch_size,
            row_order,
            patience,
        )
        self.augments = augments
        classifiers = [Classifier(num_features, num_classes, **setting) for setting in settings]
        for classifier in classifiers:
            refuse_state_across_rows(classifier)
        self.classifiers = tuple(
            classifiers
        )  # a tuple: their networks are no part of the population
        self.mixes = [mixes_members(classifier) for classifier in classifiers]
        self.criteria = nn.ModuleList(classifier.loss for classifier in classifiers)
        self.maps_loss = [maps_loss(classifier.loss, num_classes) for classifier in classifiers]
        self.numbers = self.stack_up(stack_bytes) if stacks is None else stacks
        # Of each stack the runs of members with one criterion: a setting that has it, and how many they are.
        self.criteria_of = []
        for numbers in self.numbers:
            same = groupby(
                (self.members[number].setting for number in numbers),
                lambda i: str(settings[i]["loss"]),
            )
            runs = [list(run) for _, run in same]
            self.criteria_of.append(([run[0] for run in runs], [len(run) for run in runs]))
        self.save_hyperparameters(
            {
                "num_features": num_features,
                "num_classes": num_classes,
                "settings": settings,
                "members": [list(member) for member in self.members],
                "stacks": self.numbers,
            },
            logger=False,
        )
        self.stacks: Sequence[Stack] = nn.ModuleList(map(self.stack, self.numbers))  # type: ignore[assignment]
        self.curves: dict[
            str, list[np.ndarray]
        ] = {}  # each metric's epochs: (members,), NaN once a member stopped
        self.outcomes: dict[Member, Outcome] = {}

    def stack_up(self, stack_bytes: int) -> list[list[int]]:
        """Members of one network class with equally many rows, settings and losses side by side, cut to size."""

        def network_and_rows(number: int) -> str:
            member = self.members[number]
            sizes = {part: len(targets) for part, (_, targets) in self.splits[member.split].items()}
            return f"{self.settings[member.setting]['network']} {sizes}"

        def place(number: int) -> tuple[str, str, int]:
            setting = self.members[number].setting
            return network_and_rows(number), str(self.settings[setting]["loss"]), setting

        stacks = []
        for _, alike in groupby(sorted(range(len(self.members)), key=place), network_and_rows):
            numbers = list(alike)
            member = self.members[numbers[0]]
            rows = len(self.splits[member.split]["train"][1])
            kept = kept_bytes(self.classifiers[member.setting], min(self.batch_size or rows, rows))
            pieces = min(-(-len(numbers) * kept // stack_bytes), len(numbers))
            stacks += [piece.tolist() for piece in np.array_split(numbers, pieces)]
        return stacks

    def stack(self, numbers: list[int]) -> Stack:
        """The members of these numbers, new, with their rows."""
        members = [self.members[number] for number in numbers]
        first, num_features = members[0], self.hparams["num_features"]
        stack = Stack(
            self.classifiers[first.setting].make_network, [member.seed for member in members]
        )
        if not is_chain(stack.template[0]) and not can_vmap(stack, num_features):
            stack.way = stack.looped
        for part in self.splits[first.split] if self.splits else ():
            stack.take(part, [self.splits[member.split][part] for member in members])
        return stack

    def forward(self, features: Tensor) -> Tensor:
        return self.probabilities(features).mean(0).log()

    def spread(self, features: Tensor) -> Tensor:
        """The standard deviation of the probabilities between members: (rows, num_features) -> (rows, num_classes)."""
        return self.probabilities(features).std(0, correction=0)

    def probabilities(self, features: Tensor) -> Tensor:
        """Each member's, as the stacks have them: (members, rows, num_classes), of what `forward` takes."""
        members = sum(map(len, self.numbers))
        own = features.expand(members, *features.shape[-2:]).split(
            [len(numbers) for numbers in self.numbers]
        )
        return torch.cat(
            [stack(x.mT).softmax(1).mT for stack, x in zip(self.stacks, own, strict=True)]
        )

    def soft_targets(self, number: int, targets: Tensor) -> Tensor | None:
        """For a stack whose members all learn by plain cross-entropy."""
        firsts, sizes = self.criteria_of[number]
        criteria = [self.criteria[first] for first in firsts]
        if not all(is_plain_cross_entropy(one) for one in criteria):
            return None
        each = [
            one.label_smoothing
            for one, size in zip(criteria, sizes, strict=True)
            for _ in range(size)
        ]
        smoothing = torch.tensor(each, device=self.device, dtype=self.dtype)  # type: ignore[arg-type]
        return soft_targets(targets, smoothing, self.hparams["num_classes"])

    def losses(self, number: int, logits: Tensor, targets: Tensor, soft: Tensor | None) -> Tensor:
        """Each member's loss, by its setting's criterion."""
        if soft is not None:
            return cross_entropies(logits, soft)
        firsts, sizes = self.criteria_of[number]
        parts = zip(firsts, logits.split(sizes), targets.split(sizes), strict=True)
        return torch.cat(
            [losses_of(self.criteria[i], z, y, self.maps_loss[i]) for i, z, y in parts]
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        self.shares: list[list[Share]] = []
        for stack, numbers in zip(self.stacks, self.numbers, strict=True):
            rows = stack.rows("train")[1].shape[1]
            steps = (self.trainer.max_epochs or 1) * -(-rows // (self.batch_size or rows))
            shares = []
            stop = 0
            for setting, same in groupby(self.members[number].setting for number in numbers):
                start, stop = stop, stop + len(list(same))
                places = range(start, stop) if self.mixes[setting] else [slice(start, stop)]
                shares += [
                    Share(stack, where, self.classifiers[setting], steps) for where in places
                ]
            self.shares.append(shares)
        return [share.optimizer for shares in self.shares for share in shares]

    def on_train_start(self) -> None:
        self.kept = [
            [stacked.detach().clone() for stacked in stack.stacked] for stack in self.stacks
        ]
        self.soft: list[Tensor | None] = [None] * len(self.stacks)
        sizes = [len(numbers) for numbers in self.numbers]
        self.best = [np.full(n, np.inf) for n in sizes]
        self.waited = [np.zeros(n, dtype=int) for n in sizes]
        self.active = [np.ones(n, dtype=bool) for n in sizes]
        self.failed_in = [np.zeros(n, dtype=int) for n in sizes]  # the epoch; 0: it did not

    def on_train_epoch_start(self) -> None:
        self.epoch: dict[str, list[np.ndarray]] = {}

    def training_step(self, number: int, batch_idx: int) -> None:
        """An epoch of one stack: its optimizers' steps, its metrics, its members' choices."""
        stack, shares = self.stacks[number], self.shares[number]
        features, targets = stack.rows("train")
        rows = targets.shape[1]
        if self.batch_size:
            assert self.row_order is not None
            seeds = [self.members[member].seed for member in self.numbers[number]]
            order = np.stack([self.row_order(rows, seed, self.current_epoch) for seed in seeds])
            index = torch.from_numpy(order).to(self.device)
            features = features.gather(2, index.unsqueeze(1).expand_as(features))
            targets = targets.gather(1, index)
        if self.batch_size or self.current_epoch == 0:
            self.soft[number] = self.soft_targets(number, targets)
        soft, size = self.soft[number], self.batch_size or rows
        loss_sum, right = torch.zeros(()), torch.zeros(())
        for i, (x, y) in enumerate(
            zip(features.split(size, 2), targets.split(size, 1), strict=True)
        ):
            logits = stack(self.augmented(number, x))
            losses = self.losses(
                number, logits, y, None if soft is None else soft[..., i * size : (i + 1) * size]
            )
            losses.sum().backward()
            for share in shares:
                share.step(stacked.grad for stacked in stack.stacked)
            for stacked in stack.stacked:
                stacked.grad = None
            with torch.no_grad():
                loss_sum, right = loss_sum + losses * y.shape[1], right + hits(logits, y)
        values = {"train/loss": loss_sum / rows, "train/accuracy": right / rows}
        if self.has_validation(stack):
            features, targets = stack.rows("val")
            stack.eval()
            with torch.no_grad():
                logits = stack(features)
                values["val/loss"] = self.losses(
                    number, logits, targets, self.soft_targets(number, targets)
                )
                values["val/accuracy"] = hits(logits, targets) / targets.shape[1]
            stack.train()
        score = values.get("val/loss", values["train/loss"])
        for share in shares:
            if isinstance(share.schedule, ReduceLROnPlateau):
                share.schedule.step(score[share.where])
        known = (
            torch.stack(list(values.values())).double().cpu().numpy()
        )  # one trip, from wherever it was
        self.choose(number, dict(zip(values, known, strict=True)))

    def augmented(self, number: int, features: Tensor) -> Tensor:
        """A batch of a stack, (members, num_features, rows), each member's rows changed by its split's augmentation."""
        if not self.augments:
            return features
        splits = [self.members[member].split for member in self.numbers[number]]
        return torch.stack(
            [self.augments[i](rows).T for i, rows in zip(splits, features.mT, strict=True)]
        )

    def choose(self, number: int, values: dict[str, np.ndarray]) -> None:
        """What ModelCheckpoint and EarlyStopping do for one network, for each member by itself."""
        stack, active = self.stacks[number], self.active[number]
        for tag, value in values.items():
            self.epoch.setdefault(tag, []).append(np.where(active, value, np.nan))
        finite = np.isfinite(list(values.values())).all(0)
        self.failed_in[number][active & ~finite] = self.current_epoch + 1
        active &= finite
        if not self.chooses(stack):
            return
        score = values.get("val/loss", values["train/loss"])
        better = active & (score < self.best[number])
        keep = torch.from_numpy(
            np.flatnonzero(better if self.has_validation(stack) else active)
        ).to(self.device)
        for kept, stacked in zip(self.kept[number], stack.stacked, strict=True):
            kept[keep] = stacked.detach()[keep]
        self.best[number][better] = score[better]
        if self.patience:
            self.waited[number] = np.where(better, 0, self.waited[number] + 1)
            active &= self.waited[number] < self.patience

    def has_validation(self, stack: nn.Module) -> bool:
        return hasattr(stack, "val_targets")

    def chooses(self, stack: nn.Module) -> bool:
        """Whether a member may end with the weights of another epoch than the last."""
        return self.has_validation(stack) or self.patience is not None

    def on_train_epoch_end(self) -> None:
        for tag, values in self.epoch.items():
            self.curves.setdefault(tag, []).append(np.concatenate(values))
            known = self.curves[tag][-1]
            if np.isfinite(known).any():
                self.trainer.callback_metrics[tag] = torch.tensor(known[np.isfinite(known)].mean())
        going = any(bool(active.any()) for active in self.active)
        self.trainer.should_stop |= not self.trainer.strategy.reduce_boolean_decision(
            going, all=False
        )

    def on_train_end(self) -> None:
        """Give every member the weights it kept, and let it meet its held-out rows, once."""
        found: dict[Member, Outcome] = {}
        for number, stack in enumerate(self.stacks):
            failed_in = self.failed_in[number]
            with torch.no_grad():
                for kept, stacked in zip(self.kept[number], stack.stacked, strict=True):
                    if self.chooses(stack):
                        stacked.copy_(kept)
                    ruined = ~stacked.flatten(1).isfinite().all(1).cpu().numpy()  # by the last step
                    failed_in[ruined & (failed_in == 0)] = self.current_epoch
                stack.eval()
                probabilities = stack(stack.rows("test")[0]).double().softmax(1).mT.cpu().numpy()
            members = [self.members[i] for i in self.numbers[number]]
            found |= dict(
                zip(members, map(Outcome, probabilities, failed_in.tolist()), strict=True)
            )
        self.outcomes = {
            member: outcome for one in gathered(found) for member, outcome in one.items()
        }

    def ensemble(self, members: list[Member], states: list[dict[str, Tensor]]) -> "Population":
        """Members of one setting, with these weights, as a population of their own that predicts.

        Args:
            members: Which.
            states: Their state_dicts.
        """
        setting = self.settings[members[0].setting]
        numbered = [Member(0, member.split, member.seed) for member in members]
        arguments = (self.hparams["num_features"], self.hparams["num_classes"], [setting], numbered)
        ensemble = Population(*arguments, stacks=[list(range(len(members)))])
        (stack,) = ensemble.stacks
        with torch.no_grad():
            for name, stacked in stack.state_by_name().items():
                if name in states[0]:  # all but buffers that no checkpoint keeps
                    stacked.copy_(torch.stack([state[name] for state in states]))
        return ensemble.eval()

    def learning_curves(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Each member's setting (members,), and of each metric (epochs, members); NaN once a member has stopped."""
        settings = [self.members[number].setting for numbers in self.numbers for number in numbers]
        return np.array(settings), {tag: np.stack(epochs) for tag, epochs in self.curves.items()}

    def weights(self) -> dict[Member, dict[str, Tensor]]:
        """Every member's state_dict, of all processes."""
        found = {
            self.members[number]: {name: value.cpu() for name, value in stack.state_of(i).items()}
            for stack, numbers in zip(self.stacks, self.numbers, strict=True)
            for i, number in enumerate(numbers)
        }
        return {member: state for one in gathered(found) for member, state in one.items()}


def refuse_state_across_rows(classifier: Classifier) -> None:
    """Raise where an output depends on another row, or training changes a buffer: BatchNorm does both.

    Raises:
        ValueError: The network does so, and could not be told from one that has seen held-out rows.
    """
    network = deepcopy(classifier.network).train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    rows = torch.randn(4, classifier.example.shape[1], generator=torch.Generator().manual_seed(0))
    outputs = []
    for first in (rows[:1], 1 - rows[:1]):
        torch.default_generator.manual_seed(0)  # the same dropout
        outputs.append(network(torch.cat([first, rows[1:]])).detach()[1:])
    name = type(network).__name__
    if not torch.allclose(outputs[0], outputs[1], equal_nan=True):
        raise ValueError(
            f"network {name} mixes rows, as BatchNorm does; give one in which each row stands alone"
        )
    changed = [
        key for key, buffer in network.named_buffers() if not torch.equal(buffer, before[key])
    ]
    if changed:
        raise ValueError(
            f"network {name} keeps a state in training ({changed[0]}); give one without"
        )


def can_vmap(stack: Stack, num_features: int) -> bool:
    """Whether `torch.func.vmap` knows all operations of a stack's network, and a fast way for each."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "There is a performance drop because ..."
            stack(torch.zeros(len(stack.stacked[0]), num_features, 2)).sum().backward()
    except (RuntimeError, Warning):
        return False
    finally:
        stack.zero_grad()
    return True


def maps_loss(loss: nn.Module, num_classes: int) -> bool:
    """Whether `torch.func.vmap` knows all operations of a loss, and a fast way for each."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            losses_of(
                loss, torch.zeros(2, num_classes, 2, requires_grad=True), torch.zeros(2, 2).long()
            ).sum().backward()
    except (RuntimeError, Warning):
        return False
    return True


def mixes_members(classifier: Classifier) -> bool:
    """Whether a step on two stacked members differs from a step on each: then each needs an optimizer of its own.

    Raises:
        ValueError: The optimizer calls the loss itself, as LBFGS does.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = [parameter.shape for parameter in classifier.network.parameters()]
    starts = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2)]
    # One gradient a hundred times the other's: a norm over both would show.
    slopes = [
        [scale * torch.randn(shape, generator=generator) for shape in shapes] for scale in (0.1, 10)
    ]

    def stack_all(members: Iterable[list[Tensor]]) -> list[Tensor]:
        return [torch.stack(tensors) for tensors in zip(*members, strict=True)]

    def walk(start: list[Tensor], slope: list[Tensor]) -> list[Tensor]:
        parameters = [nn.Parameter(tensor.clone()) for tensor in start]
        optimizer, schedule = classifier.optimize(parameters, 1000)
        if isinstance(schedule, ReduceLROnPlateau):
            raise RuntimeError("follows the loss of one")
        for _ in range(3):
            for parameter, gradient in zip(parameters, slope, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
        return [parameter.detach() for parameter in parameters]

    try:
        stacked = walk(stack_all(starts), stack_all(slopes))
        alone = stack_all(map(walk, starts, slopes))
        return not all(
            torch.allclose(*pair, atol=1e-5) for pair in zip(stacked, alone, strict=True)
        )
    except TypeError as error:
        raise ValueError(f"the optimizer cannot train a population: {error}") from error
    except (RuntimeError, ValueError):
        return True


def kept_bytes(classifier: Classifier, rows: int) -> int:
    """What one member keeps for its backward pass over so many rows."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        features = torch.zeros(rows, classifier.example.shape[1])
        classifier.loss(classifier.network(features), torch.zeros(rows, dtype=torch.long))
    return max(sum(kept.values()), 1)


def gathered(item: Any) -> list[Any]:
    """The item of every process."""
    if not torch.distributed.is_initialized():
        return [item]
    items = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(items, item)
    return items
