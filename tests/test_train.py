"""train.py as a user meets it: the screen, the run's folder, TensorBoard, interrupted runs."""

import hashlib
import json
import re
import signal
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import binomtest
from sklearn.metrics import recall_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from cli.command import command
from data.iris import Iris
from evaluation.report import TITLES
from inference.predictor import load
from model import scores
from tests.helpers import ROOT, Fork, age, in_terminal, run, script, weights
from train import train
from training.checkpoints import LastCheckpoint
from training.event_files import new_version
from training.result import TrainResult

METRICS = [f"{part}/{name}" for part in ("train", "test") for name in ("loss", *scores.METRICS)]


def events(folder):
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def comparable(result):
    return {key: value for key, value in result.items() if key != "fit_seconds"}


def test_the_screen_is_a_table_and_two_lines(default_run):
    folder, done = default_run
    result = json.loads((folder / "result.json").read_text())
    assert done.stderr == ""  # no warning, no tip, and no bar where there is no terminal
    lines = done.stdout.splitlines()
    assert len(lines) == 14
    assert lines[0].split() == ["train", "test"]
    assert lines[1].split() == ["rows", "120", "30"]
    by_title = {line[:20].strip(): line[20:].split() for line in lines[2:11]}
    assert list(by_title)[:3] == ["accuracy", "lowest recall", "balanced accuracy"]
    assert list(by_title)[-1] == "loss"
    for name, title in (TITLES | {"loss": "loss"}).items():
        digits = 4 if name in ("log_loss", "brier", "calibration_error", "loss") else 3
        numbers = [f"{result[f'{part}/{name}']:.{digits}f}" for part in ("train", "test")]
        assert by_title[title][:2] == numbers
    right = round(result["test/accuracy"] * 30)
    low, high = binomtest(right, 30).proportion_ci(method="wilson")
    assert lines[2].endswith(f"95 % interval {low:.3f} to {high:.3f}")
    assert max(map(len, lines)) <= 80
    assert lines[12].split() == ["run", "lightning_logs/version_0"]
    assert lines[13].split() == ["curves", "tensorboard", "--logdir", "lightning_logs"]


def test_the_scores_are_those_of_the_checkpoints_predictions(default_run):
    folder, _ = default_run
    result = json.loads((folder / "result.json").read_text())
    data = Iris()
    data.setup()
    table = data.load()
    predictor = load(str(folder / "checkpoints" / "best.ckpt"))
    for part, rows in data.indices.items():
        probabilities = predictor.predict_proba(table.features[rows])
        targets = table.targets[rows]
        tensors = torch.from_numpy(probabilities).double(), torch.from_numpy(targets)
        for metric in scores.METRICS:
            expected = scores.score(metric, *tensors).item()
            assert result[f"{part}/{metric}"] == pytest.approx(expected, abs=1e-5), metric
        recalls = recall_score(targets, probabilities.argmax(1), average=None)
        shown = [result[f"{part}/recall/{name}"] for name in data.class_names]
        assert shown == pytest.approx(recalls)


def test_a_result_is_read_from_its_json(default_run):
    folder, done = default_run
    content = json.loads((folder / "result.json").read_text())
    result = TrainResult.from_json(content)
    assert result.to_json() == content
    assert done.stdout.startswith("\n".join(result.lines()))


def test_a_committed_result_is_still_read():
    path = ROOT / "lightning_logs" / "reference" / "result.json"
    content = json.loads(path.read_text())
    assert TrainResult.from_json(content).to_json() == content


def test_a_terminal_gets_a_bar():
    done, shown = in_terminal(script, train, ["--accelerator", "cpu"])
    assert done.returncode == 0, shown
    assert re.search(r"fit:.*\d+/100 .*step.*train/loss=\d.*epoch=\d", shown)
    assert "\n" not in shown.strip()  # one line, which is gone in the end


def test_the_folder_holds_what_it_should(default_run):
    folder, _ = default_run
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names[:2] == [
        "00100/Embedding/metadata.tsv",
        "00100/Embedding/tensors.tsv",
    ]  # the Projector's
    assert names[2:4] == ["checkpoints/best.ckpt", "checkpoints/last.ckpt"]
    assert names[4] == "config.yaml"
    assert names[5].startswith("events.out.tfevents")
    assert names[6].endswith(".after_fit")
    assert names[7:] == ["projector_config.pbtxt", "result.json"]
    result = json.loads((folder / "result.json").read_text())
    assert set(METRICS) < set(result)
    assert result["epochs"] == 100
    assert result["num_parameters"] == 4 * 128 + 128 + 128 * 3 + 3
    assert result["seed"] == 0
    assert result["device"]
    assert result["versions"]["torch"] == torch.__version__
    assert 0 < result["fit_seconds"] < 100


def test_tensorboard_reads_every_tag(default_run):
    folder, _ = default_run
    result = json.loads((folder / "result.json").read_text())
    read = events(folder)
    for tag in ("train/loss", "train/accuracy", "values/lr"):
        assert [event.step for event in read.Scalars(tag)] == list(range(1, 101))
    for name in METRICS:
        (event,) = read.Scalars(f"values/final/{name}")
        assert event.value == pytest.approx(result[name])
    assert max(event.value for event in read.Scalars("values/lr")) == pytest.approx(0.05, rel=1e-3)
    nodes = read.Graph().SerializeToString().decode("latin1").split("/")
    assert {"Linear", "SiLU"} <= {re.sub(r"\W.*", "", node) for node in nodes}


def test_the_hparams_tab_has_settings_and_results(default_run):
    folder, _ = default_run
    result = json.loads((folder / "result.json").read_text())
    content = {
        tag: HParamsPluginData.FromString(data)
        for tag, data in events(folder).summary_metadata.items()
        if tag.startswith("_hparams_")
        for data in [data.plugin_data.content]
    }
    assert "_hparams_/experiment" not in content  # TensorBoard collects the columns of all runs
    row = content["_hparams_/session_start_info"].session_start_info.hparams
    assert row["Test accuracy"].number_value == pytest.approx(result["test/accuracy"])
    assert row["Test log-loss"].number_value == pytest.approx(result["test/log_loss"])
    assert row["network.hidden"].string_value == "[128]"
    assert row["seed"].number_value == 0
    assert len(row) == 4


def test_a_run_is_replayed_from_its_config(default_run):
    folder, _ = default_run
    assert comparable(run("--config", str(folder / "config.yaml"))) == comparable(
        json.loads((folder / "result.json").read_text())
    )


def test_the_same_seed_gives_the_same_bits_in_another_process(default_run):
    folder, _ = default_run
    run()  # this process
    run("--seed", "1")
    ours, other = (weights(f"lightning_logs/version_{i}/checkpoints/last.ckpt") for i in (0, 1))
    theirs = weights(folder / "checkpoints" / "last.ckpt")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not any(torch.equal(other[name], theirs[name]) for name in theirs)


def test_the_order_of_rows_is_the_seeds():
    for _ in range(2):
        run("--data.batch_size", "16", "--max_epochs", "3")
    first, second = (weights(f"lightning_logs/version_{i}/checkpoints/last.ckpt") for i in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_test_rows_change_nothing_before_the_test(monkeypatch):
    run("--data.batch_size", "16", "--max_epochs", "5")
    iris, load = Iris(), Iris.load
    iris.setup()

    def spoiled(self):
        table = load(self)
        table.features[iris.indices["test"]] *= 1000
        return table

    monkeypatch.setattr(Iris, "load", spoiled)
    run("--data.batch_size", "16", "--max_epochs", "5")
    for name in ("best", "last"):
        before, after = (
            weights(f"lightning_logs/version_{i}/checkpoints/{name}.ckpt") for i in (0, 1)
        )
        assert all(torch.equal(before[key], after[key]) for key in before)
    results = [
        json.loads(Path(f"lightning_logs/version_{i}/result.json").read_text()) for i in (0, 1)
    ]
    assert results[0]["test/loss"] != results[1]["test/loss"]


@pytest.mark.parametrize("metric", ["log_loss", "macro_f1"])
def test_validation_rows_choose_the_epoch(metric, capsys):
    result = run("--data.val_fraction", "0.1", "--metric", metric)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["train", "validation", "test"]
    assert lines[1] == ["rows", "105", "15", "30"]
    curve = events("lightning_logs/version_0").Scalars(f"val/{metric}")
    values = {event.step: event.value for event in curve}
    best = max if metric == "macro_f1" else min
    assert best(values, key=values.get) == result["best_epoch"]
    assert values[result["best_epoch"]] == pytest.approx(result[f"val/{metric}"], rel=1e-5)


def test_without_validation_the_last_epoch_is_kept():
    result = run("--max_epochs", "7")
    assert result["best_epoch"] == result["epochs"] == 7
    assert "val/loss" not in result
    best, last = (
        weights(f"lightning_logs/version_0/checkpoints/{name}.ckpt") for name in ("best", "last")
    )
    assert all(torch.equal(best[key], last[key]) for key in best)


def test_patience_stops_early():
    result = run(
        "--patience",
        "3",
        "--optimizer",
        "SGD",
        "--optimizer.lr",
        "1e-9",
        "--network.dropout",
        "0.5",
    )
    assert result["epochs"] < 100


def test_patience_goes_by_a_named_metric():
    result = run("--patience", "5", "--metric", "auroc", "--optimizer.lr", "1e-9")
    assert result["epochs"] == 6
    assert len(events("lightning_logs/version_0").Scalars("train/auroc")) == 6


def test_an_unknown_metric_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--metric", "auc")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: --metric 'auc' is not known; nearest: auroc\n"
    with pytest.raises(ValueError, match="metric 'auc' is not known; nearest: auroc"):
        train(metric="auc", accelerator="cpu")
    assert not Path("lightning_logs").exists()


class OneClass(Iris):
    """Iris with a validation and a test split of a single class."""

    def split(self, targets):
        rows = np.arange(len(targets))
        return {"train": rows[::2], "val": rows[1:50:2], "test": rows[51:100:2]}


def test_a_split_of_one_class_has_no_auroc(capsys):
    result = train(
        partial(OneClass, val_fraction=0.1), max_epochs=2, accelerator="cpu", pictures="none"
    )
    test = result.splits["test"]
    assert test.auroc is None
    assert test.recall == {"versicolor": pytest.approx(test.accuracy)}
    assert re.search(r"^AUROC +\d\.\d{3} +- +-$", capsys.readouterr().out, re.MULTILINE)
    content = json.loads(Path("lightning_logs/version_0/result.json").read_text())
    assert "test/auroc" not in content
    assert TrainResult.from_json(content).to_json() == content


def test_a_metric_that_one_class_leaves_undefined_is_one_line():
    message = "metric is auroc, and the rows that it goes by are all of one class"
    with pytest.raises(ValueError, match=message):
        train(partial(OneClass, val_fraction=0.1), metric="auroc", accelerator="cpu")
    assert not Path("lightning_logs").exists()


def test_ones_own_network_costs_one_file(monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())
    Path("own.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_features, num_classes, width: int = 8):\n"
        "        super().__init__()\n"
        "        first, last = nn.Linear(num_features, width), nn.Linear(width, num_classes)\n"
        "        self.body = nn.Sequential(first, nn.Tanh(), last)\n"
        "    def forward(self, features):\n"
        "        return self.body(features)\n"
    )
    result = run("--network", "own.Net", "--network.width", "5", "--max_epochs", "30")
    assert result["num_parameters"] == 4 * 5 + 5 + 5 * 3 + 3
    assert yaml.safe_load(Path("lightning_logs/version_0/config.yaml").read_text())["network"] == {
        "class": "own.Net", "width": 5,
    }  # fmt: skip


def test_a_loss_that_is_not_finite_ends_the_run(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--optimizer", "SGD", "--optimizer.lr", "1e18", "--schedule", "null")
    error = capsys.readouterr().err
    assert stop.value.code == 1
    assert re.fullmatch(
        r"error: .* is (nan|inf) in epoch \d+ at learning rate 1e\+18; "
        r"give a lower --optimizer.lr\n",
        error,
    )
    epoch = int(re.search(r"epoch (\d+)", error)[1])
    if epoch > 1:
        last = torch.load("lightning_logs/version_0/checkpoints/last.ckpt", weights_only=True)
        assert last["epoch"] < epoch - 1 or last["epoch"] == 0
        assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())


def test_a_run_that_never_finished_an_epoch_leaves_nothing(capsys):
    with pytest.raises(SystemExit) as stop:
        run(
            "--optimizer",
            "SGD",
            "--optimizer.lr",
            "1e38",
            "--schedule",
            "null",
            "--data.batch_size",
            "16",
        )
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert list(Path("lightning_logs").iterdir()) == []


def test_two_runs_that_start_together_get_two_folders():
    assert [new_version(Path("logs")) for _ in range(3)] == ["version_0", "version_1", "version_2"]


EPOCHS = 100
LONG = ("--max_epochs", str(EPOCHS), "--data.batch_size", "4", "--data.val_fraction", "0.1")
LONG += ("--pictures", "none")


def train_saving(line):
    LastCheckpoint.seconds = 0.1
    script(train, line)


@contextmanager
def long_run(folder):
    """A long run in another process that has written its second checkpoint; and that checkpoint."""
    with Fork(train_saving, (LONG,)) as process:
        last = folder / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
        until = time.monotonic() + 100
        written = None
        while True:
            assert time.monotonic() < until, "no second checkpoint in time"
            assert process.is_running(), process.end().stderr
            changed = last.stat().st_mtime_ns if last.exists() else None
            if written and changed != written:
                break
            written = changed
            time.sleep(0.02)
        yield process, last


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    with long_run(tmp_path) as (process, last):
        process.send_signal(signal.SIGKILL)
        process.end()
    assert 0 < torch.load(last, weights_only=True)["epoch"] < EPOCHS - 1
    age(last.parents[1])
    resumed = run("--resume", str(last.relative_to(tmp_path)))
    whole = run(*LONG)
    assert comparable(resumed) == comparable(whole)
    first, second = (weights(f"lightning_logs/version_{i}/checkpoints/last.ckpt") for i in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    curves = [
        [event.step for event in events(f"lightning_logs/version_{i}").Scalars("val/loss")]
        for i in (0, 1)
    ]
    assert curves[0] == curves[1]  # one point for each epoch, also for those trained twice


def test_metrics_of_16_bits_count_whole_rows():
    result = run("--data", "Images", "--precision", "bf16-true", "--max_epochs", "10")
    for split, rows in result["rows"].items():
        correct = result[f"{split}/accuracy"] * rows
        assert correct == pytest.approx(round(correct), abs=1e-3)


def test_every_last_checkpoint_knows_the_best_epoch_so_far(monkeypatch):
    saved = []

    def spy(self, trainer):
        state = trainer._checkpoint_connector.dump_checkpoint()["callbacks"]
        saved.append(
            next(value for key, value in state.items() if key.startswith("ModelCheckpoint"))
        )

    monkeypatch.setattr(LastCheckpoint, "seconds", 0.0)
    save = LastCheckpoint.save
    monkeypatch.setattr(
        LastCheckpoint,
        "save",
        lambda self, trainer, **options: (spy(self, trainer), save(self, trainer, **options)),
    )
    run("--max_epochs", "20", "--data.batch_size", "16", "--data.val_fraction", "0.1")
    losses = [event.value for event in events("lightning_logs/version_0").Scalars("val/log_loss")]
    assert [state["best_model_score"].item() for state in saved[:20]] == pytest.approx(
        [min(losses[: epoch + 1]) for epoch in range(20)]
    )


def test_ctrl_c_says_how_to_go_on(tmp_path):
    with long_run(tmp_path) as (process, last):
        process.send_signal(signal.SIGINT)
        done = process.end()
    assert done.returncode == 130
    found = re.fullmatch(
        r"error: stopped in epoch \d+; resume with: python \S+train.py (.*)\n", done.stderr
    )
    assert found, done.stderr
    digest = hashlib.sha256(last.read_bytes()).hexdigest()
    command(train, [*found[1].split(), "--accelerator", "cpu"])
    assert hashlib.sha256(last.read_bytes()).hexdigest() != digest
    assert json.loads(Path("lightning_logs/version_0/result.json").read_text())["epochs"] == EPOCHS


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "fused", [[], ["--optimizer", "AdamW", "--optimizer.fused", "true", "--optimizer.lr", "0.05"]]
)
def test_gradients_are_clipped_in_every_precision(precision, fused):
    line = ["--precision", precision, "--max_epochs", "20", *fused]
    clipped = run(*line, "--trainer.gradient_clip_val", "0.01", "--optimizer.eps", "0.1")
    whole = run(*line, "--trainer.gradient_clip_val", "1e6", "--optimizer.eps", "0.1")
    free = run(*line, "--optimizer.eps", "0.1")
    assert clipped["train/loss"] > 1.5 * whole["train/loss"]
    assert whole["train/loss"] == pytest.approx(free["train/loss"], rel=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed", "16-mixed"])
def test_a_gpu_learns_what_a_cpu_learns(precision):
    line = ["--precision", precision, "--max_epochs", "100"]
    command(train, [*line, "--accelerator", "gpu", "--devices", "1"])
    gpu = json.loads(Path("lightning_logs/version_0/result.json").read_text())
    cpu = run()
    assert gpu["device"] == torch.cuda.get_device_name()
    assert gpu["train/loss"] == pytest.approx(cpu["train/loss"], rel=0.05)
