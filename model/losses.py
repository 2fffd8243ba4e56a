"""Losses of torch that need one target per class, here called with class indices; class weights.

Both apply a sigmoid to the logits, one output per class, as the article does (section 4.2,
Y = sigma(...)).
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import one_hot


class BCEWithLogitsLoss(nn.BCEWithLogitsLoss):
    """Binary cross-entropy of every output: the loss of the article's listing (5.2) / num_classes.

    Shapes: (rows, num_classes) logits, (rows,) targets -> scalar.

    >>> import torch
    >>> BCEWithLogitsLoss()(torch.zeros(2, 3), torch.tensor([0, 2]))  # log 2
    tensor(0.6931)
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().forward(logits, one_hot(targets, logits.shape[1]).to(logits))


class MSELoss(nn.MSELoss):
    """Mean squared error of sigmoid(logits) against one-hot targets.

    It is 2/num_classes of the article's other loss (4.2).

    Shapes: (rows, num_classes) logits, (rows,) targets -> scalar.

    >>> import torch
    >>> MSELoss()(torch.zeros(2, 3), torch.tensor([0, 2]))  # every output is half off
    tensor(0.2500)
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().forward(logits.sigmoid(), one_hot(targets, logits.shape[1]).to(logits))


def weigh(components: dict[str, Any], class_weights: list[float] | None) -> dict[str, Any]:
    """The components with the class weights in the loss; unchanged without class weights.

    >>> weigh({"loss": {"class": "CrossEntropyLoss"}}, [0.5, 2.0])
    {'loss': {'class': 'CrossEntropyLoss', 'weight': [0.5, 2.0]}}

    Args:
        components: The ComponentConfig of each component.
        class_weights: A weight for each class, or None.
    """
    if class_weights is None:
        return components
    return components | {"loss": components["loss"] | {"weight": class_weights}}
