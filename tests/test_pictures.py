"""The pictures: what TensorBoard reads back, figures against scikit-learn, no effect on a run."""

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
from torch.utils.tensorboard import SummaryWriter

from cli.command import command
from data.images import Images
from data.iris import Iris
from data.tabular import RawTable, TabularData
from evaluate import evaluate
from model.classifier import Classifier
from model.convnet import ConvNet
from tests.helpers import run, weights
from train import train
from training.fast import FastClassifier
from training.pictures.choice import PICTURES
from training.pictures.confusion import ConfusionMatrix, count_predictions
from training.pictures.figures import DPI, HEIGHT, WIDTH
from training.pictures.regions import Regions, component_plane, f_values
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
RUN_DIR = Path("lightning_logs/version_0")


def events(run_dir=RUN_DIR):
    guidance = {"images": 0, "tensors": 0, "histograms": 0}
    return EventAccumulator(str(run_dir), size_guidance=guidance).Reload()


class RandomTable(TabularData):
    """A table with these names: 20 rows around a random center for each class."""

    def __init__(self, features, classes):
        super().__init__()
        self.names = (features, classes)

    def load(self):
        features, classes = self.names
        random = np.random.default_rng(0)
        targets = np.repeat(np.arange(len(classes)), 20)
        centers = random.normal(size=(len(classes), len(features)))
        noise = 0.4 * random.normal(size=(len(targets), len(features)))
        return RawTable(centers[targets] + noise, targets, list(features), list(classes))


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


@pytest.fixture
def iris():
    datamodule = Iris()
    datamodule.setup()
    return datamodule


def kept_classifier(run_dir=RUN_DIR):
    path = run_dir / "checkpoints" / "best.ckpt"
    return Classifier.load_from_checkpoint(path, map_location="cpu").eval()


def probabilities_of_test_rows(iris, run_dir=RUN_DIR):
    """The kept network's probabilities of the test rows, and the rows' targets."""
    features, targets = iris.splits["test"]
    with torch.no_grad():
        logits = kept_classifier(run_dir)(features)
    return logits.double().softmax(1).numpy(), targets.numpy()


def test_tensorboard_reads_every_picture(default_run):
    run_dir, _ = default_run
    read = events(run_dir)
    tags = read.Tags()
    images = {
        "ConfusionMatrix/training",
        "ConfusionMatrix/test",
        "Regions/components",
        "Regions/features",
        "Weights/0.weight",
        "Weights/2.weight",
        "Reliability/test",
    }
    assert set(tags["images"]) == {f"visual/{name}" for name in images}
    parameters = ["0.weight", "0.bias", "2.weight", "2.bias"]
    histograms = {f"{kind}/{name}" for kind in ("weights", "gradients") for name in parameters}
    histograms |= {f"activations/{i}" for i in range(3)}
    assert set(tags["histograms"]) == {f"visual/{name}" for name in histograms}
    assert {f"PrecisionRecall/{i}_{name}" for i, name in enumerate(NAMES)} <= set(tags["tensors"])
    assert read.summary_metadata["PrecisionRecall/0_setosa"].plugin_data.plugin_name == "pr_curves"
    projector = (run_dir / "projector_config.pbtxt").read_text()
    assert 'tensor_name: "Embedding:00100"' in projector
    for tag in tags["images"]:
        for event in read.Images(tag):
            image = Image.open(io.BytesIO(event.encoded_image_string))
            assert image.size == (WIDTH, HEIGHT)
            assert len(image.getcolors(2**18)) > 50, tag


def test_the_card_names_settings_columns_classes_and_result(default_run):
    run_dir, _ = default_run
    (event,) = events(run_dir).Tensors("Card/text_summary")
    text = tensor_util.make_ndarray(event.tensor_proto).item().decode()
    columns = "sepal length (cm), sepal width (cm), petal length (cm), petal width (cm)"
    for row in (
        "| network.hidden | [128] |",
        "| seed | 0 |",
        "| 3 classes | setosa, versicolor, virginica |",
        f"| 4 columns | {columns} |",
        "| final/test/accuracy | 1.0000 |",
    ):
        assert row in text


def test_the_matrices_are_those_of_scikit_learn_and_of_the_curve(iris, monkeypatch):
    drawn = []  # counts and title of each matrix, in order
    show = View.show

    def keep(self, tag, figure, step=None):
        show(self, tag, figure, step)
        texts = [int(text.get_text()) for text in figure.axes[0].texts]
        drawn.append((np.array(texts).reshape(3, 3), figure.texts[0].get_text()))

    monkeypatch.setattr(View, "show", keep)
    run("--pictures", "ConfusionMatrix", "--max_epochs", "20")
    probabilities, targets = probabilities_of_test_rows(iris)
    *fit_matrices, (counts, title) = drawn
    expected = confusion_matrix(targets, probabilities.argmax(1), labels=range(3))
    assert np.array_equal(counts, expected)
    assert title.startswith("30 test rows, ")
    read = events()
    accuracy = {event.step: event.value for event in read.Scalars("train/accuracy")}
    steps = [event.step for event in read.Images("visual/ConfusionMatrix/training")]
    assert len(fit_matrices) == len(steps) == 6
    assert steps == sorted(steps)
    for (counts, title), step in zip(fit_matrices, steps, strict=True):
        assert counts.sum() == 120
        assert counts.trace() / 120 == pytest.approx(accuracy[step])
        assert title.startswith(f"120 training rows, epoch {step}, ")


def test_predictions_are_counted_as_by_scikit_learn():
    logits = torch.randn(200, 7)
    targets = torch.randint(7, (200,))
    expected = confusion_matrix(targets, logits.argmax(1), labels=range(7))
    assert np.array_equal(count_predictions(logits, targets), expected)


def test_with_validation_rows_the_matrix_is_of_them():
    run("--pictures", "[ConfusionMatrix]", "--max_epochs", "5", "--data.val_fraction", "0.1")
    tags = {"visual/ConfusionMatrix/validation", "visual/ConfusionMatrix/test"}
    assert set(events().Tags()["images"]) == tags


def test_the_calibration_error_is_the_one_by_hand(iris, figures):
    run("--pictures", "Reliability", "--max_epochs", "20")
    probabilities, targets = probabilities_of_test_rows(iris)
    confidence = probabilities.max(1)
    is_right = probabilities.argmax(1) == targets
    error = 0.0
    for low in range(15):
        in_bin = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        error += abs(confidence[in_bin].sum() - is_right[in_bin].sum()) / len(targets)
    title = figures["Reliability/test"].texts[0].get_text()
    assert title == f"30 test rows, calibration error {error:.3f}"


def test_the_curves_are_those_of_scikit_learn(iris):
    run("--pictures", "PrecisionRecall", "--max_epochs", "4")
    probabilities, targets = probabilities_of_test_rows(iris)
    for i, name in enumerate(NAMES):
        (event,) = events().Tensors(f"PrecisionRecall/{i}_{name}")
        *_, precision, recall = tensor_util.make_ndarray(event.tensor_proto)
        curve = precision_recall_curve(targets == i, probabilities[:, i])
        expected_precision, expected_recall, thresholds = curve
        for threshold in (13, 38, 63, 88):  # in 126ths
            j = np.searchsorted(thresholds, threshold / 126)
            assert recall[threshold] == pytest.approx(expected_recall[j], abs=1e-6)
            if recall[threshold]:
                assert precision[threshold] == pytest.approx(expected_precision[j], abs=1e-6)


def test_the_embedding_is_the_last_hidden_layer(iris, default_run):
    run_dir, _ = default_run
    state = kept_classifier(run_dir).state_dict()
    features = torch.cat([iris.splits[split][0] for split in ("train", "test")])
    hidden = nn.functional.silu(features @ state["network.0.weight"].T + state["network.0.bias"])
    folder = run_dir / "00100" / "Embedding"
    embedding = np.loadtxt(folder / "tensors.tsv")
    assert np.allclose(embedding, hidden.numpy(), atol=1e-5)
    header, *lines = (folder / "metadata.tsv").read_text().splitlines()
    assert header.split("\t") == ["class", "predicted", "split"]
    targets = torch.cat([iris.splits[split][1] for split in ("train", "test")])
    assert [line.split("\t")[0] for line in lines] == [iris.class_names[i] for i in targets]
    assert [line.split("\t")[2] for line in lines] == ["training"] * 120 + ["test"] * 30


def test_the_features_of_the_plane_are_those_of_scikit_learn(iris, figures):
    features, targets = iris.splits["train"]
    expected, _ = f_classif(features.numpy(), targets.numpy())
    assert np.allclose(f_values(features, targets), expected, rtol=1e-3)
    run("--pictures", "Regions", "--max_epochs", "50")
    axes = figures["Regions/features"].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("petal length (cm)", "petal width (cm)")
    shown = np.concatenate([dots.get_offsets() for dots in axes.collections[:3]])
    raw = iris.load().features[:, [2, 3]]
    assert np.allclose(sorted(shown.tolist()), sorted(raw.tolist()), atol=1e-5)  # all rows, in cm


def test_a_plane_projects_what_it_lifts(iris):
    features, _ = iris.splits["train"]
    plane = component_plane(features)
    points = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    assert torch.allclose(plane.lift(points)[0], features.mean(0))
    assert torch.allclose(plane.project(plane.lift(points)), points, atol=1e-6)


def run_alone(datamodule, network, *callbacks, classifier_class=FastClassifier):
    """A Trainer with pictures, without train.py: the tags of its images."""
    datamodule.setup()
    classifier = classifier_class(datamodule.num_features, datamodule.num_classes, network)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        log_every_n_steps=1,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        logger=TensorBoardLogger("alone"),
        callbacks=[*callbacks],
    )
    trainer.fit(classifier, datamodule)
    trainer.test(classifier, datamodule, verbose=False)
    return set(events(trainer.log_dir).Tags()["images"])


class Skip(nn.Module):
    """Not a Sequential, no bias, and its layers are defined in another order than called."""

    def __init__(self, num_features, num_classes):
        super().__init__()
        self.head = nn.Linear(5, num_classes)
        self.scale = nn.Parameter(torch.ones(()))
        self.first = nn.Linear(num_features, 5, bias=False)

    def forward(self, features):
        return self.head(torch.relu(self.first(features))) * self.scale


def test_a_picture_is_used_alone():
    tags = {"visual/ConfusionMatrix/training", "visual/ConfusionMatrix/test"}
    assert run_alone(Iris(), Skip, ConfusionMatrix()) == tags


def test_a_module_that_keeps_no_outputs_has_the_matrix_of_the_test():
    tags = run_alone(Iris(), Skip, ConfusionMatrix(), classifier_class=Classifier)
    assert tags == {"visual/ConfusionMatrix/test"}


def test_a_picture_draws_a_view_without_a_trainer(iris, tmp_path):
    network = Skip(4, 3).eval()
    writer = SummaryWriter(str(tmp_path))
    view = View(
        forward=network,
        loss=lambda features, targets: nn.functional.cross_entropy(network(features), targets),
        network=network,
        splits=iris.splits,
        class_names=NAMES,
        feature_names=iris.feature_names,
        column_names=iris.column_names,
        encoder=iris.encoder,
        settings={"seed": 0},
        metrics={"test/loss": 0.5},
        writer=writer,
        step=7,
    )
    for picture in PICTURES.values():
        picture().draw(view)
    writer.close()
    tags = events(tmp_path).Tags()
    assert "visual/ConfusionMatrix/test" in tags["images"]
    assert "visual/gradients/scale" in tags["histograms"]
    assert "Card/text_summary" in tags["tensors"]


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
    pictures = [picture() for picture in PICTURES.values()]
    tags = run_alone(RandomTable(features, classes), network, *pictures)
    assert {"visual/ConfusionMatrix/test", "visual/Reliability/test"} < tags
    assert ("visual/Regions/features" in tags) == (len(features) > 1)
    embedding = np.loadtxt(next(Path("alone").rglob("tensors.tsv")))
    assert embedding.shape == (20 * len(classes), len(features) if network is nn.Linear else 5)


def test_kernels_of_a_convolution_are_images(figures):
    run_alone(Images("digits", batch_size=500), ConvNet, Weights())
    assert list(figures) == [f"Weights/{i}.weight" for i in (1, 3, 6, 8, 12, 14)]
    first = figures["Weights/1.weight"].axes[0].images[0].get_array()
    assert first.shape == (4 * 4 + 1, 8 * 4 + 1)  # 32 kernels of 3 x 3, and lines between them
    title = figures["Weights/3.weight"].texts[0].get_text()
    assert title == "3.weight, 16 of 32 outputs, 16 of 32 inputs"


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
    pictures = [picture() for picture in PICTURES.values()]
    run_alone(RandomTable(features, classes), nn.Linear, *pictures)
    assert len(figures) == 6
    for tag, figure in figures.items():
        box = figure.get_tightbbox()  # of all that is drawn, in inches
        assert min(box.x0, box.y0) >= 0, tag
        assert box.x1 <= WIDTH / DPI, tag
        assert box.y1 <= HEIGHT / DPI, tag
        legends = [legend.get_window_extent() for legend in figure.legends]
        for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
            labels = tick_labels(axis)
            assert not any(first.overlaps(second) for first, second in pairwise(labels)), tag
            assert not any(legend.overlaps(label) for legend in legends for label in labels), tag
            if axis.label.get_text():
                title = axis.label.get_window_extent()
                assert not any(title.overlaps(other) for other in labels + legends), tag


def tick_labels(axis):
    """Boxes of an axis's visible tick labels."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    texts = [text for tick in ticks for text in (tick.label1, tick.label2)]
    shown = [text for text in texts if text.get_visible()]
    boxes = [text.get_window_extent() for text in shown]
    return [box for box, text in zip(boxes, shown, strict=True) if text.get_text()]


def test_pictures_change_no_weight():
    flags = "--data.batch_size 16 --network.dropout 0.3 --max_epochs 12 --data.val_fraction 0.1"
    for choice in ("none", "final", "all"):
        run(*flags.split(), "--pictures", choice)
    for name in ("last", "best"):
        paths = [f"lightning_logs/version_{i}/checkpoints/{name}.ckpt" for i in range(3)]
        first, *others = map(weights, paths)
        assert all(torch.equal(first[key], other[key]) for other in others for key in first)
    assert not events().Tags()["images"]
    assert not events().Tags()["histograms"]
    read = events("lightning_logs/version_2")
    final = max(event.step for event in read.Images("visual/Reliability/test"))
    steps = [event.step for event in read.Images("visual/Reliability/test")]
    assert steps == [final]  # test rows, once
    assert len(read.Images("visual/Reliability/validation")) > 5


def test_a_picture_that_fails_is_one_warning(monkeypatch):
    def fail(self, view):
        raise RuntimeError("no light\nat all")

    monkeypatch.setattr(Regions, "draw", fail)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run("--pictures", "all", "--max_epochs", "3")
    messages = [str(warning.message) for warning in caught]
    expected = ["no Regions in TensorBoard: no light"]
    assert [message for message in messages if "TensorBoard" in message] == expected
    assert "visual/Reliability/test" in events().Tags()["images"]


def test_a_run_without_tensorboard_gets_a_warning():
    trainer = Trainer(
        logger=False, callbacks=[Regions()], enable_progress_bar=False, accelerator="cpu"
    )
    message = "no Regions in TensorBoard: the run has no TensorBoardLogger; give"
    with pytest.warns(UserWarning, match=message):
        trainer.test(Classifier(4, 3), Iris(), verbose=False)


def test_evaluate_reads_the_config_of_a_run_with_pictures():
    command(train, ["--max_epochs", "2", "--pictures", "[Card,Weights]", "--accelerator", "cpu"])
    config = RUN_DIR / "config.yaml"
    assert "pictures:\n- Card\n- Weights\n" in config.read_text()
    command(evaluate, ["--config", str(config), "--folds", "2", "--repeats", "1"])
