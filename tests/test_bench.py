"""The scripts that measure still run: small, and without writing anything."""

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT

SCRIPTS = [
    "coverage",
    "digits",
    "dirty",
    "faults",
    "gpu",
    "joint",
    "options",
    "parts",
    "pictures",
    "population",
    "predict",
    "public_tables",
    "recipe",
    "scale",
    "small_tables",
    "speed",
    "streaming",
    "tables",
]

# The other sections start processes, which tests of the commands do too.
SECTIONS = {"gpu": ["works", "alone", "speed"], "scale": ["speed"], "streaming": ["order", "speed"]}


def modification_times():
    return {path: path.stat().st_mtime_ns for path in (ROOT / "bench" / "results").iterdir()}


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_runs_small_and_writes_nothing(script, tmp_path):
    if script in ("speed", "scale"):
        pytest.importorskip("skorch")  # of the bench extra
    before = modification_times()
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{script}", "--small", *SECTIONS.get(script, [])],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert before == modification_times()
    assert not list(tmp_path.iterdir())
