"""MLP: its shapes, its initial weights and what it refuses."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model.convnet import ConvNet
from model.hidden import ACTIVATIONS, OVER_UNITS, UNUSABLE
from model.networks import MLP
from model.residual import ResidualMLP
from model.stack import Stack

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


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_keeps_rows_apart_alone_and_in_a_stack(activation):
    stack = Stack(partial(MLP, 4, 3, [5, 5], activation), seeds=[0, 1]).eval()
    stack.template[0].eval()
    stack.loop_unless_vmap(4)
    rows = torch.randn(6, 4)
    logits = stack(rows.T.expand(2, 4, 6))
    network = MLP(4, 3, [5, 5], activation).eval()
    for member in range(2):
        network.load_state_dict(stack.member_state(member))
        alone = torch.cat([network(row) for row in rows.split(1)])
        torch.testing.assert_close(logits[member].T, alone)
    for make in (ResidualMLP, partial(ConvNet, channels=[2], hidden=[5])):
        other = make(16, 3, activation=activation).eval()
        images = torch.randn(3, 16)
        alone = torch.cat([other(row) for row in images.split(1)])
        torch.testing.assert_close(other(images), alone)


def test_activations_over_units_are_those_that_mix_them():
    rows = torch.randn(3, 4)
    changed = rows + torch.tensor([1.0, 0, 0, 0])
    mixing = set()
    for name in ACTIVATIONS:
        layer = MLP(4, 3, [4], name).eval()[1]
        if not torch.equal(layer(rows)[:, 1:], layer(changed)[:, 1:]):
            mixing.add(name)
    assert mixing == set(OVER_UNITS)


@pytest.mark.parametrize("make", [MLP, ResidualMLP, ConvNet])
@pytest.mark.parametrize("name", UNUSABLE)
def test_an_activation_that_cannot_follow_a_layer_is_refused(make, name):
    with pytest.raises(ValueError, match=f"activation '{name}' needs arguments or changes"):
        make(16, 3, activation=name)


def test_too_many_layers_are_refused_before_any_is_built():
    with pytest.raises(ValueError, match="hidden makes 1,000,000 layers; give at most 10,000"):
        MLP(4, 3, [1] * 10**6)
    with pytest.raises(ValueError, match="blocks makes 1,000,000,000 layers; give at most 10,000"):
        ResidualMLP(4, 3, blocks=10**9)


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
