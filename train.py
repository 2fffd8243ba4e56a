"""Train one network: fit it, keep the last epoch or the best one, test it once.

python train.py                      on the best device there is
python train.py --accelerator gpu    on a CUDA GPU
tensorboard --logdir lightning_logs  shows its curves
"""

from cli.command import command  # first: from here on Ctrl-C is one line

# isort: split
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cli.component import to_config
from data.iris import Iris
from data.leakage import warnings_of
from data.members import choose_members
from data.tabular import TabularData
from evaluation.devices import check_processes, check_run, device_name, make_strategy
from model import recipe
from model.scores import Metric, check_metric, watched
from training.batches import loader_of
from training.callbacks import make_callbacks
from training.classifiers import make_classifier
from training.curves import add_layout
from training.fast import skip_driver_lookup
from training.loggers import attach_loggers, check_loggers, publish
from training.members import Members
from training.pictures.base import Picture
from training.pictures.choice import make_pictures
from training.result import TrainResult, evaluate_splits
from training.resume import check_resume
from training.run import VERSIONS, Accelerator, Precision, Run, saved_epoch
from training.trainer_arguments import check_fit, check_hardware, trainer_arguments


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
    compile: bool = False,
    max_epochs: int = recipe.MAX_EPOCHS,
    members: int | None = None,
    patience: int | None = None,
    metric: Metric = "log_loss",
    seed: int = 0,
    log_dir: str = "lightning_logs",
    pictures: list[str | Picture] | str = "final",
    callbacks: list[str | Callback] | None = None,
    loggers: list[str | Logger] | None = None,
    resume: str | None = None,
    trainer: dict[str, Any] | None = None,
) -> TrainResult:
    """Train one network, or several as one: fit, keep the last or the best epoch, test once.

    Args:
        data: Iris, Table, Images, or a class of your own by import path (mine.Flowers).
        network: MLP, ConvNet, a module of torch.nn, or your own (mine.Net); called with
            num_features and num_classes.
        loss: A loss of torch.nn or your own, called with logits and class indices.
        optimizer: An optimizer of torch.optim or your own.
        schedule: A class of torch.optim.lr_scheduler or your own; null keeps the learning rate. It
            is stepped after every batch, ReduceLROnPlateau after every epoch.
        accelerator: Hardware to train on; auto takes the best available.
        devices: Number of devices, or a list of their indices.
        strategy: How several devices work together: ddp, fsdp, ...; auto chooses.
        num_nodes: Number of machines.
        precision: Numeric precision; mixed keeps the weights in 32 bits.
        compile: Let torch.compile make a program of the network.
        max_epochs: Passes over the training rows.
        members: Networks that are trained and predict as one, each of which holds out a fold of the
            training rows; null for 8 where the data is a Table, else 1.
        patience: Stop after this many epochs without a better metric; null trains for all epochs.
        metric: Score of the validation rows that decides about epochs. Without them patience goes
            by that of the training rows, and by their loss in place of log_loss.
        seed: Seed of initial weights, dropout and the order of rows.
        log_dir: Folder of all runs; this one becomes version_N in it.
        pictures: What TensorBoard gets beyond curves: final, all (during the fit too), none, or a
            list, in which a picture of your own is an import path (mine.Dots).
        callbacks: Callbacks of your own, by import path (mine.Note).
        loggers: Loggers beside TensorBoard's: csv, wandb, mlflow.
        resume: An interrupted run, its folder or last.ckpt: continue it there, with its settings.
        trainer: Any other argument of Lightning's Trainer.

    Returns:
        The metrics of every split, and what result.json holds besides.

    Raises:
        ValueError: An argument that cannot be used; nothing was written.
        FloatingPointError: A loss or weight is not finite; earlier checkpoints are kept.
        OSError: The disk is full; last.ckpt is kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; last.ckpt is kept.
    """
    # All arguments as plain data. The Classifier builds its components from this, so it trains what
    # config.yaml and the checkpoint say.
    config = to_config(locals())
    config.pop("resume")  # config.yaml replays the whole run
    check_run(accelerator, max_epochs, patience)
    all_pictures = make_pictures(pictures)
    check_loggers(loggers or [])

    # Data, network and Trainer.
    datamodule = data()
    datamodule.setup()
    members = choose_members(datamodule, members, [datamodule.indices["train"]])
    seed_everything(seed, verbose=False)
    curve = watched(metric, "val" in datamodule.splits)
    check_metric(metric, datamodule.splits[curve.partition("/")[0]][1])
    warnings = warnings_of(datamodule, datamodule.splits, datamodule.encoder.layout)
    skip_driver_lookup()
    check_hardware(accelerator, devices, strategy, num_nodes, precision)
    more = trainer_arguments(trainer or {}, datamodule, max_epochs, patience, members)
    fit_trainer = Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=make_strategy(strategy),
        num_nodes=num_nodes,
        precision=precision,
        max_epochs=max_epochs,
        callbacks=make_callbacks(curve, patience, members, all_pictures, callbacks or []),
        logger=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **more,
    )
    check_processes(fit_trainer)
    classifier = make_classifier(datamodule, config, curve, fit_trainer)
    # Batches are slices of tensors on the training device; training/fast.py says why.
    datamodule.make_loader = loader_of(datamodule, fit_trainer, classifier)
    many = None
    if members > 1:
        many = Members(classifier, datamodule, members, seed, patience, metric, fit_trainer)
    else:
        check_fit(fit_trainer, classifier, datamodule)

    # All arguments are valid: create the run's folder, or open that of the run to resume.
    module = many.population if many else classifier
    resume = check_resume(resume, config, module, datamodule, fit_trainer)
    with Run(fit_trainer, log_dir, resume, config, datamodule.splits) as run:
        attach_loggers(fit_trainer, loggers or [], run.run_dir, config)
        if run.is_main_process:
            run.write_config(config)
            run.show_columns(datamodule, warnings, is_logged=resume is not None)
            if not resume:
                run.logger.draw_graph(classifier.network, classifier.example)
                run.logger.add_images(datamodule.example_images())
        start = time.perf_counter()
        if many:
            classifier = many.fit(run, resume)
        else:
            fit_trainer.fit(classifier, datamodule, ckpt_path=resume, weights_only=True)
        num_parameters = sum(parameter.numel() for parameter in classifier.parameters())
        fit_seconds = time.perf_counter() - start
        run.logger.end_fit()
        epochs = fit_trainer.current_epoch
        # Only the main process knows run.run_dir.
        kept = Path(str(fit_trainer.log_dir), "checkpoints", "best.ckpt")
        if not many and not datamodule.val_fraction:  # the last epoch is kept
            fit_trainer.save_checkpoint(kept)

        # Pictures drawn only after the test are attached after the fit: before it, their empty
        # hooks slow a small fit by 10 %. (Lightning does not declare its list of callbacks.)
        late_pictures = [picture for picture in all_pictures if not picture.watches]
        fit_trainer.callbacks.extend(late_pictures)  # type: ignore[attr-defined]
        splits = evaluate_splits(fit_trainer, classifier, datamodule, kept)
        best_epoch = saved_epoch(kept) if datamodule.val_fraction else epochs
        if many:
            splits["held_out"] = many.held_out
            add_layout([run.logger], many.population.curves)
            best_epoch = many.best_epoch
        result = TrainResult(
            splits=splits,
            num_parameters=num_parameters,
            device=device_name(fit_trainer),
            epochs=epochs,
            best_epoch=best_epoch,
            fit_seconds=fit_seconds,
            seed=seed,
            versions=VERSIONS,
            warnings=warnings,
            checkpoint=kept,
            classifier=classifier.eval(),
        )
        publish(run, fit_trainer, config, result)
    return result


if __name__ == "__main__":
    command(train)
