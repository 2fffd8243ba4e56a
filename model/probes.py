"""Probes: what a Population must know about a network, loss or optimizer, found out by trying."""

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim.lr_scheduler import ReduceLROnPlateau

from model.classifier import Classifier
from model.losses import ClassWeighted
from model.stack import member_losses, supports_vmap

PROBED_ROWS = 64  # at most, which a network is tried with


def refuse_state_across_rows(classifier: Classifier) -> None:
    """Refuse a network that mixes rows or changes a buffer in training; BatchNorm does both.

    Raises:
        ValueError: The network does so: a member could have learned from held-out rows.
    """
    network = deepcopy(classifier.network).train()
    name = type(network).__name__
    buffers = {key: buffer.clone() for key, buffer in network.named_buffers()}
    num_features = classifier.example.shape[1]
    rows = torch.randn(4, num_features, generator=torch.Generator().manual_seed(0))
    first_row = rows[:1]

    # Another first row must not change the outputs for the other rows.
    outputs = []
    for replaced in (first_row, 1 - first_row):
        torch.default_generator.manual_seed(0)  # the same dropout both times
        output = network(torch.cat([replaced, rows[1:]]))
        outputs.append(output.detach()[1:])
    if not torch.allclose(outputs[0], outputs[1], equal_nan=True):
        raise ValueError(
            f"network {name} mixes rows, as BatchNorm does; "
            "give one whose output for a row depends on that row alone"
        )
    for key, buffer in network.named_buffers():
        if not torch.equal(buffer, buffers[key]):
            raise ValueError(f"network {name} keeps a state in training ({key}); give one without")


def can_vmap_loss(loss: nn.Module, num_classes: int) -> bool:
    """Whether `torch.func.vmap` supports all operations of a loss, each fast."""
    logits = torch.zeros(2, num_classes, 2, requires_grad=True)
    targets = torch.zeros(2, 2, dtype=torch.long)
    return supports_vmap(lambda: member_losses(loss, logits, targets))


def is_plain_cross_entropy(loss: nn.Module) -> bool:
    """Whether a loss is cross-entropy in which rows count the same, or by `ClassWeighted`."""
    reduction = "mean"
    if isinstance(loss, ClassWeighted):
        loss = loss.row_loss
        reduction = "none"
    return (
        type(loss) is nn.CrossEntropyLoss
        and loss.reduction == reduction
        and loss.weight is None
        and loss.ignore_index < 0
    )


def mixes_members(classifier: Classifier) -> bool:
    """Whether a step on two stacked members differs from a step on each member alone.

    Then each member needs its own optimizer. Adafactor, for example, divides by a norm over a
    whole tensor. ReduceLROnPlateau counts as mixing: it follows one member's loss.

    Raises:
        ValueError: The optimizer calls the loss itself, as LBFGS does.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = [parameter.shape for parameter in classifier.network.parameters()]

    def draw(scale: float) -> list[Tensor]:
        return [scale * torch.randn(shape, generator=generator) for shape in shapes]

    starts = [draw(1.0), draw(1.0)]
    # The second gradient is a hundred times the first: a norm over both would show.
    gradients = [draw(0.1), draw(10.0)]
    try:
        stacked = three_steps(classifier, stack_tensors(starts), stack_tensors(gradients))
        alone = stack_tensors(
            three_steps(classifier, start, gradient)
            for start, gradient in zip(starts, gradients, strict=True)
        )
    except TypeError as error:
        raise ValueError(f"the optimizer cannot train a population: {error}") from error
    except (RuntimeError, ValueError):  # it does not take the stacked shapes, or follows one loss
        return True
    return not all(
        torch.allclose(together, separate, atol=1e-5)
        for together, separate in zip(stacked, alone, strict=True)
    )


def stack_tensors(members: Iterable[list[Tensor]]) -> list[Tensor]:
    """The members' first tensors stacked, their second tensors stacked, and so on."""
    return [torch.stack(tensors) for tensors in zip(*members, strict=True)]


def three_steps(
    classifier: Classifier, start: list[Tensor], gradients: list[Tensor]
) -> list[Tensor]:
    """Where three optimizer steps with the same gradients lead from `start`."""
    parameters = [nn.Parameter(tensor.clone()) for tensor in start]
    optimizer, schedule = classifier.optimize(parameters, total_steps=1000)
    if isinstance(schedule, ReduceLROnPlateau):
        raise RuntimeError("the schedule follows the loss of one member")
    for _ in range(3):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def activation_bytes(classifier: Classifier, rows: int) -> int:
    """Bytes that one member keeps for its backward pass over this many rows; at least 1."""
    if rows > PROBED_ROWS:
        more = rows - PROBED_ROWS
        return activation_bytes(classifier, PROBED_ROWS) + more * bytes_per_row(classifier)
    sizes: dict[int, int] = {}  # by address, since several operations may keep the same tensor

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    features = torch.zeros(rows, classifier.example.shape[1])
    targets = torch.zeros(rows, dtype=torch.long)
    with torch.random.fork_rng(devices=[]), saved_tensors_hooks(record, lambda tensor: tensor):
        classifier.loss(classifier.network(features), targets)
    return max(sum(sizes.values()), 1)


def bytes_per_row(classifier: Classifier) -> int:
    """Bytes that one member needs for each further row of a forward pass; at least 1."""
    few = PROBED_ROWS // 2
    many = activation_bytes(classifier, 2 * few)
    return max((many - activation_bytes(classifier, few)) // few, 1)
