"""Ensemble: several networks as one, whose mean probability is predicted."""

from functools import partial

import torch
from torch import Tensor, nn

from cli.component import ComponentConfig, build
from model.stack import Stack


class Ensemble(nn.Module):
    """Networks of one class, of which the mean probability is predicted, as a single network.

    Each member's logits are divided by the temperature, which calibrates its probabilities.
    Source: Guo et al., On Calibration of Modern Neural Networks (2017), section 4.2.

    Shapes: features (rows, num_features) -> logits (rows, num_classes), here log-probabilities.

    >>> ensemble = Ensemble(4, 3, {"class": "MLP", "hidden": [8]}, members=5)
    >>> ensemble(torch.zeros(2, 4)).exp().sum(1)
    tensor([1., 1.], grad_fn=<SumBackward1>)

    Args:
        num_features: Number of features.
        num_classes: Number of classes.
        network: The members' class and its arguments.
        members: Number of members.
        temperature: Below 1 probabilities move away from one another, above 1 together.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        network: ComponentConfig,
        members: int = 1,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        make_network = partial(build("network", network), num_features, num_classes)
        with torch.random.fork_rng(devices=[]):
            self.stack = Stack(make_network, range(members))
        self.stack.loop_unless_vmap(num_features)
        self.members = members
        self.temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        by_member = self.probabilities(features)
        return by_member.mean(0).clamp_min(torch.finfo(by_member.dtype).tiny).log()

    def probabilities(self, features: Tensor) -> Tensor:
        """Each member's probabilities: (members, rows, num_classes)."""
        logits = self.stack(features.T.expand(self.members, -1, -1))
        probabilities: Tensor = (logits / self.temperature).softmax(1).mT
        return probabilities
