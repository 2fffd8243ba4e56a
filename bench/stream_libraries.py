"""The same batches by several libraries: shuffled, standardized float32 rows of a folder."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

Batches = Iterator[tuple[Tensor, Tensor]]
GROUPS = 16  # row groups that are shuffled together
GROUP_ROWS = 8192


def this_project(folder: str, batch_size: int) -> Batches:
    from data.stream import Stream

    stream = Stream(folder, "y", batch_size=batch_size, scaling="standard")
    stream.setup()
    yield from stream.train_dataloader()


def buffered(reads: Iterable[Callable[[], pl.DataFrame]], batch_size: int) -> Batches:
    """Batches of pieces that are read in a random order and shuffled a few at a time."""
    generator = np.random.default_rng(0)
    reads = list(reads)
    order = generator.permutation(len(reads))
    for start in range(0, len(order), GROUPS):
        frames = [reads[i]() for i in order[start : start + GROUPS]]
        features = torch.from_numpy(
            np.concatenate([frame.drop("y").to_numpy(order="c") for frame in frames])
        )
        targets = torch.from_numpy(
            np.concatenate([(frame["y"] == "yes").to_numpy() for frame in frames])
        )
        for rows in torch.from_numpy(generator.permutation(len(features))).split(batch_size):
            yield standardized(features[rows]), targets[rows].long()


def standardized(features: Tensor) -> Tensor:
    """What any of them must do to each value; the statistics are known here."""
    return ((features - 0.0) / 1.0).float()


def polars_slices(folder: str, batch_size: int) -> Batches:
    reads = []
    for path in sorted(Path(folder).glob("*.parquet")):
        table = pl.scan_parquet(path, glob=False)
        rows = table.select(pl.len()).collect().item()
        reads += [table.slice(start, GROUP_ROWS).collect for start in range(0, rows, GROUP_ROWS)]
    yield from buffered(reads, batch_size)


def polars_batches(folder: str, batch_size: int) -> Batches:
    """Polars' own batches, which come in the order of the files."""
    frames = pl.scan_parquet(f"{folder}/*.parquet").collect_batches(chunk_size=GROUP_ROWS)
    held: list[Callable[[], pl.DataFrame]] = []
    for frame in frames:
        held.append(frame.clone)
        if len(held) == GROUPS:
            yield from buffered(held, batch_size)
            held = []
    yield from buffered(held, batch_size)


def pyarrow_groups(folder: str, batch_size: int) -> Batches:
    import pyarrow.parquet

    reads: list[Callable[[], pl.DataFrame]] = []
    for path in sorted(Path(folder).glob("*.parquet")):
        file = pyarrow.parquet.ParquetFile(path)
        for group in range(file.metadata.num_row_groups):
            reads.append(partial(arrow_frame, file, group))
    yield from buffered(reads, batch_size)


def arrow_frame(file: Any, group: int) -> Any:
    return pl.from_arrow(file.read_row_group(group))


def pyarrow_dataset(folder: str, batch_size: int) -> Batches:
    import pyarrow.dataset

    files = sorted(map(str, Path(folder).glob("*.parquet")))  # LitData puts an index beside them
    dataset = pyarrow.dataset.dataset(files, format="parquet")
    pieces = [piece for part in dataset.get_fragments() for piece in part.split_by_row_group()]
    yield from buffered([partial(fragment_frame, piece) for piece in pieces], batch_size)


def fragment_frame(piece: Any) -> Any:
    return pl.from_arrow(piece.to_table())


def hugging_face(folder: str, batch_size: int) -> Batches:
    """IterableDataset, whose buffer shuffles row by row; a large one would take long to fill."""
    import datasets

    datasets.disable_progress_bars()
    files = sorted(map(str, Path(folder).glob("*.parquet")))
    rows = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    rows = rows.shuffle(seed=0, buffer_size=10_000).with_format("numpy")
    for batch in rows.batch(batch_size):
        names = [name for name in batch if name != "y"]
        features = torch.from_numpy(np.stack([batch[name] for name in names], 1))
        yield standardized(features), torch.from_numpy(batch["y"] == "yes").long()


def lit_data(folder: str, batch_size: int) -> Batches:
    """LitData's StreamingDataset of Parquet files, whose rows are Python tuples."""
    import litdata
    from litdata.streaming.item_loader import ParquetLoader

    litdata.index_parquet_dataset(folder)
    dataset = litdata.StreamingDataset(folder, item_loader=ParquetLoader(), shuffle=True)

    def collate(rows: list[Any]) -> tuple[Tensor, Tensor]:
        values = [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in rows]
        features = torch.tensor([row[:-1] for row in values])
        return standardized(features), torch.tensor([row[-1] == "yes" for row in values]).long()

    yield from litdata.StreamingDataLoader(dataset, batch_size=batch_size, collate_fn=collate)


LIBRARIES: dict[str, Callable[[str, int], Batches]] = {
    "this project, from its copy": this_project,
    "polars, slices": polars_slices,
    "polars, collect_batches": polars_batches,
    "pyarrow, row groups": pyarrow_groups,
    "pyarrow.dataset, fragments": pyarrow_dataset,
    "Hugging Face datasets": hugging_face,
    "LitData": lit_data,
}


def read(name: str, folder: str, batch_size: int, seconds: float) -> dict[str, float]:
    """Rows per second, by the clock and per second of processor time, from the second batch on."""
    torch.set_num_threads(1)
    batches = LIBRARIES[name](folder, batch_size)
    next(batches)  # imports, indices, statistics
    start = time.perf_counter()
    busy = time.process_time()
    rows = 0
    for features, _ in batches:
        rows += len(features)
        if time.perf_counter() - start > seconds:
            break
    return {
        "rows per second": rows / (time.perf_counter() - start),
        "rows per second of a core": rows / (time.process_time() - busy),
    }


if __name__ == "__main__":
    name, folder, batch_size, seconds = sys.argv[1:]
    print(json.dumps(read(name, folder, int(batch_size), float(seconds))))
