"""Read YAML that others may have written: plain data only, of bounded size and depth."""

from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 2**20
MAX_VALUES = 20_000  # of all lists and mappings together
MAX_DEPTH = 20
MAX_KEY = 1000  # characters
PLAIN = ("str", "int", "float", "bool", "null", "seq", "map")
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in PLAIN}
TEXT = "tag:yaml.org,2002:str"
NULL = "tag:yaml.org,2002:null"
SETTING_DEPTH = 2  # `seed: 0`, or `network: {dropout: 0.1}`


class PlainLoader(yaml.SafeLoader):
    """Loads text, numbers, booleans, null, lists and mappings whose keys are text, nothing else.

    Dates, `=` and `<<`, of which YAML 1.1 makes more, stay text. Tags (`!!binary`) are refused. An
    alias counts as all values that it stands for: a few lines of them can stand for billions.

    Args:
        text: The YAML.
        are_settings: Whether a setting stays text, as on the command line: its type, which the
            caller knows, decides what `no`, `007` or `1e3` mean.
    """

    def __init__(self, text: str, are_settings: bool) -> None:
        super().__init__(text)
        self.are_settings = are_settings
        self.depth = 0
        self.values = 0
        self.sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"line {line} is nested more than {MAX_DEPTH} levels deep")
        values_before = self.values
        self.depth += 1
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if node not in self.sizes:
                raise ValueError(f"line {line} has the alias *{event.anchor} inside of itself")
            self.values += self.sizes[node]
            self.check_count()
            return node
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise ValueError(f"line {line} has the tag {tag}; leave it out")
        self.values += 1
        self.check_count()
        is_value = isinstance(parent, yaml.MappingNode) and isinstance(node, yaml.ScalarNode)
        if self.are_settings and is_value and self.depth <= SETTING_DEPTH and node.tag != NULL:
            node.tag = TEXT
        self.sizes[node] = self.values - values_before
        return node

    def check_count(self) -> None:
        """Refuse the values read up to here, if they are too many."""
        if self.values > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES:,} values; give fewer")

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping: dict[Hashable, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"line {line} has a {key.id} as a key; give a name")
            if len(key.value) > MAX_KEY:
                raise ValueError(f"line {line} has a key of {len(key.value):,} characters")
            if key.value in mapping:
                raise ValueError(f"line {line} has {key.value!r} a second time; leave one out")
            mapping[key.value] = self.construct_object(value, deep=deep)
        return mapping


PlainLoader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] in PLAIN_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str, are_settings: bool = False) -> Any:
    """Read YAML as plain data; PlainLoader describes the arguments.

    >>> text = "{network: {hidden: [8], dropout: 0.10}, log_dir: 2024-12-31, 7: ~}"
    >>> read_yaml(text)
    {'network': {'hidden': [8], 'dropout': 0.1}, 'log_dir': '2024-12-31', '7': None}
    >>> read_yaml(text, are_settings=True)["network"]
    {'hidden': [8], 'dropout': '0.10'}

    Raises:
        ValueError: It is not YAML, holds something else than plain data, or is too large.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
    try:
        return PlainLoader(text, are_settings).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def check_bounds(text: str) -> None:
    """Refuse text of which YAML would make too much; text that is not YAML is left to others.

    Raises:
        ValueError: It stands for too many values or levels.
    """
    with suppress(yaml.YAMLError):
        PlainLoader(text[:MAX_BYTES], are_settings=False).get_single_node()


def read_yaml_file(path: str, are_settings: bool = False) -> Any:
    """Read a YAML file as plain data.

    Raises:
        ValueError: As read_yaml, with the path.
    """
    with Path(path).open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        return read_yaml(content.decode("utf-8"), are_settings)
    except ValueError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
