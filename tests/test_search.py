"""Sweeps over everything that a run is told, and searches that draw their candidates."""

import json
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from cli.command import command
from data.encoder import Encoder
from data.folds import cross_validation
from data.iris import Iris
from evaluate import evaluate
from evaluation.result import estimates_to_json
from model.networks import MLP
from model.population import Population
from tests.helpers import python

SMALL = partial(MLP, hidden=[8])
QUICK = {"accelerator": "cpu", "folds": 3, "repeats": 1, "baselines": [], "network": SMALL}


def close(first, second):
    """Whether two Estimates are equal but for the rounding of float32."""
    return estimates_to_json(first) == pytest.approx(estimates_to_json(second), abs=1e-4)


def test_candidates_of_other_data_settings_epochs_and_members_are_what_they_are_alone():
    sweep = {"max_epochs": [3, 6], "data.batch_size": [16, None], "members": [1, 2]}
    sweep |= {"data.scaling": ["standard", "robust"], "optimizer.lr": [0.01, 0.05]}
    result = evaluate(sweep=sweep, inner_folds=2, log_dir="logs", **QUICK)
    candidates = iter(result.candidates)
    assert result.run.members == 3 * (1 + 2) * (16 + 2 * 16)
    for epochs, size, members, scaling, lr in product(*sweep.values()):
        alone = evaluate(
            partial(Iris, batch_size=size, scaling=scaling),
            max_epochs=epochs,
            members=members,
            sweep={"optimizer.lr": [lr]},
            inner_folds=2,
            log_dir="alone",
            **QUICK,
        )
        assert close(next(candidates).estimates, alone.candidates[0].estimates)
    assert result.choice.train.startswith("python train.py --data.batch_size ")
    for flag in ("--data.scaling", "--max_epochs", "--members"):
        assert flag in result.choice.train


def test_two_processes_share_every_group(tmp_path):
    line = "--folds 3 --repeats 1 --inner_folds 2 --network.hidden [8] --save --accelerator cpu"
    line = [*line.split(), "--sweep.max_epochs", "[5,10]", "--sweep.data.batch_size", "[32,null]"]
    shares = ("--devices", "2", "--strategy", "ddp")
    done = python("evaluate.py", *line, *shares, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    both = json.loads((tmp_path / "lightning_logs/version_0/result.json").read_text())
    command(evaluate, line)
    alone = json.loads(Path("lightning_logs/version_0/result.json").read_text())
    for first, second in zip(both["settings"], alone["settings"], strict=True):
        assert first["log_loss/mean"] == pytest.approx(second["log_loss/mean"], rel=1e-4)
    assert both["train"] == alone["train"]


def test_the_best_candidate_is_saved_from_its_own_group():
    line = "--folds 3 --repeats 1 --inner_folds 2 --save --network.hidden [8] --accelerator cpu"
    command(evaluate, [*line.split(), "--sweep.max_epochs", "[1,40]"])
    run_dir = Path("lightning_logs/version_0")
    result = json.loads((run_dir / "result.json").read_text())
    assert result["chosen"] == "max_epochs 40"
    path = run_dir / "checkpoints" / "population.ckpt"
    ensemble = Population.load_from_checkpoint(path, weights_only=True).eval()
    encoder = Encoder.from_state(torch.load(path, weights_only=True)["Iris"])
    raw = load_iris()
    predicted = ensemble.probabilities(encoder(torch.from_numpy(raw.data))).argmax(-1).numpy()
    folds = cross_validation(Iris(), raw.target, 3, 1)
    hits = [
        predicted[i, fold.indices["test"]] == raw.target[fold.indices["test"]]
        for i, fold in enumerate(folds)
    ]
    assert np.mean(np.concatenate(hits)) == pytest.approx(result["settings"][1]["accuracy/mean"])


BAD = {
    "--sweep.data.path [a.csv]": "setting 'data.path' is not known; nearest: ",
    "--sweep.data.split_seed [1,2]": (
        "the sweep has 'data.split_seed', but all candidates meet the same rows in the same folds; "
        "give one --data.split_seed"
    ),
    "--sweep.data [Iris]": "the sweep has 'data', but all candidates meet the same rows",
    "--sweep.data.batch_size [0]": "batch_size is 0; give 1 or more",
    "--sweep.data.scaling [robus]": "--data.scaling 'robus' is not known; nearest: robust",
    "--sweep.max_epochs [10,0]": "max_epochs is 0; give 1 or more",
    "--sweep.patience [0]": "patience is 0; give 1 or more",
    "--sweep.members [1,60]": "members is 60; give from 1 to ",
    "--sweep.seed [1,2]": "the sweep has 'seed'; give arguments of network, loss,",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(line, capsys):
    with pytest.raises(SystemExit) as stop:
        command(evaluate, line.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert BAD[line] in error
    assert error.count("\n") == 1
    assert not Path("lightning_logs").exists()
