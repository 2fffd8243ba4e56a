"""Read the command line and YAML files as flat keys with raw values: `{"network.hidden": "[8]"}`.

Values keep the form in which they were given: text from the command line, YAML's types from a file.
"""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from cli.component import flatten
from cli.yaml_files import read_yaml, read_yaml_file

SWITCHES = {"help", "trainer.help", "print_config"}

Settings = dict[str, Any]  # raw values by flat key, such as "seed" or "network.hidden"


@dataclass
class CommandLine:
    """The tokens of a command line, sorted by what they are.

    Attributes:
        settings: Text of each `--key value`; the last one wins. The lists of a sweep are read as
            YAML, and `compare` is a list of files.
        positionals: Values without a flag.
        configs: The files of `--config`, in order.
        switches: Which of `--help`, `--trainer.help` and `--print_config` are given.
        incomplete: Keys of flags that lack their value.
    """

    settings: Settings = field(default_factory=dict)
    positionals: list[str] = field(default_factory=list)
    configs: list[str] = field(default_factory=list)
    switches: set[str] = field(default_factory=set)
    incomplete: list[str] = field(default_factory=list)


def read_command_line(argv: Iterable[str], booleans: Collection[str] = ()) -> CommandLine:
    """Sort the tokens of a command line.

    Whatever does not begin with `--` is a value, including `-` and negative numbers.

    >>> read_command_line(["in.csv", "--lr", "-1", "--score"], booleans=["score"]).settings
    {'lr': '-1', 'score': 'true'}

    Args:
        argv: The tokens.
        booleans: Keys whose value may be left out; then it is true.

    Raises:
        ValueError: A switch has a value, or the list of a sweep is not YAML.
    """
    line = CommandLine()
    tokens = deque(argv)
    while tokens:
        token = tokens.popleft()
        if token == "--":  # by convention, only values follow
            line.positionals.extend(tokens)
            break
        if token == "-h":
            token = "--help"
        if token.startswith("--"):
            read_flag(line, token, tokens, booleans)
        else:
            line.positionals.append(token)
    return line


def read_flag(line: CommandLine, flag: str, tokens: deque[str], booleans: Collection[str]) -> None:
    """Add a flag to `line`, with the value behind `=` or the tokens that follow it."""
    key, equals, text = flag.removeprefix("--").partition("=")
    if key in SWITCHES:
        if equals:
            raise ValueError(f"--{key} is {text!r}; it takes no value")
        line.switches.add(key)
        return
    if key == "compare":
        line.settings[key] = [text] if equals else take_values(tokens)
        return
    value = text if equals else take_value(tokens, key in booleans)
    if key.startswith("sweep."):
        line.settings[key] = read_list(key, value or "")
    elif value is None:
        line.incomplete.append(key)
    elif key == "config":
        line.configs.append(value)
    else:
        line.settings[key] = value


def take_value(tokens: deque[str], is_boolean: bool) -> str | None:
    """Take the value that follows a flag, if there is one; a boolean's value may be left out."""
    follows = tokens[0] if tokens else "--"
    if is_boolean and follows.lower() not in ("true", "false"):
        return "true"
    if follows.startswith("--"):
        return None
    return tokens.popleft()


def take_values(tokens: deque[str]) -> list[str]:
    """Take all values up to the next flag."""
    values = []
    while tokens and not tokens[0].startswith("--"):
        values.append(tokens.popleft())
    return values


def read_list(key: str, text: str) -> Any:
    """Read the list of a sweep, such as `[1, 2]`; whether it is a list is checked later."""
    try:
        return read_yaml(text)
    except ValueError as error:
        raise ValueError(f'--{key} is {text!r}; give a list such as "[1, 2]"') from error


def read_file(path: str, as_text: bool = False) -> Settings:
    """Read a YAML file as flat keys.

    `network: {class: MLP, hidden: [8]}` becomes `network: MLP` and `network.hidden: [8]`.

    Args:
        path: The file.
        as_text: Whether a setting stays the text that it would be on the command line.

    Raises:
        ValueError: The file is not YAML, or not a mapping, or it has a flag that no file can have.
    """
    content = read_yaml_file(path, as_text)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no settings; give lines such as 'max_epochs: 100'")
    for key in ("config", *SWITCHES):
        if key in content:
            raise ValueError(f"{path} has {key!r}, which only the command line can have")
    return flatten(content)


def drop_foreign(settings: Settings, parameters: Collection[str]) -> Settings:
    """Leave out what another command wrote into a file, so that commands can share files.

    >>> drop_foreign({"seed": 1, "pictures": "none", "sweep": None}, ["seed", "sweep"])
    {'seed': 1}
    """
    shared = {"pictures", "callbacks", "loggers", "compile", "sweep", "compare"}
    foreign = shared - set(parameters)
    kept = {}
    for key, value in settings.items():
        is_unset = key in ("trainer", "sweep", "compare") and value is None
        if not is_unset and key.partition(".")[0] not in foreign:
            kept[key] = value
    return kept


def merge(sources: Iterable[Settings], components: Collection[str]) -> Settings:
    """Merge settings, where a later source wins over an earlier one.

    A source that names a component's class discards the arguments that earlier sources gave it.

    >>> merge([{"optimizer": "AdamW", "optimizer.lr": 1}, {"optimizer": "SGD"}], ["optimizer"])
    {'optimizer': 'SGD'}
    """
    merged: Settings = {}
    for source in sources:
        renamed = [component for component in components if component in source]
        for key in list(merged):
            if key.partition(".")[0] in renamed:
                del merged[key]
        merged |= source
    return merged


def take_prefixed(settings: Settings, prefix: str) -> Settings:
    """Move the settings that begin with a prefix out of `settings`, without the prefix.

    >>> settings = {"seed": 1, "sweep.seed": [1, 2]}
    >>> take_prefixed(settings, "sweep."), settings
    ({'seed': [1, 2]}, {'seed': 1})
    """
    keys = [key for key in settings if key.startswith(prefix)]
    return {key.removeprefix(prefix): settings.pop(key) for key in keys}
