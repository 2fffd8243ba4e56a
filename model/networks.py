"""Networks: features in, logits out; no training code."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from model.embedding import PeriodicEmbedding
from model.hidden import check_activation, check_depth, make_activation


class MLP(nn.Sequential):
    """Multilayer perceptron: hidden layers of these widths, each with an activation, then logits.

    Shapes: standardized features (rows, num_features) -> logits (rows, num_classes).
    Source: the article, section 4.2; its network has hidden=[3] and activation="Sigmoid".

    >>> import torch
    >>> MLP(4, 3, hidden=[16])(torch.zeros(2, 4)).shape
    torch.Size([2, 3])

    Args:
        hidden: Width of each hidden layer; [] makes a linear classifier.
        activation: Activation after each hidden layer: any of torch.nn by name.
        dropout: Share of hidden units dropped in each training step.
        init_std: Standard deviation of normal initial weights, with biases 0 (the article: 0.01);
            null for PyTorch's own initialisation.
        embedding: Units that each number is embedded in (PeriodicEmbedding); 0 for none, null for
            what suits the table (model/recipe.py).
        numbers: Indices of the features that are numbers.

    Raises:
        ValueError: A width below 1, too many layers, an unknown activation, dropout outside [0, 1),
            a negative init_std.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        hidden: Sequence[int] = (128,),
        activation: str = "SiLU",
        dropout: float = 0.0,
        init_std: float | None = None,
        embedding: int | None = None,
        numbers: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden is {list(hidden)}; every width must be 1 or more")
        check_depth("hidden", len(hidden))
        check_activation(activation)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; give a share from 0 to below 1")
        if init_std is not None and not 0 <= init_std < float("inf"):
            raise ValueError(
                f"init_std is {init_std}; "
                "give a standard deviation, or null for PyTorch's initialisation"
            )

        width = num_features
        if embedding and numbers:
            self.append(PeriodicEmbedding(numbers, embedding))
            width += len(numbers) * embedding
        widths = [width, *hidden]
        for width_in, width_out in pairwise(widths):
            self.append(nn.Linear(width_in, width_out))
            self.append(make_activation(activation))  # one module a layer, so that hooks see each
            if dropout:
                self.append(nn.Dropout(dropout))
        self.append(nn.Linear(widths[-1], num_classes))

        if init_std is not None:
            for layer in self:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=init_std)
                    nn.init.zeros_(layer.bias)
