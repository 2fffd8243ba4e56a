"""Random command lines: accepted, or refused by one line that names the flag and leaves nothing."""

import pytest

from evaluate import evaluate
from explain import explain
from export import export
from predict import predict
from tests.command_lines import command_lines, faults_of, run_line
from tests.helpers import ROOT
from train import train

RIGHT = {
    "checkpoint": [str(ROOT / "tests" / "golden" / "iris.ckpt")],
    "table": [str(ROOT / "examples" / "flowers.csv"), str(ROOT / "examples" / "today.csv")],
    "output": ["out.csv", "out.parquet", "out.pt2"],
    "path": [str(ROOT / "examples" / "flowers.csv")],
    "target": ["species"],
    "accelerator": ["cpu"],
    "max_epochs": ["1", "2"],
}
COUNTS = {train: 30, evaluate: 15, predict: 10, explain: 3, export: 2}


@pytest.mark.parametrize("function", COUNTS, ids=lambda function: function.__name__)
def test_a_random_line_is_accepted_or_refused_in_one_line(function):
    for line in command_lines(function, COUNTS[function], seed=0, right=RIGHT):
        assert faults_of(line, run_line(function, line)) == [], line
