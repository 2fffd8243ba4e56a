"""Which columns a network relies on: integrated gradients and permutation importance."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cli.errors import first_line
from inference.predictor import PASS_ROWS, Predictor

TOLERANCE = 1e-3  # in logits: how far a row's attributions may be from their exact sum
FEWEST_STEPS = 50  # from baseline to row; enough for a smooth network
MOST_STEPS = 6400  # a network of ReLU often needs thousands
GAUSS_STEPS = 400  # with more steps computing the Gauss-Legendre nodes takes longest
GRADIENT_ROWS = 2**13  # most interpolated rows in a gradient pass
GRADIENT_FEATURES = 2**18  # most numbers in a gradient pass; both bound its memory


@dataclass(frozen=True)
class Importance:
    """How much a column matters.

    Args:
        name: The column.
        position: Its position in the table, from 1.
        attribution: Mean absolute attribution over the rows, in logits.
        accuracy_drop: Mean accuracy lost when the column is shuffled; null if it was not shuffled.
        accuracy_drop_std: Standard deviation of that loss over the shuffles.
    """

    name: str
    position: int
    attribution: float
    accuracy_drop: float | None = None
    accuracy_drop_std: float | None = None


@dataclass(frozen=True)
class Explanation:
    """What explain.py says about the rows of a table.

    Args:
        probabilities: (rows, classes).
        targets: True class indices (rows,), -1 where missing; null if the table has none.
        attributions: (rows, columns), in logits of the predicted class.
        gap: Largest difference between a row's summed attributions and their exact sum.
        ranking: The columns, most important first.
    """

    probabilities: np.ndarray
    targets: np.ndarray | None
    attributions: np.ndarray
    gap: float
    ranking: list[Importance]

    @property
    def predicted(self) -> np.ndarray:
        """Predicted class indices (rows,)."""
        indices: np.ndarray = self.probabilities.argmax(1)
        return indices

    @property
    def is_complete(self) -> bool:
        """Whether the attributions of every row add up, within `TOLERANCE`."""
        return self.gap <= TOLERANCE


def explain_rows(
    predictor: Predictor, raw: np.ndarray, targets: np.ndarray | None, repeats: int
) -> Explanation:
    """Attributions of each row, and the importance of each column over all rows.

    Args:
        predictor: The network or population.
        raw: Raw table (rows, columns).
        targets: True class indices (rows,), -1 where missing; null ranks by the predicted classes.
        repeats: How often each column is shuffled; 0 leaves that out.

    Raises:
        ValueError: The network has no gradient, or its logits are not finite.
    """
    probabilities, _ = predictor.predict_raw(raw)
    predicted = probabilities.argmax(1)
    labelled = slice(None) if targets is None else targets >= 0
    classes = predicted if targets is None else targets
    values = attributions(predictor, raw)
    gap = float(completeness_gaps(predictor, raw, values).max())
    ranking = rank(predictor, raw[labelled], values, classes[labelled], repeats)
    return Explanation(probabilities, targets, values, gap, ranking)


def attributions(predictor: Predictor, raw: np.ndarray) -> np.ndarray:
    """How much each column adds to the logit of a row's predicted class.

    The baseline, to which it adds, is the training rows' mean.

    Integrated gradients (Sundararajan et al., 2017). The attributions of a row should add up to the
    difference in logits; the rows that miss it by more than `TOLERANCE` are computed again with
    twice the steps, up to `MOST_STEPS`.

    Shapes: (rows, columns) float64, as `data.columns.Columns.matrix` makes it -> (rows, columns).

    Raises:
        ValueError: The network has no gradient, or its logits are not finite.
    """
    values = np.zeros(raw.shape)
    remaining = np.arange(len(raw))
    steps = FEWEST_STEPS
    while len(remaining) and steps <= MOST_STEPS:
        values[remaining] = integrate_gradients(predictor, raw[remaining], steps)
        gaps = completeness_gaps(predictor, raw[remaining], values[remaining])
        if not np.isfinite(gaps).all():
            raise ValueError(
                "the network's logits are not finite; "
                "give a checkpoint whose training did not diverge"
            )
        remaining = remaining[gaps > TOLERANCE]
        steps *= 2
    return values


def integrate_gradients(predictor: Predictor, raw: np.ndarray, steps: int) -> np.ndarray:
    """Integrated gradients with a fixed number of steps, the features of a column added up.

    Shapes: (rows, columns) -> (rows, columns).
    """
    from captum.attr import IntegratedGradients  # slow to import: errors in the input come first

    def summed_logits(features: Tensor, targets: Tensor) -> Tensor:
        """Summed over the rows: the same gradients, and captum is ten times as fast."""
        return ensemble_logits(predictor, features).gather(1, targets).sum(0)

    integrated_gradients = IntegratedGradients(summed_logits)
    method = "gausslegendre" if steps <= GAUSS_STEPS else "riemann_middle"
    num_features = predictor.encoder.mean.numel()
    pass_rows = max(1, min(GRADIENT_ROWS, GRADIENT_FEATURES // num_features))
    chunk_rows = max(1, pass_rows // FEWEST_STEPS)
    values = torch.zeros(raw.shape, dtype=torch.float64)
    # Each chunk adds to its rows of this one tensor. A small tensor kept for each chunk would lie
    # between the large ones of the passes, and their memory could not be reused.
    chunks = torch.from_numpy(raw).split(chunk_rows)
    for chunk, chunk_values in zip(chunks, values.split(chunk_rows), strict=True):
        features = rows_first(predictor, chunk)
        targets = ensemble_logits(predictor, features).argmax(1, keepdim=True)
        try:
            by_feature = integrated_gradients.attribute(
                features,
                baselines=0.0,  # the training rows' mean: features are standardized
                additional_forward_args=targets,
                n_steps=steps,
                method=method,
                internal_batch_size=pass_rows,
            )
        except RuntimeError as error:
            raise ValueError(
                f"the network has no gradient to integrate: {first_line(error)}"
            ) from error
        by_member = by_feature.double().reshape(len(chunk), -1, by_feature.shape[-1])
        chunk_values.index_add_(1, predictor.encoder.source, by_member.sum(1))
    return values.numpy()


def completeness_gaps(predictor: Predictor, raw: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How far the attributions of each row are from adding up to the difference in logits.

    Shapes: raw and values (rows, columns) -> (rows,).
    """
    differences = []
    with torch.inference_mode():
        for rows in torch.from_numpy(raw).split(PASS_ROWS):
            features = rows_first(predictor, rows)
            baseline = torch.zeros_like(features[:1])
            logits = ensemble_logits(predictor, features).double()
            baseline_logits = ensemble_logits(predictor, baseline).double()
            predicted = logits.argmax(1, keepdim=True)
            difference = (logits - baseline_logits).gather(1, predicted)
            differences.append(difference[:, 0])
    gaps: np.ndarray = np.abs(values.sum(1) - torch.cat(differences).numpy())
    return gaps


def rows_first(predictor: Predictor, raw: Tensor) -> Tensor:
    """Standardized features with the rows first, as captum needs them.

    Shapes: (rows, columns) -> (rows, features), of a population (rows, members, features).
    """
    features: Tensor = predictor.encoder(raw)
    return features.movedim(-2, 0)


def ensemble_logits(predictor: Predictor, features: Tensor) -> Tensor:
    """Logits (rows, classes) of the features that `rows_first` returns."""
    logits: Tensor = predictor.network(features.movedim(0, -2))
    return logits


class TrainedEstimator:
    """A trained network as an estimator for scikit-learn's permutation_importance."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def fit(self, raw: np.ndarray, targets: np.ndarray) -> None:
        raise NotImplementedError("the network is trained")

    def score(self, raw: np.ndarray, targets: np.ndarray) -> float:
        """The accuracy."""
        probabilities, _ = self.predictor.predict_raw(raw)
        return float((probabilities.argmax(1) == targets).mean())


def rank(
    predictor: Predictor, raw: np.ndarray, values: np.ndarray, targets: np.ndarray, repeats: int
) -> list[Importance]:
    """The importance of each column, most important first.

    Args:
        predictor: The network or population.
        raw: Raw table (rows, columns) to shuffle.
        values: Attributions (any rows, columns).
        targets: Class indices (rows,) of `raw` that the accuracy is measured by.
        repeats: How often each column is shuffled; 0 leaves that out.
    """
    names = predictor.column_names
    statistics = [np.abs(values).mean(0)]
    if repeats:
        from sklearn.inspection import permutation_importance  # slow to import

        estimator = TrainedEstimator(predictor)
        drops = permutation_importance(estimator, raw, targets, n_repeats=repeats, random_state=0)
        statistics += [drops.importances_mean, drops.importances_std]
    positions = range(1, len(names) + 1)
    by_column = zip(names, positions, *(figure.tolist() for figure in statistics), strict=True)
    ranking = [Importance(*column) for column in by_column]
    return sorted(ranking, key=lambda column: column.attribution, reverse=True)
