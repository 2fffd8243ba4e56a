"""Several processes train the network that one would: same steps, same figures, one end."""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback, Trainer, seed_everything
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import cli.command
from cli.command import command, print_error
from cli.component import flatten
from cli.errors import Speaker
from data.checkpoint_file import read_file
from data.iris import Iris
from data.sampling import slice_of
from tests.helpers import ROOT, python, run, script, started, two_forks
from train import train
from training import agreement, processes
from training.agreement import Claim, check_agreement, make_claim, sketch
from training.batches import TensorBatches
from training.fast import FastClassifier
from training.processes import seed_process

TWO = ("--accelerator", "cpu", "--devices", "2", "--strategy", "ddp")


def curve(run_dir, tag):
    accumulator = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()
    return [event.value for event in accumulator.Scalars(tag)]


@given(st.integers(0, 50), st.integers(1, 9))
def test_the_shares_of_a_batch_are_its_rows_in_order(rows, processes):
    order = np.arange(rows)
    shares = [order[slice_of(rows, rank, processes)] for rank in range(processes)]
    assert np.concatenate(shares).tolist() == order.tolist()
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert sizes[0] == max(sizes)


def by_lightning(line):
    """A command that starts the second process itself."""
    return python("train.py", *line, cwd=Path.cwd())


def by_torchrun(line):
    return two_forks(script, train, line)


@pytest.mark.parametrize(
    ("strategy", "group", "start"),
    [("ddp", "1", by_lightning), ("fsdp", "1", by_torchrun), ("ddp", "4", by_torchrun)],
)
def test_two_processes_take_the_steps_of_one(strategy, group, start):
    # 91 rows in batches of 9, of which the last has a single row: the second process has none.
    line = ("--data.batch_size", "9", "--data.test_fraction", "0.195", "--data.val_fraction", "0.2")
    line += ("--data.class_weight", "balanced", "--max_epochs", "5", "--metric", "auroc")
    line += ("--pictures", "none")  # which fsdp cannot draw
    line += ("--trainer.accumulate_grad_batches", group)
    done = start((*TWO[:-1], strategy, *line))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("accuracy") == 2
    run(*line)
    runs = [Path(f"lightning_logs/version_{i}") for i in (0, 1)]
    assert sorted(Path("lightning_logs").iterdir()) == runs
    both, alone = (json.loads((path / "result.json").read_text()) for path in runs)
    assert both["rows"] == alone["rows"] == {"train": 91, "val": 30, "test": 29}
    assert both.keys() == alone.keys()
    for name, value in alone.items():
        if name.startswith("test/") and name not in ("test/loss", "test/log_loss", "test/brier"):
            assert both[name] == pytest.approx(value, abs=1e-7), name
        if name.endswith("loss"):
            assert both[name] == pytest.approx(value, rel=1e-5), name
    states = read_file(str(runs[0] / "checkpoints" / "last.ckpt"))["resume"]["random_states"]
    assert not torch.equal(states[0]["torch"], states[1]["torch"])  # dropout, augmentation
    for tag in ("train/loss", "train/accuracy", "val/loss", "val/auroc"):
        curves = [curve(path, tag) for path in runs]
        assert len(curves[0]) == 5
        assert curves[0] == pytest.approx(curves[1], rel=1e-5), tag


LOSSES = {
    "mean": ({"class": "CrossEntropyLoss", "label_smoothing": 0.1}, False),
    "weighted": ({"class": "CrossEntropyLoss", "weight": [1.0, 2.0, 5.0]}, False),
    "weighted, summed up": ({"class": "CrossEntropyLoss", "weight": [1.0, 2.0, 5.0]}, True),
    "sum": ({"class": "CrossEntropyLoss", "reduction": "sum"}, False),
    "article": ({"class": "BCEWithLogitsLoss"}, False),
}


class Note(Callback):
    def __init__(self):
        self.losses = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.losses.append(trainer.callback_metrics["train/loss"].item())


def print_losses(processes):
    """Print the loss of each epoch with every loss, as JSON: in all processes the same."""
    losses = {}
    for name, (loss, is_summed) in LOSSES.items():
        seed_everything(0, verbose=False)
        table = Iris(batch_size=7)  # 120 rows: a last batch of one
        table.setup()
        optimizer = {"class": "SGD", "lr": 0.05}
        classifier = FastClassifier(
            4, 3, loss=loss, optimizer=optimizer, schedule=None, is_summed=is_summed
        )
        note = Note()
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(
            accelerator="cpu",
            devices=processes,
            strategy="ddp" if processes > 1 else "auto",
            max_epochs=3,
            callbacks=[note],
            enable_model_summary=False,
            limit_val_batches=0,
            **options,
        )
        table.make_loader = partial(TensorBatches, trainer=trainer)
        trainer.fit(classifier, table)
        losses[name] = note.losses
    print(json.dumps(losses))


def test_every_loss_is_that_of_the_whole_batch(capsys):
    both = two_forks(print_losses, 2)
    assert both.returncode == 0, both.stderr
    print_losses(1)
    expected = json.loads(capsys.readouterr().out)
    for line in both.stdout.splitlines():
        found = json.loads(line)
        assert found.keys() == expected.keys()
        for name in expected:
            assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    assert expected["weighted"] == pytest.approx(expected["weighted, summed up"], rel=1e-6)


# What the processes must agree on


SPLITS = {"train": (torch.arange(12.0).reshape(6, 2), torch.arange(6) % 3)}


def claim(host="a", splits=SPLITS, settings=None, sees=True):
    settings = settings or {"max_epochs": 3, "network": {"class": "MLP", "hidden": [8]}}
    return Claim(host, flatten(settings), sketch(splits), "/runs/version_0", sees)


def test_processes_with_the_same_rows_agree_though_machines_round_otherwise():
    features, targets = SPLITS["train"]
    rounded = torch.nextafter(features, torch.tensor(torch.inf))
    check_agreement([claim(), claim("b", {"train": (rounded, targets)})])


CHANGED = {
    "a value": (SPLITS["train"][0].clone().index_fill_(0, torch.tensor([4]), 1.0), None),
    "the order": (SPLITS["train"][0].flip(0), SPLITS["train"][1].flip(0)),
    "a class": (None, torch.tensor([0, 1, 2, 0, 1, 1])),
    "a row less": (SPLITS["train"][0][1:], SPLITS["train"][1][1:]),
    "a column more": (torch.cat([SPLITS["train"][0]] * 2, 1), None),
}


@pytest.mark.parametrize("what", CHANGED)
def test_processes_with_other_rows_are_refused(what):
    pairs = zip(CHANGED[what], SPLITS["train"], strict=True)
    tensors = [old if new is None else new for new, old in pairs]
    with pytest.raises(ValueError, match=r"process 2 on b has other rows \(train: . rows, sum "):
        check_agreement([claim(), claim(), claim("b", {"train": tensors})])


def test_processes_with_other_settings_or_folders_are_refused():
    other = {"max_epochs": 3, "network": {"class": "MLP", "hidden": [9]}}
    with pytest.raises(ValueError, match=r"process 1 on b has --network.hidden \[9\], and process"):
        check_agreement([claim(), claim("b", settings=other)])
    with pytest.raises(ValueError, match="process 1 on b does not see the run's folder /runs/ver"):
        check_agreement([claim(), claim("b", sees=False)])


def test_a_machine_sees_the_run_if_it_sees_the_first_ones_files(monkeypatch):
    monkeypatch.setattr(agreement, "SHARED_SECONDS", 0)
    Path("events.1").touch()
    assert make_claim({}, SPLITS, Path(), {"events.1"}).sees_run_dir
    assert not make_claim({}, SPLITS, Path(), {"events.1", "events.2"}).sees_run_dir
    assert not make_claim({}, SPLITS, Path("nowhere"), {"events.1"}).sees_run_dir


def test_machines_with_other_files_are_refused_in_one_line():
    """Two processes of torchrun in two folders, as on two machines."""
    for rank, rows in enumerate((60, 59)):
        Path(f"machine_{rank}").mkdir()
        table = "".join(f"{i},{i % 7},{'ab'[i % 2]}\n" for i in range(rows))
        Path(f"machine_{rank}", "t.csv").write_text(f"x,y,kind\n{table}")
    line = ["--data=Table", "--data.path=t.csv", "--data.target=kind", "--members=1", *TWO]
    script = f'cd machine_$RANK && exec "$@" --log_dir {shlex.quote(str(Path.cwd() / "logs"))}'
    inner = ["bash", "-c", script, "bash", sys.executable, str(ROOT / "train.py"), *line]
    done = torchrun("--no-python", *inner)
    assert done.returncode == 1
    errors = [row for row in done.stderr.splitlines() if row.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert re.match(
        r"error: process 1 on \S+ has other rows \(train: 47 rows, sum \S+, test: 12 rows, sum .* "
        r"than process 0 on \S+ \(train: 48 rows, .* give every machine the same file$",
        errors[0],
    ), errors
    assert "[rank" not in done.stderr  # torch's mark of a traceback
    assert done.stderr.count("exitcode  : 2") == 2
    assert list(Path("logs").iterdir()) == []


def torchrun(*arguments):
    """Two processes of torchrun on this machine."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run([*line, *arguments], capture_output=True, text=True, timeout=120)


# How they end


@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_process_is_killed_the_others_end_and_the_run_resumes(rank, tmp_path):
    line = ("--max_epochs", "9999", "--schedule", "null", "--optimizer", "SGD")
    last = tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    with started("train.py", *TWO, *line, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        wait_for(last)
        (child,) = children(process.pid)
        os.kill([process.pid, child][rank], signal.SIGKILL)
        _, error = process.communicate(timeout=60)  # until the last one has closed it
    assert process.returncode == [-signal.SIGKILL, 1][rank]
    assert re.fullmatch(
        r"error: another process ended in epoch \d+; resume with: python \S+train.py --resume "
        r"lightning_logs/version_0/checkpoints/last.ckpt\n",
        error,
    ), error
    if rank == 1:
        Path("lightning_logs/version_0/running").touch()  # as where all are killed
        epochs = read_file(str(last))["epoch"]
        alone = ("--devices", "1", "--strategy", "auto", "--trainer.max_time", "00:00:00:01")
        command(train, ["--resume", str(last), *alone])
        result = json.loads((last.parents[1] / "result.json").read_text())
        assert result["epochs"] > epochs


def wait_for(path):
    until = time.monotonic() + 100
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_process_that_waits_for_another_is_ended_after_a_signal(monkeypatch):
    """The main thread is where no handler runs."""
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.1)
    ended = threading.Event()
    numbers = []

    def end(number):
        numbers.append(number)
        ended.set()

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    watch = processes.Watch(end)
    watch.begin()
    os.kill(os.getpid(), signal.SIGTERM)
    assert ended.wait(30)
    watch.close()
    signal.signal(signal.SIGTERM, before)
    assert numbers == [signal.SIGTERM]


def test_a_process_whose_child_is_killed_is_ended(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(processes, "LOOK_SECONDS", 0.1)
    ended = threading.Event()
    watch = processes.Watch(lambda number: ended.set())
    with subprocess.Popen(["sleep", "100"]) as child:
        watch.children = [child]
        watch.begin()
        assert not ended.wait(0.5)
        child.kill()
        assert ended.wait(30)
    watch.close()


def test_each_process_draws_other_numbers():
    drawn = []
    for rank in range(3):
        seed_everything(7, verbose=False)
        seed_process(rank)
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    seed_everything(7, verbose=False)
    assert drawn[0] == (torch.rand(1).item(), np.random.rand(), random.random())
    for numbers in zip(*drawn, strict=True):
        assert len(set(numbers)) == 3


# What is refused


REFUSED = {
    "--data.batch_size 1": "a batch of 1 rows is shared by 2 processes; give a larger --data.batch",
    "--network tests.test_processes.Unused": "does not depend on its parameter unused.weight",
    "--network tests.test_processes.Normed --data.batch_size 3": "a batch of one row, as with",
}


class Normed(nn.Sequential):
    def __init__(self, num_features, num_classes):
        super().__init__(nn.BatchNorm1d(num_features), nn.Linear(num_features, num_classes))


class Unused(nn.Linear):
    def __init__(self, num_features, num_classes):
        super().__init__(num_features, num_classes)
        self.unused = nn.Linear(1, 1)


@pytest.mark.parametrize("line", REFUSED)
def test_what_processes_cannot_share_is_refused(line, capsys):
    with pytest.raises(SystemExit) as stop:
        command(train, [*TWO, *line.split()])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert REFUSED[line] in error
    assert error.count("\n") == 1
    assert not Path("lightning_logs").exists()


STARTED = {
    "WORLD_SIZE=2": (
        "--devices 1",
        "2 processes were started, but devices and num_nodes ask for 1",
    ),
    "WORLD_SIZE=3": (" ".join(TWO[2:]), "3 processes were started, but devices and num_nodes ask"),
    "WORLD_SIZE=2 LOCAL_WORLD_SIZE=2": (
        "--devices 1 --num_nodes 2 --strategy ddp",
        "devices is 1, but 2 processes were started on this machine; give --devices 2",
    ),
    "SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=1": (
        "--devices 1",
        "2 processes were started, but devices and num_nodes ask for 1",
    ),
    "SLURM_NTASKS=2": ("--devices 1", "You set `--ntasks=2` in your SLURM bash script"),
    "": ("--devices 2 --strategy ddp_spawn", "strategy starts its processes inside the fit"),
}


@pytest.mark.parametrize("environment", STARTED)
def test_processes_that_would_not_work_together_are_refused(environment, capsys, monkeypatch):
    line, message = STARTED[environment]
    for setting in environment.split():
        monkeypatch.setenv(*setting.split("="))
    with pytest.raises(SystemExit) as stop:
        command(train, ["--accelerator", "cpu", *line.split()])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("lightning_logs").exists()


def test_an_error_of_all_processes_is_the_first_ones_to_print(capsys, monkeypatch):
    monkeypatch.setattr(cli.command, "FIRST_SECONDS", 0.2)
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.setenv(name, "1")
        monkeypatch.setattr(Speaker, "is_this", None)
        print_error("wrong")  # the first process has not ended: it has no such error
        assert capsys.readouterr().err == "error: process 1: wrong\n"
        monkeypatch.setattr(Speaker, "is_this", False)
        print_error("wrong")
        assert capsys.readouterr().err == ""
        monkeypatch.delenv(name)
