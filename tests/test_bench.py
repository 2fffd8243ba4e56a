"""The scripts that measure still run: small, with nothing written."""

import pytest

from tests.helpers import ROOT, python


@pytest.mark.parametrize(
    "script", ["population", "coverage", "tables", "predict", "digits", "pictures"]
)
def test_it_runs_small_and_writes_nothing(script, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (ROOT / "bench" / "results").iterdir()}
    done = python(f"bench/{script}.py", "--small", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert before == {
        path: path.stat().st_mtime_ns for path in (ROOT / "bench" / "results").iterdir()
    }
    assert not list(tmp_path.iterdir())
