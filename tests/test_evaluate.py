"""evaluate.py as a user meets it: the screen, the run's folder, TensorBoard's reading of it, wrong input."""

import json
import math
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
from functools import partial
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
from data.folds import cross_validation, standardized
from data.iris import Iris
from evaluate import evaluate, train_command
from model.classifier import Classifier
from model.networks import MLP
from model.population import Population
from tests.helpers import ROOT, python
from train import train

SHORT = ("--accelerator", "cpu", "--repeats", "1", "--max_epochs", "5")
FAST = (*SHORT, "--network.hidden", "[8]")


def run(*arguments, given=FAST):
    """`python evaluate.py …` in this process; its folder and the result.json that it wrote."""
    command(evaluate, [*given, *arguments])
    folder = max(Path("lightning_logs").iterdir(), key=os.path.getmtime)
    return folder, json.loads((folder / "result.json").read_text())


def events(folder):
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def comparable(result):
    return {key: value for key, value in result.items() if key != "fit_seconds"}


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The folder of `python evaluate.py` without a flag, and what it printed."""
    folder = tmp_path_factory.mktemp("evaluate")
    done = python("evaluate.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "lightning_logs" / "version_0", done


def test_the_screen_has_the_answer_first(default):
    folder, done = default
    result = json.loads((folder / "result.json").read_text())
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["mean", "95", "%", "interval"]
    for line, name in zip(
        lines[1:], ("accuracy", "log_loss", "brier", "calibration_error"), strict=False
    ):
        mean, low, high = (result[f"{name}/{key}"] for key in ("mean", "low", "high"))
        assert line.endswith(f"{mean:8.4f}   {low:.3f} to {high:.3f}")
        assert low < mean < high or mean == 1
    assert lines[-4].startswith("100 networks, 10 folds x 10 repeats, in ")
    assert lines[-2].split() == ["run", "lightning_logs/version_0"]
    assert (result["members"], result["failed"], len(result["settings"])) == (100, 0, 1)
    assert np.sum(result["confusion"]) == 1500
    for row in result["often_wrong"]:
        assert (
            f"row {row['row']}: {row['class']}, taken for {row['taken_for']} by {row['wrong']} of 10"
            in done.stdout
        )


def test_iris_is_estimated_as_well_as_promised(default):
    result = json.loads((default[0] / "result.json").read_text())
    assert result["accuracy/mean"] >= 0.978


def test_tensorboard_has_curves_bands_settings_and_the_table(default):
    folder, _ = default
    result = json.loads((folder / "result.json").read_text())
    read = events(folder)
    points = {}
    for tag in ("train/loss", "train/accuracy"):
        for name in ("mean", "low", "high"):
            group = tag if name == "mean" else f"values/quantiles/{tag}"
            curve = read.Scalars(f"{group}/{name}")
            points[tag, name] = [event.value for event in curve]
            assert [event.step for event in curve] == list(range(1, 101))
        assert np.all(np.array(points[tag, "low"]) <= np.array(points[tag, "high"]))
    assert points["train/loss", "mean"][-1] < points["train/loss", "mean"][0]
    layout = Layout.FromString(
        read.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    )
    charts = {
        chart.title: list(chart.margin.series[0].ListFields()) for chart in layout.category[0].chart
    }
    assert set(charts) == {"loss", "accuracy"}
    assert [value for _, value in charts["loss"]] == [
        "train/loss/mean",
        "values/quantiles/train/loss/low",
        "values/quantiles/train/loss/high",
    ]
    (text,) = read.Tensors("result/text_summary")
    assert "accuracy" in text.tensor_proto.string_val[0].decode()
    content = {
        tag: HParamsPluginData.FromString(data.plugin_data.content)
        for tag, data in read.summary_metadata.items()
        if tag.startswith("_hparams_")
    }
    shown = content["_hparams_/session_start_info"].session_start_info.hparams
    assert shown["optimizer.lr"].number_value == 0.05
    assert shown["Test accuracy"].number_value == pytest.approx(result["accuracy/mean"])
    (event,) = read.Scalars("values/final/accuracy/mean")
    assert event.value == pytest.approx(result["accuracy/mean"])


def test_every_held_out_row_is_predicted_by_networks_that_never_saw_it():
    """The whole estimate again, one network at a time."""
    _, result = run("--folds", "5", "--seed", "3")
    data = Iris()
    raw = data.read()
    splits = cross_validation(data, raw.targets, 5, 1)
    accuracies, predicted = [], np.zeros(150, dtype=int)
    for number, (split, parts) in enumerate(zip(splits, standardized(raw, splits)[0], strict=True)):
        torch.manual_seed(3 + number)
        classifier = Classifier(4, 3, network=partial(MLP, hidden=[8]))
        optimizer, schedule = classifier.optimize(classifier.parameters(), 5)
        for _ in range(5):
            optimizer.zero_grad()
            classifier.loss(classifier(parts["train"][0]), parts["train"][1]).backward()
            optimizer.step()
            schedule.step()
        predicted[split.indices["test"]] = classifier(parts["test"][0]).argmax(1)
        accuracies.append(
            accuracy_score(raw.targets[split.indices["test"]], predicted[split.indices["test"]])
        )
    assert result["accuracy/mean"] == pytest.approx(np.mean(accuracies))
    assert result["confusion"] == confusion_matrix(raw.targets, predicted).tolist()


def test_a_run_is_replayed_from_its_config():
    folder, first = run(
        "--folds", "3", "--sweep.optimizer.lr", "[0.01, 5e-2]", "--seeds", "2", "--inner_folds", "2"
    )
    _, second = run("--config", str(folder / "config.yaml"))
    assert comparable(first) == comparable(second)
    assert [row["setting"] for row in first["settings"]] == [
        "optimizer.lr 0.01",
        "optimizer.lr 0.05",
    ]
    assert first["members"] == 3 * (1 + 2) * 2 * 2


def test_a_sweep_is_nested_and_ends_in_a_command_for_train(capsys):
    sweep = ("--sweep.optimizer.lr", "[1e-5, 0.05]", "--sweep.network", "[MLP, Linear]")
    folder, result = run("--folds", "3", *sweep, given=SHORT)
    assert result["members"] == 3 * (1 + 5) * 4
    assert sum(row["chosen"] for row in result["settings"]) == 3
    assert result["chosen"].startswith("optimizer.lr 0.05")
    best = max(row["accuracy/mean"] for row in result["settings"])
    assert result["optimistic"]["accuracy/mean"] == best
    shown = capsys.readouterr().out
    assert "nested: what to expect" in shown
    assert result["train"] in shown
    _, script, *flags = shlex.split(result["train"])
    assert script == "train.py"
    trained = to_config(parse(train, flags))
    assert trained["optimizer"]["lr"] == 0.05
    assert trained["max_epochs"] == 5
    for i, row in enumerate(result["settings"], 1):
        read = events(folder / f"setting_{i}")
        assert len(read.Scalars("train/loss/mean")) == 5
        (event,) = read.Scalars("values/final/accuracy/mean")
        assert event.value == pytest.approx(row["accuracy/mean"])


def test_the_printed_command_trains_what_was_chosen():
    for flags in (
        [
            "--optimizer",
            "SGD",
            "--optimizer.lr",
            "0.1",
            "--schedule",
            "null",
            "--data.batch_size",
            "16",
        ],
        ["--optimizer", "AdamW", "--loss", "MSELoss", "--network", "Linear", "--patience", "3"],
        [
            "--network.hidden",
            "[4,4]",
            "--network.activation",
            "Tanh",
            "--schedule",
            "CosineAnnealingLR",
        ],
        [],
    ):
        config = to_config(parse(evaluate, flags))
        again = to_config(parse(train, shlex.split(train_command(config))[2:]))
        learned = ("data", "network", "loss", "optimizer", "schedule", "max_epochs", "patience")
        assert {name: again[name] for name in learned} == {name: config[name] for name in learned}


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
    assert comparable(
        json.loads(Path("lightning_logs/version_1/result.json").read_text())
    ) == comparable(result)
    with pytest.raises(SystemExit):
        command(evaluate, ["--compare", "a.yaml", "c.yaml"])
    assert "max_epochs is 20 in a.yaml and 30 in c.yaml" in capsys.readouterr().err


def test_a_saved_population_predicts_like_a_classifier():
    folder, result = run("--folds", "4", "--save", "--max_epochs", "60")
    path = folder / "checkpoints" / "population.ckpt"
    ensemble = Population.load_from_checkpoint(path, weights_only=True).eval()
    content = torch.load(path, weights_only=True)
    raw = load_iris()
    state = content["Iris"]
    features = Encoder.of_state(state)(torch.from_numpy(raw.data))
    logits = ensemble(features)
    assert logits.shape == (150, 3)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(150))
    spread = ensemble.spread(features)
    assert spread.shape == (150, 3)
    assert (spread >= 0).all()
    assert spread.max() > 0.01
    assert list(path.parent.iterdir()) == [path]
    # Each member alone, on the rows that were held out from it: the very estimate.
    splits = cross_validation(Iris(), raw.target, 4, 1)
    each = ensemble.probabilities(features)
    accuracies = [
        (
            each[i, split.indices["test"]].argmax(1).numpy() == raw.target[split.indices["test"]]
        ).mean()
        for i, split in enumerate(splits)
    ]
    assert np.mean(accuracies) == pytest.approx(result["accuracy/mean"])


def test_two_processes_find_what_one_finds(tmp_path):
    line = ("--folds", "5", "--sweep.optimizer.lr", "[0.01, 0.05]", "--inner_folds", "2", "--save")
    done = python("evaluate.py", *FAST, *line, "--devices", "2", "--strategy", "ddp", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    both = json.loads(Path("lightning_logs/version_0/result.json").read_text())
    folder, alone = run(*line)
    assert sorted(path.name for path in Path("lightning_logs").iterdir()) == [
        "version_0",
        "version_1",
    ]
    for key in ("accuracy/mean", "log_loss/mean", "log_loss/low", "members", "confusion", "chosen"):
        assert (
            both[key] == pytest.approx(alone[key], rel=1e-5)
            if "/" in key
            else both[key] == alone[key]
        )
    states = [torch.load(f"{path}/checkpoints/population.ckpt", weights_only=True)["state_dict"] for path in
              ("lightning_logs/version_0", folder)]  # fmt: skip
    assert states[0].keys() == states[1].keys()
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-5) for name in states[0])
    for i in (1, 2):
        curves = [
            [
                event.value
                for event in events(f"{path}/setting_{i}").Scalars(
                    "values/quantiles/train/loss/high"
                )
            ]
            for path in ("lightning_logs/version_0", folder)
        ]
        assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_networks_that_fail_are_named_and_counted(capsys):
    _, result = run(
        "--folds", "3", "--inner_folds", "2", "--optimizer", "SGD", "--schedule", "null", "--sweep.optimizer.lr",
        "[0.1, 1e30]",
    )  # fmt: skip
    assert result["failed"] == 3 * (1 + 2)
    assert [row["failed"] for row in result["settings"]] == [0, 9]
    assert (
        result["failures"][1]
        == "fold 1, repeat 1, seed 1, setting optimizer.lr 1e+30, inner fold 1"
    )
    assert result["chosen"] == "optimizer.lr 0.1"
    assert not any(math.isnan(value) for value in result.values() if isinstance(value, float))
    shown = capsys.readouterr().out
    assert "9 of 18 networks failed" in shown
    assert "all networks failed" in shown


def test_a_terminal_gets_a_bar(tmp_path):
    ours, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    line = [sys.executable, str(ROOT / "evaluate.py"), "--repeats", "2"]
    with subprocess.Popen(line, cwd=tmp_path, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 1000)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert process.returncode == 0
    assert re.search(r"fit:.*\d+/100 .*step.*train/loss=\d.*epoch=\d", shown.decode())


def test_ctrl_c_ends_in_one_line_and_leaves_nothing(tmp_path):
    line = [sys.executable, str(ROOT / "evaluate.py"), "--max_epochs", "100000"]
    process = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while time.monotonic() < until and not list(tmp_path.glob("lightning_logs/version_0/events*")):
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"error: stopped in epoch \d+; nothing was kept\n", error), error
    assert list((tmp_path / "lightning_logs").iterdir()) == []


BAD = {
    "--folds 51": "folds is 51; give from 2 to 50, the rows of the smallest class",
    "--folds 1": "folds is 1; give from 2",
    "--repeats 0": "repeats is 0; give 1 or more",
    "--seeds -1": "seeds is -1; give 1 or more",
    "--sweep.optimizer.lrr [1]": "setting 'optimizer.lrr' is not known; nearest: optimizer.lr",
    "--sweep.optimizr [SGD]": "setting 'optimizr' is not known; nearest: optimizer",
    "--sweep.data.batch_size [1]": "the sweep has 'data.batch_size'; give settings of network",
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
    "--precision 16-mixed": "precision is 16-mixed, whose loss scale all networks would share; give bf16-mixed",
    "--folds 2 --repeats 1 --devices 3 --accelerator cpu --strategy ddp": "2 networks are too few for 3 devices",
    "--max_epochs 0": "max_epochs is 0; give 1 or more",
    "--accelerator gpu": "accelerator is gpu, but PyTorch finds no such GPU",
    "--trainer.gradient_clip_val 1": "setting 'trainer.gradient_clip_val' is not known",
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
    assert (
        capsys.readouterr().err
        == "error: none of 2 networks stayed finite; give a lower --optimizer.lr\n"
    )
    assert list(Path("lightning_logs").iterdir()) == []


def test_the_config_is_plain_yaml():
    folder, _ = run("--folds", "2")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["network"] == describe("network", partial(MLP, hidden=[8]))
    assert config["sweep"] is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("batch_size", ["null", "16"])
def test_a_gpu_finds_what_a_cpu_finds(batch_size):
    line = ["--folds", "5", "--repeats", "2", "--data.batch_size", batch_size]
    for device in (["--accelerator", "gpu", "--devices", "1"], ["--accelerator", "cpu"]):
        command(evaluate, [*line, *device])
    gpu, cpu = (
        json.loads(Path(f"lightning_logs/version_{i}/result.json").read_text()) for i in (0, 1)
    )
    assert gpu["device"] == torch.cuda.get_device_name()
    assert gpu["accuracy/mean"] == pytest.approx(cpu["accuracy/mean"], abs=0.01)
    assert gpu["log_loss/mean"] == pytest.approx(cpu["log_loss/mean"], rel=0.05)
