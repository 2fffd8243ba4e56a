"""Tables that are read a few columns at a time: the same as those that are read at once."""

import gc
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from data import raw_table, store, temporary
from data.folds import cross_validation, standardize_folds
from data.memory import container_memory, free_memory
from data.standardize import check_size
from data.table import Table
from data.tabular import RawTable, TabularData


@pytest.fixture
def small_pieces(monkeypatch, tmp_path):
    """Every table is a large one, of which two columns are read at a time."""
    (tmp_path / "copies").mkdir()
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(temporary, "LARGE_FILES", tmp_path / "copies")
    monkeypatch.setattr(store, "LARGE_BYTES", 0)
    monkeypatch.setattr(raw_table, "LARGE_VALUES", 0)
    monkeypatch.setattr(store, "BLOCK_VALUES", 100)
    return tmp_path


def mixed(rows=60, seed=0):
    """Numbers, text, dates, booleans and ids, with missing values."""
    rng = np.random.default_rng(seed)
    days = pl.Series(rng.integers(0, 9000, rows)).cast(pl.Int32).cast(pl.Date)
    frame = pl.DataFrame(
        {
            "size": rng.normal(size=rows),
            "count": rng.integers(0, 40, rows),
            "colour": rng.choice(["red", "blue", "green"], rows),
            "when": days,
            "new": rng.random(rows) < 0.5,
            "id": np.arange(rows) + 10**15,
            "large": rng.integers(0, 3, rows) + 2.0**40,
            "y": np.arange(rows) % 3,
        }
    )
    holes = pl.Series(rng.random(rows) < 0.2)
    return frame.with_columns(
        pl.when(~holes).then(pl.col(name)).alias(name) for name in ("size", "colour", "when")
    )


def made(path, **options):
    table = Table(str(path), "y", **options)
    table.setup()
    return table


def same(first, second):
    """Whether two datamodules have the same columns, statistics and rows."""
    assert first.about() == second.about()
    assert first.columns == second.columns
    assert first.feature_names == second.feature_names
    for name, buffer in first.encoder.state_dict().items():
        others = second.encoder.state_dict()[name]
        torch.testing.assert_close(others, buffer, rtol=1e-12, atol=0, equal_nan=True)
    for split, (features, targets) in first.splits.items():
        torch.testing.assert_close(second.splits[split][0], features, rtol=1e-6, atol=1e-7)
        assert torch.equal(second.splits[split][1], targets)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("scaling", ["standard", "robust"])
def test_a_large_file_is_read_as_a_small_one(monkeypatch, tmp_path, suffix, scaling, request):
    path = tmp_path / f"t.{suffix}"
    frame = mixed()
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path, row_group_size=7)
    small = made(path, scaling=scaling, val_fraction=0.2)
    request.getfixturevalue("small_pieces")
    large = made(path, scaling=scaling, val_fraction=0.2)
    same(small, large)


def test_rows_left_out_and_a_test_file(request, tmp_path):
    frame = mixed().with_columns(pl.when(pl.col("count") > 3).then(pl.col("y")).alias("y"))
    frame.write_csv(tmp_path / "t.csv")
    mixed(seed=1).write_csv(tmp_path / "test.csv")
    options = {"unlabelled": "drop", "test_path": str(tmp_path / "test.csv")}
    small = made(tmp_path / "t.csv", **options)
    request.getfixturevalue("small_pieces")
    same(small, made(tmp_path / "t.csv", **options))


class Loaded(TabularData):
    """A loader that returns what it is given."""

    def __init__(self, features, **options):
        super().__init__(**options)
        self.features = features

    def load(self):
        names = [] if hasattr(self.features, "columns") else list("abc")
        return RawTable(self.features, np.arange(60) % 3, names)


@pytest.mark.parametrize("kind", ["array", "list", "frame"])
def test_large_tables_of_a_loader(request, kind):
    array = np.random.default_rng(0).normal(size=(60, 3))
    array[3, 1] = np.nan
    features = {"array": array, "list": array.tolist(), "frame": mixed().drop("y", "id")}[kind]
    small = Loaded(features)
    small.setup()
    request.getfixturevalue("small_pieces")
    large = Loaded(features)
    large.setup()
    same(small, large)


def test_splits_are_slices_of_one_tensor():
    table = Loaded(np.random.default_rng(0).normal(size=(60, 3)), val_fraction=0.2)
    table.setup()
    storages = {rows.untyped_storage().data_ptr() for rows, _ in table.splits.values()}
    assert len(storages) == 1
    assert table.splits["train"][0].untyped_storage().nbytes() == 60 * 3 * 4


def test_the_copy_of_a_csv_file_is_removed(small_pieces):
    mixed().write_csv(small_pieces / "t.csv")
    table = Table(str(small_pieces / "t.csv"), "y")
    raw = table.read()
    assert len(list((small_pieces / "copies").iterdir())) == 1
    assert raw.features[[0, 2]].shape == (2, raw.features.shape[1])
    np.testing.assert_array_equal(raw.features[[0, 2], 1], raw.features[[0, 2]][:, 1])
    del raw
    gc.collect()
    assert not list((small_pieces / "copies").iterdir())


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    words=st.lists(st.sampled_from(["1", "2.5", "NA", "", "-", "x", "007", "true"]), min_size=30)
)
def test_what_a_value_means_is_decided_over_all_rows(words, tmp_path):
    """Whatever comes first: also words of which polars would read the first batch as numbers."""
    rows = "".join(f"{word},{i % 2},{i}\n" for i, word in enumerate(words * 2))
    path = tmp_path / "t.csv"
    path.write_text("a,y,b\n" + rows)

    def outcome():
        try:
            table = Table(str(path), "y", numeric=["b"])
            raw = table.read()
            return table.about(), raw.features[:, 0].tolist()
        except ValueError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        at_once = outcome()
        patch.setattr(store, "LARGE_BYTES", 0)
        patch.setattr(raw_table, "LARGE_VALUES", 0)
        patch.setattr(store, "BLOCK_VALUES", 1)
        patch.setattr("data.file.BATCH_ROWS", 7)
        assert repr(outcome()) == repr(at_once)


def test_a_table_too_large_for_the_memory():
    rows = free_memory() // 100  # of 50 features, 200 bytes
    with pytest.raises(ValueError, match=r"rows of 50 features need .* GiB of memory, and .* fit"):
        check_size(rows, 50)
    check_size(100, 50)


def test_memory_of_a_container(tmp_path):
    group = tmp_path / "job"
    group.mkdir()
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("700\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 100\n")
    (tmp_path / "memory.max").write_text("max\n")
    process = tmp_path / "cgroup"
    process.write_text("0::/job\n")
    assert container_memory(tmp_path, process) == [400]
    assert container_memory(tmp_path, Path("/none")) == []


def test_a_damaged_parquet_file_names_its_row_group(small_pieces):
    path = small_pieces / "t.parquet"
    frame = mixed(1000)
    frame.write_parquet(path, row_group_size=100)
    chunk = parquet.read_metadata(path).row_group(3).column(frame.columns.index("size"))
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset : chunk.data_page_offset + 8] = b"\xff" * 8
    path.write_bytes(content)
    damaged = r"t.parquet is damaged in rows 301 to 400 \(row group 4 of 10\): "
    with pytest.raises(ValueError, match=damaged):
        made(path)
    with pytest.MonkeyPatch.context() as patch:  # read at once
        patch.setattr(store, "LARGE_BYTES", 2**24)
        with pytest.raises(ValueError, match=damaged):
            made(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(ValueError, match=r"damaged in rows 1 to 1,000: "):
            made(path)


def test_folds_of_a_large_table(request, tmp_path):
    mixed().write_parquet(tmp_path / "t.parquet")

    def folds():
        table = Table(str(tmp_path / "t.parquet"), "y")
        raw = table.read()
        cut = cross_validation(table, raw.targets, 3, 1)
        return standardize_folds(raw, cut, "robust")

    at_once, _ = folds()
    request.getfixturevalue("small_pieces")
    in_pieces, _ = folds()
    for first, second in zip(at_once, in_pieces, strict=True):
        for split in first:
            torch.testing.assert_close(second[split].features, first[split].features)
