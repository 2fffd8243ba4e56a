"""Loggers beside TensorBoard's: those that --loggers names, and Lightning's own from Python."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, WandbLogger

from cli.component import flatten
from cli.errors import unknown
from training.hparams import log_result
from training.result import TrainResult
from training.run import Run

# By name: the package that it needs, and how it is made for a run's folder.
LOGGERS: dict[str, tuple[str, Callable[[Path], Logger]]] = {
    "csv": ("csv", lambda run_dir: CSVLogger(run_dir, "csv")),
    "wandb": ("wandb", lambda run_dir: WandbLogger(name=run_dir.name, save_dir=run_dir)),
    "mlflow": (
        "mlflow",
        lambda run_dir: MLFlowLogger(run_name=run_dir.name, save_dir=str(run_dir / "mlruns")),
    ),
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
        package, _ = LOGGERS[logger]
        if find_spec(package) is None:
            raise ValueError(f"logger {logger} needs a package: pip install {package}")


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
            _, make = LOGGERS[logger]
            logger = make(run_dir)
        logger.log_hyperparams(flatten(config))
        trainer.loggers = [*trainer.loggers, logger]


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
