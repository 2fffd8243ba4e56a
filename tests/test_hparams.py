"""The row of the HParams tab: settings that can explain how runs differ."""

import pytest

from cli.component import to_config
from cli.parser import parse
from train import train
from training.hparams import hyperparameters

ALWAYS = {"network.hidden": "[128]", "seed": 0}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", {}),
        ("--optimizer.lr 0.2 --seed 3", {"optimizer.lr": 0.2, "seed": 3}),
        ("--data.split_seed 1", {"data.split_seed": 1}),
        ("--data.stratify false", {"data.stratify": "False"}),
        ("--network.dropout 0.3 --max_epochs 7", {"network.dropout": 0.3, "max_epochs": 7}),
        ("--schedule null", {"schedule": "None"}),
        ("--loss.label_smoothing 0", {"loss.label_smoothing": 0}),
        ("--data.batch_size 16", {"data.batch_size": 16}),
        ("--metric auroc", {"metric": "auroc"}),
        ("--trainer.gradient_clip_val 1", {"trainer.gradient_clip_val": 1}),
        ("--accelerator cpu --pictures none --log_dir runs", {}),
    ],
)
def test_a_row_has_what_was_changed(flags, expected):
    config = to_config(parse(train, flags.split()))
    assert hyperparameters(config) == ALWAYS | expected


def test_the_class_that_replaces_a_default_is_named_and_its_own_defaults_are_left_out():
    flags = ["--network", "Linear", "--optimizer", "SGD", "--optimizer.lr", "0.1"]
    row = hyperparameters(to_config(parse(train, flags)))
    assert row == {"network": "Linear", "optimizer": "SGD", "optimizer.lr": 0.1, "seed": 0}


def test_the_default_class_without_the_recipes_arguments_is_named():
    row = hyperparameters(to_config(parse(train, ["--optimizer", "AdamW"])))
    assert row["optimizer"] == "AdamW"
