"""The scripts that measure still run: small, and without writing anything."""

import runpy
import sys

import pytest
from joblib.externals.loky import get_reusable_executor

from tests.helpers import ROOT, forked

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


def start(script):
    """`python -m bench.script --small` in this process, a fork."""
    sys.argv = [script, "--small", *SECTIONS.get(script, [])]
    runpy.run_module(f"bench.{script}", run_name="__main__", alter_sys=True)
    get_reusable_executor().shutdown()  # scikit-learn's workers, which Python's end would stop


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_runs_small_and_writes_nothing(script, tmp_path):
    if script in ("speed", "scale"):
        pytest.importorskip("skorch")  # of the bench extra
    before = modification_times()
    done = forked(start, script, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert script != "gpu" or "error" not in done.stdout  # a section's is only printed
    assert before == modification_times()
    assert not list(tmp_path.iterdir())
