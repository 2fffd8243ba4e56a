"""The written-out backward pass against autograd, for every layer, loss and kind of network."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.chain import Chain, is_chain
from model.cross_entropy import CrossEntropy, cross_entropies, soft_targets, weighted
from model.elementwise import RULES
from model.embedding import PeriodicEmbedding
from model.networks import MLP
from model.stack import Stack, hits

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14}


class Frozen(nn.Sequential):
    def __init__(self, first, last):
        super().__init__(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))
        self[0].requires_grad_(first)
        self[2].requires_grad_(False)
        self[4].requires_grad_(last)


class Sharing(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
        self[2].weight = self[0].weight


NETWORKS = {
    "linear": lambda: MLP(4, 3, hidden=[]),
    "no bias": lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3)),
    "embedded": lambda: MLP(4, 3, hidden=[5], embedding=4, numbers=[0, 2]),
    "embedded again": lambda: nn.Sequential(nn.Linear(4, 4), PeriodicEmbedding([0, 2], 2)),
    "two activations": lambda: nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.ReLU(), nn.Tanh()),
    "activation first": lambda: nn.Sequential(nn.ReLU(), nn.Identity(), nn.Linear(4, 3)),
    "no activation": lambda: nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 2), nn.Linear(2, 3)),
    "dropout of nothing": lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.0)),
    "first frozen": lambda: Frozen(first=False, last=True),
    "last frozen": lambda: Frozen(first=True, last=False),
}
NETWORKS |= {
    layer.__name__: lambda layer=layer: nn.Sequential(
        nn.Linear(4, 8), layer(), nn.Linear(8, 5), layer(), nn.Linear(5, 3)
    )
    for layer in RULES
}


def relative_error(value, expected):
    return ((value - expected).norm() / expected.norm().clamp(min=1e-30)).item()


def assert_is_autograd(stack, x, slopes):
    """Logits and gradients are those of autograd, also when the tensors are used again."""
    tolerance = TOLERANCE[x.dtype]
    expected = stack(x)
    expected.backward(slopes)
    chain = stack.chain()
    with torch.no_grad():
        for _ in range(2):
            logits = chain.forward(x)
            chain.backward(slopes.clone())
    assert relative_error(logits, expected) <= tolerance
    for name, parameter in stack.named_parameter_stacks().items():
        if parameter.requires_grad:
            assert relative_error(chain.gradients[name], parameter.grad) <= tolerance, name
        else:
            assert chain.gradients[name] is None


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_autograd(name, dtype):
    stack = Stack(NETWORKS[name], seeds=[3, 4, 5]).to(dtype)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 7, generator=generator, dtype=dtype)
    with torch.no_grad():
        shape = stack(x).shape
    assert_is_autograd(stack, x, torch.randn(shape, generator=generator, dtype=dtype))


@settings(deadline=None, max_examples=25)
@given(
    hidden=st.lists(st.integers(1, 9), max_size=3),
    activation=st.sampled_from([layer.__name__ for layer in RULES]),
    members=st.integers(1, 4),
    rows=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_also_of_any_mlp(hidden, activation, members, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    stack = Stack(lambda: MLP(4, 3, hidden, activation), list(range(members))).double()
    x = torch.randn(members, 4, rows, generator=generator, dtype=torch.float64)
    slopes = torch.randn(members, 3, rows, generator=generator, dtype=torch.float64)
    assert_is_autograd(stack, x, slopes)


def test_dropout_drops_the_same_units_in_both_directions():
    network = nn.Sequential(nn.Linear(4, 500), nn.Dropout(0.25), nn.Linear(500, 1, bias=False))
    chain = Stack(lambda: network, seeds=[0]).chain()
    assert chain.draws
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.fill_(1.0)
        network[2].weight.fill_(1.0)
        chain = Chain(network, {n: nn.Parameter(p[None]) for n, p in network.named_parameters()})
        kept = chain.forward(torch.ones(1, 4, 1)).item() * 0.75
        chain.backward(torch.ones(1, 1, 1))
    assert 330 < kept < 420
    assert round(kept) == (chain.gradients["0.bias"] > 0).sum()
    assert chain.gradients["0.bias"].sum().item() == pytest.approx(kept / 0.75)


def test_all_units_may_be_dropped():
    network = nn.Sequential(nn.Linear(4, 5), nn.Dropout(1.0), nn.Linear(5, 3))
    chain = Stack(lambda: network, seeds=[0]).chain()
    with torch.no_grad():
        chain.forward(torch.ones(1, 4, 2))
        chain.backward(torch.ones(1, 3, 2))
    assert not chain.gradients["0.weight"].any()
    assert chain.gradients["2.bias"].all()


def test_layers_that_share_a_parameter_are_no_chain():
    assert not is_chain(Sharing())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("smoothing", [None, 0.2])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_cross_entropy_and_its_gradient_are_those_of_autograd(dtype, smoothing, is_weighted):
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(5, 4, 9, generator=generator, dtype=dtype)
    targets = torch.randint(4, (5, 9), generator=generator)
    if smoothing is not None:
        smoothing = torch.tensor([0.0, smoothing, 0.1, 0.5, 1.0], dtype=dtype)
    soft = soft_targets(targets, smoothing, num_classes=4, like=logits)
    if is_weighted:
        soft = weighted(soft, torch.rand(5, 9, generator=generator, dtype=dtype))
    leaf = logits.clone().requires_grad_()
    expected = cross_entropies(leaf, soft)
    expected.sum().backward()
    losses, slopes, right = CrossEntropy()(logits.clone(), soft)
    assert relative_error(losses, expected) <= TOLERANCE[dtype]
    assert relative_error(slopes, leaf.grad) <= TOLERANCE[dtype]
    assert torch.equal(right, hits(logits, targets).to(dtype))


def test_large_logits_stay_finite():
    logits = torch.tensor([[[1e30, -1e4], [0.0, 1e4]]])
    soft = soft_targets(torch.tensor([[0, 1]]), None, num_classes=2, like=logits)
    losses, slopes, right = CrossEntropy()(logits, soft)
    assert losses.item() == 0
    assert not slopes.any()
    assert right.item() == 2
