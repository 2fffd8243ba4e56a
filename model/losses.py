"""torch's losses on one-hot targets, called with class indices as cross-entropy is; class weights.

BCEWithLogitsLoss and MSELoss pass the logits through a sigmoid, one output per class, as in the
article (section 4.2, Y = sigma(...)).
"""

from functools import partial
from inspect import isclass, signature
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import one_hot

from cli.registry import parameters_of


class BCEWithLogitsLoss(nn.BCEWithLogitsLoss):
    """Binary cross-entropy of each class: the loss of the article's listing (5.2) / num_classes.

    Shapes: logits (rows, num_classes), targets (rows,) -> scalar.

    >>> import torch
    >>> BCEWithLogitsLoss()(torch.zeros(2, 3), torch.tensor([0, 2]))  # log 2
    tensor(0.6931)
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().forward(logits, one_hot(targets, logits.shape[1]).to(logits))


class MSELoss(nn.MSELoss):
    """Mean squared error of sigmoid(logits): 2 / num_classes of the article's other loss (4.2).

    Shapes: logits (rows, num_classes), targets (rows,) -> scalar.

    >>> import torch
    >>> MSELoss()(torch.zeros(2, 3), torch.tensor([0, 2]))  # every output is off by 0.5
    tensor(0.2500)
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().forward(logits.sigmoid(), one_hot(targets, logits.shape[1]).to(logits))


class ClassWeighted(nn.Module):
    """A loss in which each row counts with the weight of its class.

    It is sum_i w[y_i] * loss_i / sum_i w[y_i]. torch's own `weight` multiplies the smoothed part of
    a target too: with balanced classes from about 19 : 1 on, the rare class's smoothed share of a
    common row then outweighs the rest, and almost every row is taken for the rare class.

    Shapes: logits (rows, num_classes), targets (rows,) -> scalar.

    >>> import torch
    >>> loss = ClassWeighted(nn.CrossEntropyLoss(reduction="none"), torch.tensor([1.0, 3.0]))
    >>> logits = torch.tensor([[0.0, 0.0], [0.0, 2.0]])  # the rows' losses are 0.693 and 0.127
    >>> loss(logits, torch.tensor([0, 1]))  # (0.693 + 3 * 0.127) / 4
    tensor(0.2685)

    Args:
        row_loss: A loss (rows,) or (rows, num_classes): the mean over the classes is the row's.
        weight: The weight of each class, (num_classes,).
    """

    weight: Tensor

    def __init__(self, row_loss: nn.Module, weight: Tensor) -> None:
        super().__init__()
        self.row_loss = row_loss
        # The name that torch's losses give it, so checkpoints have the same key.
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        losses = self.row_loss(logits, targets).reshape(len(targets), -1).mean(1)
        weights = self.weight[targets]
        mean: Tensor = (weights * losses).sum() / weights.sum()
        return mean


class RowWeighted(nn.Module):
    """A loss in which each row counts with a weight of its own.

    Shapes: logits (rows, num_classes), targets (rows,), weights (rows,) that are 1 on average over
    all rows, not over those of a batch -> scalar.

    >>> import torch
    >>> loss = RowWeighted(nn.CrossEntropyLoss(reduction="none"))
    >>> logits = torch.tensor([[0.0, 0.0], [0.0, 2.0]])  # the rows' losses are 0.693 and 0.127
    >>> loss(logits, torch.tensor([0, 1]), torch.tensor([0.5, 1.5]))
    tensor(0.2685)

    Args:
        row_loss: A loss (rows,) or (rows, num_classes): the mean over the classes is the row's.
    """

    def __init__(self, row_loss: nn.Module) -> None:
        super().__init__()
        self.row_loss = row_loss

    def forward(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        losses = self.row_loss(logits, targets).reshape(len(targets), -1).mean(1)
        if weights is not None:
            losses = weights * losses
        mean: Tensor = losses.mean()
        return mean


def row_weighted(make_loss: partial[nn.Module]) -> nn.Module:
    """Build a loss whose rows count with weights of their own.

    Args:
        make_loss: Makes the loss. Its class takes `reduction`, as torch's losses do.

    Raises:
        ValueError: It does not, or its reduction is not mean.
    """
    row_loss = without_reduction(make_loss)
    if row_loss is None:
        raise ValueError(
            f"{name_of(make_loss)} cannot weight rows; give its constructor an argument "
            "`reduction` as torch's losses have, with 'none' for a loss per row"
        )
    return RowWeighted(row_loss)


def without_reduction(make_loss: partial[nn.Module]) -> nn.Module | None:
    """Build a loss that returns the loss of each row; None where it has no `reduction`.

    Raises:
        ValueError: Its reduction is not mean.
    """
    function = make_loss.func
    parameters = parameters_of(function) if isclass(function) else signature(function).parameters
    if "reduction" not in parameters:
        return None
    arguments = {name: value for name, value in make_loss.keywords.items() if name != "weight"}
    reduction = arguments.pop("reduction", "mean")
    if reduction != "mean":
        raise ValueError(f"{name_of(make_loss)}'s reduction is {reduction}; weights need mean")
    return function(*make_loss.args, **arguments, reduction="none")


def name_of(make_loss: partial[nn.Module]) -> str:
    """The name of a loss, for messages."""
    return str(getattr(make_loss.func, "__name__", "the loss"))


def class_weighted(make_loss: partial[nn.Module], weight: Tensor) -> nn.Module:
    """Build a loss with class weights: weight its rows, or leave that to the loss itself.

    Args:
        make_loss: Makes the loss. Its class takes `reduction`, as torch's losses do, or `weight`.
        weight: The weight of each class, (num_classes,).

    Raises:
        ValueError: The loss takes neither.
    """
    row_loss = without_reduction(make_loss)
    if row_loss is not None:
        return ClassWeighted(row_loss, weight)
    function = make_loss.func
    parameters = parameters_of(function) if isclass(function) else signature(function).parameters
    if "weight" in parameters:
        return partial(make_loss, weight=weight)()
    raise ValueError(
        f"{name_of(make_loss)} cannot weight classes; give its constructor an argument `weight`, a "
        "tensor of each class's weight, or `reduction` as torch's losses have, with 'none' for a "
        "loss per row"
    )


def weigh(components: dict[str, Any], class_weights: list[float] | None) -> dict[str, Any]:
    """The components, with the class weights in the loss if the table has some.

    >>> weigh({"loss": {"class": "CrossEntropyLoss"}}, [0.5, 2.0])
    {'loss': {'class': 'CrossEntropyLoss', 'weight': [0.5, 2.0]}}
    """
    if class_weights is None:
        return components
    return components | {"loss": components["loss"] | {"weight": class_weights}}
