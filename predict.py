"""Predict the class of each row of a table with a trained network, or a population of them.

python predict.py lightning_logs/version_0/checkpoints/best.ckpt today.csv
"""

from cli.command import command  # first: from here on Ctrl-C is one line

# isort: split
import shutil
import sys

from cli.output import show
from inference.files import open_table, report_ignored_columns, write_table
from inference.predictor import Score, load


def predict(
    checkpoint: str,
    table: str,
    output: str | None = None,
    score: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> None:
    """Predict the class of each row of a table with a trained network, or a population of them.

    Args:
        checkpoint: A run's best.ckpt or population.ckpt.
        table: CSV, TSV or Parquet file, columns matched by name; - reads CSV from standard input.
        output: CSV or Parquet file to write, whole or not at all; null writes CSV to standard
            output.
        score: Compare the predictions with the table's column of classes.
        delimiter: Field separator of a CSV file; null detects it from the first line.
        encoding: Encoding of a CSV file, such as cp1252; null is UTF-8, or what the file's byte
            order mark says.

    Raises:
        ValueError: The checkpoint or table cannot be used; nothing was written.
    """
    predictor = load(checkpoint)
    with open_table(table, output, delimiter, encoding) as (file, rows):
        result = predictor.predict_file(file, rows, score)
        if output is None:
            with rows.open("rb") as lines:
                shutil.copyfileobj(lines, sys.stdout.buffer)
            sys.stdout.flush()
        else:
            write_table(rows, output, predictor.output_columns(file))
    report_ignored_columns(file, predictor)
    if result.unseen:
        counts = ", ".join(f"{name} {count:,}" for name, count in result.unseen.items())
        show(f"categories unseen in training: {counts}", file=sys.stderr)
    if score:
        # Standard output belongs to the predictions if they are written there.
        show(describe(result.score, predictor.target), file=sys.stdout if output else sys.stderr)


def describe(score: Score, target: str) -> str:
    """A score in words, the accuracy with its Wilson interval."""
    from evaluation.estimates import wilson_interval  # scipy takes a second to import

    low, high = wilson_interval(score.correct, score.rows)
    rows = f"{score.rows:,} rows"
    if score.unlabelled:
        rows += f" ({score.unlabelled:,} more have no {target})"
    return (
        f"{rows}   accuracy {score.accuracy:.4f}   "
        f"95 % interval {low:.3f} to {high:.3f}   log-loss {score.log_loss:.4f}"
    )


if __name__ == "__main__":
    command(predict)
