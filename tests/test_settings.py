"""The settings of a resumed run are those of its folder; what may change is listed."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from cli.command import command
from tests.helpers import ROOT, run, weights
from train import train
from training.resume import CHANGEABLE, differs

RUN = Path("lightning_logs/version_0")
LAST = RUN / "checkpoints" / "last.ckpt"
SHORT = ("--max_epochs", "3", "--pictures", "none", "--data.batch_size", "30")
FREE = (*SHORT, "--optimizer", "SGD", "--optimizer.lr", "0.1", "--schedule", "null")


def digests(folder):
    """The bytes of every file of a folder, as digests."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folders of two runs: with the default schedule, and without a length of their own."""
    folder = tmp_path_factory.mktemp("finished")
    for line in (SHORT, FREE):
        command(train, [*line, "--accelerator", "cpu", "--log_dir", str(folder / "lightning_logs")])
    return folder


@pytest.fixture
def _finished(finished):
    shutil.copytree(finished / "lightning_logs", "lightning_logs")


def refused(*line):
    """The message with which a resume is refused; no byte of any run has changed."""
    before = digests(Path("lightning_logs"))
    with pytest.raises(SystemExit) as end:
        command(train, list(line))
    assert end.value.code == 2
    assert digests(Path("lightning_logs")) == before


REFUSED = {
    "--optimizer.lr 0.5": ["optimizer.lr is 0.5 and not null", "leave out --optimizer.lr, or"],
    "--optimizer SGD": ["optimizer is SGD and not ScaledAdamW; leave out --optimizer, or"],
    "--schedule null": ["schedule is null and not OneCycleLR"],
    "--schedule CosineAnnealingLR": ["schedule is CosineAnnealingLR and not OneCycleLR"],
    "--network.activation ReLU --seed 3": [
        "network.activation is ReLU and not SiLU, seed is 3 and not 0",
        "leave out --network.activation, --seed, or start a new run without --resume",
    ],
    "--loss MSELoss": ["loss is MSELoss and not CrossEntropyLoss"],
    "--precision 64-true": ["precision is 64-true and not 32-true"],
    "--members 2": ["members is 2 and not null"],
    "--metric auroc": ["metric is auroc and not log_loss"],
    "--data.batch_size 4": ["data.batch_size is 4 and not 30"],
    "--data.split_seed 5": ["data.split_seed is 5 and not 0"],
    "--data.val_fraction 0.1": ["data.val_fraction is 0.1 and not 0.0"],
    "--log_dir other": ["log_dir is other and not "],
    "--trainer.gradient_clip_val 1": ["trainer.gradient_clip_val is 1 and not null"],
    "--max_epochs 2": ["max_epochs is 2, but the run to resume has 3; leave --max_epochs out"],
    "--max_epochs 9": [
        "max_epochs is 9, but schedule OneCycleLR of the run to resume was made for 3 epochs; "
        "leave --max_epochs out, or start a new run without --resume"
    ],
}


@pytest.mark.usefixtures("_finished")
@pytest.mark.parametrize("line", REFUSED)
def test_other_settings_are_refused_by_name(line, capsys):
    refused("--resume", str(LAST), *line.split())
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in REFUSED[line]:
        assert part in error


@pytest.mark.usefixtures("_finished")
@pytest.mark.parametrize("schedule", ["CosineAnnealingLR", "OneCycleLR"])
def test_a_length_is_part_of_a_schedule(schedule, capsys):
    run(*FREE, "--schedule", schedule, "--log_dir", "lightning_logs")
    refused("--resume", "lightning_logs/version_2", "--max_epochs", "9")
    assert f"schedule {schedule} of the run to resume was made for 3" in capsys.readouterr().err


@pytest.mark.usefixtures("_finished")
def test_a_run_goes_on_for_more_epochs_as_if_it_had_had_them():
    line = ["--accelerator", "cpu", "--resume", "lightning_logs/version_1"]
    command(train, [*line, "--max_epochs", "5"])
    run_dir = Path("lightning_logs/version_1")
    assert json.loads((run_dir / "result.json").read_text())["epochs"] == 5
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["max_epochs"] == 5
    command(train, [*FREE, "--accelerator", "cpu", "--max_epochs", "5"])
    longer = weights(run_dir / "checkpoints" / "best.ckpt")
    whole = weights("lightning_logs/version_2/checkpoints/best.ckpt")
    assert all(torch.equal(longer[name], whole[name]) for name in whole)
    command(train, line)  # the longer run is a run like any other
    assert json.loads((run_dir / "result.json").read_text())["epochs"] == 5


@pytest.mark.usefixtures("_finished")
@pytest.mark.parametrize(
    "line",
    [
        ["--resume", str(LAST)],
        ["--resume", str(RUN)],
        ["--config", str(RUN / "config.yaml"), "--resume", str(LAST)],
        ["--resume", str(LAST), "--loggers", "[csv]", "--pictures", "[Card]", "--patience", "5"],
        ["--resume", str(LAST), "--trainer.log_every_n_steps", "2"],
    ],
)
def test_what_is_not_given_comes_from_the_folder(line):
    before = yaml.safe_load((RUN / "config.yaml").read_text())
    command(train, [*line, "--accelerator", "cpu"])
    after = yaml.safe_load((RUN / "config.yaml").read_text())
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {flag.removeprefix("--").partition(".")[0] for flag in line[2::2]} - {
        "config",
        "resume",
    }


@pytest.mark.usefixtures("_finished")
def test_from_python_a_resumed_run_keeps_its_settings_too():
    with pytest.raises(ValueError, match=r"max_epochs is 100, but schedule|data.batch_size is"):
        train(accelerator="cpu", resume=str(LAST))


@pytest.mark.usefixtures("_finished")
def test_a_checkpoint_of_another_run_is_refused(capsys):
    shutil.copy("lightning_logs/version_1/checkpoints/last.ckpt", LAST)
    refused("--resume", str(LAST))
    assert "config.yaml has not its optimizer" in capsys.readouterr().err


def test_a_table_that_changed_is_refused(capsys):
    text = (ROOT / "examples" / "flowers.csv").read_text()
    Path("t.csv").write_text(text)
    table = ("--data", "Table", "--data.path", "t.csv", "--data.target", "species")
    run(*table, "--members", "1", "--max_epochs", "2", "--pictures", "none")
    lines = text.splitlines()
    Path("t.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    refused("--resume", str(LAST))
    assert "trained on other rows" in capsys.readouterr().err


@pytest.mark.usefixtures("_finished")
def test_a_config_of_an_older_version_has_fewer_settings():
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    for name in ("metric", "members", "loggers"):
        del config[name]
    del config["network"]["embedding"]
    (RUN / "config.yaml").write_text(yaml.safe_dump(config))
    command(train, ["--resume", str(LAST)])


@pytest.mark.parametrize("resume", ["none.ckpt", "a/b/c.ckpt", "."])
def test_what_is_no_run_is_refused(resume, capsys):
    with pytest.raises(SystemExit) as end:
        command(train, ["--resume", resume])
    assert end.value.code == 2
    message = f"error: resume is {resume!r}, which is not in a run's folder"
    assert capsys.readouterr().err.startswith(message)


def test_plain_data_of_another_version_may_have_other_keys():
    assert not differs({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2, "c": 3}], "d": 4})
    assert differs({"a": [1, 2]}, {"a": [1]})
    assert differs({"a": 1}, {"a": None})


def test_the_docs_list_what_may_change():
    text = (ROOT / "docs" / "command-line.md").read_text()
    section = text.partition("## Resuming")[2]
    for key in CHANGEABLE:
        assert f"`--{key}`" in section, key
