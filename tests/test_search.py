"""Sweeps over everything that a run is told, and searches that draw their candidates."""

import json
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest, uniform
from sklearn.datasets import load_iris

from cli.command import command
from data.encoder import Encoder
from data.folds import cross_validation
from data.iris import Iris
from evaluate import evaluate
from evaluation.result import estimates_to_json
from evaluation.search import draw, draw_all
from model.networks import MLP
from model.population_networks import PopulationNetworks
from tests.helpers import script, two_forks

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


def test_two_processes_share_every_group():
    line = "--folds 3 --repeats 1 --inner_folds 2 --network.hidden [8] --save --accelerator cpu"
    line = [*line.split(), "--sweep.max_epochs", "[5,10]", "--sweep.data.batch_size", "[32,null]"]
    shares = ("--devices", "2", "--strategy", "ddp")
    done = two_forks(script, evaluate, [*line, *shares])
    assert (done.returncode, done.stderr) == (0, "")
    command(evaluate, line)
    both, alone = (
        json.loads(Path(f"lightning_logs/version_{i}/result.json").read_text()) for i in (0, 1)
    )
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
    ensemble = PopulationNetworks.load_from_checkpoint(path, weights_only=True).eval()
    encoder = Encoder.from_state(torch.load(path, weights_only=True)["Iris"])
    raw = load_iris()
    predicted = ensemble.probabilities(encoder(torch.from_numpy(raw.data))).argmax(-1).numpy()
    folds = cross_validation(Iris(), raw.target, 3, 1)
    hits = [
        predicted[i, fold.indices["test"]] == raw.target[fold.indices["test"]]
        for i, fold in enumerate(folds)
    ]
    assert np.mean(np.concatenate(hits)) == pytest.approx(result["settings"][1]["accuracy/mean"])


def test_numbers_are_uniform_in_their_range_or_on_its_log_scale():
    generator = np.random.default_rng(0)
    rates = [draw({"low": 1e-4, "high": 1.0, "log": True}, generator) for _ in range(4000)]
    assert kstest(np.log10(rates), uniform(-4, 4).cdf).pvalue > 0.01
    decays = [draw({"low": -1.0, "high": 3.0}, generator) for _ in range(4000)]
    assert kstest(decays, uniform(-1, 4).cdf).pvalue > 0.01
    widths = [draw({"low": 2, "high": 5}, generator) for _ in range(4000)]
    assert all(isinstance(width, int) for width in widths)
    assert chisquare(np.bincount(widths)[2:]).pvalue > 0.01
    epochs = [draw({"low": 1, "high": 200, "log": True}, generator) for _ in range(4000)]
    assert set(epochs) >= {1, 2, 200}
    assert max(epochs) == 200
    names = [draw(["a", "b"], generator) for _ in range(4000)]
    assert chisquare([names.count("a"), names.count("b")]).pvalue > 0.01


def test_a_search_is_the_sweep_of_what_it_draws_and_is_replayed():
    ranges = {"optimizer.lr": {"low": 1e-3, "high": 0.1, "log": True}}
    ranges["data.batch_size"] = [32, None]
    drawn = draw_all(ranges, 6, seed=1)
    result = evaluate(
        sweep=ranges, search=6, inner_folds=2, max_epochs=5, seed=1, log_dir="logs", **QUICK
    )
    assert [row.name for row in result.candidates] == [
        f"optimizer.lr {values['optimizer.lr']}, data.batch_size "
        + ("null" if values["data.batch_size"] is None else "32")
        for values in drawn
    ]
    assert len({values["optimizer.lr"] for values in drawn}) == 6
    command(evaluate, ["--config", "logs/version_0/config.yaml", "--log_dir", "logs"])
    again = json.loads(Path("logs/version_1/result.json").read_text())
    settings = json.loads(Path("logs/version_0/result.json").read_text())["settings"]
    assert again["settings"] == settings


def test_of_many_candidates_the_best_are_shown(capsys):
    line = ["--search", "25", "--sweep.optimizer.lr", "{low: 0.001, high: 0.1, log: true}"]
    line += ["--folds", "2", "--repeats", "1", "--inner_folds", "2", "--network", "Linear"]
    command(evaluate, [*line, "--max_epochs", "8", "--accelerator", "cpu"])
    shown = capsys.readouterr().out
    assert "  and 5 more, in result.json" in shown
    rows = [line for line in shown.splitlines() if line.startswith("optimizer.lr")]
    assert len(rows) == 20
    assert ["stopped in epoch" in row for row in rows] == 4 * [False] + 16 * [True]
    losses = [float(row.split()[-2]) for row in rows[:4]]
    assert losses == sorted(losses)
    settings = json.loads(Path("lightning_logs/version_0/result.json").read_text())["settings"]
    best = min(row["log_loss/mean"] for row in settings if "stopped_in" not in row)
    assert losses[0] == pytest.approx(best, abs=1e-4)


LR = "--sweep.optimizer.lr"
BAD = {
    "--search 9": "search is 9, but there is nothing to draw from; give lists or ranges, as in",
    f"--search 0 {LR} [0.1,0.2]": "search is 0; give 1 or more",
    f"--search 9 {LR} [0.1,0.2]": "search is 9, but 180 draws gave only 2 different candidates",
    f"--search 9 {LR} {{low:0.1,high:0.2}}": "limit 'low:0.1' is not known; nearest: low",
    f"--search 9 {LR} {{}}": "--sweep.optimizer.lr is {}; give a list",
    f"{LR} {{'low':0.1,'high':0.2}}": "--sweep.optimizer.lr is a range; give --search 50",
    f"--search 9 {LR} {{'low':0.2,'high':0.1}}": (
        "--sweep.optimizer.lr has low 0.2 and high 0.1; give a low below the high"
    ),
    f"--search 9 {LR} {{'low':0.2,'high':0.2}}": "has low 0.2 and high 0.2; give a low below",
    f"--search 9 {LR} {{'low':0.2}}": "--sweep.optimizer.lr has high None; give a number, as in",
    f"--search 9 {LR} {{'low':x,'high':1}}": "--optimizer.lr is 'x'; expected float",
    f"--search 9 {LR} {{'low':0,'high':1,'log':true}}": "has low 0.0 and a log scale; give a low",
    f"--search 9 {LR} {{'low':0,'high':1,'log':3}}": "has log 3; give true or false",
    f"--search 9 {LR} {{'low':0,'hihg':1}}": "limit 'hihg' is not known; nearest: high",
    "--search 9 --sweep.network.activation {'low':1,'high':2}": "has low 1; give a number",
    "--search 9 --sweep.network.hidden {'low':1,'high':2}": "expected [int, ...]",
    "--search 9 --sweep.network {'low':1,'high':2}": "give a list",
    "--search 9 --sweep.max_epochs {'low':1.5,'high':2}": "--max_epochs is '1.5'; expected int",
    "--search 3 --sweep.max_epochs {'low':-9,'high':0}": "; give 1 or more",
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
