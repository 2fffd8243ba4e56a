"""Classifier and its training against NumPy, scikit-learn and torch's own schedules."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.metrics import accuracy_score, log_loss
from torch import nn
from torch.optim import ASGD, SGD, Adadelta, Adagrad, Adam, AdamW, NAdam, RMSprop, Rprop
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)
from torch.utils.data import DataLoader, TensorDataset

from data.iris import Iris
from evaluate import evaluate
from model.classifier import Classifier
from model.losses import BCEWithLogitsLoss, MSELoss
from model.networks import MLP
from tests.helpers import two_forks, weights
from train import train

CPU = {"accelerator": "cpu", "log_dir": "logs"}
QUICK = CPU | {"pictures": "none"}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def numpy_gradient_descent(features, targets, parameters, kind, lr, steps):
    """Full-batch gradient descent on the 4-3-3 sigmoid network, by the article's formulas."""
    w1, b1, w2, b2 = (parameter.astype(np.float64) for parameter in parameters)
    for _ in range(steps):
        a1 = sigmoid(features @ w1.T + b1)
        z2 = a1 @ w2.T + b2
        if kind == "softmax":
            dz2 = (np.exp(z2) / np.exp(z2).sum(1, keepdims=True) - targets) / len(targets)
        elif kind == "binary":
            dz2 = (sigmoid(z2) - targets) / targets.size
        else:
            dz2 = 2 * (sigmoid(z2) - targets) * sigmoid(z2) * (1 - sigmoid(z2)) / targets.size
        dz1 = dz2 @ w2 * a1 * (1 - a1)
        w1, b1 = w1 - lr * dz1.T @ features, b1 - lr * dz1.sum(0)
        w2, b2 = w2 - lr * dz2.T @ a1, b2 - lr * dz2.sum(0)
    return w1, b1, w2, b2


@pytest.mark.parametrize(
    ("loss", "kind"),
    [(nn.CrossEntropyLoss, "softmax"), (BCEWithLogitsLoss, "binary"), (MSELoss, "squared")],
)
@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-5), ("64-true", 1e-6)])
def test_100_steps_are_numpys_gradient_descent(loss, kind, precision, tolerance):
    network = partial(MLP, hidden=[3], activation="Sigmoid")
    data = partial(Iris, val_fraction=0.0)
    common = {
        "loss": loss,
        "optimizer": partial(SGD, lr=0.5),
        "schedule": None,
        "max_epochs": 100,
        "seed": 5,
    }
    train(data, network, precision=precision, **common, **QUICK)
    table = data()
    table.setup()
    features, labels = (tensor.numpy() for tensor in table.splits["train"])
    torch.manual_seed(5)
    start = [parameter.detach().numpy() for parameter in network(4, 3).parameters()]
    expected = numpy_gradient_descent(
        features.astype(np.float64), np.eye(3)[labels], start, kind, 0.5, 100
    )
    found = weights("logs/version_0/checkpoints/last.ckpt").values()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "network",
    [MLP, partial(MLP, hidden=[3], activation="Sigmoid"), partial(MLP, hidden=[]), nn.Linear],
)
def test_passes_gradcheck(network):
    torch.manual_seed(0)
    classifier = Classifier(4, 3, network).double()
    names, values = zip(*classifier.network.named_parameters(), strict=True)
    features, targets = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])

    def loss(*parameters):
        logits = torch.func.functional_call(
            classifier.network, dict(zip(names, parameters, strict=True)), features
        )
        return classifier.loss(logits, targets)

    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


def test_metrics_are_scikit_learns():
    classifier = Classifier(4, 3, loss=nn.CrossEntropyLoss)
    table = Iris(batch_size=16)
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    trainer.test(classifier, table, verbose=False)
    found = trainer.callback_metrics
    for part, (features, targets) in table.splits.items():
        probabilities = classifier(features).softmax(1).detach().double().numpy()
        probabilities /= probabilities.sum(1, keepdims=True)
        assert found[f"final/{part}/loss"].item() == pytest.approx(
            log_loss(targets, probabilities), rel=1e-5
        )
        assert found[f"final/{part}/accuracy"].item() == pytest.approx(
            accuracy_score(targets, probabilities.argmax(1))
        )


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [
        (OneCycleLR, lambda optimizer: OneCycleLR(optimizer, max_lr=0.3, total_steps=50)),
        (CosineAnnealingLR, lambda optimizer: CosineAnnealingLR(optimizer, T_max=50)),
        (partial(StepLR, step_size=20), lambda optimizer: StepLR(optimizer, step_size=20)),
    ],
)
def test_schedules_are_torchs_over_the_whole_run(schedule, reference):
    classifier = Classifier(4, 3, optimizer=partial(SGD, lr=0.3), schedule=schedule)
    ours, scheduler = classifier.optimize(classifier.network.parameters(), total_steps=50)
    theirs = SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    expected = reference(theirs)
    for _ in range(50):
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
        for step in (ours.step, theirs.step, scheduler.step, expected.step):
            step()


def momenta(optimizer, schedule=OneCycleLR):
    """The momentum, or the first beta, in each step of a fit."""
    classifier = Classifier(4, 3, optimizer=optimizer, schedule=schedule)
    made, scheduler = classifier.optimize(classifier.network.parameters(), total_steps=20)
    values = []
    for _ in range(19):
        group = made.param_groups[0]
        values.append(group["betas"][0] if "betas" in group else group["momentum"])
        made.step()
        scheduler.step()
    return values


CYCLIC = partial(CyclicLR, base_lr=0.01)


@pytest.mark.parametrize("schedule", [OneCycleLR, CYCLIC])
def test_a_schedule_leaves_a_given_momentum_alone(schedule):
    for momentum in (0.0, 0.5, 0.9):
        assert set(momenta(partial(SGD, lr=0.1, momentum=momentum), schedule)) == {momentum}
    assert set(momenta(partial(SGD, lr=0.1), schedule)) == {0.0}
    assert set(momenta(partial(AdamW, betas=(0.7, 0.999)), schedule)) == {0.7}


@pytest.mark.parametrize("options", [{"cycle_momentum": True}, {"max_momentum": 0.95}])
def test_a_schedule_cycles_the_momentum_where_told_to(options):
    cycling = partial(OneCycleLR, **options)
    theirs = SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    reference = OneCycleLR(theirs, max_lr=0.1, total_steps=20)
    expected = []
    for _ in range(19):
        expected.append(theirs.param_groups[0]["momentum"])
        theirs.step()
        reference.step()
    assert momenta(partial(SGD, lr=0.1), cycling) == expected
    assert momenta(AdamW) == expected  # betas that nobody gave
    assert set(momenta(AdamW, partial(OneCycleLR, cycle_momentum=False))) == {0.9}
    with pytest.raises(ValueError, match=r"override optimizer.momentum 0.5; give it --schedule"):
        momenta(partial(SGD, lr=0.1, momentum=0.5), cycling)


def test_momentum_changes_what_is_learned():
    losses = set()
    for momentum in (0.0, 0.5, 0.9):
        optimizer = partial(SGD, lr=0.1, momentum=momentum)
        result = train(optimizer=optimizer, max_epochs=5, **QUICK)
        losses.add(result.splits["test"].loss)
    assert len(losses) == 3
    sgd = partial(SGD, lr=0.1)
    sweep = {"optimizer.momentum": [0.0, 0.5, 0.9]}
    swept = evaluate(optimizer=sgd, sweep=sweep, folds=3, repeats=1, max_epochs=5, **CPU)
    assert len({candidate.estimates.log_loss for candidate in swept.candidates}) == 3


@pytest.mark.parametrize("optimizer", [Adagrad, Adadelta, Rprop, ASGD, RMSprop, NAdam])
def test_optimizers_of_all_kinds_run_under_the_default_schedule(optimizer):
    result = train(optimizer=optimizer, max_epochs=4, **QUICK)
    assert result.epochs == 4


@pytest.mark.parametrize("val_fraction", [0.0, 0.2])
def test_plateau_schedule_follows_the_loss(val_fraction):
    schedule = partial(ReduceLROnPlateau, patience=0, threshold=10.0)  # nothing is ever good enough
    result = train(
        partial(Iris, val_fraction=val_fraction),
        optimizer=partial(SGD, lr=0.1),
        schedule=schedule,
        max_epochs=4,
        **CPU,
    )
    assert result.epochs == 4
    state = torch.load("logs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-5)


@pytest.mark.parametrize(
    "optimizer", [partial(SGD, lr=0.1), partial(Adam, lr=0.01), partial(AdamW, lr=0.01)]
)
def test_a_checkpoint_loads_as_data_and_computes_the_same(optimizer):
    train(optimizer=optimizer, max_epochs=5, **QUICK)
    path = Path("logs/version_0/checkpoints/best.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["hyper_parameters"]["network"] == {
        "class": "MLP", "hidden": [128], "activation": "SiLU", "dropout": 0.0, "init_std": None,
        "embedding": 0, "numbers": [0, 1, 2, 3],
    }  # fmt: skip
    assert checkpoint["hyper_parameters"]["optimizer"]["class"] == optimizer.func.__name__
    assert checkpoint["Iris"]["class_names"] == ["setosa", "versicolor", "virginica"]
    classifier = Classifier.load_from_checkpoint(path, weights_only=True)
    network = MLP(4, 3)
    network.load_state_dict(
        {key.removeprefix("network."): value for key, value in checkpoint["state_dict"].items()}
    )
    features = torch.randn(9, 4)
    assert torch.equal(classifier(features), network(features))


@pytest.mark.parametrize("lr", [0.0, -0.1, float("nan"), float("inf")])
def test_refuses_a_learning_rate(lr):
    with pytest.raises(ValueError, match=f"lr is {lr}; give a finite number above 0"):
        Classifier(4, 3, optimizer=partial(SGD, lr=lr))


def test_refuses_an_argument_that_no_checkpoint_can_hold():
    with pytest.raises(ValueError, match=r"loss.weight is a Tensor"):
        Classifier(4, 3, loss=partial(nn.CrossEntropyLoss, weight=torch.ones(3)))


def fit_plainly():
    """Classifier and TabularData with Lightning's own Trainer; each process writes a file."""
    torch.manual_seed(0)
    plateau = partial(ReduceLROnPlateau, patience=1)
    classifier = Classifier(4, 3, optimizer=partial(SGD, lr=0.3, momentum=0.9), schedule=plateau)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=20, **options)
    trainer.fit(classifier, Iris(val_fraction=0.2))
    weights = sum(parameter.sum().item() for parameter in classifier.parameters())
    content = repr((weights, trainer.callback_metrics["val/loss"].item()))
    Path(f"rank_{trainer.global_rank}").write_text(content)


def test_plain_lightning_trains_one_network_on_two_processes():
    """With Lightning's own distributed sampler."""
    done = two_forks(fit_plainly)
    assert done.returncode == 0, done.stderr
    assert Path("rank_0").read_text() == Path("rank_1").read_text()


def test_plain_lightning_tests_any_dataloaders():
    loader = DataLoader(TensorDataset(torch.randn(9, 4), torch.arange(9) % 3), batch_size=4)
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    trainer.test(Classifier(4, 3), dataloaders={"holdout": loader}, verbose=False)
    assert set(trainer.callback_metrics) == {"final/holdout/loss", "final/holdout/accuracy"}
    trainer.test(Classifier(4, 3), dataloaders=[loader, loader], verbose=False)
    names = {"final/test/loss", "final/test/accuracy", "final/test_1/loss", "final/test_1/accuracy"}
    assert set(trainer.callback_metrics) == names


def test_plain_lightnings_accuracy_counts_rows_not_classes():
    classifier = Classifier(4, 3)
    features = torch.randn(50, 4)
    with torch.no_grad():
        predicted = classifier(features).argmax(1)
    targets = torch.where(torch.arange(50) < 5, (predicted + 1) % 3, torch.zeros(50).long())
    loader = DataLoader(TensorDataset(features, targets), batch_size=7)
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    (metrics,) = trainer.test(classifier, loader, verbose=False)
    expected = (predicted == targets).float().mean().item()
    assert metrics["final/test/accuracy"] == pytest.approx(expected)
