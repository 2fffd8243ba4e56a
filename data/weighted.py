"""The statistics of an encoder where rows count with weights."""

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from data.encoder import Encoder


def weigh_statistics(encoder: Encoder, raw: np.ndarray, weights: np.ndarray) -> None:
    """Replace statistics of standard scaling by those of weighted rows.

    Whole weights give the statistics of repeated rows.

    Args:
        encoder: Fitted to the same rows without weights.
        raw: The training rows (rows, columns).
        weights: The weight of each row, above 0: (rows,).
    """
    fill = fill_values(encoder, raw, weights)
    encoder.fill = torch.from_numpy(fill[encoder.layout.source])
    features = encoder.encode(torch.from_numpy(raw)).numpy()
    scaler = StandardScaler().fit(features, sample_weight=weights)
    is_constant = encoder.scale.isinf().numpy()
    encoder.mean = torch.from_numpy(scaler.mean_)
    encoder.scale = torch.from_numpy(np.where(is_constant, np.inf, scaler.scale_))


def fill_values(encoder: Encoder, raw: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What replaces a missing value of each column: its median or most frequent category."""
    has_code = ~np.isnan(encoder.layout.code)
    text_columns = set(encoder.layout.source[has_code].tolist())
    fill = np.zeros(raw.shape[1])
    for column in range(raw.shape[1]):
        is_known = ~np.isnan(raw[:, column])
        known = raw[is_known, column]
        if not len(known):
            continue
        if column in text_columns:
            fill[column] = np.bincount(known.astype(int), weights[is_known]).argmax()
        else:
            fill[column] = weighted_median(known, weights[is_known])
    return fill


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
