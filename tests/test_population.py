"""A population's members against the same networks trained alone, one at a time, by Lightning."""

from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.optim import SGD, Adafactor, Adam, AdamW
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cli.component import describe
from data.iris import Iris
from data.sampling import row_order
from model import recipe
from model.classifier import Classifier
from model.losses import MSELoss
from model.networks import MLP
from model.population import (
    Member,
    Population,
    Stack,
    cross_entropies,
    hits,
    is_plain_cross_entropy,
    losses_of,
    maps_loss,
    soft_targets,
)


class Residual(nn.Module):
    """No chain: goes through vmap. Its dropout is off, its LayerNorm works on one row."""

    def __init__(self, num_features, num_classes, width=12):
        super().__init__()
        self.enter, self.norm = nn.Linear(num_features, width), nn.LayerNorm(width)
        self.block, self.leave = nn.Linear(width, width, bias=False), nn.Linear(width, num_classes)

    def forward(self, features):
        x = self.norm(self.enter(features))
        return self.leave(x + torch.tanh(self.block(x)))


class Recurrent(nn.Module):
    """An LSTM over the features, which vmap does not know: members one after the other."""

    def __init__(self, num_features, num_classes):
        super().__init__()
        self.cell, self.leave = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, num_classes)

    def forward(self, features):
        return self.leave(self.cell(features.unsqueeze(-1))[0][:, -1])


class BatchNormed(nn.Sequential):
    def __init__(self, num_features, num_classes):
        super().__init__(nn.Linear(num_features, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))


class Counting(nn.Linear):
    """Each row stands alone, and yet training leaves a trace."""

    def __init__(self, num_features, num_classes):
        super().__init__(num_features, num_classes)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, features):
        self.seen += len(features)
        return super().forward(features)


class Shared(nn.Sequential):
    """Two layers stand twice: no chain to be taken apart."""

    def __init__(self, num_features, num_classes):
        activation, middle = nn.ReLU(), nn.Linear(8, 8)
        layers = nn.Linear(num_features, 8), activation, middle, activation, middle, activation
        super().__init__(*layers, nn.Linear(8, num_classes))


class Frozen(nn.Sequential):
    def __init__(self, num_features, num_classes):
        super().__init__(nn.Linear(num_features, 8), nn.ReLU(), nn.Linear(8, num_classes))
        self[0].requires_grad_(False)


class Hooked(nn.Sequential):
    def __init__(self, num_features, num_classes):
        super().__init__(nn.Linear(num_features, 8), nn.ReLU(), nn.Linear(8, num_classes))
        self[1].register_forward_hook(lambda module, inputs, output: 2 * output)


def setting(**nouns):
    default = {
        "network": recipe.NETWORK,
        "loss": recipe.LOSS,
        "optimizer": recipe.OPTIMIZER,
        "schedule": None,
    }
    return {noun: describe(noun, factory) for noun, factory in (default | nouns).items()}


def trainer(epochs, precision="32-true", **options):
    options |= {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "log_every_n_steps": 1,
    }
    options = {"enable_checkpointing": False, "num_sanity_val_steps": 0} | options
    return Trainer(accelerator="cpu", max_epochs=epochs, precision=precision, **options)


def table(split_seed=0, **arguments):
    data = Iris(split_seed=split_seed, **arguments)
    data.setup()
    return data


def trained(settings, members, tables, epochs=10, precision="32-true", **arguments):
    population = Population(
        4,
        3,
        settings,
        members,
        splits=[one.splits for one in tables],
        row_order=row_order,
        **arguments,
    )
    trainer(epochs, precision).fit(population, range(len(population.stacks)))
    return population


def alone(one, member, data, epochs=10, precision="32-true", callbacks=()):
    """Train one network with Classifier and Lightning's own loop; its weights."""
    torch.manual_seed(member.seed)
    classifier = Classifier(4, 3, **one)
    run = trainer(
        epochs, precision, callbacks=[*callbacks], limit_val_batches=1.0 if data.val_fraction else 0,
        enable_checkpointing=bool(callbacks),
    )  # fmt: skip
    run.fit(classifier, data)
    return classifier.network.state_dict()


def assert_equal(population, settings, tables, tolerance, **arguments):
    weights = population.weights()
    assert set(weights) == set(population.members)
    for member in population.members:
        expected = alone(settings[member.setting], member, tables[member.split], **arguments)
        assert weights[member].keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(weights[member][name], value, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-5), ("64-true", 1e-10)])
@pytest.mark.parametrize(
    "optimizer",
    [partial(SGD, lr=0.1, momentum=0.9), partial(Adam, lr=0.01), partial(AdamW, lr=0.01)],
)
@pytest.mark.parametrize("network", [partial(MLP, hidden=[16, 8]), Residual, Recurrent])
def test_a_member_is_the_network_trained_alone(network, optimizer, precision, tolerance):
    settings, tables = [setting(network=network, optimizer=optimizer)], [table(0), table(1)]
    members = [Member(0, split, 10 + split) for split in (0, 1)]
    run = {"epochs": 100, "precision": precision}
    assert_equal(trained(settings, members, tables, **run), settings, tables, tolerance, **run)


@pytest.mark.parametrize("network", [Shared, Frozen, Hooked])
def test_so_it_is_where_layers_are_shared_frozen_or_hooked(network):
    settings, tables = [setting(network=network)], [table(0), table(1)]
    members = [Member(0, split, split) for split in (0, 1)]
    population = trained(settings, members, tables, epochs=20, precision="64-true")
    assert_equal(population, settings, tables, 1e-10, epochs=20, precision="64-true")


def test_so_it_is_in_batches_with_settings_and_schedules_of_its_own():
    settings = [
        setting(network=partial(MLP, hidden=[8]), schedule=recipe.SCHEDULE),
        setting(network=partial(MLP, hidden=[8]), optimizer=partial(SGD, lr=0.5), loss=MSELoss),
        setting(
            network=partial(MLP, hidden=[8], activation="Softsign"), optimizer=Adafactor
        ),  # not number by number
    ]
    tables = [table(0, batch_size=16), table(1, batch_size=16)]
    members = [Member(s, i, 5 + i) for s in range(3) for i in (0, 1)]
    run = {"epochs": 12, "precision": "64-true"}
    population = trained(settings, members, tables, batch_size=16, **run)
    assert [len(stack.stacked[0]) for stack in population.stacks] == [4, 2]
    assert_equal(population, settings, tables, 1e-10, **run)


def test_so_it_is_with_weight_decay_and_label_smoothing_of_its_own():
    settings = [
        setting(
            network=partial(MLP, hidden=[8]),
            loss=partial(nn.CrossEntropyLoss, label_smoothing=smoothing),
            optimizer=partial(AdamW, lr=0.05, weight_decay=decay),
        )
        for smoothing, decay in ((0.0, 0.0), (0.2, 1.0), (0.2, 0.1))
    ]
    members = [Member(s, 0, s) for s in range(3)]
    population = trained(settings, members, [table()], epochs=30, precision="64-true")
    assert len(population.stacks) == 1
    assert_equal(population, settings, [table()], 1e-10, epochs=30, precision="64-true")


@pytest.mark.parametrize("val_fraction", [0.0, 0.2])
def test_a_plateau_schedule_follows_each_members_own_loss(val_fraction):
    schedule = partial(ReduceLROnPlateau, patience=0, factor=0.3)
    settings = [setting(network=nn.Linear, optimizer=partial(SGD, lr=5.0), schedule=schedule)]
    tables = [table(0, val_fraction=val_fraction), table(1, val_fraction=val_fraction)]
    members = [Member(0, 0, 1), Member(0, 1, 2)]
    run = {"epochs": 30, "precision": "64-true"}
    population = Population(4, 3, settings, members, splits=[one.splits for one in tables])
    fit = trainer(**run)
    fit.fit(population, range(1))
    rates = {share.optimizer.param_groups[0]["lr"] for share in population.shares[0]}
    assert len(rates) == 2  # they parted
    if not val_fraction:  # with it, each ends with the weights of its best epoch
        assert_equal(population, settings, tables, 1e-10, **run)


def test_each_member_keeps_its_best_epoch_and_stops_by_itself(tmp_path):
    settings = [setting(network=partial(MLP, hidden=[32]), optimizer=partial(Adam, lr=0.1))]
    tables = [table(i, val_fraction=0.2) for i in range(3)]
    members = [Member(0, i, i) for i in range(3)]
    population = trained(settings, members, tables, epochs=60, precision="64-true", patience=5)
    stopped = np.isnan(population.learning_curves()[1]["train/loss"]).sum(0)
    assert len(set(stopped.tolist())) > 1
    for member, data, missing in zip(members, tables, stopped, strict=True):
        best = ModelCheckpoint(tmp_path / str(member.split), monitor="val/loss")
        stop = EarlyStopping("val/loss", patience=5)
        alone(settings[0], member, data, epochs=60, precision="64-true", callbacks=[best, stop])
        assert (stop.stopped_epoch + 1 if stop.stopped_epoch else 60) == len(
            population.curves["val/loss"]
        ) - missing
        state = torch.load(best.best_model_path, weights_only=True)["state_dict"]
        for name, value in population.weights()[member].items():
            torch.testing.assert_close(value, state[f"network.{name}"], atol=1e-10, rtol=0)


def test_patience_without_validation_keeps_the_epoch_it_stopped_in():
    settings = [setting(network=nn.Linear, optimizer=partial(SGD, lr=rate)) for rate in (0.1, 40.0)]
    members = [Member(s, 0, 0) for s in (0, 1)]
    population = trained(settings, members, [table()], epochs=20, precision="64-true", patience=3)
    losses = population.learning_curves()[1]["train/loss"]
    epochs = np.isfinite(losses[:, 1]).sum()
    assert np.isfinite(losses[:, 0]).all()
    assert 3 < epochs < 20
    expected = alone(settings[1], members[1], table(), epochs=int(epochs), precision="64-true")
    torch.testing.assert_close(
        population.weights()[members[1]]["weight"], expected["weight"], atol=1e-10, rtol=0
    )


def test_the_answer_does_not_depend_on_the_size_of_a_stack():
    settings = [
        setting(network=partial(MLP, hidden=[8]), optimizer=partial(Adam, lr=rate))
        for rate in (0.1, 0.01)
    ]
    members = [Member(s, 0, i) for s in (0, 1) for i in range(5)]
    whole, pieces = (trained(settings, members, [table()], stack_bytes=size) for size in (2**30, 1))
    assert (len(whole.stacks), len(pieces.stacks)) == (1, 10)
    for member in members:
        np.testing.assert_allclose(
            whole.outcomes[member].probabilities, pieces.outcomes[member].probabilities, atol=1e-6
        )


def test_held_out_rows_change_no_weight():
    first, second = table(), table()
    features, targets = second.splits["test"]
    second.splits["test"] = features * 1000, targets.roll(1)
    members = [Member(0, 0, 0)]
    before, after = (
        trained([setting()], members, [one]).weights()[members[0]] for one in (first, second)
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_dropout_is_each_members_own():
    stack = Stack(lambda: nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5)), [0, 0])
    first, second = stack.train()(torch.ones(2, 4, 5))
    assert not torch.equal(first, second)
    assert torch.equal(*stack.eval()(torch.ones(2, 4, 5)))


def test_a_member_that_diverges_is_named_and_hurts_no_other():
    settings = [
        setting(network=partial(MLP, hidden=[8]), optimizer=partial(SGD, lr=rate))
        for rate in (0.1, 1e30)
    ]
    members = [Member(s, 0, i) for i in (0, 1) for s in (0, 1)]
    population = trained(settings, members, [table()])
    failed = {member for member, outcome in population.outcomes.items() if outcome.failed_in}
    assert failed == {Member(1, 0, 0), Member(1, 0, 1)}
    expected = alone(settings[0], members[0], table())
    for name, value in expected.items():
        torch.testing.assert_close(population.weights()[members[0]][name], value, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("nouns", "message"),
    [
        ({"network": BatchNormed}, "BatchNormed mixes rows"),
        ({"network": Counting}, "Counting keeps a state in training .seen."),
        ({"optimizer": torch.optim.LBFGS}, "the optimizer cannot train a population: .*closure"),
    ],
)
def test_what_no_population_can_be_made_of(nouns, message):
    with pytest.raises(ValueError, match=message):
        Population(4, 3, [setting(**nouns)], [Member(0, 0, 0)], splits=[table().splits])


def test_losses_and_hits_are_torchs():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (4, 7), generator=generator)
    plain = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.3)
    for loss in (*plain, nn.CrossEntropyLoss(ignore_index=1), nn.MultiMarginLoss(), MSELoss()):
        expected = torch.stack([loss(one.T, own) for one, own in zip(logits, targets, strict=True)])
        torch.testing.assert_close(losses_of(loss, logits, targets, maps_loss(loss, 3)), expected)
        if loss in plain:
            soft = soft_targets(
                targets, torch.full((4,), loss.label_smoothing, dtype=torch.float64), 3
            )
            torch.testing.assert_close(cross_entropies(logits, soft), expected)
    assert is_plain_cross_entropy(nn.CrossEntropyLoss(label_smoothing=0.3))
    assert not is_plain_cross_entropy(nn.CrossEntropyLoss(ignore_index=1))
    assert not is_plain_cross_entropy(nn.CrossEntropyLoss(torch.ones(3)))
    assert not maps_loss(
        nn.MultiMarginLoss(), 3
    )  # one of those that are called one after the other
    assert torch.equal(hits(logits, targets), (logits.argmax(1) == targets).sum(1))
    assert hits(torch.full((1, 3, 2), torch.nan), torch.zeros(1, 2, dtype=torch.long)).item() == 0
