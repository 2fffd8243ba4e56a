"""Files made to harm who reads them are refused in one line, in little time and memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from cli.command import command
from cli.yaml_files import MAX_BYTES
from data.images import Images
from evaluate import evaluate
from explain import explain
from export import export
from predict import predict
from tests.helpers import ROOT
from tests.hostile import CONFIGS, IMAGES
from train import train

MAX_SECONDS = 10.0  # of a busy processor; bench/faults.py holds 2
MAX_MEBIBYTES = 300.0


def measured(script, cwd):
    """The prices that a script prints; they are those of a process without pytest."""
    line = [sys.executable, "-W", "ignore", "-c", script]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_cheap(prices):
    """Every file was refused with a ValueError, in little time and memory."""
    for name, (seconds, mebibytes, error) in prices.items():
        assert error.startswith("ValueError: "), (name, error)
        assert seconds < MAX_SECONDS, name
        assert mebibytes < MAX_MEBIBYTES, name


# Configs


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_is_one_line_and_leaves_nothing(name, capsys):
    Path("c.yaml").write_text(CONFIGS[name](), "utf-8", "surrogateescape")
    with pytest.raises(SystemExit) as stop:
        command(train, ["--config", "c.yaml"])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.removesuffix("\n").isprintable()
    assert len(captured.err) < 2000
    assert [path.name for path in Path().iterdir()] == ["c.yaml"]


CONFIG_PRICES = """
import json
from pathlib import Path
from cli.parser import parse
from tests.hostile import CONFIGS, attempt
from train import train

prices = {}
for name, make in CONFIGS.items():
    Path("c.yaml").write_text(make(), "utf-8", "surrogateescape")
    prices[name] = attempt(lambda: parse(train, ["--config", "c.yaml"]))
print(json.dumps(prices))
"""


def test_a_hostile_config_takes_little_time_and_memory(tmp_path):
    prices = measured(CONFIG_PRICES, tmp_path)
    assert_cheap(prices)
    for name in ("anchors that double", "anchors in a text", "many values"):
        assert "more than 20,000 values" in prices[name][2]
    assert "nested more than 20 levels" in prices["levels in a text"][2]


def test_a_config_that_is_large_but_honest_is_read():
    names = [f"column {i}" for i in range(15_000)]
    Path("c.yaml").write_text(json.dumps({"data": {"class": "Table", "ignore": names}}))
    assert Path("c.yaml").stat().st_size < MAX_BYTES
    from cli.arguments import read_file

    assert read_file("c.yaml")["data.ignore"] == names


# Checkpoints


CHECKPOINT_PRICES = """
import json
from predict import load
from tests.hostile import ARCHIVES, CHECKPOINTS, attempt, write_checkpoint

prices = {}
for name in (*CHECKPOINTS, *ARCHIVES):
    write_checkpoint(name, "bad.ckpt")
    prices[name] = attempt(lambda: load("bad.ckpt"))
print(json.dumps(prices))
"""


def test_a_hostile_checkpoint_takes_little_time_and_memory(tmp_path):
    prices = measured(CHECKPOINT_PRICES, tmp_path)
    assert_cheap(prices)
    for name, (_, _, error) in prices.items():
        line = error.removeprefix("ValueError: ")
        assert line.startswith("bad.ckpt "), name
        assert line.isprintable(), name
        assert len(line) < 500, name
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ckpt"]


# Images


def image_folder():
    """Two images of each of two classes."""
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        path = Path("images", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path)


@pytest.mark.parametrize("name", IMAGES)
def test_a_hostile_image_is_named(name):
    image_folder()
    Path("images/b/bad.png").write_bytes(IMAGES[name]())
    with pytest.raises(
        ValueError, match=r"^images/b/bad\.png cannot be read as an image: "
    ) as error:
        Images("ImageFolder", "images").load()
    assert str(error.value).isprintable()


@pytest.mark.parametrize("target", ["..", ".", "../a"])
def test_a_link_to_a_folder_that_was_read_is_named(target):
    image_folder()
    Path("images/b/link").symlink_to(target)
    with pytest.raises(ValueError, match=r"images/.* leads to the same images as .*; remove one"):
        Images("ImageFolder", "images").load()


def test_a_link_to_itself_is_named():
    image_folder()
    Path("images/b/loop.png").symlink_to("loop.png")
    with pytest.raises(ValueError, match=r"images/b/loop\.png cannot be read as an image"):
        Images("ImageFolder", "images").load()


def test_a_link_to_images_elsewhere_is_followed():
    image_folder()
    Path("images/b").rename("elsewhere")
    Path("images/b").symlink_to(Path("elsewhere").absolute())
    assert len(Images("ImageFolder", "images").load().targets) == 4


# Names

STEERING = "\x1b[2J\x1b]0;title\x07\r\n\u202e\x9b31m"


def table_of(name, group):
    """A table whose column, target, group and classes have names that end alike."""
    rows = 48
    generator = np.random.default_rng(0)
    return pl.DataFrame(
        {
            f"size{name}": generator.random(rows).round(3),
            f"colour{name}": [f"red{name}", "blue"] * (rows // 2),
            f"kind{name}": [f"a{name}", "b"] * (rows // 2),
            group: [f"{i // 2}" for i in range(rows)],
        }
    )


def everything_said(name, group, capfd):
    """What the commands print of a table with these names."""
    frame = table_of(name, group)
    frame.write_csv("t.csv")
    data = ["--data=Table", "--data.path=t.csv", f"--data.target=kind{name}"]
    data += [f"--data.groups={group}", "--accelerator=cpu", "--max_epochs=2"]
    command(train, [*data, f"--log_dir=logs{name}", "--pictures=none"])
    command(evaluate, [*data, f"--log_dir=logs{name}", "--folds=2", "--repeats=1"])
    checkpoint = next(Path().glob("logs*/version_0/checkpoints/best.ckpt"))
    frame.with_columns(other=1).rename({"other": f"other{name}"}).write_csv("new.csv")
    command(predict, [str(checkpoint), "new.csv", "--score", f"--output=out{name}.csv"])
    command(explain, [str(checkpoint), "t.csv", "--picture=false"])
    command(export, [str(checkpoint), f"out{name}.pt2"])
    unseen = frame.with_columns(pl.lit(f"new{name}").alias(f"colour{name}"))
    unseen.write_csv("new.csv")
    command(predict, [str(checkpoint), "new.csv", f"--output=out{name}.csv"])
    for bad in (
        [str(checkpoint), f"missing{name}.csv"],
        [f"no{name}.ckpt", "t.csv"],
        [f"--{name}"],
    ):
        with pytest.raises(SystemExit):
            command(predict, bad)
    captured = capfd.readouterr()
    return captured.out + captured.err


def test_no_name_steers_the_terminal(capfd, tmp_path, monkeypatch):
    said = {}
    for kind, name in {"plain": " name", "steering": STEERING}.items():
        (tmp_path / kind).mkdir()
        monkeypatch.chdir(tmp_path / kind)
        said[kind] = everything_said(name, f"group{name}", capfd)
    assert "\\x1b[2J" in said["steering"]
    assert said["steering"].replace("\n", "").replace("\xa0", "").isprintable()
    assert said["steering"].count("\n") == said["plain"].count("\n")
