"""The files that the commands read and write: a table in, an output that is whole or not there."""

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from cli.errors import FULL
from cli.interrupts import uninterrupted
from cli.output import show
from data.file import File
from inference.predictor import Predictor

TABLE_SUFFIXES = (".csv", ".parquet")
SHOWN_COLUMNS = 5  # ignored columns that are listed by name


def check_output(output: str, suffixes: Sequence[str]) -> None:
    """Refuse an output that cannot be written, before anything is computed.

    Raises:
        ValueError: Its name has another suffix, its folder does not exist, or it is itself a
        folder.
    """
    if Path(output).suffix.lower() not in suffixes:
        raise ValueError(f"output is {output!r}; give a name that ends in {' or '.join(suffixes)}")
    folder = Path(output).absolute().parent
    if not folder.is_dir():
        raise ValueError(f"output is {output!r}, but there is no folder {folder}; make it first")
    if Path(output).is_dir():
        raise ValueError(f"output is {output!r}, which is a folder; give a file")


@contextmanager
def scratch_folder(output: str | None, prefix: str) -> Iterator[Path]:
    """A temporary folder beside the output, so that a finished file moves into place in one step.

    Without an output the folder is in the system's temporary folder.
    """
    parent = Path(output).absolute().parent if output else None
    folder = None
    try:
        with uninterrupted():  # a signal waits until the folder is known
            folder = tempfile.TemporaryDirectory(dir=parent, prefix=prefix)
        yield Path(folder.name)
    except OSError as error:
        if not is_full(error):
            raise
        where = output or f"{tempfile.gettempdir()} or standard output"
        raise OSError(f"{where} cannot be written: the disk is full; make space") from error
    finally:
        with uninterrupted():
            if folder is not None:
                folder.cleanup()


def is_full(error: OSError) -> bool:
    """Whether a file could not grow: no space, no quota, or the largest size allowed.

    polars has the number in its message alone.
    """
    return error.errno in FULL or str(error).endswith(tuple(f"(os error {n})" for n in FULL))


@contextmanager
def open_table(
    table: str, output: str | None, delimiter: str | None, encoding: str | None
) -> Iterator[tuple[File, Path]]:
    """The file of a table, and the path of a temporary CSV file to collect the output in.

    The output is collected there until every row has been read, so that no row is written of a
    table with a bad row.

    Args:
        table: Path, or - for standard input.
        output: CSV or Parquet file that will be written; null for standard output.
        delimiter: Between a CSV file's fields; null detects it.
        encoding: A CSV file's encoding; null is UTF-8, or what its byte order mark says.

    Raises:
        ValueError: The table cannot be read, or the output cannot be written.
    """
    if output is not None:
        check_output(output, TABLE_SUFFIXES)
        if Path(output).exists() and Path(table).exists() and Path(output).samefile(table):
            raise ValueError(f"output is {output!r}, the table itself; give another file")
    if table == "-" and sys.stdin is None:
        raise ValueError("standard input is closed; give a file")
    is_pipe = table == "-" or Path(table).is_fifo()
    if is_pipe:
        # polars' signal handler restarts an interrupted read, and Ctrl-C would not end it.
        signal.siginterrupt(signal.SIGINT, True)
    with scratch_folder(output, ".predict-") as folder:
        rows = folder / "rows.csv"
        path = table
        if is_pipe:
            path = str(folder / "table")
            copy_pipe(table, Path(path))
        name = "standard input" if table == "-" else table
        yield File(path, delimiter, name, encoding, flag="--encoding"), rows


def copy_pipe(table: str, path: Path) -> None:
    """Copy a pipe into a file: a table may be read again, to name a bad line, and a pipe cannot."""
    # The `with` below closes either source, which the linter does not see.
    source = sys.stdin.buffer if table == "-" else Path(table).open("rb")  # noqa: SIM115
    with source, path.open("wb") as copy:
        shutil.copyfileobj(source, copy)


def write_table(rows: Path, output: str, names: Sequence[str]) -> None:
    """Move a finished CSV file to the output, as Parquet if the output's name says so.

    Args:
        rows: CSV file of text up to a column called label, and then numbers.
        output: CSV or Parquet file.
        names: All columns.
    """
    if Path(output).suffix.lower() == ".parquet":
        texts = names[: names.index("label") + 1]
        schema = {name: pl.String if name in texts else pl.Float64 for name in names}
        parquet = rows.with_suffix(".parquet")
        pl.scan_csv(rows, schema=schema, glob=False).sink_parquet(parquet)
        rows = parquet
    rows.replace(output)


def report_ignored_columns(file: File, predictor: Predictor) -> None:
    """Name on standard error the columns of a table that a network does not use."""
    known = [*predictor.column_names, predictor.target, predictor.id_column]
    ignored = [name for name in file.names if name not in known]
    if not ignored:
        return
    listed = ", ".join(ignored[:SHOWN_COLUMNS])
    if len(ignored) > SHOWN_COLUMNS:
        listed += ", ..."
    show(f"ignored columns: {listed}", file=sys.stderr)
