"""Loggers beside TensorBoard's: those that --loggers names, and Lightning's own from Python."""

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, WandbLogger

from cli.component import flatten
from cli.errors import first_line, unknown
from training.hparams import log_result
from training.result import TrainResult
from training.run import Run


def csv_logger(run_dir: Path) -> Logger:
    """Tables in the run's folder: csv/version_0, and version_1 after a resume."""
    return CSVLogger(run_dir, "csv")


def wandb_logger(run_dir: Path) -> Logger:
    """Weights & Biases, with its files in the run's folder; WANDB_PROJECT, ... are its settings."""
    return WandbLogger(name=run_dir.name, save_dir=run_dir)


def mlflow_logger(run_dir: Path) -> Logger:
    """MLflow: the server of MLFLOW_TRACKING_URI, or a database beside the runs, which share it."""
    database = f"sqlite:///{run_dir.parent.resolve()}/mlflow.db"
    uri = os.environ.get("MLFLOW_TRACKING_URI", database)
    return MLFlowLogger(run_name=run_dir.name, tracking_uri=uri)


# By name, which is also that of the package.
LOGGERS: dict[str, Callable[[Path], Logger]] = {
    "csv": csv_logger,
    "wandb": wandb_logger,
    "mlflow": mlflow_logger,
}


def check_loggers(loggers: Sequence[str | Logger]) -> None:
    """Refuse loggers that cannot be made, before the run's folder is.

    Raises:
        ValueError: A name is unknown, its package is not installed, or it is not a logger.
    """
    for logger in loggers:
        if isinstance(logger, Logger):
            continue
        if not isinstance(logger, str):
            kind = type(logger).__name__
            raise ValueError(f"loggers has a {kind}; give names or Lightning's loggers")
        if logger not in LOGGERS:
            raise ValueError(unknown("logger", logger, LOGGERS))
        if find_spec(logger) is None:
            raise ValueError(f"logger {logger} needs a package: pip install {logger}")


def attach_loggers(
    trainer: Trainer, loggers: Sequence[str | Logger], run_dir: Path, config: dict[str, Any]
) -> None:
    """Attach loggers to a run, behind TensorBoard's, and log its settings.

    Args:
        trainer: The Trainer of the run.
        loggers: Names, of which the main process makes a logger, and loggers.
        run_dir: The run's folder, where those that write files do so.
        config: The run's settings as plain data.
    """
    for logger in loggers:
        if isinstance(logger, str):
            if not trainer.is_global_zero:
                continue
            logger = make_logger(logger, run_dir)
        logger.log_hyperparams(flatten(config))
        trainer.loggers = [*trainer.loggers, logger]


def make_logger(name: str, run_dir: Path) -> Logger:
    """The logger of this name, started.

    Raises:
        ValueError: It cannot be started: no account, no server, a package that lacks another.
    """
    try:
        logger = LOGGERS[name](run_dir)
        logger.experiment  # type: ignore[attr-defined]  # noqa: B018  # starts it
    except Exception as error:  # these packages have errors of their own
        raise ValueError(f"logger {name} cannot be started: {first_line(error)}") from error
    return logger


def publish(run: Run, trainer: Trainer, config: dict[str, Any], result: TrainResult) -> None:
    """Log a run's result everywhere, write its result.json, and print it."""
    log_final(trainer.loggers[1:], result.metrics(), trainer.global_step)
    if run.is_main_process:
        log_result(run.logger, config, result.metrics(), trainer.global_step)
        run.write_result(result)
        run.print_report(result.lines())


def log_final(loggers: Sequence[Logger], metrics: dict[str, float], step: int) -> None:
    """Log the result of a run, by names such as final/test/accuracy, and end its loggers."""
    for logger in loggers:
        logger.log_metrics({f"final/{name}": value for name, value in metrics.items()}, step)
        logger.save()
        logger.finalize("success")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()  # otherwise the next run of this process would go on in it
