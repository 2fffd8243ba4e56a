"""Links of a chain: layers of many networks at once, each with its derivative written out.

They write into tensors that are used again, so what they return is overwritten by the next call.
"""

from collections.abc import Mapping
from math import pi
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from model.elementwise import RULES
from model.embedding import PeriodicEmbedding

aten: Any = torch.ops.aten


class Reused:
    """A tensor that is made once for each shape: in a small stack, allocating costs the most.

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
        """Write dy xᵀ; where x dyᵀ has fewer rows, that is faster, and is written transposed."""
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
        may_overwrite: Whether the layer before it no longer needs its output, x.
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
    """A PeriodicEmbedding of the numbers v in x: y is x, and relu(e) below it.

    Here z = 2π f v + p and e = W cos z + b; so db = Σ de, dW = de cos(z)ᵀ, dz = -sin(z) Wᵀ de,
    dp = Σ dz, df = 2π dz vᵀ and dv = 2π fᵀ dz.
    Numbers of members are one dimension in matrix products, (members * numbers, ..., rows).

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
        gradients: Mapping[str, Tensor | None],
        needs_dx: bool,
    ) -> None:
        self.numbers = torch.tensor(layer.numbers, device=parameters["weight"].device)
        self.frequency = parameters["frequency"].detach()
        self.phase = parameters["phase"].detach()
        self.weight = parameters["weight"].detach().flatten(0, 1)
        self.bias = parameters["bias"].detach().flatten(0, 1)
        self.gradients = {
            name: gradient.flatten(0, 1)
            for name, gradient in gradients.items()
            if gradient is not None
        }
        self.needs_dx = needs_dx
        names = ("values", "z", "waves", "e", "y", "dz", "dx")
        self.reused = {name: Reused() for name in names}

    def forward(self, x: Tensor) -> Tensor:
        members, self.features, rows = x.shape
        _, numbers, frequencies, _ = self.frequency.shape
        size = self.bias.shape[1]
        values = self.reused["values"].like(x, (members, numbers, rows))
        self.values = torch.index_select(x, 1, self.numbers, out=values).unsqueeze(2)
        z = self.reused["z"].like(x, (members, numbers, frequencies, rows))
        torch.mul(2 * pi * self.frequency, self.values, out=z).add_(self.phase)
        waves = torch.cos(z, out=self.reused["waves"].like(z, z.shape))
        self.z = z.flatten(0, 1)
        self.waves = waves.flatten(0, 1)
        e = self.reused["e"].like(x, (members * numbers, size, rows))
        self.e = torch.baddbmm(self.bias, self.weight, self.waves, out=e)
        y = self.reused["y"].like(x, (members, self.features + numbers * size, rows))
        y[:, : self.features].copy_(x)
        self.embedded = y[:, self.features :]
        torch.clamp_min(self.e.view_as(self.embedded), 0, out=self.embedded)
        return y

    def backward(self, dy: Tensor) -> Tensor | None:
        de = self.e
        aten.threshold_backward.grad_input(
            dy[:, self.features :], self.embedded, 0, grad_input=de.view_as(self.embedded)
        )
        dz = torch.bmm(self.weight.mT, de, out=self.reused["dz"].like(de, self.z.shape))
        dz.mul_(self.z.sin_()).neg_()
        values = self.values.flatten(0, 1)
        if "bias" in self.gradients:
            torch.sum(de, 2, keepdim=True, out=self.gradients["bias"])
        if "weight" in self.gradients:
            torch.bmm(de, self.waves.mT, out=self.gradients["weight"])
        if "phase" in self.gradients:
            torch.sum(dz, 2, keepdim=True, out=self.gradients["phase"])
        if "frequency" in self.gradients:
            torch.bmm(dz, values.mT, out=self.gradients["frequency"]).mul_(2 * pi)
        if not self.needs_dx:
            return None
        dx = self.reused["dx"].like(dy, (len(dy), self.features, dy.shape[2]))
        dx.copy_(dy[:, : self.features])
        dv = torch.bmm(2 * pi * self.frequency.flatten(0, 1).mT, dz)
        return dx.index_add_(1, self.numbers, dv.view(len(dy), -1, dy.shape[2]))
