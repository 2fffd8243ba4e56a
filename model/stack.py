"""Stack: networks of one class computed as one, and each network's own loss and hits."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from model.chain import Chain, is_chain
from model.embedding import PeriodicEmbedding
from model.initial import stacked_networks
from model.member_rows import MemberRows


class Stack(nn.Module):
    """Networks of one class as one module: each parameter is a tensor (members, *its shape).

    Rows are the last dimension: with (members, units, rows), matrix products and a softmax over
    few classes are fast on a CPU. A chain of Linear and elementwise layers runs through
    `torch.baddbmm`. Any other network runs through `torch.func.vmap`, or member by member after
    `loop_unless_vmap()`, for networks with an operation that vmap does not support.

    Shapes: (members, num_features, rows) -> (members, num_classes, rows).

    >>> Stack(lambda: nn.Linear(4, 3), seeds=[0, 1])(torch.zeros(2, 4, 5)).shape
    torch.Size([2, 3, 5])

    Args:
        make_network: Called without arguments; returns a new network.
        seeds: The seed of each member's initial weights.
    """

    def __init__(self, make_network: Callable[[], nn.Module], seeds: Sequence[int]) -> None:
        super().__init__()
        network, (parameters, buffers) = stacked_networks(make_network, seeds)
        trained = {name: own.requires_grad for name, own in network.named_parameters()}
        self.parameter_names = list(parameters)
        self.buffer_names = list(buffers)
        self.stacked = nn.ParameterList(
            nn.Parameter(parameter.detach(), requires_grad=trained[name])
            for name, parameter in parameters.items()
        )
        for name, buffer in buffers.items():
            self.register_buffer(buffer_attribute(name), buffer)
        # In a list, so that PyTorch does not register the template's parameters with the stack.
        self.template = [network]
        # The members' rows of "train", "test" and, where an epoch is chosen, "val". They share a
        # table, which does not move with the module.
        self.splits: dict[str, MemberRows] = {}
        self.is_chain = is_chain(network)
        self.run = self.run_chain if self.is_chain else self.run_vmap

    def forward(self, features: Tensor) -> Tensor:
        return self.run(self.named_parameter_stacks(), features)

    def chain(self) -> Chain | None:
        """The written-out forward and backward pass with the parameters as they lie now."""
        if not self.is_chain:
            return None
        return Chain(self.template[0], self.named_parameter_stacks())

    def run_chain(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        """All members at once, layer by layer."""
        for name, layer in self.template[0].named_children():
            if isinstance(layer, PeriodicEmbedding):
                own = {key: parameters[f"{name}.{key}"] for key, _ in layer.named_parameters()}
                x = layer.embed(own, x)
                continue
            if not isinstance(layer, nn.Linear):
                x = layer(x)
                continue
            weight = parameters[f"{name}.weight"]
            if layer.bias is None:
                x = torch.bmm(weight, x)
            else:
                bias = parameters[f"{name}.bias"]
                x = torch.baddbmm(bias.unsqueeze(-1), weight, x)
        return x

    # On a CPU a ConvNet's grouped convolutions take as long as its members one by one.
    # Unfolded into one baddbmm per convolution they take two to four times as long.
    def run_vmap(self, parameters: dict[str, Tensor], features: Tensor) -> Tensor:
        """All members at once, through vmap."""
        call = vmap(self.call_network, randomness="different")
        logits: Tensor = call(parameters, self.named_buffer_stacks(), features.mT)
        return logits.mT

    def run_loop(self, parameters: dict[str, Tensor], features: Tensor) -> Tensor:
        """One member after the other."""
        state = parameters | self.named_buffer_stacks()
        logits = []
        for i, member_features in enumerate(features.mT):
            member_state = {name: stacked[i] for name, stacked in state.items()}
            logits.append(self.call_network(member_state, {}, member_features).T)
        return torch.stack(logits)

    def loop_unless_vmap(self, num_features: int) -> None:
        """Run one member after the other, if the network has an operation that vmap lacks."""
        if not self.is_chain and not self.can_vmap(num_features):
            self.run = self.run_loop

    def can_vmap(self, num_features: int) -> bool:
        """Whether `torch.func.vmap` supports all operations of the network, each fast."""
        features = torch.zeros(len(self.stacked[0]), num_features, 2)
        is_supported = supports_vmap(lambda: self(features))
        self.zero_grad()
        return is_supported

    def call_network(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], features: Tensor
    ) -> Tensor:
        """The template's output with one member's state."""
        logits: Tensor = functional_call(self.template[0], (parameters, buffers), features)
        return logits

    def named_parameter_stacks(self) -> dict[str, Tensor]:
        """The stacked parameters, by the names they have in one network."""
        return dict(zip(self.parameter_names, self.stacked, strict=True))

    def named_buffer_stacks(self) -> dict[str, Tensor]:
        """The stacked buffers, by the names they have in one network."""
        return {name: getattr(self, buffer_attribute(name)) for name in self.buffer_names}

    def named_stacks(self) -> dict[str, Tensor]:
        """Stacked parameters and buffers, by the names they have in one network."""
        return self.named_parameter_stacks() | self.named_buffer_stacks()

    def member_state(self, index: int) -> dict[str, Tensor]:
        """The state_dict of one member, as its network alone would return it."""
        network = self.template[0]
        stacks = self.named_stacks()
        # A tensor that two layers share is stacked once, under the first of its names.
        first_names = {
            id(tensor): name
            for name, tensor in (*network.named_parameters(), *network.named_buffers())
        }
        return {
            name: stacks[first_names[id(tensor)]][index].detach().clone()
            for name, tensor in network.state_dict(keep_vars=True).items()
        }

    @torch.no_grad()
    def load_members(self, states: list[dict[str, Tensor]]) -> None:
        """Take over the members' weights, each the state_dict of one network."""
        for name, stacked in self.named_stacks().items():
            if name in states[0]:  # a state_dict lacks buffers that are not persistent
                stacked.copy_(torch.stack([state[name] for state in states]))

    def keep_only(self, indices: Tensor) -> None:
        """Leave out all members but these."""
        for stacked in self.stacked:
            stacked.data = stacked.data[indices]
        for name in self.buffer_names:
            setattr(self, buffer_attribute(name), getattr(self, buffer_attribute(name))[indices])
        for rows in self.splits.values():
            rows.keep_only(indices)

    def train(self, mode: bool = True) -> "Stack":
        self.template[0].train(mode)
        return super().train(mode)


def buffer_attribute(name: str) -> str:
    """The attribute that holds a network's buffer: PyTorch allows no dots in a buffer's name.

    >>> buffer_attribute("block.scale")
    'block/scale'
    """
    return name.replace(".", "/")


def supports_vmap(call: Callable[[], Tensor]) -> bool:
    """Whether `torch.func.vmap` supports all operations of a call and its derivative, each fast."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "There is a performance drop because ..."
            call().sum().backward()
    except (RuntimeError, Warning):
        return False
    return True


def member_losses(
    loss: nn.Module, logits: Tensor, targets: Tensor, use_vmap: bool = True
) -> Tensor:
    """Each member's loss, for any loss; one call per member where vmap does not support it.

    Shapes: (members, num_classes, rows) logits, (members, rows) class indices -> (members,).
    """
    if not use_vmap:
        return torch.stack(
            [
                loss(member_logits.T, member_targets)
                for member_logits, member_targets in zip(logits, targets, strict=True)
            ]
        )
    losses: Tensor = vmap(loss, randomness="different")(logits.mT, targets)
    return losses


def hits(logits: Tensor, targets: Tensor) -> Tensor:
    """How many rows each member classifies correctly.

    Shapes: (members, num_classes, rows) logits, (members, rows) class indices -> (members,).
    """
    target_logits = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    # Not argmax: over a middle dimension it takes fifty times as long.
    return (target_logits >= logits.amax(1)).sum(1)
