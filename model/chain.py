"""The chain rule written out for many networks at once, in place, on tensors that are kept.

It is the article's own derivation (sections 4.3 and 5) with the derivative of the activation, which
the article forgot. Autograd gives the same gradients in twice the time.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from model.elementwise import RULES
from model.embedding import PeriodicEmbedding

LAYERS = (nn.Linear, PeriodicEmbedding, nn.Dropout, nn.Identity, *RULES)


class Reused:
    """A tensor that is made once for each shape: for a small stack new memory costs more than sums.

    >>> y = Reused()
    >>> y.like(torch.zeros(2), (3, 4)) is y.like(torch.zeros(2), (3, 4))
    True
    """

    def __init__(self) -> None:
        self.tensors: dict[tuple[int, ...], Tensor] = {}

    def like(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The tensor of this shape, of the type and on the device of another; not initialized."""
        if shape not in self.tensors:
            self.tensors[shape] = tensor.new_empty(shape)
        return self.tensors[shape]


class Link(Protocol):
    """A layer of all members; x (members, units, rows), dy is the gradient of the loss by y."""

    def forward(self, x: Tensor) -> Tensor: ...

    def backward(self, dy: Tensor) -> Tensor | None: ...


class LinearLink:
    """y = W x + b, so dW = dy xᵀ, db = Σ dy and dx = Wᵀ dy.

    Args:
        weight: (members, units out, units in).
        bias: (members, units out), or None.
        gradients: Where the gradients of the two go; None for one that is not trained.
        needs_dx: Whether a layer before it is trained, which asks for dx.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        gradients: tuple[Tensor | None, Tensor | None],
        needs_dx: bool,
    ) -> None:
        self.weight = weight
        self.bias = None if bias is None else bias.unsqueeze(-1)
        self.gradients = gradients
        self.needs_dx = needs_dx
        self.y = Reused()
        self.dx = Reused()
        self.transposed = Reused()

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        members, units, _ = self.weight.shape
        y = self.y.like(x, (members, units, x.shape[2]))
        if self.bias is None:
            return torch.bmm(self.weight, x, out=y)
        return torch.baddbmm(self.bias, self.weight, x, out=y)

    def backward(self, dy: Tensor) -> Tensor | None:
        weight_gradient, bias_gradient = self.gradients
        if weight_gradient is not None:
            self.set_weight_gradient(dy, weight_gradient)
        if bias_gradient is not None:
            torch.sum(dy, 2, out=bias_gradient)
        if not self.needs_dx:
            return None
        return torch.bmm(self.weight.mT, dy, out=self.dx.like(dy, self.x.shape))

    def set_weight_gradient(self, dy: Tensor, gradient: Tensor) -> None:
        """Write dy xᵀ, as the transposed of x dyᵀ where that has fewer rows: it is faster."""
        members, units_out, units_in = gradient.shape
        if units_out <= units_in:
            torch.bmm(dy, self.x.mT, out=gradient)
            return
        transposed = self.transposed.like(gradient, (members, units_in, units_out))
        gradient.copy_(torch.bmm(self.x, dy.mT, out=transposed).mT)


class ElementwiseLink:
    """y = f(x), so dx = f'(x) dy.

    Args:
        layer: The layer of one network.
        may_overwrite: Whether the layer before it asks for its output, x, no more.
    """

    def __init__(self, layer: nn.Module, may_overwrite: bool) -> None:
        self.layer = layer
        self.rule = RULES[type(layer)]
        self.in_place = may_overwrite and self.rule.takes_y
        self.y = Reused()

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.in_place else self.y.like(x, x.shape)
        self.x_or_y = y if self.rule.takes_y else x
        return self.rule.apply(self.layer, x, y)

    def backward(self, dy: Tensor) -> Tensor:
        return self.rule.derive(self.layer, dy, self.x_or_y)


class DropoutLink:
    """y = m x, so dx = m dy: m is 0 with probability p, else 1 / (1 - p), so that its mean is 1."""

    def __init__(self, layer: nn.Dropout) -> None:
        self.layer = layer
        self.mask = Reused()
        self.y = Reused()

    def forward(self, x: Tensor) -> Tensor:
        kept = 1 - self.layer.p
        self.m = self.mask.like(x, x.shape).bernoulli_(kept)
        if kept:  # with p = 1, m is 0
            self.m.div_(kept)
        return torch.mul(x, self.m, out=self.y.like(x, x.shape))

    def backward(self, dy: Tensor) -> Tensor:
        return dy.mul_(self.m)


class EmbeddingLink:
    """A PeriodicEmbedding, whose gradients are autograd's.

    Args:
        layer: The layer of one network.
        parameters: Its parameters, stacked.
        gradients: Where the gradients of those that are trained go.
        needs_dx: Whether a layer before it is trained, which asks for dx.
    """

    def __init__(
        self,
        layer: PeriodicEmbedding,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        needs_dx: bool,
    ) -> None:
        self.layer = layer
        self.parameters = parameters
        self.gradients = gradients
        self.needs_dx = needs_dx

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            self.x = x.detach().requires_grad_(self.needs_dx)
            self.y = self.layer.embed(self.parameters, self.x)
        return self.y.detach()

    def backward(self, dy: Tensor) -> Tensor | None:
        inputs: list[Tensor] = [self.parameters[name] for name in self.gradients]
        if self.needs_dx:
            inputs.append(self.x)
        derivatives = torch.autograd.grad(self.y, inputs, dy)
        for gradient, derivative in zip(self.gradients.values(), derivatives, strict=False):
            gradient.copy_(derivative)
        return derivatives[-1] if self.needs_dx else None


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
            trained = {key: value for key, value in gradients.items() if value is not None}
            return EmbeddingLink(layer, stacked, trained, needs_dx)
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
