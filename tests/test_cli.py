"""The command line: what flags, files and named classes mean, and how bad input is refused."""

import importlib
import re
import sys
import tempfile
from contextlib import redirect_stdout
from functools import partial
from inspect import signature
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Optional, Union

import pytest
import torch
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from torch import nn
from torch.optim import SGD, AdamW

from cli.arguments import read_command_line
from cli.command import command
from cli.convert import convert, to_text, words
from cli.names import check_names, check_required
from cli.parser import find_classes, parse
from cli.registry import find
from cli.schema import BELONGS_TO, SET_BY_PROGRAM, Argument, build_schema, class_schema
from evaluate import evaluate
from model import recipe
from model.networks import MLP
from model.optimizers import ScaledAdamW
from predict import predict
from tests.helpers import ROOT
from train import train


def keywords(component, *argv):
    return parse(train, list(argv))[component].keywords


def print_config(function, argv):
    """What `--print_config` prints."""
    with redirect_stdout(StringIO()) as output, pytest.raises(SystemExit):
        parse(function, [*argv, "--print_config"])
    return output.getvalue()


def test_no_flag_is_the_recipe():
    arguments = parse(train, [])
    assert arguments["network"].func is MLP
    assert arguments["optimizer"].func is ScaledAdamW
    assert arguments["optimizer"].keywords == recipe.OPTIMIZER.keywords
    assert arguments["max_epochs"] == recipe.MAX_EPOCHS


def test_a_flag_changes_one_setting():
    assert keywords("optimizer", "--optimizer.lr", "0.5") == recipe.OPTIMIZER.keywords | {"lr": 0.5}
    assert keywords("network", "--network.hidden", "[8,4]", "--network.activation=Tanh") == {
        "hidden": [8, 4], "activation": "Tanh",
    }  # fmt: skip


def test_a_named_class_inherits_nothing():
    assert parse(train, ["--optimizer", "SGD"])["optimizer"].func is SGD
    assert (
        keywords("optimizer", "--optimizer", "SGD") == {}
    )  # neither the recipe's lr nor its weight decay
    assert keywords("optimizer", "--optimizer.lr", "0.5", "--optimizer", "SGD") == {
        "lr": 0.5
    }  # the order is free


def test_files_and_flags_from_left_to_right():
    Path("a.yaml").write_text("optimizer: {class: AdamW, lr: 0.5, weight_decay: 0.2}\nseed: 1\n")
    Path("b.yaml").write_text("optimizer: {lr: 0.25}\nnetwork: MLP\nschedule: null\n")
    line = ["--config", "a.yaml", "--config", "b.yaml"]
    assert keywords("optimizer", *line) == {"lr": 0.25, "weight_decay": 0.2}
    assert keywords("optimizer", *line, "--optimizer", "SGD", "--optimizer.momentum", "0.9") == {
        "momentum": 0.9
    }
    assert parse(train, line)["schedule"] is None
    assert parse(train, line)["seed"] == 1
    assert parse(train, [*line, "--seed", "2"])["seed"] == 2


def test_trainer_arguments_pass():
    arguments = parse(train, ["--trainer.gradient_clip_val", "0.5", "--devices", "[0]"])
    assert arguments["trainer"] == {"gradient_clip_val": 0.5}
    assert arguments["devices"] == [0]


@pytest.mark.parametrize("name", SET_BY_PROGRAM)
def test_what_the_program_sets_is_refused_with_the_reason(name):
    assert name in signature(Trainer).parameters
    with pytest.raises(ValueError, match=f"--trainer.{name} is set by the program: ") as refusal:
        parse(train, [f"--trainer.{name}", "1"])
    assert str(refusal.value).endswith(SET_BY_PROGRAM[name])


def test_an_argument_of_the_trainer_with_a_flag_of_its_own_is_refused():
    with pytest.raises(ValueError, match="flag of its own; give --max_epochs"):
        parse(train, ["--trainer.max_epochs", "1"])


def test_classes_of_torch_and_of_a_user():
    Path("mine.py").write_text("from torch import nn\nclass Net(nn.Linear):\n    pass\n")
    assert parse(train, ["--network", "Linear"])["network"].func is nn.Linear
    assert parse(train, ["--network", "torch.nn.Linear"])["network"].func is nn.Linear
    assert parse(train, ["--loss", "MSELoss"])["loss"].func.__module__ == "model.losses"


@pytest.mark.parametrize("loss", ["CrossEntropyLoss", "BCEWithLogitsLoss", "MSELoss"])
def test_print_config_is_read_back(loss, capsys):
    line = [
        "--network.hidden",
        "[8]",
        "--optimizer",
        "SGD",
        "--optimizer.lr",
        "1e-3",
        "--schedule",
        "null",
    ]
    line += ["--loss", loss]
    with pytest.raises(SystemExit) as stop:
        command(train, [*line, "--print_config"])
    assert not stop.value.code
    text = capsys.readouterr().out
    Path("c.yaml").write_text(text)
    with pytest.raises(SystemExit):
        command(train, ["--config", "c.yaml", "--print_config"])
    assert capsys.readouterr().out == text
    assert yaml.safe_load(text)["optimizer"] == {"class": "SGD", "lr": 0.001}


# PyYAML reads these three line breaks back as others.
LINE_BREAKS = "\x85\u2028\u2029"
TEXT = st.text(st.characters(exclude_characters=LINE_BREAKS, codec="utf-8"))
PATH = st.text(st.characters(exclude_characters=f"~$\0{LINE_BREAKS}", codec="utf-8"), min_size=1)
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "max_epochs": st.integers(),
        "patience": st.none() | st.integers(),
        "devices": st.integers() | st.lists(st.integers()),
        "log_dir": PATH,
        "pictures": st.lists(TEXT),
        "network": st.fixed_dictionaries(
            {"class": st.just("MLP")},
            optional={
                "hidden": st.lists(st.integers()),
                "activation": TEXT,
                "dropout": st.floats(allow_nan=False),
                "init_std": st.none() | st.floats(allow_nan=False),
            },
        ),
        "optimizer": st.fixed_dictionaries(
            {"class": st.just("AdamW")},
            optional={
                "lr": st.floats(allow_nan=False),
                "betas": st.lists(st.floats(allow_nan=False), min_size=2, max_size=2),
                "amsgrad": st.booleans(),
                "fused": st.none() | st.booleans(),
            },
        ),
        "schedule": st.none(),
        "trainer": st.fixed_dictionaries(
            {},
            optional={
                "gradient_clip_val": st.none() | st.floats(allow_nan=False),
                "limit_train_batches": st.integers() | st.floats(allow_nan=False),
                "deterministic": st.none() | st.booleans() | st.just("warn"),
            },
        ),
    },
)


@settings(deadline=None, max_examples=50)
@given(ARGUMENTS)
def test_every_value_of_a_file_comes_back_from_print_config(config):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        text = print_config(train, ["--config", str(path)])
        path.write_text(text, encoding="utf-8")
        assert print_config(train, ["--config", str(path)]) == text
    printed = yaml.safe_load(text)
    for key, value in config.items():
        if isinstance(value, dict):
            assert value.items() <= printed[key].items()
        else:
            assert printed[key] == value


@given(
    st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none() | st.lists(st.integers())
)
def test_a_value_is_the_same_as_text_and_as_yaml(value):
    hint = int | float | bool | list[int] | None
    assert convert("key", hint, value) == value
    assert convert("key", hint, to_text(value)) == value


@given(st.text())
def test_text_stays_text(text):
    assert convert("key", str, text) == text


def test_a_file_s_value_means_what_it_means_on_the_command_line():
    values = {
        "target": "no",
        "path": "007",
        "delimiter": "=",
        "stratify": "no",
        "batch_size": "0x10",
    }
    lines = "".join(f"  {name}: {value}\n" for name, value in values.items())
    Path("c.yaml").write_text(f"data:\n  class: Table\n{lines}log_dir: 2024-12-31\nseed: 1_0\n")
    arguments = parse(train, ["--config", "c.yaml"])
    read = arguments["data"].keywords
    assert read == {
        "target": "no", "path": "007", "delimiter": "=", "stratify": False, "batch_size": 16
    }  # fmt: skip
    assert (arguments["log_dir"], arguments["seed"]) == ("2024-12-31", 10)


def test_a_long_list_is_converted_in_pieces():
    values = list(range(1000))
    assert convert("hidden", list[int] | None, values) == values
    assert convert("hidden", int | list[int] | str, values) == values
    with pytest.raises(ValueError, match=r"--hidden is '\[0, 1, .*; expected int$"):
        convert("hidden", int, values)


def test_help_fits_two_screens_and_says_a_sentence_for_each_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(train, ["--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 132
    flags = re.split(r"\n  --", "\n".join(lines))[1:]
    assert len(flags) > 40
    for flag in flags:
        assert re.search(r"[.…](\s\([^\n]+\))?$", flag.split("\n\n")[0]), flag
    assert "==SUPPRESS==" not in "\n".join(lines)


def help_of(function, *argv):
    with redirect_stdout(StringIO()) as output, pytest.raises(SystemExit) as stop:
        parse(function, list(argv))
    assert stop.value.code == 0
    return output.getvalue()


def test_help_describes_the_named_classes_and_lists_the_trainer_on_request():
    assert "--network.bias true|false" in help_of(train, "--network", "Linear", "--help")
    assert "--schedule null" in help_of(train, "--schedule", "null", "-h")
    assert "--trainer.gradient_clip_val" not in help_of(train, "--help")
    with_trainer = help_of(train, "--trainer.help")
    # typing keeps one order of a Union for all of a process, whoever wrote it first.
    assert re.search(r"--trainer.gradient_clip_val (int\|float|float\|int)\|null", with_trainer)
    assert not any(f"--trainer.{name} " in with_trainer for name in SET_BY_PROGRAM)


def test_help_of_a_command_with_positional_arguments():
    text = help_of(predict, "--help")
    assert "predict.py" not in text.partition(" CHECKPOINT TABLE")[2].splitlines()[0]
    assert re.search(r"^  CHECKPOINT +A run's best.ckpt", text, re.MULTILINE)
    assert re.search(r"^  --score true\|false +.*\. \(false\)$", text, re.MULTILINE)
    assert "--config" not in text


@pytest.mark.parametrize(
    ("tokens", "settings", "positionals"),
    [
        (["--lr", "-1e-3"], {"lr": "-1e-3"}, []),
        (["--lr=-1"], {"lr": "-1"}, []),
        (["a", "-", "--output=x=y"], {"output": "x=y"}, ["a", "-"]),
        (["--output", "-"], {"output": "-"}, []),
        (["--output="], {"output": ""}, []),
        (["--score", "a", "b"], {"score": "true"}, ["a", "b"]),
        (["--score", "False", "a"], {"score": "False"}, ["a"]),
        (["--score"], {"score": "true"}, []),
        (["--", "--odd.csv"], {}, ["--odd.csv"]),
        (["--seed", "1", "--seed", "2"], {"seed": "2"}, []),
        (["--compare", "a", "b", "--seed", "1"], {"compare": ["a", "b"], "seed": "1"}, []),
        (["--sweep.lr", "[1, x]"], {"sweep.lr": [1, "x"]}, []),
    ],
)
def test_reading_a_command_line(tokens, settings, positionals):
    line = read_command_line(tokens, booleans=["score"])
    assert line.settings == settings
    assert line.positionals == positionals
    assert not line.incomplete


def test_a_flag_without_its_value_is_kept_until_its_name_is_checked():
    line = read_command_line(["--config", "a.yaml", "--help", "--lr", "--seed"])
    assert line.configs == ["a.yaml"]
    assert line.switches == {"help"}
    assert line.incomplete == ["lr", "seed"]
    with pytest.raises(ValueError, match="print_config is '1'; it takes no value"):
        read_command_line(["--print_config=1"])


def test_finding_the_classes_leaves_the_arguments():
    settings = {"optimizer": "SGD", "optimizer.lr": "1", "schedule": None}
    factories = find_classes(train, settings)
    assert factories["optimizer"].func is SGD
    assert factories["optimizer"].keywords == {}
    assert factories["schedule"] is None
    assert factories["network"].func is MLP
    assert settings == {"optimizer.lr": "1"}


def test_the_schema_has_the_arguments_of_the_named_classes():
    schema = build_schema(train, find_classes(train, {"optimizer": "SGD", "schedule": None}))
    assert schema["seed"] == Argument(int, 0)
    assert schema["optimizer.momentum"] == Argument(float, 0)
    assert schema["trainer.max_steps"] == Argument(int, -1)
    assert "optimizer.params" not in schema
    assert "optimizer.betas" not in schema
    assert "loss.weight" not in schema
    assert not any(key.startswith("schedule.") for key in schema)
    defaults = build_schema(train, {"optimizer": partial(AdamW, lr=0.5)})
    assert defaults["optimizer.lr"].default == 0.5
    schema = build_schema(predict, {})
    positionals = [key for key, argument in schema.items() if argument.positional]
    assert positionals == ["checkpoint", "table"]


NETWORKS = """
from __future__ import annotations
from typing import TYPE_CHECKING, Literal
from torch import nn
from model.networks import MLP
if TYPE_CHECKING:
    from collections.abc import Sequence
    from nowhere import Unknown

class Outer(nn.Module):
    def __init__(self, features, classes, kind: Literal["a", "b"] = "a", other: Unknown = None,
                 untyped=3, sizes: Sequence[int] = (), *, needed: int, **kwargs):
        super().__init__()
        self.inner = MLP(features, classes, **kwargs)

class Fixed(MLP):
    def __init__(self, features, classes, width: int = 3, **kwargs):
        super().__init__(features, classes, hidden=[width], **kwargs)
"""


def test_the_schema_of_a_class_that_passes_keywords_on(monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())
    Path("networks_of_a_user.py").write_text(NETWORKS)
    schema = class_schema(find("network", "networks_of_a_user.Outer"))
    assert list(schema) == [
        "features", "classes", "kind", "other", "untyped", "sizes", "needed",
        "hidden", "activation", "dropout", "init_std", "embedding", "numbers",
    ]  # fmt: skip
    assert words(schema["kind"].hint) == "a|b"
    assert words(schema["sizes"].hint) == "[int, ...]"
    assert convert("untyped", schema["untyped"].hint, "5") == 5
    assert convert("other", schema["other"].hint, "x") == "x"
    assert convert("hidden", schema["hidden"].hint, "[8]") == [8]
    with pytest.raises(ValueError, match=r"the following arguments are required: .*needed"):
        check_required([], schema)
    fixed = class_schema(find("network", "networks_of_a_user.Fixed"))
    assert "hidden" not in fixed
    assert fixed["dropout"] == Argument(float, 0.0)


@given(st.text(st.characters(exclude_characters="."), min_size=1))
def test_an_unknown_name_is_refused_in_one_line(name):
    assume(name not in BELONGS_TO)  # refused with the command that takes it
    schema = {"seed": Argument(int, 0), "max_epochs": Argument(int, 1)}
    if name in schema:
        check_names([name], schema)
        return
    with pytest.raises(ValueError, match=r"is not known; nearest: (seed|max_epochs)") as refusal:
        check_names([name], schema)
    assert "\n" not in str(refusal.value)


def test_the_values_of_a_sweep_have_the_type_of_their_argument():
    line = ["--schedule", "StepLR", "--schedule.step_size", "3"]
    line += ["--sweep.optimizer.lr", "[1, 1e-3]", "--sweep.optimizer.betas", "[[0, 0.5]]"]
    line += ["--sweep.network", "[MLP, torch.nn.Linear]", "--sweep.schedule", "[null, StepLR]"]
    sweep = parse(evaluate, line)["sweep"]
    assert sweep == {
        "optimizer.lr": [1.0, 0.001],
        "network": ["MLP", "Linear"],
        "schedule": [None, "StepLR"],
        "optimizer.betas": [[0.0, 0.5]],
    }
    assert isinstance(sweep["optimizer.lr"][0], float)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--sweep.schedule [StepLR]", "the following arguments are required: schedule.step_size"),
        ("--network.hidden [8] --sweep.network [MLP,Linear]", "'network.hidden' is not known"),
        ("--sweep.network [MLP,Lin]", "network 'Lin' is not known; nearest: Linear"),
        ("--sweep.network [null]", "network 'null' is not known"),
        ("--sweep.seed [1,x]", "--seed is 'x'; expected int"),
    ],
)
def test_each_value_of_a_sweep_is_checked(line, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(evaluate, line.split())


def test_files_are_compared_by_what_is_learned():
    Path("a.yaml").write_text("network: {class: MLP, hidden: [8]}\nsweep: null\n")
    Path("b.yaml").write_text("network: Linear\npictures: none\n")
    line = ["--compare", "a.yaml", "b.yaml", "--seed", "3"]
    arguments = parse(evaluate, line)
    assert arguments["seed"] == 3
    assert arguments["network"].keywords == {"hidden": [8]}
    assert list(arguments["compare"]) == ["a.yaml", "b.yaml"]
    assert arguments["compare"]["b.yaml"]["network"]["class"] == "Linear"
    text = print_config(evaluate, line)
    assert "&id" not in text
    Path("c.yaml").write_text(text)
    assert parse(evaluate, ["--config", "c.yaml"])["compare"] == arguments["compare"]
    Path("b.yaml").write_text("seed: 1\n")
    with pytest.raises(ValueError, match=r"seed is 0 in a.yaml and 1 in b.yaml; only network, "):
        parse(evaluate, line[:3])


def test_short_names_are_found_in_the_package_that_holds_cli(monkeypatch):
    Path("installed").mkdir()
    for folder in ("cli", "model"):
        Path("installed", folder).symlink_to(ROOT / folder)
    monkeypatch.syspath_prepend(Path.cwd())
    registry = importlib.import_module("installed.cli.registry")
    assert registry.REGISTRY["data"][0][0] == "installed.data.iris"
    assert registry.find("network", "MLP").__module__ == "installed.model.networks"
    for name in [name for name in sys.modules if name.partition(".")[0] == "installed"]:
        monkeypatch.delitem(sys.modules, name)


BAD = {
    "--accelerator gpuu": "--accelerator 'gpuu' is not known; nearest: gpu",
    "--network.activation Relu": "activation 'Relu' is not known; nearest: ReLU",
    "--loss CrossEntropy": "loss 'CrossEntropy' is not known; nearest: CrossEntropyLoss",
    "--loss L1Loss": "the loss must take (rows, classes) logits and (rows,) class indices: ",
    "--loss.reduction none": "the loss is of shape (4,); give one that is a scalar",
    "--network ReLU": "the network is called with the numbers of features and of classes: ",
    "--network Flatten": "network Flatten has no parameters; give one that learns",
    "--optimizer AdamWW": "optimizer 'AdamWW' is not known; nearest: AdamW",
    "--schedule StepLr2": "schedule 'StepLr2' is not known; nearest: StepLR",
    "--schedule StepLR": "schedule.step_size",
    "--data Irys": "data 'Irys' is not known; nearest: Iris",
    "--network nowhere.Net": "network 'nowhere.Net' cannot be imported: No module named 'nowhere'; "
    "put its file beside train.py, or the file's folder on PYTHONPATH",
    "--network json.dumps": "'json.dumps' is not a class that inherits from torch.nn.Module",
    "--network null": "network",
    "--network": "argument --network: expected one argument",
    "--learning_rate 0.1": "setting 'learning_rate' is not known; nearest: ",
    "--optimizer.lrr 0.1": "setting 'optimizer.lrr' is not known; nearest: optimizer.lr",
    "extra": "unrecognized arguments: extra",
    "--max_epochs many": "--max_epochs is 'many'; expected int",
    "--patience 0": "patience is 0; give 1 or more epochs",
    "--max_epochs 2 --schedule.pct_start 0.5": "the schedule cannot run in 2 steps; give a ",
    "--data TabularData": "TabularData must define load(self) -> RawTable",
    "--network ..x": "network '..x' cannot be imported",
    "--max_epochs 0": "max_epochs is 0; give 1 or more",
    "--patience x": "--patience is 'x'; expected int|null",
    "--network.hidden [8,x]": "--network.hidden is '[8,x]'; expected [int, ...]",
    "--precision 31": "--precision '31' is not known; nearest: 32-true",
    "--config none.yaml": "none.yaml",
    "--config malformed.yaml": "malformed.yaml is not YAML: ",
    "--config list.yaml": "list.yaml holds no settings",
    "--config type.yaml": "--max_epochs is '[1]'; expected int",
    "--config key.yaml": "setting 'netwrk' is not known; nearest: network",
    "--optimizer.lr 0": "lr is 0.0; give a finite number above 0",
    "--optimizer.lr -1": "lr is -1.0; give a finite number above 0",
    "--optimizer SGD --optimizer.differentiable true": "optimizer.differentiable is true",
    "--optimizer RMSprop --optimizer.capturable true": "optimizer.capturable is true",
    "--optimizer.lr .inf": "lr is inf; give a finite number above 0",
    "--optimizer.betas [2,2]": "Invalid beta parameter",
    "--schedule.pct_start 2": "pct_start",
    "--network.hidden [0]": "hidden is [0]; every width must be 1 or more",
    "--trainer.logger true": "--trainer.logger is set by the program: curves go to TensorBoard in",
    "--trainer.foo 1": "setting 'trainer.foo' is not known; nearest: trainer.",
    "--print_config=1": "--print_config is '1'; it takes no value",
    "--schedule LambdaLR": "the following arguments are required: schedule.lr_lambda",
    "--data.batch_size 0": "batch_size is 0; give 1 or more",
    "--data.test_fraction 0.01": "without some of the 3 classes",
    "--data.val_fraction 0.9": "leave rows to train on",
    "--log_dir a_file/logs": "log_dir 'a_file/logs' cannot be written: Not a directory; ",
    "--pictures Regionss": "picture 'Regionss' is not known; nearest: Regions",
    "--pictures [Card,Wieghts]": "picture 'Wieghts' is not known; nearest: Weights",
    "--pictures fnal": "picture 'fnal' is not known; nearest: final",
    "--resume none.ckpt": "resume is 'none.ckpt', which is not in a run's folder",
    "--resume cut/checkpoints/last.ckpt": "cut/checkpoints/last.ckpt is damaged",
    "--devices 0": "devices",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(line, capsys):
    Path("a_file").write_text("")
    for name, text in {
        "malformed": "a: [",
        "list": "- 1",
        "type": "max_epochs: [1]",
        "key": "netwrk: MLP",
    }.items():
        Path(f"{name}.yaml").write_text(text)
    Path("cut/checkpoints").mkdir(parents=True)
    Path("cut/config.yaml").write_text("max_epochs: 100")
    Path("cut/checkpoints/last.ckpt").write_bytes(b"PK\x03\x04 cut short")
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        command(train, line.split())
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert BAD[line] in captured.err
    assert sorted(path for path in Path().rglob("*") if path.name != "lightning_logs") == before


@pytest.mark.parametrize(
    "config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_committed_config_is_understood(config):
    parse(train, ["--config", str(config)])


@pytest.mark.parametrize(
    ("function", "line", "message"),
    [
        (train, "--lr 1", "'lr' is not known; nearest: optimizer.lr"),
        (train, "--learning_rate 1", "nearest: optimizer.lr"),
        (train, "--batch_size 1", "nearest: data.batch_size"),
        (train, "--epochs 1", "nearest: max_epochs"),
        (train, "--fast_dev_run 1", "--fast_dev_run is set by the program: it would write no"),
        (evaluate, "--trainer.max_epochs 1", "has a flag of its own; give --max_epochs"),
        (evaluate, "--trainer.fast_dev_run 1", "--trainer.fast_dev_run is set by the program"),
        (evaluate, "--pictures none", "--pictures belongs to train.py"),
        (train, "--schedule ChainedScheduler", "schedule ChainedScheduler is made of others"),
        (train, "--schedule torch.optim.lr_scheduler.SequentialLR", "SequentialLR is made of oth"),
        (train, "--network LazyLinear", "LazyLinear takes its sizes from a batch; give Linear"),
        (train, "--network HingeEmbeddingLoss", "is a loss; give it with --loss Hinge"),
        (train, "--optimizer SparseAdam", "optimizer SparseAdam takes sparse gradients alone"),
        (train, "--schedule LRScheduler", "schedule LRScheduler is a base class; give a class"),
        (train, "--optimizer Optimizer", "optimizer Optimizer is a base class"),
        (train, "--loss Loss", "loss 'Loss' is not known; nearest: L1Loss"),
        (train, "--data Tabular", "data 'Tabular' is not known; nearest: Table"),
        (train, "--seed -1", "--seed is -1; give a number from 0 to 4294967295"),
        (train, "--seed=", "--seed is ''; expected int"),
        (train, "--network.hidden=", "--network.hidden is ''; expected [int, ...]"),
        (train, "--log_dir=", "--log_dir is ''; give a path"),
        (train, "--resume=", "--resume is ''; give a path"),
        (train, "--config=", "--config or --compare '' cannot be read: Is a directory"),
        (train, "--config x", "--config or --compare 'x' cannot be read: No such file"),
        (evaluate, "--compare x y", "--config or --compare 'x' cannot be read: No such file"),
    ],
)
def test_a_refusal_names_the_flag_that_helps(function, line, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(function, line.split())


@pytest.mark.parametrize(
    "flag", ["--network", "--max_epochs", "--nothing", "--data.path", "--config"]
)
def test_a_long_value_is_shortened(flag, capsys):
    with pytest.raises(SystemExit):
        command(train, [flag, "x" * 3000])
    error = capsys.readouterr().err
    assert flag.removeprefix("--data.").strip("-") in error
    assert len(error) < 1010


@pytest.mark.parametrize("text", ["#", "~", "no", "007", "1e3", "2024-12-31", "[a", "--", "*a"])
def test_text_stays_text_where_the_signature_says_so(text):
    line = ["--data", "Table", "--data.path=a.csv", f"--data.target={text}"]
    data = parse(train, [*line, f"--data.delimiter={text}", f"--log_dir={text}x"])["data"]
    assert data.keywords["target"] == text
    assert data.keywords["delimiter"] == text


def test_text_stays_text_in_lists():
    assert convert("key", list[str] | None, "[no, 007, 1e3]") == ["no", "007", "1e3"]
    assert convert("key", list[str | int | float], "[no, -999]") == ["no", "-999"]
    assert convert("key", dict[str, str], "{no: '%d'}") == {"no": "%d"}
    assert convert("key", list[str] | None, "null") is None
    with pytest.raises(ValueError, match="expected"):
        convert("key", list[str] | None, "[[a]]")


def test_paths_are_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("RUNS", "/runs")
    line = ["--data", "Table", "--data.target=x", "--data.path=~/a.csv", "--data.test_path=$RUNS/b"]
    arguments = parse(train, [*line, "--log_dir", "${RUNS}/iris"])
    assert arguments["log_dir"] == "/runs/iris"
    assert arguments["data"].keywords["path"] == "/home/me/a.csv"
    assert arguments["data"].keywords["test_path"] == "/runs/b"
    assert parse(predict, ["~/a.ckpt", "-", "--output", "~"])["checkpoint"] == "/home/me/a.ckpt"
    Path("$RUNS").touch()
    assert parse(train, ["--log_dir", "$RUNS"])["log_dir"] == "$RUNS"  # there is such a file


def test_a_name_that_standard_output_cannot_encode_is_escaped(monkeypatch):
    output = TextIOWrapper(BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", output)
    command(lambda: print("ł"), [])
    output.flush()
    assert output.buffer.getvalue() == rb"\u0142" + b"\n"


def test_a_whole_number_stays_one_whatever_the_order_of_a_union():
    for hint in (Optional[Union[float, int]], Union[float, int], float | int | None):  # noqa: UP007, UP045
        assert type(convert("batches", hint, "1")) is int
        assert type(convert("batches", hint, "0.5")) is float


def test_a_full_gpu_is_one_line(capsys):
    def fill():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(SystemExit) as stop:
        command(fill, [])
    error = capsys.readouterr().err
    assert stop.value.code == 1
    assert "give a smaller --data.batch_size" in error
    assert error.count("\n") == 1
