"""What a folder holds: the kinds of its columns, its classes, its statistics, in one pass."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from data.columns import refuse
from data.dates import is_typed_date
from data.description import Kind
from data.ids import COUNTED_ROWS
from data.kinds import Kinds, make_columns, moment
from data.streaming.folder import Chunk, Folder, Sample
from data.streaming.labels import StreamLabels
from data.streaming.splits import NAMES, StreamSplits, draws
from data.streaming.statistics import ColumnStatistics
from data.values import plain, text_of

LOOKED_AT = 8  # chunks that say what a column is, by their first rows; more if they are small
LOOKED_AT_ROWS = 8192  # of a chunk
SAMPLE_ROWS = 100_000  # of all splits: quartiles from it are off by about 0.2 % of the rows
SAMPLE_VALUES = 2**24  # of the sample: fewer rows where there are many columns
NOTHING = Kind("left out", "nothing but missing values")
SAMPLING = 1  # purpose of the draw of the sample's rows


def look(folder: Folder, names: Sequence[str], kinds: Kinds) -> dict[str, Kind]:
    """What each column is, by its type and the values in a few evenly spaced chunks.

    Small files are small chunks: of them more are looked at, for as many rows.

    Raises:
        ValueError: A column may be several things, or is none that can be learned.
    """
    rows = min(LOOKED_AT * LOOKED_AT_ROWS, SAMPLE_VALUES // len(names))
    count = max(LOOKED_AT, rows * len(folder.chunks) // folder.num_rows)
    places = np.linspace(0, len(folder.chunks) - 1, count).round().astype(int)
    chunks = [
        chunk._replace(rows=min(LOOKED_AT_ROWS, chunk.rows))
        for chunk in (folder.chunks[place] for place in np.unique(places))
    ]
    kinds.file = Sample(folder, chunks)
    frame = pl.concat([folder.read(chunk, names) for chunk in chunks])
    found = {}
    for name in names:
        column = frame.get_column(name)
        found[name] = kind_of(column, kinds)
        is_number = found[name].name == "number" and name not in kinds.numeric
        if is_number and counts_rows(column, [chunk.rows for chunk in chunks]):
            found[name] = Kind("left out", "it counts the rows")
    return found


def kind_of(column: pl.Series, kinds: Kinds) -> Kind:
    """What a column is; where none of the values that are looked at is known, its type says so."""
    if plain(column).null_count() < len(column):
        return kinds.kind_of(column)
    if is_typed_date(column):
        return Kind("date", "", form="")
    if column.dtype.is_numeric():
        return Kind("number", "")
    return Kind("text", "", categories=[])


def counts_rows(column: pl.Series, chunks: Sequence[int]) -> bool:
    """Whether each whole number is one more than that of the row before, in chunks of these rows.

    >>> counts_rows(pl.Series([*range(7, 40), *range(90, 120)]), [33, 30])
    True
    """
    if not column.dtype.is_integer():
        return False
    is_first = np.zeros(len(column), bool)
    is_first[np.cumsum([0, *chunks[:-1]])] = True
    is_next = (column.diff() == 1).fill_null(False).to_numpy()[~is_first]
    return len(is_next) >= COUNTED_ROWS and bool(is_next.all())


class Survey:
    """Reads all rows once, and keeps only what does not grow with them.

    Afterwards `labels` has the classes, `counts` how many rows with a class are in each split
    (splits,), `kinds` and `columns` what the columns are, `statistics` those of the training rows,
    `sample` rows of all splits as a raw table (rows, columns), with their class indices and splits
    in `sample_targets` and `sample_codes`.

    Args:
        folder: The files.
        kinds_of: How columns are read.
        kinds: What `look` found.
        splits: Which split a row is in.
        labels: Collects the classes.
        unlabelled: refuse, or drop rows without a class.

    Raises:
        ValueError: A value that its column cannot have, or a target that cannot be learned.
    """

    def __init__(
        self,
        folder: Folder,
        kinds_of: Kinds,
        kinds: dict[str, Kind],
        splits: StreamSplits,
        labels: StreamLabels,
        unlabelled: str,
    ) -> None:
        self.found = kinds
        self.kinds = dict(kinds)
        columns = make_columns(kinds, kinds_of.reading)
        self.statistics = ColumnStatistics(columns)
        self.labels = labels
        self.unlabelled = unlabelled
        self.counts = np.zeros(len(NAMES), np.int64)
        rows = min(SAMPLE_ROWS, SAMPLE_VALUES // max(1, len(columns.names)))
        share = rows / folder.num_rows
        sample = []
        codes_of_sample = []
        read = [*columns.names, labels.target, *splits.names]
        for chunk, frame in folder.frames(read, "reading"):
            codes = splits.codes(chunk, frame)
            is_labelled = self.add(folder, chunk, frame, codes)
            self.counts += np.bincount(codes[is_labelled], minlength=len(NAMES))
            is_drawn = is_labelled & (draws(splits.seed, chunk, SAMPLING) < share)
            sample.append(frame.filter(is_drawn))
            codes_of_sample.append(codes[is_drawn])
        labels.finish()
        self.describe_columns(kinds_of)
        drawn = pl.concat(sample)
        self.sample = self.columns.matrix(drawn)
        self.sample_targets = labels.indices(drawn)
        self.sample_codes = np.concatenate(codes_of_sample)

    def add(
        self, folder: Folder, chunk: Chunk, frame: pl.DataFrame, codes: np.ndarray
    ) -> np.ndarray:
        """Add a chunk's rows; return which of them have a class (rows,)."""
        file = folder.files[chunk.file]
        is_labelled = self.labels.add(frame, codes)
        if self.unlabelled == "refuse":
            advice = "give every row a class, or --data.unlabelled drop"
            column = frame.get_column(self.labels.target)
            refuse(column, pl.Series(~is_labelled), advice, file, chunk.start)
        numbers = self.statistics.reader.matrix(frame, file, chunk.start)
        is_training = is_labelled & (codes == NAMES.index("train"))
        self.statistics.add(frame.filter(is_training), numbers[is_training])
        return is_labelled

    def describe_columns(self, kinds_of: Kinds) -> None:
        """Complete what `look` found, with what all training rows have."""
        statistics = self.statistics
        for name in statistics.texts:
            values = statistics.values(name)
            known = kinds_of.reading.known_text(text_of(values)).count()
            self.kinds[name] = kinds_of.category(values) if known else NOTHING
        for index, name in enumerate(statistics.numbers):
            self.kinds[name] = NOTHING
            if statistics.moments.count[index]:
                low, high = statistics.moments.low[index], statistics.moments.high[index]
                kind = self.found[name]
                missing = int(statistics.moments.missing[index])
                self.kinds[name] = kind._replace(about=range_of(kind, low, high), missing=missing)
        self.columns = make_columns(self.kinds, kinds_of.reading)
        statistics.finish(self.columns)
        for name, (_, without) in statistics.categories.items():
            self.kinds[name] = self.kinds[name]._replace(missing=int(without))


def range_of(kind: Kind, low: float, high: float) -> str:
    """The range of a column of numbers or dates, for the user to read."""
    if kind.name == "number":
        return f"{low:g} to {high:g}"
    about = f"{moment(low)} to {moment(high)}"
    return f"{about}, as {kind.form}" if kind.form else about
