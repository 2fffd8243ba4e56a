"""The command line: what a flag, a file and a named class mean, and what bad input gets."""

import re
from pathlib import Path

import pytest
import yaml
from torch import nn
from torch.optim import SGD, AdamW

from cli.command import command
from cli.parser import parse
from model import recipe
from model.networks import MLP
from tests.helpers import ROOT
from train import train


def keywords(noun, *argv):
    return parse(train, list(argv))[noun].keywords


def test_no_flag_is_the_recipe():
    arguments = parse(train, [])
    assert arguments["network"].func is MLP
    assert arguments["optimizer"].func is AdamW
    assert arguments["optimizer"].keywords == recipe.OPTIMIZER.keywords
    assert arguments["max_epochs"] == recipe.MAX_EPOCHS


def test_a_flag_changes_one_setting():
    assert keywords("optimizer", "--optimizer.lr", "0.5") == recipe.OPTIMIZER.keywords | {"lr": 0.5}
    assert keywords("network", "--network.hidden", "[8,4]", "--network.activation=Tanh") == {
        "hidden": [8, 4], "activation": "Tanh",
    }  # fmt: skip


def test_a_named_class_inherits_nothing():
    assert parse(train, ["--optimizer", "SGD"])["optimizer"].func is SGD
    assert (
        keywords("optimizer", "--optimizer", "SGD") == {}
    )  # neither the recipe's lr nor its weight decay
    assert keywords("optimizer", "--optimizer.lr", "0.5", "--optimizer", "SGD") == {
        "lr": 0.5
    }  # the order is free


def test_files_and_flags_from_left_to_right():
    Path("a.yaml").write_text("optimizer: {class: AdamW, lr: 0.5, weight_decay: 0.2}\nseed: 1\n")
    Path("b.yaml").write_text("optimizer: {lr: 0.25}\nnetwork: MLP\nschedule: null\n")
    line = ["--config", "a.yaml", "--config", "b.yaml"]
    assert keywords("optimizer", *line) == {"lr": 0.25, "weight_decay": 0.2}
    assert keywords("optimizer", *line, "--optimizer", "SGD", "--optimizer.momentum", "0.9") == {
        "momentum": 0.9
    }
    assert parse(train, line)["schedule"] is None
    assert parse(train, line)["seed"] == 1
    assert parse(train, [*line, "--seed", "2"])["seed"] == 2


def test_trainer_arguments_pass():
    arguments = parse(train, ["--trainer.gradient_clip_val", "0.5", "--devices", "[0]"])
    assert arguments["trainer"] == {"gradient_clip_val": 0.5}
    assert arguments["devices"] == [0]


def test_torchs_and_ones_own_classes():
    Path("mine.py").write_text("from torch import nn\nclass Net(nn.Linear):\n    pass\n")
    assert parse(train, ["--network", "Linear"])["network"].func is nn.Linear
    assert parse(train, ["--network", "torch.nn.Linear"])["network"].func is nn.Linear
    assert parse(train, ["--loss", "MSELoss"])["loss"].func.__module__ == "model.losses"


@pytest.mark.parametrize("loss", ["CrossEntropyLoss", "BCEWithLogitsLoss", "MSELoss"])
def test_print_config_is_read_back(loss, capsys):
    line = [
        "--network.hidden",
        "[8]",
        "--optimizer",
        "SGD",
        "--optimizer.lr",
        "1e-3",
        "--schedule",
        "null",
    ]
    line += ["--loss", loss]
    with pytest.raises(SystemExit) as stop:
        command(train, [*line, "--print_config"])
    assert not stop.value.code
    text = capsys.readouterr().out
    Path("c.yaml").write_text(text)
    with pytest.raises(SystemExit):
        command(train, ["--config", "c.yaml", "--print_config"])
    assert capsys.readouterr().out == text
    assert yaml.safe_load(text)["optimizer"] == {"class": "SGD", "lr": 0.001}


def test_help_fits_two_screens_and_says_a_sentence_for_each_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(train, ["--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 132
    flags = re.split(r"\n  --", "\n".join(lines))[1:]
    assert len(flags) > 40
    for flag in flags:
        assert re.search(r"[.…](\s\([^\n]+\))?$", flag.split("\n\n")[0]), flag
    assert "==SUPPRESS==" not in "\n".join(lines)


BAD = {
    "--accelerator gpuu": "--accelerator 'gpuu' is not known; nearest: gpu",
    "--network.activation Relu": "activation 'Relu' is not known; nearest: ReLU",
    "--loss CrossEntropy": "loss 'CrossEntropy' is not known; nearest: CrossEntropyLoss",
    "--loss L1Loss": "the loss must take (rows, classes) logits and (rows,) class numbers: ",
    "--loss.reduction none": "the loss is of shape (4,); give one that is a scalar",
    "--network ReLU": "the network is called with the numbers of features and of classes: ",
    "--network Flatten": "empty parameter list",
    "--optimizer AdamWW": "optimizer 'AdamWW' is not known; nearest: AdamW",
    "--schedule StepLr2": "schedule 'StepLr2' is not known; nearest: StepLR",
    "--schedule StepLR": "schedule.step_size",
    "--data Irys": "data 'Irys' is not known; nearest: Iris",
    "--network nowhere.Net": "network 'nowhere.Net' cannot be imported: No module named 'nowhere'",
    "--network json.dumps": "network 'json.dumps' is not a class that inherits from torch.nn.Module",
    "--network null": "network",
    "--network": "argument --network: expected one argument",
    "--learning_rate 0.1": "setting 'learning_rate' is not known; nearest: ",
    "--optimizer.lrr 0.1": "setting 'optimizer.lrr' is not known; nearest: optimizer.lr",
    "extra": "unrecognized arguments: extra",
    "--max_epochs many": "--max_epochs is 'many'; expected int",
    "--patience 0": "patience is 0; give 1 or more epochs",
    "--max_epochs 2 --schedule.pct_start 0.5": "the schedule has no place in 2 steps; give more epochs",
    "--data TabularData": "TabularData must define load(self) -> RawTable",
    "--network ..x": "network '..x' cannot be imported",
    "--max_epochs 0": "max_epochs is 0; give 1 or more",
    "--patience x": "--patience is 'x'; expected int|null",
    "--network.hidden [8,x]": "--network.hidden is '[8,x]'; expected [int, ...]",
    "--precision 31": "--precision '31' is not known; nearest: 32-true",
    "--config none.yaml": "none.yaml",
    "--config malformed.yaml": "malformed.yaml is not YAML: ",
    "--config list.yaml": "list.yaml holds no settings",
    "--config type.yaml": "--max_epochs is '[1]'; expected int",
    "--config key.yaml": "setting 'netwrk' is not known; nearest: network",
    "--optimizer.lr 0": "lr is 0.0; give a finite number above 0",
    "--optimizer.lr -1": "lr is -1.0; give a finite number above 0",
    "--optimizer.lr .inf": "lr is inf; give a finite number above 0",
    "--optimizer.betas [2,2]": "Invalid beta parameter",
    "--schedule.pct_start 2": "pct_start",
    "--network.hidden [0]": "hidden is [0]; every width must be 1 or more",
    "--data.batch_size 0": "batch_size is 0; give 1 or more",
    "--data.test_fraction 0.01": "without some of the 3 classes",
    "--data.val_fraction 0.9": "leave rows to train on",
    "--log_dir a_file/logs": "log_dir 'a_file/logs' cannot be written: Not a directory; give another",
    "--pictures Regionss": "picture 'Regionss' is not known; nearest: Regions",
    "--pictures [Card,Wieghts]": "picture 'Wieghts' is not known; nearest: Weights",
    "--pictures fnal": "picture 'fnal' is not known; nearest: final",
    "--resume none.ckpt": "resume is 'none.ckpt', which is in no run's folder",
    "--resume cut/checkpoints/last.ckpt": "which is no whole checkpoint",
    "--devices 0": "devices",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(line, capsys):
    Path("a_file").write_text("")
    for name, text in {
        "malformed": "a: [",
        "list": "- 1",
        "type": "max_epochs: [1]",
        "key": "netwrk: MLP",
    }.items():
        Path(f"{name}.yaml").write_text(text)
    Path("cut/checkpoints").mkdir(parents=True)
    Path("cut/config.yaml").write_text("")
    Path("cut/checkpoints/last.ckpt").write_bytes(b"PK\x03\x04 cut short")
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        command(train, line.split())
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert BAD[line] in captured.err
    assert sorted(path for path in Path().rglob("*") if path.name != "lightning_logs") == before


@pytest.mark.parametrize(
    "config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_committed_config_is_understood(config):
    parse(train, ["--config", str(config)])
