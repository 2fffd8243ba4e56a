"""Elementwise layers and their derivatives, in place: f and f' of the chain rule."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

aten: Any = torch.ops.aten


class Rule(NamedTuple):
    """An elementwise layer y = f(x), and dx = f'(x) dy.

    `apply` is called with layer, x and y, and writes y. `derive` is called with layer, dy and x,
    and turns dy into dx in place. Where f' is a function of y, `takes_y`, it is called with y
    instead of x: nobody asks for x then, and `apply` may write y over it.
    """

    apply: Callable[[Any, Tensor, Tensor], Tensor]
    derive: Callable[[Any, Tensor, Tensor], Tensor]
    takes_y: bool = False


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
        takes_y=True,
    ),
    nn.SiLU: Rule(
        lambda layer, x, y: aten.silu.out(x, out=y),
        lambda layer, dy, x: aten.silu_backward.grad_input(dy, x, grad_input=dy),
    ),
    nn.Sigmoid: Rule(
        lambda layer, x, y: torch.sigmoid(x, out=y),
        lambda layer, dy, y: aten.sigmoid_backward.grad_input(dy, y, grad_input=dy),  # dy y (1 - y)
        takes_y=True,
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
        takes_y=True,
    ),
}
