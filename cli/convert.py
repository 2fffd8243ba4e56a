"""Convert a raw value to a type with jsonargparse, and say in words which values a type takes."""

from collections.abc import Callable
from itertools import chain
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from cli.errors import quoted, unknown
from cli.yaml_files import check_bounds

WORDS = {bool: "true|false", NoneType: "null", str: "text", Any: "value"}

PIECE = 100  # items converted at a time: jsonargparse's time is quadratic in the length of a list


def convert(key: str, hint: Any, value: Any) -> Any:
    """Convert a raw value as jsonargparse converts `--key VALUE`.

    >>> convert("devices", int | str, "2"), convert("hidden", list[int], [8, 4])
    (2, [8, 4])
    >>> convert("log_dir", str, "--")
    '--'

    Args:
        key: The flag, for error messages.
        hint: The type.
        value: Text from the command line, or what YAML made of a file's value.

    Raises:
        ValueError: The value does not have this type.
    """
    if isinstance(value, list) and len(value) > PIECE:
        pieces = [convert(key, hint, value[i : i + PIECE]) for i in range(0, len(value), PIECE)]
        if all(isinstance(piece, list) for piece in pieces):
            return list(chain.from_iterable(pieces))
    text = value if isinstance(value, str) else to_text(value)
    if hint is str or (is_optional_text(hint) and text != "null"):
        return text  # also "--", which argparse would lose, and "#", which is null in YAML
    try:
        check_bounds(text)
    except ValueError as error:
        raise ValueError(f"--{key} is {quoted(text)}: {error}") from error
    if isinstance(value, str) and holds_texts(hint):
        texts = read_texts(value)
        if texts is not None:
            return texts
    parser = ArgumentParser(add_help=False, exit_on_error=False)
    try:
        parser.add_argument("--value", type=whole_numbers_first(hint))
    except ValueError:  # a type that jsonargparse cannot check: the class itself must
        parser.add_argument("--value", type=Any)
    try:
        return parser.parse_args([f"--value={text}"], defaults=False)["value"]
    except ArgumentError as error:
        if get_origin(hint) is Literal:
            raise ValueError(unknown(f"--{key}", text, map(str, get_args(hint)))) from error
        raise ValueError(f"--{key} is {quoted(text)}; expected {words(hint)}") from error


def whole_numbers_first(hint: Any) -> Any:
    """A type in which int comes before float: `--trainer.limit_train_batches 1` is one batch.

    Python remembers unions whatever their order: Optional[Union[int, float]] may be another
    library's Optional[Union[float, int]], whose 1 is 1.0, all batches.

    >>> whole_numbers_first(float | int | None)
    typing.Union[int, float, NoneType]
    """
    options = list(get_args(hint))
    if get_origin(hint) not in (Union, UnionType) or not {int, float} <= set(options):
        return hint
    options.remove(int)
    options.insert(options.index(float), int)
    return Union[tuple(options)]  # noqa: UP007  # `|` cannot join a list of types


def is_optional_text(hint: Any) -> bool:
    """Whether a type is text or null."""
    return set(get_args(hint)) == {str, NoneType}


def holds_texts(hint: Any) -> bool:
    """Whether a type is, or can be, a list or mapping of texts.

    >>> holds_texts(list[str] | None), holds_texts(list[int]), holds_texts(dict[str, str])
    (True, False, True)
    """
    options = get_args(hint)
    if get_origin(hint) in (list, dict):
        return options[-1] is str or str in get_args(options[-1])
    return any(map(holds_texts, options))


def read_texts(text: str) -> Any:
    """Return a YAML list or mapping with all values as they are written; None for anything else.

    >>> read_texts("[no, 007]"), read_texts("no")
    (['no', '007'], None)
    """
    try:
        value = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError:
        return None
    items = value.values() if isinstance(value, dict) else value
    is_flat = isinstance(value, list | dict) and all(isinstance(item, str) for item in items)
    return value if is_flat else None


def to_text(value: Any) -> str:
    """Return a file's value as a user would write it on the command line.

    >>> to_text([8, 4]), to_text(None), to_text(float("inf"))
    ('[8, 4]', 'null', '.inf')
    """
    text: str = yaml.safe_dump(
        value,
        default_flow_style=True,
        width=float("inf"),
        allow_unicode=True,
    )
    return text.removesuffix("\n").removesuffix("\n...")


def words(hint: Any) -> str:
    """Return the values that a type takes, as a user would write them.

    >>> words(int | None), words(list[int]), words(tuple[float, float])
    ('int|null', '[int, ...]', '[float, float]')
    """
    options = get_args(hint)
    if get_origin(hint) is Literal:
        return "|".join(map(str, options))
    if get_origin(hint) in (Union, UnionType):
        written = [words(option) for option in options if option is not torch.Tensor]
        return "|".join(dict.fromkeys(written))  # without repetitions, in order
    if get_origin(hint) is dict:
        key_type, value_type = options
        return f"{{{words(key_type)}: {words(value_type)}, ...}}"
    if get_origin(hint) is tuple and ... not in options:
        return f"[{', '.join(map(words, options))}]"
    if get_origin(hint) is Callable:
        return "value"
    if options:
        return f"[{words(options[0])}, ...]"
    if hint in WORDS:
        return WORDS[hint]
    return str(getattr(hint, "__name__", "value"))
