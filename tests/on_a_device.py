"""Every command on a device whose tensors do not mix with the CPU; run by test_devices.py."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.gpu_commands import EVALUATE_RUNS, TRAIN_RUNS
from cli.command import command
from evaluate import evaluate
from tests.pretend import DEVICE, Pretending, pretending
from train import train

RUNS = {name: (train, line) for name, line in TRAIN_RUNS.items()}
RUNS |= {name: (evaluate, line) for name, line in EVALUATE_RUNS.items()}
# Processes, and what torch does on a real GPU alone.
LEFT_OUT = ("ddp", "fsdp", "-mixed", "search")
NAMES = [name for name in RUNS if not any(word in name for word in LEFT_OUT)]


def result_of(function, line):
    command(function, [*line.split(), "--accelerator", "cpu", "--log_dir", "logs"])
    run_dir = max(Path("logs").iterdir(), key=lambda path: int(path.name.removeprefix("version_")))
    return json.loads((run_dir / "result.json").read_text())


def figures(result):
    return {
        name: value
        for name, value in result.items()
        if isinstance(value, float) and "seconds" not in name
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_device_finds_what_a_cpu_finds(name, monkeypatch):
    function, line = RUNS[name]
    if "max_epochs" not in line:
        line += " --max_epochs 3"
    with pretending(monkeypatch):
        on_device = result_of(function, line)
    on_cpu = result_of(function, line)
    assert on_device["device"] == DEVICE.type
    tolerance = 0.02 if "bf16" in name else 1e-5
    assert figures(on_device) == pytest.approx(figures(on_cpu), rel=tolerance)


def test_mixed_devices_are_an_error():
    with Pretending():
        layer = nn.Linear(2, 3).to(DEVICE)
        with pytest.raises(RuntimeError, match="is on the CPU"):
            layer(torch.zeros(1, 2))
        assert layer(torch.zeros(1, 2, device=DEVICE)).device == DEVICE


@pytest.mark.parametrize(("function", "more"), [(train, "--pictures none"), (evaluate, "")])
def test_a_step_does_not_wait_for_the_device(function, more, monkeypatch):
    def copies(epochs, batch_size):
        line = f"--max_epochs {epochs} --data.batch_size {batch_size} --data.val_fraction 0.2"
        with pretending(monkeypatch) as mode:
            result_of(function, f"{line} {more}")
        return mode.copies

    per_epoch = copies(3, 16) - copies(2, 16)
    assert copies(3, 8) - copies(2, 8) == per_epoch
    assert per_epoch <= 8
