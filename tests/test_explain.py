"""explain.py: attributions add up and equal captum's; importances are scikit-learn's; a picture."""

import io
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from captum.attr import IntegratedGradients
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.inspection import permutation_importance
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from cli.command import command
from data.images import Images
from data.iris import Iris
from data.table import Table
from explain import explain
from inference import attribution
from inference.attribution import (
    Importance,
    attributions,
    completeness_gaps,
    integrate_gradients,
    rank,
)
from inference.ranking import SHOWN_COLUMNS, draw, screen_width, to_lines
from model.convnet import ConvNet
from model.networks import MLP
from predict import load
from tests.helpers import ROOT, Fork, python, script
from tests.test_predict import today
from tests.test_table import mixed, write
from train import train

GOLDEN = ROOT / "tests" / "golden"
BEST, POPULATION = str(GOLDEN / "best_1.ckpt"), str(GOLDEN / "population_1.ckpt")
REFERENCE = ROOT / "lightning_logs" / "reference"
IRIS = load_iris().data


def raw_of(classifier, frame):
    return classifier.columns.matrix(frame)


def trained(*arguments, **options):
    """The checkpoint of a run, and its network."""
    train(*arguments, **options, accelerator="cpu", pictures="none")
    path = "lightning_logs/version_0/checkpoints/best.ckpt"
    return path, load(path)


def flowers(path="f.csv"):
    """Iris as a file, with its classes."""
    bunch = load_iris()
    species = pl.Series("species", bunch.target_names[bunch.target])
    write(
        pl.DataFrame(bunch.data, schema=[str(name) for name in bunch.feature_names]).with_columns(
            species
        ),
        path,
    )
    return path


def by_column(classifier, of_features):
    """Attributions of features, added up by the names of the features."""
    names, found = classifier.encoder.layout.names, []
    for column in classifier.column_names:
        own = [
            name in (column, f"{column} missing") or name.startswith(f"{column}=") for name in names
        ]
        found.append(of_features[:, own].sum(1))
    return np.stack(found, 1)


# Rows with missing values and a category that training did not have: today()'s.


def test_a_networks_attributions_are_captums_and_add_up():
    classifier = load(BEST)
    raw = raw_of(classifier, today())
    features = classifier.encoder(torch.from_numpy(raw))
    logits = classifier.network(features)
    target = logits.argmax(1)
    expected = IntegratedGradients(classifier.network).attribute(
        features, target=target, n_steps=50
    )
    found = attributions(classifier, raw)
    np.testing.assert_allclose(found, by_column(classifier, expected.numpy()), atol=1e-5)
    difference = (logits - classifier.network(torch.zeros(1, features.shape[1])))[
        torch.arange(50), target
    ]
    np.testing.assert_allclose(found.sum(1), difference, atol=1e-3)
    assert completeness_gaps(classifier, raw, found).max() <= 1e-3


def test_a_populations_attributions_are_those_of_its_ensembles_logits():
    classifier = load(POPULATION)
    raw = raw_of(classifier, today())
    features = classifier.encoder(torch.from_numpy(raw))
    members, rows, size = features.shape
    assert members > 1

    def ensemble(flat):  # all members' features in one row
        return classifier.network(flat.reshape(-1, members, size).transpose(0, 1))

    flat = features.transpose(0, 1).reshape(rows, -1)
    logits = ensemble(flat)
    np.testing.assert_allclose(logits.exp(), classifier.predict_proba(today()), atol=1e-6)
    target = logits.argmax(1)
    expected = IntegratedGradients(ensemble).attribute(flat, target=target, n_steps=50)
    found = attributions(classifier, raw)
    of_features = expected.reshape(rows, members, size).sum(1).numpy()
    np.testing.assert_allclose(found, by_column(classifier, of_features), atol=1e-5)
    difference = (logits - ensemble(torch.zeros_like(flat[:1])))[torch.arange(rows), target]
    np.testing.assert_allclose(found.sum(1), difference, atol=1e-3)


@pytest.mark.parametrize("kind", ["numbers", "mixed"])
def test_a_linear_networks_attribution_is_weight_times_distance_from_the_mean(kind):
    if kind == "mixed":
        write(mixed(), "t.csv")
    data = Iris if kind == "numbers" else partial(Table, "t.csv", "kind", scaling="standard")
    path, classifier = trained(data, partial(MLP, hidden=[]), max_epochs=20, members=1)
    raw = IRIS if kind == "numbers" else raw_of(classifier, today())
    content = torch.load(path, weights_only=True)
    state = content[data.__name__ if kind == "numbers" else "Table"]
    weight = content["state_dict"]["network.0.weight"].numpy()
    features = (
        classifier.encoder.encode(torch.from_numpy(raw)).numpy() - state["mean"].numpy()
    ) / state["scale"].numpy()
    logits = features @ weight.T + content["state_dict"]["network.0.bias"].numpy()
    expected = by_column(classifier, weight[logits.argmax(1)] * features)
    np.testing.assert_allclose(attributions(classifier, raw), expected, atol=2e-6)


def test_pixels_of_a_convolutional_network_add_up():
    _, classifier = trained(partial(Images, "digits"), partial(ConvNet, channels=[4]), max_epochs=3)
    raw = np.random.default_rng(0).integers(0, 17, (20, 64)).astype(float)
    found = attributions(classifier, raw)
    assert found.shape == (20, 64)
    assert completeness_gaps(classifier, raw, found).max() <= 1e-3


def kinked():
    """A network of ReLU with large weights: fifty steps are not enough."""
    classifier = load(str(REFERENCE / "checkpoints" / "best.ckpt"))
    torch.manual_seed(0)
    classifier.network = MLP(4, 3, [64, 64], "ReLU").requires_grad_(False)
    for weights in classifier.network.parameters():
        weights *= 2
    return classifier


def test_a_row_that_does_not_add_up_gets_more_steps():
    classifier = kinked()
    assert (
        completeness_gaps(classifier, IRIS, integrate_gradients(classifier, IRIS, 50)).max() > 1e-3
    )
    assert completeness_gaps(classifier, IRIS, attributions(classifier, IRIS)).max() <= 1e-3


def test_what_never_adds_up_is_told(monkeypatch, capsys):
    monkeypatch.setattr(attribution, "TOLERANCE", 0.0)
    monkeypatch.setattr(attribution, "MOST_STEPS", 100)
    explain(str(REFERENCE / "checkpoints" / "best.ckpt"), flowers(), picture=False)
    captured = capsys.readouterr()
    assert captured.err.startswith("warning: attributions miss the difference in logits by up to ")
    assert captured.err.count("\n") == 1
    assert captured.err.split("up to ")[1].split()[0] in captured.out


@pytest.mark.parametrize("bound", ["GRADIENT_ROWS", "GRADIENT_FEATURES"])
def test_a_pass_is_no_larger_than_its_bound(bound, monkeypatch):
    classifier, sizes = load(str(REFERENCE / "checkpoints" / "best.ckpt")), []
    whole = integrate_gradients(classifier, IRIS, 50)
    monkeypatch.setattr(attribution, bound, 400 if bound == "GRADIENT_FEATURES" else 100)
    classifier.network.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].numel()))
    np.testing.assert_allclose(integrate_gradients(classifier, IRIS, 50), whole, atol=1e-5)
    assert max(sizes) == 400  # 100 rows of 4


class ByName(ClassifierMixin, BaseEstimator):
    """A checkpoint as scikit-learn's tools take it, with class names."""

    def __init__(self, classifier):
        self.classifier = classifier

    def fit(self, features, labels):
        self.classes_ = np.unique(labels)
        return self

    def predict(self, features):
        return self.classifier.predict(features).astype(str)


@pytest.mark.parametrize("labelled", [True, False])
def test_permutation_importance_is_scikit_learns(labelled, capsys):
    path, bunch = str(REFERENCE / "checkpoints" / "best.ckpt"), load_iris(as_frame=True)
    classifier, labels = load(path), bunch.target_names[bunch.target]
    if not labelled:
        labels = classifier.predict(bunch.data).astype(str)
    estimator = ByName(classifier).fit(bunch.data, labels)
    expected = permutation_importance(
        estimator, bunch.data, labels, n_repeats=7, random_state=0, scoring="accuracy"
    )
    table = pl.read_csv(flowers())
    write(table if labelled else table.drop("species"), "t.csv")
    explain(path, "t.csv", repeats=7, picture=False)
    printed = capsys.readouterr().out
    for name, mean, deviation in zip(
        bunch.data, expected.importances_mean, expected.importances_std, strict=True
    ):
        line = next(line for line in printed.splitlines() if line.startswith(name))
        assert line.endswith(f" {mean:.4f} ± {deviation:.4f}")
    assert ("accuracy 0.9" in printed) is labelled
    assert (
        "without classes (species): the predicted classes are used instead" in printed
    ) is not labelled


def test_noise_is_last_and_what_tells_first():
    random = np.random.default_rng(0)
    columns = {name: random.normal(size=300) for name in ("noise", "tells", "helps")}
    kind = np.where(3 * columns["tells"] + columns["helps"] > 0, "yes", "no")
    write(pl.DataFrame(columns | {"kind": kind}), "t.csv")
    _, classifier = trained(partial(Table, "t.csv", "kind"))
    raw = np.stack(list(columns.values()), 1)
    ranking = rank(classifier, raw, attributions(classifier, raw), (kind == "yes").astype(int), 5)
    assert [column.name for column in ranking] == ["tells", "helps", "noise"]
    assert ranking[0].accuracy_drop > ranking[1].accuracy_drop > ranking[2].accuracy_drop
    assert ranking[0].accuracy_drop > 0.2
    assert [column.position for column in ranking] == [2, 3, 1]


@pytest.mark.parametrize("checkpoint", [BEST, POPULATION], ids=["network", "population"])
def test_the_file_has_every_row_in_order(checkpoint, capsys):
    frame, classifier = today(), load(checkpoint)
    write(frame, "today.csv")
    for output in ("a.csv", "a.parquet"):
        explain(checkpoint, "today.csv", output=output, repeats=0)
        found = pl.read_csv(output) if output.endswith("csv") else pl.read_parquet(output)
        assert found.columns == [
            "label",
            "probability",
            *(f"attribution {name}" for name in classifier.column_names),
        ]
        assert found["label"].cast(pl.String).to_list() == classifier.predict(frame).tolist()
        np.testing.assert_allclose(
            found["probability"], classifier.predict_proba(frame).max(1), atol=1e-6
        )
        expected = attributions(classifier, raw_of(classifier, frame))
        np.testing.assert_allclose(found[:, 2:].to_numpy(), expected, atol=1e-6)
    captured = capsys.readouterr()
    assert captured.err == 2 * "ignored columns: note\n"
    assert "±" not in captured.out
    *_, attribution_line, completeness = captured.out.splitlines()
    assert attribution_line.startswith(
        "attribution   integrated gradients of the predicted class's"
    )
    assert completeness.startswith("completeness  a row's attributions add up to the difference")
    assert completeness.endswith(" or better")
    order = [line.split("  ")[0] for line in captured.out.splitlines()[1:4]]
    largest = np.argsort(-np.abs(expected).mean(0))
    assert order == [classifier.column_names[i] for i in largest]


def test_the_command_reads_standard_input_and_draws_into_its_run():
    shutil.copytree(REFERENCE, "run")
    for event in Path("run").glob("events*"):
        event.unlink()
    line = ["run/checkpoints/best.ckpt", "-", "--output", "out.csv"]
    done = Fork(script, (explain, line), files={0: flowers()}).end()
    assert done.returncode == 0
    assert done.stderr == ""
    header, first = done.stdout.splitlines()[:2]
    assert header.split("   ")[0].strip() == "column"
    assert first.startswith("petal length (cm) ")
    assert len(header) >= len(first)
    assert len(pl.read_csv("out.csv")) == 150
    events = EventAccumulator("run")
    events.Reload()
    assert events.Tags()["images"] == ["visual/importance"]
    check(
        np.asarray(
            Image.open(io.BytesIO(events.Images("visual/importance")[0].encoded_image_string))
        )
    )


def check(picture, colours=((0, 114, 178), (230, 159, 0))):
    """There are bars, and nothing is cut off: the edge is empty."""
    for colour in colours:
        assert (picture == colour).all(2).sum() > 1000
    assert all(
        (edge == 255).all() for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1])
    )


NAMES = [
    "a very long name of a column that goes on and on without an end " * 3,
    "花瓣长度（厘米）",
    "这是非常长的列名" * 20,
]
NAMES += [
    "$x^2$ in $",
    "tab\there",
    "blossom 🌸",
    "\ue123\U000f0000",
    "W" * 80,
    "",
    "Größe °C",
    "_",
    "температура воды",
]


@pytest.mark.parametrize("count", [1, 12, 20, 64])
@pytest.mark.parametrize("shuffled", [True, False])
def test_any_names_fit_into_the_picture(count, shuffled, capfd):
    names = [*NAMES, *map("pixel {}".format, range(100))][:count]
    figures = (0.1, 0.02) if shuffled else ()
    picture = draw([Importance(name, i, 1 / i, *figures) for i, name in enumerate(names, 1)])
    check(
        picture, ((0, 114, 178), (230, 159, 0))[: 1 + shuffled]
    )  # and no warning of a letter: those are errors here
    assert len(picture) < 144 + 40 * SHOWN_COLUMNS
    assert capfd.readouterr() == ("", "")


def test_the_screen_is_aligned_and_short():
    ranking = [
        Importance(name, i, 1 / i, 0.1, 0.02)
        for i, name in enumerate([*NAMES, *"abcdefghijklmnop"], 1)
    ]
    lines = to_lines(ranking)
    assert len(lines) == 22
    assert lines[-1] == "and 8 more columns"
    assert len({screen_width(line) for line in lines[1:-1]}) == 1
    assert max(map(screen_width, lines)) < 100
    assert all(line.isprintable() for line in lines)


HEADER = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n"
WRONG = {
    "no file": (None, [], "there is no file t.csv"),
    "missing column": (
        "petal width (cm)\n1\n",
        [],
        "t.csv has no columns 'sepal length (cm)', 'sepal width (cm)'",
    ),
    "text": (
        HEADER + "1,2,3,4\n1,2,3,long\n",
        [],
        "t.csv: line 3, column 'petal width (cm)' is 'long'",
    ),
    "unknown class": (
        HEADER[:-1] + ",species\n1,2,3,4,rose\n",
        [],
        "column 'species' is 'rose'; the network knows",
    ),
    "no row": (HEADER, [], "t.csv has names of columns and no row"),
    "delimiter": (HEADER, ["--delimiter=ab"], "the delimiter is 'ab'; give one character"),
    "output": (
        HEADER + "1,2,3,4\n",
        ["--output=out.txt"],
        "output is 'out.txt'; give a name that ends in .csv or .parquet",
    ),
    "folder": (HEADER + "1,2,3,4\n", ["--output=no/out.csv"], "there is no folder"),
    "repeats": (HEADER + "1,2,3,4\n", ["--repeats=-1"], "repeats is -1; give how often"),
    "flag": (HEADER + "1,2,3,4\n", ["--pictures=false"], "nearest: picture"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(name, capsys):
    content, flags, message = WRONG[name]
    shutil.copytree(REFERENCE, "run")
    if content:
        Path("t.csv").write_text(content)
    Path("out.csv").write_text("yesterday's")
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        command(explain, ["run/checkpoints/best.ckpt", "t.csv", "--output=out.csv", *flags])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert sorted(Path().rglob("*")) == before
    assert Path("out.csv").read_text() == "yesterday's"


class Cut(nn.Linear):
    """A network that lets no gradient through."""

    def forward(self, features):
        return super().forward(features).detach()


def test_a_network_that_has_no_gradient_or_has_diverged_is_refused():
    classifier = load(str(REFERENCE / "checkpoints" / "best.ckpt"))
    classifier.network = Cut(4, 3).requires_grad_(False)
    with pytest.raises(ValueError, match="the network has no gradient to integrate: "):
        attributions(classifier, IRIS)
    classifier.network = nn.Linear(4, 3).requires_grad_(False)
    classifier.network.bias[:] = float("nan")
    with pytest.raises(ValueError, match="logits are not finite"):
        attributions(classifier, IRIS)


def test_errors_do_not_wait_for_captum():
    slow = "{'captum', 'matplotlib', 'lightning', 'sklearn'}"
    code = f"import sys, explain; assert not {slow} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
    done = python("explain.py", BEST, "no.csv", cwd=".")
    assert (done.returncode, done.stderr) == (2, "error: there is no file no.csv\n")


def test_a_target_whose_name_looks_like_a_pattern():
    pl.DataFrame({"x": np.arange(30.0), "^t|u$": ["a", "b"] * 15}).write_csv("p.csv")
    checkpoint, _ = trained(partial(Table, "p.csv", "^t|u$"), max_epochs=2)
    explain(checkpoint, "p.csv", output="out.csv", picture=False)
    assert len(pl.read_csv("out.csv")) == 30
