"""What people bring: callbacks, loggers, pictures and components of their own."""

import csv
import json
import sys
from functools import partial
from inspect import signature
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from cli.command import command
from cli.component import to_config
from cli.schema import BELONGS_TO
from data.iris import Iris
from evaluate import evaluate
from inference.predictor import load
from model.classifier import Classifier
from model.networks import MLP
from tests.helpers import run
from train import train
from training.pictures.base import Picture

SHORT = {"accelerator": "cpu", "max_epochs": 3, "pictures": "none"}
MINE = """
from lightning.pytorch import Callback
from torch import nn
from training.pictures.base import Picture

class Note(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        with open("notes", "a") as file:
            file.write(f"{trainer.current_epoch} ")

class Needs(Callback):
    def __init__(self, path):
        self.path = path

class Dots(Picture):
    def draw(self, view):
        view.writer.add_text("visual/dots", view.title, view.step)

class Base(nn.Linear):
    def __init__(self, num_features, num_classes, bias: bool = True, scale: float = 1.0):
        super().__init__(num_features, num_classes, bias)

class Net(Base):
    def __init__(self, num_features, num_classes, **kwargs):
        super().__init__(num_features, num_classes, **kwargs)
"""


@pytest.fixture(autouse=True)
def mine(monkeypatch):
    """A module mine.py in the working folder."""
    Path("mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(Path.cwd())
    yield
    sys.modules.pop("mine", None)


class Counter(Callback):
    def __init__(self):
        self.losses = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.losses.append(trainer.callback_metrics["train/loss"].item())


class Title(Picture):
    def draw(self, view):
        view.writer.add_text("visual/title", view.title, view.step)


def events(run_dir):
    return EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()


def test_callbacks_loggers_and_pictures_from_python():
    counter = Counter()
    theirs = CSVLogger("theirs")
    given = SHORT | {"pictures": [Title(), "Card"]}
    result = train(callbacks=[counter], loggers=["csv", theirs], **given)
    logged = [event.value for event in events(result.run_dir).Scalars("train/loss")]
    assert counter.losses == pytest.approx(logged)
    assert len(logged) == 3
    assert "visual/title/text_summary" in events(result.run_dir).Tags()["tensors"]
    assert Path("theirs/lightning_logs/version_0/metrics.csv").is_file()
    config = yaml.safe_load((result.run_dir / "config.yaml").read_text())
    assert (config["callbacks"], config["loggers"], config["pictures"]) == ([], ["csv"], ["Card"])
    run("--config", str(result.run_dir / "config.yaml"))


def test_callbacks_loggers_and_pictures_by_name():
    result = run(
        *("--callbacks", "[mine.Note]", "--loggers", "[csv]", "--max_epochs", "3"),
        *("--pictures", "[mine.Dots,Card]", "--data.val_fraction", "0.2"),
    )
    assert Path("notes").read_text() == "0 1 2 "
    run_dir = Path("lightning_logs/version_0")
    assert "visual/dots/text_summary" in events(run_dir).Tags()["tensors"]
    with (run_dir / "csv/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = {row["epoch"]: row["train/loss"] for row in rows if row["train/loss"]}
    assert list(losses) == ["0", "1", "2"]
    assert [row["epoch"] for row in rows if row["val/loss"]] == ["0", "1", "2"]
    assert float(rows[-1]["final/test/loss"]) == pytest.approx(result["test/loss"])
    hparams = yaml.safe_load((run_dir / "csv/version_0/hparams.yaml").read_text())
    assert hparams["optimizer.lr"] is None


def test_curves_are_drawn_over_epochs_too():
    result = train(partial(Iris, batch_size=40), **SHORT)
    scalars = events(result.run_dir).Scalars("values/epoch")
    assert [(event.step, event.value) for event in scalars] == [(3, 0), (6, 1), (9, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--loggers [cvs]", "logger 'cvs' is not known; nearest: csv"),
        ("--loggers [wandb]", "logger wandb needs a package: pip install wandb"),
        ("--loggers [mlflow]", "logger mlflow needs a package: pip install mlflow"),
        ("--callbacks [EarlyStopping]", "'EarlyStopping' is not an import path; give one such as"),
        ("--callbacks [mine.Nte]", "callback 'Nte' is not known; nearest: Note"),
        ("--callbacks [mine.Net]", "callback 'mine.Net' is not a class that inherits from"),
        ("--callbacks [mine.Needs]", "callback 'mine.Needs' is built without arguments: "),
        ("--callbacks [none.Note]", "callback 'none.Note' cannot be imported: No module"),
        ("--pictures [mine.Dot]", "picture 'Dot' is not known; nearest: Dots"),
        ("--pictures [mine.Note]", "picture 'mine.Note' is not a class that inherits from"),
    ],
)
def test_what_cannot_be_used_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        command(train, [*arguments.split(), "--accelerator", "cpu"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"callbacks": [3]}, "callback 3 is not an object of lightning.pytorch.Callback"),
        ({"loggers": [3]}, "loggers has a int; give names or Lightning's loggers"),
        ({"pictures": [Counter()]}, "is not an object of training.pictures.base.Picture"),
    ],
)
def test_what_cannot_be_used_from_python(given, message):
    with pytest.raises(ValueError, match=message):
        train(**SHORT | given)
    assert not Path("lightning_logs").exists()


# The result


@pytest.mark.parametrize("val_fraction", [0.0, 0.2])
def test_the_result_names_the_folder_the_checkpoint_and_the_classifier(val_fraction):
    data = partial(Iris, val_fraction=val_fraction)
    result = train(data, **SHORT)
    assert result.run_dir == Path("lightning_logs/version_0")
    assert json.loads((result.run_dir / "result.json").read_text()) == result.to_json()
    state = torch.load(result.checkpoint, weights_only=True)["state_dict"]
    for name, tensor in result.classifier.state_dict().items():
        assert torch.equal(tensor, state[name])
    assert isinstance(result.classifier, Classifier)
    assert not result.classifier.training
    assert load(result.checkpoint).class_names == ["setosa", "versicolor", "virginica"]
    assert "Classifier(" not in repr(result)


# Components


def make_network(num_features, num_classes):
    return nn.Linear(num_features, num_classes)


def local_class():
    class Local(nn.Linear):
        pass

    return Local


def class_of(module, name="Net"):
    return type("Net", (nn.Linear,), {"__module__": module, "__qualname__": name})


UNNAMED = {
    "a function": ({"network": make_network}, "network is a function, make_network; a checkpoint"),
    "a lambda": ({"network": lambda f, c: nn.Linear(f, c)}, "network is a function, <lambda>; "),
    "a partial": ({"loss": partial(lambda: nn.CrossEntropyLoss())}, "loss is a function, <lambda>"),
    "a torch function": ({"loss": nn.functional.cross_entropy}, "loss is a function, cross_entr"),
    "an object": ({"loss": nn.CrossEntropyLoss()}, "loss is an object of CrossEntropyLoss, not a "),
    "a name": ({"network": "MLP"}, "network is an object of str, not a class; "),
    "local": ({"network": local_class()}, "network Local is defined inside a function; "),
    "main": ({"network": partial(class_of("__main__"))}, "network Net is defined in the main scri"),
    "nested": ({"network": class_of("json", "Outer.Net")}, "network Net cannot be found again; "),
    "deleted": ({"network": class_of("json")}, "network Net cannot be found again; "),
    "no module": ({"network": class_of("nowhere")}, "network Net cannot be found again; "),
    "data": ({"data": lambda: Iris()}, "data is a function, <lambda>; "),
}


@pytest.mark.parametrize("name", UNNAMED)
@pytest.mark.parametrize("function", [train, evaluate])
def test_what_no_checkpoint_can_name_is_refused_before_the_fit(function, name):
    given, message = UNNAMED[name]
    with pytest.raises(ValueError, match=message) as refusal:
        function(**given)
    assert "give a class from a module, or a partial of it" in str(refusal.value)
    assert not Path("lightning_logs").exists()


def test_a_classifier_of_ones_own_trainer_takes_functions():
    classifier = Classifier(4, 3, network=lambda f, c: MLP(f, c, [8]), loss=nn.CrossEntropyLoss)
    assert classifier(torch.zeros(2, 4)).shape == (2, 3)
    assert classifier.hparams["network"]["class"].endswith("<lambda>")


def test_objects_are_left_out_of_the_config():
    assert to_config({"loggers": ["csv", TensorBoardLogger("x")]}) == {"loggers": ["csv"]}


# Settings of the other command, and of a sweep


def test_which_settings_belong_to_one_command():
    ours, theirs = (set(signature(function).parameters) for function in (train, evaluate))
    expected = dict.fromkeys(ours - theirs, "train.py") | dict.fromkeys(
        theirs - ours, "evaluate.py"
    )
    assert expected == BELONGS_TO


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (train, "--folds 5", "--folds belongs to evaluate.py"),
        (train, "--sweep.optimizer.lr [1]", "--sweep.optimizer.lr belongs to evaluate.py"),
        (evaluate, "--pictures none", "--pictures belongs to train.py"),
        (evaluate, "--trainer.max_time 00:00:01:00", "--trainer.max_time belongs to train"),
    ],
)
def test_a_setting_of_the_other_command_is_named_as_such(function, arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        command(function, arguments.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_inherited_argument_is_swept_and_the_chosen_line_shows_every_value(capsys):
    line = "--network mine.Net --sweep.network.scale [1.0] --sweep.optimizer.lr [0.05]"
    fast = "--folds 3 --repeats 1 --inner_folds 2 --max_epochs 2 --accelerator cpu"
    command(evaluate, [*line.split(), *fast.split()])
    chosen = "chosen   python train.py --network mine.Net --network.scale 1.0 --optimizer.lr 0.05"
    assert chosen in capsys.readouterr().out
    command(evaluate, ["--sweep.optimizer", "[AdamW]", "--sweep.schedule", "[null]", *fast.split()])
    assert "train.py --optimizer AdamW --schedule null" in capsys.readouterr().out
