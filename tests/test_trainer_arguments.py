"""--trainer.* and the devices: right, or refused by name before anything is written."""

from functools import partial
from pathlib import Path

import pytest
import torch

from cli.command import command
from cli.schema import SET_BY_PROGRAM
from model.classifier import Classifier
from model.networks import MLP
from tests.helpers import ROOT, run
from train import train
from training.trainer_arguments import OF_MEMBERS, PARAMETERS, check_single_row

VALIDATED = "--data.val_fraction 0.1 "
TABLE = f"--data Table --data.path {ROOT}/examples/flowers.csv --data.target species "
REFUSED = {
    "--devices nan": "devices is 'nan'; on a CPU give auto, or a number of processes from 1 to",
    "--devices [0]": "devices is [0]; on a CPU",
    "--devices null": "devices is 'null'; on a CPU",
    "--devices -1": "devices is -1; on a CPU",
    "--devices [[1]]": "devices is '[[1]]'; on a CPU",
    "--devices 100000": "devices is 100000; on a CPU",
    "--num_nodes 1e20": "--num_nodes is '1e20'; expected int",
    "--num_nodes 99999999999999999999": "num_nodes is 99999999999999999999; give the number of",
    "--accelerator tpu": "accelerator tpu needs a package: pip install torch_xla",
    "--strategy xla": "strategy xla needs a package: pip install torch_xla",
    "--strategy dpp": "strategy 'dpp' is not known; nearest: ddp",
    "--precision 16-mixed": "precision is 16-mixed, which needs a GPU; give bf16-mixed",
    "--trainer.accumulate_grad_batches 0": "--trainer.accumulate_grad_batches is 0; give 1 or more",
    "--trainer.limit_train_batches 0": "--trainer.limit_train_batches is 0, which leaves none of",
    "--trainer.limit_train_batches 0.1": "--trainer.limit_train_batches is 0.1, which leaves none",
    "--trainer.max_steps 0": "--trainer.max_steps is 0; give 1 or more",
    "--trainer.min_epochs 9 --max_epochs 3": "--trainer.min_epochs is 9, more than max_epochs, 3",
    "--trainer.max_time 00:00:00:00": "--trainer.max_time is '00:00:00:00'; give days:hours:",
    "--trainer.max_time {second:1}": "--trainer.max_time is ",
    "--trainer.log_every_n_steps 0": "--trainer.log_every_n_steps is 0; give 1 or more",
    "--trainer.gradient_clip_val -1": "--trainer.gradient_clip_val is -1; give a number above 0",
    "--trainer.gradient_clip_algorithm norm": "give --trainer.gradient_clip_val too",
    "--trainer.profiler xla": "--trainer.profiler xla needs a package: pip install torch_xla",
    "--trainer.check_val_every_n_epoch 2": "needs validation rows; give --data.val_fraction",
    f"{VALIDATED}--trainer.check_val_every_n_epoch 5 --max_epochs 3": "is 5, more than max_epochs",
    f"{VALIDATED}--trainer.check_val_every_n_epoch 0": "every_n_epoch is 0; give 1 or more",
    f"{VALIDATED}--trainer.check_val_every_n_epoch null": "every_n_epoch is null; give 1 or more",
    f"{VALIDATED}--trainer.check_val_every_n_epoch 2 --patience 3": "patience counts epochs",
    f"{VALIDATED}--trainer.check_val_every_n_epoch 2 --trainer.max_time 00:00:01:00": "be over bef",
    f"{VALIDATED}--trainer.val_check_interval 0": "--trainer.val_check_interval is 0; give a share",
    f"{VALIDATED}--trainer.val_check_interval 2": "give at most an epoch's 1 batches",
    f"{VALIDATED}--trainer.val_check_interval 00:00:00:01": "interval is 00:00:00:01; give a share",
    f"{VALIDATED}--trainer.max_steps 2 --data.batch_size 50": "its first validation, after step 3",
    f"{TABLE}--trainer.max_steps 2": "8 are trained as one; give --members 1",
    f"{TABLE}--trainer.min_epochs 2": "--trainer.min_epochs acts on the fit of a single network",
    "--max_epochs 2 --schedule.pct_start 0.5": "cannot run in 2 steps; give a larger --max_epochs",
    "--network bn.Net --data.batch_size 17": "another --data.batch_size",
    "--network bn.Net --data.batch_size 1": "another --data.batch_size",
}  # fmt: skip
RIGHT = {
    "--trainer.limit_train_batches 2 --data.batch_size 10",
    "--trainer.max_steps 2",
    "--trainer.max_time 00:01:00:00",
    "--trainer.accumulate_grad_batches 2 --data.batch_size 20",
    "--trainer.log_every_n_steps null",
    f"{VALIDATED}--trainer.max_steps 3 --data.batch_size 50",
    f"{VALIDATED}--trainer.check_val_every_n_epoch 2",
    f"{VALIDATED}--trainer.check_val_every_n_epoch 2 --schedule ReduceLROnPlateau",
    f"{VALIDATED}--trainer.val_check_interval 0.4 --data.batch_size 20",
    f"{VALIDATED}--trainer.val_check_interval 2 --data.batch_size 20 --trainer.max_steps 2",
    f"{TABLE}--trainer.deterministic true",
    f"{TABLE}--trainer.gradient_clip_val 1 --trainer.accumulate_grad_batches 2",
    "--network bn.Net --data.batch_size 16",
}
NORMED = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self, num_features, num_classes):
        super().__init__(nn.BatchNorm1d(num_features), nn.Linear(num_features, num_classes))
"""


@pytest.fixture(autouse=True)
def _module(monkeypatch):
    Path("bn.py").write_text(NORMED)
    monkeypatch.syspath_prepend(Path.cwd())


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_used_is_refused_before_anything_is_written(line, capsys):
    with pytest.raises(SystemExit) as stop:
        command(train, ["--accelerator=cpu", *line.split()])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert REFUSED[line] in error
    assert error.count("\n") == 1
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize("line", sorted(RIGHT))
def test_what_can_be_used_gives_a_result(line):
    result = run("--max_epochs", "3", "--pictures", "none", *line.split())
    assert result["rows"]["test"] > 0
    assert Path("lightning_logs/version_0/checkpoints/best.ckpt").exists()


def test_the_same_is_refused_from_python():
    for name in SET_BY_PROGRAM:
        with pytest.raises(ValueError, match=f"--trainer.{name} is set by the program: "):
            train(max_epochs=1, trainer={name: 1})
    with pytest.raises(ValueError, match="'max_step' is not known; nearest: max_steps"):
        train(max_epochs=1, trainer={"max_step": 1})
    assert set(OF_MEMBERS) <= PARAMETERS.keys()


def test_a_trial_of_a_single_row_leaves_the_random_numbers():
    classifier = Classifier(4, 3, network=partial(MLP, dropout=0.5))
    state = torch.get_rng_state()
    check_single_row(classifier, 18, 17)
    assert torch.equal(state, torch.get_rng_state())


def test_the_profilers_report_is_shown(capfd, caplog):
    run("--max_epochs", "1", "--trainer.profiler", "simple", "--pictures", "none")
    assert "FIT Profiler Report" in capfd.readouterr().err + caplog.text


def test_a_plateau_is_stepped_after_each_validation():
    flags = "--schedule ReduceLROnPlateau --schedule.patience 0 --schedule.threshold 10"
    flags += " --optimizer SGD --optimizer.lr 0.1 --trainer.check_val_every_n_epoch 2"
    run(*VALIDATED.split(), *flags.split(), "--max_epochs", "7", "--pictures", "none")
    last = torch.load("lightning_logs/version_0/checkpoints/last.ckpt", weights_only=True)
    # Validated after epochs 2, 4 and 6, of which none is ever good enough.
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.1**4)
