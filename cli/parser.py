"""Turn a command line into the arguments of a typed function: its signature is the command line.

A component (cli/component.py) is a class: `--network MLP` names it, `--network.hidden` gives one of
its arguments. So the flags depend on the classes, and the work has these phases: read files and
flags, find the classes, build the schema of all arguments, convert each value, assemble.

A class that is named starts from its own defaults; one that is not named keeps the function's.
"""

import shlex
import sys
from collections.abc import Iterable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from cli.arguments import (
    CommandLine,
    Settings,
    drop_foreign,
    merge,
    read_command_line,
    read_file,
    take_prefixed,
)
from cli.component import as_plain, to_config, to_yaml
from cli.convert import convert
from cli.errors import quoted
from cli.names import check_names, check_required
from cli.paths import PATHS, check_path, expand_path
from cli.registry import LEARNED, REGISTRY, name_of
from cli.schema import (
    Factories,
    Function,
    Schema,
    build_schema,
    component_schema,
    factory_of,
    function_schema,
)

SEEDS = {"seed", "split_seed"}
MAX_SEED = 2**32 - 1


def parse(function: Function, argv: Iterable[str]) -> dict[str, Any]:
    """Return the arguments for `function`, each component as a `partial` of its class.

    `--help` and `--print_config` print and exit.

    Raises:
        ValueError: A name is not known, or a value does not have the argument's type.
    """
    parameters = signature(function).parameters
    function_arguments = function_schema(function)
    booleans = [key for key, argument in function_arguments.items() if argument.hint is bool]
    line = read_command_line(argv, booleans)
    line.configs = [*resumed_configs(line.settings), *line.configs]
    if "compare" in parameters and "compare" in line.settings:
        files = line.settings.pop("compare")
        arguments = compare(function, line, files)
    else:
        arguments = read_arguments(function, line, line.configs)
    if "print_config" in line.switches:
        print(to_yaml(to_config(arguments)), end="")
        sys.exit(0)
    return arguments


def resumed_configs(settings: Settings) -> list[str]:
    """The config.yaml of the run that `--resume` names by its folder or a checkpoint.

    Its settings are those of the run, unless others are given.
    """
    if settings.get("resume") in (None, "null"):
        return []
    path = Path(settings["resume"]).absolute()
    run_dir = path if path.is_dir() else path.parent.parent
    config = run_dir / "config.yaml"
    return [str(config)] if config.is_file() else []


def read_arguments(function: Function, line: CommandLine, files: Iterable[str]) -> dict[str, Any]:
    """Return the arguments that YAML files and a command line give a function."""
    parameters = signature(function).parameters
    components = [name for name in parameters if name in REGISTRY]

    # Read files and flags.
    sources = [drop_foreign(read_config(file), parameters) for file in files]
    settings = merge([*sources, line.settings], components)
    sweep = take_prefixed(settings, "sweep.") if "sweep" in parameters else {}
    candidates = take_prefixed(settings, "compare.") if "compare" in parameters else {}

    # Find the classes, and build the schema of their arguments.
    factories = find_classes(function, settings)
    schema = build_schema(function, factories)
    if line.switches & {"help", "trainer.help"}:
        from cli.help import help_text  # here: docstrings are parsed for help only

        print(help_text(function, factories, schema, "trainer.help" in line.switches))
        sys.exit(0)

    # Convert each value, and assemble.
    more_flags = [*factories, "config", "print_config"]
    check_names([*settings, *line.incomplete], schema, more_flags, parameters)
    if line.incomplete:
        raise ValueError(f"argument --{line.incomplete[0]}: expected one argument")
    settings |= name_positionals(line.positionals, schema)
    check_required(settings, schema)
    values = {key: read_value(key, schema[key].hint, value) for key, value in settings.items()}
    arguments = assemble(function, factories, schema, values)
    if "sweep" in parameters:
        arguments["sweep"] = convert_sweep(sweep, settings, schema) or None
    if "compare" in parameters:
        arguments["compare"] = candidates or None
    return {name: arguments[name] for name in parameters}


def read_config(file: str) -> Settings:
    """Read a file of settings.

    Raises:
        ValueError: It cannot be read, or holds no settings.
    """
    try:
        return read_file(expand_path(file), as_text=True)
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        message = f"--config or --compare {quoted(file)} cannot be read: {reason}; give a YAML file"
        raise ValueError(message) from error


def read_value(key: str, hint: Any, value: Any) -> Any:
    """Convert a raw value to its type; a path is expanded.

    Raises:
        ValueError: It does not have this type, or is a seed that NumPy does not take.
    """
    converted = convert(key, hint, value)
    name = key.rpartition(".")[2]
    if name in PATHS and isinstance(converted, str):
        return check_path(key, converted)
    if name in SEEDS and isinstance(converted, int) and not 0 <= converted <= MAX_SEED:
        raise ValueError(f"--{key} is {converted}; give a number from 0 to {MAX_SEED}")
    return converted


def find_classes(function: Function, settings: Settings) -> Factories:
    """Take the named classes out of `settings`; a component that is not named keeps its default."""
    factories: Factories = {}
    for name, parameter in signature(function).parameters.items():
        if name not in REGISTRY:
            continue
        if name in settings:
            factories[name] = factory_of(name, settings.pop(name))
        elif parameter.default is None:
            factories[name] = None
        else:
            factories[name] = partial(parameter.default)
    return factories


def name_positionals(values: list[str], schema: Schema) -> dict[str, str]:
    """Return the values without a flag, by the names of the positional arguments."""
    names = [key for key, argument in schema.items() if argument.positional]
    if len(values) > len(names):
        extra = shlex.join(values[len(names) :])
        raise ValueError(f"unrecognized arguments: {extra}")
    return dict(zip(names, values, strict=False))


def assemble(
    function: Function, factories: Factories, schema: Schema, values: dict[str, Any]
) -> dict[str, Any]:
    """Return the function's arguments from converted values: components bound, `trainer` nested."""
    arguments: dict[str, Any] = {}
    for component, factory in factories.items():
        arguments[component] = None
        if factory is not None:
            given = take_prefixed(values, f"{component}.")
            arguments[component] = partial(factory, **given)
    if "trainer" in signature(function).parameters:
        arguments["trainer"] = take_prefixed(values, "trainer.")
    defaults = {key: argument.default for key, argument in schema.items() if "." not in key}
    return defaults | values | arguments


def convert_sweep(
    sweep: dict[str, Any], settings: Settings, schema: Schema
) -> dict[str, list[Any] | dict[str, Any]]:
    """Convert each value of a sweep, as `--KEY VALUE` would.

    Args:
        sweep: For each key the list of values, or the limits of a range, low and high.
        settings: What is given besides; a swept class must take these arguments too.
        schema: All arguments.

    Raises:
        ValueError: A sweep is neither a list nor a range, its key is not known, or a value does
            not have its type.
    """
    converted: dict[str, list[Any] | dict[str, Any]] = {}
    for key, values in sweep.items():
        is_range = isinstance(values, dict) and key not in REGISTRY
        if not (isinstance(values, list) or is_range) or not values:
            raise ValueError(
                f'--sweep.{key} is {values!r}; give a list of one value or more, such as "[1, 2]"'
            )
        if key in REGISTRY:
            converted[key] = [checked_class(key, value, settings) for value in values]
            continue
        check_names([key], schema, REGISTRY)
        hint = schema[key].hint
        if isinstance(values, dict):
            limits = {
                name: read_value(key, hint, values[name])
                for name in ("low", "high")
                if name in values
            }
            converted[key] = values | limits
            continue
        converted[key] = [as_plain(read_value(key, hint, value)) for value in values]
    return converted


def checked_class(component: str, name: Any, settings: Settings) -> str | None:
    """Return the name of a swept class that takes the arguments given for its component."""
    factory = factory_of(component, name)
    if factory is None:
        return None
    schema = component_schema(component, factory)
    given = [key for key in settings if key.startswith(f"{component}.")]
    check_names(given, schema)
    check_required(given, schema)
    return name_of(component, factory.func)


def compare(function: Function, line: CommandLine, files: list[str]) -> dict[str, Any]:
    """Return the first file's arguments, and the components of every file as `compare`.

    Raises:
        ValueError: The files differ in more than the components that are learned.
    """
    if len(files) < 2:
        raise ValueError(f"--compare has {len(files)} file; give two or more")
    arguments = [read_arguments(function, line, [file, *line.configs]) for file in files]
    configs = [to_config(file_arguments) for file_arguments in arguments]
    first = configs[0]
    for file, config in zip(files, configs, strict=True):
        for key, value in config.items():
            if key not in LEARNED and value != first[key]:
                raise ValueError(
                    f"{key} is {first[key]} in {files[0]} and {value} in {file}; only network, "
                    f"loss, optimizer and schedule may differ, so give --{key} for both"
                )
    candidates = {}
    for file, config in zip(files, configs, strict=True):
        candidates[file] = {component: config[component] for component in LEARNED}
    return arguments[0] | {"compare": candidates}
