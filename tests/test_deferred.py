"""Initial weights drawn one tensor at a time are those that the network's constructor draws."""

from functools import partial

import pytest
import torch
from torch import nn

from model import deferred
from model.convnet import ConvNet
from model.deferred import initial_tensors
from model.networks import MLP
from model.residual import ResidualMLP


class Unusual(nn.Module):
    """Weights that are drawn twice, computed from each other, shared, and given as numbers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.transposed = nn.Linear(4, 5, bias=False)
        self.transposed.weight = nn.Parameter(self.first.weight.detach().T.clone() * 2)
        self.orthogonal = nn.Parameter(nn.init.orthogonal_(torch.empty(4, 4)))
        self.given = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("numbers", torch.tensor([1, 2]))
        self.shared = nn.Linear(4, 4)
        self.shared.weight = self.orthogonal
        self.norm = nn.BatchNorm1d(4)
        self.attention = nn.TransformerEncoderLayer(8, 2, 16)
        with torch.no_grad():
            self.first.weight[0] = 7
            self.first.bias.fill_(2.0)
            self.first.weight.mul_(3)


class Sorted(nn.Module):
    """Its initial weights depend on a drawn number."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        if self.layer.weight.sum() > 0:
            nn.init.zeros_(self.layer.weight)
        nn.init.trunc_normal_(self.layer.bias, std=2.0)


NETWORKS = {
    "MLP": partial(MLP, 4, 3, [5, 6]),
    "the article's": partial(MLP, 4, 3, [5], "Sigmoid", init_std=0.01),
    "embedded numbers": partial(MLP, 4, 3, embedding=3, numbers=[0, 2]),
    "ResidualMLP": partial(ResidualMLP, 4, 3, width=8, dropout=0.1),
    "ConvNet": partial(ConvNet, 64, 10),
    "Unusual": Unusual,
    "weights that depend on values": Sorted,
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_draws_what_the_constructor_draws(make):
    torch.manual_seed(0)
    tensors = dict(initial_tensors(make))
    next_number = torch.rand(1)
    torch.manual_seed(0)
    network = make()
    assert torch.rand(1) == next_number
    expected = dict(network.named_parameters()) | dict(network.named_buffers())
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensors[name], tensor), name


def test_holds_one_tensor_at_a_time(monkeypatch):
    live = {}
    run_again = deferred.run_again

    def watched(call, storages):
        run_again(call, storages)
        live["most"] = max(live.get("most", 0), sum(t.nbytes for t in storages.values()))

    monkeypatch.setattr(deferred, "run_again", watched)
    sizes = [tensor.nbytes for _, tensor in initial_tensors(partial(ResidualMLP, 4, 3, width=64))]
    assert live["most"] <= 1.1 * max(sizes) < 0.2 * sum(sizes)
