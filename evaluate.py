"""Estimate what training will reach: repeated stratified k-fold, all networks trained at once.

python evaluate.py
"""

import json
import os
import shlex
import shutil
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cli.command import command
from cli.component import describe, find, to_config
from cli.errors import unknown
from data.encoder import Encoder
from data.folds import cross_validation, standardized
from data.iris import Iris
from data.sampling import row_order
from data.tabular import TabularData
from evaluation.evaluation import Evaluation, conclude
from evaluation.report import report
from model import recipe
from model.classifier import Classifier
from model.losses import weigh
from model.population import STACK_BYTES, Member, Population
from train import train
from training.callbacks import CurveBands, FitBar
from training.hparams import MACHINE, hyperparameters
from training.run import VERSIONS, Accelerator, Precision, RunLogger, check_run, device_name

LEARNED = ("network", "loss", "optimizer", "schedule")  # the nouns of a setting


def evaluate(
    data: Callable[[], TabularData] = Iris,
    network: Callable[[int, int], nn.Module] = recipe.NETWORK,
    loss: Callable[[], nn.Module] = recipe.LOSS,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = recipe.OPTIMIZER,
    schedule: Callable[..., LRScheduler] | None = recipe.SCHEDULE,
    folds: int = 10,
    repeats: int = 10,
    seeds: int = 1,
    sweep: dict[str, list[Any]] | None = None,
    inner_folds: int = 5,
    compare: dict[str, dict[str, Any]] | None = None,
    save: bool = False,
    accelerator: Accelerator = "auto",
    devices: int | list[int] | str = "auto",
    strategy: str = "auto",
    num_nodes: int = 1,
    precision: Precision = "32-true",
    max_epochs: int = recipe.MAX_EPOCHS,
    patience: int | None = None,
    seed: int = 0,
    log_dir: str = "lightning_logs",
) -> dict[str, Any]:
    """Estimate what training will reach: repeated stratified k-fold, all networks trained at once.

    Args:
        data: The table, Iris or your own by import path (mine.Table); its test_fraction has no part in this.
        network: MLP, a module of torch.nn, or your own (mine.Net), called with the numbers of features and of classes.
        loss: A loss of torch.nn or your own, called with logits and class numbers.
        optimizer: An optimizer of torch.optim or your own.
        schedule: One of torch.optim.lr_scheduler or your own, a step after every batch; null keeps the learning rate.
        folds: Splits of the table, each held out once.
        repeats: How often the table is shuffled and cut anew.
        seeds: Networks for each fold and setting, which differ in their start.
        sweep: Try all combinations of such values, and choose by nested cross-validation.
        inner_folds: Splits of a fold's training rows, on which a sweep chooses.
        compare: Compare the settings of such files over the same folds.
        save: Write the networks of the outer folds as one checkpoint, an ensemble.
        accelerator: Where to train; auto takes the best that is there.
        devices: How many devices, or a list of their numbers.
        strategy: How several devices work together: auto or ddp, each trains a share of the networks.
        num_nodes: How many machines.
        precision: Bits of a number; mixed keeps the weights in 32.
        max_epochs: Passes over the training rows.
        patience: A network stops after this many epochs without a better validation loss; null goes to the end.
        seed: Seed of the first network; each further one counts up.
        log_dir: Folder of all runs; this one becomes version_N in it.

    Returns:
        What result.json holds.

    Raises:
        ValueError: An argument that cannot be used; nothing was written.
        FloatingPointError: Not one network ended with finite weights.
        KeyboardInterrupt: Ctrl-C; nothing was kept.
    """
    config = to_config(locals())
    check_run(accelerator, max_epochs, patience)
    for name, value in {"repeats": repeats, "seeds": seeds}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; give 1 or more")
    if precision == "16-mixed":
        raise ValueError(
            "precision is 16-mixed, whose loss scale all networks would share; give bf16-mixed"
        )
    nouns = {noun: config[noun] for noun in LEARNED}
    candidates = candidate_settings(nouns, sweep, compare)
    names = list(candidates)

    table = data()
    raw = table.read()
    weighted = [weigh(setting, table.class_weights) for setting in candidates.values()]
    inner = inner_folds if sweep else 0
    run = Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        num_nodes=num_nodes,
        precision=precision,
        max_epochs=max_epochs,
        callbacks=[FitBar()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    if isinstance(run.strategy, DDPStrategy):
        run.strategy.configure_ddp = lambda: None  # type: ignore[method-assign]  # networks share nothing to reduce
    elif not isinstance(run.strategy, SingleDeviceStrategy):
        raise ValueError(
            f"strategy is {strategy}; give auto or ddp, with which each device trains its share"
        )
    num_features = len(raw.layout().names)
    classifiers = [Classifier(num_features, table.num_classes, **setting) for setting in weighted]
    check_memory(
        run,
        classifiers,
        len(raw.targets) * (4 * num_features + 8),
        folds * repeats * (1 + inner),
        seeds,
    )
    splits = cross_validation(table, raw.targets, folds, repeats, inner)
    parts, encoders = standardized(raw, splits)
    members = [
        Member(setting, split, seed + split * seeds + i)
        for setting in range(len(names))
        for split in range(len(splits))
        for i in range(seeds)
    ]
    if len(members) < run.world_size:
        raise ValueError(
            f"{len(members)} networks are too few for {run.world_size} devices; give fewer devices"
        )
    start = time.perf_counter()
    seed_everything(seed, verbose=False)
    population = Population(
        num_features,
        table.num_classes,
        weighted,
        members[run.global_rank :: run.world_size],
        splits=parts,
        batch_size=table.batch_size,
        row_order=row_order,
        augments=[augment for encoder in encoders if (augment := table.augmentation(encoder))],
        patience=patience,
        stack_bytes=memory(run) // 4 if run.strategy.root_device.type == "cuda" else STACK_BYTES,
    )

    # The run begins: all that is wrong with its arguments has been said, and only now is a folder made.
    logger = RunLogger(log_dir, run.global_rank)
    folder = Path(logger.log_dir)
    loggers: list[TensorBoardLogger] = [logger] if run.is_global_zero else []
    if (
        run.is_global_zero and len(names) > 1
    ):  # a run of its own for each setting, to be laid over one another
        loggers = [TensorBoardLogger(folder, "", f"setting_{i + 1}") for i in range(len(names))]
    run.callbacks.append(CurveBands(loggers))  # type: ignore[attr-defined]
    about = table.about()
    if about and run.is_global_zero:
        print(about, end="\n\n")
        logger.experiment.add_text("columns", textwrap.indent(about, "    "))
    finished = False
    try:
        run.fit(population, range(len(population.stacks)))
        fit_seconds = time.perf_counter() - start
        weights = population.weights() if save else {}
        if not run.is_global_zero:
            return {}
        found = Evaluation(raw.targets, splits, population.outcomes, len(names))
        if not found.held_out:
            raise FloatingPointError(
                f"none of {len(members)} networks stayed finite; give a lower --optimizer.lr"
            )
        chosen = found.best()
        result = conclude(found, names, chosen, table.class_names, nested=bool(sweep)) | {
            "members": len(members),
            "folds": folds,
            "repeats": repeats,
            "seeds": seeds,
            "fit_seconds": fit_seconds,
            "seed": seed,
            "device": device_name(run),
            "versions": VERSIONS,
        }
        if sweep:
            result["train"] = train_command(config | candidates[names[chosen]])
        if save:
            kept = [
                m
                for m in sorted(weights)
                if m.setting == chosen and not (splits[m.split].inner or m in found.failures)
            ]
            (folder / "checkpoints").mkdir()
            save_ensemble(
                folder / "checkpoints" / "population.ckpt",
                population,
                kept,
                weights,
                table,
                encoders,
            )
        (folder / "config.yaml").write_text(
            yaml.safe_dump(config, sort_keys=False, allow_unicode=True), "utf-8"
        )
        (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        finished = True
    except SystemExit as stop:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt(
            f"stopped in epoch {run.current_epoch + 1}; nothing was kept"
        ) from stop
    finally:
        if run.is_global_zero and not finished:
            for one in {logger, *loggers}:
                one.experiment.close()  # its thread writes on into a folder that is gone
            shutil.rmtree(folder)

    text = "\n".join(report(result))
    for one, name, row in zip(loggers, names, result["settings"], strict=True):
        figures = {key: value for key, value in row.items() if "/" in key}
        one.log_hyperparams(hyperparameters(config | candidates[name]), figures)
        one.experiment.add_custom_scalars(bands(population.curves))
    logger.experiment.add_text("result", textwrap.indent(text, "    "))
    for one in {logger, *loggers}:
        one.experiment.close()
    print(f"{text}\n\nrun      {folder}\ncurves   tensorboard --logdir {folder.parent}")
    return result


def bands(tags: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What TensorBoard's Custom Scalars tab draws: of each metric the mean, in its band.

    >>> bands(["train/loss"])
    {'train': {'loss': ['Margin', ['train/loss/mean', 'train/loss/low', 'train/loss/high']]}}
    """
    found: dict[str, dict[str, Any]] = {}
    for tag in tags:
        part, metric = tag.split("/")
        found.setdefault(part, {})[metric] = [
            "Margin",
            [f"{tag}/{point}" for point in ("mean", "low", "high")],
        ]
    return found


def candidate_settings(
    nouns: dict[str, Any],
    sweep: dict[str, list[Any]] | None,
    compare: dict[str, dict[str, Any]] | None,
) -> dict[str, dict[str, Any]]:
    """Each setting's nouns, by the setting's name."""
    if sweep is not None and compare is not None:
        raise ValueError("sweep and compare are both given; give one of them")
    if compare is not None:
        if len(compare) < 2:
            raise ValueError(
                f"compare has {len(compare)} setting; give two or more, of different names"
            )
        return {name: nouns | to_config(setting) for name, setting in compare.items()}
    if sweep is None:
        return {"default": nouns}
    if not sweep or not all(sweep.values()):
        raise ValueError("the sweep is empty; give each setting a list of one value or more")
    found = {}
    for values in product(*sweep.values()):
        changes = dict(zip(sweep, values, strict=True))
        name = ", ".join(f"{key} {plain(value)}" for key, value in changes.items())
        found[name] = {noun: dict(spec) if spec else None for noun, spec in nouns.items()}
        for key, value in changes.items():
            change(found[name], key, value)
    return found


def change(setting: dict[str, Any], key: str, value: Any) -> None:
    """Put a value into a setting, as `--KEY VALUE` would."""
    noun, _, argument = key.partition(".")
    spec: dict[str, Any] = setting.get(noun) or {}
    if noun not in LEARNED:
        raise ValueError(f"the sweep has {key!r}; give settings of {', '.join(LEARNED)}")
    if not argument:
        setting[noun] = None if value is None else describe(noun, find(noun, value))
        return
    known = list(signature(find(noun, spec["class"])).parameters) if spec else []
    if argument not in known:
        raise ValueError(unknown("setting to sweep", key, [f"{noun}.{name}" for name in known]))
    spec[argument] = value


def plain(value: Any) -> str:
    """A value as the command line has it."""
    return value if isinstance(value, str) else json.dumps(value)


def train_command(config: dict[str, Any]) -> str:
    """The `python train.py …` that trains with these settings, without what is train.py's default."""
    defaults = {name: parameter.default for name, parameter in signature(train).parameters.items()}
    words = ["python", "train.py"]
    for name, value in config.items():
        if name not in defaults or name in MACHINE:
            continue
        usual = defaults[name]
        if isinstance(value, dict):
            spec: dict[str, Any] = describe(name, usual) or {}
            if spec.get("class") != value["class"] or not spec.keys() <= value.keys():
                words += [f"--{name}", value["class"]]
                spec = describe(name, find(name, value["class"])) or {}
            for key, argument in value.items():
                if key not in spec or spec[key] != argument:
                    words += [f"--{name}.{key}", plain(argument)]
        elif value != usual:
            words += [f"--{name}", plain(value)]
    return shlex.join(words)


def memory(run: Trainer) -> int:
    """Bytes of memory where a run computes."""
    device = run.strategy.root_device
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return (
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if hasattr(os, "sysconf")
        else 2**63
    )


def check_memory(
    run: Trainer, classifiers: Sequence[Classifier], rows: int, splits: int, seeds: int
) -> None:
    """Refuse a population that would not fit, before it is built; all rows of the table take `rows` bytes."""
    weights = max(
        sum(parameter.nbytes for parameter in classifier.parameters()) for classifier in classifiers
    )
    members = splits * seeds * len(classifiers)
    # Weights, their gradients, two moments in the optimizer, the kept epoch; its rows, and those of the split.
    need = members * (5 * weights + rows) + splits * 2 * rows
    if need > memory(run):
        raise ValueError(
            f"{members:,} networks need {need / 2**30:,.1f} GiB, and there are {memory(run) / 2**30:,.1f}; "
            f"about {members * memory(run) // need:,} would fit: give fewer repeats, seeds or settings"
        )


def save_ensemble(
    path: Path,
    population: Population,
    members: list[Member],
    weights: dict[Member, dict[str, torch.Tensor]],
    table: TabularData,
    encoders: list[Encoder],
) -> None:
    """Write members of one setting as one checkpoint, each with the statistics of its own training rows."""
    ensemble = population.ensemble(members, [weights[member] for member in members])
    table.encoder = encoders[0].stack([encoders[member.split] for member in members])
    checkpoint = {
        "state_dict": ensemble.state_dict(),
        "hyper_parameters": dict(ensemble.hparams),
        "pytorch-lightning_version": VERSIONS["lightning"],
        type(table).__qualname__: table.state_dict(),
    }
    torch.save(checkpoint, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


if __name__ == "__main__":
    command(evaluate)
