"""ScaledAdamW: torch's AdamW at rates that follow the length of the run."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from model.classifier import Classifier
from model.optimizers import ScaledAdamW


@pytest.mark.parametrize(
    ("steps", "lr", "decay"),
    [(1, 0.05, 0.3), (100, 0.05, 0.3), (400, 0.025, 0.15), (10_000, 0.005, 0.03)],
)
def test_it_is_adamw_with_rates_of_the_length(steps, lr, decay):
    networks = [nn.Linear(4, 3), nn.Linear(4, 3)]
    networks[1].load_state_dict(networks[0].state_dict())
    optimizers = [
        ScaledAdamW(networks[0].parameters(), total_steps=steps),
        AdamW(networks[1].parameters(), lr=lr, weight_decay=decay),
    ]
    rows = torch.randn(8, 4)
    for _ in range(5):
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            network(rows).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(networks[0].weight, networks[1].weight)


def test_rates_that_are_given_are_taken():
    optimizer = ScaledAdamW(nn.Linear(4, 3).parameters(), 10_000, lr=0.2, weight_decay=0.0)
    assert optimizer.defaults["lr"] == 0.2
    assert optimizer.defaults["weight_decay"] == 0.0


def test_a_classifier_tells_the_optimizer_its_steps():
    classifier = Classifier(4, 3, optimizer=partial(ScaledAdamW, betas=(0.8, 0.9)))
    optimizer, schedule = classifier.optimize(classifier.network.parameters(), total_steps=2500)
    assert schedule is not None
    assert optimizer.defaults["lr"] == 0.01
    assert schedule.base_lrs == [0.01 / 25]  # OneCycleLR starts there
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
