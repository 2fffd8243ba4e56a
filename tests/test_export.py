"""export.py: the file runs without this program, predicts as torch does and describes itself."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import torch

from cli.command import command
from data.table import Table
from evaluate import evaluate
from export import export
from inference import exported
from inference.exported import random_rows
from inference.onnx import input_names, onnx_inputs
from predict import load
from tests.helpers import ROOT
from tests.test_table import mixed, write
from train import train

GOLDEN = ROOT / "tests" / "golden"
CHECKPOINTS = [
    str(GOLDEN / "best_1.ckpt"),
    str(GOLDEN / "population_1.ckpt"),
    str(ROOT / "lightning_logs/reference/checkpoints/best.ckpt"),
]


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=["network", "population", "iris"])
def test_onnxruntime_and_torch_agree_on_ten_thousand_rows(checkpoint, capsys):
    export(checkpoint, "model.onnx")
    printed = capsys.readouterr().out
    assert "labels identical" in printed
    assert float(printed.split("from torch ")[1].split(",")[0]) <= 1e-5
    classifier = load(checkpoint)
    raw = (
        random_rows(classifier, 10_000, np.random.default_rng(1))
        .astype(np.float32)
        .astype(np.float64)
    )
    assert 0.05 < np.isnan(raw).mean() < 0.15
    for i, name in enumerate(classifier.column_names):
        if name in classifier.categories:
            assert (raw[:, i] == len(classifier.categories[name])).sum() > 1000  # unseen
    session = onnxruntime.InferenceSession("model.onnx")
    labels, *figures = session.run(None, onnx_inputs(classifier, raw))
    expected = classifier.predict_raw(raw)
    assert len(figures) == 1 + classifier.is_population
    for found, figure in zip(figures, expected, strict=False):
        np.testing.assert_allclose(found, figure, rtol=0, atol=1e-5)
    assert (labels == np.array(classifier.class_names, object)[expected[0].argmax(1)]).all()
    torch_file = "model.pt2"
    export(checkpoint, torch_file)
    numbers, *figures = torch.export.load(torch_file).module()(torch.from_numpy(raw))
    np.testing.assert_array_equal(numbers, expected[0].argmax(1))
    for found, figure in zip(figures, expected, strict=False):
        np.testing.assert_allclose(found, figure, rtol=0, atol=1e-5)


def test_the_graph_takes_raw_columns_and_says_what_they_are():
    checkpoint = CHECKPOINTS[0]
    export(checkpoint, "model.onnx")
    model = onnx.load("model.onnx")
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession("model.onnx")
    inputs = [(value.name, value.type, value.shape) for value in session.get_inputs()]
    assert inputs == [
        ("size (cm)", "tensor(float)", ["rows", 1]),
        ("colour", "tensor(string)", ["rows", 1]),
        ("wet", "tensor(string)", ["rows", 1]),
    ]
    assert [(value.name, value.type, value.shape) for value in session.get_outputs()] == [
        ("label", "tensor(string)", ["rows"]),
        ("probabilities", "tensor(float)", ["rows", 3]),
    ]
    about = session.get_modelmeta().custom_metadata_map
    columns = json.loads(about["columns"])
    assert columns[0] == {"name": "size (cm)", "type": "number", "unit": "cm"}
    assert columns[1] == {"name": "colour", "type": "text", "categories": ["blue", "grün", "red"]}
    assert json.loads(about["class_names"]) == ["7", "b c", "Ä"]
    assert about["target"] == "kind"
    assert about["version"].startswith("lightning-iris ")
    assert len(about["run"].split()[-1]) == 16


def test_it_runs_where_there_is_neither_torch_nor_this_program():
    """The file in a process with onnxruntime alone, on what predict.py reads from a table."""
    export(CHECKPOINTS[0], "model.onnx")
    code = """
import json, sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
labels, probabilities = session.run(None, {
    "size (cm)": np.array([[4.01], [np.nan], [0.62]], np.float32),
    "colour": np.array([["red"], [""], ["violet"]], object),
    "wet": np.array([["false"], ["True"], ["TRUE"]], object),
})
assert not {"torch", "lightning", "predict"} & set(sys.modules)
print(json.dumps([labels.tolist(), probabilities.tolist()]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    Path("t.csv").write_text("wet,colour,size (cm)\nfalse,red,4.01\nTrue,,\nTRUE,violet,0.62\n")
    classifier, frame = load(CHECKPOINTS[0]), pl.read_csv("t.csv", infer_schema=False)
    labels, probabilities = json.loads(done.stdout)
    assert labels == classifier.predict(frame).tolist()
    np.testing.assert_allclose(probabilities, classifier.predict_proba(frame), atol=1e-6)


def test_numbers_that_float32_cannot_tell_apart_are_float64():
    seconds = 1_700_000_000 + 3 * np.arange(60)
    pl.DataFrame(
        {"t": [None, *seconds[1:].tolist()], "x": np.arange(60) % 7, "y": np.arange(60) >= 30}
    ).write_csv("t.csv")
    train(partial(Table, "t.csv", "y"), accelerator="cpu", pictures="none")
    checkpoint = "lightning_logs/version_0/checkpoints/best.ckpt"
    export(checkpoint, "model.onnx")
    session = onnxruntime.InferenceSession("model.onnx")
    assert [value.type for value in session.get_inputs()] == ["tensor(double)", "tensor(float)"]
    columns = {
        "t": seconds.astype(float)[:, None],
        "x": (np.arange(60) % 7).astype(np.float32)[:, None],
    }
    expected = load(checkpoint).predict_proba(np.stack([seconds, np.arange(60) % 7], 1))
    np.testing.assert_allclose(session.run(None, columns)[1], expected, atol=1e-5)


def test_names_that_onnx_cannot_have_twice():
    frame = mixed().rename({"size (cm)": "label", "colour": "probabilities", "wet": ""})
    train(
        partial(Table, write(frame, "t.csv"), "kind"),
        max_epochs=5,
        accelerator="cpu",
        pictures="none",
    )
    checkpoint = "lightning_logs/version_0/checkpoints/best.ckpt"
    export(checkpoint, "model.onnx")
    names = [value.name for value in onnxruntime.InferenceSession("model.onnx").get_inputs()]
    assert names == ["label_", "probabilities_", "column 3"] == input_names(load(checkpoint))


def test_columns_that_are_called_like_values_inside_the_graph():
    """Torch's exporter names the values after its operators."""
    export(CHECKPOINTS[0], "plain.onnx")
    inside = {name for node in onnx.load("plain.onnx").graph.node for name in node.output}
    assert {"argmax", "isnan", "div"} <= inside
    names = {"size (cm)": "argmax", "colour": "isnan", "wet": "div"}
    train(
        partial(Table, write(mixed().rename(names), "t.csv"), "kind"), max_epochs=5, pictures="none"
    )
    export("lightning_logs/version_0/checkpoints/best.ckpt", "model.onnx")
    inputs = onnxruntime.InferenceSession("model.onnx").get_inputs()
    assert [value.name for value in inputs] == list(names.values())


def test_the_file_does_not_name_the_folders_of_this_machine():
    export(CHECKPOINTS[0], "model.onnx")
    assert str(ROOT).encode() not in Path("model.onnx").read_bytes()


def test_a_version_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(exported, "PACKAGE", "a-package-that-nobody-installed")
    assert exported.package_version() == "from a clone"


def test_the_runs_own_table_is_compared_and_a_drawn_one_where_it_is_gone(capsys):
    write(mixed(), "t.csv")
    train(partial(Table, "t.csv", "kind"), max_epochs=5, accelerator="cpu", pictures="none")
    checkpoint = "lightning_logs/version_0/checkpoints/best.ckpt"
    capsys.readouterr()
    export(checkpoint, "model.onnx")
    assert "on 62 rows (the run's table)" in capsys.readouterr().out
    Path("t.csv").unlink()
    export(checkpoint, "model.onnx")
    assert "on 1,002 rows (drawn: the run's table is not there)" in capsys.readouterr().out


def test_a_population_of_ones_own_networks(monkeypatch, capsys):
    """Through vmap, which a chain of linear layers does without."""
    monkeypatch.syspath_prepend(Path.cwd())
    own()
    command(
        evaluate,
        [
            *FLAGS,
            "--network=shipped.Residual",
            "--folds=3",
            "--repeats=1",
            "--members=1",
            "--save",
            "--max_epochs=5",
        ],
    )
    export("lightning_logs/version_0/checkpoints/population.ckpt", "model.onnx")
    assert "labels identical" in capsys.readouterr().out


FLAGS = ["--data=Table", "--data.path=t.csv", "--data.target=kind", "--accelerator=cpu"]
OWN = """
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self, num_features: int, num_classes: int):
        super().__init__()
        self.enter, self.leave = nn.Linear(num_features, 8), nn.Linear(8, num_classes)

    def forward(self, features):
        x = self.enter(features)
        return self.leave(x + torch.tanh(x))

class Noisy(nn.Linear):
    def forward(self, features):
        noise = torch.rand(features.shape[0], 1) * torch.tensor([1.0, 0.0, 0.0])
        return super().forward(features) + noise

class Branching(nn.Linear):
    def forward(self, features):
        return super().forward(features if features.sum().item() > 1e9 else features + 1)
"""


def own():
    """A module of these networks, and a table."""
    Path("shipped.py").write_text(OWN)
    write(mixed(), "t.csv")
    sys.modules.pop("shipped", None)


@pytest.mark.filterwarnings("ignore:no graph in TensorBoard")
@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("Noisy", "would differ from torch by"),
        ("Branching", "torch.export cannot write this network down"),
    ],
)
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_what_would_not_predict_alike_is_not_written(network, message, kind, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path.cwd())
    own()
    line = [*FLAGS, "--pictures=none", "--max_epochs=3", "--schedule=null"]
    command(train, [*line, f"--network=shipped.{network}"])
    before = sorted(Path().glob("*"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        command(export, ["lightning_logs/version_0/checkpoints/best.ckpt", f"model.{kind}"])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert sorted(Path().glob("*")) == before


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("model.h5", "output is 'model.h5'; give a name that ends in .onnx or .pt2"),
        ("nowhere/model.onnx", "output is 'nowhere/model.onnx', but there is no folder"),
    ],
)
def test_bad_outputs(output, message, capsys):
    with pytest.raises(SystemExit) as stop:
        command(export, [CHECKPOINTS[0], output])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_columns_are_given_to_onnx_as_a_table_has_them():
    classifier = load(CHECKPOINTS[0])
    frame = pl.read_csv(GOLDEN / "table.csv", infer_schema=False)
    raw = classifier.columns.matrix(frame)
    found = onnx_inputs(classifier, raw)
    assert found["colour"][:, 0].tolist() == [value or "" for value in frame["colour"]]


@pytest.mark.parametrize("name", ["iris", "population"])
def test_a_single_input_of_numbers_predicts_the_same(name):
    if name == "iris":
        checkpoint = CHECKPOINTS[2]
    else:
        evaluate(accelerator="cpu", max_epochs=5, folds=3, repeats=1, save=True)
        checkpoint = "lightning_logs/version_0/checkpoints/population.ckpt"
    export(checkpoint, "columns.onnx")
    export(checkpoint, "single.onnx", single_input=True)
    single, columns = map(onnxruntime.InferenceSession, ("single.onnx", "columns.onnx"))
    assert [(value.name, value.type, value.shape) for value in single.get_inputs()] == [
        ("X", "tensor(float)", ["rows", 4])
    ]
    assert [value.name for value in single.get_outputs()] == [
        value.name for value in columns.get_outputs()
    ]
    classifier = load(checkpoint)
    raw = random_rows(classifier, 1000, np.random.default_rng(1)).astype(np.float32)
    labels, *figures = single.run(None, {"X": raw})
    expected_labels, *expected = columns.run(None, onnx_inputs(classifier, raw))
    assert (labels == expected_labels).all()
    for found, figure in zip(figures, expected, strict=True):
        np.testing.assert_allclose(found, figure, rtol=0, atol=1e-6)
    in_torch = classifier.predict_proba(raw.astype(float))
    np.testing.assert_allclose(figures[0], in_torch, rtol=0, atol=1e-6)


def test_a_single_input_that_must_be_float64():
    seconds = 1_700_000_000 + 3 * np.arange(60)
    pl.DataFrame({"t": seconds, "x": np.arange(60) % 7, "y": np.arange(60) >= 30}).write_csv(
        "t.csv"
    )
    data = partial(Table, "t.csv", "y", numeric=["t"])
    train(data, max_epochs=20, members=1, accelerator="cpu", pictures="none")
    checkpoint = "lightning_logs/version_0/checkpoints/best.ckpt"
    export(checkpoint, "model.onnx", single_input=True)
    session = onnxruntime.InferenceSession("model.onnx")
    assert session.get_inputs()[0].type == "tensor(double)"
    raw = np.stack([seconds, np.arange(60) % 7], 1).astype(float)
    expected = load(checkpoint).predict_proba(raw)
    np.testing.assert_allclose(session.run(None, {"X": raw})[1], expected, atol=1e-6)


def test_a_single_input_holds_numbers_alone(capsys):
    refusals = {
        "model.onnx": "a single input holds numbers, and column 'colour' is text; leave out --s",
        "model.pt2": "a .pt2 file has a single input anyway; leave out --single_input",
    }
    for output, message in refusals.items():
        with pytest.raises(SystemExit) as stop:
            command(export, [CHECKPOINTS[0], output, "--single_input"])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
        assert not Path(output).exists()
