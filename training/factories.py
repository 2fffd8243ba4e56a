"""Network, loss, optimizer and schedule as an estimator's user gives them: classes, functions, ...

A checkpoint must name its components, so train.py takes classes alone. An estimator is pickled or
not kept at all, so it takes all that makes a new network in each fit.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from inspect import Parameter, isclass, signature
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cli.component import build
from model.checks import built_loss
from model.losses import row_weighted


def check_factory(component: str, factory: Any) -> None:
    """Refuse what does not make a new component in each fit.

    Args:
        component: network, loss, optimizer or schedule.
        factory: What the user gave.

    Raises:
        ValueError: It is an object that belongs to a single fit, or is not called at all.
    """
    name = type(factory).__name__
    advice = "give a class, a function, or a functools.partial of one"
    if isinstance(factory, nn.Module) and component == "network":
        raise ValueError(
            f"network is an object of {name}, which each fit would go on training; {advice}"
        )
    if isinstance(factory, Optimizer | LRScheduler):
        raise ValueError(
            f"{component} is an object of {name}, which holds the weights of another network; "
            f"{advice}"
        )
    is_component = isinstance(factory, dict) and "class" in factory
    is_no_schedule = component == "schedule" and factory is None
    if not (callable(factory) or is_component or is_no_schedule):
        raise ValueError(f"{component} is {factory!r}; {advice}")


def network_maker(network: Any) -> Callable[[int, int], nn.Module]:
    """A function that makes the network, whatever the arguments of its class are."""
    make_network = build("network", network)

    def make(num_features: int, num_classes: int) -> nn.Module:
        made: nn.Module = make_network(num_features, num_classes)
        return made

    return make


def loss_maker(
    loss: Any, class_weights: list[float] | None, weighs_rows: bool
) -> Callable[[], nn.Module]:
    """A function that makes the loss.

    Args:
        loss: A class or function that makes it, the loss itself as a module, or a function of
            logits and targets, which has two arguments.
        class_weights: The weight of each class; None for none.
        weighs_rows: Whether the loss is also called with the weight of each row.
    """
    make_loss = partial(build("loss", loss))
    if isinstance(loss, nn.Module):
        make_loss = partial(copied, loss)
    elif num_required(make_loss) >= 2:
        make_loss = partial(FunctionLoss, make_loss)
    elif not isclass(make_loss.func):
        make_loss = partial(copied, make_loss())
    if class_weights is not None:
        make_loss = partial(make_loss, weight=class_weights)

    def make() -> nn.Module:
        return row_weighted(make_loss) if weighs_rows else built_loss(make_loss)

    return make


def num_required(make_loss: partial[Any]) -> int:
    """How many arguments a function must be called with; 0 for a class.

    >>> num_required(partial(nn.functional.cross_entropy)), num_required(partial(lambda: None))
    (2, 0)
    """
    if isclass(make_loss.func):
        return 0
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature(make_loss).parameters.values()
    required = [parameter for parameter in parameters if parameter.default is Parameter.empty]
    return sum(parameter.kind in positional for parameter in required)


def copied(loss: nn.Module, reduction: str = "mean") -> nn.Module:
    """A copy of a loss; with reduction none it returns the loss of each row."""
    made = deepcopy(loss)
    if reduction == "none":
        if getattr(made, "reduction", None) != "mean":
            raise ValueError(
                f"the loss, an object of {type(loss).__name__}, cannot weight rows; "
                "give one with reduction mean"
            )
        made.reduction = reduction  # type: ignore[assignment]  # no tensor
    return made


class FunctionLoss(nn.Module):
    """A function of logits (rows, classes) and targets (rows,) as a loss.

    >>> import torch
    >>> FunctionLoss(nn.functional.cross_entropy)(torch.zeros(2, 3), torch.tensor([0, 2]))
    tensor(1.0986)

    Args:
        function: The function.
        reduction: mean, or none for a loss per row, if the function has such an argument.
    """

    def __init__(self, function: Callable[..., Tensor], reduction: str = "mean") -> None:
        super().__init__()
        self.function = function
        self.arguments = {}
        if reduction != "mean":
            if "reduction" not in signature(function).parameters:
                raise ValueError(
                    "the loss is a function that cannot weight rows; give it an argument "
                    "`reduction` as torch's losses have, with 'none' for a loss per row"
                )
            self.arguments = {"reduction": reduction}

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.function(logits, targets, **self.arguments)
