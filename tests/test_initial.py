"""Weights of many networks, drawn into one tensor: bit by bit those of each seed alone."""

import pytest
import torch
from torch import nn

from model.convnet import ConvNet
from model.initial import Recorder, stacked_networks
from model.networks import MLP


class Orthogonal(nn.Linear):
    """A draw that later steps change: it cannot be repeated, and each network is built."""

    def reset_parameters(self):
        nn.init.orthogonal_(self.weight)
        nn.init.zeros_(self.bias)


class Truncated(nn.Linear):
    """Several steps in place, which can be repeated."""

    def reset_parameters(self):
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.constant_(self.bias, 0.5)


class RandomBuffer(nn.Linear):
    def __init__(self, num_features, num_classes):
        super().__init__(num_features, num_classes)
        self.register_buffer("noise", torch.rand(3))


class RandomShare(nn.Linear):
    """A draw that decides about another one."""

    def reset_parameters(self):
        super().reset_parameters()
        if torch.rand(()) < 0.5:
            nn.init.zeros_(self.bias)


class Tied(nn.Sequential):
    def __init__(self, num_features, num_classes):
        super().__init__(nn.Linear(num_features, 4), nn.Linear(4, 4), nn.Linear(4, num_classes))
        self[1].weight = self[0].weight


NETWORKS = {
    "MLP": lambda: MLP(4, 3, hidden=[16, 8], dropout=0.1),
    "embedded": lambda: MLP(4, 3, embedding=4),
    "ConvNet": lambda: ConvNet(16, 3),
    "LSTM": lambda: nn.LSTM(4, 3),
    "Transformer": lambda: nn.TransformerEncoderLayer(4, 2, 8),
    "BatchNorm": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
    "orthogonal": lambda: Orthogonal(4, 3),
    "truncated": lambda: Truncated(4, 3),
    "random buffer": lambda: RandomBuffer(4, 3),
    "random share": lambda: RandomShare(4, 3),
    "tied": lambda: Tied(4, 3),
    "frozen": lambda: nn.Linear(4, 3).requires_grad_(False),
    "double": lambda: nn.Linear(4, 3).double(),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seeds", [[7], [5, 0, 5, 2**40], list(range(600))])
def test_each_network_is_that_of_its_seed(name, seeds):
    if len(seeds) > 4 and name in ("Transformer", "random share"):
        seeds = seeds[:20]
    template, (parameters, buffers) = stacked_networks(NETWORKS[name], seeds)
    for i, seed in enumerate(seeds):
        torch.manual_seed(seed)
        alone = NETWORKS[name]()
        named = {**dict(alone.named_parameters()), **dict(alone.named_buffers())}
        assert named.keys() == (parameters | buffers).keys()
        for key, tensor in named.items():
            assert torch.equal((parameters | buffers)[key][i], tensor)
    assert type(template) is type(alone)


def test_which_draws_are_repeated():
    whole = {}
    for name, make_network in NETWORKS.items():
        recorder = Recorder()
        with recorder:
            make_network()
        whole[name] = recorder.is_whole
    assert whole["MLP"]
    assert whole["ConvNet"]
    assert whole["truncated"]
    assert not (whole["random buffer"])
    assert not (whole["random share"])
