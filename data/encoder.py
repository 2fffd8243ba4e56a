"""Raw columns to features: fill what is missing, one-hot the categories, standardize."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MOST_FEATURES = 10_000
MOST_DEVIATIONS = (
    1e6  # no training row is as far, and further ones would leave float32 in the network
)
AT_ONCE = (
    2**22
)  # numbers in float64 at a time: 60,000 small colour images would take 1.5 GB for each copy


class Encoder(nn.Module):
    """Raw columns to standardized features, by what the training rows say.

    A raw table is one matrix of numbers: NaN is missing, a text column holds the number of its category (any number
    that training rows did not have is an unseen category). A number column becomes one feature, a text column one for
    each category; where training rows miss a value, a further feature says so. A missing number becomes the median, a
    missing category the most frequent one. Source of the standardization: the article, section 4.3, step 1.

    A feature that is the same in all training rows has taught the network nothing: it stays 0. An unseen category
    lights no feature: one of its own would be such a constant, and its weights those of the start.

    Shapes: (rows, columns) float64 -> (rows, features) float32; with the statistics of several members stacked
    (`stack`) (members, rows, features).

    >>> raw = np.array([[1.0, 0], [3.0, 1], [np.nan, 1]])
    >>> encoder = Encoder(Layout.of(raw, {1: ["blue", "red"]}, ["size", "colour"])).fit(raw)
    >>> encoder.layout.names
    ['size', 'size missing', 'colour=blue', 'colour=red']
    >>> encoder(torch.tensor([[2.0, 7]]))  # the median, there, and neither blue nor red
    tensor([[ 0.0000, -0.7071, -0.7071, -1.4142]])

    Args:
        layout: Which feature is made of what.
    """

    source: Tensor
    code: Tensor
    indicator: Tensor
    fill: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, layout: "Layout") -> None:
        super().__init__()
        self.layout, size = layout, len(layout.names)
        self.register_buffer("source", torch.from_numpy(layout.source))
        self.register_buffer("code", torch.from_numpy(layout.code))
        self.register_buffer("indicator", torch.from_numpy(layout.indicator))
        for name in ("fill", "mean", "scale"):
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> "Encoder":
        """The encoder that a checkpoint's table state describes."""
        source, code, indicator = (state[name].numpy() for name in ("source", "code", "indicator"))
        encoder = cls(Layout(source, code, indicator, state["feature_names"]))
        encoder.fill, encoder.mean, encoder.scale = state["fill"], state["mean"], state["scale"]
        return encoder

    def fit(self, raw: np.ndarray, channels: np.ndarray | None = None) -> "Encoder":
        """Take medians, most frequent categories, means and deviations from training rows (rows, columns).

        `channels` (columns,) has each column's channel: the columns of one share a mean and a deviation, as pixels do.
        """
        from sklearn.preprocessing import (
            StandardScaler,
        )  # half a second that predicting does not need

        fill = np.zeros(raw.shape[1])
        text = set(self.layout.source[~np.isnan(self.layout.code)].tolist())
        for column in range(raw.shape[1]):
            known = raw[~np.isnan(raw[:, column]), column]
            if len(known):
                fill[column] = (
                    np.bincount(known.astype(int)).argmax() if column in text else np.median(known)
                )
        self.fill = torch.from_numpy(fill[self.layout.source])
        scaler, first, constant = (
            StandardScaler(),
            self.encode(torch.from_numpy(raw[:1].astype(float))).numpy(),
            True,
        )
        for piece in pieces(raw):
            features = self.encode(piece).numpy()
            scaler.partial_fit(features)
            constant &= (features == first).all(0)
        mean, scale = scaler.mean_, np.where(constant, np.inf, scaler.scale_)
        of = None if channels is None else channels[self.layout.source]
        for channel in () if of is None else np.unique(of):
            own = of == channel
            total = (
                scaler.var_[own].mean() + scaler.mean_[own].var()
            )  # within pixels and between them
            mean[own], scale[own] = scaler.mean_[own].mean(), np.sqrt(total) if total else np.inf
        self.mean, self.scale = torch.from_numpy(mean), torch.from_numpy(scale)
        return self

    def transform(self, raw: np.ndarray) -> Tensor:
        """`forward` of rows of any number type, a piece at a time."""
        features = torch.empty(len(raw), len(self.layout.names))
        start = 0
        for piece in pieces(raw):
            features[start : start + len(piece)] = self(piece)
            start += len(piece)
        return features

    def encode(self, raw: Tensor) -> Tensor:
        """Features in their own units."""
        spread = raw.index_select(1, self.source)
        missing = spread.isnan()
        filled = torch.where(missing, self.fill.unsqueeze(-2), spread)
        value = torch.where(self.code.isnan(), filled, (filled == self.code).to(raw.dtype))
        return torch.where(self.indicator, missing.to(raw.dtype), value)

    def forward(self, raw: Tensor) -> Tensor:
        deviations = (self.encode(raw) - self.mean.unsqueeze(-2)) / self.scale.unsqueeze(-2)
        return deviations.clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS).float()

    def stack(self, others: Sequence["Encoder"]) -> "Encoder":
        """One encoder with the statistics of several, for the members of a population."""
        stacked = Encoder(self.layout)
        for name in ("fill", "mean", "scale"):
            setattr(stacked, name, torch.stack([getattr(other, name) for other in others]))
        return stacked


def pieces(raw: np.ndarray) -> Iterator[Tensor]:
    """Rows (rows, columns) of any number type in float64, some at a time."""
    size = max(1, AT_ONCE // raw.shape[1])
    for start in range(0, len(raw), size):
        yield torch.from_numpy(raw[start : start + size].astype(np.float64))


class Layout:
    """Which feature is made of what: of each its source column, its category's number (else NaN), or missingness.

    Raises:
        ValueError: More than 10,000 features.
    """

    def __init__(
        self, source: np.ndarray, code: np.ndarray, indicator: np.ndarray, names: list[str]
    ) -> None:
        self.source, self.code, self.indicator, self.names = source, code, indicator, names

    @classmethod
    def of(
        cls, raw: np.ndarray, categories: dict[int, list[str]], column_names: Sequence[str]
    ) -> "Layout":
        """The layout of such rows (rows, columns); `categories` has the text columns by number."""
        rows: list[tuple[int, float, bool, str]] = []
        sizes = {}
        for column, name in enumerate(column_names):
            missing = np.isnan(raw[:, column])
            before = len(rows)
            if column in categories:
                codes = np.unique(raw[~missing, column]).astype(int)
                rows += [
                    (column, code, False, f"{name}={categories[column][code]}")
                    for code in codes.tolist()
                ]
            else:
                rows.append((column, np.nan, False, name))
            if missing.any():
                rows.append((column, np.nan, True, f"{name} missing"))
            sizes[name] = len(rows) - before
        if len(rows) > MOST_FEATURES:
            widest = max(sizes, key=lambda name: sizes[name])
            raise ValueError(
                f"the table makes {len(rows):,} features, {sizes[widest]:,} of them of column {widest!r}; "
                f"the most is {MOST_FEATURES:,}: leave it out with --data.ignore"
            )
        source, code, indicator, names = zip(*rows, strict=True)
        return cls(np.array(source), np.array(code, dtype=float), np.array(indicator), list(names))
