"""Refuse components that do not fit the table or each other, before anything is trained."""

import warnings
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cli.component import Factory
from cli.errors import first_line
from model.losses import class_weighted

# What the constructors of torch's classes and of users' own raise for bad arguments.
BUILD_ERRORS = (
    *(TypeError, ValueError, RuntimeError, ArithmeticError),
    *(LookupError, AttributeError, AssertionError),
)

# Flags of torch's optimizers that serve another purpose, and what for.
NOT_FOR_A_FIT = {"capturable": "CUDA graphs", "differentiable": "gradients of a fit"}


def built_network(make_network: Callable[[], nn.Module]) -> nn.Module:
    """Build the network.

    Raises:
        ValueError: Its class does not take the numbers of features and of classes, or its
            arguments, or it has nothing to learn.
    """
    try:
        network = make_network()
    except TypeError as error:
        message = f"the network is called with the numbers of features and of classes: {error}"
        raise ValueError(message) from error
    except BUILD_ERRORS as error:
        raise ValueError(f"the network cannot be built: {first_line(error)}") from error
    if next(network.parameters(), None) is None:
        raise ValueError(
            f"network {type(network).__name__} has no parameters; give one that learns"
        )
    return network


def built_optimizer(
    make_optimizer: Factory, parameters: Iterable[nn.Parameter], **arguments: Any
) -> Optimizer:
    """Build the optimizer.

    Raises:
        ValueError: Its arguments, or the network's parameters, are not what it takes.
    """
    check_learning_rate(make_optimizer)
    try:
        optimizer: Optimizer = make_optimizer(parameters, **arguments)
    except BUILD_ERRORS as error:
        raise ValueError(f"the optimizer cannot be built: {first_line(error)}") from error
    for name, purpose in NOT_FOR_A_FIT.items():
        if optimizer.defaults.get(name):
            raise ValueError(f"optimizer.{name} is true, for {purpose}; leave it out")
    return optimizer


def built_schedule(
    make_schedule: Factory, optimizer: Optimizer, arguments: dict[str, Any], total_steps: int
) -> LRScheduler:
    """Build the schedule.

    Raises:
        ValueError: Its arguments are not what it takes, or it cannot run in so few steps.
    """
    try:
        schedule: LRScheduler = make_schedule(optimizer, **arguments)
    except ZeroDivisionError as error:  # OneCycleLR, when a phase has a single step
        message = f"the schedule cannot run in {total_steps} steps; give a larger --max_epochs"
        raise ValueError(message) from error
    except BUILD_ERRORS as error:
        raise ValueError(f"the schedule cannot be built: {first_line(error)}") from error
    return schedule


def built_loss(make_loss: Factory) -> nn.Module:
    """Build the loss; a list `weight` among its arguments holds the weight of each class.

    Raises:
        ValueError: The loss takes no class weights, or needs arguments that it was not given.
    """
    bound = partial(make_loss)
    weight = bound.keywords.get("weight")
    try:
        if weight is not None:
            return class_weighted(bound, torch.tensor(weight))
        loss: nn.Module = bound()
    except BUILD_ERRORS as error:
        raise ValueError(f"the loss cannot be built: {first_line(error)}") from error
    return loss


def check_network(network: nn.Module, num_features: int, num_classes: int) -> None:
    """Try the network on two rows.

    Raises:
        ValueError: It does not map (rows, num_features) to (rows, num_classes).
    """
    name = type(network).__name__
    rows = torch.zeros(2, num_features)
    given = tuple(rows.shape)
    try:
        with torch.no_grad():
            logits = deepcopy(network).eval()(rows)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        message = f"network {name} does not take rows of shape {given}: {first_line(error)}"
        raise ValueError(message) from error
    expected = (2, num_classes)
    made = tuple(getattr(logits, "shape", ()))
    if made != expected:
        raise ValueError(
            f"network {name} makes {made} of rows of shape {given}; expected logits {expected}"
        )


def check_loss(loss: nn.Module, num_classes: int) -> None:
    """Try the loss on one row more than there are classes.

    Raises:
        ValueError: It does not take class indices, or is not a scalar.
    """
    logits = torch.zeros(num_classes + 1, num_classes)
    targets = torch.zeros(num_classes + 1, dtype=torch.long)
    try:
        with warnings.catch_warnings():
            # torch warns of another shape before it raises an error. Never "error": filters are
            # global, and a thread beside this one would fail.
            warnings.simplefilter("ignore")
            value = loss(logits, targets)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).split(". ")[0]
        raise ValueError(
            f"the loss must take (rows, classes) logits and (rows,) class indices: {reason}"
        ) from error
    if value.ndim:
        raise ValueError(
            f"the loss is of shape {tuple(value.shape)}; give one that is a scalar (reduction mean)"
        )


def check_learning_rate(make_optimizer: Factory) -> None:
    """Refuse a learning rate that is not finite and positive.

    Raises:
        ValueError: It is not a finite number above 0.
    """
    lr = partial(make_optimizer).keywords.get("lr")
    if lr is not None and not 0 < lr < torch.finfo(torch.float32).max:
        raise ValueError(f"the optimizer's lr is {lr}; give a finite number above 0")
