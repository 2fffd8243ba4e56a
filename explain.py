"""Explain which columns a trained network relies on, in each row and over all rows.

python explain.py lightning_logs/version_0/checkpoints/best.ckpt flowers.csv
"""

from cli.command import command  # first: from here on Ctrl-C is one line

# isort: split
import sys
from pathlib import Path

import polars as pl

from cli.interrupts import uninterrupted
from cli.output import show
from data.checkpoint_format import run_dir_of
from inference.attribution import MOST_STEPS, TOLERANCE, Explanation, Importance, explain_rows
from inference.files import open_table, report_ignored_columns, write_table
from inference.predictor import Predictor, load
from inference.ranking import draw, to_lines


def explain(
    checkpoint: str,
    table: str,
    output: str | None = None,
    repeats: int = 5,
    picture: bool = True,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> None:
    """Explain which columns a trained network relies on, in each row and over all rows.

    Attribution: integrated gradients (Sundararajan et al., 2017) of the logit of each row's
    predicted class, for a population its ensemble's logit. The baseline is the training rows' mean,
    0 in every standardized feature; the attributions of a column's features are added up.

    Importance: the accuracy that is lost when a column is shuffled, measured by the table's classes
    or, if it has none, by the predicted ones. The table is held in memory.

    Args:
        checkpoint: A run's best.ckpt or population.ckpt.
        table: CSV, TSV or Parquet file, columns matched by name; - reads CSV from standard input.
        output: CSV or Parquet file for each row's attributions, written whole or not at all.
        repeats: How often each column is shuffled, with random seed 0; 0 leaves that out.
        picture: Draw the importances into the run's TensorBoard, if the checkpoint is in a run's
            folder.
        delimiter: Field separator of a CSV file; null detects it from the first line.
        encoding: Encoding of a CSV file, such as cp1252; null is UTF-8, or what the file's byte
            order mark says.

    Raises:
        ValueError: The checkpoint or table cannot be used; nothing was written.
    """
    if repeats < 0:
        raise ValueError(
            f"repeats is {repeats}; give how often to shuffle each column, or 0 to leave that out"
        )
    predictor = load(checkpoint)
    with open_table(table, output, delimiter, encoding) as (file, rows):
        raw, targets = predictor.read_rows(file)
        explanation = explain_rows(predictor, raw, targets, repeats)
        if output is not None:
            frame = to_output(predictor, explanation)
            frame.write_csv(rows)
            write_table(rows, output, frame.columns)
    print_report(predictor, explanation)
    report_ignored_columns(file, predictor)
    if not explanation.is_complete:
        print_warning(explanation)
    run_dir = run_dir_of(checkpoint)
    if picture and (run_dir / "config.yaml").is_file():
        add_picture(run_dir, explanation.ranking)


def to_output(predictor: Predictor, explanation: Explanation) -> pl.DataFrame:
    """Each row's label, its probability, and the attribution of each column."""
    columns = {
        "label": pl.Series(predictor.class_names).gather(explanation.predicted),
        "probability": explanation.probabilities.max(1),
    }
    for name, values in zip(predictor.column_names, explanation.attributions.T, strict=True):
        columns[f"attribution {name}"] = values
    return pl.DataFrame(columns)


def print_report(predictor: Predictor, explanation: Explanation) -> None:
    """Print the ranking, and how to read it."""
    targets = explanation.targets
    rows = f"{len(explanation.attributions):,}"
    if targets is None:
        rows += f", without classes ({predictor.target}): the predicted classes are used instead"
    else:
        labelled = targets >= 0
        accuracy = (explanation.predicted == targets)[labelled].mean()
        rows += f", accuracy {accuracy:.4f}"
        if not labelled.all():
            rows += f" of the {labelled.sum():,} rows with a class"
    show(*to_lines(explanation.ranking), "")
    show(f"rows          {rows}")
    print(
        "attribution   integrated gradients of the predicted class's logit, "
        "from the training rows' mean"
    )
    print(
        "completeness  a row's attributions add up to the difference in logits, "
        f"to {explanation.gap:.1e} or better"
    )


def print_warning(explanation: Explanation) -> None:
    """Warn on standard error of attributions that do not add up, even with the most steps."""
    print(
        f"warning: attributions miss the difference in logits by up to {explanation.gap:.1e} "
        f"after {MOST_STEPS:,} steps, expected {TOLERANCE}; take them for no more exact than that",
        file=sys.stderr,
    )


def add_picture(run_dir: Path, ranking: list[Importance]) -> None:
    """Draw the ranking into the TensorBoard of a run."""
    from torch.utils.tensorboard import SummaryWriter

    from training.hparams import VISUAL

    with uninterrupted(), SummaryWriter(str(run_dir)) as writer:
        writer.add_image(f"{VISUAL}/importance", draw(ranking), dataformats="HWC")
    show(f"picture       {VISUAL}/importance in TensorBoard, {run_dir}")


if __name__ == "__main__":
    command(explain)
