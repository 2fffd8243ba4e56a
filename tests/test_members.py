"""Many as one: members that hold out their own fold, their mean, their checkpoint."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from lightning.pytorch import Trainer
from scipy.optimize import minimize_scalar
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cli.command import command
from cli.component import to_config
from cli.registry import LEARNED
from data.folds import cross_validation
from data.members import member_splits
from data.table import Table
from evaluate import evaluate
from evaluation.plan import make_plan, make_population
from export import export
from inference.onnx import onnx_inputs
from inference.predictor import load
from model import recipe
from model.blocks import Blocks
from model.calibration import best_temperature, tempered
from model.ensemble import Ensemble
from model.member import Member
from model.networks import MLP
from model.population import Population
from tests.helpers import script, two_forks
from train import train

QUICK = {"accelerator": "cpu", "log_dir": "logs", "pictures": "none"}
BEST = "logs/version_0/checkpoints/best.ckpt"


class FirstFold(Table):
    """A table whose test rows are given."""

    def load(self):
        self.test_rows = self.rows
        return super().load()


@pytest.fixture(autouse=True)
def table(tmp_path, monkeypatch):
    """Breast cancer as t.csv, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    bunch = load_breast_cancer(as_frame=True)
    frame = pl.from_pandas(bunch.data).with_columns(kind=pl.Series(bunch.target.to_numpy()))
    frame.write_csv("t.csv")
    return frame


def trained(**arguments):
    """A run of a few epochs of 4 members on t.csv."""
    arguments = {"members": 4, "max_epochs": 8} | QUICK | arguments
    return train(partial(Table, "t.csv", "kind"), **arguments)


def normalized(probabilities):
    """In float64, with a sum of exactly 1, as scikit-learn asks for."""
    probabilities = probabilities.astype(float)
    return probabilities / probabilities.sum(1, keepdims=True)


def test_every_training_row_is_held_out_once_as_in_scikit_learns_folds():
    datamodule = Table("t.csv", "kind", split_seed=3)
    datamodule.setup()
    features, targets = datamodule.splits["train"]
    parts = member_splits(datamodule.splits, 5, datamodule)
    cut = StratifiedKFold(5, shuffle=True, random_state=3).split(features, targets)
    for part, (train_rows, held_out) in zip(parts, cut, strict=True):
        assert torch.equal(part["train"][0], features[train_rows])
        assert torch.equal(part["val"][0], features[held_out])
        assert torch.equal(part["val"][1], targets[held_out])
        assert torch.equal(part["test"][0], datamodule.splits["test"][0])


def test_the_checkpoint_predicts_the_mean_of_calibrated_members(table):
    result = trained()
    predictor = load(BEST)
    ensemble = predictor.network
    assert isinstance(ensemble, Ensemble)
    probabilities = predictor.predict_proba(table)
    features = predictor.encoder(torch.from_numpy(table.drop("kind").to_numpy()))
    by_hand = []
    for index in range(4):
        network = MLP(features.shape[1], 2)
        network.load_state_dict(ensemble.stack.member_state(index))
        with torch.no_grad():
            by_hand.append((network(features) / ensemble.temperature).softmax(1).numpy())
    np.testing.assert_allclose(probabilities, np.mean(by_hand, 0), atol=1e-6)
    datamodule = Table("t.csv", "kind")
    datamodule.setup()
    test = datamodule.indices["test"]
    targets = table["kind"].to_numpy()
    expected = accuracy_score(targets[test], probabilities[test].argmax(1))
    assert result.splits["test"].accuracy == pytest.approx(expected)
    expected = log_loss(targets[test], normalized(probabilities[test]))
    assert result.splits["test"].log_loss == pytest.approx(expected, rel=1e-4)


def test_held_out_rows_are_predicted_by_the_member_that_did_not_learn_them(table):
    result = trained()
    ensemble = load(BEST).network
    datamodule = Table("t.csv", "kind")
    datamodule.setup()
    parts = member_splits(datamodule.splits, 4, datamodule)
    probabilities = []
    for index, part in enumerate(parts):
        with torch.no_grad():
            probabilities.append(ensemble.probabilities(part["val"][0])[index].double().numpy())
    targets = np.concatenate([part["val"][1].numpy() for part in parts])
    held_out = result.splits["held_out"]
    assert held_out.rows == len(targets) == len(datamodule.indices["train"])
    expected = log_loss(targets, normalized(np.concatenate(probabilities)))
    assert held_out.log_loss == pytest.approx(expected, rel=1e-4)
    expected = accuracy_score(targets, np.concatenate(probabilities).argmax(1))
    assert held_out.accuracy == pytest.approx(expected)


def test_evaluate_estimates_what_train_does():
    """The networks of evaluate.py's first fold are those of train.py on the fold's rows."""
    datamodule = Table("t.csv", "kind")
    targets = datamodule.read().targets
    fold = cross_validation(datamodule, targets, folds=5, repeats=1)[0]

    FirstFold.rows = fold.indices["test"]
    data = partial(FirstFold, "t.csv", "kind")
    run = train(data, members=3, max_epochs=5, **QUICK)
    evaluate(
        partial(Table, "t.csv", "kind"), folds=5, repeats=1, members=3, max_epochs=5,
        baselines=[], accelerator="cpu", log_dir="logs",
    )  # fmt: skip
    result = json.loads(Path("logs/version_1/result.json").read_text())
    assert result["members"] == 15

    config = to_config({name: getattr(recipe, name.upper()) for name in LEARNED})
    plan = make_plan(Table("t.csv", "kind"), [config], 5, 1, 0, 1, 0, members=3, memory=2**40)
    trainer = Trainer(
        accelerator="cpu", max_epochs=5, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    population = make_population(plan, datamodule, trainer, patience=None, metric="log_loss")
    trainer.fit(population)
    probabilities = plan.outcomes(population)[Member(0, 0, 0)].probabilities
    expected = log_loss(targets[fold.indices["test"]], normalized(probabilities))
    assert run.splits["test"].log_loss == pytest.approx(expected, rel=1e-4)


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(monkeypatch):
    trained(max_epochs=6, patience=4)
    expected = torch.load(BEST, weights_only=True)
    monkeypatch.setattr("training.checkpoints.LastCheckpoint.seconds", -1.0)  # after every epoch

    class StopError(Exception):
        pass

    end = Population.on_train_epoch_end

    def stop(self):
        end(self)
        if self.current_epoch == 3:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(Population, "on_train_epoch_end", stop)
        patch.setattr(Blocks, "seconds", 0.0)
        with pytest.raises(StopError):
            trained(max_epochs=6, patience=4)
    last = "logs/version_1/checkpoints/last.ckpt"
    trained(max_epochs=6, patience=4, resume=last)
    resumed = torch.load("logs/version_1/checkpoints/best.ckpt", weights_only=True)
    assert expected["hyper_parameters"] == resumed["hyper_parameters"]
    for name, value in expected["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name


def test_the_temperature_is_that_of_a_grid_search_on_laplaces_targets():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (200, 3))
    targets = generator.integers(0, 3, 200)
    probabilities = tempered(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 1.0)

    def smoothed_log_loss(temperature):
        logs = np.log(tempered(probabilities, temperature))
        smoothing = 3 / 203
        of_target = logs[np.arange(200), targets].mean()
        return -((1 - smoothing) * of_target + smoothing * logs.mean())

    grid = np.geomspace(0.05, 20, 20_001)
    expected = grid[np.argmin([smoothed_log_loss(temperature) for temperature in grid])]
    assert best_temperature(probabilities, targets) == pytest.approx(expected, rel=1e-3)
    assert minimize_scalar(smoothed_log_loss, bounds=(0.05, 20)).fun <= smoothed_log_loss(1.0)


def test_all_right_rows_do_not_make_a_network_certain():
    probabilities = np.array([[0.9, 0.1]] * 50)
    temperature = best_temperature(probabilities, np.zeros(50, dtype=int))
    confidence = tempered(probabilities[0], temperature)[0]
    assert confidence == pytest.approx(51 / 52, abs=1e-3)  # Laplace's rule of succession


def test_onnx_has_the_temperature_and_all_members(table):
    trained()
    export(BEST, "model.onnx")
    predictor = load(BEST)
    raw = table.drop("kind").to_numpy()
    session = onnxruntime.InferenceSession("model.onnx")
    labels, probabilities = session.run(None, onnx_inputs(predictor, raw))
    expected = predictor.predict_proba(table)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert labels.tolist() == predictor.predict(table).tolist()


def test_iris_and_a_table_with_validation_rows_stay_one_network():
    assert "held_out" not in train(max_epochs=2, **QUICK).splits
    data = partial(Table, "t.csv", "kind", val_fraction=0.2)
    result = train(data, max_epochs=2, **QUICK)
    assert set(result.splits) == {"train", "val", "test"}


def test_a_small_class_limits_the_members_by_default():
    bunch = load_iris(as_frame=True)
    frame = pl.from_pandas(bunch.data).with_columns(kind=pl.Series(bunch.target.to_numpy()))
    frame = frame.head(105)  # five rows of the third class, four of them to train on
    frame.write_csv("small.csv")
    train(partial(Table, "small.csv", "kind"), max_epochs=2, **QUICK)
    assert load(BEST).network.members == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--members", "0"], "members is 0; give 1 or more"),
        (["--members", "200"], "members is 200; give from 1 to 170: each holds out a fold"),
        (
            ["--members", "4", "--data.val_fraction", "0.2"],
            "val_fraction is 0.2, but each of 4 members validates on a fold of its own",
        ),
    ],
)
@pytest.mark.parametrize("function", [train, evaluate])
def test_bad_members_are_one_line(function, flags, message, capsys):
    data = ["--data", "Table", "--data.path", "t.csv", "--data.target", "kind"]
    with pytest.raises(SystemExit) as stop:
        command(function, [*data, *flags])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    lines = error.splitlines()
    assert len(lines) == 1, error
    # A fold of evaluate.py has other rows than the training split.
    assert lines[0].startswith(f"error: {message}".partition(" 170")[0])
    assert not Path("lightning_logs").exists()


def test_members_are_drawn_as_one_at_the_end_without_a_warning(recwarn):
    trained(pictures="all", max_epochs=3)
    assert not [warning.message for warning in recwarn if "TensorBoard" in str(warning.message)]
    accumulator = EventAccumulator("logs/version_0").Reload()
    images = accumulator.Tags()["images"]
    assert any("ConfusionMatrix" in tag or "confusion" in tag.lower() for tag in images), images


def test_two_processes_train_their_shares_of_the_members():
    line = ["--data=Table", "--data.path=t.csv", "--data.target=kind", "--members=4"]
    line += ["--max_epochs=4", "--accelerator=cpu"]
    both = two_forks(script, train, [*line, "--devices=2", "--strategy=ddp"])
    assert both.returncode == 0, both.stderr
    command(train, line)
    results = [
        json.loads(Path(f"lightning_logs/version_{i}/result.json").read_text()) for i in (0, 1)
    ]
    for name in ("test/log_loss", "held_out/log_loss", "train/loss"):
        assert results[0][name] == pytest.approx(results[1][name], rel=1e-4)
