"""evaluate.py killed and resumed: the same numbers; and what is refused. A result is never lost."""

import json
import os
import resource
import shlex
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cli.command import command
from cli.files import lock_folder
from data.checkpoint_file import read_file
from data.iris import Iris
from data.raw_table import RawTable
from evaluate import evaluate
from model.blocks import Blocks
from model.networks import MLP
from model.population import Population
from model.stack_fit import StackFit
from tests.helpers import ROOT, script, start_two, two_forks, weights
from training.checkpoints import LastCheckpoint
from training.event_files import has_text
from training.groups import GroupCheckpoint

FAST = "--accelerator cpu --folds 3 --repeats 1 --inner_folds 2 --max_epochs 8 --network.hidden [8]"
FAST = [*FAST.split(), "--baselines", "[]"]


class KilledError(Exception):
    pass


def run(*flags):
    """`python evaluate.py …`; its folder, and its result without what a clock says."""
    command(evaluate, [*FAST, *flags])
    return last_run()


def resume(run_dir, *flags):
    command(evaluate, ["--resume", str(run_dir), *flags])
    return last_run()


def last_run():
    run_dir = max(Path("lightning_logs").iterdir(), key=lambda path: int(path.name.split("_")[1]))
    result = json.loads((run_dir / "result.json").read_text())
    result.pop("fit_seconds")
    return run_dir, result


def killed(monkeypatch, fit, epoch, *flags):
    """A run whose checkpoints are of every epoch, ended in an epoch of its fit-th fit."""
    monkeypatch.setattr(LastCheckpoint, "seconds", -1.0)
    monkeypatch.setattr(GroupCheckpoint, "share", np.inf)
    monkeypatch.setattr(Blocks, "seconds", 0.0)  # a checkpoint is between blocks of epochs
    fits = []
    end = Population.on_train_epoch_end

    def stop(self):
        end(self)
        if self not in fits:
            fits.append(self)
        if len(fits) == fit and self.current_epoch == epoch:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Population, "on_train_epoch_end", stop)
        with pytest.raises(KilledError):
            command(evaluate, [*FAST, *flags])
    return max(Path("lightning_logs").iterdir(), key=lambda path: int(path.name.split("_")[1]))


def curves(run_dir):
    """The steps and values of every curve, by folder and tag, as TensorBoard shows them."""
    shown = {}
    for folder in [run_dir, *run_dir.glob("candidate_*")]:
        read = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        for tag in read.Tags()["scalars"]:
            events = [(event.step, event.value) for event in read.Scalars(tag)]
            shown[folder.name.removeprefix(run_dir.name), tag] = events
    return shown


PLAIN = "--repeats 2 --save"
SWEEP = "--sweep.optimizer.lr [0.01,0.05] --sweep.max_epochs [6,8] --save"
HALVED = (
    "--search 6 --sweep.optimizer.lr [0.001,0.003,0.01,0.02,0.05,0.1] --data.batch_size 64 "
    "--sweep.network.hidden [[4],[8]]"
)
SEARCH = "--search 8 --sweep.optimizer.lr [0.001,0.003,0.01,0.02,0.05] --sweep.max_epochs [7,8]"
COMPARED = "--compare a.yaml b.yaml"
PLATEAU = "--optimizer SGD --schedule ReduceLROnPlateau --data.batch_size 32 --patience 2"
WEIGHTED = "--data.class_weight balanced --data.val_fraction 0.2 --metric auroc --patience 3"
MEMBERS = "--members 2 --patience 3 --precision 64-true"


@pytest.mark.parametrize(
    "flags", [PLAIN, SWEEP, HALVED, SEARCH, COMPARED, PLATEAU, WEIGHTED, MEMBERS]
)
@pytest.mark.parametrize("epoch", [2, 5])
def test_a_killed_evaluation_ends_with_the_same_numbers(flags, epoch, monkeypatch):
    Path("a.yaml").write_text("loss: CrossEntropyLoss\n")
    Path("b.yaml").write_text("loss: MSELoss\n")
    expected_dir, expected = run(*flags.split())
    fits = 2 if "max_epochs" in flags else 1
    run_dir = killed(monkeypatch, fits, epoch, *flags.split())
    kept = {path.name for path in run_dir.glob("checkpoints/*")}
    assert kept == {f"group_{i + 1}.ckpt" for i in range(fits)}
    shutil.move(run_dir, "lightning_logs/version_7")
    again, result = resume("lightning_logs/version_7")
    assert again.name == "version_7"
    assert result == expected
    assert curves(again) == curves(expected_dir)
    saved = [path.name for path in again.glob("checkpoints/*")]
    assert saved == ["population.ckpt"] * ("--save" in flags)
    for name in saved:
        first, second = (weights(path / "checkpoints" / name) for path in (expected_dir, again))
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_tensorboard_has_the_columns_of_a_resumed_evaluation(monkeypatch):
    path = str(ROOT / "examples" / "flowers.csv")
    flags = ("--data", "Table", "--data.path", path, "--data.target", "species", "--members", "1")
    run_dir = killed(monkeypatch, 1, 2, *flags)
    resume(run_dir)
    assert has_text(run_dir, "columns")


def test_it_goes_on_with_the_stacks_of_the_checkpoint(monkeypatch):
    """On a GPU they depend on its free memory."""
    _, expected = run("--repeats", "2")
    with monkeypatch.context() as patch:
        patch.setattr("evaluation.plan.stack_bytes", lambda device: 1)
        run_dir = killed(monkeypatch, 1, 3, "--repeats", "2")
        content = read_file(str(run_dir / "checkpoints" / "group_1.ckpt"))
        assert len(content["stacks"]) == 6
    _, result = resume(run_dir)
    assert result["accuracy/mean"] == expected["accuracy/mean"]
    assert result["log_loss/mean"] == pytest.approx(expected["log_loss/mean"], rel=1e-4)


@pytest.mark.parametrize("flags", ["", "--patience 1 --data.val_fraction 0.2 --optimizer.lr 0.5"])
def test_a_fit_that_was_over_is_not_trained_again(flags, monkeypatch):
    expected_dir, expected = run(*flags.split())
    monkeypatch.setattr(LastCheckpoint, "seconds", -1.0)

    def killed_after_the_fit(*_):
        raise KilledError

    def must_not_train(*_):
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr("evaluate.evaluation_of", killed_after_the_fit)
        with pytest.raises(KilledError):
            run(*flags.split())
    with monkeypatch.context() as patch:
        patch.setattr(StackFit, "train", must_not_train)
        again, result = resume("lightning_logs/version_1")
    assert result == expected
    assert curves(again) == curves(expected_dir)


@pytest.mark.parametrize("moment", ["save_ensemble", "log_result"])
@pytest.mark.parametrize("seconds", [-1.0, 1e9])  # with and without a checkpoint of the fit
def test_what_is_missing_behind_the_result_is_completed(moment, seconds, monkeypatch, capsys):
    def killed_here(*_):
        raise KilledError

    flags = ("--save", "--sweep.optimizer.lr", "[0.01,0.05]")
    expected_dir, expected = run(*flags)
    monkeypatch.setattr(LastCheckpoint, "seconds", seconds)
    with monkeypatch.context() as patch:
        patch.setattr(f"evaluate.{moment}", killed_here)
        with pytest.raises(KilledError):
            run(*flags)
    assert Path("lightning_logs/version_1/result.json").is_file()
    again, result = resume("lightning_logs/version_1")
    assert result == expected
    assert curves(again) == curves(expected_dir)
    assert [path.name for path in again.glob("checkpoints/*")] == ["population.ckpt"]
    before = content_of(again)
    assert "nothing is missing" in refused(capsys, "--resume", str(again))
    assert content_of(again) == before


def test_a_run_killed_before_its_first_checkpoint_starts_over():
    run_dir, expected = run()
    (run_dir / "result.json").unlink()
    again, result = resume(run_dir)
    assert (again, result) == (run_dir, expected)


def test_a_short_evaluation_writes_no_checkpoint(monkeypatch):
    def must_not_save(*_):
        raise AssertionError

    monkeypatch.setattr(LastCheckpoint, "save", must_not_save)
    run_dir, _ = run()
    assert not (run_dir / "checkpoints").exists()


def test_the_time_of_all_sittings_is_counted(monkeypatch):
    run_dir = killed(monkeypatch, 1, 3)
    path = run_dir / "checkpoints" / "group_1.ckpt"
    content = torch.load(path, weights_only=True)
    assert 0 < content["seconds"] < 60
    torch.save(content | {"seconds": 1000.0}, path)
    resume(run_dir)
    assert 1000 < json.loads((run_dir / "result.json").read_text())["fit_seconds"] < 1060


class Mine(Iris):
    """A table whose rows a test can change."""

    shift = 0.0

    def load(self):
        raw = super().load()
        features = raw.features.copy()
        features[0] += self.shift
        return RawTable(features, raw.targets, raw.column_names, raw.class_names)


OTHERS = {
    "--folds 10": "folds is 10 and not 3; leave out --folds",
    "--network.hidden [16]": "network.hidden is [16] and not [8]; leave out --network.hidden",
    "--optimizer SGD": "optimizer is SGD and not ScaledAdamW",
    "--sweep.optimizer.lr [0.1]": "sweep.optimizer.lr is [0.1] and not null",
    "--save": "save is true and not false",
    "--log_dir other": "log_dir is other and not lightning_logs",
}


def refused(capsys, *flags):
    with pytest.raises(SystemExit) as stop:
        command(evaluate, list(flags))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def content_of(run_dir):
    return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def test_what_differs_is_refused_by_name_and_nothing_is_written(monkeypatch, capsys):
    run_dir = killed(monkeypatch, 1, 3)
    before = content_of(run_dir)
    for flags, message in OTHERS.items():
        error = refused(capsys, "--resume", str(run_dir), *flags.split())
        assert message in error, (flags, error)
        assert content_of(run_dir) == before
    resume(run_dir, "--folds", "3", "--accelerator", "auto")
    assert "which is finished" in refused(capsys, "--resume", str(run_dir))


def test_what_is_no_evaluation_is_refused(capsys):
    Path("empty").mkdir()
    assert "which is no run's folder" in refused(capsys, "--resume", "empty")
    assert "which is no run's folder" in refused(capsys, "--resume", "nowhere")
    Path("empty/config.yaml").write_text("seed: 0\n")
    assert "which is no folder of evaluate.py" in refused(capsys, "--resume", "empty")
    Path("empty/config.yaml").write_text("[")
    assert "is not YAML" in refused(capsys, "--resume", "empty")


def test_another_table_under_the_same_name_is_refused(monkeypatch, capsys):
    run_dir = killed(monkeypatch, 1, 3, "--data", "tests.test_resume_evaluate.Mine")
    before = content_of(run_dir)
    monkeypatch.setattr(Mine, "shift", 0.001)
    error = refused(capsys, "--resume", str(run_dir))
    assert "group_1.ckpt cannot be resumed: its networks learned from other rows" in error
    assert content_of(run_dir) == before


def test_another_setting_in_the_config_is_refused(monkeypatch, capsys):
    run_dir = killed(monkeypatch, 1, 3)
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace("label_smoothing: 0.1", "label_smoothing: 0.2"))
    before = content_of(run_dir)
    error = refused(capsys, "--resume", str(run_dir))
    assert "group_1.ckpt cannot be resumed: config.yaml has not its settings" in error
    assert content_of(run_dir) == before


def test_an_evaluation_that_is_not_over_is_not_resumed(monkeypatch, capsys):
    run_dir = killed(monkeypatch, 1, 3)
    before = content_of(run_dir)
    descriptor = lock_folder(run_dir)
    assert f"{run_dir} belongs to a run that is not over" in refused(
        capsys, "--resume", str(run_dir)
    )
    assert content_of(run_dir) == before
    os.close(descriptor)
    resume(run_dir)


def test_a_damaged_checkpoint_is_refused_by_name(monkeypatch, capsys):
    run_dir = killed(monkeypatch, 1, 3)
    path = run_dir / "checkpoints" / "group_1.ckpt"
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[whole.index(b"fingerprint")] ^= 1
    for content in (whole[: len(whole) // 2], b"", whole[:-1], changed):
        path.write_bytes(content)
        assert str(path) in refused(capsys, "--resume", str(run_dir))
    torch.save({"fits": 3}, path)
    assert f"{path} cannot be resumed" in refused(capsys, "--resume", str(run_dir))
    torch.save([], path)
    assert f"{path} cannot be resumed" in refused(capsys, "--resume", str(run_dir))


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    log_dir = ("--log_dir", "a folder")
    _, expected = run()
    end = Population.on_train_epoch_end

    def interrupt(self):
        end(self)
        if self.current_epoch == 3:
            raise KeyboardInterrupt

    def interrupted():
        with monkeypatch.context() as patch:
            patch.setattr(Population, "on_train_epoch_end", interrupt)
            patch.setattr(Blocks, "seconds", 0.0)
            with pytest.raises(SystemExit) as stop:
                command(evaluate, [*FAST, *log_dir])
        assert stop.value.code == 130
        return capsys.readouterr().err

    assert interrupted() == "error: stopped in epoch 4; nothing was kept\n"
    assert list(Path("a folder").iterdir()) == []
    monkeypatch.setattr(LastCheckpoint, "seconds", -1.0)
    head, _, line = interrupted().partition("resume with: ")
    assert head == "error: stopped in epoch 4; "
    python, script, *flags = shlex.split(line)
    assert (python, script) == ("python", "evaluate.py")
    command(evaluate, flags)
    result = json.loads(Path("a folder/version_0/result.json").read_text())
    assert {name: result[name] for name in expected} == expected


# A finished estimate is never thrown away


def test_networks_that_cannot_be_saved_cost_no_result(monkeypatch, capsys):
    """The disk is full after the result: a limit on the size of files stands for it."""
    large = ("--save", "--network.hidden", "[2000]")  # the only large file
    run_dir, expected = run(*large)
    whole = run_dir / "checkpoints" / "population.ckpt"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole.stat().st_size // 2, limits[1]))
    try:
        error = refused(capsys, *FAST, *large, "--log_dir", "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    run_dir = Path("full/version_0")
    assert "File too large" in error
    assert error.endswith(f"python evaluate.py --resume {run_dir}\n")
    result = json.loads((run_dir / "result.json").read_text())
    assert {name: result[name] for name in expected} == expected
    assert not list(run_dir.glob("checkpoints/*.part"))
    resume(run_dir)
    first, second = (weights(path) for path in (whole, run_dir / "checkpoints/population.ckpt"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_numbers_of_numpy_are_as_good_as_pythons():
    settings = {
        "network": partial(MLP, hidden=np.array([8])),
        "folds": np.int64(3),
        "repeats": np.int64(1),
        "seeds": np.int64(2),
        "inner_folds": np.int64(2),
        "seed": np.int64(1),
        "max_epochs": np.int64(3),
        "sweep": {"optimizer.lr": np.array([0.01, 0.05]), "loss.label_smoothing": [np.float64(0)]},
        "baselines": np.array(["GaussianNB"]),
        "metric": np.str_("accuracy"),
        "save": np.True_,
        "log_dir": Path("logs"),
    }
    result = evaluate(partial(Iris, batch_size=np.int64(32)), accelerator="cpu", **settings)
    plain = json.loads(Path("logs/version_0/result.json").read_text())
    assert plain == result.to_json()
    assert plain["seeds"] == 2
    command(evaluate, ["--config", "logs/version_0/config.yaml"])
    again = json.loads(Path("logs/version_1/result.json").read_text())
    assert {**again, "fit_seconds": 0} == {**plain, "fit_seconds": 0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sweep": {"network": [MLP]}}, "sweep.network has a "),
        ({"sweep": {"seed": [object()]}}, "sweep.seed has a object"),
        ({"seed": torch.zeros(1)}, "seed has a Tensor"),
    ],
)
def test_what_no_config_can_hold_is_refused_at_the_start(given, message):
    with pytest.raises(ValueError, match=message):
        evaluate(**given)
    assert not Path("lightning_logs").exists()


def test_an_evaluation_that_failed_keeps_nothing(monkeypatch):
    monkeypatch.setattr(LastCheckpoint, "seconds", -1.0)
    with pytest.raises(SystemExit) as stop:
        run("--optimizer", "SGD", "--optimizer.lr", "1e30", "--schedule", "null")
    assert stop.value.code == 1
    assert list(Path("lightning_logs").iterdir()) == []


def evaluate_saving(line):
    LastCheckpoint.seconds = 0.1
    script(evaluate, line)


def test_two_killed_processes_go_on_to_the_same_numbers(capsys):
    flags = ["--max_epochs", "1000", "--data.batch_size", "50"]
    two = ["--devices", "2", "--strategy", "ddp"]
    run_dir = Path("lightning_logs/version_0")
    kept = run_dir / "checkpoints/group_1.ckpt"
    forks = start_two(evaluate_saving, [*FAST, *flags, *two])
    until = time.monotonic() + 60
    while time.monotonic() < until and not kept.exists():
        time.sleep(0.02)
    for fork in forks:
        fork.send_signal(signal.SIGKILL)
    assert [fork.end().returncode for fork in forks] == [-signal.SIGKILL] * 2
    assert not (run_dir / "result.json").exists()
    error = refused(capsys, "--resume", str(run_dir), "--devices", "1", "--strategy", "auto")
    assert "2 devices trained its networks, and there are 1; give --devices 2" in error
    done = two_forks(script, evaluate, ["--resume", str(run_dir)])
    assert (done.returncode, done.stderr) == (0, "")
    _, both = last_run()
    _, alone = run(*flags)
    assert both["confusion"] == alone["confusion"]
    for key in ("accuracy/mean", "log_loss/mean", "log_loss/low"):
        assert both[key] == pytest.approx(alone[key], rel=1e-4)
