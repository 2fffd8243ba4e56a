"""predict.py and load: each row once, in order, as NumPy predicts; a checkpoint is never code."""

import os
import pickle
import random
import signal
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from cli.command import command
from data.table import Table
from evaluate import evaluate
from model.networks import MLP
from predict import load, predict
from tests.helpers import ROOT, Fork, forked, script
from tests.test_table import mixed, write
from train import train

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A network's and a population's checkpoint, and the table that they learned."""
    folder = tmp_path_factory.mktemp("made")
    write(mixed(), str(folder / "t.csv"))
    options = {
        "data": partial(Table, str(folder / "t.csv"), "kind"),
        "accelerator": "cpu",
        "log_dir": str(folder),
    }
    train(**options, members=1, max_epochs=30, pictures="none")
    evaluate(**options, members=1, max_epochs=30, folds=3, repeats=1, save=True)
    return folder


@pytest.fixture
def best(made):
    return str(made / "version_0" / "checkpoints" / "best.ckpt")


@pytest.fixture
def population(made):
    return str(made / "version_1" / "checkpoints" / "population.ckpt")


def by_numpy(checkpoint, frame):
    """The probabilities of a network, from the checkpoint's numbers alone."""
    content = torch.load(checkpoint, weights_only=True)
    state, weights = (
        content["Table"],
        {name: value.double().numpy() for name, value in content["state_dict"].items()},
    )
    rows = []
    for row in frame.select(state["column_names"]).rows():
        features = []
        for i, name in enumerate(state["feature_names"]):
            column = state["column_names"][state["source"][i]]
            value = row[state["column_names"].index(column)]
            if name == f"{column} missing":
                features.append(float(value is None))
            elif column in state["categories"]:
                text = (
                    state["categories"][column][int(state["fill"][i])]
                    if value is None
                    else str(value)
                )
                features.append(
                    float(
                        name
                        == f"{column}={text if text not in ('True', 'False') else text.lower()}"
                    )
                )
            else:
                features.append(state["fill"][i].item() if value is None else float(value))
        rows.append((np.array(features) - state["mean"].numpy()) / state["scale"].numpy())
    features = np.array(rows)
    features = features / np.sqrt(1 + (features / state["limit"].item()) ** 2)
    hidden = features @ weights["network.0.weight"].T + weights["network.0.bias"]
    logits = (hidden / (1 + np.exp(-hidden))) @ weights["network.2.weight"].T + weights[
        "network.2.bias"
    ]
    power = np.exp(logits - logits.max(1, keepdims=True))
    return power / power.sum(1, keepdims=True)


def today(rows=50):
    """Rows of another day: other numbers, columns in another order, one more, an unseen colour."""
    frame = mixed(rows, seed=1).drop("kind")
    colours = ["violet" if i == 2 else value for i, value in enumerate(frame["colour"])]
    return frame.with_columns(pl.Series("colour", colours), pl.lit("x").alias("note")).select(
        "note", "wet", "colour", "size (cm)"
    )


def test_probabilities_are_numpys(best):
    np.testing.assert_allclose(
        load(best).predict_proba(today()), by_numpy(best, today()), atol=1e-6
    )


def test_the_command_writes_a_row_for_each_row_in_order(best):
    write(today(), "today.csv")
    done = forked(script, predict, [best, "today.csv"])
    assert done.returncode == 0
    assert done.stderr == "ignored columns: note\ncategories unseen in training: colour 1\n"
    found = pl.read_csv(done.stdout.encode(), infer_schema_length=None)
    classifier = load(best)
    assert found.columns == ["label", "probability 7", "probability b c", "probability Ä"]
    np.testing.assert_allclose(
        found[:, 1:].to_numpy(), classifier.predict_proba(today()), atol=1e-6
    )
    assert found["label"].cast(pl.String).to_list() == classifier.predict(today()).tolist()
    for source, target in (("today.parquet", "a.csv"), ("today.csv", "a.parquet")):
        write(today(), source)
        predict(best, source, output=target)
        written = pl.read_csv(target) if target.endswith("csv") else pl.read_parquet(target)
        assert written.cast(found.schema).equals(found)
    piped = Fork(script, (predict, [best, "-"]), files={0: "today.csv"}).end()
    assert piped.stdout == done.stdout


def test_a_population_has_a_spread(population):
    write(today(), "today.csv")
    predict(population, "today.csv", output="out.parquet")
    found, classifier = pl.read_parquet("out.parquet"), load(population)
    features = classifier.encoder(torch.from_numpy(raw_of(classifier, today())))
    each = classifier.network.probabilities(features)
    assert len(each) == 3
    np.testing.assert_allclose(found[:, 1:4].to_numpy(), each.numpy().mean(0), atol=1e-6)
    np.testing.assert_allclose(found[:, 4:].to_numpy(), each.numpy().std(0), atol=1e-6)
    assert found.columns[4:] == ["spread 7", "spread b c", "spread Ä"]


def raw_of(classifier, frame):
    return classifier.columns.matrix(frame)


@pytest.mark.parametrize("checkpoint", ["best", "population"])
def test_score_is_scikit_learns(checkpoint, request, capsys):
    checkpoint = request.getfixturevalue(checkpoint)
    frame = mixed(40, seed=2)
    write(frame, "labelled.csv")
    capsys.readouterr()  # what making the checkpoint printed
    predict(checkpoint, "labelled.csv", output="out.csv", score=True)
    classifier = load(checkpoint)
    truth, probabilities = frame["kind"].to_numpy(), classifier.predict_proba(frame)
    accuracy = accuracy_score(truth, classifier.predict(frame))
    loss = log_loss(truth, probabilities, labels=classifier.class_names)
    assert capsys.readouterr().out.startswith(f"40 rows   accuracy {accuracy:.4f}   95 % interval ")
    predict(checkpoint, "labelled.csv", output="out.csv", score=True)
    assert f"log-loss {loss:.4f}" in capsys.readouterr().out


def test_pandas_polars_and_numpy_are_the_same_rows(best):
    frame, classifier = today(), load(best)
    expected = classifier.predict_proba(frame)
    columns = frame.to_dict(as_series=False)
    objects = np.array(frame.select(classifier.column_names).rows(), object)
    shuffled = pd.DataFrame(columns, index=np.arange(50)[::-1])
    nullable = shuffled.convert_dtypes().astype({"colour": "category"})
    for table in (
        frame.lazy(),
        frame.cast({"colour": pl.Categorical}),
        shuffled,
        nullable,
        objects,
    ):
        np.testing.assert_array_equal(classifier.predict_proba(table), expected)
    numbers = load(str(GOLDEN.parents[1] / "lightning_logs/reference/checkpoints/best.ckpt"))
    assert numbers.predict(np.array([[5.1, 3.5, 1.4, 0.2]])).tolist() == ["setosa"]
    assert classifier.predict(frame[:0]).shape == (0,)
    with pytest.raises(ValueError, match=r"the array is of shape \(50, 2\); give \(rows, 3\)"):
        classifier.predict(objects[:, :2])
    with pytest.raises(ValueError, match="the table has no column 'wet'"):
        classifier.predict(shuffled.drop(columns="wet"))


def test_an_arrow_table_and_names_that_are_numbers_are_read(best):
    frame, classifier = today(), load(best)
    expected = classifier.predict_proba(frame)
    for arrow in (frame.to_arrow(), frame.to_arrow().to_batches()[0]):
        np.testing.assert_array_equal(classifier.predict_proba(arrow), expected)
    array = np.random.default_rng(0).normal(size=(60, 3))
    numbered = pd.DataFrame(array)
    numbered.assign(y=array[:, 1] > 0).to_csv("t.csv", index=False)
    train(partial(Table, "t.csv", "y"), members=1, max_epochs=2, accelerator="cpu", pictures="none")
    classifier = load("lightning_logs/version_0/checkpoints/best.ckpt")
    assert classifier.column_names == ["0", "1", "2"]
    expected = classifier.predict_proba(array)
    np.testing.assert_array_equal(classifier.predict_proba(numbered), expected)
    np.testing.assert_array_equal(classifier.predict_proba(numbered[[2, 1, 0]]), expected)
    with pytest.raises(ValueError, match="the table has no column '2'; nearest: '7'"):
        classifier.predict(numbered.rename(columns={2: 7}))
    twice = numbered.assign(**{"0": 1.0})
    with pytest.raises(ValueError, match="two columns of one name"):
        classifier.predict(twice)


def test_a_category_is_the_same_in_every_type():
    """Codes as text, whole numbers or, with a missing one, floats; true and false as 1 and 0."""
    codes, wet = ["1", "2", "x"] * 20, ["true", "false", "false"] * 20
    pl.DataFrame({"c": codes, "w": wet, "y": ["a", "b", "c"] * 20}).write_csv("t.csv")
    train(partial(Table, "t.csv", "y"), max_epochs=20, accelerator="cpu", pictures="none")
    classifier = load("lightning_logs/version_0/checkpoints/best.ckpt")
    expected = classifier.predict_proba(pl.DataFrame({"c": ["1", "2"], "w": ["true", "false"]}))
    frames = [
        pl.DataFrame({"c": [1, 2], "w": [True, False]}),
        pl.DataFrame({"c": [1.0, 2.0], "w": [1, 0]}),
    ]
    frames += [pd.DataFrame({"c": np.array([1.0, 2.0], object), "w": ["True", "FALSE"]})]
    frames += [pd.DataFrame({"c": [1, 2, None], "w": [1, 0, None]})]
    for frame in frames:
        np.testing.assert_array_equal(classifier.predict_proba(frame)[:2], expected)
    mixed_missing = pd.DataFrame({"c": np.array(["1", pd.NA], object), "w": ["true", "false"]})
    np.testing.assert_array_equal(classifier.predict_proba(mixed_missing)[:1], expected[:1])
    with pytest.raises(ValueError, match="two columns of one name"):
        classifier.predict(pd.DataFrame([[1, 2, 3]], columns=["c", "c", "w"]))


def test_pipes_are_read_and_broken_ones_end_quietly(best):
    write(today(30_000), "t.csv")
    script = (
        f"cat t.csv | {sys.executable} {ROOT / 'predict.py'} {best} /dev/stdin --output out.csv"
    )
    assert subprocess.run(["bash", "-c", script], timeout=60).returncode == 0
    assert len(pl.read_csv("out.csv", infer_schema=False)) == 30_000
    script = f"set -o pipefail; {sys.executable} {ROOT / 'predict.py'} {best} t.csv | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 141
    assert done.stdout.startswith("label,")
    assert done.stderr.startswith("ignored columns: note\n") or not done.stderr
    closed = subprocess.run(
        ["bash", "-c", f"{sys.executable} {ROOT / 'predict.py'} {best} - <&-"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert closed.stderr == "error: standard input is closed; give a file\n"


def test_the_table_is_never_its_own_output(best, capsys):
    write(today(), "t.csv")
    before = Path("t.csv").read_bytes()
    with pytest.raises(SystemExit) as stop:
        command(predict, [best, "t.csv", "--output=./t.csv"])
    assert stop.value.code == 2
    assert "output is './t.csv', the table itself; give another file" in capsys.readouterr().err
    assert Path("t.csv").read_bytes() == before


def test_a_long_file_goes_in_pieces_and_no_row_is_lost(best):
    frame = today(170_000)  # four batches
    frame = frame.with_columns(pl.Series("size (cm)", np.arange(170_000) / 10_000))
    write(frame, "long.csv")
    predict(best, "long.csv", output="out.csv")
    found = pl.read_csv("out.csv", infer_schema_length=None)
    np.testing.assert_allclose(found[:, 1:].to_numpy(), load(best).predict_proba(frame), atol=1e-6)


HEADER = "size (cm),colour,wet\n"
LABELLED = "size (cm),colour,wet,kind\n"
NOT_UTF8 = (HEADER + "1,grün,true\n").encode("latin-1")
BAD = {
    "text in a number column": (
        HEADER + "1,red,true\nlong,red,true\n",
        "line 3, column 'size (cm)' is 'long'",
    ),
    "infinite": (
        HEADER + "1,red,true\n-inf,red,true\n",
        "t.csv: line 3, column 'size (cm)' is '-inf'",
    ),
    "a stray quote": (HEADER + '1,r"ed,true\n', "t.csv: line 2 has a quote in a field"),
    "ragged": (
        HEADER + "1,red,true\n2,red\n",
        "t.csv: line 3 has 2 fields, and line 1 names 3 columns",
    ),
    "missing columns": ("colour\nred\n", "t.csv has no columns 'size (cm)', 'wet'; nearest: "),
    "empty": ("", "t.csv is empty"),
    "header only": (HEADER, "t.csv has names of columns and no row"),
    "not UTF-8": (NOT_UTF8, "t.csv: line 2 is not UTF-8"),
    "unknown label": (
        LABELLED + "1,red,true,9\n",
        "line 2, column 'kind' is '9'; the network knows 7, b c, Ä",
    ),
    "no label": (HEADER + "1,red,true\n", "t.csv has no column 'kind'"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("output", [None, "out.csv", "out.parquet"])
def test_a_row_that_cannot_be_read_stops_it_before_anything_is_written(
    name, output, best, capsysbinary
):
    content, message = BAD[name]
    Path("t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    flags = []
    if output:
        Path(output).write_text("yesterday's")
        flags.append(f"--output={output}")
    if "label" in name:
        flags.append("--score")
    with pytest.raises(SystemExit) as stop:
        command(predict, [best, "t.csv", *flags])
    captured = capsysbinary.readouterr()
    assert stop.value.code == 2
    assert captured.out == b""
    assert captured.err.startswith(b"error: ")
    assert captured.err.count(b"\n") == 1
    assert message in captured.err.decode()
    assert {path.name for path in Path().iterdir()} == {"t.csv"} | ({output} if output else set())
    assert not output or Path(output).read_text() == "yesterday's"


def test_a_bad_row_far_down_is_named_and_nothing_written(best):
    frame = today(120_000)
    write(frame, "t.csv")
    with Path("t.csv").open("a") as file:
        file.write("x,true,red,far\n")
    done = forked(script, predict, [best, "t.csv", "--output", "out.csv"])
    assert done.returncode == 2
    assert done.stderr.startswith("error: t.csv: line 120002, column 'size (cm)' is 'far'")
    assert list(Path().iterdir()) == [Path("t.csv")]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_the_old_output(sent, best):
    write(today(1000), "t.csv")
    Path("out.csv").write_text("yesterday's")
    os.mkfifo("pipe")
    line = [best, "-", "--output", "out.csv"]
    process = Fork(script, (predict, line), files={0: "pipe"})
    with Path("pipe").open("w") as pipe:
        pipe.write(Path("t.csv").read_text())
        pipe.flush()
        while not list(Path().glob(".predict-*")):  # it reads
            assert process.is_running()
        for _ in range(6):  # a signal that comes before the read begins is seen when that ends
            process.send_signal(sent)
            process.process.join(10)
            if not process.is_running():
                break
        codes = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
        done = process.end()
        assert done.returncode == codes[sent]
        if sent != signal.SIGKILL:
            assert done.stderr == "error: stopped\n"
            assert not list(Path().glob(".predict-*"))
    assert Path("out.csv").read_text() == "yesterday's"


# Trust: each of these would write a file called marker if it ran.


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (os.system, ("touch marker",))


def changed(checkpoint, **entries):
    """A checkpoint with other entries, as torch writes it."""
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | entries, "bad.ckpt")


def poison_module():
    Path("poison.py").write_text("open('marker', 'w')\n")


def a_bomb(best):
    changed(best, more=Bomb())


def a_bare_pickle(best):
    Path("bad.ckpt").write_bytes(pickle.dumps(Bomb()))


def a_legacy_pickle(best):
    torch.save({"state_dict": Bomb()}, "bad.ckpt", _use_new_zipfile_serialization=False)


def an_instantiator(best):
    poison_module()
    settings = torch.load(best, weights_only=True)["hyper_parameters"]
    changed(best, hyper_parameters=settings | {"_instantiator": "poison.run"})


def a_class_of_the_library(best):
    settings = torch.load(best, weights_only=True)["hyper_parameters"]
    changed(best, hyper_parameters=settings | {"network": {"class": "antigravity.fly"}})


def a_module_without_the_class(best):
    poison_module()
    settings = torch.load(best, weights_only=True)["hyper_parameters"]
    changed(best, hyper_parameters=settings | {"network": {"class": "poison.Net"}})


def a_folder_for_weights(best):
    """Where an entry has the flag of a folder, torch leaves its numbers as the memory was."""
    with zipfile.ZipFile(best) as archive, zipfile.ZipFile("bad.ckpt", "w") as bad:
        for info in archive.infolist():
            content = archive.read(info)
            info.external_attr = 0x10 if info.filename.endswith("data/0") else 0
            bad.writestr(info, content)


def names_twice(best):
    state = torch.load(best, weights_only=True)["Table"]
    changed(best, Table=state | {"class_names": ["a", "a", "b"]})


def not_finite(best):
    weights = torch.load(best, weights_only=True)["state_dict"]
    changed(best, state_dict={name: value * float("nan") for name, value in weights.items()})


def cut_short(best):
    content = Path(best).read_bytes()
    Path("bad.ckpt").write_bytes(content[: len(content) // 2])


def flipped(best):
    content = bytearray(Path(best).read_bytes())
    with zipfile.ZipFile(best) as archive:
        info = max(archive.infolist(), key=lambda info: info.file_size)
    content[info.header_offset + 200] ^= 1
    Path("bad.ckpt").write_bytes(content)


def of_another_program(best):
    torch.save({"state_dict": {}, "hyper_parameters": {"layers": 3}}, "bad.ckpt")


def a_bare_state_dict(best):
    torch.save(torch.load(best, weights_only=True)["state_dict"], "bad.ckpt")


def of_a_later_version(best):
    state = torch.load(best, weights_only=True)["Table"]
    changed(best, Table=state | {"format": 99})


def of_other_sizes(best):
    settings = torch.load(best, weights_only=True)["hyper_parameters"]
    changed(best, hyper_parameters=settings | {"num_features": 3})


def text(best):
    Path("bad.ckpt").write_text("no checkpoint")


def a_folder(best):
    Path("bad.ckpt").mkdir()


def nothing(best):
    pass


NOT_IMPORTED = "and no module defines such a class; it was not imported"
HOSTILE = {
    a_bomb: "holds code, not data alone, and was not loaded",
    a_bare_pickle: "is damaged, or no checkpoint",
    a_legacy_pickle: "is damaged, or no checkpoint",
    an_instantiator: "names code to run (_instantiator), and was not loaded",
    a_class_of_the_library: f"names antigravity.fly, {NOT_IMPORTED}",
    a_module_without_the_class: f"names poison.Net, {NOT_IMPORTED}",
    a_folder_for_weights: "is damaged: the checksum of its list of files is wrong",
    names_twice: "does not fit together: its names of columns, categories or classes",
    not_finite: "has weights that are not finite; train again",
    cut_short: "is damaged, or no checkpoint",
    flipped: "is damaged: the checksum of",
    of_another_program: "is a checkpoint of another program",
    a_bare_state_dict: "is a checkpoint of another program",
    of_a_later_version: "is of format 99, which this version does not know; update it",
    of_other_sizes: "does not fit together",
    text: "is damaged, or no checkpoint",
    a_folder: "is a folder; give a checkpoint in it",
    nothing: "there is no checkpoint bad.ckpt",
}


@pytest.mark.parametrize("spoil", HOSTILE, ids=lambda spoil: spoil.__name__)
def test_a_checkpoint_is_data_and_never_code(spoil, best, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path.cwd())
    spoil(best)
    write(today(), "t.csv")
    with pytest.raises(SystemExit) as stop:
        command(predict, ["bad.ckpt", "t.csv"])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert HOSTILE[spoil] in captured.err
    assert not Path("marker").exists()
    assert "antigravity" not in sys.modules


def test_a_bomb_is_one():
    """The marker would be written: what the test above asserts can fail."""
    torch.save(Bomb(), "bomb.ckpt")
    torch.load("bomb.ckpt", weights_only=False)
    assert Path("marker").exists()


def test_damage_anywhere_is_refused_or_without_effect(best):
    good, content, generator = (
        load(best).predict_proba(today()),
        Path(best).read_bytes(),
        random.Random(0),
    )
    said = []
    for _ in range(150):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        Path("bad.ckpt").write_bytes(damaged)
        try:
            found = load("bad.ckpt").predict_proba(today())
        except ValueError as error:
            said.append(str(error))
        else:
            np.testing.assert_array_equal(found, good)
    assert len(said) > 75
    assert all(message.startswith("bad.ckpt ") for message in said)
    for size in range(0, len(content), len(content) // 20):
        Path("bad.ckpt").write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"bad\.ckpt"):
            load("bad.ckpt")


def test_it_needs_no_lightning(best):
    write(today(), "t.csv")
    code = "import sys; sys.argv[0] = 'x'; from predict import load; import polars as pl\n"
    code += "load(sys.argv[1]).predict(pl.read_csv('t.csv')); assert 'lightning' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code, best], env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60
    )
    assert done.returncode == 0


def test_a_network_of_ones_own_is_found_again(monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())
    Path("again.py").write_text("from torch import nn\n\nclass Net(nn.Linear):\n    pass\n")
    from importlib import import_module

    Net = import_module("again").Net  # noqa: N806
    write(mixed(), "t.csv")
    train(
        partial(Table, "t.csv", "kind"),
        Net,
        members=1,
        max_epochs=2,
        accelerator="cpu",
        pictures="none",
    )
    assert type(load("lightning_logs/version_0/checkpoints/best.ckpt").network) is Net
    assert isinstance(load(str(GOLDEN / "best_1.ckpt")).network, MLP)


def test_the_logarithms_of_the_probabilities(best, population):
    for checkpoint in (best, population):
        classifier = load(checkpoint)
        frame = mixed().drop("kind")
        logarithms = classifier.predict_log_proba(frame)
        np.testing.assert_array_equal(np.exp(logarithms).argmax(1), logarithms.argmax(1))
        np.testing.assert_allclose(np.exp(logarithms), classifier.predict_proba(frame), rtol=1e-5)
    network = load(best)
    far = pl.DataFrame({"size (cm)": [1e60], "colour": ["red"], "wet": [True]})
    certain = network.predict_proba(far) == 0  # without a warning of NumPy
    assert np.isneginf(network.predict_log_proba(far)[certain]).all()
