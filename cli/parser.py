"""A typed function becomes a command: its signature is the command line, its docstring the help.

A noun (model/spec.py) is a class: `--network MLP` names it, `--network.hidden` is an argument of its own. So the flags
depend on the flags: a first look finds the classes, then jsonargparse gets a parser made for just those. A class that
is named starts from its own defaults, one that is not named keeps the function's.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from textwrap import shorten
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

import docstring_parser
import torch
import yaml
from jsonargparse import ArgumentParser

from cli.component import REGISTRY, describe, find, flatten, to_config
from cli.errors import unknown

# Parameters that are no flags, most since the program passes them: so many positional ones, and those of these names.
PASSED: dict[str, set[str | int]] = {
    "data": set(),
    "network": {2},
    "loss": {"weight", "size_average", "reduce"},  # a tensor, and two that torch deprecates
    "optimizer": {1},
    "schedule": {1, "total_steps", "epochs", "steps_per_epoch", "T_max", "max_lr", "last_epoch"},
}
# Arguments of the Trainer that the program sets itself.
OURS = {
    "logger",
    "callbacks",
    "enable_checkpointing",
    "enable_progress_bar",
    "enable_model_summary",
    "fast_dev_run",
}
OURS |= {"barebones", "default_root_dir", "num_sanity_val_steps", "plugins", "model_registry"}


def load(path: str) -> dict[str, Any]:
    """A YAML file as flat keys: `network: {class: MLP, hidden: [8]}` is `network: MLP` and `network.hidden: [8]`."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no settings; give lines such as 'max_epochs: 100'")
    return flatten(content)


def words(hint: Any) -> str:
    """A type as a user would write its values.

    >>> words(int | None), words(list[int]), words(bool)
    ('int|null', '[int, ...]', 'true|false')
    """
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return "|".join(
            dict.fromkeys(words(option) for option in get_args(hint) if option is not torch.Tensor)
        )
    if get_args(hint):
        return f"[{words(get_args(hint)[0])}, ...]"
    return {bool: "true|false", NoneType: "null", str: "text"}.get(
        hint, getattr(hint, "__name__", "value")
    )


def sentence(text: str | None) -> str:
    """The first sentence of a docstring's entry, without its markup and defaults.

    >>> sentence("weight decay :attr:`coefficient` (default: 1e-2). More")
    'Weight decay coefficient.'
    """
    first = re.split(
        r"\.\s+(?=[A-Z])|\s*\(?[Dd]efaults?:|\n\n", re.sub(r":\w+:|`", "", text or "")
    )[0].strip(" .\n")
    return " ".join(f"{first[:1].upper()}{first[1:]}.".split())


class Lines(argparse.HelpFormatter):
    """Help with a flag, its type, a sentence and its default on a line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=42, width=132)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        hint = getattr(action, "_typehint", None)
        if not action.option_strings:
            return action.dest.upper()
        return f"{action.option_strings[-1 if hint is None else 0]} {words(hint) if hint else action.metavar or ''}"

    def _get_help_string(self, action: argparse.Action) -> str:
        default = action.default if hasattr(action, "_typehint") else None
        shown = (
            ""
            if default is None
            else f" ({default if isinstance(default, str) else json.dumps(default)})"
        )
        return (
            shorten(sentence(action.help), 88 - len(shown), placeholder=" ...") + shown
        ).replace("%", "%%")


class Parser(ArgumentParser):
    """jsonargparse's parser, with its errors in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        key = re.match(r'Parser key "(.+?)"', message)
        action = next((action for action in self._actions if key and action.dest == key[1]), None)
        if key and action:
            given = (
                " ".join(self.args).rpartition(f"--{key[1]}")[2].lstrip("= ").partition(" --")[0]
            )
            hint = getattr(action, "_typehint", None)
            message = f"--{key[1]} is {given!r}; expected {words(hint)}"
            if get_origin(hint) is Literal:
                message = unknown(f"--{key[1]}", given, get_args(hint))
        raise ValueError(message)


def parse(function: Callable[..., Any], argv: list[str], one: bool = False) -> dict[str, Any]:
    """The arguments that the command line and its YAML files give `function`; a noun as a `partial` of its class.

    With `one` setting alone: without sweep and compare.
    """
    parameters = signature(function).parameters
    nouns = [name for name in parameters if name in REGISTRY]
    many, argv = taken(argv) if "sweep" in parameters else ({}, argv)
    if files := many.get("compare"):
        return compared(function, files, argv)

    # First look: the files, and the classes that are named. A file is a command line written down.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("config", *nouns):
        first.add_argument(f"--{option}", action="append", default=[])
    first.add_argument("--print_config", action="store_true")
    try:
        named, flags = first.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error
    given: dict[str, Any] = {}
    line = {noun: names[-1] for noun in nouns if (names := getattr(named, noun))}
    for source in (*map(load, named.config), line):
        for noun in set(nouns) & set(source):  # another class, other arguments
            given = {key: value for key, value in given.items() if not key.startswith(f"{noun}.")}
        given |= source
    sweep = {key[6:]: given.pop(key) for key in list(given) if key.startswith("sweep.")} | many.get(
        "sweep", {}
    )
    compare = {key[8:]: given.pop(key) for key in list(given) if key.startswith("compare.")}
    for name in {"trainer", "sweep", "compare"} & set(given):
        del given[name]  # null in a file that a run wrote
    if "pictures" not in parameters:
        given.pop("pictures", None)  # of a file that train.py wrote for a command that draws none

    # Second look, with a parser made for these classes.
    doc = docstring_parser.parse(function.__doc__ or "")
    about = {entry.arg_name: sentence(entry.description) for entry in doc.params}
    positional = [
        name for name, parameter in parameters.items() if parameter.default is parameter.empty
    ]
    usage = " ".join(["%(prog)s", *(name.upper() for name in positional), "[--FLAG VALUE] ..."])
    if nouns:
        usage = "%(prog)s [--config FILE] [--NOUN CLASS] [--FLAG VALUE] ..."
    parser = Parser(
        usage=usage, description=doc.short_description, formatter_class=Lines, allow_abbrev=False
    )
    if nouns:
        parser.add_argument(
            "--config",
            metavar="FILE",
            help="YAML file of settings; what stands further right wins.",
        )
        parser.add_argument(
            "--print_config", action="store_true", help="Print all settings as YAML and stop."
        )
    parser.add_function_arguments(
        function, as_group=False, as_positional=True, skip={*nouns, "trainer", "sweep", "compare"}
    )
    if "sweep" in parameters:
        parser.add_argument("--sweep.NOUN.ARGUMENT", metavar="[VALUE, ...]", help=about["sweep"])
        parser.add_argument("--compare", metavar="FILE FILE ...", help=about["compare"])
    factories: dict[str, partial[Any]] = {}
    for noun in nouns:
        factory = parameters[noun].default
        if noun in given:
            name = given.pop(noun)
            factory = (
                None if noun == "schedule" and name in (None, "null") else find(noun, str(name))
            )
        spec = describe(noun, factory)
        group = parser.add_argument_group(
            f"--{noun} {spec['class'] if spec else 'null'}  {about[noun].rstrip('.')}"
        )
        if factory is not None:
            factories[noun] = bound = partial(factory)  # one level, also where it was a partial
            options = {"skip": PASSED[noun], "fail_untyped": False, "default": bound.keywords}
            group.add_class_arguments(bound.func, noun, as_group=False, **options)
    if "trainer" in parameters:
        from lightning.pytorch import Trainer

        group = parser.add_argument_group(
            f"--trainer.*  {about['trainer']} --trainer.help lists it"
        )
        group.add_class_arguments(Trainer, "trainer", as_group=False, skip=OURS | set(parameters))
        if "--trainer.help" not in flags:
            for action in group._group_actions:
                action.help = argparse.SUPPRESS
    for action in parser._actions:
        if action.dest.endswith(".help"):  # jsonargparse's, for arguments that are classes
            action.help = argparse.SUPPRESS

    tokens = [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in given.items()
    ]
    tokens += ["--help" if flag == "--trainer.help" else flag for flag in flags]
    switches = {
        f"--{name}" for name, parameter in parameters.items() if parameter.annotation is bool
    }
    for i, token in enumerate(tokens):
        if token in switches and "".join(tokens[i + 1 : i + 2]).lower() not in ("true", "false"):
            tokens[i] = f"{token}=true"
    keys = {token[2:].partition("=")[0] for token in tokens if token.startswith("--")}
    known = {option.strip("-+") for option in parser._option_string_actions}
    for key in sorted(keys - known):
        raise ValueError(unknown("setting", key, {*known, *nouns}))
    values = parser.parse_args(tokens)

    arguments: dict[str, Any] = {}
    for name in parameters:
        if name in factories:
            own = {key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")}
            chosen = {key: values[f"{name}.{key}"] for key in own | set(factories[name].keywords)}
            arguments[name] = partial(factories[name].func, **chosen)
        elif name == "trainer":
            arguments[name] = {key[8:]: values[key] for key in keys if key.startswith("trainer.")}
        elif name == "sweep":
            arguments[name] = (not one and typed(function, sweep, argv)) or None
        elif name == "compare":
            arguments[name] = (not one and compare) or None
        else:
            arguments[name] = None if name in nouns else values[name]
    if named.print_config:
        print(yaml.safe_dump(to_config(arguments), sort_keys=False, allow_unicode=True), end="")
        sys.exit()
    return arguments


def taken(argv: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The command line's sweeps, and its files to compare; and what is left of it.

    >>> taken(["--sweep.optimizer.lr", "[0.1, 0.2]", "--compare", "a.yaml", "b.yaml", "--seed", "1"])
    ({'sweep': {'optimizer.lr': [0.1, 0.2]}, 'compare': ['a.yaml', 'b.yaml']}, ['--seed', '1'])
    """
    found: dict[str, Any] = {}
    rest, tokens = [], list(argv)
    while tokens:
        token = tokens.pop(0)
        name, equals, value = token.partition("=")
        if name == "--compare":
            found["compare"] = [value] if equals else []
            while tokens and not tokens[0].startswith("--"):
                found["compare"].append(tokens.pop(0))
            if len(found["compare"]) < 2:
                raise ValueError(f"--compare has {len(found['compare'])} file; give two or more")
        elif name.startswith("--sweep."):
            value = value if equals else tokens.pop(0) if tokens else ""
            try:
                found.setdefault("sweep", {})[name[8:]] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise ValueError(f'{name} is {value!r}; give a list such as "[1, 2]"') from error
        else:
            rest.append(token)
    return found, rest


def typed(
    function: Callable[..., Any], sweep: dict[str, Any], argv: list[str]
) -> dict[str, list[Any]]:
    """The values of each swept setting, each as `--KEY VALUE` would have it."""
    argv = [token for token in argv if token != "--print_config"]
    found: dict[str, list[Any]] = {}
    for key, values in sweep.items():
        if not isinstance(values, list) or not values:
            raise ValueError(
                f'--sweep.{key} is {values!r}; give a list of one value or more, such as "[1, 2]"'
            )
        found[key] = []
        for value in values:
            token = f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
            found[key].append(
                flatten(to_config(parse(function, [*argv, token], one=True))).get(key)
            )
    return found


def compared(function: Callable[..., Any], files: list[str], argv: list[str]) -> dict[str, Any]:
    """The first file's arguments, and the nouns of each, which may differ in what is learned and in nothing else."""
    rest = [token for token in argv if token != "--print_config"]
    found = [parse(function, [f"--config={file}", *rest], one=True) for file in files]
    plain = [to_config(arguments) for arguments in found]
    learned = [noun for noun in REGISTRY if noun != "data"]
    for file, other in zip(files, plain, strict=True):
        for key, value in other.items():
            if key not in learned and value != plain[0][key]:
                raise ValueError(
                    f"{key} is {plain[0][key]} in {files[0]} and {value} in {file}; only network, loss, optimizer and "
                    f"schedule may differ, so give --{key} for both"
                )
    compare = {
        file: {noun: one[noun] for noun in learned} for file, one in zip(files, plain, strict=True)
    }
    if "--print_config" in argv:
        whole = json.loads(
            json.dumps(plain[0] | {"compare": compare})
        )  # a copy of what stands twice: no &id001
        print(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True), end="")
        sys.exit()
    return found[0] | {"compare": compare}
