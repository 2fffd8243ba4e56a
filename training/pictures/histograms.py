"""Histograms: weights, gradients and activations."""

import torch
from torch import Tensor, nn

from training.hparams import VISUAL
from training.pictures.base import Picture
from training.pictures.view import View

MAX_ROWS = 250
MAX_VALUES = 100_000  # of a histogram


class Histograms(Picture):
    """Weights, the loss's gradient over some training rows, and each layer's output for them."""

    def draw(self, view: View) -> None:
        features, targets = (tensor[:MAX_ROWS] for tensor in view.splits["train"])
        groups = {
            "weights": trained_parameters(view.network),
            "gradients": gradients(view, features, targets),
            "activations": activations(view, features),
        }
        for group, tensors in groups.items():
            for name, values in tensors.items():
                tag = f"{VISUAL}/{group}/{name}"
                view.writer.add_histogram(tag, thinned(values).numpy(), view.step)


def trained_parameters(network: nn.Module) -> dict[str, Tensor]:
    """The parameters that are trained, by name."""
    named = network.named_parameters()
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def gradients(view: View, features: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The loss's gradient for each trained parameter that it depends on."""
    parameters = trained_parameters(view.network)
    with torch.inference_mode(False), torch.enable_grad():
        loss = view.loss(features, targets)
        values = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    named = zip(parameters, values, strict=True)
    return {name: value for name, value in named if value is not None}


def activations(view: View, features: Tensor) -> dict[str, Tensor]:
    """The output of each innermost layer."""
    layers = view.record_layers(nn.Module, features)
    return {name: output for name, (_, output) in layers.items()}


def thinned(values: Tensor) -> Tensor:
    """The values in one dimension, evenly thinned to at most MAX_VALUES.

    >>> len(thinned(torch.zeros(300, 1000)))
    100000
    """
    flat = values.detach().flatten()
    step = -(-len(flat) // MAX_VALUES)
    return flat[::step].float().cpu()
