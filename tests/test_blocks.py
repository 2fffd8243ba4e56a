"""Blocks of epochs: the same numbers as one epoch of one stack at a time, and Trainer's count."""

from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.optim import SGD, AdamW

from data.sampling import row_orders
from model import recipe
from model.blocks import Blocks
from model.member import Member
from model.networks import MLP
from model.population import Population
from tests.test_population import Residual, candidate, fold_data, iris, make_trainer
from training.callbacks import FitBar

SMALL = partial(MLP, hidden=[8])


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class Own(SGD):
    """A stranger's optimizer."""


class Epochs(Callback):
    """Counts what the Trainer says."""

    def __init__(self):
        self.ends = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.ends.append(trainer.current_epoch + 1)


def fit(
    monkeypatch,
    seconds,
    network=SMALL,
    optimizer=recipe.OPTIMIZER,
    epochs=40,
    **arguments,
):
    """A population of three stacks after its fit, and the epochs at which the Trainer had a say."""
    monkeypatch.setattr(Blocks, "seconds", seconds)
    candidates = [candidate(network=network, optimizer=optimizer)]
    members = [Member(0, i % 2, i) for i in range(6)]
    val_fraction = arguments.pop("val_fraction", 0.0)
    folds = [fold_data(iris(seed, val_fraction=val_fraction)) for seed in (0, 1)]
    stacks = [[0, 1], [2, 3], [4, 5]]
    population = Population(4, 3, candidates, members, folds, stacks, **arguments)
    counted = Epochs()
    trainer = make_trainer(epochs, callbacks=[counted])
    trainer.fit(population)
    assert population.num_epochs == counted.ends[-1] == trainer.current_epoch
    return population, counted.ends


CASES = {
    "full batch": {},
    "batches": {"batch_size": 16, "optimizer": partial(AdamW, lr=0.05)},
    "validation": {"val_fraction": 0.2},
    "patience": {"val_fraction": 0.2, "patience": 2, "optimizer": partial(SGD, lr=3.0)},
    "a score of the training rows": {"patience": 9, "metric": "auroc"},
    "no optimizer of torch": {"optimizer": partial(Own, lr=0.1)},
    "dropout": {"network": partial(MLP, hidden=[8], dropout=0.3)},
    "no chain": {"network": Residual},
}
FREE = ["full batch", "batches", "validation", "patience", "a score of the training rows"]


@pytest.mark.parametrize("name", CASES)
def test_which_epochs_are_a_block_changes_no_number(name, threads, monkeypatch):
    torch.manual_seed(0)
    single, every_epoch = fit(monkeypatch, 0.0, **CASES[name])
    torch.manual_seed(0)
    blocks, ends = fit(monkeypatch, 60.0, **CASES[name])
    assert every_epoch == list(range(1, single.num_epochs + 1))
    assert (len(ends) == 2) == (name in FREE)
    assert blocks.blocks.is_parallel == (name in FREE and threads == 2)
    assert torch.get_num_threads() == threads
    assert single.curves.keys() == blocks.curves.keys()
    for metric, curve in single.curves.items():
        np.testing.assert_array_equal(curve, blocks.curves[metric])
    for member, weights in single.weights().items():
        assert all(torch.equal(weights[key], blocks.weights()[member][key]) for key in weights)
    for member, outcome in single.outcomes.items():
        assert outcome.best_epoch == blocks.outcomes[member].best_epoch


def test_the_fit_ends_with_the_last_member(monkeypatch):
    population, _ = fit(monkeypatch, 60.0, **CASES["patience"])
    losses = np.stack(population.curves["val/loss"])
    assert population.num_epochs < 40
    assert np.isfinite(losses[-1]).any()
    assert len(set(np.isfinite(losses).sum(0).tolist())) > 1


def test_a_member_fails_in_its_own_epoch(monkeypatch):
    """Also where many epochs come at once."""
    optimizer = partial(SGD, lr=1e4)
    single, _ = fit(monkeypatch, 0.0, optimizer=optimizer)
    blocks, _ = fit(monkeypatch, 60.0, optimizer=optimizer)
    failures = [single.outcomes[member].failed_in for member in single.members]
    assert failures == [blocks.outcomes[member].failed_in for member in blocks.members]


def test_a_stopper_has_its_say_in_its_epochs(monkeypatch):
    class Stopper:
        rungs = (10, 20, 30)

        def losers(self, epoch, outcomes):
            assert epoch in self.rungs
            return {min(outcomes)}

        def state_dict(self):
            return {}

    population, ends = fit(monkeypatch, 60.0, stopper=Stopper())
    assert ends == [1, 10, 20, 30, 40]
    epochs = np.isfinite(np.stack(population.curves["train/loss"])).sum(0)
    assert sorted(epochs.tolist()) == [10, 20, 30, 40, 40, 40]


def test_an_error_in_a_thread_ends_the_fit(threads, monkeypatch):
    def fail(rows, seeds, epoch):
        if epoch == 5:
            raise ValueError("epoch 5")
        return row_orders(rows, seeds, epoch)

    monkeypatch.setattr("model.stack_fit.row_orders", fail)
    with pytest.raises(ValueError, match="epoch 5"):
        fit(monkeypatch, 60.0, batch_size=16)
    assert torch.get_num_threads() == threads


def test_the_progress_bar_counts_epochs(monkeypatch):
    shown = []
    monkeypatch.setattr(FitBar, "teardown", lambda bar, *_, **__: shown.append(bar.bar.n))
    bar = FitBar()
    bar.is_disabled = False
    members = [Member(0, 0, 0)]
    population = Population(4, 3, [candidate(network=SMALL)], members, [fold_data(iris())])
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=30,
        callbacks=[bar],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(population)
    assert shown == [30]
