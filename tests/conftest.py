"""What the tests share: runs in a folder of their own, through the command or in another process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cli import command, quiet
from train import train

ROOT = Path(__file__).parents[1]
quiet()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def default_run(tmp_path_factory):
    """The folder of `python train.py` without a flag, and what it printed."""
    folder = tmp_path_factory.mktemp("default")
    done = python("train.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "lightning_logs" / "version_0", done


def python(script, *arguments, cwd, **options):
    """Run a script of this project in another process, as a user does; its output is captured."""
    line = [sys.executable, str(ROOT / script), *arguments]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=120, **options)


def run(*arguments):
    """`python train.py …` in this process; the result.json that it wrote."""
    command(train, [*arguments, "--accelerator", "cpu"])
    folders = sorted(Path("lightning_logs").iterdir(), key=os.path.getmtime)
    return json.loads((folders[-1] / "result.json").read_text())


def weights(checkpoint):
    """The state_dict of a checkpoint, loaded as data."""
    return torch.load(checkpoint, weights_only=True)["state_dict"]
