"""The chain rule written out for many networks at once, in place, on tensors that are kept.

It is the article's own derivation (sections 4.3 and 5) with the derivative of the activation, which
the article forgot. Autograd gives the same gradients in twice the time.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from model.embedding import PeriodicEmbedding

aten: Any = torch.ops.aten


class Rule(NamedTuple):
    """An elementwise layer y = f(x) and its derivative.

    `apply` is called with layer, x and y, and writes into y. `derive` is called with layer, dy and
    x, or y where `by_result`, and turns dy into dx in place. Where the derivative is a function of
    y, y may take the place of x.
    """

    apply: Callable[[Any, Tensor, Tensor], Tensor]
    derive: Callable[[Any, Tensor, Tensor], Tensor]
    by_result: bool = False


RULES: dict[type[nn.Module], Rule] = {
    nn.ELU: Rule(
        lambda layer, x, y: aten.elu.out(x, layer.alpha, 1, 1, out=y),
        lambda layer, dy, x: aten.elu_backward.grad_input(
            dy, layer.alpha, 1, 1, False, x, grad_input=dy
        ),
    ),
    nn.GELU: Rule(
        lambda layer, x, y: aten.gelu.out(x, approximate=layer.approximate, out=y),
        lambda layer, dy, x: aten.gelu_backward.grad_input(
            dy, x, approximate=layer.approximate, grad_input=dy
        ),
    ),
    nn.LeakyReLU: Rule(
        lambda layer, x, y: aten.leaky_relu.out(x, layer.negative_slope, out=y),
        lambda layer, dy, x: aten.leaky_relu_backward.grad_input(
            dy, x, layer.negative_slope, False, grad_input=dy
        ),
    ),
    nn.ReLU: Rule(
        lambda layer, x, y: torch.clamp_min(x, 0, out=y),
        lambda layer, dy, y: aten.threshold_backward.grad_input(dy, y, 0, grad_input=dy),
        by_result=True,
    ),
    nn.SiLU: Rule(
        lambda layer, x, y: aten.silu.out(x, out=y),
        lambda layer, dy, x: aten.silu_backward.grad_input(dy, x, grad_input=dy),
    ),
    nn.Sigmoid: Rule(
        lambda layer, x, y: torch.sigmoid(x, out=y),
        lambda layer, dy, y: aten.sigmoid_backward.grad_input(dy, y, grad_input=dy),  # dy y (1 - y)
        by_result=True,
    ),
    nn.Softplus: Rule(
        lambda layer, x, y: aten.softplus.out(x, layer.beta, layer.threshold, out=y),
        lambda layer, dy, x: aten.softplus_backward.grad_input(
            dy, x, layer.beta, layer.threshold, grad_input=dy
        ),
    ),
    nn.Tanh: Rule(
        lambda layer, x, y: torch.tanh(x, out=y),
        lambda layer, dy, y: aten.tanh_backward.grad_input(dy, y, grad_input=dy),  # dy (1 - y²)
        by_result=True,
    ),
}


LAYERS = (nn.Linear, PeriodicEmbedding, nn.Dropout, nn.Identity, *RULES)


class Kept:
    """A tensor that is made once for each shape: memory that is new costs more than what it holds.

    >>> kept = Kept()
    >>> kept.like(torch.zeros(2), (3, 4)) is kept.like(torch.zeros(2), (3, 4))
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
        is_last: Whether no layer before it is trained, so that nobody asks for dx.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        gradients: tuple[Tensor | None, Tensor | None],
        is_last: bool,
    ) -> None:
        self.weight = weight
        self.bias = None if bias is None else bias.unsqueeze(-1)
        self.gradients = gradients
        self.is_last = is_last
        self.y = Kept()
        self.dx = Kept()
        self.transposed = Kept()

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
        if self.is_last:
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
    """y = f(x), so dx = f'(x) dy."""

    def __init__(self, layer: nn.Module, in_place: bool) -> None:
        self.layer = layer
        self.rule = RULES[type(layer)]
        self.in_place = in_place and self.rule.by_result
        self.y = Kept()

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.in_place else self.y.like(x, x.shape)
        self.known = y if self.rule.by_result else x
        return self.rule.apply(self.layer, x, y)

    def backward(self, dy: Tensor) -> Tensor:
        return self.rule.derive(self.layer, dy, self.known)


class DropoutLink:
    """y = m x, so dx = m dy: m is 0 for a share of the units, else what keeps the mean."""

    def __init__(self, layer: nn.Dropout) -> None:
        self.layer = layer
        self.mask = Kept()
        self.y = Kept()

    def forward(self, x: Tensor) -> Tensor:
        share = 1 - self.layer.p
        self.m = self.mask.like(x, x.shape).bernoulli_(share)
        if share:
            self.m.div_(share)
        return torch.mul(x, self.m, out=self.y.like(x, x.shape))

    def backward(self, dy: Tensor) -> Tensor:
        return dy.mul_(self.m)


class EmbeddingLink:
    """A PeriodicEmbedding, whose gradients are autograd's.

    Args:
        layer: The layer of one network.
        parameters: Its parameters, stacked.
        gradients: Where the gradients of those that are trained go.
        is_last: Whether no layer before it is trained.
    """

    def __init__(
        self,
        layer: PeriodicEmbedding,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        is_last: bool,
    ) -> None:
        self.layer = layer
        self.parameters = parameters
        self.gradients = gradients
        self.is_last = is_last

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            self.x = x.detach().requires_grad_(not self.is_last)
            self.y = self.layer.embed(self.parameters, self.x)
        return self.y.detach()

    def backward(self, dy: Tensor) -> Tensor | None:
        inputs: list[Tensor] = [self.parameters[name] for name in self.gradients]
        if not self.is_last:
            inputs.append(self.x)
        derivatives = torch.autograd.grad(self.y, inputs, dy)
        for gradient, derivative in zip(self.gradients.values(), derivatives, strict=False):
            gradient.copy_(derivative)
        return None if self.is_last else derivatives[-1]


class Chain:
    """Stacked chains of layers: logits of all members, and the gradient of their parameters.

    Both are without autograd, and in training mode. What they return is overwritten by the next
    call; `gradients` holds those of all parameters, None where one is not trained.

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
        self.draws = False  # random numbers
        self.fixed: list[nn.Module] = []  # layers before the first that has parameters
        self.links: list[Link] = []
        is_last = True
        previous: nn.Module | None = None
        for name, layer in network.named_children():
            own = {key: parameters[f"{name}.{key}"] for key, _ in layer.named_parameters()}
            if not own and not self.links:
                self.fixed.append(layer)
            elif not is_identity(layer):
                self.links.append(self.link(name, layer, own, is_last, previous))
                previous = layer
            self.draws |= isinstance(layer, nn.Dropout) and not is_identity(layer)
            if any(parameter.requires_grad for parameter in own.values()):
                is_last = False

    def link(
        self,
        name: str,
        layer: nn.Module,
        own: Mapping[str, Tensor],
        is_last: bool,
        previous: nn.Module | None,
    ) -> Link:
        """A layer, its own parameters, whether none before it is trained, and the one before it."""
        gradients = {key: self.gradients[f"{name}.{key}"] for key in own}
        if isinstance(layer, nn.Linear):
            values = {key: parameter.detach() for key, parameter in own.items()}
            pair = (gradients["weight"], gradients.get("bias"))
            return LinearLink(values["weight"], values.get("bias"), pair, is_last)
        if isinstance(layer, PeriodicEmbedding):
            trained = {key: value for key, value in gradients.items() if value is not None}
            return EmbeddingLink(layer, own, trained, is_last)
        if isinstance(layer, nn.Dropout):
            return DropoutLink(layer)
        return ElementwiseLink(layer, in_place=isinstance(previous, nn.Linear))

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
            if dx is None:
                return
            dy = dx


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
