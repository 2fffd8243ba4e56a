"""Refuse what a run cannot use of Lightning's Trainer (--trainer.*), before its folder is made."""

import os
import re
from collections.abc import Mapping
from copy import deepcopy
from importlib.util import find_spec
from inspect import signature
from math import isfinite
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry

from cli.convert import to_text
from cli.errors import unknown
from cli.schema import SET_BY_PROGRAM
from data.tabular import TabularData
from evaluation.devices import cluster_plugins
from model.classifier import Classifier
from model.steps import StepArguments

PARAMETERS = signature(Trainer).parameters
FROM_ONE = (
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "log_every_n_steps",
    "min_epochs",
    "min_steps",
)
# What several members take; all else is about the fit of a single network.
OF_MEMBERS = (
    *StepArguments.__annotations__,
    "benchmark",
    "detect_anomaly",
    "deterministic",
    "inference_mode",
    "log_every_n_steps",
    "max_time",
    "profiler",
)
PROCESSES_PER_CORE = 4
MAX_NODES = 100_000


def check_hardware(
    accelerator: str,
    devices: int | list[int] | str,
    strategy: str,
    num_nodes: int,
    precision: str = "32-true",
) -> None:
    """Refuse devices that no machine has, and those that need a package that is not installed.

    Raises:
        ValueError: One of them cannot be used here.
    """
    if strategy != "auto" and strategy not in StrategyRegistry.available_strategies():
        raise ValueError(unknown("strategy", strategy, StrategyRegistry.available_strategies()))
    if accelerator == "tpu":
        need_xla("accelerator tpu")
    if "xla" in strategy:
        need_xla(f"strategy {strategy}")
    if not 1 <= num_nodes <= MAX_NODES:
        raise ValueError(f"num_nodes is {num_nodes}; give the number of machines, 1 or more")
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not has_gpu)
    if on_cpu and precision == "16-mixed":  # Lightning would take bf16-mixed
        raise ValueError("precision is 16-mixed, which needs a GPU; give bf16-mixed")
    check_devices(devices, on_cpu)


def check_devices(devices: Any, on_cpu: bool) -> None:
    """Refuse devices that are neither a number of them nor, on a GPU, their indices."""
    if devices == "auto":
        return
    count = devices
    if isinstance(devices, str) and devices.isdecimal():
        count = int(devices)
    is_count = isinstance(count, int) and not isinstance(count, bool)
    if on_cpu:
        limit = PROCESSES_PER_CORE * (os.cpu_count() or 1)
        if not is_count or not 1 <= count <= limit:
            raise ValueError(
                f"devices is {devices!r}; on a CPU give auto, or a number of processes from 1 to "
                f"{limit}, {PROCESSES_PER_CORE} for each core"
            )
        return
    is_all = is_count and (count >= 1 or count == -1)
    is_list = isinstance(devices, list) and len(devices) == len(set(map(str, devices))) > 0
    is_indices = is_list and all(type(index) is int and index >= 0 for index in devices)
    is_text = isinstance(devices, str) and re.fullmatch(r"-1|\d+(,\d+)*,?", devices)
    if not (is_all or is_indices or is_text):
        raise ValueError(
            f"devices is {devices!r}; give auto, a number of devices, or a list of their indices "
            'such as "[0, 1]"'
        )


def trainer_arguments(
    given: Mapping[str, Any],
    datamodule: TabularData,
    max_epochs: int,
    patience: int | None,
    members: int,
) -> dict[str, Any]:
    """The Trainer's arguments that are no flags of their own: those given, and defaults.

    Args:
        given: What --trainer.* gives.
        datamodule: The table, after `setup()`.
        max_epochs: Epochs of the run.
        patience: Epochs without a better metric after which the fit stops.
        members: Networks that train as one.

    Raises:
        ValueError: An argument that is not one of the Trainer's, that the program sets, or whose
            value cannot be used.
    """
    for name in given:
        if name not in PARAMETERS:
            raise ValueError(unknown("--trainer argument", name, PARAMETERS))
        if name in SET_BY_PROGRAM:
            raise ValueError(f"--trainer.{name} is set by the program: {SET_BY_PROGRAM[name]}")
    changed = {
        name: value for name, value in given.items() if value != PARAMETERS[name].default
    }  # null for check_val_every_n_epoch is a change
    for name in changed:
        if members > 1 and name not in OF_MEMBERS:
            raise ValueError(
                f"--trainer.{name} acts on the fit of a single network, and {members} are trained "
                "as one; give --members 1"
            )
    check_values(changed, max_epochs)
    if datamodule.val_fraction:
        check_rare_validation(changed, patience)
    for name in ("check_val_every_n_epoch", "val_check_interval"):
        if name in changed and not datamodule.val_fraction:
            raise ValueError(f"--trainer.{name} needs validation rows; give --data.val_fraction")
    defaults = {"log_every_n_steps": 1, "plugins": cluster_plugins()}
    defaults["limit_val_batches"] = 1.0 if datamodule.val_fraction else 0
    return defaults | changed


def step_arguments(given: StepArguments, max_epochs: int) -> StepArguments:
    """The Trainer's arguments that evaluate.py takes.

    Raises:
        ValueError: Another argument, or a value that cannot be used.
    """
    names = StepArguments.__annotations__
    for name in given:
        if name not in names:
            raise ValueError(unknown("--trainer argument of evaluate.py", name, names))
    check_values(given, max_epochs)
    return given


def check_values(given: Mapping[str, Any], max_epochs: int) -> None:
    """Refuse values that no run can use."""
    for name in FROM_ONE:
        if name in given and (given[name] is None or given[name] < 1):
            raise ValueError(f"--trainer.{name} is {to_text(given[name])}; give 1 or more")
    if given.get("max_steps") is not None and given["max_steps"] < 1:
        raise ValueError(
            f"--trainer.max_steps is {given['max_steps']}; give 1 or more, or leave it out"
        )
    if given.get("min_epochs", 0) > max_epochs:
        raise ValueError(
            f"--trainer.min_epochs is {given['min_epochs']}, more than max_epochs, {max_epochs}"
        )
    if "max_time" in given:
        check_time(given["max_time"])
    clip = given.get("gradient_clip_val") or 0
    if not isfinite(clip) or clip < 0:
        raise ValueError(f"--trainer.gradient_clip_val is {clip}; give a number above 0")
    if "gradient_clip_algorithm" in given and not clip:
        raise ValueError(
            "--trainer.gradient_clip_algorithm says how gradients are clipped; give "
            "--trainer.gradient_clip_val too"
        )
    interval = given.get("val_check_interval", 1.0)
    is_share = isinstance(interval, float) and 0 < interval <= 1
    is_count = isinstance(interval, int) and interval >= 1
    if not (is_share or is_count):
        raise ValueError(
            f"--trainer.val_check_interval is {to_text(interval)}; give a share of an epoch "
            "such as 0.5, or a number of batches"
        )
    if given.get("profiler") == "xla":
        need_xla("--trainer.profiler xla")


def need_xla(what: str) -> None:
    """Refuse what needs the package of Google's TPUs where it is not installed."""
    if find_spec("torch_xla") is None:
        raise ValueError(f"{what} needs a package: pip install torch_xla")


def check_time(duration: Any) -> None:
    """Refuse a --trainer.max_time that is not a time above 0."""
    try:
        seconds = Timer(duration).time_remaining()
    except (MisconfigurationException, TypeError, ValueError, OverflowError):
        seconds = None
    if not seconds or seconds <= 0:
        raise ValueError(
            f"--trainer.max_time is {str(duration)!r}; give days:hours:minutes:seconds, such as "
            "00:01:30:00"
        )


def check_rare_validation(given: Mapping[str, Any], patience: int | None) -> None:
    """Refuse what does not go with validation that is not at the end of each epoch."""
    for name in ("check_val_every_n_epoch", "val_check_interval"):
        if name in given and patience is not None:
            raise ValueError(
                f"patience counts epochs, each of which must be validated once; leave out "
                f"--trainer.{name} or --patience"
            )
    if "check_val_every_n_epoch" in given and "max_time" in given:
        raise ValueError(
            "--trainer.max_time can be over before the first validation; leave out "
            "--trainer.check_val_every_n_epoch"
        )


def check_fit(trainer: Trainer, classifier: Classifier, datamodule: TabularData) -> None:
    """Refuse a fit of one network without a batch, without a validation, or with a bad last batch.

    Raises:
        ValueError: With the flag that helps.
    """
    rows = len(datamodule.indices["train"])
    processes = trainer.world_size
    batch_size = min(datamodule.batch_size or rows, rows)
    if batch_size < processes:
        raise ValueError(
            f"a batch of {batch_size} rows is shared by {processes} processes; give a larger "
            "--data.batch_size, or fewer --devices and --num_nodes"
        )
    batches = -(-rows // batch_size)
    limit = trainer.limit_train_batches
    used = min(limit, batches) if isinstance(limit, int) else int(limit * batches)
    if used < 1:
        raise ValueError(
            f"--trainer.limit_train_batches is {limit}, which leaves none of an epoch's "
            f"{batches} batches"
        )
    steps = -(-used // trainer.accumulate_grad_batches) * (trainer.max_epochs or 1)
    if trainer.max_steps > 0:
        steps = min(steps, trainer.max_steps)
    classifier.optimize(classifier.network.parameters(), steps)  # whether the schedule can run
    if datamodule.val_fraction:
        check_first_validation(trainer, used)
    last = rows - (used - 1) * batch_size
    if min(last, batch_size) // processes <= 1:
        check_single_row(classifier, rows, batch_size)
    if isinstance(trainer.strategy, DDPStrategy):
        check_used(trainer.strategy, classifier)


def check_first_validation(trainer: Trainer, batches: int) -> None:
    """Refuse a fit that ends before its first validation, so that no epoch could be kept.

    Args:
        trainer: The Trainer of the fit.
        batches: Batches of an epoch.
    """
    every = trainer.check_val_every_n_epoch or 1
    if every > (trainer.max_epochs or 0):
        raise ValueError(
            f"--trainer.check_val_every_n_epoch is {every}, more than max_epochs, "
            f"{trainer.max_epochs}: no epoch would be validated"
        )
    interval = trainer.val_check_interval
    if isinstance(interval, float):
        interval = max(1, int(interval * batches))
    if interval > batches:
        raise ValueError(
            f"--trainer.val_check_interval is {interval}; give at most an epoch's {batches} batches"
        )
    steps = -(-batches // trainer.accumulate_grad_batches)
    first = (every - 1) * steps + -(-interval // trainer.accumulate_grad_batches)
    if 0 < trainer.max_steps < first:
        raise ValueError(
            f"--trainer.max_steps is {trainer.max_steps}, which ends the fit before its first "
            f"validation, after step {first}"
        )


def check_single_row(classifier: Classifier, rows: int, batch_size: int) -> None:
    """Refuse a network that cannot learn from a batch of one row, which BatchNorm cannot."""
    network = deepcopy(classifier.network).train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            network(classifier.example)
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"the network cannot learn from a batch of one row, as with BatchNorm, and {rows} "
                f"rows in batches of {batch_size} end with one; give another --data.batch_size"
            ) from error


def check_used(strategy: DDPStrategy, classifier: Classifier) -> None:
    """Refuse parameters that the output does not depend on: ddp would wait for their gradients."""
    if strategy._ddp_kwargs.get("find_unused_parameters"):  # there is no public way to ask
        return
    network = deepcopy(classifier.network).train()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        network(classifier.example.expand(2, -1)).sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise ValueError(
                f"the network's output does not depend on its parameter {name}, for whose gradient "
                "ddp would wait; remove it, or give --strategy ddp_find_unused_parameters_true"
            )
