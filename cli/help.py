"""The help text: each flag with its type, one sentence and its default."""

import json
import re
import sys
from inspect import signature
from pathlib import Path
from textwrap import shorten
from typing import Any

import docstring_parser
from docstring_parser import DocstringStyle

from cli.convert import words
from cli.schema import REQUIRED, Argument, Factories, Function, Schema

FLAG_WIDTH = 42  # columns up to the sentence; a longer flag gets a line of its own
TEXT_WIDTH = 88  # columns of the sentence, with the default behind it

Row = tuple[str, str]  # a flag with its type, and what it does
Section = tuple[str, list[Row]]  # a title, and its rows


def help_text(
    function: Function,
    factories: Factories,
    schema: Schema,
    list_trainer: bool = False,
) -> str:
    """Return the help of a command.

    Args:
        function: The command.
        factories: The class of each component, null for none.
        schema: All arguments.
        list_trainer: Whether to list the Trainer's arguments.
    """
    doc = docstring_parser.parse(function.__doc__ or "", DocstringStyle.GOOGLE)
    about = dict.fromkeys(signature(function).parameters, "")
    about |= {entry.arg_name: sentence(entry.description) for entry in doc.params}
    positionals = [key for key, argument in schema.items() if argument.positional]

    sections: list[Section] = []
    if positionals:
        rows = [(key.upper(), about[key]) for key in positionals]
        sections.append(("positional arguments:", rows))
    sections.append(("options:", option_rows(function, schema, about, bool(factories))))
    for component, factory in factories.items():
        if factory is None:
            sections.append((f"--{component} null  {about[component]}", []))
        else:
            title = f"--{component} {factory.func.__name__}  {about[component].rstrip('.')}:"
            sections.append((title, class_rows(component, factory.func, schema)))
    if "trainer" in signature(function).parameters:
        title = f"--trainer.*  {about['trainer']} --trainer.help lists it"
        sections.append((title, trainer_rows(schema) if list_trainer else []))

    beginning = [usage(positionals, bool(factories)), doc.short_description or ""]
    return "\n\n".join(beginning + layout(sections))


def option_rows(
    function: Function, schema: Schema, about: dict[str, str], has_components: bool
) -> list[Row]:
    """Return the flags that belong to no component."""
    rows = [("--help", "Show this help and exit.")]
    if has_components:
        rows += [
            ("--config FILE", "YAML file of arguments; a later file and any flag override it."),
            ("--print_config", "Print all arguments as YAML and exit."),
        ]
    for key, argument in schema.items():
        if "." not in key and not argument.positional:
            rows.append(flag_row(key, argument, about[key]))
    if "sweep" in signature(function).parameters:
        rows.append(("--sweep.FLAG [VALUE, ...]", about["sweep"]))
        rows.append(("--compare FILE FILE ...", about["compare"]))
    return rows


def class_rows(prefix: str, cls: Any, schema: Schema) -> list[Row]:
    """Return the flags of a class's arguments, with the sentences of its docstrings."""
    keys = [key for key in schema if key.startswith(f"{prefix}.")]
    names = {key.removeprefix(f"{prefix}.") for key in keys}
    about = argument_sentences(cls, names)
    rows = []
    for key in keys:
        name = key.removeprefix(f"{prefix}.")
        rows.append(flag_row(key, schema[key], about.get(name)))
    return rows


def trainer_rows(schema: Schema) -> list[Row]:
    """Return the flags of the Trainer's arguments."""
    from lightning.pytorch import Trainer  # here, because predict.py does not import Lightning

    return class_rows("trainer", Trainer, schema)


def usage(positionals: list[str], has_components: bool) -> str:
    """Return the line that says how to call the program."""
    program = Path(sys.argv[0]).name
    if has_components:
        return f"usage: {program} [--config FILE] [--COMPONENT CLASS] [--FLAG VALUE] ..."
    names = "".join(f" {name.upper()}" for name in positionals)
    return f"usage: {program}{names} [--FLAG VALUE] ..."


def argument_sentences(cls: Any, names: set[str]) -> dict[str, str]:
    """Return a sentence for each argument, from the docstrings of a class and its base classes."""
    sentences: dict[str, str] = {}
    for base in cls.__mro__:
        constructor = vars(base).get("__init__")
        for text in (base.__doc__, getattr(constructor, "__doc__", None)):
            doc = docstring_parser.parse(text or "", DocstringStyle.GOOGLE)
            for entry in doc.params:
                sentences.setdefault(entry.arg_name, sentence(entry.description))
        if names <= sentences.keys():
            break
    return sentences


def sentence(text: str | None) -> str:
    """Return the first sentence of a docstring's entry, without markup and defaults.

    >>> sentence("weight decay :attr:`coefficient` (default: 1e-2). More")
    'Weight decay coefficient.'
    """
    without_markup = re.sub(r":\w+:|`", "", text or "")
    end = r"\.\s+(?=[A-Z])|\s*\(?[Dd]efaults?:|\n\n"
    first = re.split(end, without_markup)[0].strip(" .\n")
    capitalized = f"{first[:1].upper()}{first[1:]}."
    return " ".join(capitalized.split())


def flag_row(key: str, argument: Argument, about: str | None) -> Row:
    """Return a flag with its type, and its sentence with the default.

    >>> flag_row("seed", Argument(int, 0), "Seed of initial weights.")
    ('--seed int', 'Seed of initial weights. (0)')
    """
    default = ""
    if argument.default not in (REQUIRED, None):
        default = f" ({default_text(argument.default)})"
    room = max(TEXT_WIDTH - len(default), 10)  # some of the sentence, however long the default is
    text = shorten(about or ".", room, placeholder=" ...")
    return f"--{key} {words(argument.hint)}", text + default


def default_text(value: Any) -> str:
    """Return a default as a user would write it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str)


def layout(sections: list[Section]) -> list[str]:
    """Return each section as text, the rows of all sections in the same two columns."""
    widest = max(len(flag) for _, rows in sections for flag, _ in rows)
    width = min(widest + len("    "), FLAG_WIDTH)
    texts = []
    for title, rows in sections:
        lines = [title]
        for flag, about in rows:
            if len(flag) + len("    ") > width:
                lines += [f"  {flag}", f"{'':{width}}{about}"]
            else:
                lines.append(f"  {flag:{width - 2}}{about}")
        texts.append("\n".join(lines))
    return texts
