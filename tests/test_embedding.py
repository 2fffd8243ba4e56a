"""PeriodicEmbedding: against NumPy, alone and stacked."""

import numpy as np
import torch

from model.embedding import PeriodicEmbedding
from model.networks import MLP
from model.stack import Stack


def by_numpy(layer, features, numbers):
    """ReLU(W cos(2 pi f x + p) + b) of each number, behind the features."""
    frequency, phase, weight, bias = (
        getattr(layer, name).detach().double().numpy()
        for name in ("frequency", "phase", "weight", "bias")
    )
    parts = [features]
    for i, number in enumerate(numbers):
        x = features[:, number]
        waves = np.cos(2 * np.pi * frequency[i] * x + phase[i])  # (frequencies, rows)
        parts.append(np.maximum(weight[i] @ waves + bias[i], 0).T)
    return np.concatenate(parts, 1)


def test_it_is_numpys():
    torch.manual_seed(0)
    layer = PeriodicEmbedding([2, 0], size=3, frequencies=5, std=0.5)
    features = torch.randn(7, 4)
    expected = by_numpy(layer, features.double().numpy(), [2, 0])
    np.testing.assert_allclose(layer(features).detach(), expected, atol=1e-5)


def test_a_stack_of_embedded_networks_runs_as_a_chain_and_equals_each_alone():
    def make():
        return MLP(4, 3, hidden=[8], embedding=2, numbers=[1, 3])

    stack = Stack(make, seeds=[0, 1, 2])
    assert stack.is_chain
    features = torch.randn(3, 4, 6)
    logits = stack(features)
    for index in range(3):
        network = make()
        network.load_state_dict(stack.member_state(index))
        torch.testing.assert_close(logits[index].T, network(features[index].T))


def test_without_numbers_or_size_there_is_none():
    for options in ({"embedding": 4}, {"numbers": [0]}, {"embedding": 0, "numbers": [0]}):
        assert isinstance(MLP(4, 3, **options)[0], torch.nn.Linear)
