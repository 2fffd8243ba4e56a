"""The pictures: what TensorBoard reads back, numbers beside independent ones, and what they must not do to a run."""

import io
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from sklearn.feature_selection import f_classif
from sklearn.metrics import confusion_matrix, precision_recall_curve
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
from torch import nn

from cli.command import command
from data.images import Images
from data.iris import Iris
from data.tabular import RawTable, TabularData
from evaluate import evaluate
from model.classifier import Classifier
from model.convnet import ConvNet
from tests.helpers import run, weights
from train import train
from training.pictures import confusion
from training.pictures.choice import PICTURES
from training.pictures.confusion import ConfusionMatrix
from training.pictures.figures import DPI, HEIGHT, WIDTH
from training.pictures.regions import Regions, f_values
from training.pictures.view import View
from training.pictures.weights import Weights

NAMES = ["setosa", "versicolor", "virginica"]
LONG = [f"a class of the table whose name is of sixty letters long {i:03d}" for i in range(30)]
SCRIPTS = [
    "山鳶尾與變色鳶尾以及維吉尼亞鳶尾的雜交種",
    "زهرة السوسن البري",
    "आइरिस वर्जिनिका",
    "W" * 40,
    "_cost $5 and $6",
]


def events(folder="lightning_logs/version_0"):
    return EventAccumulator(
        str(folder), size_guidance={"images": 0, "tensors": 0, "histograms": 0}
    ).Reload()


class Own(TabularData):
    """A table with these names, as simple or as wide as a test wants it."""

    def __init__(self, features, classes):
        super().__init__()
        self.names = features, classes

    def load(self):
        features, classes = self.names
        numbers, random = np.repeat(np.arange(len(classes)), 20), np.random.default_rng(0)
        centers = random.normal(size=(len(classes), len(features)))
        rows = centers[numbers] + 0.4 * random.normal(size=(len(numbers), len(features)))
        return RawTable(rows, numbers, list(features), list(classes))


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is shown, by its tag."""
    shown = {}
    show = View.show

    def keep(self, tag, figure, step=None):
        show(self, tag, figure, step)
        shown[tag] = figure

    monkeypatch.setattr(View, "show", keep)
    return shown


def default_network(folder):
    """The kept network of a default run, its test rows' probabilities, and their targets."""
    iris = Iris()
    iris.setup()
    classifier = Classifier.load_from_checkpoint(
        folder / "checkpoints" / "best.ckpt", map_location="cpu"
    ).eval()
    features, targets = iris.splits["test"]
    with torch.no_grad():
        return classifier, iris, classifier(features).double().softmax(1).numpy(), targets.numpy()


def test_tensorboard_reads_every_picture(default_run):
    folder, _ = default_run
    read = events(folder)
    tags = read.Tags()
    assert set(tags["images"]) == {
        "ConfusionMatrix/training", "ConfusionMatrix/test", "Regions/components", "Regions/features",
        "Weights/0.weight", "Weights/2.weight", "Reliability/test",
    }  # fmt: skip
    parameters = ["0.weight", "0.bias", "2.weight", "2.bias"]
    expected = {f"{kind}/{name}" for kind in ("weights", "gradients") for name in parameters}
    assert set(tags["histograms"]) == expected | {f"activations/{i}" for i in range(3)}
    assert {f"PrecisionRecall/{i}_{name}" for i, name in enumerate(NAMES)} <= set(tags["tensors"])
    assert read.summary_metadata["PrecisionRecall/0_setosa"].plugin_data.plugin_name == "pr_curves"
    assert "tensor_name: \"Embedding:00100\"" in (folder / "projector_config.pbtxt").read_text()  # fmt: skip
    for tag in tags["images"]:
        for event in read.Images(tag):
            image = Image.open(io.BytesIO(event.encoded_image_string))
            assert image.size == (WIDTH, HEIGHT)
            assert len(image.getcolors(2**18)) > 50, tag


def test_the_card_names_settings_columns_classes_and_result(default_run):
    folder, _ = default_run
    (event,) = events(folder).Tensors("Card/text_summary")
    text = tensor_util.make_ndarray(event.tensor_proto).item().decode()
    for row in (
        "| network.hidden | [128] |",
        "| seed | 0 |",
        "| 3 classes | setosa, versicolor, virginica |",
    ):
        assert row in text
    assert (
        "| 4 columns | sepal length (cm), sepal width (cm), petal length (cm), petal width (cm) |"
        in text
    )
    assert "| final/test/accuracy | 1.0000 |" in text


def test_the_matrices_are_those_of_scikit_learn_and_of_the_curve(monkeypatch):
    drawn = []
    matrix = pictures.matrix
    monkeypatch.setattr(
        pictures,
        "matrix",
        lambda counts, *rest: (drawn.append((counts, rest[1])), matrix(counts, *rest))[1],
    )
    run("--pictures", "ConfusionMatrix", "--max_epochs", "20")
    _, _, probabilities, targets = default_network(Path("lightning_logs/version_0"))
    *seen, (counts, title) = drawn
    assert title == "30 test rows"
    assert np.array_equal(
        counts, confusion_matrix(targets, probabilities.argmax(1), labels=range(3))
    )
    read = events()
    accuracy = {event.step: event.value for event in read.Scalars("train/accuracy")}
    steps = [event.step for event in read.Images("ConfusionMatrix/training")]
    assert len(seen) == len(steps) == 6
    assert steps == sorted(steps)
    for (counts, title), step in zip(seen, steps, strict=True):
        assert counts.sum() == 120
        assert counts.trace() / 120 == pytest.approx(accuracy[step])
        assert title == f"120 training rows, epoch {step}"


def test_with_validation_rows_the_matrix_is_of_them():
    run("--pictures", "[ConfusionMatrix]", "--max_epochs", "5", "--data.val_fraction", "0.1")
    assert set(events().Tags()["images"]) == {"ConfusionMatrix/validation", "ConfusionMatrix/test"}


def test_the_calibration_error_is_the_one_by_hand(figures):
    run("--pictures", "Reliability", "--max_epochs", "20")
    _, _, probabilities, targets = default_network(Path("lightning_logs/version_0"))
    sure, right = probabilities.max(1), probabilities.argmax(1) == targets
    error = 0.0
    for low in range(15):
        own = (sure > low / 15) & (sure <= (low + 1) / 15)
        error += abs(sure[own].sum() - right[own].sum()) / len(targets)
    assert (
        figures["Reliability/test"].texts[0].get_text()
        == f"30 test rows, calibration error {error:.3f}"
    )


def test_the_curves_are_those_of_scikit_learn():
    run("--pictures", "PrecisionRecall", "--max_epochs", "4")
    _, _, probabilities, targets = default_network(Path("lightning_logs/version_0"))
    for number, name in enumerate(NAMES):
        (event,) = events().Tensors(f"PrecisionRecall/{number}_{name}")
        *_, precision, recall = tensor_util.make_ndarray(event.tensor_proto)
        expected = precision_recall_curve(targets == number, probabilities[:, number])
        for i in (13, 38, 63, 88):  # thresholds of 126ths
            at = np.searchsorted(expected[2], i / 126)
            assert recall[i] == pytest.approx(expected[1][at], abs=1e-6)
            if recall[i]:
                assert precision[i] == pytest.approx(expected[0][at], abs=1e-6)


def test_the_embedding_is_the_last_hidden_layer(default_run):
    folder, _ = default_run
    classifier, iris, _, _ = default_network(folder)
    state = classifier.state_dict()
    features = torch.cat([iris.splits[part][0] for part in ("train", "test")])
    hidden = nn.functional.silu(features @ state["network.0.weight"].T + state["network.0.bias"])
    found = np.loadtxt(folder / "00100" / "Embedding" / "tensors.tsv")
    assert np.allclose(found, hidden.numpy(), atol=1e-5)
    lines = (folder / "00100" / "Embedding" / "metadata.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["class", "predicted", "part"]
    targets = torch.cat([iris.splits[part][1] for part in ("train", "test")])
    assert [line.split("\t")[0] for line in lines[1:]] == [iris.class_names[i] for i in targets]
    assert [line.split("\t")[2] for line in lines[1:]] == ["training"] * 120 + ["test"] * 30


def test_the_features_of_the_plane_are_those_of_scikit_learn(figures):
    iris = Iris()
    iris.setup()
    features, targets = iris.splits["train"]
    assert np.allclose(
        f_values(features, targets), f_classif(features.numpy(), targets.numpy())[0], rtol=1e-3
    )
    run("--pictures", "Regions", "--max_epochs", "50")
    axes = figures["Regions/features"].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("petal length (cm)", "petal width (cm)")
    shown = np.concatenate([dots.get_offsets() for dots in axes.collections[:3]])
    raw = iris.load().features[:, [2, 3]]
    assert np.allclose(sorted(shown.tolist()), sorted(raw.tolist()), atol=1e-5)  # the rows, in cm


def alone(table, network, *callbacks):
    """A Trainer with pictures, without train.py."""
    table.setup()
    classifier = Classifier(table.num_features, table.num_classes, network)
    options = {"enable_progress_bar": False, "enable_checkpointing": False, "limit_val_batches": 0}
    options |= {
        "accelerator": "cpu",
        "max_epochs": 3,
        "log_every_n_steps": 1,
        "enable_model_summary": False,
    }
    trainer = Trainer(logger=TensorBoardLogger("alone"), callbacks=[*callbacks], **options)
    trainer.fit(classifier, table)
    trainer.test(classifier, table, verbose=False)
    return set(events(trainer.log_dir).Tags()["images"])


class Skip(nn.Module):
    """A network that is no Sequential, defines its layers in another order than it calls them, and has no bias."""

    def __init__(self, num_features, num_classes):
        super().__init__()
        self.head = nn.Linear(5, num_classes)
        self.scale = nn.Parameter(torch.ones(()))
        self.first = nn.Linear(num_features, 5, bias=False)

    def forward(self, features):
        return self.head(torch.relu(self.first(features))) * self.scale


def test_a_picture_is_used_alone():
    assert alone(Iris(), Skip, ConfusionMatrix()) == {
        "ConfusionMatrix/training",
        "ConfusionMatrix/test",
    }


@pytest.mark.parametrize(
    ("features", "classes", "network"),
    [
        (["x"], ["no", "yes"], Skip),
        (["a", "b"], LONG[:3], nn.Linear),
        (["a", "b", "c"], LONG[:12], Skip),
    ],
    ids=["one feature", "no hidden layer", "no Sequential"],
)
def test_any_table_and_network_has_its_pictures(features, classes, network):
    tags = alone(Own(features, classes), network, *(picture() for picture in PICTURES.values()))
    assert {"ConfusionMatrix/test", "Reliability/test"} < tags
    assert ("Regions/features" in tags) == (len(features) > 1)
    embedding = np.loadtxt(next(Path("alone").rglob("tensors.tsv")))
    assert embedding.shape == (20 * len(classes), len(features) if network is nn.Linear else 5)


def test_kernels_of_a_convolution_are_images(figures):
    alone(Images("digits", batch_size=500), ConvNet, Weights())
    assert list(figures) == [f"Weights/{i}.weight" for i in (1, 3, 6, 8, 12, 14)]
    first = figures["Weights/1.weight"].axes[0].images[0].get_array()
    assert first.shape == (4 * 4 + 1, 8 * 4 + 1)  # 32 kernels of 3 x 3, and lines between them
    assert (
        figures["Weights/3.weight"].texts[0].get_text()
        == "3.weight, 16 of 32 outputs, 16 of 32 inputs"
    )


@pytest.mark.parametrize(
    ("features", "classes"),
    [
        ([f"a measured column with a long name {i} (mm)" for i in range(20)], LONG),
        (SCRIPTS, LONG[:10]),
        (LONG, SCRIPTS),
    ],
    ids=["30 classes", "10 classes", "scripts"],
)
def test_nothing_is_cut_off_or_lies_over_another(features, classes, figures):
    alone(Own(features, classes), nn.Linear, *(picture() for picture in PICTURES.values()))
    assert len(figures) == 6
    for tag, figure in figures.items():
        drawn = figure.get_tightbbox()  # of all that is drawn, in inches
        assert min(drawn.x0, drawn.y0) >= 0, tag
        assert drawn.x1 <= WIDTH / DPI, tag
        assert drawn.y1 <= HEIGHT / DPI, tag
        for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            texts = [
                text for tick in ticks for text in (tick.label1, tick.label2) if text.get_visible()
            ]
            labels = [text.get_window_extent() for text in texts if text.get_text()]
            assert not any(one.overlaps(other) for one, other in pairwise(labels)), tag
            legends = [legend.get_window_extent() for legend in figure.legends]
            if axis.label.get_text():
                assert not any(
                    axis.label.get_window_extent().overlaps(other) for other in labels + legends
                ), tag
            assert not any(legend.overlaps(label) for legend in legends for label in labels), tag


def test_pictures_change_no_weight():
    line = (
        "--data.batch_size",
        "16",
        "--network.dropout",
        "0.3",
        "--max_epochs",
        "12",
        "--data.val_fraction",
        "0.1",
    )
    for choice in ("none", "final", "all"):
        run(*line, "--pictures", choice)
    for name in ("last", "best"):
        first, *others = (
            weights(f"lightning_logs/version_{i}/checkpoints/{name}.ckpt") for i in range(3)
        )
        assert all(torch.equal(first[key], other[key]) for other in others for key in first)
    assert not events().Tags()["images"]
    assert not events().Tags()["histograms"]
    read = events("lightning_logs/version_2")
    final = max(event.step for event in read.Images("Reliability/test"))
    assert [event.step for event in read.Images("Reliability/test")] == [final]  # test rows, once
    assert len(read.Images("Reliability/validation")) > 5


def test_a_picture_that_fails_is_one_warning(monkeypatch, capsys):
    def fail(self, view):
        raise RuntimeError("no light\nat all")

    monkeypatch.setattr(Regions, "draw", fail)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run("--pictures", "all", "--max_epochs", "3")
    assert [str(one.message) for one in found if "TensorBoard" in str(one.message)] == [
        "no Regions in TensorBoard: no light"
    ]
    assert "Reliability/test" in events().Tags()["images"]


def test_a_run_without_tensorboard_gets_a_warning():
    iris = Iris()
    trainer = Trainer(
        logger=False, callbacks=[Regions()], enable_progress_bar=False, accelerator="cpu"
    )
    with pytest.warns(
        UserWarning, match="no Regions in TensorBoard: the run has no TensorBoardLogger; give"
    ):
        trainer.test(Classifier(4, 3), iris, verbose=False)


def test_evaluate_reads_the_config_of_a_run_with_pictures():
    command(train, ["--max_epochs", "2", "--pictures", "[Card,Weights]", "--accelerator", "cpu"])
    config = "lightning_logs/version_0/config.yaml"
    assert "pictures:\n- Card\n- Weights\n" in Path(config).read_text()
    command(evaluate, ["--config", config, "--folds", "2", "--repeats", "1"])
