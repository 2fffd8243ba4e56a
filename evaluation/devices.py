"""Where a population is trained: whether it fits into memory, and which devices share it."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from model.classifier import Classifier
from model.stack_budget import STACK_BYTES

TESTED_STRATEGIES = (DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy)


def available_memory(device: torch.device) -> int:
    """Bytes of free GPU memory, or of the machine's memory for a CPU."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2**63  # Windows does not say


def memory_of_all(trainer: Trainer) -> int:
    """Bytes of memory for the networks of all processes: each GPU has its own, a machine one."""
    memory = available_memory(trainer.strategy.root_device)
    if trainer.strategy.root_device.type == "cuda":
        return memory * trainer.world_size
    return memory * trainer.num_nodes


def stack_bytes(device: torch.device) -> int:
    """The activation budget of one stack of a population."""
    if device.type == "cuda":
        return available_memory(device) // 4
    return STACK_BYTES


def check_memory(
    classifiers: Sequence[Classifier],
    table_bytes: int,
    member_bytes: int,
    networks: int,
    available: int,
) -> None:
    """Refuse a population that would not fit.

    Args:
        classifiers: One for each candidate.
        table_bytes: Size of the table, which all networks share.
        member_bytes: Size of what a network has beside its weights.
        networks: Networks of each candidate.
        available: Bytes of memory.

    Raises:
        ValueError: It would not fit.
    """
    weights = max(
        sum(parameter.nbytes for parameter in classifier.parameters()) for classifier in classifiers
    )
    members = networks * len(classifiers)
    # Weights, gradients, two moments in the optimizer and the kept epoch.
    member_bytes += 5 * weights
    needed = table_bytes + members * member_bytes
    if needed <= available:
        return
    most = max(0, available - table_bytes) // member_bytes
    advice = "give fewer folds, repeats, seeds or candidates" if most else "give fewer rows"
    raise ValueError(
        f"{members:,} networks need {needed / 2**30:,.1f} GiB, but only "
        f"{available / 2**30:,.1f} are available; about {most:,} would fit: {advice}"
    )


def check_processes(trainer: Trainer) -> None:
    """Refuse processes that would not work on one run together.

    Raises:
        ValueError: The strategy starts processes inside the fit, or was never tested here, or
            torchrun or SLURM started another number of processes than the Trainer uses.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise ValueError(
            "strategy starts its processes inside the fit, and their results would be lost; "
            "give ddp, or a single device"
        )
    if not isinstance(trainer.strategy, TESTED_STRATEGIES):
        raise ValueError(
            f"strategy is {type(trainer.strategy).__name__}, which nothing here was tested with; "
            "give auto, ddp or fsdp"
        )
    check_started(trainer)


def check_started(trainer: Trainer) -> None:
    """Refuse other processes than those that torchrun or SLURM started."""
    asked = trainer.num_devices * trainer.num_nodes
    started = os.environ.get("WORLD_SIZE", asked)
    on_machine = os.environ.get("LOCAL_WORLD_SIZE", trainer.num_devices)
    if SLURMEnvironment.detect():
        started = os.environ["SLURM_NTASKS"]
        on_machine = os.environ.get("SLURM_NTASKS_PER_NODE", on_machine)
    if int(started) != asked:
        raise ValueError(
            f"{started} processes were started, but devices and num_nodes ask for {asked}; give "
            f"--devices and --num_nodes, whose product is {started}, and --strategy ddp"
        )
    if int(on_machine) != trainer.num_devices:
        raise ValueError(
            f"devices is {trainer.num_devices}, but {on_machine} processes were started on this "
            f"machine; give --devices {on_machine}, and --num_nodes as there are machines"
        )


def make_strategy(name: str) -> str | Strategy:
    """Lightning's strategy of this name; for fsdp one that shards on a CPU, too.

    Its checkpoints are those of one process: a file with the whole network.
    """
    if name != "fsdp":
        return name
    return ModelParallelStrategy(save_distributed_checkpoint=False)


def cluster_plugins() -> list[Any]:
    """What a Trainer needs on a SLURM cluster.

    Lightning's own way of requeueing a job is off: it would write a checkpoint into the working
    folder inside a signal handler, and take SIGTERM away. The job's script requeues
    (docs/cluster.md).

    Raises:
        ValueError: SLURM's settings are not those that Lightning can use.
    """
    if not SLURMEnvironment.detect():
        return []
    try:
        return [SLURMEnvironment(auto_requeue=False)]
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def is_sharded(trainer: Trainer) -> bool:
    """Whether the fit divides a network between devices, as FSDP does."""
    return not isinstance(trainer.strategy, (DDPStrategy, SingleDeviceStrategy))


def train_shares(trainer: Trainer) -> None:
    """Let every device train its share of the networks, without exchanging gradients.

    Raises:
        ValueError: The strategy would divide each network between the devices, or what
            `check_processes` refuses.
    """
    check_processes(trainer)
    if isinstance(trainer.strategy, DDPStrategy):
        # Wrapping the population in DistributedDataParallel would average gradients. Lightning has
        # no option for that, so its method is replaced.
        trainer.strategy.configure_ddp = lambda: None  # type: ignore[method-assign]
    elif is_sharded(trainer):
        raise ValueError(
            f"strategy is {type(trainer.strategy).__name__}; "
            "give auto or ddp, with which each device trains its share"
        )


def check_run(accelerator: str, max_epochs: int, patience: int | None) -> None:
    """Refuse arguments that cannot work on this machine.

    Raises:
        ValueError: One of them cannot be used here.
    """
    if max_epochs < 1:
        raise ValueError(f"max_epochs is {max_epochs}; give 1 or more")
    if patience is not None and patience < 1:
        raise ValueError(
            f"patience is {patience}; give 1 or more epochs, or null to train for all epochs"
        )
    has_cuda = torch.cuda.is_available()
    has_mps = accelerator == "gpu" and torch.backends.mps.is_available()
    if accelerator in ("gpu", "cuda") and not (has_cuda or has_mps):
        raise ValueError(
            f"accelerator is {accelerator}, but PyTorch finds no such GPU; give cpu or auto"
        )


def device_name(trainer: Trainer) -> str:
    """Name of the device that a Trainer computes on."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type
