"""ResidualMLP: what it computes, its initial weights, its memory, and what it refuses."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from cli.component import describe
from cli.registry import find
from model.classifier import Classifier
from model.probes import activation_bytes, refuse_state_across_rows
from model.residual import Block, ResidualMLP
from tests.helpers import run


def numpy_normalized(rows, norm):
    """nn.LayerNorm's formula."""
    mean = rows.mean(1, keepdims=True)
    variance = ((rows - mean) ** 2).mean(1, keepdims=True)
    scaled = (rows - mean) / np.sqrt(variance + norm.eps)
    return scaled * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def numpy_linear(rows, layer):
    return rows @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


@given(
    st.integers(1, 5),
    st.integers(2, 4),
    st.integers(2, 9),
    st.integers(0, 4),
    st.integers(1, 3),
    st.integers(0, 2**31),
)
def test_computes_what_numpy_computes(num_features, num_classes, width, blocks, expansion, seed):
    torch.manual_seed(seed)
    network = ResidualMLP(num_features, num_classes, width, blocks, expansion, "Sigmoid").double()
    for parameter in network.parameters():  # a LayerNorm starts as ones and zeros
        nn.init.normal_(parameter)
    features = torch.randn(6, num_features, dtype=torch.float64)
    rows = numpy_linear(features.numpy(), network[0])
    for block in list(network)[1:-2]:
        hidden = numpy_linear(numpy_normalized(rows, block.norm), block.first)
        rows = rows + numpy_linear(1 / (1 + np.exp(-hidden)), block.last)
    expected = numpy_linear(numpy_normalized(rows, network[-2]), network[-1])
    np.testing.assert_allclose(network(features).detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_every_block_has_an_activation_of_its_own():
    network = ResidualMLP(4, 3, width=8, blocks=5)
    blocks = [layer for layer in network if isinstance(layer, Block)]
    assert len(blocks) == 5
    assert len({id(block.activation) for block in blocks}) == 5
    assert all(isinstance(block.activation, nn.SiLU) for block in blocks)


def test_initial_weights_are_linears_with_the_sum_of_blocks_kept_small():
    torch.manual_seed(1)
    network = ResidualMLP(4, 3, width=64, blocks=16, expansion=2)
    torch.manual_seed(1)
    assert torch.equal(network[0].weight, nn.Linear(4, 64).weight)
    for block in list(network)[1:-2]:
        assert block.first.weight.abs().max().item() == pytest.approx(64**-0.5, rel=0.01)
        assert block.last.weight.abs().max().item() == pytest.approx(128**-0.5 / 4, rel=0.01)
        assert block.last.bias.abs().max() <= 128**-0.5 / 4
    sizes = []
    rows = torch.randn(500, 64)
    for blocks in (1, 16, 64):
        layers = nn.Sequential(*list(ResidualMLP(4, 3, width=64, blocks=blocks))[1:-2])
        sizes.append((layers(rows) - rows).std().item())
    assert max(sizes) < 1.5 * min(sizes)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_keeps_less_and_computes_the_same_gradients(dropout):
    plain = ResidualMLP(4, 3, width=16, blocks=6, dropout=dropout)
    frugal = ResidualMLP(4, 3, width=16, blocks=6, dropout=dropout, checkpointing=True)
    frugal.load_state_dict(plain.state_dict())
    features = torch.randn(50, 4)
    kept = {}
    for network in (plain, frugal):
        sizes = []

        def pack(tensor, sizes=sizes):
            sizes.append(tensor.nbytes)
            return tensor

        torch.manual_seed(0)
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = network(features).square().mean()
        kept[network] = sum(sizes)
        loss.backward()
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter.grad, frugal.get_parameter(name).grad), name
    assert kept[frugal] < kept[plain] / 4
    assert torch.equal(plain.eval()(features), frugal.eval()(features))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_population_takes_it(checkpointing):
    from model.stack import Stack

    make = partial(ResidualMLP, 4, 3, width=8, blocks=2, checkpointing=checkpointing)
    classifier = Classifier(4, 3, partial(ResidualMLP, width=8, blocks=2))
    refuse_state_across_rows(classifier)
    assert activation_bytes(classifier, 10) > 1
    stack = Stack(make, range(3))
    stack.loop_unless_vmap(4)
    features = torch.randn(3, 4, 20)  # members, features, rows
    logits = stack(features)
    logits.square().sum().backward()
    for member, seed in enumerate(range(3)):
        torch.manual_seed(seed)
        alone = make()
        expected = alone(features[member].T)
        torch.testing.assert_close(logits[member].T, expected)


def test_train_takes_it_by_name():
    assert find("network", "ResidualMLP") is ResidualMLP
    assert describe("network", partial(ResidualMLP, width=8))["width"] == 8
    result = run(
        *("--network", "ResidualMLP", "--network.width", "16", "--network.blocks", "3"),
        *("--optimizer", "AdamW", "--optimizer.lr", "0.01", "--max_epochs", "60"),
    )
    assert result["num_parameters"] == 4 * 16 + 16 + 3 * (2 * 512 + 32 + 16 + 32) + 32 + 51
    assert result["test/accuracy"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width is 0; give 1 or more"),
        ({"blocks": -1}, "blocks is -1; give 0 or more"),
        ({"expansion": 0}, "expansion is 0; give 1 or more"),
        ({"activation": "Relu"}, "activation 'Relu' is not known; nearest: ReLU"),
        ({"dropout": 1.0}, "dropout is 1.0; give a share from 0 to below 1"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResidualMLP(4, 3, **arguments)


def test_dropout_only_while_training():
    network = ResidualMLP(4, 3, width=100, dropout=0.5)
    features = torch.randn(2, 4)
    assert not torch.equal(network(features), network(features))
    fixed = copy.deepcopy(network).eval()
    assert torch.equal(fixed(features), fixed(features))
