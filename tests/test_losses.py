"""The losses against the article's formulas in NumPy, their gradients against closed forms."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from model.checks import built_loss
from model.classifier import Classifier
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


# Class weights

WEIGHTS = [0.2, 1.0, 4.0]


def row_losses(name):
    """Each row's loss in NumPy."""
    logits, targets = LOGITS.numpy(), one_hot(TARGETS, 3).numpy()
    if name == "smoothed":
        log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -((0.9 * targets + 0.1 / 3) * log_softmax).sum(1)
    outputs = sigmoid(logits)
    if name == "squared":
        return ((outputs - targets) ** 2).mean(1)
    return -(targets * np.log(outputs) + (1 - targets) * np.log(1 - outputs)).mean(1)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (partial(nn.CrossEntropyLoss, label_smoothing=0.1), "smoothed"),
        (MSELoss, "squared"),
        (BCEWithLogitsLoss, "binary"),
    ],
)
def test_class_weights_weigh_rows_and_not_smoothed_targets(loss, name):
    weighted = built_loss(partial(loss, weight=WEIGHTS)).double()
    weights = np.float32(WEIGHTS)[TARGETS.numpy()].astype(float)
    expected = np.average(row_losses(name), weights=weights)
    assert weighted(LOGITS, TARGETS).item() == pytest.approx(expected, rel=1e-12)
    equal = built_loss(partial(loss, weight=[3.0, 3.0, 3.0]))
    torch.testing.assert_close(equal(LOGITS, TARGETS), built_loss(loss)(LOGITS, TARGETS))


class Own(nn.Module):
    """Weights classes itself, as torch's cross-entropy does."""

    def __init__(self, weight=None):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, logits, targets):
        return nn.functional.cross_entropy(logits, targets, self.weight)


class Unweighted(nn.Module):
    def forward(self, logits, targets):
        return nn.functional.cross_entropy(logits, targets)


class Scalar(Unweighted):
    """Ignores its reduction."""

    def __init__(self, reduction="mean"):
        super().__init__()


def test_a_loss_of_ones_own_can_take_class_weights():
    assert Classifier(4, 3, loss=Own).loss.weight is None
    loss = Classifier(4, 3, loss=partial(Own, weight=WEIGHTS)).loss
    expected = nn.CrossEntropyLoss(torch.tensor(WEIGHTS))(LOGITS.float(), TARGETS)
    torch.testing.assert_close(loss(LOGITS.float(), TARGETS), expected)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Unweighted, "Unweighted cannot weight classes; give its constructor an argument `weight`"),
        (Scalar, "the loss must take .* logits and .* class indices: shape"),
        (partial(nn.CrossEntropyLoss, reduction="sum"), "reduction is sum; weights need"),
    ],
)
def test_what_cannot_weight_classes(loss, message):
    with pytest.raises(ValueError, match=message):
        Classifier(4, 3, loss=partial(loss, weight=WEIGHTS))


def test_a_checkpoint_of_before_with_class_weights_still_loads():
    """Its loss was torch's own, with the weights in a buffer of this name."""
    before = nn.CrossEntropyLoss(torch.tensor(WEIGHTS), label_smoothing=0.1).state_dict()
    config = {"class": "CrossEntropyLoss", "label_smoothing": 0.1, "weight": WEIGHTS}
    Classifier(4, 3, loss=config).loss.load_state_dict(before)
