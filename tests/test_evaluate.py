"""evaluate.py as its user sees it: screen, run folder, TensorBoard, errors; and its phases."""

import json
import math
import os
import re
import shlex
import signal
import time
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, confusion_matrix
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from cli.command import command
from cli.component import describe, to_config
from cli.parser import parse
from data.encoder import Encoder
from data.folds import cross_validation, standardize_folds
from data.iris import Iris
from evaluate import evaluate
from evaluation.candidates import TRAIN_ARGUMENTS, make_candidates, train_commands
from evaluation.evaluation import Evaluation
from evaluation.report import TITLES
from evaluation.result import EvaluationResult
from model.classifier import Classifier
from model.member import Member, Outcome
from model.networks import MLP
from model.population_networks import PopulationNetworks
from model.scores import METRICS
from tests.helpers import ROOT, Fork, in_terminal, python, script, two_forks, weights
from train import train

SHORT = ("--accelerator", "cpu", "--repeats", "1", "--max_epochs", "5")
FAST = (*SHORT, "--network.hidden", "[8]")


def run(*arguments, given=FAST):
    """`python evaluate.py …` in this process; its run folder and its result.json."""
    command(evaluate, [*given, *arguments])
    run_dir = max(Path("lightning_logs").iterdir(), key=os.path.getmtime)
    return run_dir, json.loads((run_dir / "result.json").read_text())


def events(run_dir):
    return EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()


def comparable(result):
    return {key: value for key, value in result.items() if key != "fit_seconds"}


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The run folder of `python evaluate.py` without a flag, and the finished process."""
    cwd = tmp_path_factory.mktemp("evaluate")
    done = python("evaluate.py", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "lightning_logs" / "version_0", done


def test_the_screen_has_the_answer_first(default):
    run_dir, done = default
    result = json.loads((run_dir / "result.json").read_text())
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["mean", "95", "%", "interval"]
    for line, (name, title) in zip(lines[1:], TITLES.items(), strict=False):
        assert line.startswith(f"{title} ")
        mean, low, high = (result[f"{name}/{key}"] for key in ("mean", "low", "high"))
        assert line.endswith(f"{mean:8.4f}   {low:.3f} to {high:.3f}")
        assert low < mean < high or mean == 1
    assert lines[-4].startswith("100 networks, 10 folds x 10 repeats, in ")
    assert lines[-2].split() == ["run", "lightning_logs/version_0"]
    assert (result["members"], result["failed"], len(result["settings"])) == (100, 0, 1)
    assert np.sum(result["confusion"]) == 1500
    recalls = np.diag(result["confusion"]) / np.sum(result["confusion"], 1)
    assert result["recall"] == pytest.approx(recalls)
    assert result["balanced_accuracy/mean"] == pytest.approx(np.mean(recalls))
    for name, recall in zip(result["class_names"], recalls, strict=True):
        assert re.search(rf"^{name} .* {recall:.3f}$", done.stdout, re.MULTILINE)
    for row in result["often_wrong"]:
        line = "row {row}: {class}, taken for {taken_for} by {wrong} of 10".format_map(row)
        assert line in done.stdout


def test_iris_is_estimated_as_well_as_promised(default):
    result = json.loads((default[0] / "result.json").read_text())
    assert result["accuracy/mean"] >= 0.978


def test_tensorboard_has_curves_bands_settings_and_the_table(default):
    run_dir, _ = default
    result = json.loads((run_dir / "result.json").read_text())
    read = events(run_dir)
    points = {}
    for tag in ("train/loss", "train/accuracy"):
        for name in ("mean", "low", "high"):
            group = tag if name == "mean" else f"values/quantiles/{tag}"
            curve = read.Scalars(f"{group}/{name}")
            points[tag, name] = [event.value for event in curve]
            assert [event.step for event in curve] == list(range(1, 101))
        assert np.all(np.array(points[tag, "low"]) <= np.array(points[tag, "high"]))
    assert points["train/loss", "mean"][-1] < points["train/loss", "mean"][0]
    (config,) = read.Tensors("custom_scalars__config__")
    layout = Layout.FromString(config.tensor_proto.string_val[0])
    charts = {
        chart.title: [value for _, value in chart.margin.series[0].ListFields()]
        for chart in layout.category[0].chart
    }
    assert set(charts) == {"loss", "accuracy"}
    low, high = (f"values/quantiles/train/loss/{name}" for name in ("low", "high"))
    assert charts["loss"] == ["train/loss/mean", low, high]
    (text,) = read.Tensors("result/text_summary")
    assert "accuracy" in text.tensor_proto.string_val[0].decode()
    content = {
        tag: HParamsPluginData.FromString(data.plugin_data.content)
        for tag, data in read.summary_metadata.items()
        if tag.startswith("_hparams_")
    }
    shown = content["_hparams_/session_start_info"].session_start_info.hparams
    assert shown["network.hidden"].string_value == "[128]"
    assert shown["Test accuracy"].number_value == pytest.approx(result["accuracy/mean"])
    for name in METRICS:
        (event,) = read.Scalars(f"values/final/{name}/mean")
        assert event.value == pytest.approx(result[f"{name}/mean"])


def test_every_held_out_row_is_predicted_by_networks_that_never_saw_it():
    """Repeat the whole estimate, one network at a time."""
    _, result = run("--folds", "5", "--seed", "3")
    datamodule = Iris()
    table = datamodule.read()
    folds = cross_validation(datamodule, table.targets, 5, 1)
    fold_splits, _ = standardize_folds(table, folds)
    accuracies = []
    predicted = np.zeros(150, dtype=int)
    for i, (fold, splits) in enumerate(zip(folds, fold_splits, strict=True)):
        torch.manual_seed(3 + i)
        classifier = Classifier(4, 3, network=partial(MLP, hidden=[8]))
        optimizer, schedule = classifier.optimize(classifier.parameters(), 5)
        features, targets = splits["train"]
        for _ in range(5):
            optimizer.zero_grad()
            classifier.loss(classifier(features), targets).backward()
            optimizer.step()
            schedule.step()
        test = fold.indices["test"]
        predicted[test] = classifier(splits["test"][0]).argmax(1)
        accuracies.append(accuracy_score(table.targets[test], predicted[test]))
    assert result["accuracy/mean"] == pytest.approx(np.mean(accuracies))
    assert result["confusion"] == confusion_matrix(table.targets, predicted).tolist()


def test_a_run_is_replayed_from_its_config():
    run_dir, first = run(
        "--folds", "3", "--sweep.optimizer.lr", "[0.01, 5e-2]", "--seeds", "2", "--inner_folds", "2"
    )
    _, second = run("--config", str(run_dir / "config.yaml"))
    assert comparable(first) == comparable(second)
    assert [row["setting"] for row in first["settings"]] == [
        "optimizer.lr 0.01",
        "optimizer.lr 0.05",
    ]
    assert first["members"] == 3 * (1 + 2) * 2 * 2


def test_a_sweep_is_nested_and_ends_in_a_command_for_train(capsys):
    sweep = ("--sweep.optimizer.lr", "[1e-5, 0.05]", "--sweep.network", "[MLP, Linear]")
    run_dir, result = run("--folds", "3", *sweep, given=SHORT)
    assert result["members"] == 3 * (1 + 5) * 4
    assert sum(row["chosen"] for row in result["settings"]) == 3
    assert result["chosen"].startswith("optimizer.lr 0.05")
    best = min(row["log_loss/mean"] for row in result["settings"])
    assert result["optimistic"]["log_loss/mean"] == best
    shown = capsys.readouterr().out
    assert "nested: what to expect" in shown
    assert result["train"] in shown
    _, script, *flags = shlex.split(result["train"])
    assert script == "train.py"
    trained = to_config(parse(train, flags))
    assert trained["optimizer"]["lr"] == 0.05
    assert trained["max_epochs"] == 5
    for i, row in enumerate(result["settings"], 1):
        read = events(run_dir / f"candidate_{i}")
        assert len(read.Scalars("train/loss/mean")) == 5
        (event,) = read.Scalars("values/final/accuracy/mean")
        assert event.value == pytest.approx(row["accuracy/mean"])


@pytest.mark.parametrize(
    "flags",
    [
        "--optimizer SGD --optimizer.lr 0.1 --schedule null --data.batch_size 16",
        "--optimizer AdamW --loss MSELoss --network Linear --patience 3",
        "--network.hidden [4,4] --network.activation Tanh --schedule CosineAnnealingLR",
        "--precision 64-true --seed 7",
        "",
    ],
)
def test_the_printed_command_trains_what_was_chosen(flags):
    config = to_config(parse(evaluate, flags.split()))
    (line,) = train_commands({"default": config}, signature(evaluate))
    _, script, *words = shlex.split(line)
    assert script == "train.py"
    again = to_config(parse(train, words))
    assert {name: again[name] for name in TRAIN_ARGUMENTS} == {
        name: config[name] for name in TRAIN_ARGUMENTS
    }


def test_the_printed_command_leaves_out_what_train_does_by_itself():
    ours = signature(evaluate).parameters
    theirs = signature(train).parameters
    for name in TRAIN_ARGUMENTS:
        assert ours[name].default == theirs[name].default
    config = to_config(parse(evaluate, []))
    assert train_commands({"default": config}, signature(evaluate)) == ["python train.py"]


def test_settings_are_compared_over_the_same_folds(capsys):
    Path("a.yaml").write_text("max_epochs: 20\nnetwork: {class: MLP, hidden: [8]}\n")
    Path("b.yaml").write_text("max_epochs: 20\nnetwork: {class: MLP, hidden: [8]}\nloss: MSELoss\n")
    Path("c.yaml").write_text("max_epochs: 30\n")
    line = ["--accelerator", "cpu", "--folds", "5", "--repeats", "2"]
    command(evaluate, [*line, "--compare", "a.yaml", "b.yaml"])
    shown = capsys.readouterr().out
    result = json.loads(Path("lightning_logs/version_0/result.json").read_text())
    (difference,) = result["differences"]
    first, second = result["settings"]
    assert difference["mean"] == pytest.approx(second["accuracy/mean"] - first["accuracy/mean"])
    assert difference["low"] <= difference["mean"] <= difference["high"]
    assert f"b.yaml minus a.yaml: {difference['mean']:+.4f}" in shown
    assert ("no difference can be told" in shown) == (difference["p"] >= 0.05)
    command(evaluate, ["--config", "lightning_logs/version_0/config.yaml"])
    again = json.loads(Path("lightning_logs/version_1/result.json").read_text())
    assert comparable(again) == comparable(result)
    with pytest.raises(SystemExit):
        command(evaluate, ["--compare", "a.yaml", "c.yaml"])
    assert "max_epochs is 20 in a.yaml and 30 in c.yaml" in capsys.readouterr().err


def test_a_saved_population_predicts_like_a_classifier():
    run_dir, result = run("--folds", "4", "--save", "--max_epochs", "60")
    path = run_dir / "checkpoints" / "population.ckpt"
    ensemble = PopulationNetworks.load_from_checkpoint(path, weights_only=True).eval()
    content = torch.load(path, weights_only=True)
    raw = load_iris()
    state = content["Iris"]
    features = Encoder.from_state(state)(torch.from_numpy(raw.data))
    logits = ensemble(features)
    assert logits.shape == (150, 3)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(150))
    assert list(path.parent.iterdir()) == [path]
    # Each member alone, on the rows held out from it, gives the estimate again.
    probabilities = ensemble.probabilities(features)
    assert probabilities.shape == (4, 150, 3)
    assert probabilities.std(0).max() > 0.01
    accuracies = []
    for i, fold in enumerate(cross_validation(Iris(), raw.target, 4, 1)):
        test = np.asarray(fold.indices["test"])
        predicted = probabilities[i, test].argmax(1).numpy()
        accuracies.append((predicted == raw.target[test]).mean())
    assert np.mean(accuracies) == pytest.approx(result["accuracy/mean"])


def test_two_processes_find_what_one_finds():
    line = ("--folds", "5", "--sweep.optimizer.lr", "[0.01, 0.05]", "--inner_folds", "2", "--save")
    done = two_forks(script, evaluate, [*FAST, *line, "--devices", "2", "--strategy", "ddp"])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    both = json.loads(Path("lightning_logs/version_0/result.json").read_text())
    run_dir, alone = run(*line)
    assert sorted(path.name for path in Path("lightning_logs").iterdir()) == [
        "version_0",
        "version_1",
    ]
    for key in ("accuracy/mean", "log_loss/mean", "log_loss/low"):
        assert both[key] == pytest.approx(alone[key], rel=1e-5)
    for key in ("members", "confusion", "chosen"):
        assert both[key] == alone[key]
    run_dirs = (Path("lightning_logs/version_0"), run_dir)
    states = [weights(path / "checkpoints" / "population.ckpt") for path in run_dirs]
    assert states[0].keys() == states[1].keys()
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-5) for name in states[0])
    tag = "values/quantiles/train/loss/high"
    for i in (1, 2):
        curves = [
            [event.value for event in events(f"{path}/candidate_{i}").Scalars(tag)]
            for path in run_dirs
        ]
        assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_networks_that_fail_are_named_and_counted(capsys):
    flags = "--folds 3 --inner_folds 2 --optimizer SGD --schedule null"
    _, result = run(*flags.split(), "--sweep.optimizer.lr", "[0.1, 1e30]")
    assert result["failed"] == 3 * (1 + 2)
    assert [row["failed"] for row in result["settings"]] == [0, 9]
    assert (
        result["failures"][1]
        == "fold 1, repeat 1, seed 1, candidate optimizer.lr 1e+30, inner fold 1"
    )
    assert result["chosen"] == "optimizer.lr 0.1"
    assert not any(math.isnan(value) for value in result.values() if isinstance(value, float))
    shown = capsys.readouterr().out
    assert "9 of 18 networks failed" in shown
    assert "all networks failed" in shown


def test_a_terminal_gets_a_bar():
    done, shown = in_terminal(script, evaluate, ["--repeats", "20", "--accelerator", "cpu"])
    assert done.returncode == 0, shown
    assert re.search(r"fit:.*\d+/100 .*step.*train/loss=\d.*epoch=\d", shown)


def test_ctrl_c_ends_in_one_line(tmp_path):
    flags = ("--max_epochs", "100000", "--sweep.optimizer.lr", "[0.01, 0.05]")
    with Fork(script, (evaluate, flags)) as process:
        until = time.monotonic() + 60
        pattern = "lightning_logs/version_0/candidate_2/events*"
        while time.monotonic() < until and not list(tmp_path.glob(pattern)):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        done = process.end()
    assert done.returncode == 130
    advice = "nothing was kept"
    if list((tmp_path / "lightning_logs").iterdir()):  # it took more than two seconds
        advice = r"resume with: python \S*evaluate.py --resume lightning_logs/version_0"
    assert re.fullmatch(rf"error: stopped in epoch \d+; {advice}\n", done.stderr), done.stderr


BAD = {
    "--folds 51": "folds is 51; give from 2 to 50, the rows of the smallest class",
    "--folds 1": "folds is 1; give from 2",
    "--repeats 0": "repeats is 0; give 1 or more",
    "--seeds -1": "seeds is -1; give 1 or more",
    "--sweep.optimizer.lrr [1]": "setting 'optimizer.lrr' is not known; nearest: optimizer.lr",
    "--sweep.optimizr [SGD]": "setting 'optimizr' is not known; nearest: optimizer",
    "--sweep.optimizer.lr []": "--sweep.optimizer.lr is []; give a list of one value or more",
    "--sweep.optimizer.lr 3": "--sweep.optimizer.lr is 3; give a list",
    "--sweep.optimizer.lr [x]": "--optimizer.lr is 'x'; expected",
    "--sweep.optimizer.lr [-1]": "the optimizer's lr is -1",
    "--sweep.optimizer.lr": "--sweep.optimizer.lr is None; give a list",
    "--sweep.network.hidden [[8],[0]]": "hidden is [0]; every width must be 1 or more",
    "--compare a.yaml": "--compare has 1 file; give two or more",
    "--compare a.yaml b.yaml": "No such file",
    "--repeats 1000000": "10,000,000 networks need ",
    "--network tests.test_population.BatchNormed": "network BatchNormed mixes rows",
    "--optimizer LBFGS --schedule null": "the optimizer cannot train a population",
    "--precision 16-mixed": (
        "precision is 16-mixed, whose loss scale all networks would share; give bf16-mixed"
    ),
    "--folds 2 --repeats 1 --devices 3 --accelerator cpu --strategy ddp": (
        "2 networks are too few for 3 devices"
    ),
    "--baselines [RandomForrest]": (
        "baseline 'RandomForrest' is not known; nearest: RandomForestClassifier"
    ),
    "--baselines [VotingClassifier]": "baseline VotingClassifier needs estimators; give",
    "--baselines RandomForestClassifier": "--baselines is 'RandomForestClassifier'; expected [text",
    "--max_epochs 0": "max_epochs is 0; give 1 or more",
    "--metric acuracy": "--metric 'acuracy' is not known; nearest: accuracy",
    "--metric auroc --folds 100 --data.stratify false --sweep.network.hidden [[4],[8]]": (
        "metric is auroc, and the held-out rows of fold 5, repeat 1 are all of one class"
    ),
    "--accelerator gpu": "accelerator is gpu, but PyTorch finds no such GPU",
    "--trainer.max_steps 1": "--trainer.max_steps belongs to train.py",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(line, capsys, monkeypatch):
    if "gpu" in line and torch.cuda.is_available():
        pytest.skip("there is one")
    monkeypatch.syspath_prepend(ROOT)
    with pytest.raises(SystemExit) as stop:
        command(evaluate, line.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert BAD[line] in error
    assert error.count("\n") == 1
    assert not Path("lightning_logs").exists()


def test_all_networks_failing_is_a_failure(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--folds", "2", "--optimizer", "SGD", "--optimizer.lr", "1e30", "--schedule", "null")
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error == "error: none of 2 networks stayed finite; give a lower --optimizer.lr\n"
    assert list(Path("lightning_logs").iterdir()) == []


def test_the_config_is_plain_yaml():
    run_dir, _ = run("--folds", "2")
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert config["network"] == describe("network", partial(MLP, hidden=[8]))
    assert config["sweep"] is None


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--sweep.optimizer.lr", "[0.01, 0.05]", "--inner_folds", "2"),
        ("--compare", "a.yaml", "b.yaml"),
        ("--compare", "a.yaml", "diverges.yaml"),
    ],
)
def test_a_result_is_read_from_its_json(flags):
    Path("a.yaml").write_text("network: {class: MLP, hidden: [8]}\n")
    Path("b.yaml").write_text("network: {class: MLP, hidden: [4]}\n")
    Path("diverges.yaml").write_text("optimizer: {class: SGD, lr: 1.e+30}\nschedule: null\n")
    _, content = run("--folds", "2", *flags, given=SHORT)
    result = EvaluationResult.from_json(content)
    assert result.to_json() == content
    assert list(result.to_json()) == list(content)
    assert len(result.candidates) == len(content["settings"])


def test_a_committed_result_is_still_read():
    content = json.loads((ROOT / "bench" / "results" / "evaluate.json").read_text())
    again = EvaluationResult.from_json(content).to_json()
    assert {key: again[key] for key in content} == content


def test_a_sweep_chooses_by_the_metric(capsys):
    sweep = ("--sweep.optimizer.lr", "[1e-5, 0.05]", "--network", "Linear", "--folds", "3")
    _, result = run(*sweep, "--metric", "balanced_accuracy", given=SHORT)
    assert result["metric"] == "balanced_accuracy"
    rows = {row["setting"]: row["balanced_accuracy/mean"] for row in result["settings"]}
    assert result["chosen"] == max(rows, key=rows.get)
    shown = capsys.readouterr().out
    assert re.search(r"^balanced accuracy .*nested: what to expect\n  optimistic ", shown, re.M)
    assert re.search(r"^candidate .* balanced accuracy   chosen in folds$", shown, re.M)
    assert "--metric balanced_accuracy" in result["train"]


def test_candidates_are_all_combinations():
    components = {
        "network": {"class": "MLP", "hidden": [8]},
        "loss": {"class": "CrossEntropyLoss"},
        "optimizer": {"class": "SGD", "lr": 0.1},
        "schedule": None,
    }
    sweep = {"optimizer.lr": [0.1, 0.2], "network.hidden": [[4], [8]]}
    candidates = make_candidates(components, sweep, None)
    assert list(candidates) == [
        "optimizer.lr 0.1, network.hidden [4]",
        "optimizer.lr 0.1, network.hidden [8]",
        "optimizer.lr 0.2, network.hidden [4]",
        "optimizer.lr 0.2, network.hidden [8]",
    ]
    assert candidates["optimizer.lr 0.2, network.hidden [4]"] == components | {
        "network": {"class": "MLP", "hidden": [4]},
        "optimizer": {"class": "SGD", "lr": 0.2},
    }
    assert make_candidates(components, None, None) == {"default": components}


def test_a_nested_selection_looks_at_inner_folds_only():
    """On the inner folds candidate 1 is right, on the outer ones candidate 0."""
    targets = np.arange(12) % 2
    folds = cross_validation(Iris(), targets, folds=2, repeats=1, inner_folds=2)
    outcomes = {}
    for candidate in (0, 1):
        for i, fold in enumerate(folds):
            correct = np.eye(2)[targets[fold.indices["test"]]]
            is_right = (candidate == 1) == bool(fold.inner)
            probabilities = correct if is_right else 1 - correct
            outcomes[Member(candidate, i, 0)] = Outcome(probabilities, failed_in=0)
    evaluation = Evaluation(targets, folds, outcomes, num_candidates=2, metric="accuracy")
    assert evaluation.nested_selection() == [1, 1]
    assert evaluation.final_candidate() == 0
    assert evaluation.estimate(evaluation.nested_selection()).accuracy.mean == 0
    assert evaluation.estimate(evaluation.same_candidate(0)).accuracy.mean == 1


def test_a_candidate_that_failed_is_chosen_last():
    targets = np.arange(8) % 2
    folds = cross_validation(Iris(), targets, folds=2, repeats=1)
    outcomes = {}
    for i, fold in enumerate(folds):
        correct = np.eye(2)[targets[fold.indices["test"]]]
        outcomes[Member(0, i, 0)] = Outcome(correct, failed_in=i)  # fails in the second fold
        outcomes[Member(1, i, 0)] = Outcome(1 - correct, failed_in=0)
    evaluation = Evaluation(targets, folds, outcomes, num_candidates=2, metric="log_loss")
    assert evaluation.failures == [Member(0, 1, 0)]
    assert len(evaluation.predictions(evaluation.same_candidate(0))) == 1
    assert evaluation.final_candidate() == 1


def test_each_metric_chooses_by_its_own_lights():
    """Candidate 0 is right but unsure, candidate 1 is sure and wrong about one row of a fold."""
    targets = np.arange(12) % 2
    folds = cross_validation(Iris(), targets, folds=3, repeats=1)
    outcomes = {}
    for i, fold in enumerate(folds):
        one_hot = np.eye(2)[targets[fold.indices["test"]]]
        unsure = 0.5 + 0.01 * (one_hot - 0.5)
        sure = 0.5 + 0.9 * (one_hot - 0.5)
        sure[0] = 0.5 - 0.01 * (one_hot[0] - 0.5)
        outcomes[Member(0, i, 0)] = Outcome(unsure, failed_in=0)
        outcomes[Member(1, i, 0)] = Outcome(sure, failed_in=0)
    chosen = {
        metric: Evaluation(targets, folds, outcomes, 2, metric).final_candidate()
        for metric in METRICS
    }
    assert chosen == {
        "accuracy": 0,
        "balanced_accuracy": 0,
        "macro_f1": 0,
        "auroc": 0,
        "log_loss": 1,
        "brier": 1,
        "calibration_error": 1,
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("batch_size", ["null", "16"])
def test_a_gpu_finds_what_a_cpu_finds(batch_size):
    line = ["--folds", "5", "--repeats", "2", "--data.batch_size", batch_size]
    for device in (["--accelerator", "gpu", "--devices", "1"], ["--accelerator", "cpu"]):
        command(evaluate, [*line, *device])
    gpu = json.loads(Path("lightning_logs/version_0/result.json").read_text())
    cpu = json.loads(Path("lightning_logs/version_1/result.json").read_text())
    assert gpu["device"] == torch.cuda.get_device_name()
    assert gpu["accuracy/mean"] == pytest.approx(cpu["accuracy/mean"], abs=0.01)
    assert gpu["log_loss/mean"] == pytest.approx(cpu["log_loss/mean"], rel=0.05)
