"""Random command lines from the commands' signatures, right and wrong values mixed.

`command_lines` yields lines, `run_line` runs one in this process up to the first training step.
tests/test_command_lines.py runs a few, bench/faults.py many.
"""

import contextlib
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from cli.command import command
from cli.parser import find_classes
from cli.registry import REGISTRY, base_class, usable_names
from cli.schema import SET_BY_PROGRAM, build_schema
from training.callbacks import FitBar
from training.run import Run

WRONG = [
    "", " ", "nan", ".nan", ".inf", "-1", "0", "1.5", "1e20", "1e400", "99999999999999999999",
    "[]", "[[1]]", "[1,", "[null]", "{}", "{a: 1}", "null", "~", "#", "no", "007", "true", "x",
    "x" * 3000, "[" * 50, "ł中", "../nowhere", "a: b", "*a", "!!binary x", "2024-12-31", "-", "--",
    "%", "MLP", "Adam", "Iris", "a.b", "os.path",
]  # fmt: skip
OTHER_KEYS = ["lr", "epochs", "config", "resume", "help.me", "trainer.", ".", "", "data.", "x.y.z"]


class Reached(BaseException):
    """The first training step: the line was accepted."""


class Outcome(NamedTuple):
    """What a line did: exit code (0: accepted), its message, a traceback, and what it left."""

    code: int | str | None
    message: str
    traceback: str
    left: list[str]


def command_lines(
    function: Callable[..., Any], count: int, seed: int, right: Mapping[str, Sequence[str]]
) -> Iterator[list[str]]:
    """Random lines for a command.

    Args:
        function: The command.
        count: How many lines.
        seed: The same seed gives the same lines.
        right: Right values of some arguments, by the last part of their names; those of positional
            arguments are needed.
    """
    for index in range(count):
        yield random_line(function, random.Random(f"{seed} {index}"), right)


def random_line(
    function: Callable[..., Any], rng: random.Random, right: Mapping[str, Sequence[str]]
) -> list[str]:
    """One to four settings, each right or wrong, in any order."""
    classes = random_classes(function, rng)
    schema = build_schema(function, find_classes(function, dict(classes)))
    positionals = [key for key, argument in schema.items() if argument.positional]
    options = [key for key in schema if key not in positionals]
    share = rng.choice([0.0, 0.0, 0.3, 0.7])  # of wrong values
    tokens = [f"--{component}={name}" for component, name in classes.items()]
    if "Table" in classes.values():
        tokens += [f"--data.{key}={right[key][0]}" for key in ("path", "target")]
    for key in rng.sample(options, min(len(options), rng.randint(1, 4))):
        tokens += random_setting(key, schema[key].hint, rng, right, share)
    if rng.random() < share / 5:
        tokens += [f"--{rng.choice([*OTHER_KEYS, *SET_BY_PROGRAM])}", rng.choice(WRONG)]
    if rng.random() < share / 10:
        tokens.append(f"--{rng.choice(options)}")  # its value is what follows, or nothing
    if "sweep" in function.__annotations__ and rng.random() < 0.2:
        key = rng.choice([*options, *REGISTRY])
        tokens += [
            f"--sweep.{key}",
            rng.choice([*WRONG, "[1, 2]", "[0.1, 0.2]", "{low: 1, high: 2}"]),
        ]
    values = [rng.choice(WRONG if rng.random() < share / 2 else right[key]) for key in positionals]
    return [*values, *tokens]


def random_classes(function: Callable[..., Any], rng: random.Random) -> dict[str, str]:
    """Other classes for some of the components."""
    classes = {}
    for component in REGISTRY.keys() & set(function.__annotations__):
        modules, base = REGISTRY[component]
        names = [
            usable
            for module in modules
            for usable in usable_names(component, module, base_class(base))
        ]
        if rng.random() < 0.15:
            classes[component] = rng.choice(sorted(names))
    return dict(sorted(classes.items()))


def random_setting(
    key: str, hint: Any, rng: random.Random, right: Mapping[str, Sequence[str]], share: float
) -> list[str]:
    """A flag with a value that its type takes; a share of the values are any other."""
    value = rng.choice(WRONG)
    if rng.random() >= share:
        value = rng.choice(right.get(key.rpartition(".")[2]) or [right_value(hint, rng)])
    if rng.random() < share / 10:
        key = key.replace(rng.choice(key), "", 1)  # a slip of the finger
    if rng.random() < 0.3 or value.startswith("--"):
        return [f"--{key}={value}"]
    return [f"--{key}", value]


def right_value(hint: Any, rng: random.Random) -> str:
    """A value of a type, as a user would write it."""
    origin = get_origin(hint)
    options = get_args(hint)
    if origin is Literal:
        return str(rng.choice(options))
    if hint in (int, float, bool, NoneType, str):
        values = {int: ["1", "2", "3"], float: ["0.1", "0.5"], bool: ["true", "false"]}
        return rng.choice(values.get(hint, ["null" if hint is NoneType else "text"]))
    if origin in (list, tuple):
        return f"[{', '.join(right_value(option, rng) for option in options if option is not ...)}]"
    if origin is dict:
        return f"{{{right_value(options[0], rng)}: {right_value(options[1], rng)}}}"
    return right_value(rng.choice(options), rng) if options else "1"


def run_line(function: Callable[..., Any], line: Sequence[str]) -> Outcome:
    """Run a line in an empty folder up to the first training step; the commands print nothing."""
    output = TextIOWrapper(BytesIO())  # predict.py writes bytes
    code: int | str | None = 0
    trace = ""
    folder = tempfile.mkdtemp()
    with contextlib.chdir(folder), contextlib.redirect_stdout(output):
        with contextlib.redirect_stderr(StringIO()) as errors, stopped_at_the_first_step():
            try:
                command(function, line)
            except Reached:
                pass
            except SystemExit as stop:
                code = stop.code
            except BaseException:
                code = 1
                trace = traceback.format_exc()
        left = sorted(str(path) for path in Path().rglob("*"))
    shutil.rmtree(folder)
    return Outcome(code or 0, errors.getvalue(), trace, left)


@contextlib.contextmanager
def stopped_at_the_first_step() -> Iterator[None]:
    """Let every run end with `Reached` when its fit starts, or would start other processes."""
    start = FitBar.on_train_start
    make = Run.__init__

    def reach(*_: Any) -> None:
        raise Reached

    def make_alone(run: Run, trainer: Any, *arguments: Any) -> None:
        if trainer.world_size > 1:
            raise Reached
        make(run, trainer, *arguments)

    FitBar.on_train_start = reach
    Run.__init__ = make_alone
    try:
        yield
    finally:
        FitBar.on_train_start = start
        Run.__init__ = make


def faults_of(line: Sequence[str], outcome: Outcome) -> list[str]:
    """What is wrong with how a line was answered; empty if it was accepted or refused as it should.

    A refusal is one line, names one of the line's flags, and leaves nothing.
    """
    if outcome.traceback:
        return [f"traceback: {outcome.traceback.strip().splitlines()[-1]}"]
    if outcome.code == 0:
        return []
    faults = []
    message = outcome.message
    if outcome.code != 2:
        faults.append(f"exit code {outcome.code}")
    lines = message.splitlines() or [""]  # torch may warn of a class before it is refused
    if not lines[-1].startswith("error: ") or message.count("error: ") != 1:
        faults.append("not one line")
    if len(lines[-1]) > 1100:
        faults.append(f"{len(message)} characters")
    if not any(name in message for name in names_of(line)):
        faults.append("names no flag")
    if outcome.left:
        faults.append(f"left {', '.join(outcome.left[:3])}")
    return [f"{fault}: {message.strip()[:300]}" for fault in faults]


def names_of(line: Sequence[str]) -> set[str]:
    """Words by which a message can name a flag or a positional argument of a line."""
    names = {"checkpoint", "table", "output", "unrecognized arguments", "standard input"}
    for token in line:
        key, _, value = token.removeprefix("--").partition("=")
        if token.startswith("--"):
            names |= {key, *(part.removesuffix("s") for part in key.split("."))}
            token = value
        if token.strip():
            names.add(token[:30] if len(token) > 1 else f"no file {token}")
    return names - {""}
