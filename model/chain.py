"""The chain rule written out for many networks at once, in place, on tensors used again.

It is the article's own derivation (sections 4.3 and 5) with the derivative of the activation, which
the article forgot. Autograd gives the same gradients in twice the time.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.elementwise import RULES
from model.embedding import PeriodicEmbedding
from model.links import DropoutLink, ElementwiseLink, EmbeddingLink, LinearLink, Link

LAYERS = (nn.Linear, PeriodicEmbedding, nn.Dropout, nn.Identity, *RULES)


class Chain:
    """Stacked chains of layers: logits of all members, and the gradient of their parameters.

    Both are without autograd, and in training mode. What they return is overwritten by the next
    call; `gradients` holds those of all parameters, None where one is not trained. `draws` is
    whether they draw random numbers.

    >>> network = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> chain = Chain(network, {n: nn.Parameter(p[None]) for n, p in network.named_parameters()})
    >>> logits = chain.forward(torch.ones(1, 1, 5))
    >>> chain.backward(torch.ones_like(logits))
    >>> chain.gradients["2.bias"]
    tensor([[5.]])

    Args:
        network: One of the networks; see `is_chain`.
        parameters: Their parameters, (members, *shape), by the names of one network.
    """

    def __init__(self, network: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        self.gradients = {
            name: torch.empty_like(parameter.detach()) if parameter.requires_grad else None
            for name, parameter in parameters.items()
        }
        self.draws = False
        self.fixed: list[nn.Module] = []  # layers before the first that has parameters
        self.links: list[Link] = []
        needs_dx = False
        for name, layer in network.named_children():
            stacked = {key: parameters[f"{name}.{key}"] for key, _ in layer.named_parameters()}
            if not stacked and not self.links:
                self.fixed.append(layer)
            elif not is_identity(layer):
                self.links.append(self.link(name, layer, stacked, needs_dx))
            self.draws |= isinstance(layer, nn.Dropout) and not is_identity(layer)
            needs_dx |= any(parameter.requires_grad for parameter in stacked.values())

    def link(
        self, name: str, layer: nn.Module, stacked: Mapping[str, Tensor], needs_dx: bool
    ) -> Link:
        """The link of a layer, whose parameters of all members are `stacked`."""
        gradients = {key: self.gradients[f"{name}.{key}"] for key in stacked}
        if isinstance(layer, nn.Linear):
            values = {key: parameter.detach() for key, parameter in stacked.items()}
            pair = (gradients["weight"], gradients.get("bias"))
            return LinearLink(values["weight"], values.get("bias"), pair, needs_dx)
        if isinstance(layer, PeriodicEmbedding):
            return EmbeddingLink(layer, stacked, gradients, needs_dx)
        if isinstance(layer, nn.Dropout):
            return DropoutLink(layer)
        # A Linear layer's gradients ask for its input, and not for its output.
        return ElementwiseLink(layer, may_overwrite=isinstance(self.links[-1], LinearLink))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (members, num_classes, rows) of features (members, num_features, rows)."""
        for layer in self.fixed:
            x = layer(x)
        for link in self.links:
            x = link.forward(x)
        return x

    def backward(self, dy: Tensor) -> None:
        """Set `gradients`, from the gradient of the loss by the logits, which is overwritten."""
        for link in reversed(self.links):
            dx = link.backward(dy)
            if dx is None:  # no layer before this one is trained
                return
            dy = dx  # what this layer takes, the one before it gives


def is_chain(network: nn.Module) -> bool:
    """Whether a network is only a sequence of Linear and elementwise layers, without hooks."""
    if not isinstance(network, nn.Sequential):
        return False
    if type(network).forward is not nn.Sequential.forward:
        return False
    layers = list(network.children())
    if len(layers) != len(network):  # a layer that is used twice is listed once
        return False
    if not all(type(layer) in LAYERS for layer in layers):
        return False
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    if len(parameters) != len(list(network.parameters())):  # layers share one
        return False
    return not any(
        module._forward_hooks or module._forward_pre_hooks for module in network.modules()
    )


def is_identity(layer: nn.Module) -> bool:
    """Whether a layer returns in training what it gets."""
    return isinstance(layer, nn.Identity) or (isinstance(layer, nn.Dropout) and layer.p == 0)
