"""A population's members against the same networks trained alone by Lightning, one at a time."""

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
from data.shared_rows import shared
from model import recipe
from model.chain import is_chain
from model.classifier import Classifier
from model.cross_entropy import cross_entropies, soft_targets
from model.losses import MSELoss, weigh
from model.member import FoldData, Member
from model.networks import MLP
from model.population import Population
from model.population_networks import PopulationNetworks
from model.probes import can_vmap_loss, is_plain_cross_entropy, mixes_members
from model.scores import METRICS, best_mode
from model.stack import Stack, hits, member_losses
from tests.helpers import ROOT
from training.fast import FastClassifier


class Residual(nn.Module):
    """Not a chain: runs through vmap. Its LayerNorm works on one row."""

    def __init__(self, num_features, num_classes, width=12):
        super().__init__()
        self.enter = nn.Linear(num_features, width)
        self.norm = nn.LayerNorm(width)
        self.block = nn.Linear(width, width, bias=False)
        self.leave = nn.Linear(width, num_classes)

    def forward(self, features):
        x = self.norm(self.enter(features))
        return self.leave(x + torch.tanh(self.block(x)))


class Recurrent(nn.Module):
    """An LSTM over the features, which vmap does not support: members run one by one."""

    def __init__(self, num_features, num_classes):
        super().__init__()
        self.cell = nn.LSTM(1, 4, batch_first=True)
        self.leave = nn.Linear(4, num_classes)

    def forward(self, features):
        outputs, _ = self.cell(features.unsqueeze(-1))
        return self.leave(outputs[:, -1])


class BatchNormed(nn.Sequential):
    def __init__(self, num_features, num_classes):
        super().__init__(nn.Linear(num_features, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))


class Counting(nn.Linear):
    """Does not mix rows, but changes a buffer in training."""

    def __init__(self, num_features, num_classes):
        super().__init__(num_features, num_classes)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, features):
        self.seen += len(features)
        return super().forward(features)


class Shared(nn.Sequential):
    """Two layers are used twice, so it does not run as a chain."""

    def __init__(self, num_features, num_classes):
        activation = nn.ReLU()
        middle = nn.Linear(8, 8)
        super().__init__(
            nn.Linear(num_features, 8),
            activation,
            middle,
            activation,
            middle,
            activation,
            nn.Linear(8, num_classes),
        )


class Frozen(nn.Sequential):
    def __init__(self, num_features, num_classes):
        super().__init__(nn.Linear(num_features, 8), nn.ReLU(), nn.Linear(8, num_classes))
        self[0].requires_grad_(False)


class Hooked(nn.Sequential):
    def __init__(self, num_features, num_classes):
        super().__init__(nn.Linear(num_features, 8), nn.ReLU(), nn.Linear(8, num_classes))
        self[1].register_forward_hook(lambda module, inputs, output: 2 * output)


def candidate(**changes):
    """The components of the recipe without a schedule, and with these changes."""
    components = {
        "network": recipe.NETWORK,
        "loss": recipe.LOSS,
        "optimizer": recipe.OPTIMIZER,
        "schedule": None,
    }
    components |= changes
    return {name: describe(name, factory) for name, factory in components.items()}


def make_trainer(epochs, precision="32-true", enable_checkpointing=False, **options):
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        precision=precision,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=enable_checkpointing,
        logger=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        **options,
    )


def iris(split_seed=0, **arguments):
    datamodule = Iris(split_seed=split_seed, **arguments)
    datamodule.setup()
    return datamodule


def fold_data(datamodule):
    return FoldData(shared(datamodule.splits), datamodule.augment, datamodule.class_weights)


def trained(candidates, members, datamodules, epochs=10, precision="32-true", **arguments):
    """A trained population; the splits of each datamodule are a fold."""
    population = Population(4, 3, candidates, members, [*map(fold_data, datamodules)], **arguments)
    make_trainer(epochs, precision).fit(population)
    return population


def alone(components, member, datamodule, epochs=10, precision="32-true", callbacks=(), curve=None):
    """Train one network with Classifier and Lightning's own loop; return its weights.

    A curve besides loss and accuracy is FastClassifier's.
    """
    torch.manual_seed(member.seed)
    if curve is None:
        classifier = Classifier(4, 3, **components)
    else:
        classifier = FastClassifier(4, 3, watched=curve, **components)
    trainer = make_trainer(
        epochs,
        precision,
        callbacks=[*callbacks],
        limit_val_batches=1.0 if datamodule.val_fraction else 0,
        enable_checkpointing=bool(callbacks),
    )
    trainer.fit(classifier, datamodule)
    return classifier.network.state_dict()


def assert_equal(population, candidates, datamodules, tolerance, **arguments):
    """Every member has the weights of the network trained alone."""
    weights = population.weights()
    assert set(weights) == set(population.members)
    for member in population.members:
        components = candidates[member.candidate]
        expected = alone(components, member, datamodules[member.fold], **arguments)
        assert weights[member].keys() == expected.keys()
        assert_close(weights[member], expected, tolerance)


def assert_close(state, expected, tolerance):
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-5), ("64-true", 1e-10)])
@pytest.mark.parametrize(
    "optimizer",
    [partial(SGD, lr=0.1, momentum=0.9), partial(Adam, lr=0.01), partial(AdamW, lr=0.01)],
)
@pytest.mark.parametrize("network", [partial(MLP, hidden=[16, 8]), Residual, Recurrent])
def test_a_member_is_the_network_trained_alone(network, optimizer, precision, tolerance):
    candidates = [candidate(network=network, optimizer=optimizer)]
    datamodules = [iris(0), iris(1)]
    members = [Member(0, fold, 10 + fold) for fold in (0, 1)]
    run = {"epochs": 40, "precision": precision}
    population = trained(candidates, members, datamodules, **run)
    assert_equal(population, candidates, datamodules, tolerance, **run)


@pytest.mark.parametrize("network", [Shared, Frozen, Hooked])
def test_also_where_layers_are_shared_frozen_or_hooked(network):
    candidates = [candidate(network=network)]
    datamodules = [iris(0), iris(1)]
    members = [Member(0, fold, fold) for fold in (0, 1)]
    run = {"epochs": 20, "precision": "64-true"}
    population = trained(candidates, members, datamodules, **run)
    assert_equal(population, candidates, datamodules, 1e-10, **run)


def test_also_in_batches_with_different_candidates_and_schedules():
    small = partial(MLP, hidden=[8])
    other = partial(MLP, hidden=[8], activation="Softsign")
    candidates = [
        candidate(network=small, schedule=recipe.SCHEDULE),
        candidate(network=small, optimizer=partial(SGD, lr=0.5), loss=MSELoss),
        candidate(network=other, optimizer=Adafactor),  # not elementwise
    ]
    datamodules = [iris(0, batch_size=16), iris(1, batch_size=16)]
    members = [Member(i, fold, 5 + fold) for i in range(3) for fold in (0, 1)]
    run = {"epochs": 12, "precision": "64-true"}
    population = trained(candidates, members, datamodules, batch_size=16, **run)
    assert [len(stack.stacked[0]) for stack in population.stacks] == [4, 2]
    assert_equal(population, candidates, datamodules, 1e-10, **run)


def test_also_with_different_weight_decay_and_label_smoothing():
    candidates = [
        candidate(
            network=partial(MLP, hidden=[8]),
            loss=partial(nn.CrossEntropyLoss, label_smoothing=smoothing),
            optimizer=partial(AdamW, lr=0.05, weight_decay=decay),
        )
        for smoothing, decay in ((0.0, 0.0), (0.2, 1.0), (0.2, 0.1))
    ]
    members = [Member(i, 0, i) for i in range(3)]
    run = {"epochs": 30, "precision": "64-true"}
    population = trained(candidates, members, [iris()], **run)
    assert len(population.stacks) == 1
    assert_equal(population, candidates, [iris()], 1e-10, **run)


class Weighted(nn.Module):
    """A loss that vmap supports and that weights classes itself."""

    def __init__(self, weight=None):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, logits, targets):
        return nn.functional.cross_entropy(logits, targets, self.weight)


@pytest.mark.parametrize("batch_size", [None, 32])
@pytest.mark.parametrize("losses", [[recipe.LOSS], [recipe.LOSS, MSELoss], [Weighted]])
def test_also_with_class_weights_of_each_fold(losses, batch_size):
    datamodules = []
    for seed in (0, 1):
        datamodule = iris(seed, val_fraction=0.1, stratify=False, batch_size=batch_size)
        weights = [1.0, 2.0 + seed, 5.0]
        datamodule.class_weights = weights
        datamodules.append(datamodule)
    candidates = [candidate(loss=loss, optimizer=partial(SGD, lr=0.1)) for loss in losses]
    members = [Member(c, f, 7 + f) for c in range(len(candidates)) for f in (0, 1)]
    weights = [datamodule.class_weights for datamodule in datamodules]
    population = trained(candidates, members, datamodules, batch_size=batch_size)
    kept = population.weights()
    for member in members:
        components = weigh(candidates[member.candidate], weights[member.fold])
        best = ModelCheckpoint(f"{member.candidate} {member.fold}", monitor="val/loss")
        alone(components, member, datamodules[member.fold], callbacks=[best])
        state = torch.load(best.best_model_path, weights_only=True)["state_dict"]
        expected = {name: state[f"network.{name}"] for name in kept[member]}
        assert_close(kept[member], expected, 1e-5)


@pytest.mark.parametrize("val_fraction", [0.0, 0.2])
def test_a_plateau_schedule_follows_each_members_own_loss(val_fraction):
    schedule = partial(ReduceLROnPlateau, patience=0, factor=0.3)
    candidates = [candidate(network=nn.Linear, optimizer=partial(SGD, lr=5.0), schedule=schedule)]
    datamodules = [iris(seed, val_fraction=val_fraction) for seed in (0, 1)]
    members = [Member(0, 0, 1), Member(0, 1, 2)]
    run = {"epochs": 30, "precision": "64-true"}
    population = trained(candidates, members, datamodules, **run)
    (fit,) = population.fits
    rates = {member.optimizer.param_groups[0]["lr"] for member in fit.optimizers}
    assert len(rates) == 2
    if not val_fraction:  # with validation rows, members end with the weights of their best epoch
        assert_equal(population, candidates, datamodules, 1e-10, **run)


@pytest.mark.parametrize("metric", METRICS)
def test_each_member_keeps_its_best_epoch_and_stops_by_itself(metric, tmp_path):
    candidates = [candidate(network=partial(MLP, hidden=[32]), optimizer=partial(Adam, lr=0.1))]
    datamodules = [iris(seed, val_fraction=0.2) for seed in range(3)]
    members = [Member(0, i, i) for i in range(3)]
    run = {"epochs": 60, "precision": "64-true"}
    population = trained(candidates, members, datamodules, patience=5, metric=metric, **run)
    curve = f"val/{metric}"
    _, curves = population.learning_curves()
    epochs = np.isfinite(curves[curve]).sum(0)
    assert len(set(epochs.tolist())) > 1
    for i, member in enumerate(members):
        mode = best_mode(metric)
        best = ModelCheckpoint(tmp_path / str(i), monitor=curve, mode=mode)
        stop = EarlyStopping(curve, mode=mode, patience=5)
        callbacks = [best, stop]
        alone(candidates[0], member, datamodules[i], callbacks=callbacks, curve=curve, **run)
        last_epoch = stop.stopped_epoch + 1 if stop.stopped_epoch else 60
        assert epochs[i] == last_epoch
        values = curves[curve][: epochs[i], i]
        best_value = values.max() if mode == "max" else values.min()
        assert best.best_model_score.item() == pytest.approx(best_value)
        state = torch.load(best.best_model_path, weights_only=True)["state_dict"]
        weights = population.weights()[member]
        assert_close(weights, {name: state[f"network.{name}"] for name in weights}, 1e-10)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_patience_without_validation_goes_by_a_named_metric(batch_size):
    candidates = [candidate(network=nn.Linear, optimizer=partial(SGD, lr=5.0))]
    member = Member(0, 0, 0)
    datamodule = iris(batch_size=batch_size)
    run = {"epochs": 30, "precision": "64-true"}
    population = trained(
        candidates, [member], [datamodule], batch_size=batch_size, metric="auroc", patience=3, **run
    )
    _, curves = population.learning_curves()
    epochs = int(np.isfinite(curves["train/auroc"]).sum())
    assert 3 < epochs < 30
    stop = EarlyStopping("train/auroc", mode="max", patience=3)
    expected = alone(
        candidates[0], member, datamodule, callbacks=[stop], curve="train/auroc", **run
    )
    assert stop.stopped_epoch + 1 == epochs
    assert_close(population.weights()[member], expected, 1e-10)


def test_patience_without_validation_keeps_the_epoch_it_stopped_in():
    candidates = [candidate(network=nn.Linear, optimizer=partial(SGD, lr=lr)) for lr in (0.1, 40.0)]
    members = [Member(0, 0, 0), Member(1, 0, 0)]
    population = trained(candidates, members, [iris()], epochs=20, precision="64-true", patience=3)
    _, curves = population.learning_curves()
    epochs = np.isfinite(curves["train/loss"]).sum(0)
    assert epochs[0] == 20
    assert 3 < epochs[1] < 20
    expected = alone(candidates[1], members[1], iris(), epochs=int(epochs[1]), precision="64-true")
    assert_close(population.weights()[members[1]], expected, 1e-10)


def test_results_do_not_depend_on_the_size_of_a_stack():
    network = partial(MLP, hidden=[8])
    candidates = [candidate(network=network, optimizer=partial(Adam, lr=lr)) for lr in (0.1, 0.01)]
    members = [Member(i, 0, seed) for i in (0, 1) for seed in range(5)]
    one_stack = trained(candidates, members, [iris()], stack_bytes=2**30)
    ten_stacks = trained(candidates, members, [iris()], stack_bytes=1)
    assert len(one_stack.stacks) == 1
    assert len(ten_stacks.stacks) == 10
    for member in members:
        np.testing.assert_allclose(
            one_stack.outcomes[member].probabilities,
            ten_stacks.outcomes[member].probabilities,
            atol=1e-6,
        )


def test_test_rows_change_no_weight():
    changed = iris()
    features, targets = changed.splits["test"]
    changed.splits["test"] = (features * 1000, targets.roll(1))
    member = Member(0, 0, 0)
    before = trained([candidate()], [member], [iris()]).weights()[member]
    after = trained([candidate()], [member], [changed]).weights()[member]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_members_have_different_dropout():
    stack = Stack(lambda: nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5)), [0, 0])
    first, second = stack.train()(torch.ones(2, 4, 5))
    assert not torch.equal(first, second)
    first, second = stack.eval()(torch.ones(2, 4, 5))
    assert torch.equal(first, second)


def test_a_member_that_diverges_is_reported_and_changes_no_other():
    network = partial(MLP, hidden=[8])
    candidates = [candidate(network=network, optimizer=partial(SGD, lr=lr)) for lr in (0.1, 1e30)]
    members = [Member(i, 0, seed) for seed in (0, 1) for i in (0, 1)]
    population = trained(candidates, members, [iris()])
    failed = {member for member, outcome in population.outcomes.items() if outcome.failed_in}
    assert failed == {Member(1, 0, 0), Member(1, 0, 1)}
    expected = alone(candidates[0], members[0], iris())
    assert_close(population.weights()[members[0]], expected, 1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": BatchNormed}, "BatchNormed mixes rows"),
        ({"network": Counting}, "Counting keeps a state in training .seen."),
        ({"optimizer": torch.optim.LBFGS}, "the optimizer cannot train a population: .*closure"),
    ],
)
def test_what_no_population_can_be_made_of(changes, message):
    with pytest.raises(ValueError, match=message):
        Population(4, 3, [candidate(**changes)], [Member(0, 0, 0)], [fold_data(iris())])


def random_logits():
    """Logits (members, num_classes, rows) and targets (members, rows)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 7, generator=generator, dtype=torch.float64)
    return logits, torch.randint(3, (4, 7), generator=generator)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(label_smoothing=0.3),
        nn.CrossEntropyLoss(ignore_index=1),
        nn.MultiMarginLoss(),
        MSELoss(),
    ],
)
def test_losses_are_those_of_torch(loss):
    logits, targets = random_logits()
    expected = torch.stack([loss(x.T, y) for x, y in zip(logits, targets, strict=True)])
    use_vmap = can_vmap_loss(loss, num_classes=3)
    torch.testing.assert_close(member_losses(loss, logits, targets, use_vmap), expected)
    if is_plain_cross_entropy(loss):
        smoothing = torch.full((4,), loss.label_smoothing, dtype=torch.float64)
        soft = soft_targets(targets, smoothing, num_classes=3, like=logits)
        torch.testing.assert_close(cross_entropies(logits, soft), expected)


def test_which_losses_take_which_path():
    assert is_plain_cross_entropy(nn.CrossEntropyLoss(label_smoothing=0.3))
    assert not is_plain_cross_entropy(nn.CrossEntropyLoss(ignore_index=1))
    assert not is_plain_cross_entropy(nn.CrossEntropyLoss(torch.ones(3)))
    assert can_vmap_loss(MSELoss(), num_classes=3)
    assert not can_vmap_loss(nn.MultiMarginLoss(), num_classes=3)


def test_hits_are_those_of_argmax():
    logits, targets = random_logits()
    assert torch.equal(hits(logits, targets), (logits.argmax(1) == targets).sum(1))
    without_answer = torch.full((1, 3, 2), torch.nan)
    assert hits(without_answer, torch.zeros(1, 2, dtype=torch.long)).item() == 0


def test_which_networks_and_optimizers_are_handled_how():
    assert is_chain(MLP(4, 3, hidden=[8]))
    assert not is_chain(Residual(4, 3))
    assert not is_chain(Shared(4, 3))
    assert not is_chain(Hooked(4, 3))
    assert Stack(lambda: Residual(4, 3), [0, 1]).can_vmap(num_features=4)
    assert not Stack(lambda: Recurrent(4, 3), [0, 1]).can_vmap(num_features=4)
    assert not mixes_members(Classifier(4, 3, optimizer=AdamW))
    assert mixes_members(Classifier(4, 3, optimizer=Adafactor, schedule=None))


def test_the_candidates_have_another_name_in_checkpoints():
    arguments = {"settings": [candidate()], "members": [[0, 0, 7]], "stacks": [[0]]}
    population = PopulationNetworks(4, 3, **arguments)
    assert population.candidates == [candidate()]
    assert population.members == [Member(0, 0, 7)]
    assert list(population.hparams) == [
        "num_features",
        "num_classes",
        "settings",
        "members",
        "stacks",
    ]


def test_a_golden_checkpoint_still_loads():
    path = ROOT / "tests" / "golden" / "population_1.ckpt"
    loaded = PopulationNetworks.load_from_checkpoint(path, weights_only=True)
    checkpoint = torch.load(path, weights_only=True)
    rebuilt = PopulationNetworks(**checkpoint["hyper_parameters"])
    rebuilt.load_state_dict(checkpoint["state_dict"])
    assert len(loaded.members) == 3
    features = torch.zeros(2, loaded.hparams["num_features"])
    assert torch.equal(loaded.eval()(features), rebuilt.eval()(features))
