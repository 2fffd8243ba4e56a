"""torch's losses on one-hot targets, called with class indices as cross-entropy is.

Both pass the logits through a sigmoid, one output per class, as in the article (section 4.2,
Y = sigma(...)).
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import one_hot


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


def weigh(components: dict[str, Any], class_weights: list[float] | None) -> dict[str, Any]:
    """The components, with the class weights in the loss if the table has some.

    >>> weigh({"loss": {"class": "CrossEntropyLoss"}}, [0.5, 2.0])
    {'loss': {'class': 'CrossEntropyLoss', 'weight': [0.5, 2.0]}}
    """
    if class_weights is None:
        return components
    return components | {"loss": components["loss"] | {"weight": class_weights}}
