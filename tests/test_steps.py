"""--trainer.* for many networks: clipped and accumulated gradients are each network's own."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from cli.arguments import read_file
from cli.command import command
from evaluate import evaluate, make_trainer
from model import recipe
from model.losses import MSELoss, weigh
from model.member import Member
from model.networks import MLP
from model.population import Population
from model.steps import Steps
from tests.test_population import Residual, assert_close, candidate, fold_data, iris
from tests.test_population import make_trainer as plain_trainer
from training.batches import loader_of
from training.fast import FastClassifier

SMALL = partial(MLP, hidden=[8])
SETTINGS = {
    "norm": {"gradient_clip_val": 0.05},
    "value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "accumulated": {"accumulate_grad_batches": 3},
    "all": {"accumulate_grad_batches": 5, "gradient_clip_val": 0.05},
}


def alone(components, member, datamodule, arguments):
    """The network trained by train.py's Classifier and Lightning, with the same arguments."""
    torch.manual_seed(member.seed)
    classifier = FastClassifier(4, 3, **components)
    options = {"limit_val_batches": 0, **arguments}
    trainer = plain_trainer(8, "64-true", **options)
    datamodule.make_loader = loader_of(datamodule, trainer, classifier)
    trainer.fit(classifier, datamodule)
    return classifier.network.state_dict()


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("network", [SMALL, Residual])
@pytest.mark.parametrize(("optimizer", "rates"), [(SGD, [0.5]), (AdamW, [0.5, 2.0])])
def test_each_network_is_that_of_train_with_the_same_argument(name, network, rates, optimizer):
    # 120 rows make 7 batches of 16 and one of 8: groups of 3, 3 and 2, or of 5 and 3.
    datamodules = [iris(seed, batch_size=16) for seed in (0, 1)]
    class_weights = [[1.0, 2.0, 5.0], [3.0, 1.0, 1.0]] if network is SMALL else []
    for datamodule, weights in zip(datamodules, class_weights, strict=False):
        datamodule.class_weights = weights
    candidates = [
        candidate(network=network, optimizer=partial(optimizer, lr=0.02 * rate), schedule=schedule)
        for rate, schedule in zip(rates, [recipe.SCHEDULE, None], strict=False)
    ]
    members = [Member(c, f, 5 + f) for c in range(len(candidates)) for f in (0, 1)]
    population = Population(
        4,
        3,
        candidates,
        members,
        [fold_data(datamodule) for datamodule in datamodules],
        batch_size=16,
        steps=Steps(**SETTINGS[name]),
    )
    plain_trainer(8, "64-true").fit(population)
    for member, weights in population.weights().items():
        components = candidates[member.candidate]
        if class_weights:
            components = weigh(components, class_weights[member.fold])
        expected = alone(components, member, datamodules[member.fold], SETTINGS[name])
        assert_close(weights, expected, 1e-10)


def test_frozen_parameters_have_no_norm():
    gradient = torch.full((2, 3), 10.0)
    Steps(gradient_clip_val=1.0).clip([None, gradient])
    assert gradient.norm(dim=1).tolist() == pytest.approx([1.0, 1.0])


def test_the_trainer_hands_over_what_it_would_refuse():
    trainer = make_trainer("cpu", 1, "auto", 1, "32-true", 3, steps=SETTINGS["all"])
    assert Steps.take(trainer) == Steps(5, 0.05)
    mse = candidate(network=nn.Linear, loss=MSELoss)
    population = Population(4, 3, [mse], [Member(0, 0, 0)], [fold_data(iris())])
    trainer.fit(population)
    assert population.num_epochs == 3


FAST = "--accelerator cpu --folds 3 --repeats 1 --max_epochs 8 --baselines [] --log_dir logs"


def log_loss(*flags):
    command(evaluate, [*FAST.split(), "--data.batch_size", "16", *flags])
    folders = Path("logs").iterdir()
    run_dir = max(folders, key=lambda path: int(path.name.split("_")[1]))
    return json.loads((run_dir / "result.json").read_text())["log_loss/mean"], run_dir


def test_evaluate_takes_them_and_says_so():
    plain, _ = log_loss()
    clip = ["--trainer.gradient_clip_val", "0.001", "--optimizer", "SGD", "--optimizer.lr", "0.1"]
    clipped, run_dir = log_loss(*clip)
    accumulated, _ = log_loss("--trainer.accumulate_grad_batches", "4")
    assert len({plain, clipped, accumulated}) == 3
    settings = read_file(str(run_dir / "config.yaml"))
    assert settings["trainer.gradient_clip_val"] == 0.001
    again, _ = log_loss("--config", str(run_dir / "config.yaml"))
    assert again == clipped


def test_the_command_of_the_winner_has_them(capsys):
    sweep = ["--sweep.network.hidden", "[[4],[8]]", "--inner_folds", "2"]
    command(evaluate, [*FAST.split(), *sweep, "--trainer.gradient_clip_val", "0.5"])
    assert "--trainer.gradient_clip_val 0.5" in capsys.readouterr().out


BAD = {
    "--trainer.max_steps 5": "--trainer.max_steps belongs to train.py",
    "--trainer.foo 5": "setting 'trainer.foo' is not known; nearest: trainer.",
    "--trainer.accumulate_grad_batches 0": "--trainer.accumulate_grad_batches is 0; give 1 or more",
    "--trainer.gradient_clip_val -1": "--trainer.gradient_clip_val is -1; give a number above 0",
    "--trainer.gradient_clip_algorithm norm": "give --trainer.gradient_clip_val too",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line(line, capsys):
    with pytest.raises(SystemExit) as stop:
        command(evaluate, [*FAST.split(), *line.split()])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert BAD[line] in error
    assert error.count("\n") == 1
    assert not Path("logs").exists()


def test_help_lists_what_evaluate_takes(capsys):
    with pytest.raises(SystemExit):
        command(evaluate, ["--trainer.help"])
    shown = capsys.readouterr().out
    assert "--trainer.gradient_clip_val" in shown
    assert "--trainer.max_steps" not in shown


def test_the_same_is_refused_from_python():
    with pytest.raises(ValueError, match=r"evaluate\.py 'max_steps' is not known; nearest"):
        evaluate(trainer={"max_steps": 5})
