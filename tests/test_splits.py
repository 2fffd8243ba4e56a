"""Cuts by groups, by time and as the user says: scikit-learn's, and whole in every place."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, TimeSeriesSplit

from cli.command import command
from cli.component import to_config
from cli.registry import LEARNED
from data.folds import cross_validation
from data.members import member_splits
from data.splits import Cutter
from data.table import Table
from data.tabular import RawTable, TabularData
from evaluate import evaluate
from evaluation.baselines import fit_baselines
from evaluation.estimates import wilson_interval
from evaluation.evaluation import Evaluation
from evaluation.plan import make_plan, make_population
from evaluation.result import EvaluationResult
from inference.predictor import load
from model import recipe
from model.member import Member, Outcome
from train import train
from training.result import TrainResult

EVALUATED = {"max_epochs": 2, "accelerator": "cpu", "log_dir": "logs"}
SHORT = EVALUATED | {"pictures": "none"}
BEST = "logs/version_0/checkpoints/best.ckpt"
CONFIG = to_config({name: getattr(recipe, name.upper()) for name in LEARNED})


class Patients(TabularData):
    """50 patients with 6 nearly equal rows each, and a class that their features do not tell."""

    def __init__(self, seed=0, grouped=True, **arguments):
        super().__init__(**arguments)
        self.seed = seed
        self.grouped = grouped

    def load(self):
        random = np.random.default_rng(self.seed)
        patients = np.repeat(np.arange(50), 6)
        features = random.normal(size=(50, 5))[patients] + 0.05 * random.normal(size=(300, 5))
        targets = random.integers(0, 2, 50)[patients]
        groups = patients if self.grouped else None
        names = [f"x{i}" for i in range(5)]
        return RawTable(features, targets, names, ["ill", "well"], groups=groups)


class Made(TabularData):
    """A table made by a test."""

    def __init__(self, table, **arguments):
        super().__init__(**arguments)
        self.table = table

    def load(self):
        return self.table


def made(targets, groups=None, times=None, **arguments):
    features = np.random.default_rng(0).normal(size=(len(targets), 3))
    names = [f"class {k}" for k in range(targets.max() + 1)]
    table = RawTable(features, targets, ["a", "b", "c"], names, groups=groups, times=times)
    return Made(table, **arguments)


@pytest.fixture
def patients():
    """The patients as patients.csv, in another order of rows."""
    table = Patients().load()
    columns = dict(zip(table.column_names, table.features.T, strict=True))
    days = np.datetime64("2024-01-01") + np.arange(300) // 2
    frame = pl.DataFrame(columns).with_columns(
        patient=pl.Series([f"p{group}" for group in table.groups]),
        day=pl.Series(days).dt.strftime("%d.%m.%Y"),
        part=pl.Series(np.repeat(["train", "VAL", "Test"], [180, 60, 60])),
        health=pl.Series(np.array(table.class_names)[table.targets]),
    )
    frame = frame.sample(fraction=1, shuffle=True, seed=0)
    frame.write_csv("patients.csv")
    return frame


def by_patient(ignore=("day", "part"), **arguments):
    return partial(Table, "patients.csv", "health", ignore=list(ignore), **arguments)


# The rule


@pytest.mark.parametrize("stratify", [True, False])
def test_folds_of_groups_are_scikit_learns(stratify):
    groups = np.random.default_rng(0).integers(0, 40, 200)
    targets = groups % 3
    cutter = Cutter(targets, groups, stratify=stratify, seed=3)
    cutter_class = StratifiedGroupKFold if stratify else GroupKFold
    expected = cutter_class(5, shuffle=True, random_state=np.random.RandomState(3))
    cuts = cutter.k_fold(np.arange(200), 5, repeats=2)
    assert len(cuts) == 10
    for ours, theirs in zip(cuts, expected.split(targets, targets, groups), strict=False):
        assert np.array_equal(ours[0], theirs[0])
        assert np.array_equal(ours[1], theirs[1])
    assert not np.array_equal(cuts[0][1], cuts[5][1])


def test_folds_by_time_are_scikit_learns():
    times = np.random.default_rng(0).permutation(53)
    order = np.argsort(times)
    cuts = Cutter(times % 2, times=times).k_fold(np.arange(53), 5)
    for (train_rows, held_out), (first, second) in zip(
        cuts, TimeSeriesSplit(5).split(order), strict=True
    ):
        assert set(train_rows) == set(order[first])
        assert set(held_out) == set(order[second])


def all_cuts(datamodule, members):
    """Rows that are trained on and rows that are held out, of every cut there is."""
    datamodule.setup()
    indices = datamodule.indices
    train_rows = indices["train"]
    yield train_rows, indices["test"]
    if "val" in indices:
        yield train_rows, indices["val"]
        yield np.concatenate([train_rows, indices["val"]]), indices["test"]
    for fold in cross_validation(datamodule, datamodule.targets, 3, 2, 2):
        known = np.concatenate([fold.indices["train"], fold.indices.get("val", [])]).astype(int)
        yield known, fold.indices["test"]
        if "val" in fold.indices:
            yield fold.indices["train"], fold.indices["val"]
    numbered = torch.arange(len(datamodule.targets))
    splits = {"train": (numbered[train_rows], torch.from_numpy(datamodule.targets[train_rows]))}
    splits["test"] = splits["train"]
    for member in member_splits(splits, members, datamodule, train_rows):
        yield member["train"][0].numpy(), member["val"][0].numpy()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    val_fraction=st.sampled_from([0.0, 0.2]),
    stratify=st.booleans(),
)
def test_no_group_is_on_both_sides_of_any_cut(seed, val_fraction, stratify):
    random = np.random.default_rng(seed)
    groups = random.permutation(np.repeat(np.arange(60), random.integers(1, 5, 60)))
    targets = np.where(random.random(len(groups)) < 0.8, groups % 2, 1 - groups % 2)
    names = np.array([f"group {group}" for group in groups])
    datamodule = made(targets, names, val_fraction=val_fraction, stratify=stratify, split_seed=seed)
    for known, held_out in all_cuts(datamodule, members=3):
        assert len(known)
        assert len(held_out)
        assert not set(groups[known]) & set(groups[held_out])
    share = len(datamodule.indices["test"]) / len(groups)
    assert 0.1 < share < 0.3


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    val_fraction=st.sampled_from([0.0, 0.2]),
    days=st.sampled_from([60, 150]),
)
def test_no_row_is_trained_on_that_is_not_earlier(seed, val_fraction, days):
    random = np.random.default_rng(seed)
    times = np.datetime64("2024-01-01") + random.integers(0, days, 200)
    targets = random.integers(0, 2, 200)
    datamodule = made(targets, times=times, val_fraction=val_fraction)
    for known, held_out in all_cuts(datamodule, members=3):
        assert times[known].max() < times[held_out].min()
    assert times[datamodule.indices["test"]].max() == times.max()


def test_a_rare_class_is_in_test_and_training_where_it_has_two_groups():
    targets = np.repeat([0] * 38 + [1] * 2, 3)
    for seed in range(10):
        datamodule = made(targets, np.repeat(np.arange(40), 3), split_seed=seed)
        datamodule.setup()
        for split in ("train", "test"):
            assert set(targets[datamodule.indices[split]]) == {0, 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": np.arange(59)}, r"groups have the shape \(59,\); give one for each of 60 rows"),
        ({"groups": np.array(["a", None] * 30, object)}, "groups are missing in 30 rows, first in"),
        ({"times": np.array([1.0, np.nan] * 30)}, "times are missing in 30 rows, first in row 2"),
        ({"times": np.array(["a"] * 60)}, "times are an array of <U1; give one of numbers"),
        ({"times": np.zeros(60)}, "there are too few different times"),
        ({"groups": np.zeros(60)}, "there is one group"),
        ({"groups": np.arange(60) % 2}, "train has no 'class 1'"),
        ({"groups": np.arange(60), "times": np.arange(60)}, "groups and times; give one of them"),
    ],
)
def test_groups_and_times_that_cannot_be_used_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(np.arange(60) % 2, **arguments).setup()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": np.repeat(np.arange(12), 5)}, "folds is 10; give from 2 to 6, the groups of"),
        (
            {"groups": np.repeat(np.arange(12), 5), "stratify": False, "folds": 13},
            "folds is 13; give from 2 to 12, the groups of the table",
        ),
        ({"times": np.arange(60) % 8}, "folds is 10; give from 2 to 7, one less than there are"),
        ({"times": np.minimum(np.arange(60), 30)}, "folds need more different times"),
    ],
)
def test_too_many_folds_are_refused(arguments, message):
    folds = arguments.pop("folds", 10)
    datamodule = made(np.repeat(np.arange(12), 5) % 2, **arguments)
    datamodule.read()
    with pytest.raises(ValueError, match=message):
        cross_validation(datamodule, datamodule.targets, folds, 1)


# What is counted


def test_the_intervals_of_train_py_count_groups(patients, capsys):
    result = train(by_patient(groups="patient"), members=2, **SHORT)
    test = result.splits["test"]
    assert test.groups == 10
    assert result.test_interval == wilson_interval(test.accuracy * 10, 10)
    screen = capsys.readouterr().out
    assert "of 10 groups" in screen
    assert "300 rows of 50 groups: a group stays together in every cut" in screen
    content = json.loads(Path("logs/version_0/result.json").read_text())
    assert content["groups"] == {"train": 40, "test": 10}
    assert TrainResult.from_json(content).test_interval == result.test_interval
    assert load(BEST).column_names == [f"x{i}" for i in range(5)]


def right(folds, targets):
    """Outcomes of networks that predict every held-out row right."""
    return {
        Member(0, i, i): Outcome(np.eye(2)[targets[fold.indices["test"]]], failed_in=0)
        for i, fold in enumerate(folds)
    }


def test_the_intervals_of_evaluate_py_count_groups():
    datamodule = Patients()
    datamodule.read()
    folds = cross_validation(datamodule, datamodule.targets, 10, 2)
    outcomes = right(folds, datamodule.targets)
    evaluation = Evaluation(
        datamodule.targets, folds, outcomes, 1, "accuracy", groups=datamodule.groups
    )
    estimates = evaluation.estimate([0] * 20)
    assert estimates.accuracy[1:] == pytest.approx(wilson_interval(50, 50))
    ill = len(np.unique(datamodule.groups[datamodule.targets == 0]))
    fewer = min(ill, 50 - ill)
    assert estimates.balanced_accuracy.low == pytest.approx(wilson_interval(fewer, fewer)[0])
    rows = Evaluation(datamodule.targets, folds, outcomes, 1, "accuracy").estimate([0] * 20)
    assert rows.accuracy[1:] == pytest.approx(wilson_interval(300, 300))


def test_rows_that_are_in_no_fold_do_not_count():
    times = np.arange(60)
    datamodule = made(times % 2, times=times)
    datamodule.read()
    folds = cross_validation(datamodule, datamodule.targets, 5, 3)
    assert len(folds) == 5
    outcomes = right(folds, datamodule.targets)
    evaluation = Evaluation(datamodule.targets, folds, outcomes, 1, "accuracy")
    assert evaluation.ensemble_accuracy([0] * 5) == 1
    assert evaluation.estimate([0] * 5).accuracy[1:] == pytest.approx(wilson_interval(50, 50))


def test_baselines_meet_the_same_folds():
    datamodule = Patients()
    plan = make_plan(datamodule, [CONFIG], 5, 1, 0, 1, 0, members=None, memory=2**40)
    (baseline,) = fit_baselines({"L": LogisticRegression()}, plan.folds, plan.splits, 2)
    table = datamodule.load()
    cuts = StratifiedGroupKFold(5, shuffle=True, random_state=np.random.RandomState(0)).split(
        table.features, table.targets, table.groups
    )
    for fold, (train_rows, test_rows) in enumerate(cuts, 1):
        mean = table.features[train_rows].mean(0)
        scaled = (table.features - mean) / table.features[train_rows].std(0)
        expected = LogisticRegression().fit(scaled[train_rows], table.targets[train_rows])
        np.testing.assert_allclose(
            baseline.probabilities[1, fold], expected.predict_proba(scaled[test_rows]), atol=1e-4
        )


# The patients: nobody can tell the class of a new one, so that the truth is 0.5.


def test_the_truth_lies_in_the_interval_with_groups_and_a_warning_stands_without(patients, capsys):
    arguments = {"folds": 5, "repeats": 2, "members": 1, "accelerator": "cpu", "log_dir": "logs"}
    result = evaluate(by_patient(groups="patient"), **arguments)
    estimate = result.performance.estimates.accuracy
    assert estimate.low < 0.5 < estimate.high
    assert result.groups == 50
    assert result.warnings == []
    assert "of 50 groups" in capsys.readouterr().out
    content = json.loads(Path("logs/version_0/result.json").read_text())
    assert EvaluationResult.from_json(content) == result

    ignored = by_patient(ignore=("day", "part", "patient"))
    result = evaluate(ignored, **arguments)
    assert result.performance.estimates.accuracy.low > 0.5
    (warning,) = result.warnings
    assert warning.startswith("warning: 60 of 60 test rows nearly equal training rows")
    assert warning in capsys.readouterr().out
    content = json.loads(Path("logs/version_1/result.json").read_text())
    assert content["warnings"] == [warning]


# Times, and splits of the user's own


def test_train_and_evaluate_by_time(patients):
    data = by_patient(ignore=("patient", "part"), time="day")
    result = train(data, members=3, **SHORT)
    assert (result.splits["test"].rows, result.splits["train"].rows) == (60, 240)
    assert result.splits["held_out"].rows == 80  # the last third of the training rows
    result = evaluate(data, folds=4, repeats=3, members=1, baselines=[], **EVALUATED)
    assert (result.run.repeats, result.run.members) == (1, 4)
    assert sum(map(sum, result.performance.confusion)) == 240


def test_a_column_gives_the_splits(patients):
    data = by_patient(ignore=("day", "patient"), split="part")
    result = train(data, **SHORT)
    rows = {name: values.rows for name, values in result.splits.items()}
    assert rows == {"train": 180, "val": 60, "test": 60}
    datamodule = data()
    datamodule.setup()
    assert (
        datamodule.indices["test"].tolist() == np.flatnonzero(patients["part"] == "Test").tolist()
    )
    folds = cross_validation(datamodule, datamodule.targets, 4, 1, 2)
    for fold in folds:
        parts = {
            name: set(patients["part"].gather(list(rows))) for name, rows in fold.indices.items()
        }
        assert parts == {"train": {"train"}, "val": {"VAL"}, "test": {"train", "VAL"}}


def test_a_file_gives_the_test_rows(patients, capsys):
    patients.head(200).write_csv("patients.csv")
    test = patients.tail(100).with_columns(x0=pl.Series([None] + [1e6] * 99))
    test.write_csv("test.csv")
    data = by_patient(ignore=("day", "patient", "part"), test_path="test.csv")
    result = train(data, members=2, **SHORT)
    assert (result.splits["train"].rows, result.splits["test"].rows) == (200, 100)
    predicted = load(BEST).predict(test.select("x0", "x1", "x2", "x3", "x4"))
    assert result.splits["test"].accuracy == pytest.approx(
        (predicted == test["health"].to_numpy()).mean()
    )
    assert "100 rows are for the test, in no fold of evaluate.py" in capsys.readouterr().out
    result = evaluate(data, folds=2, repeats=1, members=1, baselines=[], **EVALUATED)
    assert sum(map(sum, result.performance.confusion)) == 200


class Given(Patients):
    """Patients whose splits are given."""

    def __init__(self, test_rows, val_rows, **arguments):
        super().__init__(**arguments)
        self.test_rows = test_rows
        self.val_rows = val_rows


def test_a_loader_gives_its_splits():
    is_val = np.arange(300) < 60
    datamodule = Given(np.arange(240, 300), is_val)
    datamodule.setup()
    assert {name: len(rows) for name, rows in datamodule.indices.items()} == {
        "train": 180, "val": 60, "test": 60
    }  # fmt: skip
    assert np.array_equal(datamodule.indices["val"], np.arange(60))
    assert len(list(datamodule.val_dataloader())) == 1
    drawn = Given(None, is_val)
    drawn.setup()
    assert np.array_equal(drawn.indices["val"], np.arange(60))
    assert not set(drawn.groups[drawn.indices["test"]]) & set(drawn.groups[drawn.indices["train"]])
    with pytest.raises(ValueError, match=r"Given\.load: row 240 is in val_rows and in test_rows"):
        Given(np.arange(240, 300), np.arange(230, 250)).setup()
    with pytest.raises(ValueError, match="the group of row 241, one of 1, has rows in train"):
        Given(np.arange(241, 300), is_val).setup()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--data.groups patien", "patients.csv has no column 'patien'; nearest: 'patient'"),
        ("--data.groups patient --data.time day", "groups is 'patient' and time 'day'; give one"),
        ("--data.groups health", "column 'health' is given twice"),
        ("--data.split part --data.test_path t.csv", "test_path 't.csv'; give one of them"),
        (
            "--data.split part --data.val_fraction 0.1",
            "val_fraction is 0.1, but 60 rows are given",
        ),
        ("--data.split patient", "line 2, column 'patient' is 'p34'; give train, val or test"),
        ("--data.time patient", "line 2, column 'patient' is 'p34'; give a number"),
        ("--data.split part --data.groups week", "a group must be on one side"),
        ("--data.split part --data.time x0", "rows that are not later than all of train"),
        ("--data.groups same", "train has no"),
        ("--data.groups patient --members 30", "members is 30; give from 1 to"),
        ("--data.groups holes", "line 3, column 'holes' is None; a value is missing in 299 rows"),
        ("--data.test_path none.csv", "there is no file none.csv"),
        ("--data.test_path few.csv", "few.csv has no columns 'x1', 'x2'"),
        ("--data.test_path wrong.csv", "wrong.csv: line 2, column 'health' is 'odd'; the classes"),
        ("--data.test_path text.csv", "text.csv: line 2, column 'x0' is 'high'; give a number"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_a_line(patients, flags, message, capsys):
    patients = patients.with_columns(
        holes=pl.Series(["p3"] + [None] * 299),
        week=pl.Series(np.arange(300) // 7),
        same=pl.col("health"),
    )
    patients.write_csv("patients.csv")
    patients.select("x0", "health").write_csv("few.csv")
    patients.with_columns(health=pl.lit("odd")).write_csv("wrong.csv")
    patients.with_columns(x0=pl.lit("high")).write_csv("text.csv")
    used = flags.split()[1::2]
    ignored = [
        name for name in ("day", "part", "patient", "holes", "week", "same") if name not in used
    ]
    line = "--data Table --data.path patients.csv --data.target health --accelerator cpu "
    line += f"--data.ignore [{','.join(ignored)}] {flags}"
    with pytest.raises(SystemExit) as stop:
        command(train, line.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not Path("lightning_logs").exists()


# Nothing that is held out changes what is trained


def changed_rows(frame):
    """The same rows with other values, categories, gaps and classes."""
    return frame.with_columns(
        size=pl.Series([None, 1e9] * (len(frame) // 2)),
        colour=pl.Series(["purple", None] * (len(frame) // 2)),
        health=pl.Series(["ill"] * len(frame)),
    )


def mixed_table(rows=200):
    random = np.random.default_rng(0)
    size = random.normal(size=rows)
    return pl.DataFrame({"size": size, "other": random.normal(size=rows)}).with_columns(
        size=pl.when(pl.Series(random.random(rows) < 0.1)).then(None).otherwise(pl.col("size")),
        colour=pl.Series(random.choice(["red", "green", "blue"], rows)),
        health=pl.Series(np.where(size + random.normal(size=rows) > 0.5, "ill", "well")),
    )


@pytest.mark.parametrize("members", [1, 3])
def test_no_test_row_changes_what_train_py_trains(members):
    frame = mixed_table()
    frame.head(150).write_csv("t.csv")
    frame.tail(50).write_csv("before.csv")
    changed_rows(frame.tail(50)).write_csv("after.csv")
    for test_path in ("before.csv", "after.csv"):
        data = partial(Table, "t.csv", "health", test_path=test_path, class_weight="balanced")
        train(data, members=members, **SHORT)
    before = torch.load(BEST, weights_only=True)
    after = torch.load(BEST.replace("_0", "_1"), weights_only=True)
    for name, tensor in before["state_dict"].items():
        assert torch.equal(tensor, after["state_dict"][name])
    for name, value in before["Table"].items():
        same = after["Table"][name]
        if torch.is_tensor(value):
            value, same = value.nan_to_num(), same.nan_to_num()
            assert torch.equal(value, same)
        else:
            assert value == same


class Mixed(TabularData):
    """Numbers with gaps and text, of which some rows may be changed."""

    def __init__(self, changed=(), **arguments):
        super().__init__(stratify=False, class_weight="balanced", scaling="robust", **arguments)
        self.changed = list(changed)

    def load(self):
        random = np.random.default_rng(0)
        features = random.normal(size=(120, 3))
        features[:, 1] = random.integers(0, 3, 120)
        features[random.random((120, 3)) < 0.1] = np.nan
        targets = random.integers(0, 2, 120)
        features[self.changed] = [1e9, 2, np.nan]
        targets[self.changed] = 1 - targets[self.changed]
        categories = {"colour": ["blue", "green", "red"]}
        return RawTable(features, targets, ["a", "colour", "b"], ["no", "yes"], categories)


def fitted(datamodule, members):
    """The plan of an evaluation, and the trained weights of its members."""
    plan = make_plan(datamodule, [CONFIG], 3, 1, 2, 1, 0, members=members, memory=2**40)
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    population = make_population(plan, datamodule, trainer, None, "log_loss")
    trainer.fit(population)
    return plan, population.weights()


@pytest.mark.parametrize("members", [1, 2])
def test_no_held_out_row_changes_what_evaluate_py_trains_in_its_fold(members):
    plan, before = fitted(Mixed(), members)
    outer = [i for i, fold in enumerate(plan.folds) if not fold.inner]
    for i in outer:
        held_out = plan.folds[i].indices["test"]
        other, after = fitted(Mixed(held_out), members)
        for fold in range(i, i + 3):  # the outer fold, and the inner ones of its training rows
            assert np.array_equal(
                other.folds[fold].indices["test"], plan.folds[fold].indices["test"]
            )
            assert other.class_weights[fold * members] == plan.class_weights[fold * members]
            for name in ("fill", "mean", "scale"):
                first = getattr(plan.encoders[fold], name)
                assert torch.equal(first, getattr(other.encoders[fold], name))
            for member in before:
                if member.fold // members == fold:
                    for name, tensor in before[member].items():
                        assert torch.equal(tensor, after[member][name])
        changed = [member for member in before if member.fold // members not in range(i, i + 3)]
        assert any(
            not torch.equal(tensor, after[member][name])
            for member in changed
            for name, tensor in before[member].items()
        )
