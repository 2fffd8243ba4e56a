"""Estimate what training will reach: repeated stratified k-fold, all networks trained at once.

python evaluate.py
"""

from cli.command import command  # first: from here on Ctrl-C is one line

# isort: split
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from inspect import signature
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cli.component import to_config
from cli.registry import LEARNED
from data.iris import Iris
from data.leakage import warnings_of
from data.tabular import TabularData
from evaluation.baselines import DEFAULT_BASELINES, find_classifiers, fit_baselines
from evaluation.candidates import SHARED, make_candidates, train_commands
from evaluation.cluster import CLUSTER_BYTES, check_cluster, connected
from evaluation.conclude import conclude
from evaluation.devices import check_run, cluster_plugins, train_shares
from evaluation.ensemble import save_ensemble
from evaluation.groups import check_groups, evaluation_of, group_of, make_groups
from evaluation.plan import check_arguments, make_plan
from evaluation.report import MAX_CANDIDATES, report
from evaluation.result import EvaluationResult, RunInfo
from evaluation.search import Sweep
from model import recipe
from model.scores import Metric
from model.steps import StepArguments
from training.callbacks import FitBar
from training.fast import skip_driver_lookup
from training.groups import EvaluationRun, check_settings, find_kept, fit_groups
from training.hparams import log_result
from training.run import VERSIONS, Accelerator, Precision, Run
from training.stack_fits import check_kept_stacks, fit_on_cluster
from training.trainer_arguments import check_hardware, step_arguments


def evaluate(
    data: Callable[[], TabularData] = Iris,
    network: Callable[[int, int], nn.Module] = recipe.NETWORK,
    loss: Callable[[], nn.Module] = recipe.LOSS,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = recipe.OPTIMIZER,
    schedule: Callable[..., LRScheduler] | None = recipe.SCHEDULE,
    folds: int = 10,
    repeats: int = 10,
    seeds: int = 1,
    sweep: Sweep | None = None,
    search: int | None = None,
    inner_folds: int = 5,
    compare: dict[str, dict[str, Any]] | None = None,
    baselines: Sequence[str] = DEFAULT_BASELINES,
    save: bool = False,
    accelerator: Accelerator = "auto",
    devices: int | list[int] | str = "auto",
    strategy: str = "auto",
    num_nodes: int = 1,
    cluster: str | None = None,
    precision: Precision = "32-true",
    max_epochs: int = recipe.MAX_EPOCHS,
    members: int | None = None,
    patience: int | None = None,
    metric: Metric = "log_loss",
    seed: int = 0,
    log_dir: str = "lightning_logs",
    trainer: StepArguments | None = None,
    resume: str | None = None,
) -> EvaluationResult | None:
    """Estimate what training will reach: repeated stratified k-fold, all networks trained at once.

    Args:
        data: Iris, Table, Images, or a class of your own by import path (mine.Flowers); its
            test_fraction is unused.
        network: MLP, ConvNet, a module of torch.nn, or your own (mine.Net); called with
            num_features and num_classes.
        loss: A loss of torch.nn or your own, called with logits and class indices.
        optimizer: An optimizer of torch.optim or your own.
        schedule: A class of torch.optim.lr_scheduler or your own; null keeps the learning rate. It
            is stepped after every batch, ReduceLROnPlateau after every epoch.
        folds: Number of folds; each is held out once.
        repeats: How often the rows are shuffled and cut into folds; once if they are cut by time.
        seeds: Networks for each fold and candidate, with different initial weights.
        sweep: Try all combinations of these values, and choose by nested cross-validation. A
            search also draws from ranges: "{low: 0.001, high: 0.1, log: true}".
        search: Number of candidates to draw at random from the sweep, of which the worse half stops
            after each quarter of the epochs; null tries all combinations.
        inner_folds: Folds of an outer fold's training rows, on which a sweep chooses.
        compare: Compare the settings of these files on the same folds.
        baselines: Classifiers of scikit-learn to fit to the same folds, such as
            RandomForestClassifier; [] for none. DummyClassifier is the majority class. A comparison
            has no baselines.
        save: Save the networks of the outer folds as one checkpoint, an ensemble.
        accelerator: Hardware to train on; auto takes the best available.
        devices: Number of devices, or a list of their indices.
        strategy: How several devices work together: auto or ddp; each trains a share of the
            networks.
        num_nodes: Number of machines.
        cluster: Train on a Ray cluster: ray for the one of RAY_ADDRESS, or of this machine, or a
            new one; or an address, such as ray://head:10001.
        precision: Numeric precision; the mixed ones keep the weights in 32 bits.
        max_epochs: Passes over the training rows.
        members: Networks that are trained and predict as one, as in train.py; null for 8 where the
            data is a Table, else 1.
        patience: A network stops after this many epochs without a better metric; null trains for
            all epochs.
        metric: Score by which a sweep chooses, and that of the validation rows that decides about
            epochs. Without them patience goes by that of the training rows, and by their loss in
            place of log_loss.
        seed: Seed of the first network; the others count up from it.
        log_dir: Folder of all runs; this run becomes version_N in it.
        trainer: Arguments of Lightning's Trainer that act on the steps of each network.
        resume: Folder of an interrupted evaluation, its version_N: go on with its settings.

    Returns:
        What result.json holds; None on every process but the first.

    Raises:
        ValueError: An argument that cannot be used; nothing was written.
        FloatingPointError: No network ended with finite weights.
        KeyboardInterrupt: Ctrl-C; the message says how to go on.
        OSError: The disk is full; what was written before is kept.
    """
    config = to_config(locals())
    config.pop("resume")  # config.yaml replays the whole evaluation
    if resume is not None:
        check_settings(resume, config)
    check_arguments(repeats, seeds, precision)
    classifiers = find_classifiers(config["baselines"], config["seed"])
    settings = {name: config[name] for name in (*LEARNED, *SHARED)}
    candidates = make_candidates(
        settings, config["sweep"], config["compare"], config["search"], config["seed"]
    )
    hardware = (accelerator, devices, strategy, num_nodes)
    memory = None
    if cluster is not None:
        check_cluster(cluster, *hardware)
        hardware = ("cpu", 1, "auto", 1)  # of this process, which trains nothing
        memory = CLUSTER_BYTES
    steps = step_arguments(trainer or {}, max_epochs)
    for candidate in candidates.values():
        check_run(hardware[0], candidate["max_epochs"], candidate["patience"])
    if compare is not None:
        config["compare"] = {
            name: {component: candidate[component] for component in LEARNED}
            for name, candidate in candidates.items()
        }  # with the components that all have
    skip_driver_lookup()

    # Which networks are trained on which rows: all of them, and the share of this process.
    groups = make_groups(
        list(candidates.values()),
        partial(make_trainer, *hardware, precision, steps=steps),
        partial(
            make_plan,
            folds=config["folds"],
            repeats=config["repeats"],
            inner_folds=config["inner_folds"] if sweep else 0,
            seeds=config["seeds"],
            first_seed=config["seed"],
        ),
        memory,
    )
    check_groups(groups, metric, bool(sweep), save)
    first = groups[0].plan
    datamodule = groups[0].datamodule
    first_trainer = groups[0].trainer
    layout = first.encoders[0].layout
    warnings = warnings_of(datamodule, first.splits[0], layout)
    start = time.perf_counter()
    for group in groups:
        group.make_population(metric, bool(search), is_elsewhere=cluster is not None)
    if cluster is None:
        find_kept(resume, groups)
    else:
        check_kept_stacks(resume, groups)

    # All arguments are valid: create the run folder.
    with (
        connected(cluster, accelerator) as workers,
        EvaluationRun(first_trainer, log_dir, resume, config, first.splits[0]) as run,
    ):
        loggers = []
        if run.is_main_process:
            if resume:
                run.remove_curves()
            else:
                run.write_config(config)
            loggers = candidate_loggers(run, len(candidates))
            run.show_columns(datamodule, warnings, is_logged=False)
        curve_loggers = loggers if len(candidates) <= MAX_CANDIDATES else []
        if workers is None:
            device = fit_groups(run, groups, curve_loggers, config["seed"], save)
        else:
            new_trainer = partial(
                make_trainer, devices="auto", strategy="auto", num_nodes=1, precision=precision
            )
            device = fit_on_cluster(workers, run, groups, curve_loggers, new_trainer, save)
        kept_seconds = sum(group.population.kept_seconds for group in groups)
        info = RunInfo(
            members=sum(len(group.plan.members) for group in groups),
            folds=config["folds"],
            repeats=first.repeats,
            seeds=config["seeds"],
            fit_seconds=time.perf_counter() - start + kept_seconds,
            seed=config["seed"],
            device=device,
            versions=VERSIONS,
        )
        if not run.is_main_process:
            return None

        # What the held-out rows say.
        evaluation = evaluation_of(groups, metric)
        configs = {name: config | candidate for name, candidate in candidates.items()}
        commands = train_commands(configs, signature(evaluate), sweep) if sweep else None
        if compare is not None:
            classifiers = {}
        result = conclude(
            evaluation,
            list(candidates),
            datamodule.class_names,
            info,
            commands,
            fit_baselines(classifiers, first.folds, first.splits, first.num_classes),
            warnings,
        )

        # The result comes before all that may fail.
        lines = list(report(result))
        try:
            run.write_result(result)
        finally:
            run.print_report(lines)
        if save:
            best = group_of(groups, evaluation.final_candidate())
            path = run.run_dir / "checkpoints" / "population.ckpt"
            save_ensemble(path, evaluation, best)
        for logger, row in zip(loggers, result.candidates, strict=True):
            log_result(logger, configs[row.name], row.figures())
        run.finish(lines)
    return result


def make_trainer(
    accelerator: str,
    devices: int | list[int] | str,
    strategy: str,
    num_nodes: int,
    precision: Precision,
    max_epochs: int,
    steps: StepArguments | None = None,
) -> Trainer:
    """The Trainer of a population: no checkpoints, and every device trains its own networks."""
    check_hardware(accelerator, devices, strategy, num_nodes)
    trainer = Trainer(
        **(steps or {}),
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        num_nodes=num_nodes,
        precision=precision,
        max_epochs=max_epochs,
        plugins=cluster_plugins(),
        callbacks=[FitBar()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    train_shares(trainer)
    return trainer


def candidate_loggers(run: Run, candidates: int) -> list[TensorBoardLogger]:
    """A logger for each candidate's curves, so that TensorBoard can lay them over one another."""
    if candidates == 1:
        return [run.logger]
    return [run.add_logger(f"candidate_{i + 1}") for i in range(candidates)]


if __name__ == "__main__":
    command(evaluate)
