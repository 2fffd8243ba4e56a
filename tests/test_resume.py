"""Killed and resumed runs: they end as if nothing had happened, or are refused."""

import json
import os
import random
import resource
import shutil
import signal
from pathlib import Path

import polars as pl
import pytest
import torch
from sklearn.datasets import load_iris
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from cli.command import command
from cli.files import lock_folder
from data.checkpoint_file import read_file, write_file
from tests.helpers import age, forked, script, two_forks
from train import train
from training.checkpoints import read_resumed

ALL = ("--callbacks", "[tests.killer.Kill]", "--data.batch_size", "16", "--accelerator", "cpu")
BARE = (*ALL, "--pictures", "none", "--data.val_fraction", "0.2", "--max_epochs", "6")
STOPPED = (*BARE, "--max_epochs", "60", "--patience", "2", "--optimizer", "SGD",
           "--optimizer.lr", "0.5", "--schedule", "null")  # fmt: skip
MEMBERS = ("--callbacks", "[tests.killer.Kill]", "--accelerator", "cpu", "--members", "4",
           "--data", "Table", "--data.path", "t.csv", "--data.target", "target",
           "--max_epochs", "6", "--patience", "2")  # fmt: skip
DROPOUT = ("--network.dropout", "0.3")

CASES = {
    "plain": ((*ALL, "--max_epochs", "6", "--pictures", "[ConfusionMatrix]"), "epoch 5"),
    "validation": ((*BARE, "--pictures", "all"), "epoch 5"),
    "before a best epoch": (BARE, "validation 5"),
    # Epochs as large as steps, which TensorBoard takes for steps after the checkpoint.
    "two steps an epoch": (
        (*BARE, "--data.batch_size", "64", "--max_epochs", "12"),
        "epoch 11",
    ),
    "dropout": ((*BARE, *DROPOUT), "epoch 5"),
    "augmentation": (
        (*BARE, "--data", "Images", "--data.rotation", "9", "--network.hidden", "[8]"),
        "epoch 5",
    ),
    "plateau": (
        (*STOPPED, "--patience", "9", "--schedule", "ReduceLROnPlateau", "--schedule.patience=0"),
        "epoch 5",
    ),
    "restarts": (
        (*BARE, "--schedule", "CosineAnnealingWarmRestarts", "--schedule.T_0", "7"),
        "epoch 5",
    ),
    "stopped": (STOPPED, "test"),
    "tested": ((*BARE, "--pictures", "[ConfusionMatrix,Embedding,Histograms]"), "tested"),
    "members": ((*MEMBERS, *DROPOUT, "--data.batch_size", "32"), "epoch 5"),
    "members in the test": (MEMBERS, "test"),
}


@pytest.fixture(autouse=True)
def table(tmp_path):
    load_iris(as_frame=True).frame.to_csv(tmp_path / "t.csv", index=False)


def killed(*arguments, **environment):
    """A run that kills itself."""
    done = forked(script, train, arguments, **environment)
    assert done.returncode == -signal.SIGKILL, done.stderr


def resume(run_dir, *arguments):
    age(run_dir)
    last = f"{run_dir}/checkpoints/last.ckpt"
    command(train, ["--config", f"{run_dir}/config.yaml", "--resume", last, *arguments])


def logged(run_dir):
    """Steps of all that TensorBoard shows, by tag, with the values of scalars."""
    kinds = ("scalars", "images", "histograms", "text", "pr_curves")
    events = EventAccumulator(str(run_dir), tensor_size_guidance=dict.fromkeys(kinds, 0)).Reload()
    content = {}
    for tag in events.Tags()["tensors"]:
        if "/throughput/" in tag:  # seconds
            continue
        points = [(event.step, make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
        content[tag] = [
            (step, value.item()) if value.ndim == 0 and value.dtype.kind == "f" else step
            for step, value in points
        ]
    return content


def timeless(path):
    """The bytes of a checkpoint; of a population's without the seconds that it took."""
    content = read_file(str(path))
    if "seconds" not in content:
        return path.read_bytes()
    del content["seconds"]
    write_file(Path("timeless"), content)
    return Path("timeless").read_bytes()


def assert_same(first, second):
    """Two runs ended alike, and neither left anything behind."""
    results = [json.loads((path / "result.json").read_text()) for path in (first, second)]
    for result in results:
        result.pop("fit_seconds")
    assert results[0] == results[1]
    assert logged(first) == logged(second)
    for name in ("best.ckpt", "last.ckpt"):
        contents = [timeless(path / "checkpoints" / name) for path in (first, second)]
        assert contents[0] == contents[1], name
    names = [sorted(path.name for path in folder.rglob("*.*") if "tfevents" not in path.name)
             for folder in (first, second)]  # fmt: skip
    assert names[0] == names[1]


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_ends_as_an_undisturbed_one(case):
    arguments, moment = CASES[case]
    killed(*arguments, "--log_dir", "killed", KILL=moment, SAVE="3")
    run_dir = Path("killed/version_0")
    assert not (run_dir / "result.json").exists()
    if moment not in ("test", "tested"):
        assert read_file(str(run_dir / "checkpoints" / "last.ckpt"))["epoch"] == 2
    resume(run_dir)
    command(train, [*arguments, "--log_dir", "whole"])
    assert_same(Path("whole/version_0"), run_dir)


@pytest.fixture(scope="module")
def whole_and_killed(tmp_path_factory):
    """The folders of an undisturbed run, and of one that was killed when it was somewhere else."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command(train, [*BARE, "--log_dir", "whole"])
        killed(*BARE, "--log_dir", str(folder / "killed"), KILL="epoch 5", SAVE="3")
    return folder / "whole" / "version_0", folder / "killed" / "version_0"


@pytest.mark.parametrize("path", ["{folder}/moved/run_1", "./moved/run_1", "../moved/run_1"])
def test_it_does_wherever_its_folder_is(path, whole_and_killed, tmp_path, monkeypatch):
    whole, before = whole_and_killed
    moved = tmp_path / "moved" / "run_1"
    shutil.copytree(before, moved)
    if path.startswith(".."):
        Path("elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
    resume(path.format(folder=tmp_path))
    assert_same(whole, moved)


def test_killed_while_it_writes_a_checkpoint_it_has_the_one_before(whole_and_killed):
    killed(*BARE, "--log_dir", "killed", KILL="write")
    run_dir = Path("killed/version_0")
    unfinished = run_dir / "checkpoints" / "last.ckpt.part"
    assert unfinished.stat().st_size == 1000
    resume(run_dir)
    assert_same(whole_and_killed[0], run_dir)


def test_a_finished_run_that_is_resumed_stays_as_it_was():
    command(train, [*ALL, "--max_epochs", "3", "--log_dir", "whole"])  # with all pictures
    shutil.copytree("whole", "again")
    resume("again/version_0")
    assert_same(Path("whole/version_0"), Path("again/version_0"))


def test_a_resumed_run_may_be_more_patient():
    command(train, [*STOPPED, "--log_dir", "short"])
    resume("short/version_0", "--patience", "4")
    command(train, [*STOPPED, "--patience", "4", "--log_dir", "whole"])
    epochs = [json.loads(Path(name, "version_0/result.json").read_text())["epochs"]
              for name in ("short", "whole")]  # fmt: skip
    assert epochs[0] == epochs[1]
    best = [Path(name, "version_0/checkpoints/best.ckpt") for name in ("short", "whole")]
    states = [read_file(str(path))["state_dict"] for path in best]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_two_processes_that_are_killed_go_on_with_their_own_random_numbers():
    flags = (*MEMBERS, *DROPOUT, "--devices", "2", "--strategy", "ddp")
    line = [*flags, "--log_dir", "whole"]
    whole = two_forks(script, train, line, KILL="copy after epoch 5", SAVE="3")
    assert whole.returncode == 0, whole.stderr
    run_dir = Path("killed/version_0")
    last = str(run_dir / "checkpoints" / "last.ckpt")
    config = str(run_dir / "config.yaml")
    done = two_forks(script, train, ["--config", config, "--resume", last])
    assert done.returncode == 0, done.stderr
    assert_same(Path("whole/version_0"), run_dir)


STREAM = ("--callbacks", "[tests.killer.Kill]", "--accelerator", "cpu", "--pictures", "none",
          "--data", "Stream", "--data.path", "rows", "--data.target", "target",
          "--data.batch_size", "50", "--data.buffer", "300", "--data.val_fraction", "0.2",
          "--max_epochs", "4", "--patience", "3", "--metric", "auroc", *DROPOUT)  # fmt: skip


@pytest.fixture
def stream():
    """Ten files of 150 rows: the buffer has the training rows of three of them."""
    Path("rows").mkdir()
    table = pl.read_csv("t.csv")
    for i in range(10):
        rows = table.sample(fraction=1, shuffle=True, seed=i)
        rows.write_parquet(f"rows/{i}.parquet")


ACCUMULATED = ("--trainer.accumulate_grad_batches", "3")
HALF = ("--trainer.val_check_interval", "0.5")


@pytest.mark.parametrize(
    ("flags", "batch"),
    [((), 1), ((), 2), ((), 18), (ACCUMULATED, 9), (HALF, 12)],
    ids=str,
)
def test_a_stream_that_is_killed_in_an_epoch_ends_as_an_undisturbed_one(flags, batch, stream):
    if flags == HALF:
        flags = (*HALF, "--patience", "null")
    killed(*STREAM, *flags, "--log_dir", "killed", KILL=f"epoch 3 batch {batch}", WITHIN="1")
    run_dir = Path("killed/version_0")
    last = read_file(str(run_dir / "checkpoints" / "last.ckpt"))
    assert last["epoch"] == (2 if batch > 1 else 1)
    assert ("epoch_states" in last["resume"]) == (batch > 1)
    resume(run_dir)
    command(train, [*STREAM, *flags, "--log_dir", "whole"])
    assert_same(Path("whole/version_0"), run_dir)


def test_a_folder_that_changed_is_not_resumed(stream, capsys):
    killed(*STREAM, "--log_dir", "killed", KILL="epoch 3 batch 5", WITHIN="1")
    pl.read_parquet("rows/3.parquet")[1:].write_parquet("rows/3.parquet")
    with pytest.raises(SystemExit) as stop:
        resume(Path("killed/version_0"))
    assert stop.value.code == 2
    assert (
        "rows has other files, or files of other sizes, rows or classes" in capsys.readouterr().err
    )


def test_two_processes_of_a_stream_go_on_in_the_middle_of_an_epoch(stream, capsys):
    flags = (*STREAM, "--devices", "2", "--strategy", "ddp")
    line = [*flags, "--log_dir", "whole"]
    whole = two_forks(script, train, line, KILL="copy after epoch 3 batch 9", WITHIN="1")
    assert whole.returncode == 0, whole.stderr
    run_dir = Path("killed/version_0")
    with pytest.raises(SystemExit):
        resume(run_dir, "--devices", "1", "--strategy", "ddp")
    assert "in the middle of an epoch in 2 processes" in capsys.readouterr().err
    last = str(run_dir / "checkpoints" / "last.ckpt")
    config = str(run_dir / "config.yaml")
    done = two_forks(script, train, ["--config", config, "--resume", last])
    assert done.returncode == 0, done.stderr
    assert_same(Path("whole/version_0"), run_dir)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    command(train, [*BARE, "--max_epochs", "2", "--log_dir", str(folder)])
    age(folder / "version_0")
    return folder / "version_0"


def test_no_damage_is_taken_for_a_checkpoint(finished):
    generator = random.Random(0)
    path = finished / "checkpoints" / "last.ckpt"
    content = path.read_bytes()
    expected = str(read_file(str(path)))
    Path("bad").mkdir()
    shutil.copy(finished / "checkpoints" / "best.ckpt", "bad/best.ckpt")
    bad = Path("bad/last.ckpt")
    spoiled = [content[: generator.randrange(len(content))] for _ in range(60)]
    for _ in range(140):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        spoiled.append(bytes(damaged))
    refused = []
    for damaged in spoiled:
        bad.write_bytes(damaged)
        try:
            found = read_resumed(str(bad))
        except ValueError as error:
            refused.append(str(error))
        else:
            assert str(found) == expected
    assert len(refused) > 150
    assert all(message.startswith("bad/last.ckpt is damaged") for message in refused)


def spoil_last(folder):
    path = folder / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[content.index(b"optimizer_states")] ^= 1
    path.write_bytes(content)


def spoil_best(folder):
    path = folder / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[:-500])


def lose_best(folder):
    (folder / "checkpoints" / "best.ckpt").unlink()


def other_best(folder):
    write_file(folder / "checkpoints" / "best.ckpt", {"state_dict": {}})


def weights_alone(folder):
    path = folder / "checkpoints" / "last.ckpt"
    write_file(path, {"state_dict": read_file(str(path))["state_dict"]})


REFUSED = {
    spoil_last: "last.ckpt is damaged",
    spoil_best: "best.ckpt is damaged",
    lose_best: "there is no checkpoint run/version_0/checkpoints/best.ckpt",
    other_best: "best.ckpt is not the best epoch of the run to resume",
    weights_alone: "last.ckpt is no checkpoint of a fit to go on with; give a run's last.ckpt",
}


@pytest.mark.parametrize("spoil", REFUSED)
def test_a_damaged_run_is_refused_and_left_alone(spoil, finished, capsys):
    run_dir = Path("run/version_0")
    shutil.copytree(finished, run_dir)
    spoil(run_dir)
    before = {path: path.read_bytes() for path in run_dir.rglob("*.*")}
    with pytest.raises(SystemExit) as stop:
        resume(run_dir)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert REFUSED[spoil] in error
    assert {path: path.read_bytes() for path in run_dir.rglob("*.*")} == before


def test_a_run_that_is_not_over_is_not_resumed(finished, capsys):
    run_dir = Path("run/version_0")
    shutil.copytree(finished, run_dir)
    before = {path: path.read_bytes() for path in run_dir.rglob("*.*")}
    descriptor = lock_folder(run_dir)
    with pytest.raises(SystemExit) as stop:
        resume(run_dir)
    assert stop.value.code == 2
    assert f"{run_dir} belongs to a run that is not over; wait for it" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run_dir.rglob("*.*")} == before
    os.close(descriptor)
    resume(run_dir)


def test_a_disk_that_is_full_keeps_the_file_before():
    path = Path("last.ckpt")
    write_file(path, {"epoch": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_file(path, {"weights": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_file("last.ckpt") == {"epoch": 1}
    assert [path.name for path in Path().glob("last*")] == ["last.ckpt"]


def test_equal_content_is_equal_bytes():
    content = {"optimizer": [{"betas": (0.9, 0.999), "name": "Adam"}], "schedule": {"name": "Adam"}}
    write_file(Path("first.ckpt"), content)
    write_file(Path("second.ckpt"), {"optimizer": read_file("first.ckpt")["optimizer"]} | content)
    write_file(Path("third.ckpt"), read_file("first.ckpt"))
    first, second, third = (
        Path(f"{name}.ckpt").read_bytes() for name in ("first", "second", "third")
    )
    assert first == second == third
