"""evaluate.py killed and resumed: the same numbers; and what is refused. A result is never lost."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cli.command import command
from data.iris import Iris
from data.raw_table import RawTable
from evaluate import evaluate
from model.population import Population
from tests.helpers import weights
from training.fast import LastCheckpoint
from training.groups import GroupCheckpoint

FAST = "--accelerator cpu --folds 3 --repeats 1 --inner_folds 2 --max_epochs 8 --network.hidden [8]"
FAST = [*FAST.split(), "--baselines", "[]"]
KEPT = "lightning_logs/version_{}"


class KilledError(Exception):
    pass


def run(*flags):
    """`python evaluate.py …`; its folder, and its result without what a clock says."""
    command(evaluate, [*FAST, *flags])
    return last_run()


def resume(run_dir, *flags):
    command(evaluate, ["--resume", str(run_dir), *flags])
    return last_run()


def last_run():
    run_dir = max(Path("lightning_logs").iterdir(), key=lambda path: int(path.name.split("_")[1]))
    result = json.loads((run_dir / "result.json").read_text())
    result.pop("fit_seconds")
    return run_dir, result


def killed(monkeypatch, fit, epoch, *flags):
    """A run whose checkpoints are of every epoch, ended in an epoch of its fit-th fit."""
    monkeypatch.setattr(LastCheckpoint, "seconds", -1.0)
    monkeypatch.setattr(GroupCheckpoint, "share", np.inf)
    fits = []
    end = Population.on_train_epoch_end

    def stop(self):
        end(self)
        if self not in fits:
            fits.append(self)
        if len(fits) == fit and self.current_epoch == epoch:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Population, "on_train_epoch_end", stop)
        with pytest.raises(KilledError):
            command(evaluate, [*FAST, *flags])
    return max(Path("lightning_logs").iterdir(), key=lambda path: int(path.name.split("_")[1]))


def curves(run_dir):
    """The steps and values of every curve, by folder and tag, as TensorBoard shows them."""
    shown = {}
    for folder in [run_dir, *run_dir.glob("candidate_*")]:
        read = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        for tag in read.Tags()["scalars"]:
            events = [(event.step, event.value) for event in read.Scalars(tag)]
            shown[folder.name.removeprefix(run_dir.name), tag] = events
    return shown


PLAIN = "--repeats 2 --save"
SWEEP = "--sweep.optimizer.lr [0.01,0.05] --sweep.max_epochs [6,8] --save"
HALVED = (
    "--search 6 --sweep.optimizer.lr [0.001,0.003,0.01,0.02,0.05,0.1] --data.batch_size 64 "
    "--sweep.network.hidden [[4],[8]]"
)
PLATEAU = "--optimizer SGD --schedule ReduceLROnPlateau --data.batch_size 32 --patience 2"
WEIGHTED = "--data.class_weight balanced --data.val_fraction 0.2 --metric auroc --patience 3"
MEMBERS = "--members 2 --patience 3 --precision 64-true"


@pytest.mark.parametrize("flags", [PLAIN, SWEEP, HALVED, PLATEAU, WEIGHTED, MEMBERS])
@pytest.mark.parametrize("epoch", [2, 5])
def test_a_killed_evaluation_ends_with_the_same_numbers(flags, epoch, monkeypatch):
    expected_dir, expected = run(*flags.split())
    fits = 2 if "max_epochs" in flags else 1
    run_dir = killed(monkeypatch, fits, epoch, *flags.split())
    kept = {path.name for path in run_dir.glob("checkpoints/*")}
    assert kept == {f"group_{i + 1}.ckpt" for i in range(fits)}
    shutil.move(run_dir, "lightning_logs/version_7")
    again, result = resume("lightning_logs/version_7")
    assert again.name == "version_7"
    assert result == expected
    assert curves(again) == curves(expected_dir)
    saved = [path.name for path in again.glob("checkpoints/*")]
    assert saved == ["population.ckpt"] * ("--save" in flags)
    for name in saved:
        first, second = (weights(path / "checkpoints" / name) for path in (expected_dir, again))
        assert all(torch.equal(first[key], second[key]) for key in first)
