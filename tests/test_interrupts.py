"""Ctrl-C, SIGTERM and full disks: one line, the right exit code, and nothing half-written."""

import errno
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cli.command import command
from cli.files import write_whole
from cli.interrupts import Terminated, catch, interrupt_of, restore, stop, uninterrupted
from tests.helpers import Fork, age, forked, run, script, started, weights
from train import train
from training.fast import FastClassifier
from training.pictures.regions import Regions
from training.stopping import disk_fault

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
both = pytest.mark.parametrize("number", CODES, ids=["SIGINT", "SIGTERM"])


@pytest.fixture
def _stopped_by_signals():
    handlers = catch(stop)
    yield
    restore(handlers)


@pytest.mark.usefixtures("_stopped_by_signals")
@both
def test_a_signal_waits_for_a_write_and_is_not_lost(number):
    finished = []

    def write():
        with uninterrupted():
            with uninterrupted():
                os.kill(os.getpid(), number)
            finished.append(sum(range(1000)))

    with pytest.raises(KeyboardInterrupt) as interrupt:
        write()
    assert finished
    assert isinstance(interrupt.value, Terminated) == (number == signal.SIGTERM)


@pytest.mark.usefixtures("_stopped_by_signals")
def test_a_second_signal_does_not_cut_the_clean_up_short():
    cleaned = []

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            cleaned.append(sum(range(1000)))

    with pytest.raises(Terminated):
        work()
    assert cleaned


@pytest.mark.usefixtures("_stopped_by_signals")
def test_a_signal_that_was_lost_can_be_sent_again():
    with suppress(KeyboardInterrupt):  # as Python does in a destructor
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_another_thread_holds_nothing_back():
    def hold():
        with uninterrupted():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background job
    try:
        assert signal.SIGINT not in catch(stop)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_the_interrupt_behind_lightnings_exit_is_recognized():
    def fit():
        try:
            raise Terminated
        except KeyboardInterrupt:
            sys.exit(1)

    with pytest.raises(SystemExit) as end:
        fit()
    assert isinstance(interrupt_of(end.value), Terminated)
    assert interrupt_of(SystemExit(0)) is None


@both
def test_a_command_restores_the_handlers(number):
    before = signal.getsignal(number)
    run("--max_epochs", "1", "--pictures", "none")
    assert signal.getsignal(number) == before


def resumed(error):
    """Run the command that an error message names, on the CPU."""
    line = shlex.split(error.partition("resume with: ")[2])
    assert line[0] == "python"
    assert Path(line[1]).name == "train.py"
    command(train, [*line[2:], "--accelerator", "cpu"])


def interrupt_in(monkeypatch, cls, method, number):
    """Send the signal when a method is called for the first time."""
    original = getattr(cls, method)
    sent = []

    def interrupt(self, *arguments, **keywords):
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(cls, method, interrupt)


STAGES = {
    "fit": (FastClassifier, "end_train_epoch", "in epoch 1; nothing was kept"),
    "test": (FastClassifier, "on_test_epoch_end", "in the test; resume with: "),
    "picture": (Regions, "draw", "in the test; resume with: "),
}


@both
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_can_be_stopped(stage, number, monkeypatch, capsys):
    cls, method, message = STAGES[stage]
    with monkeypatch.context() as patch:
        interrupt_in(patch, cls, method, number)
        with pytest.raises(SystemExit) as end:
            run("--max_epochs", "2", "--log_dir", "a  b's", "--pictures", "final")
    error = capsys.readouterr().err
    assert end.value.code == CODES[number]
    assert error.startswith(f"error: stopped {message}")
    assert error.count("\n") == 1
    run_dir = Path("a  b's/version_0")
    assert run_dir.exists() == ("resume" in message)
    if run_dir.exists():
        assert not (run_dir / "result.json").exists()
        resumed(error)
        assert json.loads((run_dir / "result.json").read_text())["epochs"] == 2


@both
@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "predict.py", "export.py"])
def test_imports_can_be_stopped(script, number, tmp_path):
    with started(script, "a", "b", cwd=tmp_path, stderr=subprocess.PIPE) as process:
        time.sleep(0.3)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == CODES[number]
    assert error == "error: stopped\n"
    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_two_processes(tmp_path):
    line = ("--accelerator", "cpu", "--devices", "2", "--strategy", "ddp", "--max_epochs", "9999")
    with started("train.py", *line, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        last = tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
        until = time.monotonic() + 100
        while not last.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 143
    assert error.startswith("error: stopped in epoch ")
    assert error.count("\n") == 1


def limited(size, line):
    """`python train.py …` where no file may be larger, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    script(train, line)


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint():
    line = ("--accelerator", "cpu", "--max_epochs", "400", "--data.batch_size", "60")
    done = forked(limited, 45_000, line)
    run_dir = Path("lightning_logs/version_0")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(
        f"error: {run_dir} cannot be written: File too large; make space, then resume with: "
    )
    assert done.stderr.count("\n") == 1
    assert not (run_dir / "result.json").exists()
    assert all(path.stat().st_size for path in run_dir.glob("events*"))
    assert weights(run_dir / "checkpoints" / "last.ckpt")
    age(run_dir)
    resumed(done.stderr)
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == list(range(2, 802, 2))


def test_a_disk_without_any_space_leaves_no_folder():
    done = forked(limited, 200, ["--accelerator", "cpu"])  # which the message needs
    assert done.returncode == 2
    assert done.stderr.endswith("nothing was kept; make space or give another --log_dir\n")
    assert done.stderr.count("\n") == 1
    assert list(Path("lightning_logs").iterdir()) == []


def test_a_folder_that_is_deleted_ends_the_run(monkeypatch, capsys):
    def delete(self):
        for path in Path("lightning_logs/version_0").iterdir():
            path.unlink() if path.is_file() else None

    monkeypatch.setattr(FastClassifier, "on_test_epoch_start", delete)
    with pytest.raises(SystemExit) as end:
        run("--max_epochs", "2", "--pictures", "none")
    assert end.value.code == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


def test_a_text_is_written_whole_or_not_at_all(monkeypatch):
    path = Path("a.txt")
    write_whole(path, b"before")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"after")
    assert path.read_text() == "before"
    assert list(Path().iterdir()) == [path]


def test_a_full_output_is_an_error():
    done = Fork(script, (train, ["--print_config"]), files={1: "/dev/full"}).end()
    assert done.returncode == 2
    assert done.stderr == "error: [Errno 28] No space left on device\n"


def test_the_fault_of_a_folder_is_told_from_others():
    inside = OSError(errno.EACCES, "denied", "runs/version_0/x")
    outside = OSError(errno.EACCES, "denied", "table.csv")
    assert disk_fault(inside, Path("runs/version_0")) is inside
    assert disk_fault(outside, Path("runs/version_0")) is None
    assert disk_fault(BrokenPipeError(errno.EPIPE, "closed"), Path("runs")) is None
