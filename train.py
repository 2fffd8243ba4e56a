"""Train one network: fit, keep the last epoch or the best, test it once.

python train.py --accelerator gpu
"""

import json
import shutil
import textwrap
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from scipy.stats import binomtest
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cli.command import command
from cli.component import to_config
from data.iris import Iris
from data.tabular import TabularData
from model import recipe
from model.classifier import Classifier
from training.callbacks import FitBar, LastCheckpoint
from training.hparams import VISUAL, log_result
from training.pictures import chosen
from training.run import VERSIONS, Accelerator, Precision, RunLogger, check_run, device_name

METRICS = ("loss", "accuracy")


def train(
    data: Callable[[], TabularData] = Iris,
    network: Callable[[int, int], nn.Module] = recipe.NETWORK,
    loss: Callable[[], nn.Module] = recipe.LOSS,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = recipe.OPTIMIZER,
    schedule: Callable[..., LRScheduler] | None = recipe.SCHEDULE,
    accelerator: Accelerator = "auto",
    devices: int | list[int] | str = "auto",
    strategy: str = "auto",
    num_nodes: int = 1,
    precision: Precision = "32-true",
    max_epochs: int = recipe.MAX_EPOCHS,
    patience: int | None = None,
    seed: int = 0,
    log_dir: str = "lightning_logs",
    pictures: list[str] | str = "final",
    resume: str | None = None,
    trainer: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train one network: fit, keep the last epoch or the best, test it once.

    Args:
        data: The table, Iris or your own by import path (mine.Table).
        network: MLP, a module of torch.nn, or your own (mine.Net), called with the numbers of features and of classes.
        loss: A loss of torch.nn or your own, called with logits and class numbers.
        optimizer: An optimizer of torch.optim or your own.
        schedule: One of torch.optim.lr_scheduler or your own, a step after every batch; null keeps the learning rate.
        accelerator: Where to train; auto takes the best that is there.
        devices: How many devices, or a list of their numbers.
        strategy: How several devices work together: ddp, fsdp, ...; auto chooses.
        num_nodes: How many machines.
        precision: Bits of a number; mixed keeps the weights in 32.
        max_epochs: Passes over the training rows.
        patience: Stop after this many epochs without a better validation loss; null goes to the end.
        seed: Seed of initial weights, dropout and the order of rows.
        log_dir: Folder of all runs; this one becomes version_N in it.
        pictures: What TensorBoard gets beyond curves: final, all (in the fit too), none, or a list.
        resume: Checkpoint of a run that was cut short, its last.ckpt: go on from there, in its folder.
        trainer: Anything else that Lightning's Trainer takes.

    Returns:
        What result.json holds.

    Raises:
        ValueError: An argument that cannot be used; nothing was written.
        FloatingPointError: A loss or weight is not finite; the checkpoints from before it stand.
        KeyboardInterrupt: Ctrl-C; last.ckpt stands.
    """
    config = to_config(locals())
    config.pop("resume")  # config.yaml replays the whole run
    check_run(accelerator, max_epochs, patience)
    drawn = chosen(pictures)
    if resume and not Path(resume).absolute().parents[1].joinpath("config.yaml").is_file():
        raise ValueError(
            f"resume is {resume!r}, which is in no run's folder; give its checkpoints/last.ckpt"
        )

    table = data()
    table.setup()
    seed_everything(seed, verbose=False)
    nouns = {noun: config[noun] for noun in ("network", "loss", "optimizer", "schedule")}
    classifier = Classifier(
        table.num_features, table.num_classes, **weigh(nouns, table.class_weights)
    )
    callbacks: list[Callback] = [FitBar(), *(picture for picture in drawn if picture.watches)]
    if table.val_fraction:
        callbacks.append(ModelCheckpoint(monitor="val/loss", filename="best"))
    if patience is not None:
        callbacks.append(
            EarlyStopping("val/loss" if table.val_fraction else "train/loss", patience=patience)
        )
    callbacks.append(LastCheckpoint())  # after the others, whose state it saves
    run = Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        num_nodes=num_nodes,
        precision=precision,
        max_epochs=max_epochs,
        callbacks=callbacks,
        logger=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **(
            {"log_every_n_steps": 1, "limit_val_batches": 1.0 if table.val_fraction else 0}
            | (trainer or {})
        ),
    )

    # The run begins: all that is wrong with its arguments has been said, and only now is a folder made.
    run.logger = logger = RunLogger(log_dir, run.global_rank, resume)
    folder = Path(logger.log_dir)
    last = folder / "checkpoints" / "last.ckpt"
    if run.is_global_zero:
        (folder / "config.yaml").write_text(
            yaml.safe_dump(config, sort_keys=False, allow_unicode=True), "utf-8"
        )
        if not resume:
            logger.draw_graph(classifier.network, classifier.example)
            for name, image in table.example_images().items():
                logger.experiment.add_image(f"{VISUAL}/samples/{name}", image)
        if about := table.about():
            print(about, end="\n\n")
            logger.experiment.add_text("columns", textwrap.indent(about, "    "))
    start = time.perf_counter()
    try:
        run.fit(classifier, table, ckpt_path=resume, weights_only=True)
    except SystemExit as stop:  # what Lightning makes of Ctrl-C
        again = f"go on with: python train.py --config {folder}/config.yaml --resume {last}"
        what = again if last.exists() else "nothing was kept"
        raise KeyboardInterrupt(f"stopped in epoch {run.current_epoch + 1}; {what}") from stop
    finally:
        if run.is_global_zero and not (last.exists() or resume):
            logger.experiment.close()  # its thread writes on into a folder that is gone
            shutil.rmtree(folder)  # not one epoch: nothing to keep
    fit_seconds, epochs = time.perf_counter() - start, run.current_epoch

    best = Path(str(run.log_dir), "checkpoints", "best.ckpt")  # the same for all processes
    if not table.val_fraction:
        run.save_checkpoint(best)
    # Only now: what Lightning asks of seven more callbacks in each step is a tenth of a small fit.
    run.callbacks.extend(picture for picture in drawn if not picture.watches)  # type: ignore[attr-defined]
    result = final_test(run, classifier, table, best) | {
        "epochs": epochs,
        "best_epoch": torch.load(best, weights_only=True)["epoch"] + 1
        if table.val_fraction
        else epochs,
        "fit_seconds": fit_seconds,
        "seed": seed,
        "versions": VERSIONS,
    }
    if run.is_global_zero:
        metrics = {
            f"{part}/{name}": result[f"{part}/{name}"] for part in table.splits for name in METRICS
        }
        log_result(logger, config, metrics, step=run.global_step)
        logger.experiment.close()
        (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        report(result)
        print(f"\nrun      {folder}\ncurves   tensorboard --logdir {folder.parent}")
    return result


def weigh(nouns: dict[str, Any], class_weights: list[float] | None) -> dict[str, Any]:
    """The nouns, with the classes' weights in the loss where the table has some.

    >>> weigh({"loss": {"class": "CrossEntropyLoss"}}, [0.5, 2.0])
    {'loss': {'class': 'CrossEntropyLoss', 'weight': [0.5, 2.0]}}
    """
    return (
        nouns
        if class_weights is None
        else nouns | {"loss": nouns["loss"] | {"weight": class_weights}}
    )


def final_test(
    run: Trainer, classifier: Classifier, table: TabularData, best: Path
) -> dict[str, Any]:
    """Load the kept epoch and read every part once: losses, accuracies, the test accuracy's 95 % Wilson interval."""
    run.test(classifier, table, ckpt_path=best, verbose=False, weights_only=True)
    rows = {part: len(numbers) for part, numbers in table.indices.items()}
    names = [f"{part}/{name}" for part in rows for name in METRICS]
    figures = {name: run.callback_metrics[f"final/{name}"].item() for name in names}
    interval = binomtest(
        round(figures["test/accuracy"] * rows["test"]), rows["test"]
    ).proportion_ci(method="wilson")
    return figures | {
        "test/accuracy/low": interval.low,
        "test/accuracy/high": interval.high,
        "rows": rows,
        "num_parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "device": device_name(run),
    }


def report(result: dict[str, Any]) -> None:
    """Print the table of parts."""
    print(f"{'':12}{'rows':>6}{'loss':>9}{'accuracy':>10}")
    for part, name in {"train": "train", "val": "validation", "test": "test"}.items():
        if part in result["rows"]:
            loss, accuracy = result[f"{part}/loss"], result[f"{part}/accuracy"]
            interval = (
                "   95 % interval {test/accuracy/low:.3f} to {test/accuracy/high:.3f}".format_map(
                    result
                )
            )
            print(
                f"{name:12}{result['rows'][part]:6}{loss:9.4f}{accuracy:10.3f}{interval if part == 'test' else ''}"
            )


if __name__ == "__main__":
    command(train)
