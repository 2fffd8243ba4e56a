"""What TensorBoard shows of a run's settings and results: a row of the HParams tab, and scalars.

TensorBoard sorts groups of tags by name. `train/` and `val/`, the learning curves, must come first,
so every other group's name sorts after these: VALUES for other scalars, VISUAL for what is drawn.
"""

from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from cli.component import ComponentConfig, Factory, describe, flatten
from cli.registry import REGISTRY, find
from data.iris import Iris
from model import recipe

VALUES = "values"
VISUAL = "visual"

# Settings that say where a run computes and what it draws, not what is learned.
MACHINE = {"accelerator", "devices", "strategy", "num_nodes", "log_dir", "pictures", "compile"}
# Settings of an evaluation, not of the training that it evaluates.
ESTIMATE = {"folds", "repeats", "seeds", "inner_folds", "sweep", "compare", "baselines", "save"}

# Settings in the row of every run; others are there only when they differ from their default.
ALWAYS = {"network.hidden", "seed"}
DEFAULTS = {"max_epochs": recipe.MAX_EPOCHS, "precision": "32-true", "metric": "log_loss"}
DEFAULT_COMPONENTS: dict[str, Factory] = {
    "data": Iris,
    "network": recipe.NETWORK,
    "loss": recipe.LOSS,
    "optimizer": recipe.OPTIMIZER,
    "schedule": recipe.SCHEDULE,
}

# Results in the row of a run, of train.py and of evaluate.py. Capitals sort before all settings.
RESULTS = {
    "test/accuracy": "Test accuracy",
    "test/log_loss": "Test log-loss",
    "accuracy/mean": "Test accuracy",
    "log_loss/mean": "Test log-loss",
}


def log_result(
    logger: TensorBoardLogger, config: dict[str, Any], result: dict[str, float], step: int = 0
) -> None:
    """Log a finished run: each figure as a scalar, and a row of the HParams tab.

    The row holds the main results among the settings. TensorBoard shows five settings, which fill
    a window of 1,400 pixels, and columns of metrics lie to the right of it. The row comes without
    an `Experiment`, which lists the columns: TensorBoard then collects the columns of all runs and
    shows those first in which runs differ, while it takes the Experiment of an arbitrary run.

    Args:
        logger: Where to log.
        config: The command's arguments as plain data (`cli.component.to_config`).
        result: Figures under their names in result.json.
        step: Step of the scalars.
    """
    scalars = {f"{VALUES}/final/{name}": value for name, value in result.items()}
    logger.log_metrics(scalars, step)
    row = {RESULTS[name]: value for name, value in result.items() if name in RESULTS}
    _, start, end = hparams(row | hyperparameters(config), {})
    logger.experiment.file_writer.add_summary(start)
    logger.experiment.file_writer.add_summary(end)


def hyperparameters(config: dict[str, Any]) -> dict[str, str | float]:
    """Settings that can explain how runs differ: ALWAYS, and those that are not at their default.

    >>> sgd = {"class": "SGD", "lr": 0.1, "momentum": 0.9}
    >>> hyperparameters({"seed": 0, "optimizer": sgd, "max_epochs": 100, "log_dir": "runs"})
    {'seed': 0, 'optimizer': 'SGD', 'optimizer.lr': 0.1, 'optimizer.momentum': 0.9}
    """
    learned = {
        name: value
        for name, value in config.items()
        if name not in MACHINE and name not in ESTIMATE
    }
    defaults: dict[str, Any] = dict(DEFAULTS)
    for name in REGISTRY.keys() & learned.keys():
        defaults |= flatten({name: default_config(name, learned[name])})
    return {
        name: as_value(value)
        for name, value in flatten(learned).items()
        if name in ALWAYS or value != defaults.get(name)
    }


def default_config(name: str, config: ComponentConfig | None) -> ComponentConfig | None:
    """A component's default: the recipe's, or the arguments of the class that replaces it."""
    usual = describe(name, DEFAULT_COMPONENTS[name])
    if config is None or usual is None:
        return usual
    if config["class"] == usual["class"] and usual.keys() <= config.keys():
        return usual
    try:
        default = describe(name, find(name, config["class"])) or {}
    except ValueError:  # a class made within a function has no import path, and no known defaults
        return None
    return {key: value for key, value in default.items() if key != "class"}


def as_value(value: Any) -> str | float:
    """A setting as the HParams tab can hold it, a number or text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return str(value)
