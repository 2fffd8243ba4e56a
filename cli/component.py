"""A component is a class with arguments, kept as plain data: `{"class": "MLP", "hidden": [32]}`.

The same component has three notations: `--network MLP --network.hidden "[32]"` on the command line,
the dictionary above in a YAML file and in a checkpoint, and `partial(MLP, hidden=[32])` in Python.
Nothing is pickled, so a checkpoint holds data only.
"""

from collections.abc import Callable
from functools import partial
from inspect import isbuiltin, isclass, isfunction, signature
from pathlib import PurePath
from typing import Any

import numpy as np
import yaml

from cli.registry import LEARNED, REGISTRY, SUPPLIED, find, name_of, parameters_of

ComponentConfig = dict[str, Any]
Factory = Callable[..., Any]


def describe(component: str, factory: Factory | ComponentConfig | None) -> ComponentConfig | None:
    """Return a class, or a `partial` of one, as plain data.

    The constructor's defaults are included, so that a checkpoint survives their change. For torch's
    own classes they are left out.

    >>> describe("network", partial(find("network", "MLP"), hidden=(8,)))
    {'class': 'MLP', 'hidden': [8], 'activation': 'SiLU', 'dropout': 0.0, 'init_std': None,
     'embedding': None}

    Raises:
        ValueError: An argument is not plain data.
    """
    if factory is None:
        return None
    if isinstance(factory, dict):
        return {name: as_plain(value) for name, value in factory.items()}
    bound = partial(factory)  # flattens: the result is one partial, for a class or a partial of one
    cls = bound.func
    arguments = dict(zip(signature(cls).parameters, bound.args, strict=False)) | bound.keywords
    if isclass(cls) and not cls.__init__.__module__.startswith("torch."):
        supplied = SUPPLIED.get(component, ())
        defaults = plain_defaults(cls)
        arguments = {name: defaults[name] for name in defaults if name not in supplied} | arguments
    arguments = {name: as_plain(value) for name, value in arguments.items()}
    for name, value in arguments.items():
        if not is_plain(value):
            kind = type(value).__name__
            raise ValueError(f"{component}.{name} is a {kind}; give numbers, text or lists of them")
    return {"class": name_of(component, cls)} | arguments


def check_name(component: str, factory: Factory | ComponentConfig | None) -> None:
    """Refuse a component that config.yaml and a checkpoint could not name, before anything is done.

    Raises:
        ValueError: It is a function, an object, or a class without an import path.
    """
    if factory is None or isinstance(factory, dict):
        return
    cls = getattr(factory, "func", factory)
    advice = "a checkpoint needs its import path: give a class from a module, or a partial of it"
    if isfunction(cls) or isbuiltin(cls):
        raise ValueError(f"{component} is a function, {cls.__name__}; {advice}")
    if not isclass(cls):
        raise ValueError(f"{component} is an object of {type(cls).__name__}, not a class; {advice}")
    if "<locals>" in cls.__qualname__:
        raise ValueError(f"{component} {cls.__name__} is defined inside a function; {advice}")
    if cls.__module__ == "__main__":
        raise ValueError(
            f"{component} {cls.__name__} is defined in the main script or a notebook; {advice}"
        )
    if component not in LEARNED:
        return  # a checkpoint does not name it
    try:
        find(component, name_of(component, cls))
    except ValueError as error:
        raise ValueError(f"{component} {cls.__name__} cannot be found again; {advice}") from error


def plain_defaults(cls: Any) -> dict[str, Any]:
    """Return the defaults of a constructor that are plain data, without those of torch's classes.

    >>> plain_defaults(find("optimizer", "ScaledAdamW"))
    {'lr': None, 'weight_decay': None, 'fused': None}
    """
    bases = [base for base in cls.__mro__ if base.__module__.startswith("torch.")]
    torchs = parameters_of(bases[0]) if bases else {}
    defaults = {
        name: parameter.default
        for name, parameter in parameters_of(cls).items()
        if parameter != torchs.get(name)
    }
    return {name: default for name, default in defaults.items() if is_plain(default)}


def is_plain(value: Any) -> bool:
    """Return whether YAML can hold this: null, a boolean, a number, text, lists and mappings."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(map(is_plain, [*value, *value.values()]))
    return value is None or isinstance(value, bool | int | float | str)


def as_plain(value: Any) -> Any:
    """Return what YAML can hold: tuples and NumPy's arrays as lists, NumPy's numbers as Python's.

    >>> as_plain({"hidden": (8, np.int64(4))})
    {'hidden': [8, 4]}
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    if isinstance(value, dict):
        return {as_plain(key): as_plain(item) for key, item in value.items()}
    return value


def build(component: str, config: Factory | ComponentConfig) -> Factory:
    """Return the `partial` that a config describes; a factory is returned unchanged.

    >>> build("network", {"class": "MLP", "hidden": [8]})(4, 3)[0]
    Linear(in_features=4, out_features=8, bias=True)
    """
    if not isinstance(config, dict):
        return config
    arguments = dict(config)
    return partial(find(component, arguments.pop("class")), **arguments)


def to_config(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a command's arguments as plain data, as in config.yaml and TensorBoard's HParams tab.

    Objects in a list, such as callbacks, are left out: only Python can give them.

    >>> to_config({"network": find("network", "Linear"), "seed": 0})
    {'network': {'class': 'Linear'}, 'seed': 0}

    Raises:
        ValueError: A component has no import path, or an argument that is not plain data.
    """
    config: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in REGISTRY:
            check_name(name, value)
            config[name] = describe(name, value)
        elif isinstance(value, list):
            config[name] = [as_plain(item) for item in value if is_plain(as_plain(item))]
        elif isinstance(value, dict):
            config[name] = {
                key: to_config(item) if isinstance(item, dict) else as_plain(item)
                for key, item in value.items()
            }
        else:
            config[name] = as_plain(value)
        check_plain(name, config[name])
    return config


def check_plain(name: str, value: Any) -> None:
    """Refuse an argument that config.yaml could not hold, before anything is done.

    Raises:
        ValueError: It has an object.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            check_plain(f"{name}.{key}", item)
    elif isinstance(value, list):
        for item in value:
            check_plain(name, item)
    elif not is_plain(value):
        kind = type(value).__name__
        raise ValueError(f"{name} has a {kind}; give numbers, text or lists of them")


def flatten(config: dict[str, Any]) -> dict[str, Any]:
    """Turn two levels into one, with the command line's keys.

    >>> flatten({"network": {"class": "MLP", "hidden": [8]}, "seed": 0})
    {'network': 'MLP', 'network.hidden': [8], 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if not isinstance(value, dict):
            flat[key] = value
            continue
        for name, argument in value.items():
            flat_key = key if name == "class" else f"{key}.{name}"
            flat[flat_key] = argument
    return flat


class PlainDumper(yaml.SafeDumper):
    """Writes a value that occurs twice in full, instead of a reference to the first one."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(config: dict[str, Any]) -> str:
    """Plain data as YAML, from which `--config` reads it back."""
    text: str = yaml.dump(config, Dumper=PlainDumper, sort_keys=False, allow_unicode=True)
    return text
