"""Several processes train the network that one would: same steps, same figures, one end."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cli.command import command
from data.sampling import slice_of
from tests.helpers import python, run
from train import train

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


def test_two_processes_take_the_steps_of_one():
    # 91 rows in batches of 9, of which the last has a single row: the second process has none.
    line = ("--data.batch_size", "9", "--data.test_fraction", "0.195", "--data.val_fraction", "0.2")
    line += ("--data.class_weight", "balanced", "--max_epochs", "5", "--metric", "auroc")
    done = python("train.py", *TWO, *line, cwd=Path.cwd())
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
    for tag in ("train/loss", "train/accuracy", "val/loss", "val/auroc"):
        curves = [curve(path, tag) for path in runs]
        assert len(curves[0]) == 5
        assert curves[0] == pytest.approx(curves[1], rel=1e-5), tag


def test_processes_that_would_each_train_the_whole_run_are_refused(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for line, message in {
        "--devices 1": "2 processes were started, but devices and num_nodes ask for 1",
        "--devices 2 --strategy ddp_spawn": "strategy starts its processes inside the fit",
    }.items():
        with pytest.raises(SystemExit) as stop:
            command(train, ["--accelerator", "cpu", *line.split()])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    assert not Path("lightning_logs").exists()
