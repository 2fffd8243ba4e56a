"""The tests of on_a_device.py, in a process of their own: no other test should find the device."""

import subprocess
import sys

from tests.helpers import ROOT


def test_on_a_device():
    line = ["pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/on_a_device.py"]
    done = subprocess.run(
        [sys.executable, "-m", *line], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
