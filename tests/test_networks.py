"""MLP: its shapes, its initial weights and what it refuses."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model.networks import MLP

WIDTHS = st.lists(st.integers(1, 9), max_size=3)


@given(
    st.integers(1, 6),
    st.integers(2, 5),
    WIDTHS,
    st.sampled_from(["SiLU", "Sigmoid", "Tanh", "ReLU", "GELU", "PReLU"]),
)
def test_is_linear_layers_with_activations_between(num_features, num_classes, hidden, activation):
    network = MLP(num_features, num_classes, hidden, activation)
    widths = [num_features, *hidden, num_classes]
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == list(pairwise(widths))
    assert isinstance(network[-1], nn.Linear)  # logits: no activation on them
    assert sum(isinstance(layer, getattr(nn, activation)) for layer in network) == len(hidden)
    assert len({id(layer) for layer in network}) == len(network)  # a fresh activation per layer
    assert network(torch.zeros(7, num_features)).shape == (7, num_classes)


@given(WIDTHS.filter(bool), st.integers(0, 2**31))
def test_computes_what_numpy_computes(hidden, seed):
    torch.manual_seed(seed)
    network = MLP(4, 3, hidden, "Sigmoid").double()
    features = torch.randn(5, 4, dtype=torch.float64)
    expected = features.numpy()
    for layer in network:
        if isinstance(layer, nn.Linear):
            expected = expected @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        else:
            expected = 1 / (1 + torch.from_numpy(-expected).exp().numpy())
    torch.testing.assert_close(
        network(features).detach(), torch.from_numpy(expected), rtol=1e-12, atol=1e-12
    )


def test_article_initialisation_is_normal_with_zero_biases():
    network = MLP(200, 100, [300], "Sigmoid", init_std=0.01)
    for layer in (network[0], network[-1]):
        assert (layer.bias == 0).all()
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert layer.weight.mean().item() == pytest.approx(
            0, abs=3 * 0.01 / layer.weight.numel() ** 0.5
        )


def test_pytorch_initialisation_is_pytorchs():
    torch.manual_seed(3)
    network = MLP(4, 3, [5])
    torch.manual_seed(3)
    first, last = nn.Linear(4, 5), nn.Linear(5, 3)
    assert torch.equal(network[0].weight, first.weight)
    assert torch.equal(network[-1].bias, last.bias)


def test_dropout_only_while_training():
    network = MLP(4, 3, [1000], dropout=0.5)
    features = torch.randn(2, 4)
    assert not torch.equal(network(features), network(features))
    network.eval()
    assert torch.equal(network(features), network(features))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": [3, 0]}, r"hidden is \[3, 0\]; every width must be 1 or more"),
        ({"activation": "Relu"}, "activation 'Relu' is not known; nearest: ReLU"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"init_std": float("nan")}, "init_std is nan"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        MLP(4, 3, **arguments)
