"""A layer that embeds the numbers of a table, so that an MLP learns what is narrow in them."""

from collections.abc import Mapping, Sequence
from math import pi

import torch
from torch import Tensor, nn


class PeriodicEmbedding(nn.Module):
    """Appends to the features an embedding of each number: ReLU(W cos(2π f x + p) + b).

    Frequencies f, phases p, weights W and biases b are learned, for every number its own. An MLP
    alone learns slowly what depends on a number in a narrow range.
    Source: Gorishniy et al., On Embeddings for Numerical Features (2022); with phases as in
    Holzmüller et al., Better by Default (2024).

    Shapes: (rows, num_features) -> (rows, num_features + numbers * size).

    >>> PeriodicEmbedding([0, 2], size=8)(torch.zeros(5, 3)).shape
    torch.Size([5, 19])

    Args:
        numbers: Indices of the features to embed.
        size: Units of a number's embedding.
        frequencies: Waves of a number.
        std: Standard deviation of the initial frequencies, in waves per unit of a feature.
    """

    def __init__(
        self, numbers: Sequence[int], size: int = 4, frequencies: int = 16, std: float = 0.1
    ) -> None:
        super().__init__()
        self.numbers = list(numbers)
        count = len(self.numbers)
        bound = frequencies**-0.5
        self.frequency = nn.Parameter(std * torch.randn(count, frequencies, 1))
        self.phase = nn.Parameter(torch.empty(count, frequencies, 1).uniform_(-pi, pi))
        self.weight = nn.Parameter(torch.empty(count, size, frequencies).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, size, 1).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        return self.embed(dict(self.named_parameters()), features.mT).mT

    def embed(self, parameters: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """The same with these parameters, of one network or of stacked ones.

        Shapes: (..., num_features, rows) -> (..., num_features + numbers * size, rows).
        """
        numbers = features[..., self.numbers, :].unsqueeze(-2)
        waves = (2 * pi * parameters["frequency"] * numbers + parameters["phase"]).cos()
        embedded = (parameters["weight"] @ waves + parameters["bias"]).relu()
        return torch.cat([features, embedded.flatten(-3, -2)], -2)
