"""The losses against the article's formulas in NumPy, their gradients against closed forms."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from model.losses import BCEWithLogitsLoss, MSELoss
from model.networks import MLP

LOGITS = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 2, 1, 0, 0, 1])
LOSSES = [
    nn.CrossEntropyLoss(),
    nn.CrossEntropyLoss(label_smoothing=0.1),
    BCEWithLogitsLoss(),
    MSELoss(),
]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_are_the_articles():
    outputs, targets = sigmoid(LOGITS.numpy()), one_hot(TARGETS, 3).numpy()
    listing = -np.sum(targets * np.log(outputs) + (1 - targets) * np.log(1 - outputs)) / len(
        targets
    )  # 5.2
    squared = (0.5 * (targets - outputs) ** 2).sum(1).mean()  # 4.2
    assert BCEWithLogitsLoss()(LOGITS, TARGETS).item() == pytest.approx(listing / 3, rel=1e-12)
    assert MSELoss()(LOGITS, TARGETS).item() == pytest.approx(squared * 2 / 3, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_pass_gradcheck(loss):
    assert torch.autograd.gradcheck(
        lambda logits: loss(logits, TARGETS), LOGITS.clone().requires_grad_()
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("value", [1e4, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_stay_finite(loss, value, dtype):
    logits = torch.tensor(
        [[value, -value, 0.0], [0.0, value, -value]], dtype=dtype, requires_grad=True
    )
    result = loss(logits, torch.tensor([1, 0]))
    result.backward()
    assert result.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("loss", "outputs"), [(nn.CrossEntropyLoss(), "softmax"), (BCEWithLogitsLoss(), "sigmoid")]
)
def test_gradients_are_the_articles_chain_rule(loss, outputs):
    """Section 4.3, step 5, with the factors that the listing leaves out.

    They are sigma' = A1 (1 - A1) and the mean over rows.
    """
    torch.manual_seed(0)
    network = MLP(4, 3, [3], "Sigmoid").double()
    features = torch.randn(8, 4, dtype=torch.float64)
    loss(network(features), TARGETS).backward()

    x, y = features.numpy().T, one_hot(TARGETS, 3).numpy().T
    w1, b1, w2, b2 = (parameter.detach().numpy() for parameter in network.parameters())
    a1 = sigmoid(w1 @ x + b1[:, None])
    z2 = w2 @ a1 + b2[:, None]
    a2 = sigmoid(z2) / 3 if outputs == "sigmoid" else np.exp(z2) / np.exp(z2).sum(0)
    dz2 = (a2 - (y / 3 if outputs == "sigmoid" else y)) / 8
    dz1 = w2.T @ dz2 * a1 * (1 - a1)
    expected = [dz1 @ x.T, dz1.sum(1), dz2 @ a1.T, dz2.sum(1)]
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        np.testing.assert_allclose(parameter.grad.numpy(), gradient, rtol=1e-10, atol=1e-14)
