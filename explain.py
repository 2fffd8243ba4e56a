"""Say which columns a trained network, or a population of them, goes by: in each row, and over all.

python explain.py lightning_logs/version_0/checkpoints/best.ckpt flowers.csv
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import east_asian_width

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cli.command import command
from data.file import File, matrix, text_of
from predict import ROWS, Predictor, load, opened, place, reason, tell_ignored

TOLERANCE = 1e-3  # of a logit: how far a row's attributions may be from adding up
STEPS, MOST_STEPS = (
    50,
    6400,
)  # from baseline to row: a smooth network needs 50, one of ReLU often thousands
PASS_ROWS, PASS_FEATURES = 2**13, 2**18  # the most in a pass of the network: bounds its memory
SHOWN, LONGEST = 20, 36  # columns, and characters of a name, on the screen and in the picture


def explain(
    checkpoint: str,
    table: str,
    output: str | None = None,
    repeats: int = 5,
    picture: bool = True,
    delimiter: str | None = None,
) -> None:
    """Say which columns a trained network, or a population of them, goes by: in each row, and over all.

    Attribution: integrated gradients (Sundararajan et al., 2017) of the logit of each row's predicted class, of a
    population its ensemble's, from a baseline that has the training rows' mean in every standardized feature; the
    features of a column are added up. Importance: the accuracy that is lost when a column is shuffled, by the table's
    classes or, where it has none, by the predicted ones. The table is held in memory.

    Args:
        checkpoint: A run's best.ckpt or population.ckpt.
        table: CSV, TSV or Parquet file of raw columns, found by name; - reads CSV from standard input.
        output: CSV or Parquet file for each row's attributions, written whole or not at all.
        repeats: How often each column is shuffled, from seed 0 on; 0 leaves that out.
        picture: Draw the importances into the run's TensorBoard, where the checkpoint lies in a run's folder.
        delimiter: Between a CSV file's fields; null takes what its first line has most of.

    Raises:
        ValueError: A checkpoint or table that cannot be used; nothing was written.
    """
    if repeats < 0:
        raise ValueError(
            f"repeats is {repeats}; give how often to shuffle each column, or 0 to leave that out"
        )
    classifier = load(checkpoint)
    with opened(table, output, delimiter) as (file, spool):
        raw, truth = read_rows(classifier, file)
        probabilities, _ = classifier.predict_raw(raw)
        predicted = probabilities.argmax(1)
        values = attributions(classifier, raw)
        gap = gaps(classifier, raw, values).max()
        ranking = rank(classifier, raw, values, predicted if truth is None else truth, repeats)
        if output is not None:
            shares = {
                f"attribution {name}": values[:, i]
                for i, name in enumerate(classifier.column_names)
            }
            labels = pl.Series(classifier.class_names).gather(predicted)
            rows = pl.DataFrame({"label": labels, "probability": probabilities.max(1), **shares})
            rows.write_csv(spool)
            place(spool, output, rows.columns)
    print(*report(ranking), "", sep="\n")
    if truth is not None:
        print(f"rows          {len(raw):,}, accuracy {(predicted == truth).mean():.4f}")
    else:
        print(
            f"rows          {len(raw):,}, without classes ({classifier.target}): the predicted ones stand for them"
        )
    print(
        "attribution   integrated gradients of the predicted class's logit, from the training rows' mean"
    )
    print(
        f"completeness  a row's attributions add up to the difference in logits, to {gap:.1e} or better"
    )
    tell_ignored(file, classifier)
    if gap > TOLERANCE:
        message = f"attributions miss the difference in logits by up to {gap:.1e} after {MOST_STEPS:,} steps"
        print(
            f"warning: {message}, expected {TOLERANCE}; take them for no more exact than that",
            file=sys.stderr,
        )
    run = Path(checkpoint).absolute().parents[1]
    if picture and (run / "config.yaml").is_file():
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(run)) as writer:
            writer.add_image("explain/importance", draw(ranking), dataformats="HWC")
        print(f"picture       explain/importance in TensorBoard, {run}")


def read_rows(classifier: Predictor, file: File) -> tuple[np.ndarray, np.ndarray | None]:
    """A file's raw table (rows, columns), and its class numbers (rows,) where it has the column of classes."""
    names, target = classifier.column_names, classifier.target
    file.need(names)
    labelled, seen = target in file.names, 0
    raw: list[np.ndarray] = []
    truth: list[np.ndarray] = []
    for frame in file.frames([*names, target] if labelled else names):
        raw.append(matrix(frame, names, classifier.categories, file, seen))
        if labelled:
            truth.append(classifier.numbers(text_of(frame.get_column(target)), file, seen))
        seen += len(frame)
    return np.concatenate(raw), np.concatenate(truth) if labelled else None


def attributions(classifier: Predictor, raw: np.ndarray) -> np.ndarray:
    """What each column adds to the logit of a row's predicted class, counted from the training rows' mean.

    A row whose attributions do not add up to the difference in logits, to 1e-3, gets twice the steps, up to 6,400.

    Shapes: (rows, columns) float64, as `data.file.matrix` makes it -> (rows, columns).

    Raises:
        ValueError: A network that has no gradient, or whose logits are not finite.
    """
    values, left, steps = np.zeros(raw.shape), np.arange(len(raw)), STEPS
    while len(left) and steps <= MOST_STEPS:
        values[left] = integrated(classifier, raw[left], steps)
        gap = gaps(classifier, raw[left], values[left])
        if not np.isfinite(gap).all():
            raise ValueError(
                "the network's logits are not finite; give a checkpoint whose training did not diverge"
            )
        left, steps = left[gap > TOLERANCE], 2 * steps
    return values


def integrated(classifier: Predictor, raw: np.ndarray, steps: int) -> np.ndarray:
    """Integrated gradients in so many steps, a column's features added up: (rows, columns) -> the same."""
    from captum.attr import IntegratedGradients

    def total(features: Tensor, target: Tensor) -> Tensor:
        """All rows' logits as one number: the same gradients, and captum takes ten times as long over many."""
        return logits(classifier, features).gather(1, target).sum(0)

    gradients = IntegratedGradients(total)
    method = (
        "gausslegendre" if steps <= 400 else "riemann_middle"
    )  # computing Gauss's nodes would take longest
    at_once = max(1, min(PASS_ROWS, PASS_FEATURES // classifier.encoder.mean.numel()))
    options = {"n_steps": steps, "method": method, "internal_batch_size": at_once}
    rows, found = torch.from_numpy(raw), torch.zeros(raw.shape, dtype=torch.float64)
    size = max(1, at_once // STEPS)
    # Each piece adds to its part of one tensor: small ones that stay would keep the memory of the passes between them.
    for piece, columns in zip(rows.split(size), found.split(size), strict=True):
        features = standardized(classifier, piece)
        target = logits(classifier, features).argmax(1, keepdim=True)
        try:  # standardized features are 0 at the training rows' mean
            each = gradients.attribute(
                features, baselines=0.0, additional_forward_args=target, **options
            )
        except RuntimeError as error:
            raise ValueError(
                f"the network has no gradient to integrate: {reason(error)}"
            ) from error
        of_features = (
            each.double().reshape(len(piece), -1, each.shape[-1]).sum(1)
        )  # over a population's members
        columns.index_add_(1, classifier.encoder.source, of_features)
    return found.numpy()


def gaps(classifier: Predictor, raw: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How far each row's attributions are from adding up to the difference in logits: (rows,)."""
    differences = []
    with torch.inference_mode():
        for piece in torch.from_numpy(raw).split(ROWS):
            features = standardized(classifier, piece)
            of_row, of_mean = (
                logits(classifier, features),
                logits(classifier, torch.zeros_like(features[:1])),
            )
            target = of_row.argmax(1, keepdim=True)
            differences.append((of_row.double() - of_mean.double()).gather(1, target)[:, 0])
    found: np.ndarray = np.abs(values.sum(1) - torch.cat(differences).numpy())
    return found


def standardized(classifier: Predictor, raw: Tensor) -> Tensor:
    """Rows first, as captum wants them: (rows, features), of a population (rows, members, features)."""
    features: Tensor = classifier.encoder(raw)
    return features.movedim(-2, 0)


def logits(classifier: Predictor, features: Tensor) -> Tensor:
    """Of `standardized` rows: (rows, classes)."""
    found: Tensor = classifier.network(features.movedim(0, -2))
    return found


class Importance(NamedTuple):
    """A column's: its number from 1 on, mean |attribution|, and, where it was shuffled, the accuracy that it costs."""

    name: str
    number: int
    attribution: float
    loss: float | None = None
    deviation: float | None = None

    @property
    def label(self) -> str:
        return short(self.name) or f"column {self.number}"


class Trained:
    """What scikit-learn's permutation_importance asks of an estimator, of a network that learns no more."""

    def __init__(self, classifier: Predictor) -> None:
        self.classifier = classifier

    def fit(self, raw: np.ndarray, numbers: np.ndarray) -> None:
        raise NotImplementedError("it is trained")

    def score(self, raw: np.ndarray, numbers: np.ndarray) -> float:
        return float((self.classifier.predict_raw(raw)[0].argmax(1) == numbers).mean())


def rank(
    classifier: Predictor, raw: np.ndarray, values: np.ndarray, numbers: np.ndarray, repeats: int
) -> list[Importance]:
    """Every column's importance over rows with these attributions and class numbers, the most important first."""
    names, figures = classifier.column_names, [np.abs(values).mean(0).tolist()]
    if repeats:
        from sklearn.inspection import permutation_importance

        found = permutation_importance(
            Trained(classifier), raw, numbers, n_repeats=repeats, random_state=0
        )
        figures += [found.importances_mean.tolist(), found.importances_std.tolist()]
    columns = [
        Importance(*column)
        for column in zip(names, range(1, len(names) + 1), *figures, strict=True)
    ]
    return sorted(columns, key=lambda column: -column.attribution)


def report(ranking: list[Importance]) -> list[str]:
    """The ranking as aligned lines."""
    names = ["column", *(column.label for column in ranking[:SHOWN])]
    figures = [
        "mean |attribution|"
        + ("" if ranking[0].loss is None else "   loss of accuracy when shuffled")
    ]
    for column in ranking[:SHOWN]:
        loss = "" if column.loss is None else f"{column.loss:13.4f} ± {column.deviation:.4f}"
        figures.append(f"{column.attribution:18.4f}{loss}")
    longest = max(map(width, names))
    found = [
        f"{name}{' ' * (longest - width(name))}   {line}"
        for name, line in zip(names, figures, strict=True)
    ]
    return [*found, f"and {len(ranking) - SHOWN:,} more columns"] if len(ranking) > SHOWN else found


def draw(ranking: list[Importance]) -> np.ndarray:
    """The ranking's first columns as bars, (height, width, 3) uint8: legible where TensorBoard makes it small."""
    from matplotlib.figure import Figure

    from training.pictures.figures import (
        DPI,
        OKABE_ITO,
        WIDTH,
        figure_style,
        render,
        shorten,
        text_width,
    )

    shown, shuffled = ranking[:SHOWN], ranking[0].loss is not None
    with figure_style():
        names = [shorten(column.label, 140) for column in shown]
        left, gap, top, bottom = max(map(text_width, names)) + 16, 16, 24, 66
        height = top + bottom + 17 * max(len(shown), 3)
        width = (WIDTH - left - 8) / (1 + shuffled) - gap
        figure = Figure((WIDTH / DPI, height / DPI), dpi=DPI)
        figures: list[tuple[list[Any], str, str, Any]] = [
            (
                [column.attribution for column in shown],
                "mean |attribution|\nin logits",
                OKABE_ITO[4],
                None,
            )
        ]
        if shuffled:
            deviations = [column.deviation for column in shown]
            figures.append(
                (
                    [column.loss for column in shown],
                    "loss of accuracy\nwhen shuffled",
                    OKABE_ITO[0],
                    deviations,
                )
            )
        for i, (values, label, color, errors) in enumerate(figures):
            box = (
                (left + i * (width + gap)) / WIDTH,
                bottom / height,
                width / WIDTH,
                1 - (top + bottom) / height,
            )
            axes = figure.add_axes(box)
            axes.barh(
                range(len(shown)), values, color=color, xerr=errors, ecolor="#555555", capsize=2
            )
            axes.axvline(0, color="black", linewidth=0.8)
            axes.set(xlabel=label, ylim=(len(shown) - 0.4, -0.6), yticks=range(len(shown)))
            axes.set_yticklabels(names if i == 0 else [])
            axes.locator_params(axis="x", nbins=3)
            axes.spines[["top", "right"]].set_visible(False)
        title = (
            f"{len(shown)} of {len(ranking):,} columns"
            if len(ranking) > SHOWN
            else f"{len(ranking)} columns"
        )
        figure.text(0.5, 1 - 10 / height, title, ha="center", va="center")
        return render(figure)


def short(name: str) -> str:
    """A name without its middle where it is too long, and without what cannot be printed.

    >>> short("the mean of the temperature of the last week in °C")
    'the mean of the tempera…t week in °C'
    """
    name = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    keep = LONGEST * len(name) // max(1, width(name))
    return name if len(name) <= keep else f"{name[: keep * 2 // 3 - 1]}…{name[-(keep // 3) :]}"


def width(text: str) -> int:
    """The places that a text takes on the screen: two for a Chinese character."""
    return sum(1 + (east_asian_width(letter) in "WF") for letter in text)


if __name__ == "__main__":
    command(explain)
