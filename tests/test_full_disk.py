"""Where a disk is full the commands end with exit code 2 and one line, and leave nothing.

The limit of a file's size stands for the disk: a write that exceeds it ends early, as on a full
one.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from export import export
from predict import predict
from tests.helpers import ROOT, forked, script

CHECKPOINT = str(ROOT / "tests" / "golden" / "best_3.ckpt")
ROWS = 1000


def limited(size, function, line):
    """A command in which no file may grow beyond a size in bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    script(function, line)


@pytest.fixture
def table():
    frame = {"size (cm)": [1.5] * ROWS, "colour": ["red"] * ROWS, "wet": ["true"] * ROWS}
    pl.DataFrame(frame).write_csv("t.csv")
    return "t.csv"


@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_standard_output_that_takes_only_a_part_is_an_error(table, unbuffered):
    size = 200_000
    Path("out.csv").write_bytes(bytes(size - 5000))
    line = [sys.executable, str(ROOT / "predict.py"), CHECKPOINT, table]
    with Path("out.csv").open("ab") as sink:
        done = subprocess.run(
            line,
            stdout=sink,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        )
    assert Path("out.csv").stat().st_size == size
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "standard output cannot be written: the disk is full; make space" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (predict, CHECKPOINT, "t.csv", "--output", "out.parquet"),
        (export, CHECKPOINT, "out.onnx"),
        (export, CHECKPOINT, "out.pt2"),
    ],
    ids=["parquet", "onnx", "pt2"],
)
def test_a_file_is_written_whole_or_not_at_all(table, arguments):
    function, *line = arguments
    done = forked(limited, 4000, function, line)
    name = line[-1]
    assert done.returncode == 2
    assert done.stderr == f"error: {name} cannot be written: the disk is full; make space\n"
    assert [path.name for path in Path().iterdir()] == ["t.csv"]


def test_a_folder_that_takes_no_files_is_named():
    done = forked(script, export, [CHECKPOINT, "/proc/out.pt2"])
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "/proc/" in done.stderr
    assert done.stderr.count("\n") == 1
