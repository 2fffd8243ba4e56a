"""Files as people have them: compressed, in any encoding, from a spreadsheet or an old program."""

import bz2
import csv
import gc
import gzip
import io
import lzma
import os
import re
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.command import command
from data import plain_text, temporary
from data.file import File
from data.table import Table
from explain import explain
from predict import load, predict
from tests.helpers import ROOT, Fork, run, script
from train import train

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FLOWERS = ROOT / "examples" / "flowers.csv"
TODAY = ROOT / "examples" / "today.csv"
PACKED = {"gz": gzip.compress, "zst": zstd.compress}
CSV = "size,colour,y\n" + "1,blau,a\n2,grün,b\n3,rot,a\n4,grün,b\n" * 3


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    """Copies are made here, so that a test sees whether they are removed."""
    Path("copies").mkdir()
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(temporary, "LARGE_FILES", tmp_path / "copies")


def rows(path, **options):
    """The column names and the rows of a file, as text."""
    file = File(path, **options)
    return file.names, pl.concat(file.frames(file.names)).rows()


def read(content, **options):
    """The column names and rows of a file with this content."""
    Path("t.csv").write_bytes(content)
    return rows("t.csv", **options)


EXPECTED = (
    ["size", "colour", "y"],
    [tuple(line.split(",")) for line in CSV.splitlines()[1:]],
)


# Compressed


@pytest.mark.parametrize("packing", PACKED)
def test_a_compressed_table_is_the_table(packing):
    path = f"flowers.{packing}"
    Path(path).write_bytes(PACKED[packing](FLOWERS.read_bytes()))
    plain = Table(str(FLOWERS), "species").load()
    packed = Table(path, "species").load()
    np.testing.assert_array_equal(packed.features, plain.features)
    np.testing.assert_array_equal(packed.targets, plain.targets)
    assert packed.categories == plain.categories
    gc.collect()
    assert not list(Path("copies").iterdir())


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x,y\n1,a\n2\n", "t: line 3 has 1 fields, and line 1 names 2 columns"),
        ('x,y\n"1\n",a\n2\n', "t: line 4 has 1 fields"),
        ("x,y\n1,a\n\n2,b\n", "t: line 3 is blank"),
        ('x,y\n1,a\n"2,b\n', "t: line 3 cannot be read"),
        ("x,y\n", "t has names of columns and no row"),
    ],
)
def test_the_line_of_a_compressed_file_is_named(content, message, packing):
    Path("t").write_bytes(PACKED[packing](content.encode()))
    with pytest.raises(ValueError, match=re.escape(message)):
        rows("t")


@pytest.mark.parametrize("packing", PACKED)
def test_rows_of_a_compressed_file_are_located(packing):
    Path("t").write_bytes(PACKED[packing](b'x,y\n"1\n",a\n2,b'))
    assert File("t").locate(1, "x") == "t: line 4, column 'x'"


@pytest.mark.parametrize("packing", PACKED)
def test_predict_reads_compressed_tables_and_pipes(packing):
    train(
        partial(Table, str(FLOWERS), "species"),
        members=1,
        max_epochs=2,
        accelerator="cpu",
        pictures="none",
    )
    checkpoint = "lightning_logs/version_0/checkpoints/best.ckpt"
    predict(checkpoint, str(TODAY), output="plain.csv")
    Path("today").write_bytes(PACKED[packing](TODAY.read_bytes()))
    predict(checkpoint, "today", output="packed.csv")
    assert Path("packed.csv").read_bytes() == Path("plain.csv").read_bytes()
    done = Fork(script, (predict, [checkpoint, "-"]), files={0: "today"}).end()
    assert done.stdout == Path("plain.csv").read_text("utf-8")


WIDE = pyarrow.decimal256(60, 2)
NO_COLUMN = {  # types of Parquet that are no column of a table
    "wide decimal": pyarrow.array([1, 2]).cast(WIDE),
    "wide decimals": pyarrow.array([1, 2]).cast(WIDE).dictionary_encode(),
    "list": pyarrow.array([[1], [2]]),
    "struct of wide decimals": pyarrow.array([{"b": 1}, {"b": 2}], pyarrow.struct([("b", WIDE)])),
    "map": pyarrow.array([[("k", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int8())),
    "duration": pyarrow.array([1, 2], pyarrow.duration("s")),
    "bytes": pyarrow.array([b"ab", b"cd"], pyarrow.binary(2)),
    "uuid": pyarrow.array([b"0123456789abcdef", b"fedcba9876543210"], pyarrow.uuid()),
    "json": pyarrow.array(["{}", "[]"], pyarrow.json_()),
}


@pytest.mark.parametrize("kind", NO_COLUMN)
def test_a_type_that_is_no_column_is_refused_in_any_role(kind):
    column = pyarrow.concat_arrays([NO_COLUMN[kind]] * 20)
    numbers = np.arange(40) % 7 / 2
    table = pyarrow.table({"x": numbers, "a": column, "y": ["u", "v"] * 20})
    pyarrow.parquet.write_table(table, "t.parquet")
    roles = [
        {"target": "y"},
        {"target": "y", "categorical": ["a"]},
        {"target": "y", "numeric": ["a"]},
        {"target": "a"},
    ]
    for role in roles:
        with pytest.raises(ValueError, match=r"column 'a' (is|holds) .*; (write|give)") as error:
            Table("t.parquet", **role).setup()
        assert "damaged" not in str(error.value)
    ignored = Table("t.parquet", "y", ignore=["a"])
    ignored.setup()
    assert ignored.column_names == ["x"]


DAYS = pyarrow.array(np.arange(40) % 7 * 86_400_000)
RARE = {
    "float16": (pyarrow.array((np.arange(40) % 7).astype(np.float16)), "number"),
    "decimal": (DAYS.cast(pyarrow.decimal128(38, 2)), "number"),
    "narrow decimal256": (DAYS.cast(pyarrow.decimal256(38, 2)), "number"),
    "dictionary": (DAYS.dictionary_encode(), "number"),
    "date64": (DAYS.cast(pyarrow.date64()), "date"),
    "time": (pyarrow.array((np.arange(40) % 7).astype(np.int32)).cast(pyarrow.time32("s")), "date"),
    "null": (pyarrow.nulls(40), "left out"),
}


@pytest.mark.parametrize("name", RARE)
def test_rare_types_of_columns_are_read(name):
    column, kind = RARE[name]
    table = pyarrow.table({"x": np.arange(40) % 5 / 2, "a": column, "y": ["u", "v"] * 20})
    pyarrow.parquet.write_table(table, "t.parquet")
    read = Table("t.parquet", "y")
    read.setup()
    assert read.kinds["a"].name == kind


@pytest.mark.parametrize("packing", PACKED)
def test_a_damaged_file_is_refused(packing):
    content = PACKED[packing](FLOWERS.read_bytes())
    for damaged in (content[:-9], content[:30], content[:4] + b"\x93" * 40):
        Path("t").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"t cannot be read: .*; copy it again"):
            File("t")
    assert not list(Path("copies").iterdir())


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("content", [b"\0" * 2**23, b"x,y\n" + b"0,1\n" * 2**21])
def test_a_file_that_unpacks_without_end_stops(content, packing, monkeypatch):
    monkeypatch.setattr(plain_text, "UNPACKED_BYTES", 2**20)
    packed = PACKED[packing](content)
    assert len(packed) < len(content) / 200
    Path("t").write_bytes(packed)
    with pytest.raises(ValueError, match=r"unpacks to more than 200 times its size|UTF-16"):
        File("t")
    assert not list(Path("copies").iterdir())


def test_a_copy_takes_at_most_half_of_the_free_space():
    Path("t").write_bytes(b"x,y\n1,a\n")
    text = plain_text.TextFile("t", "t", b"x,y\n", "latin-1", "--encoding")
    text.write(iter(["0123456789"]), io.BytesIO(), free=20)
    with pytest.raises(ValueError, match="a plain copy of t takes more than half of the free"):
        text.write(iter(["0123456789", "0"]), io.BytesIO(), free=20)


def zipped(*names):
    """A zip archive of these files."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for name in names:
            target.writestr(name, "content")
    return archive.getvalue()


def tar():
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as target:
        target.add(FLOWERS, "flowers.csv")
    return archive.getvalue()


def parquet():
    content = io.BytesIO()
    pl.DataFrame({"x": [1.0]}).write_parquet(content)
    return content.getvalue()


def of_one_name():
    content = io.BytesIO()
    table = pyarrow.table([[1.0], [2.0], ["a"]], names=["x", "x", "y"])
    pyarrow.parquet.write_table(table, content)
    return content.getvalue()


NO_TABLES = {  # name: (content, message)
    "Parquet of two columns of one name": (
        of_one_name(),
        "t.csv: column with name 'x' has more than one occurrence; rename one",
    ),
    "bzip2": (bz2.compress(b"x,y\n"), "t.csv is compressed with bzip2; unpack it first"),
    "xz": (lzma.compress(b"x,y\n"), "t.csv is compressed with xz; unpack it first"),
    "zip": (zipped("t.csv"), "t.csv is a zip archive; unpack it first"),
    "half a zip": (zipped("t.csv")[:20], "t.csv is a zip archive; unpack it first"),
    "tar": (tar(), "t.csv is a tar archive, compressed; unpack it first"),
    "Parquet": (gzip.compress(parquet()), "t.csv is a Parquet file, compressed; unpack it first"),
    "Excel": (
        zipped("[Content_Types].xml", "xl/workbook.xml"),
        "t.csv is an Excel workbook; save the sheet as CSV",
    ),
    "OpenDocument": (zipped("mimetype", "content.xml"), "a spreadsheet; save the sheet as CSV"),
    "Excel of old": (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook; save the sheet as CSV"),
    "Arrow": (b"ARROW1\0\0", "t.csv is an Arrow file; save it as Parquet"),
}


@pytest.mark.parametrize("name", NO_TABLES)
def test_what_is_no_table_is_named(name, capsys):
    content, message = NO_TABLES[name]
    Path("t.csv").write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        command(train, ["--data=Table", "--data.path=t.csv", "--data.target=y"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_pipe_is_no_table():
    os.mkfifo("t.csv")
    with pytest.raises(ValueError, match="is a pipe or device, and a table is read several"):
        File("t.csv")


# Encodings


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "Latin-1", "mac_roman"]
)
def test_a_table_in_another_encoding_is_the_table(encoding):
    assert read(CSV.encode(encoding), encoding=encoding) == EXPECTED


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("width", [16, 32])
def test_utf_16_is_recognized_by_its_mark(width, order):
    content = f"\ufeff{CSV}".encode(f"utf-{width}-{order}")
    assert read(content) == EXPECTED
    assert read(gzip.compress(content)) == EXPECTED
    assert read(content, encoding=f"utf-{width}") == EXPECTED
    with pytest.raises(ValueError, match=f"begins with the mark of UTF-{width}-.*leave it out"):
        read(content, encoding="latin-1")


def test_the_encoding_is_a_flag_of_every_command(capsys):
    Path("t.csv").write_bytes(CSV.encode("cp1252"))
    flags = ["--data=Table", "--data.path=t.csv", "--data.target=y", "--max_epochs=2"]
    run(*flags, "--data.encoding=cp1252", "--members=1")
    checkpoint = "lightning_logs/version_0/checkpoints/best.ckpt"
    assert load(checkpoint).categories == {"colour": ["blau", "grün", "rot"]}
    command(predict, [checkpoint, "t.csv", "--encoding=cp1252", "--output=a.csv"])
    Path("t.csv").write_text(CSV, encoding="utf-8")
    command(predict, [checkpoint, "t.csv", "--output=b.csv"])
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    Path("t.csv").write_text(CSV, encoding="utf-16")
    command(explain, [checkpoint, "t.csv", "--encoding=utf-16", "--picture=false"])
    assert "rows          12" in capsys.readouterr().out
    Path("t.csv").write_bytes(CSV.encode("cp1252"))
    for function, arguments, flag in (
        (train, flags, "--data.encoding"),
        (predict, [checkpoint, "t.csv"], "--encoding"),
        (explain, [checkpoint, "t.csv"], "--encoding"),
    ):
        with pytest.raises(SystemExit):
            command(function, arguments)
        message = f"error: t.csv: line 3 is not UTF-8; give its encoding, likely {flag} cp1252\n"
        assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        ("x,y\n1,ü\n".encode("cp850"), None, "line 2 is not UTF-8; .* --data.encoding cp850"),
        ("x,y\n1,цвет\n".encode("cp1251"), None, "line 2 is not UTF-8; .*cp1251 for Cyrillic"),
        ("x,y\n1,颜色\n".encode("gb18030"), None, "line 2 is not UTF-8; .*gb18030 for Chinese"),
        ("x,y\n1,ä\n".encode("utf-16-le"), None, "zero bytes.*give --data.encoding utf-16-le"),
        ("x,y\n1,ä\n".encode("utf-16-be"), None, "zero bytes.*give --data.encoding utf-16-be"),
        (b"x,y\n1,a\n2,\x81\n", "cp1252", "line 3 is not CP1252; give another --data.encoding"),
        (b"x,y\n" + b"1,a\n" * 10**6 + b"2,\xff\n", "ascii", "line 1000002 is not ASCII"),
        (b"x,y\n", "latin-9x", "encoding 'latin-9x' is not known; nearest: "),
        (b"x,y\n", "windows1252", "encoding 'windows1252' is not known; nearest: cp1252"),
        (b"x,y\n", "zlib", "encoding 'zlib' is not known; nearest: "),
    ],
)
def test_a_text_that_cannot_be_decoded_is_refused(content, encoding, message):
    with pytest.raises(ValueError, match=message):
        pl.concat(File(write(content), encoding=encoding).frames(["x"]))
    with pytest.raises(ValueError, match=message):
        pl.concat(File(write(gzip.compress(content)), encoding=encoding).frames(["x"]))
    gc.collect()
    assert not list(Path("copies").iterdir())


def write(content):
    Path("t.csv").write_bytes(content)
    return "t.csv"


# Line ends, separators and headers


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_lines_may_end_in_a_carriage_return_alone(encoding):
    assert read(CSV.replace("\n", "\r").encode(encoding), encoding=encoding) == EXPECTED
    with pytest.raises(ValueError, match=r"t\.csv: line 4 has 1 fields"):
        read("x,ä\r1,2\r3,4\r5\r".encode(encoding), encoding=encoding)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "\ufeffsep=;", "SEP=;"])
def test_the_first_line_of_excel_gives_the_separator(first, ending):
    content = ending.join([first, "a,b;c", "1;2", "3;4", ""]).encode()
    assert read(content) == (["a,b", "c"], [("1", "2"), ("3", "4")])
    assert File("t.csv").locate(1, "c") == "t.csv: line 4, column 'c'"
    with pytest.raises(ValueError, match=r"t\.csv: line 5 has 1 fields, and line 2 names 2"):
        read(content + b"5")


def test_a_delimiter_that_is_given_wins_over_the_first_line_of_excel():
    assert read(b"sep=;\na,b;c\n1,2\n", delimiter=",") == (["a", "b;c"], [("1", "2")])


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ('"a,b,c";d', ["a,b,c", "d"]),
        ('"a;;;"\t"b ""x"";"\td', ["a;;;", 'b "x";', "d"]),
        ('"one\ntwo, three, four";d', ["one\ntwo, three, four", "d"]),
    ],
)
def test_a_delimiter_in_quotes_does_not_count(header, names):
    Path("t.csv").write_text(f"{header}\n")
    assert File("t.csv").names == names


UNNAMED = {  # content: (names, all fields)
    "x,y,,\n1,a,,\n2,b,,\n": (["x", "y"], ["x", "y", "column 3", "column 4"]),
    "x,y,,\n1,a, ,\n2,b,,7\n": (["x", "y", "column 4"], ["x", "y", "column 3", "column 4"]),
    ",x,y,,\n0,1,a,,\n1,2,b,,\n": (["", "x", "y"], ["", "x", "y", "column 4", "column 5"]),
    ",x\n0,1\n1,2\n": (["", "x"], ["", "x"]),
    "x,\n0,\n1,\n": (["x"], ["x", ""]),
    'x,\n0,""\n1,2\n': (["x", ""], ["x", ""]),
}


@pytest.mark.parametrize("content", UNNAMED)
def test_unnamed_columns_are_left_out_where_they_are_empty(content):
    Path("t.csv").write_text(content)
    file = File("t.csv")
    assert (file.names, file.fields) == UNNAMED[content]
    frame = pl.concat(file.frames(file.fields))
    assert len(frame) == 2


def test_a_table_with_trailing_commas_trains():
    Path("t.csv").write_text("x,y,,\n" + "1,a,,\n2,b,,\n3,a,,\n" * 10)
    table = Table("t.csv", "y")
    table.setup()
    assert table.feature_names == ["x"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (",,\n1,2,3\n", "t.csv: line 1 is blank"),
        ("sep=;\n\n1;2\n", "t.csv: line 2 is blank"),
        ("column 3,,\n1,2,3\n", "t.csv has two columns called 'column 3'; rename one"),
        ("x,y,\n1,2,\n3,4\n", "t.csv: line 3 has 2 fields, and line 1 names 3 columns"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(content, message):
    Path("t.csv").write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        rows("t.csv")


def test_a_table_of_too_many_columns_says_so():
    values = np.random.default_rng(0).random((12, 10_001)).round(3)
    frame = pl.DataFrame(values).with_columns(y=pl.Series(["a", "b"] * 6))
    frame.write_csv("t.csv")
    with pytest.raises(ValueError, match="10,001 columns to learn from; the most is 10,000: give"):
        Table("t.csv", "y").setup()


# Whatever is written is read

words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="\0\r\ufeff"),
    max_size=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(words, min_size=2, max_size=4, unique=True).filter(all),
    st.data(),
    st.sampled_from([None, "gz", "zst"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030"]),
    st.sampled_from([None, ";", ",", "\t"]),
)
def test_a_file_packed_and_encoded_in_any_way_is_read_alike(header, data, packing, encoding, sep):
    row = st.lists(words, min_size=len(header), max_size=len(header)).filter(any)
    table = data.draw(st.lists(row, min_size=1, max_size=5))
    text = io.StringIO(newline="")
    if sep is not None:
        text.write(f"sep={sep}\n")
    csv.writer(text, delimiter=sep or "|").writerows([header, *table])
    content = text.getvalue().encode(encoding)
    delimiter = None if sep else "|"
    given = None if encoding.startswith("utf") else encoding
    expected = header, [tuple(row) for row in table]
    pack = PACKED.get(packing, bytes)
    names, found = read(pack(content), delimiter=delimiter, encoding=given)
    assert (names, [tuple(value or "" for value in row) for row in found]) == expected
