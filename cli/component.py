"""A class and its arguments as plain data: `{"class": "MLP", "hidden": [32]}`.

One thing in three notations: `--network MLP --network.hidden "[32]"` on the command line, the dictionary above in a
YAML file and in a checkpoint, `partial(MLP, hidden=[32])` in Python. Nothing is pickled: a checkpoint stays data.
"""

import ast
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import Parameter, isclass, signature
from pathlib import Path
from typing import Any

from cli.errors import unknown

ComponentConfig = dict[str, Any]
Factory = Callable[..., Any]

# Where a short name is looked up, and the class that what is found there must inherit from.
REGISTRY = {
    "data": (
        ("data.iris", "data.table", "data.images", "data.tabular"),
        "lightning.pytorch.LightningDataModule",
    ),
    "network": (("model.networks", "model.convnet", "torch.nn"), "torch.nn.Module"),
    "loss": (("model.losses", "torch.nn.modules.loss"), "torch.nn.Module"),
    "optimizer": (("torch.optim",), "torch.optim.Optimizer"),
    "schedule": (("torch.optim.lr_scheduler",), "torch.optim.lr_scheduler.LRScheduler"),
}


def find(noun: str, name: str) -> type:
    """The class called `name`: a short name for what is here or in torch, else an import path such as `mine.Net`.

    >>> find("optimizer", "AdamW")
    <class 'torch.optim.adamw.AdamW'>

    Raises:
        ValueError: Nothing has this name, or it is no class of the noun's kind.
    """
    homes, base_path = REGISTRY[noun]
    base = getattr(import_module(base_path.rpartition(".")[0]), base_path.rpartition(".")[2])
    path, _, short = name.rpartition(".")
    if path:
        try:
            homes = (path,)
            import_module(path)
        except (ImportError, TypeError) as error:
            raise ValueError(f"{noun} {name!r} cannot be imported: {error}") from error
    for home in homes:
        found = getattr(import_module(home), short, None)
        if isclass(found) and issubclass(found, base):
            return found
        if path and found is not None:
            raise ValueError(f"{noun} {name!r} is not a class that inherits from {base_path}")
    known = []
    for module in map(import_module, homes):
        named = {
            key: getattr(module, key) for key in {*vars(module), *getattr(module, "__all__", ())}
        }
        known += [key for key, value in named.items() if isclass(value) and issubclass(value, base)]
    raise ValueError(unknown(noun, short, known))


def defines(name: str) -> bool:
    """Whether the module of an import path defines such a class, by its source: the module is not imported.

    A checkpoint names classes, and a module can do anything while it is imported.

    >>> defines("model.networks.MLP"), defines("antigravity.MLP"), defines("nowhere.MLP")
    (True, False, False)
    """
    path, _, short = name.rpartition(".")
    search: Any = None
    spec = None
    for i, part in enumerate(path.split("."), 1):
        whole = ".".join(path.split(".")[:i])
        spec = next(
            (found for finder in sys.meta_path if (found := finder.find_spec(whole, search))), None
        )
        if not part or spec is None:
            return False
        search = spec.submodule_search_locations
    if spec is None or not spec.has_location or not str(spec.origin).endswith(".py"):
        return False
    body = ast.parse(Path(str(spec.origin)).read_bytes()).body
    return any(isinstance(node, ast.ClassDef) and node.name == short for node in body)


def describe(noun: str, factory: Factory | ComponentConfig | None) -> ComponentConfig | None:
    """The plain data of a class, or of a `partial` of one.

    The defaults are filled in where the constructor is not torch's own: a checkpoint must outlive their change.

    >>> describe("network", partial(find("network", "MLP"), hidden=(8,)))
    {'class': 'MLP', 'hidden': [8], 'activation': 'SiLU', 'dropout': 0.0, 'init_std': None}

    Raises:
        ValueError: An argument that is no plain value.
    """
    if factory is None or isinstance(factory, dict):
        return factory
    bound = partial(factory)  # one level, whether factory is a class or a partial
    cls, arguments = bound.func, bound.keywords
    if bound.args:
        arguments = dict(zip(signature(cls).parameters, bound.args, strict=False)) | arguments
    if not cls.__init__.__module__.startswith("torch."):
        parameters = parameters_of(cls).values()
        arguments = {
            p.name: p.default
            for p in parameters
            if p.default is not p.empty and is_plain(p.default)
        } | arguments
    for name, value in arguments.items():
        if not is_plain(value):
            raise ValueError(
                f"{noun}.{name} is a {type(value).__name__}; give numbers, text or lists of them"
            )
    return {"class": name_of(noun, cls)} | {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in arguments.items()
    }


def parameters_of(cls: Any) -> dict[str, Parameter]:
    """What a class is called with, also what it hands on to the class above it as keywords.

    >>> list(parameters_of(find("data", "Table")))[:5]
    ['path', 'target', 'ignore', 'delimiter', 'batch_size']
    """
    found: dict[str, Parameter] = {}
    for own in cls.__mro__:
        if "__init__" in vars(own):
            parameters = signature(own).parameters
            found |= {
                name: p
                for name, p in parameters.items()
                if p.kind is not p.VAR_KEYWORD and name not in found
            }
            if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
                break
    return found


def is_plain(value: Any) -> bool:
    """Whether YAML can say it: null, a boolean, number or text, or a list of them."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def name_of(noun: str, cls: Any) -> str:
    """The shortest name by which `find` finds a class."""
    try:
        if find(noun, cls.__name__) is cls:
            return cls.__name__
    except ValueError:
        pass
    return f"{cls.__module__}.{cls.__qualname__}"


def build(noun: str, spec: Factory | ComponentConfig) -> Factory:
    """What `describe` described, ready to be called.

    >>> build("network", {"class": "MLP", "hidden": [8]})(4, 3)[0]
    Linear(in_features=4, out_features=8, bias=True)
    """
    if not isinstance(spec, dict):
        return spec
    arguments = dict(spec)
    return partial(find(noun, arguments.pop("class")), **arguments)


def to_config(arguments: dict[str, Any]) -> dict[str, Any]:
    """A command's arguments as plain data, each noun described: what config.yaml and the HParams tab hold."""
    return {
        name: describe(name, value) if name in REGISTRY else value
        for name, value in arguments.items()
    }


def flatten(settings: dict[str, Any]) -> dict[str, Any]:
    """One level instead of two, as the command line has it.

    >>> flatten({"network": {"class": "MLP", "hidden": [8]}, "seed": 0})
    {'network': 'MLP', 'network.hidden': [8], 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        for inner, argument in value.items() if isinstance(value, dict) else [("class", value)]:
            flat[key if inner == "class" else f"{key}.{inner}"] = argument
    return flat
