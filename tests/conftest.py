"""Fixtures that all tests share."""

import os
import signal

import pytest

# Two test processes share the cores: torch's threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from cli.command import quiet
from tests.helpers import python

quiet()
# A shell's background job ignores Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
