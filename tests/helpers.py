"""What the tests share: runs in their own folder, in this process or in another one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cli.command import command
from train import train

ROOT = Path(__file__).parents[1]


def python(script, *arguments, cwd, **options):
    """Run a script of this project in another process, as a user does; its output is captured."""
    line = [sys.executable, str(ROOT / script), *arguments]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=120, **options)


@contextmanager
def started(script, *arguments, **options) -> Iterator[subprocess.Popen]:
    """A script of this project in another process, which is ended with the block."""
    line = [sys.executable, str(ROOT / script), *arguments]
    with subprocess.Popen(line, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments):
    """`python train.py …` in this process; the result.json that it wrote."""
    command(train, [*arguments, "--accelerator", "cpu"])
    run_dirs = sorted(Path("lightning_logs").iterdir(), key=os.path.getmtime)
    return json.loads((run_dirs[-1] / "result.json").read_text())


def weights(checkpoint):
    """The state_dict of a checkpoint, loaded as data."""
    return torch.load(checkpoint, weights_only=True)["state_dict"]
