"""Successive halving: who stops, what stopped networks are, and what it leaves unbiased."""

from functools import partial

import numpy as np
import pytest
from lightning.pytorch import Trainer
from torch.nn import CrossEntropyLoss

from cli.component import describe
from data.iris import Iris
from data.tabular import RawTable, TabularData
from evaluate import evaluate
from evaluation.evaluation import FINAL
from evaluation.halving import Halving
from evaluation.plan import make_plan, make_population
from model.member import Outcome
from model.networks import MLP

ADAM = {"class": "AdamW", "lr": 0.01, "weight_decay": 0.1}
SGD = {"class": "SGD", "lr": 0.1, "momentum": 0.9}
ADAFACTOR = {"class": "Adafactor", "lr": 0.05}  # one for each network: it does not work elementwise
ONE_CYCLE = {"class": "OneCycleLR"}
PLATEAU = {"class": "ReduceLROnPlateau", "patience": 1}


def candidate(optimizer, schedule, smoothing=0.0):
    return {
        "network": describe("network", partial(MLP, hidden=[8])),
        "loss": {"class": "CrossEntropyLoss", "label_smoothing": smoothing},
        "optimizer": optimizer,
        "schedule": schedule,
    }


CANDIDATES = [
    candidate(ADAM, ONE_CYCLE),
    candidate(ADAM | {"lr": 1e-4}, ONE_CYCLE, 0.1),
    candidate(SGD, None, 0.1),
    candidate(SGD | {"lr": 1e-4}, PLATEAU),
    candidate(ADAFACTOR, None),
    candidate(ADAFACTOR | {"lr": 1e-5}, ONE_CYCLE),
    candidate(SGD | {"lr": 1e30}, None),  # diverges
]


class Recorder:
    """What all networks predict at the rungs; stops none."""

    def __init__(self, rungs):
        self.rungs = rungs
        self.seen = {}

    def losers(self, epoch, outcomes):
        self.seen[epoch] = outcomes
        return set()


def trained(plan, datamodule, stopper, patience):
    trainer = Trainer(
        accelerator="cpu", max_epochs=8, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    population = make_population(plan, datamodule, trainer, patience, "log_loss", stopper)
    trainer.fit(population)
    return population


@pytest.mark.parametrize(
    ("options", "members", "patience"),
    [
        ({"batch_size": None}, 1, None),
        ({"batch_size": 32, "class_weight": "balanced"}, 1, 3),
        ({"batch_size": 40, "val_fraction": 0.2}, 1, None),
        ({"batch_size": 64}, 2, None),
    ],
)
def test_networks_are_those_of_a_whole_fit_until_they_stop(options, members, patience):
    datamodule = Iris(**options)
    plan = make_plan(datamodule, CANDIDATES, 2, 1, 2, 1, 0, members=members, memory=2**40)
    halving = Halving(plan, 8, "log_loss")
    assert halving.rungs == {2, 4, 6}
    halved = trained(plan, datamodule, halving, patience)
    recorder = Recorder(halving.rungs)
    whole = trained(plan, datamodule, recorder, patience)
    recorder.seen[8] = whole.outcomes
    assert halved.outcomes.keys() == whole.outcomes.keys()
    assert 0 < len(halved.stopped) < len(plan.members)
    for member, outcome in halved.outcomes.items():
        fold = plan.folds[member.fold // members]
        races = [fold[:2]] if fold.inner else [fold[:2], FINAL]
        epoch = max(halving.stopped[race].get(member.candidate, 8) for race in races)
        expected = recorder.seen[epoch][member]
        assert (outcome.failed_in, outcome.best_epoch) == (expected.failed_in, expected.best_epoch)
        np.testing.assert_allclose(
            outcome.probabilities, expected.probabilities, atol=1e-5, equal_nan=True
        )
    for stopped in halving.stopped.values():
        assert sorted(stopped.values()) == [2, 2, 2, 4, 4, 6]  # of 7 are left 4, 2 and 1
        assert stopped[6] == 2
    lengths = {len(curve) for curve in zip(*halved.curves["train/loss"], strict=True)}
    assert lengths == {8}
    columns = np.stack(halved.curves["train/loss"])
    expected = np.stack(whole.curves["train/loss"])
    shown = np.isfinite(columns)
    np.testing.assert_allclose(columns[shown], expected[shown], rtol=1e-4)


def test_the_rows_held_out_from_an_outer_fold_stop_nothing_in_it():
    datamodule = Iris()
    plan = make_plan(datamodule, CANDIDATES[:4], 3, 1, 2, 1, 0, members=1, memory=2**40)
    generator = np.random.default_rng(0)

    def stopped(seed_of_outer):
        inner = np.random.default_rng(1)
        outer = np.random.default_rng(seed_of_outer)
        halving = Halving(plan, 4, "accuracy")
        outcomes = {}
        for member in plan.members:
            fold = plan.folds[member.fold]
            source = inner if fold.inner else outer
            probabilities = source.dirichlet(np.ones(3), len(fold.indices["test"]))
            outcomes[member] = Outcome(probabilities, failed_in=0)
        halving.losers(1, outcomes)
        return halving.stopped

    drawn = [stopped(int(seed)) for seed in generator.integers(0, 1000, 5)]
    final = {tuple(stops.pop(FINAL)) for stops in drawn}
    assert len(final) > 1
    assert all(stops == drawn[0] for stops in drawn)


@pytest.mark.parametrize("patience", [None, 3])
def test_candidates_share_one_adamw_and_end_as_with_one_each(patience, monkeypatch):
    schedules = [None, ONE_CYCLE, {"class": "CosineAnnealingLR", "eta_min": 0.002}]
    candidates = []
    for i, schedule in enumerate(schedules):
        rates = {"lr": 0.01 * (i + 1), "weight_decay": 0.1 * i, "eps": 10.0 ** (-8 + i)}
        candidates.append(candidate(ADAM | rates, schedule))
        candidates.append(candidate(ADAM | rates | {"betas": [0.8, 0.9 + 0.03 * i]}, schedule))
    candidates.append(candidate({"class": "ScaledAdamW"}, ONE_CYCLE, 0.1))
    candidates.append(candidate(SGD, None, 0.2))
    candidates.append(candidate(ADAM | {"amsgrad": True}, None, 0.2))
    datamodule = Iris(batch_size=32)
    plan = make_plan(datamodule, candidates, 2, 1, 2, 1, 0, members=1, memory=2**40)
    halved = trained(plan, datamodule, Halving(plan, 8, "log_loss"), patience)
    joint = trained(plan, datamodule, Recorder([]), patience)
    # The joint one, SGD and AMSGrad, in the stacks of outer and of inner folds.
    assert {len(fit.optimizers) for fit in joint.fits} == {3}
    monkeypatch.setattr("model.stack_optimizers.JOINT_ELEMENTS", 0)
    single = trained(plan, datamodule, Recorder([]), patience)
    assert {len(fit.optimizers) for fit in single.fits} == {len(candidates)}
    for member, outcome in single.outcomes.items():
        expected = outcome.probabilities
        np.testing.assert_allclose(joint.outcomes[member].probabilities, expected, atol=1e-5)
        if member not in halved.stopped:
            np.testing.assert_allclose(halved.outcomes[member].probabilities, expected, atol=1e-5)


class Noise(TabularData):
    """Labels that have nothing to do with the columns."""

    def __init__(self, table_seed: int = 0, **options) -> None:
        super().__init__(**options)
        self.table_seed = table_seed

    def load(self) -> RawTable:
        generator = np.random.default_rng(self.table_seed)
        features = generator.normal(size=(80, 3))
        return RawTable(features, generator.permutation(80) % 2, ["a", "b", "c"], ["x", "y"])


def test_the_nested_estimate_of_a_search_is_that_of_chance_on_pure_noise():
    nested = []
    optimistic = []
    ranges = {
        "optimizer.lr": {"low": 1e-3, "high": 0.5, "log": True},
        "loss.label_smoothing": {"low": 0.0, "high": 0.3},
    }
    for seed in range(12):
        result = evaluate(
            partial(Noise, seed, split_seed=seed), partial(MLP, hidden=[8]), CrossEntropyLoss,
            folds=4, repeats=1, inner_folds=3, sweep=ranges, search=12, seed=seed, max_epochs=20,
            metric="accuracy", baselines=[], accelerator="cpu",
        )  # fmt: skip
        nested.append(result.performance.estimates.accuracy.mean)
        optimistic.append(result.choice.optimistic.accuracy.mean)
    error = np.std(nested, ddof=1) / np.sqrt(len(nested))
    assert abs(np.mean(nested) - 0.5) < 3 * error
    assert np.mean(optimistic) > np.mean(nested) + 0.03
    assert np.mean(optimistic) > 0.5


def test_a_stopped_candidate_is_named_with_its_epoch(capsys):
    result = evaluate(
        network=partial(MLP, hidden=[8]), folds=2, repeats=1, inner_folds=2, search=8,
        sweep={"optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True}}, max_epochs=8,
        baselines=[], accelerator="cpu",
    )  # fmt: skip
    epochs = [row.stopped_in for row in result.candidates]
    assert sorted(epoch or 9 for epoch in epochs) == [2, 2, 2, 2, 4, 4, 6, 9]
    (left,) = (row for row in result.candidates if row.stopped_in is None)
    assert left.name == result.choice.candidate
    assert all(row.estimates is None for row in result.candidates if row is not left)
    assert type(result).from_json(result.to_json()) == result
    assert capsys.readouterr().out.count("stopped in epoch 2 ") == 4
