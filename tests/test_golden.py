"""Checkpoints and configs of earlier versions still load; tests/golden/make.py recorded them."""

import json
from inspect import signature

import numpy as np
import polars as pl
import pytest
import yaml

from cli.component import as_plain, to_config
from cli.parser import parse
from data.checkpoint_format import FORMAT, READABLE_FORMATS
from evaluate import evaluate
from inference.predictor import load
from tests.helpers import ROOT
from train import train

GOLDEN = ROOT / "tests" / "golden"
FORMATS = sorted(READABLE_FORMATS)


@pytest.mark.parametrize("version", FORMATS)
@pytest.mark.parametrize("name", ["best", "population", "options"])
def test_a_golden_checkpoint_predicts_as_before(name, version):
    frame = pl.read_csv(GOLDEN / "table.csv")
    expected = json.loads((GOLDEN / f"{name}_{version}.json").read_text())
    predictor = load(str(GOLDEN / f"{name}_{version}.ckpt"))
    np.testing.assert_allclose(predictor.predict_proba(frame), expected, atol=2e-6)


@pytest.mark.parametrize("version", FORMATS)
@pytest.mark.parametrize(
    ("name", "function"), [("train", train), ("sweep", evaluate), ("compare", evaluate)]
)
def test_a_golden_config_is_read_as_the_same_values(name, function, version):
    path = GOLDEN / f"{name}_{version}.yaml"
    config = to_config(parse(function, ["--config", str(path)]))
    content = yaml.safe_load(path.read_text())
    for key, value in content.items():
        if isinstance(value, dict):  # a component may have newer arguments
            assert config[key].items() >= value.items()
        else:
            assert config[key] == value
    for key in config.keys() - content.keys():  # arguments that are newer than the config
        default = as_plain(signature(function).parameters[key].default)
        assert config[key] == ({} if key == "trainer" else default)


def test_the_format_that_is_written_can_be_read():
    assert FORMAT in READABLE_FORMATS
