"""Images: read, standardized, augmented, and learned from by a convolutional network."""

import struct
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from scipy.signal import correlate2d
from sklearn.datasets import load_digits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim import SGD
from torchvision.transforms import v2

import data.encoder
from cli.command import command
from data.augmentation import Augmentation
from data.images import Images
from data.torchvision_sets import SETS
from evaluate import evaluate
from export import export
from model.classifier import Classifier
from model.convnet import ConvNet
from model.stack import Stack
from predict import load
from tests.helpers import run
from train import train
from training.curves import CurveBands

AUGMENTED = {"rotation": 10, "scale": 0.1, "shift": 0.2, "flip": True}


def folder(root, classes=("cat", "dog", "owl"), count=12, size=(6, 6), seed=0):
    """Save colour images in a folder for each class; a class differs in its brightest channel.

    Returns:
        The pixels (classes, count, height, width, 3).
    """
    pixels = np.random.default_rng(seed).integers(
        0, 120, (len(classes), count, *size, 3), dtype=np.uint8
    )
    for i, name in enumerate(classes):
        Path(root, name).mkdir(parents=True)
        pixels[i, ..., i] += 100
        for j in range(count):
            Image.fromarray(pixels[i, j]).save(Path(root, name, f"{j:02}.png"))
    return pixels


def mnist(root, train=60, test=20, kind="MNIST"):
    """Write files in MNIST's format (idx); returns the pixels and class indices of both splits."""
    raw = Path(root, kind, "raw")
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    splits = []
    for split, rows in {"train": train, "t10k": test}.items():
        pixels = random.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        targets = np.arange(rows, dtype=np.uint8) % 10
        images_header = struct.pack(">IIII", 2051, rows, 28, 28)
        labels_header = struct.pack(">II", 2049, rows)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(images_header + pixels.tobytes())
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(labels_header + targets.tobytes())
        splits.append((pixels, targets))
    return splits


def ready(*arguments, **options):
    datamodule = Images(*arguments, **options)
    datamodule.setup()
    return datamodule


def test_digits_are_scikit_learns():
    table = Images("digits").load()
    bunch = load_digits()
    assert table.features.dtype == np.uint8
    assert np.array_equal(table.features, bunch.data)
    assert np.array_equal(table.targets, bunch.target)
    assert table.column_names[:2] == ["pixel 0 0", "pixel 0 1"]
    assert table.column_names[-1] == "pixel 7 7"
    assert table.class_names == [str(name) for name in bunch.target_names]


@pytest.mark.parametrize("kind", ["MNIST", "FashionMNIST"])
def test_a_set_of_torchvision_keeps_its_test_split(kind):
    (train_pixels, train_targets), (test_pixels, test_targets) = mnist("sets", kind=kind)
    datamodule = ready(kind, "sets", val_fraction=0.25)
    raw = datamodule.load()
    pixels = np.concatenate([train_pixels, test_pixels])
    assert np.array_equal(raw.features.reshape(-1, 28, 28), pixels)
    assert np.array_equal(raw.targets, np.concatenate([train_targets, test_targets]))
    indices = datamodule.indices
    assert indices["test"].tolist() == list(range(60, 80))
    assert sorted([*indices["train"], *indices["val"]]) == list(range(60))
    assert len(indices["val"]) == 20
    assert len(datamodule.class_names) == 10


def test_a_folder_of_images_with_and_without_a_test_split():
    pixels = folder("mine")
    raw = Images("ImageFolder", "mine").load()
    assert np.array_equal(raw.features.reshape(3, 12, 3, 6, 6), np.moveaxis(pixels, -1, 2))
    assert raw.class_names == ["cat", "dog", "owl"]
    assert [raw.column_names[i] for i in (0, 36, 107)] == ["red 0 0", "green 0 0", "blue 5 5"]
    folder("two/train", count=6)
    folder("two/test", count=4, seed=1)
    assert ready("ImageFolder", "two").indices["test"].tolist() == list(range(18, 30))


def test_fake_data_and_another_size():
    raw = Images("FakeData", size=4).load()
    assert raw.features.shape == (1000, 48)
    assert raw.targets.max() == 9


@pytest.mark.parametrize("piece_values", [1, 500, 2**22])
def test_a_channel_is_standardized_by_all_its_pixels_in_the_training_rows(
    piece_values, monkeypatch
):
    monkeypatch.setattr(data.encoder, "PIECE_VALUES", piece_values)
    pixels = np.moveaxis(folder("mine"), -1, 2).reshape(36, 3, 36).astype(float)
    datamodule = ready("ImageFolder", "mine", val_fraction=0.2)
    train_pixels = pixels[datamodule.indices["train"]]
    mean = train_pixels.mean((0, 2))
    scale = train_pixels.std((0, 2))
    state = datamodule.state_dict()
    np.testing.assert_allclose(state["mean"], mean.repeat(36), rtol=1e-12)
    np.testing.assert_allclose(state["scale"], scale.repeat(36), rtol=1e-12)
    for split, indices in datamodule.indices.items():
        expected = (pixels[indices] - mean[:, None]) / scale[:, None]
        features = datamodule.splits[split][0].reshape(expected.shape)
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_a_constant_channel_stays_zero():
    for name in ("a", "b"):
        Path("mine", name).mkdir(parents=True)
        for j in range(6):
            pixels = np.array([[[j, 7, 0]] * 2] * 2, np.uint8)
            Image.fromarray(pixels).save(Path("mine", name, f"{j}.png"))
    features = ready("ImageFolder", "mine", test_fraction=0.34).splits["train"][0]
    assert features[:, :4].std() > 0.5
    assert not features[:, 4:].any()


def shifted(image, down, right, black):
    """The image moved by whole pixels (at most 2), with black coming in."""
    padded = np.broadcast_to(np.pad(black, ((0, 0), (6, 6), (6, 6)), mode="edge"), (3, 13, 13))
    padded = padded.copy()
    padded[:, 2:-3, 2:-3] = image
    return padded[:, 2 - down : 10 - down, 2 - right : 10 - right]


def test_a_shifted_image_is_itself_moved_into_black():
    black = np.array([-1.0, -2.0, -3.0])[:, None, None]
    images = np.random.default_rng(0).normal(size=(200, 3, 8, 8)).astype(np.float32)
    black_image = torch.from_numpy(np.broadcast_to(black, (3, 8, 8)).copy()).float()
    augment = Augmentation((3, 8, 8), black_image.reshape(1, -1), shift=0.25)
    augmented = augment(torch.from_numpy(images).flatten(1)).reshape(images.shape)
    seen = set()
    for image, changed in zip(images, augmented, strict=True):
        moves = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.allclose(shifted(image, down, right, black), changed, atol=1e-5)
        ]
        assert len(moves) == 1
        seen.update(moves)
    assert len(seen) == 25


def test_a_flipped_image_is_itself_or_its_mirror_image():
    images = torch.randn(200, 1, 8, 8)
    augment = Augmentation((1, 8, 8), torch.zeros(1, 64), flip=True)
    changed = augment(images.flatten(1)).reshape(images.shape)
    mirrored = (changed == images.flip(-1)).flatten(1).all(1)
    assert torch.equal(mirrored, ~(changed == images).flatten(1).all(1))
    assert 20 < mirrored.sum() < 180


def test_an_image_is_turned_scaled_and_shifted_as_torchvision_does():
    augment = Augmentation((3, 12, 20), torch.zeros(1, 720), rotation=30, scale=0.3, shift=0.2)
    images = torch.rand(20, 3, 12, 20)
    torch.manual_seed(0)
    changed = augment(images.flatten(1)).reshape(images.shape)
    torch.manual_seed(0)
    angles = torch.empty(20).uniform_(-30, 30)
    scales = torch.empty(20).uniform_(0.7, 1.3)
    shifts = (torch.empty(20, 2).uniform_(-0.2, 0.2) * torch.tensor([20, 12])).round()
    for i in range(20):
        expected = v2.functional.affine(
            images[i],
            angle=angles[i].item(),
            translate=shifts[i].tolist(),
            scale=scales[i].item(),
            shear=[0.0, 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        assert torch.allclose(changed[i], expected, atol=1e-4)


def test_a_turned_or_scaled_image_keeps_its_middle():
    images = torch.zeros(64, 1, 9, 9)
    images[:, :, 4, 4:] = 1
    for options in ({"rotation": 180}, {"scale": 0.5}):
        augment = Augmentation((1, 9, 9), torch.zeros(1, 81), **options)
        changed = augment(images.flatten(1)).reshape(images.shape)
        assert (changed[:, 0, 4, 4] > 0.6).all()
        assert len({round(image.sum().item(), 3) for image in changed}) > 3


class BatchRecorder(Callback):
    """Keeps the batches that the network is given."""

    def __init__(self):
        self.seen = {"train": [], "val": [], "test": []}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen["train"].append(batch)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.seen["val"].append(batch)

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.seen["test"].append(batch)


def batches(datamodule, seed=0):
    """The batches of each split in an epoch of training and a test of all splits."""
    torch.manual_seed(seed)
    recorder = BatchRecorder()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[recorder],
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    sizes = (datamodule.num_features, datamodule.num_classes)
    classifier = Classifier(*sizes, optimizer=partial(SGD, lr=0.1), schedule=None)
    trainer.fit(classifier, datamodule)
    trainer.test(classifier, datamodule, verbose=False)
    return recorder.seen


def test_only_training_batches_are_augmented_reproducibly_and_keep_their_labels():
    folder("mine")
    options = {"batch_size": 8, "val_fraction": 0.2}
    plain = batches(ready("ImageFolder", "mine", **options))
    first = batches(ready("ImageFolder", "mine", **options, **AUGMENTED))
    again = batches(ready("ImageFolder", "mine", **options, **AUGMENTED))
    for before, after, same in zip(plain["train"], first["train"], again["train"], strict=True):
        assert not torch.equal(before[0], after[0])
        assert torch.equal(before[1], after[1])
        assert torch.equal(after[0], same[0])
    for split in ("val", "test"):  # the test reads the training rows too, unchanged
        for before, after in zip(plain[split], first[split], strict=True):
            assert torch.equal(before[0], after[0])
    assert [len(features) for features, _ in first["test"]] == [22, 7, 7]


def test_a_run_learns_shows_its_images_and_predicts_from_raw_pixels():
    flags = (
        "--data Images --data.batch_size 64 --data.shift 0.1 --network ConvNet "
        "--network.channels [8,16] --optimizer AdamW --optimizer.lr 0.01 --max_epochs 4"
    )
    result = run(*flags.split())
    assert result["test/accuracy"] > 0.9
    events = EventAccumulator("lightning_logs/version_0").Reload()
    samples = [tag for tag in events.Tags()["images"] if tag.startswith("visual/samples/")]
    assert samples == [f"visual/samples/{digit}" for digit in range(10)]
    checkpoint = "lightning_logs/version_0/checkpoints/best.ckpt"
    bunch = load_digits()
    probabilities, _ = load(checkpoint).predict_raw(bunch.data)
    rows = ready("digits").indices["test"]
    right = (probabilities.argmax(1) == bunch.target)[rows].mean()
    assert right == pytest.approx(result["test/accuracy"])
    export(checkpoint, "digits.pt2")
    assert Path("digits.pt2").exists()


def test_a_population_learns_and_is_reproducible(monkeypatch):
    monkeypatch.setattr(CurveBands, "seconds", -1.0)  # writes its curves after every epoch
    folder("mine", count=20)
    plain, first, again = (
        evaluate(
            partial(Images, "ImageFolder", "mine", batch_size=10, **augmented),
            network=partial(ConvNet, channels=[4], hidden=[]),
            optimizer=partial(torch.optim.AdamW, lr=0.03),
            folds=2,
            repeats=1,
            max_epochs=15,
            accelerator="cpu",
        ).to_json()
        for augmented in ({}, AUGMENTED, AUGMENTED)
    )
    assert plain["accuracy/mean"] > 0.9
    assert first["accuracy/mean"] > 0.9
    assert first["log_loss/mean"] == again["log_loss/mean"] != plain["log_loss/mean"]


def test_examples_are_the_training_images_and_looking_changes_nothing():
    pixels = folder("mine").reshape(36, 6, 6, 3)
    datamodule = ready("ImageFolder", "mine")
    grids = datamodule.example_images()
    assert list(grids) == ["cat", "dog", "owl"]
    dogs = datamodule.splits["train"][1] == 1
    first_dog = datamodule.indices["train"][dogs][0]
    expected = np.moveaxis(pixels[first_dog], -1, 0) / 255
    np.testing.assert_allclose(grids["dog"][:, 2:8, 2:8], expected, atol=1e-6)
    state = torch.get_rng_state()
    augmented = ready("ImageFolder", "mine", **AUGMENTED).example_images()
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(augmented["dog"], grids["dog"])


def test_convnet_computes_what_scipy_computes():
    torch.manual_seed(0)
    network = ConvNet(2 * 5 * 7, 3, channels=[3], hidden=[], shape=[2, 5, 7]).double()
    features = torch.randn(4, 70, dtype=torch.float64)
    first, second, last = (layer for layer in network if hasattr(layer, "weight"))

    def convolved(images, layer):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        maps = [
            [sum(map(partial(correlate2d, mode="same"), image, kernel)) for kernel in weight]
            for image in images
        ]
        raw = np.array(maps) + bias[:, None, None]
        return raw / (1 + np.exp(-raw))

    x = convolved(convolved(features.numpy().reshape(4, 2, 5, 7), first), second)
    x = x[:, :, :4, :6].reshape(4, 3, 2, 2, 3, 2).max((3, 5)).reshape(4, -1)
    expected = x @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(network(features).detach(), expected, rtol=1e-10)


def test_convnets_train_as_one_through_vmap():
    def make():
        return ConvNet(64, 10, channels=[4, 8], hidden=[16])

    stack = Stack(make, seeds=[0, 1, 2])
    assert stack.can_vmap(64)
    features = torch.randn(3, 64, 5)
    for i, logits in enumerate(stack(features)):
        torch.manual_seed(i)
        torch.testing.assert_close(make()(features[i].T).T, logits, atol=1e-6, rtol=0)


class Flat(nn.Module):
    def __init__(self, num_features, num_classes):
        super().__init__()
        self.layer = nn.Linear(784, num_classes)

    def forward(self, features):
        return self.layer(features)


class Wide(nn.Linear):
    def __init__(self, num_features, num_classes):
        super().__init__(num_features, num_classes + 2)


def test_a_network_of_another_shape_is_refused_with_both():
    with pytest.raises(
        ValueError, match=r"network Flat does not take rows of shape \(2, 64\): .*2x64 and 784x10"
    ):
        Classifier(64, 10, network=Flat)
    with pytest.raises(
        ValueError, match=r"makes \(2, 5\) of rows of shape \(2, 4\); expected logits \(2, 3\)"
    ):
        Classifier(4, 3, network=Wide)


class Frozen(nn.Sequential):
    def __init__(self, num_features, num_classes):
        super().__init__(
            nn.Dropout(0.5).eval(),
            nn.BatchNorm1d(num_features),
            nn.Linear(num_features, num_classes),
        )


def test_trying_a_network_leaves_it_as_it_was():
    network = Classifier(4, 3, network=Frozen).network
    assert [layer.training for layer in network] == [False, True, True]
    assert network[1].num_batches_tracked == 0


def test_every_named_set_is_there():
    for name in SETS:
        Images(name)


BAD = {  # flags: message
    "--data.name cifar-10": "data set 'cifar-10' is not known; nearest: CIFAR10",
    "--data.name VOCDetection": (
        "torchvision's VOCDetection needs more than a folder, or has no single class"
    ),
    "--data.name SVHN": (
        "SVHN is not in the folder datasets, or is incomplete, and could not be downloaded"
    ),
    "--data.name KMNIST": "t10k-labels-idx1-ubyte.gz into datasets/KMNIST/raw",
    "--data.name MNIST --data.root cut": (
        "MNIST is not in the folder cut, or is incomplete, and could not be downloaded"
    ),
    "--data.name ImageFolder": "datasets is not a folder of images",
    "--data.name ImageFolder --data.root mixed": (
        "images of 6 x 6 and of 4 x 7 pixels; give --data.size 6"
    ),
    "--data.name ImageFolder --data.root sizes": (
        "images of 6 x 6 and of 4 x 4 pixels; give --data.size 6"
    ),
    "--data.name ImageFolder --data.root single": (
        "single has only images of class 'cat'; give two classes or more"
    ),
    "--data.name ImageFolder --data.root odd": "class 'owl' in only one of train and test",
    "--data.name FakeData": "224 x 224 pixels, which make 150,528 features; the most is 10,000",
    "--data.size 0": "size is 0; give 1 or more pixels",
    "--data.rotation 200": "rotation is 200.0; give degrees from 0 to 180",
    "--data.scale 1": "scale is 1.0; give a share from 0 to below 1",
    "--data.shift .nan": "shift is nan; give a share from 0 to below 1",
    "--data.flip maybe": "--data.flip is 'maybe'; expected true|false",
    "--network ConvNet --network.shape [1,28,28]": (
        "shape is [1, 28, 28], 784 numbers, and the rows have 64 features"
    ),
    "--network ConvNet --network.channels [8,8,8,8]": (
        "4 stages that each halve the image, and it has 8 x 8 pixels"
    ),
    "--network ConvNet --network.channels [0]": "channels is [0]; every stage must have 1 or more",
    "--network ConvNet --network.activation Relu": "activation 'Relu' is not known; nearest: ReLU",
    "--data Iris --network ConvNet --network.channels [8] --network.shape [4]": (
        "give [channels, height, width]"
    ),
    "--data Table --data.path t.csv --data.target y --network ConvNet": (
        "rows of 2 features are not square images"
    ),
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(line, capsys, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://localhost:9")  # no network, wherever the test runs
    monkeypatch.setenv("http_proxy", "http://localhost:9")
    monkeypatch.setattr(urllib.request, "_opener", None)  # keeps the proxies of its creation
    folder("mixed", classes=("cat",))
    folder("mixed", classes=("dog",), size=(4, 7))
    folder("odd/train")
    folder("odd/test", classes=("cat", "dog"))
    folder("sizes/train")
    folder("sizes/test", size=(4, 4))
    folder("single", classes=("cat",))
    mnist("cut")
    Path("cut/MNIST/raw/train-images-idx3-ubyte").write_bytes(
        struct.pack(">IIII", 2051, 60, 28, 28)
    )
    Path("t.csv").write_text("a,b,y\n" + "1,2,x\n3,4,z\n" * 9)
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        command(train, ["--data", "Images", *line.split()])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert BAD[line] in captured.err
    assert sorted(Path().rglob("*")) == before
