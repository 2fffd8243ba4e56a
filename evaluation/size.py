"""Whether a network fits into memory, said before it is built."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from cli.component import ComponentConfig, Factory, build
from evaluation.devices import available_memory, is_sharded

GIB = 2**30
BYTES: dict[str | int | None, int] = {
    "64-true": 8,
    "bf16-true": 2,
}  # of a weight; 4 with other precisions


def check_size(
    components: Mapping[str, ComponentConfig | None],
    num_features: int,
    num_classes: int,
    memory: int,
    bytes_each: int = 4,
) -> None:
    """Refuse a network whose weights, gradients and optimizer states exceed the memory.

    They are counted on the meta device, where nothing takes memory. What a network keeps for its
    backward pass comes on top.

    Args:
        components: Network and optimizer, as plain data.
        num_features: Number of features.
        num_classes: Number of classes.
        memory: Bytes that a network may take.
        bytes_each: Bytes of a weight.

    Raises:
        ValueError: It says how large the network is, and what would fit.
    """
    network = components["network"]
    optimizer = components["optimizer"]
    assert network is not None
    assert optimizer is not None
    parameters = count_parameters(build("network", network), num_features, num_classes)
    bytes_each *= 2 + count_states(build("optimizer", optimizer))
    if parameters * bytes_each > memory:
        raise ValueError(
            f"network {network['class']} has {parameters:,} parameters, which need "
            f"{parameters * bytes_each / GIB:,.1f} GiB with their gradients and the optimizer's "
            f"states, but only {memory / GIB:,.1f} are available; {memory // bytes_each:,} "
            "parameters would fit: give a smaller network, or more devices and --strategy fsdp"
        )


def memory_of_network(trainer: Trainer) -> int:
    """Bytes that a network may take in a fit, on all devices if they divide it."""
    memory = available_memory(trainer.strategy.root_device)
    if trainer.strategy.root_device.type == "cpu":  # the processes of a machine share its memory
        memory //= trainer.world_size // trainer.num_nodes
    if is_sharded(trainer):
        memory *= trainer.world_size
    return memory


def count_parameters(make_network: Factory, num_features: int, num_classes: int) -> int:
    """The number of a network's parameters; 0 if it cannot be built on the meta device.

    Raises:
        ValueError: A layer is too large to be counted.

    >>> count_parameters(nn.Linear, 10**6, 10**6)
    1000001000000
    """
    try:
        with torch.device("meta"):
            network: nn.Module = make_network(num_features, num_classes)
    except Exception as error:  # a bad argument, or a constructor that reads values
        if "overflow" in str(error).lower():  # torch has several types of error for it
            raise ValueError(
                "the network has a layer of more than 2^63 bytes; give a smaller network"
            ) from error
        return 0  # building it says what is wrong
    return sum(parameter.numel() for parameter in network.parameters())


def count_states(make_optimizer: Any) -> int:
    """Numbers that an optimizer keeps for each weight, tried on a small matrix.

    >>> count_states(torch.optim.AdamW), count_states(torch.optim.SGD)
    (2, 0)
    """
    weight = nn.Parameter(torch.zeros(16, 16))
    weight.grad = torch.ones(16, 16)
    try:
        optimizer = make_optimizer([weight])
        optimizer.step()
    except Exception:  # a bad argument, which building it says, or one that calls the loss itself
        return 2
    states = optimizer.state[weight].values()
    return sum(state.numel() for state in states if isinstance(state, Tensor)) // weight.numel()
