"""Raw columns to features: fill missing values, encode categories and dates, scale."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from data.layout import Layout

Scaling = Literal["standard", "robust"]

# Clip here so that extreme inputs cannot overflow float32; training rows never reach it.
MAX_STANDARD_DEVIATIONS = 1e6
# Values converted to float64 at a time: 60,000 small colour images take 1.5 GB for each copy.
PIECE_VALUES = 2**22
CACHED_VALUES = 2**16  # that are standardized at a time: 512 KiB
STATISTICS = ("fill", "mean", "scale")
ROBUST_LIMIT = 3.0  # of a feature that is scaled robustly; Holzmüller et al. (2024)
NORMAL_QUARTILES = 1.349  # interquartile range of a normal distribution, in standard deviations


class Encoder(nn.Module):
    """Raw columns to standardized features, with the statistics of the training rows only.

    A raw table is a matrix of numbers in which NaN is a missing value and a text column holds the
    index of each row's category; an index that no training row had is an unseen category. A date
    column holds days since 1970-01-01.

    - A numeric column becomes one feature, a text column a feature for each category. If values of
      a column are missing in the training rows, a further feature says which.
    - A date becomes a number and, for each cycle of a year, week or day that it goes through, the
      sine and cosine of its place in it: days that are near each other in it have near features.
    - A missing number is replaced by the median, a missing category by the most frequent one.
    - "standard" scaling: mean 0, standard deviation 1 (source: the article, section 4.3, step 1).
    - "robust" scaling: numbers less their median, divided by the standard deviation that a normal
      distribution of their interquartile range has; categories stay 0 and 1; then
      x / sqrt(1 + (x / 3)²), which no outlier takes beyond 3. Divided by its standard deviation, a
      category that was seen once in 1,300 rows would lie 36 away from the others.
      Source: Holzmüller et al., Better by Default (2024), section 3.
    - A feature that is constant in the training rows stays 0: the network learned nothing from it.
    - Unseen categories encode as zeros; an "unknown" feature would stay untrained.

    Shapes: (rows, columns) float64 -> (rows, features) float32; with the stacked statistics of
    several members (`stack`) (members, rows, features).

    >>> raw = np.array([[1.0, 0], [3.0, 1], [np.nan, 1]])
    >>> encoder = Encoder(Layout.from_rows(raw, {1: ["blue", "red"]}, ["size", "colour"])).fit(raw)
    >>> encoder.layout.names
    ['size', 'size missing', 'colour=blue', 'colour=red']
    >>> encoder(torch.tensor([[2.0, 7]]))  # the median, not missing, neither blue nor red
    tensor([[ 0.0000, -0.7071, -0.7071, -1.4142]])

    Args:
        layout: What each feature is made of.
    """

    source: Tensor
    code: Tensor
    indicator: Tensor
    period: Tensor
    phase: Tensor
    fill: Tensor
    mean: Tensor
    scale: Tensor
    limit: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("source", torch.from_numpy(layout.source))
        self.register_buffer("code", torch.from_numpy(layout.code))
        self.register_buffer("indicator", torch.from_numpy(layout.indicator))
        self.register_buffer("period", torch.from_numpy(layout.period))
        self.register_buffer("phase", torch.from_numpy(layout.phase))
        for name in STATISTICS:
            self.register_buffer(name, torch.zeros(len(layout.names), dtype=torch.float64))
        self.register_buffer("limit", torch.tensor(torch.inf, dtype=torch.float64))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Encoder":
        """The encoder that a checkpoint's data state describes."""
        layout = Layout(
            state["feature_names"],
            state["source"].numpy(),
            state["code"].numpy(),
            state["indicator"].numpy(),
            *(state[name].numpy() for name in ("period", "phase") if name in state),
        )
        encoder = cls(layout)
        for name in STATISTICS:
            setattr(encoder, name, state[name])
        encoder.limit = state.get("limit", encoder.limit)  # format 1 has none
        return encoder

    def fit(
        self,
        raw: np.ndarray,
        channels: np.ndarray | None = None,
        scaling: Scaling = "standard",
        weights: np.ndarray | None = None,
    ) -> "Encoder":
        """Compute what replaces missing values, and how features are scaled.

        Args:
            raw: The training rows (rows, columns).
            channels: The channel of each column (columns,), if the columns of a channel share a
                mean and a standard deviation, as the pixels of an image do.
            scaling: How features are scaled.
            weights: How much each row counts in standard scaling, above 0 (rows,): whole weights
                give the statistics of repeated rows. None for all alike.
        """
        fill = self.fill_values(raw, weights)
        self.fill = torch.from_numpy(fill[self.layout.source])
        if scaling == "robust":
            self.fit_robust(raw)
            return self
        scaler, constant = self.fit_scaler(raw, weights)
        mean = scaler.mean_.copy()
        # Divided by infinity, a constant feature is 0.
        scale = np.where(constant, np.inf, scaler.scale_)
        if channels is not None:
            channel_of_feature = channels[self.layout.source]
            for channel in np.unique(channel_of_feature):
                in_channel = channel_of_feature == channel
                pooled = pool(scaler.mean_[in_channel], scaler.var_[in_channel])
                mean[in_channel], scale[in_channel] = pooled
        self.mean = torch.from_numpy(mean)
        self.scale = torch.from_numpy(scale)
        return self

    def fit_robust(self, raw: np.ndarray) -> None:
        """Compute the median and the scale of every number."""
        features = len(self.layout.names)
        mean = np.zeros(features)
        scale = np.ones(features)
        first_row = self.encode(torch.from_numpy(raw[:1].astype(float))).numpy()
        constant = np.ones(features, dtype=bool)
        for piece in pieces(raw):
            constant &= (self.encode(piece).numpy() == first_row).all(0)
        for feature in self.layout.numbers:
            values = raw[:, self.layout.source[feature]].astype(float)
            mean[feature], scale[feature] = robust_scale(values[~np.isnan(values)])
        self.mean = torch.from_numpy(mean)
        self.scale = torch.from_numpy(np.where(constant, np.inf, scale))
        self.limit = torch.tensor(ROBUST_LIMIT, dtype=torch.float64)

    def fill_values(self, raw: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """What replaces a missing value of each column: its median or most frequent category."""
        has_code = ~np.isnan(self.layout.code)
        text_columns = set(self.layout.source[has_code].tolist())
        fill = np.zeros(raw.shape[1])
        for column in range(raw.shape[1]):
            is_known = ~np.isnan(raw[:, column])
            known = raw[is_known, column]
            known_weights = None if weights is None else weights[is_known]
            if not len(known):
                continue
            if column in text_columns:
                fill[column] = np.bincount(known.astype(int), known_weights).argmax()
            elif known_weights is None:
                fill[column] = np.median(known)
            else:
                fill[column] = weighted_median(known, known_weights)
        return fill

    def fit_scaler(self, raw: np.ndarray, weights: np.ndarray | None) -> tuple[Any, np.ndarray]:
        """Fit scikit-learn's StandardScaler to the features, a piece at a time.

        Returns:
            The scaler, and which features are constant (features,).
        """
        # Imported here: half a second that predicting does not need.
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler()
        first_row = self.encode(torch.from_numpy(raw[:1].astype(float))).numpy()
        constant = np.ones(len(self.layout.names), dtype=bool)
        start = 0
        for piece in pieces(raw):
            features = self.encode(piece).numpy()
            stop = start + len(features)
            piece_weights = None if weights is None else weights[start:stop]
            scaler.partial_fit(features, sample_weight=piece_weights)
            constant &= (features == first_row).all(0)
            start = stop
        return scaler, constant

    def joined(self, parts: Sequence["Encoder"]) -> "Encoder":
        """This encoder with the statistics of encoders of its columns, side by side."""
        for name in STATISTICS:
            setattr(self, name, torch.cat([getattr(part, name) for part in parts]))
        self.limit = parts[0].limit
        return self

    def part(self, columns: slice) -> tuple[slice, "Encoder"]:
        """The features of some columns in a row: which they are, and their encoder."""
        features, layout = self.layout.part(columns)
        part = Encoder(layout)
        for name in STATISTICS:
            setattr(part, name, getattr(self, name)[features])
        part.limit = self.limit
        return features, part

    def transform(
        self, raw: np.ndarray, rows: np.ndarray | None = None, into: Tensor | None = None
    ) -> Tensor:
        """Apply `forward` to rows of any numeric type, a piece at a time.

        Args:
            raw: A raw table (rows, columns).
            rows: Indices of the rows to take, in order; None takes all.
            into: Where the features go, (rows, features); None makes a tensor.
        """
        count = len(raw) if rows is None else len(rows)
        features = torch.empty(count, len(self.layout.names)) if into is None else into
        size = max(1, CACHED_VALUES // raw.shape[1])
        for start in range(0, count, size):
            piece = raw[start : start + size] if rows is None else raw[rows[start : start + size]]
            features[start : start + size] = self(torch.from_numpy(piece.astype(np.float64)))
        return features

    def encode(self, raw: Tensor) -> Tensor:
        """Features before standardization, in the units of their columns."""
        values = raw.index_select(1, self.source)
        missing = values.isnan()
        filled = torch.where(missing, self.fill.unsqueeze(-2), values)
        encoded = filled
        if self.layout.has_categories:
            is_category = (filled == self.code).to(raw.dtype)
            encoded = torch.where(self.code.isnan(), filled, is_category)
        if self.layout.has_dates:
            turns = filled / self.period + self.phase
            # Whole turns go first: the exporter rounds the factor to float32.
            sine = (2 * torch.pi * (turns - turns.floor())).sin()
            encoded = torch.where(self.period.isnan(), encoded, sine)
        if self.layout.has_indicators:
            encoded = torch.where(self.indicator, missing.to(raw.dtype), encoded)
        return encoded

    def forward(self, raw: Tensor) -> Tensor:
        standardized = (self.encode(raw) - self.mean.unsqueeze(-2)) / self.scale.unsqueeze(-2)
        clamped = standardized.clamp(-MAX_STANDARD_DEVIATIONS, MAX_STANDARD_DEVIATIONS)
        return (clamped / (1 + (clamped / self.limit) ** 2).sqrt()).float()

    def stack(self, others: Sequence["Encoder"]) -> "Encoder":
        """An encoder with the statistics of several, for the members of a population."""
        stacked = Encoder(self.layout)
        for name in STATISTICS:
            setattr(stacked, name, torch.stack([getattr(other, name) for other in others]))
        stacked.limit = others[0].limit
        return stacked


def robust_scale(values: np.ndarray) -> tuple[float, float]:
    """Median of a number's known values, and their scale by quartiles; half the range if that is 0.

    >>> robust_scale(np.array([1.0, 2.0, 3.0, 4.0, 500.0]))
    (3.0, 1.48...)
    """
    if not len(values):
        return 0.0, 1.0
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    scale = (high - low) / NORMAL_QUARTILES
    if scale == 0:
        scale = (values.max() - values.min()) / 2
    return float(median), float(scale) or 1.0


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The median of values (rows,) that count with weights (rows,).

    >>> weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1, 1, 2]))  # of 1, 2, 2, 3
    2.0
    >>> weighted_median(np.array([3.0, 1.0]), np.array([2, 2]))
    2.0
    """
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    half = cumulative[-1] / 2
    lower = values[order[np.searchsorted(cumulative, half)]]
    upper = values[order[np.searchsorted(cumulative, half, side="right")]]
    return float((lower + upper) / 2)


def pool(means: np.ndarray, variances: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of all values of several features; infinite if they are constant.

    >>> pool(np.array([1.0, 3.0]), np.array([0.0, 0.0]))
    (2.0, 1.0)
    """
    variance = variances.mean() + means.var()  # within features and between them
    if variance == 0:
        return float(means.mean()), np.inf
    return float(means.mean()), float(np.sqrt(variance))


def pieces(raw: np.ndarray) -> Iterator[Tensor]:
    """Yield rows (rows, columns) of any numeric type as float64, a limited number at a time."""
    rows = max(1, PIECE_VALUES // raw.shape[1])
    for start in range(0, len(raw), rows):
        yield torch.from_numpy(raw[start : start + rows].astype(np.float64))
