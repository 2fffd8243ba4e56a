"""A folder of Parquet files: the same table as in memory, in another order."""

import pickle
import resource
import shlex
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cli.command import command
from data.columns import Columns
from data.stream import Stream
from data.streaming import batches as stream_batches
from data.streaming import folder as stream_folder
from data.streaming.batches import StreamBatches
from data.streaming.order import Share, blocks_of
from data.streaming.scratch import ScratchFile, check_room
from data.streaming.statistics import ColumnStatistics, Moments
from data.table import Table
from data.tabular import standardize
from data.temporary import temporary_folder
from evaluate import evaluate
from inference.predictor import load
from model.running_scores import RunningScores
from model.scores import METRICS, probabilities, score
from tests.helpers import ROOT, forked, in_terminal, run, script, weights
from train import train

STREAM = ("--data", "Stream", "--data.path", "rows", "--data.target", "kind")
ALL = "*"
TINY = 1e-300  # float64 has numbers below it with fewer digits
SMALL = (*STREAM, "--data.batch_size", "64", "--network.hidden", "[8]", "--pictures", "none")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(stream_folder, "CHUNK_ROWS", 100)
    monkeypatch.setattr(stream_batches, "CHUNK_ROWS", 20)


def mixed(rows, seed=0):
    """Numbers, text, dates and missing values, of three classes."""
    generator = np.random.default_rng(seed)
    kinds = generator.integers(0, 3, rows)
    size = (kinds + generator.standard_normal(rows)).astype(np.float32)
    start = datetime(2024, 1, 1)
    days = [start + timedelta(hours=int(hour)) for hour in generator.integers(0, 9000, rows)]
    return pl.DataFrame(
        {
            "size": pl.Series(
                np.where(generator.random(rows) < 0.1, np.nan, size), nan_to_null=True
            ),
            "weight": generator.integers(0, 50, rows),
            "colour": pl.Series(generator.choice(["red", "blue", "green"], rows)).set(
                pl.Series(generator.random(rows) < 0.2), None
            ),
            "when": days,
            "day": [day.date() for day in days],
            "wet": generator.random(rows) < 0.5,
            "constant": 1.0,
            "kind": pl.Series(["a", "b", "c"]).gather(kinds),
        }
    )


def write(frame, files=3, folder="rows", **options):
    """The rows of a frame as a folder of Parquet files."""
    Path(folder).mkdir(exist_ok=True)
    bounds = np.linspace(0, len(frame), files + 1).astype(int)
    for i in range(files):
        part = frame[bounds[i] : bounds[i + 1]]
        part.write_parquet(f"{folder}/part-{i}.parquet", row_group_size=70, **options)
    return frame


def ready(*arguments, **options):
    stream = Stream("rows", "kind", *arguments, batch_size=64, **options)
    stream.setup()
    return stream


def all_rows(stream, split, epoch=0, rank=0, processes=1, buffer=120, seed=0):
    """The batches of an epoch as a process gets them."""
    file, share = stream.copy.write(64, rank, processes)[split]
    batches = StreamBatches(file, stream.encoder, share, buffer, seed)
    batches.set_epoch(epoch)
    return list(batches)


def as_set(batches):
    """The rows of batches, in an order of their own."""
    rows = torch.cat([torch.cat([x.double(), y[:, None].double()], 1) for x, y in batches])
    return sorted(map(tuple, rows.nan_to_num(99).tolist()))


@pytest.mark.parametrize("columns", [ALL, ["weight", "kind"]], ids=["raw", "features"])
@pytest.mark.parametrize("scaling", ["standard", "robust"])
def test_the_encoder_is_that_of_a_table_in_memory(scaling, columns):
    frame = write(mixed(1000).select(columns))
    stream = ready(scaling=scaling, split_seed=3)
    assert stream.copy.has_features == (columns != ALL)
    frame.write_parquet("all.parquet")
    table = Table("all.parquet", "kind", scaling=scaling)
    raw = table.load()
    codes = np.concatenate(
        [stream.by_row.codes(chunk, pl.DataFrame()) for chunk in stream.folder.chunks]
    )
    indices = {name: np.flatnonzero(codes == i) for i, name in ((0, "train"), (2, "test"))}
    splits, encoder = standardize(raw, indices, scaling)
    assert stream.encoder.layout.names == encoder.layout.names
    for name, tensor in encoder.state_dict().items():
        torch.testing.assert_close(getattr(stream.encoder, name), tensor, rtol=1e-9, atol=1e-9,
                                   equal_nan=True)  # fmt: skip
    assert stream.class_names == raw.class_names
    assert {name: len(rows) for name, rows in stream.indices.items()} == {
        name: len(rows) for name, rows in indices.items()
    }
    ours = torch.cat([features for features, _ in stream.evaluation_dataloader("test")])
    torch.testing.assert_close(ours, splits["test"][0])
    targets = torch.cat([targets for _, targets in stream.evaluation_dataloader("test")])
    assert targets.equal(splits["test"][1])


def test_a_buffer_of_float32_has_the_same_rows():
    frame = mixed(1000)[["size", "colour", "kind"]]
    batches = []
    for dtype in (pl.Float32, pl.Float64):
        write(frame.cast({"size": dtype}))
        stream = ready()
        assert stream.copy.dtype == (np.float32 if dtype == pl.Float32 else np.float64)
        batches.append(all_rows(stream, "train"))
    assert all(a[0].equal(b[0]) for a, b in zip(*batches, strict=True))


def test_each_row_is_there_once_in_every_epoch_and_the_order_is_another():
    write(mixed(1000))
    stream = ready()
    in_order = as_set(stream.evaluation_dataloader("train"))
    first, again, second = (all_rows(stream, "train", epoch) for epoch in (0, 0, 1))
    assert as_set(first) == as_set(second) == in_order
    assert all(a[0].equal(b[0]) for a, b in zip(first, again, strict=True))
    assert not any(a[0].equal(b[0]) for a, b in zip(first, second, strict=True))
    assert [len(y) for _, y in first[:-1]] == [64] * (len(first) - 1)


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_processes_share_the_rows_without_overlap_or_loss(processes):
    write(mixed(1000))
    stream = ready()
    shares = [all_rows(stream, "train", 5, rank, processes) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1  # the same number of steps
    steps = [sum(len(share[i][1]) for share in shares) for i in range(len(shares[0]))]
    assert steps[:-1] == [64] * (len(steps) - 1)
    assert as_set([batch for share in shares for batch in share]) == as_set(
        stream.evaluation_dataloader("train")
    )
    tested = [all_rows(stream, "test", 0, rank, processes, seed=None) for rank in range(processes)]
    assert as_set([batch for share in tested for batch in share]) == as_set(
        stream.evaluation_dataloader("test")
    )


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 300),
    batch_size=st.integers(1, 40),
    buffer=st.integers(1, 200),
    processes=st.integers(1, 4),
    joined=st.integers(1, 3),
    step=st.integers(0, 100),
)
def test_any_order_is_complete_and_can_be_resumed(
    rows, batch_size, buffer, processes, joined, step
):
    taken = []
    for rank in range(processes):
        index = np.arange(rows)
        share = Share(rows, batch_size, rank, processes)
        index = index[share.has(index)]
        file = ScratchFile(1, np.float64)
        file.append(index[:, None], index)
        batches, resumed = (
            StreamBatches(file, torch.nn.Identity(), share, buffer, 7, joined) for _ in range(2)
        )
        whole = list(batches)
        assert len(whole) == -(-rows // (batch_size * joined))  # of every process
        step = min(step, len(whole))
        resumed.load_state_dict({"epoch": 0, "step": step, "processes": processes})
        for expected, found in zip(whole[step:], resumed, strict=True):
            assert found[1].equal(expected[1])
            assert found[0][:, 0].equal(found[1].double())
        assert [len(found[1]) for found in resumed] == batches.sizes.tolist()  # a whole epoch
        taken += [targets for _, targets in whole]
    assert torch.cat(taken).sort().values.tolist() == list(range(rows))


@pytest.mark.parametrize(("chunks", "size"), [(1000, 20), (1000, 23), (7, 20), (45, 20)])
def test_every_block_has_chunks_of_the_whole_folder(chunks, size):
    blocks = blocks_of(chunks, size, seed=[3, 9])
    assert sorted(np.concatenate(blocks)) == list(range(chunks))
    assert max(map(len, blocks)) <= size
    for block in blocks:  # no two neighbours of a block are far apart
        gaps = np.diff(np.sort(block), prepend=0, append=chunks)
        assert gaps.max() <= 3 * len(blocks)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.floats(-1e6, 1e6) | st.none(), max_size=9), min_size=1, max_size=9),
    st.floats(-1e6, 1e6),
)
def test_moments_are_numpys(batches, fill):
    moments = Moments(1)
    for batch in batches:
        moments.add(np.array(batch, float).reshape(-1, 1))
    values = np.array([value for batch in batches for value in batch], float)
    assert moments.count[0] + moments.missing[0] == len(values)
    filled = np.where(np.isnan(values), fill, values)
    if not len(filled):
        return
    mean, variance, is_constant = moments.filled(0, fill)
    largest = np.abs(filled).max()
    assert mean == pytest.approx(filled.mean(), abs=max(1e-12 * largest, TINY))
    assert variance == pytest.approx(filled.var(), rel=1e-9, abs=max(1e-12 * largest**2, TINY))
    assert is_constant == (len(set(filled.tolist())) == 1)


@pytest.mark.parametrize("num_classes", [2, 3, 20])
def test_running_scores_are_those_of_all_rows(num_classes):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, num_classes, (5000,), generator=generator)
    logits = 3 * torch.randn(5000, num_classes, generator=generator)
    logits[torch.arange(5000), targets] += 3
    scores = RunningScores(num_classes, METRICS)
    for batch in zip(torch.ones(10), logits.split(500), targets.split(500), strict=True):
        scores.append(batch)
    for name, value in scores.values(METRICS).items():
        expected = score(name, probabilities(logits), targets).item()
        assert value == pytest.approx(expected, abs=1e-5 if name == "auroc" else 1e-12)
    assert scores.values(["loss"]) == {"loss": 1.0}


def test_the_command_trains_and_its_checkpoint_predicts():
    frame = write(mixed(3000))
    result = run(*SMALL, "--max_epochs", "3", "--data.val_fraction", "0.1",
                 "--data.class_weight", "balanced")  # fmt: skip
    assert sum(result["rows"].values()) == 3000
    assert result["test/accuracy"] > 0.4
    predictor = load("lightning_logs/version_0/checkpoints/best.ckpt")
    stream = ready(val_fraction=0.1)
    codes = np.concatenate(
        [stream.by_row.codes(chunk, pl.DataFrame()) for chunk in stream.folder.chunks]
    )
    for name, code in (("train", 0), ("val", 1), ("test", 2)):
        rows = frame.filter(pl.Series(codes == code))
        assert len(rows) == result["rows"][name]
        predicted = predictor.predict(rows) == rows["kind"].to_numpy()
        assert result[f"{name}/accuracy"] == pytest.approx(predicted.mean())
        of_class = predictor.predict_proba(rows)
        expected = roc_auc_score(rows["kind"], of_class, multi_class="ovr")
        assert result[f"{name}/auroc"] == pytest.approx(expected, abs=1e-4)


def test_a_folder_learns_what_a_table_in_memory_does():
    """With as many rows as the buffer holds, only the order differs from a full shuffle's."""
    frame = write(mixed(3000).sort("kind"))
    frame.write_parquet("all.parquet")
    streamed = run(*SMALL, "--max_epochs", "20", "--data.buffer", "500")
    in_memory = run("--data", "Table", "--data.path", "all.parquet", "--data.target", "kind",
                    "--members", "1", "--network.hidden", "[8]", "--pictures", "none",
                    "--data.batch_size", "64", "--max_epochs", "20")  # fmt: skip
    assert streamed["test/log_loss"] == pytest.approx(in_memory["test/log_loss"], rel=0.1)


def slowly(line):
    """Train where reading takes long."""
    stream_folder.BAR_SECONDS = 0.0
    stream_folder.CHUNK_ROWS = 100
    script(train, line)


def test_a_terminal_sees_how_far_the_reading_is():
    write(mixed(1000))
    done, shown = in_terminal(slowly, [*SMALL, "--max_epochs", "1", "--accelerator", "cpu"])
    assert done.returncode == 0
    for task in ("reading", "copying"):
        assert f"{task}: " in shown
        assert "/1.00k " in shown
    assert "reading" not in done.stdout


def test_accumulated_batches_are_one_large_batch():
    write(mixed(500))
    line = (*SMALL, "--optimizer", "SGD", "--optimizer.lr", "0.3", "--schedule", "null")
    line += ("--max_epochs", "2")
    result = run(*line, "--data.batch_size", "30", "--trainer.accumulate_grad_batches", "4")
    assert result["rows"]["train"] % 120 > 30  # the last group has batches of different size
    run(*line, "--data.batch_size", "120")
    first, second = (
        weights(Path(f"lightning_logs/version_{i}/checkpoints/best.ckpt")) for i in (0, 1)
    )
    for name, tensor in second.items():
        torch.testing.assert_close(first[name], tensor, rtol=0, atol=1e-6)


def test_what_a_column_is_as_in_a_table():
    rows = 1200
    frame = mixed(rows).with_columns(
        id=pl.int_range(rows),
        code=pl.Series([f"k{i}" for i in range(rows)]),
        number=pl.Series([str(i % 7) for i in range(rows)]),
        nothing=pl.lit(None, pl.Float64),
        shade=pl.col("colour").cast(pl.Categorical),
        said=pl.col("day").dt.strftime("%d.%m.%Y"),
    )
    write(frame)
    stream = ready(numeric=["number"], dates={"said": "%d.%m.%Y"}, ignore=["weight"])
    kinds = {name: kind.name for name, kind in stream.kinds.items()}
    assert kinds == {
        "size": "number", "colour": "text", "when": "date", "day": "date", "wet": "text",
        "constant": "number", "id": "left out", "code": "left out", "number": "number",
        "nothing": "left out", "shade": "text", "said": "date",
    }  # fmt: skip
    assert "weight" in stream.about()
    assert stream.kinds["colour"].missing == frame.filter(
        np.concatenate(
            [stream.by_row.codes(chunk, pl.DataFrame()) for chunk in stream.folder.chunks]
        ) == 0
    )["colour"].null_count()  # fmt: skip


def test_small_files_say_what_a_column_is():
    frame = mixed(120).with_columns(
        number=pl.Series([4, 5, *range(3, 13)] * 10),
        place=pl.int_range(120) + 7,
        code=pl.Series([f"k{i}" for i in range(120)]),
    )
    write(frame, files=40)  # of three rows
    kinds = ready().kinds
    assert {name: kinds[name].about for name in ("number", "place", "code")} == {
        "number": "3 to 12",
        "place": "it counts the rows",
        "code": "an id: 120 values, all different",
    }


TYPED = {
    "f32": pl.Series([0.1, 0.2, None], dtype=pl.Float32),
    "f64": pl.Series([0.1, 0.2, float("nan")]),
    "f16": pl.Series([0.1, 0.2, 3.0], dtype=pl.Float32).cast(pl.Float16),
    "u64": pl.Series([2**63, 2**63 + 1, 9], dtype=pl.UInt64),
    "decimal": pl.Series([1, 2, None]).cast(pl.Decimal(9, 2)),
    "when": pl.Series([datetime(2024, 1, 1), datetime(2024, 1, 2), None], dtype=pl.Datetime("ns")),
    "blank": pl.Series(["", " a", "b"]),
    "enum": pl.Series(["b", "a", None]).cast(pl.Enum(["c", "b", "a"])),
}


@pytest.mark.parametrize("name", TYPED)
def test_categories_and_classes_are_those_of_a_table(name):
    values = pl.concat([TYPED[name]] * 60)
    as_feature = pl.DataFrame({name: values, "kind": ["a", "b", "c"] * 60})
    as_target = pl.DataFrame({name: values, "x": pl.int_range(180, eager=True) % 7})
    options = {"categorical": [name], "missing": [9], "unlabelled": "drop"}
    for frame, target in ((as_feature, "kind"), (as_target, name)):
        write(frame)
        frame.write_parquet("all.parquet")
        stream = Stream("rows", target, batch_size=64, **options)
        stream.setup()
        raw = Table("all.parquet", target, **options).load()
        assert stream.class_names == raw.class_names
        assert stream.num_rows == len(raw.targets)
        assert stream.columns.categories == raw.categories
        options["categorical"] = []


def test_a_column_may_say_the_split_and_rows_without_a_class_may_be_dropped():
    part = pl.Series(["train", "val", "test", "Train"] * 250)
    kind = pl.when(pl.int_range(1000) >= 40).then("kind")
    write(mixed(1000).with_columns(part=part, kind=kind))
    result = run(*SMALL, "--max_epochs", "1", "--data.split", "part", "--data.unlabelled", "drop")
    assert result["rows"] == {"train": 480, "val": 240, "test": 240}


def test_a_folder_of_other_classes_is_another_one():
    frame = write(mixed(400), compression="uncompressed", statistics=False)
    sizes = [path.stat().st_size for path in sorted(Path("rows").iterdir())]
    before = Stream("rows", "kind", batch_size=64)
    before.setup()
    frame[0, "kind"] = "a" if frame[0, "kind"] != "a" else "b"
    write(frame, compression="uncompressed", statistics=False)
    assert [path.stat().st_size for path in sorted(Path("rows").iterdir())] == sizes
    after = Stream("rows", "kind", batch_size=64)
    after.setup()
    with pytest.raises(ValueError, match="rows or classes, than when the run began"):
        after.load_state_dict(before.state_dict())


def test_a_csv_file_becomes_a_folder_in_the_line_that_the_docs_give():
    mixed(1000).write_csv("rows.csv")
    page = (ROOT / "docs" / "data.md").read_text()
    (line,) = [line for line in page.splitlines() if "sink_parquet" in line]
    line = line.replace("python", sys.executable, 1).replace("examples/flowers.csv", "rows.csv")
    subprocess.run(shlex.split(line), check=True)
    assert ready().num_rows == 1000


# Bad input: what is done to the folder, the flags that are added, and what the line must say.
def cut_short(folder):
    path = folder / "part-1.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def spoil(folder):
    frame = mixed(1000)[["kind", "colour"]].with_columns(size=pl.lit("long" * 9) + pl.col("kind"))
    write(frame, compression="snappy")
    path = folder / "part-1.parquet"
    metadata = pyarrow.parquet.read_metadata(path)
    place = metadata.row_group(2).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[place : place + 40] = bytes(range(40, 80))
    path.write_bytes(content)


def lack_a_column(folder):
    pl.read_parquet(folder / "part-2.parquet").drop("size").write_parquet(folder / "part-2.parquet")


def add_a_column(folder):
    path = folder / "part-2.parquet"
    pl.read_parquet(path).with_columns(more=1).write_parquet(path)


def change_a_type(folder):
    path = folder / "part-2.parquet"
    pl.read_parquet(path).cast({"size": pl.Float64}).write_parquet(path)


def a_wide_decimal(folder):
    for path in folder.iterdir():
        table = pyarrow.parquet.read_table(path)
        wide = table["weight"].cast(pyarrow.decimal256(60))
        pyarrow.parquet.write_table(table.append_column("wide", wide), path)


def nothing(folder):
    pass


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def csv_alone(folder):
    empty(folder)
    mixed(10).write_csv(folder / "rows.csv")


def no_parquet(folder):
    (folder / "part-1.parquet").write_text("a,b\n1,2\n")


def no_rows(folder):
    for path in folder.iterdir():
        pl.read_parquet(path).clear().write_parquet(path)


def unlabelled(folder):
    path = folder / "part-1.parquet"
    kind = pl.when(pl.int_range(pl.len()) != 5).then("kind")
    pl.read_parquet(path).with_columns(kind=kind).write_parquet(path)


def one_class(folder):
    write(mixed(300).with_columns(kind=pl.lit("a")))


def a_rare_class(folder):
    kind = pl.when(pl.int_range(300) == 7).then(pl.lit("z")).otherwise("kind")
    write(mixed(300).with_columns(kind=kind))


def a_class_of_the_test(folder):
    is_test = pl.int_range(300) % 4 == 0
    part = pl.when(is_test).then(pl.lit("test")).otherwise(pl.lit("train"))
    kind = pl.when(is_test).then(pl.lit("z")).otherwise("kind")
    write(mixed(300).with_columns(part=part, kind=kind))


def no_test(folder):
    write(mixed(300).with_columns(part=pl.lit("train")))


def lists(folder):
    write(mixed(300).with_columns(kind=pl.concat_list("weight")))


def many_texts(folder):
    texts = pl.Series([f"a text {2 * i // 3}" for i in range(1000)])
    write(mixed(1000).with_columns(text=texts))


BAD = [
    (cut_short, [], "rows/part-1.parquet is not a complete Parquet file"),
    (spoil, [], "rows/part-1.parquet is damaged in rows 141 to 200 (row group 3 of 5): "),
    (a_wide_decimal, [], "rows/part-0.parquet: column 'wide' is Decimal(precision=60, scale=0), "
                         "which cannot be read: precision must be between 1 and 38, got 60; write"),
    (lack_a_column, [], "rows/part-2.parquet has no column 'size', which rows/part-0.parquet has"),
    (add_a_column, [], "rows/part-2.parquet has a column 'more', which rows/part-0.parquet lacks"),
    (change_a_type, [], "rows/part-2.parquet: column 'size' is Float64, and in rows/part-0.parquet "
                        "Float32; write all files with the same types"),
    (empty, [], "rows is an empty folder; give one with Parquet files"),
    (csv_alone, [], "rows has no file that ends in .parquet, but rows.csv; docs/data.md says how"),
    (no_parquet, [], "rows/part-1.parquet is no Parquet file, whatever its name says"),
    (no_rows, [], "rows has 3 Parquet files without a row"),
    (unlabelled, [], "rows/part-1.parquet: row 6, column 'kind' is None; give every row a class"),
    (one_class, [], "rows: the target 'kind' is 'a' in every row"),
    (many_texts, [], "column 'text' is text with 667 values in 1,000 rows"),
    (lists, [], "column 'kind' holds List(Int64); give text, numbers or true and false"),
    (a_rare_class, [], "1 row of class 'z'; each class needs 3: add rows, or leave its rows out"),
    (a_class_of_the_test, ["--data.split", "part"], "rows: train has no row of class 'z'; change "
                                                    "the column 'part', or leave out --data.split"),
    (no_test, ["--data.split", "part"], "rows: no row is in test; change the column 'part'"),
    (nothing, ["--data.path", "none"], "there is no folder none"),
    (nothing, ["--data.path", "rows/part-0.parquet"], "is a file; give a folder of Parquet files"),
    (nothing, ["--data.target", "kin"], "rows/part-0.parquet has no column 'kin'; nearest: 'kind'"),
    (nothing, ["--data.batch_size", "5000"], "batch_size is 5000, more than the 7"),
    (nothing, ["--data.buffer", "0"], "buffer is 0; give the rows"),
    (nothing, ["--members", "8"], "members is 8, and a stream's rows are not there for folds"),
    (nothing, ["--data.split", "colour"], "column 'colour' is "),
    (nothing, ["--data.test_fraction", "0.99999"], "change the fractions"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "flags", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_input_is_one_line(spoil, flags, message, capsys):
    write(mixed(1000))
    spoil(Path("rows"))
    with pytest.raises(SystemExit) as stop:
        command(train, [*SMALL, "--max_epochs", "1", *flags])
    error = capsys.readouterr().err
    assert stop.value.code == 2, error
    assert error.count("\n") == 1
    assert message in error
    assert not list(Path().glob("lightning_logs/*"))


def test_files_that_are_not_read_are_mentioned():
    write(mixed(300))
    Path("rows/part-2.parquet").rename("rows/part-2.PARQUET")
    Path("rows/_SUCCESS").touch()
    stream = Stream("rows", "kind", batch_size=64)
    stream.setup()
    assert (stream.num_rows, stream.folder.others) == (300, [])
    Path("rows/notes.txt").touch()
    Path("rows/last year").symlink_to("..")
    stream = Stream("rows", "kind", batch_size=64)
    stream.setup()
    assert stream.num_rows == 300
    assert stream.about().endswith("2 other files are not read, such as last year")


def test_evaluate_says_what_to_do(capsys):
    write(mixed(300))
    with pytest.raises(SystemExit) as stop:
        command(evaluate, [*STREAM, "--folds", "3"])
    assert stop.value.code == 2
    assert "give --data Table" in capsys.readouterr().err


def of_the_same_size(path):
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: mixed(900).write_parquet(path),
        lambda path: path.write_bytes(path.read_bytes()[:300]),
        of_the_same_size,
        Path.unlink,
    ],
)
def test_a_file_that_changes_before_the_copy_is_named(change):
    write(mixed(1000))
    stream = ready()
    change(Path("rows/part-1.parquet"))
    with pytest.raises(ValueError, match=r"^rows/part-1.parquet was changed after the run began"):
        all_rows(stream, "train")


def test_epochs_read_the_copy_alone():
    write(mixed(1000))
    stream = ready()
    batches = stream.train_dataloader()
    shutil.rmtree("rows")
    assert sum(len(targets) for _, targets in batches) == len(stream.indices["train"])


def test_the_copy_is_where_temporary_files_belong_and_nothing_is_left(monkeypatch):
    write(mixed(1000))
    monkeypatch.delenv("TMPDIR", raising=False)
    assert temporary_folder() == "/var/tmp"
    Path("a file").touch()
    for unusable in ("", "not there", "a file"):
        monkeypatch.setenv("TMPDIR", unusable)
        assert temporary_folder() == "/var/tmp"
    folder = Path("scratch").absolute()
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    stream = ready()
    assert stream.about().endswith(f"from a copy in {folder}")
    stream.train_dataloader()
    opened = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert len([path for path in opened if path.startswith(f"{folder}/")]) == 2  # train and test
    assert not list(folder.iterdir())


def test_a_stream_is_pickled_without_its_copy():
    write(mixed(300))
    stream = ready()
    expected = as_set(stream.train_dataloader())
    assert as_set(pickle.loads(pickle.dumps(stream)).train_dataloader()) == expected


def test_a_buffer_that_memory_has_no_room_for_is_refused(monkeypatch):
    write(mixed(300))
    monkeypatch.setattr(stream_batches, "free_memory", lambda: 6400)
    message = r"a buffer of 2\d\d rows takes 1\d.\d KiB, and 6.2 KiB of .* give --data.buffer 50$"
    with pytest.raises(ValueError, match=message):
        ready()  # before the rows are copied
    assert list(ready(buffer=50).train_dataloader())


def limited(size, line):
    """A training in which no file may grow beyond a size in bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    script(train, line)


def overflow(size):
    """A copy that grows beyond a size in bytes, and is closed."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    file = ScratchFile(1, np.float64)
    try:
        while True:
            file.append(np.zeros((300, 1)), np.zeros(300))
    except ValueError as error:
        print(error)


def test_a_copy_that_cannot_be_written_is_not_written_when_it_is_closed():
    done = forked(overflow, 8192)
    assert done.stdout.count("File too large") == 1
    assert done.stderr == ""


def test_a_disk_that_the_copy_fills_is_named():
    write(mixed(1000))
    done = forked(limited, 8192, [*SMALL, "--max_epochs", "1"])
    assert done.returncode == 2
    assert done.stderr == (
        "error: the copy of the rows in /var/tmp cannot be written: File too large; make space, "
        "or set TMPDIR to another folder\n"
    )
    assert not list(Path().glob("lightning_logs/*"))
    with pytest.raises(ValueError, match=r"copied into .*, where .* are free and 931,322"):
        check_room(10**18)


def test_a_column_of_too_many_texts_is_refused():
    texts = pl.DataFrame({"text": [f"a text {i}" for i in range(10_001)]})
    statistics = ColumnStatistics(Columns(["text"], {"text": []}))
    with pytest.raises(ValueError, match="'text' is text with more than 10,000 different values"):
        statistics.add(texts, np.empty((len(texts), 0)))
