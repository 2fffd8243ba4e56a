"""Which classes can be a component: found by a short name or by an import path."""

import ast
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from inspect import Parameter, isclass, signature
from pathlib import Path
from typing import Any

from cli.errors import unknown

# The package that holds this project: none in a clone, "lightning_iris." once it is installed.
ROOT = __name__.removesuffix("cli.registry")

LOSSES = "torch.nn.modules.loss"  # which torch.nn has, too

# For each component: the modules that are searched for a short name, and the required base class.
REGISTRY = {
    "data": (
        (
            f"{ROOT}data.iris",
            f"{ROOT}data.table",
            f"{ROOT}data.images",
            f"{ROOT}data.stream",
            f"{ROOT}data.tabular",
        ),
        "lightning.pytorch.LightningDataModule",
    ),
    "network": (
        (
            f"{ROOT}model.networks",
            f"{ROOT}model.residual",
            f"{ROOT}model.convnet",
            f"{ROOT}model.ensemble",
            "torch.nn",
        ),
        "torch.nn.Module",
    ),
    "loss": (
        (f"{ROOT}model.losses", LOSSES),
        "torch.nn.Module",
    ),
    "optimizer": (
        (f"{ROOT}model.optimizers", "torch.optim"),
        "torch.optim.Optimizer",
    ),
    "schedule": (
        ("torch.optim.lr_scheduler",),
        "torch.optim.lr_scheduler.LRScheduler",
    ),
}
# Arguments of a component's class that the program supplies, so that they are no flags: the first
# ones, and those of these names. torch deprecates `size_average` and `reduce`.
SUPPLIED_FIRST = {"network": 2, "optimizer": 1, "schedule": 1}
SUPPLIED = {
    "network": {"numbers"},
    "loss": {"weight", "size_average", "reduce"},
    "optimizer": {"total_steps"},
    "schedule": {"total_steps", "epochs", "steps_per_epoch", "T_max", "max_lr", "last_epoch"},
}
# Classes that only others inherit from, and those that cannot be used, with the reason.
ABSTRACT = {"Container", "LRScheduler", "LightningDataModule", "Module", "Optimizer", "TabularData"}
UNUSABLE = dict.fromkeys(
    ("ChainedScheduler", "SequentialLR"),
    "is made of others, which no flag can give; write a class of your own that makes them, and "
    "give its import path, such as mine.Schedule",
) | {"SparseAdam": "takes sparse gradients alone, which no layer has here; give Adam"}
# The components that a Classifier is made of, and that candidates of an evaluation may differ in.
LEARNED = ("network", "loss", "optimizer", "schedule")


def find(component: str, name: str) -> type:
    """Return the class called `name`.

    A short name is searched in the component's modules (`REGISTRY`); anything with a dot is an
    import path, such as `mine.Net`.

    >>> find("optimizer", "AdamW")
    <class 'torch.optim.adamw.AdamW'>

    Raises:
        ValueError: There is no such class, or it does not inherit from the component's base class.
    """
    modules, base_path = REGISTRY[component]
    if "." in name:
        return usable(component, import_class(component, name, base_path))
    base = base_class(base_path)
    for module in modules:
        candidate = getattr(import_module(module), name, None)
        if isclass(candidate) and issubclass(candidate, base):
            return usable(component, candidate)
    known = [
        known_name for module in modules for known_name in usable_names(component, module, base)
    ]
    raise ValueError(unknown(component, name, known))


def usable(component: str, cls: type) -> type:
    """Return a class that can be a component.

    Raises:
        ValueError: It cannot, with the reason.
    """
    reason = objection(component, cls)
    if reason is not None:
        raise ValueError(f"{component} {cls.__name__} {reason}")
    return cls


def objection(component: str, cls: type) -> str | None:
    """Why a class of torch or Lightning cannot be a component; None where it can.

    >>> objection("network", find("loss", "NLLLoss"))
    'is a loss; give it with --loss NLLLoss'
    """
    name = cls.__name__
    if cls.__module__.partition(".")[0] not in ("torch", "lightning"):
        return None
    if name in UNUSABLE:
        return UNUSABLE[name]
    if name.startswith("_") or name in ABSTRACT:
        return "is a base class; give a class that inherits from it"
    if component == "network" and cls.__module__ == LOSSES:
        return f"is a loss; give it with --loss {name}"
    if component == "network" and name.startswith("Lazy"):
        return f"takes its sizes from a batch; give {name.removeprefix('Lazy')}"
    return None


def import_class(kind: str, path: str, base_path: str) -> type:
    """Return the class that an import path leads to, such as `mine.Net`.

    Args:
        kind: What it is, for error messages.
        path: The import path.
        base_path: The import path of the class that it must inherit from.

    Raises:
        ValueError: There is no such class.
    """
    module_path, _, name = path.rpartition(".")
    base = base_class(base_path)
    if not module_path:
        raise ValueError(f"{kind} {path!r} is not an import path; give one such as mine.{path}")
    try:
        module = import_module(module_path)
    except (ImportError, TypeError) as error:
        advice = ""
        if getattr(error, "name", None) == module_path.partition(".")[0]:
            advice = "; put its file beside train.py, or the file's folder on PYTHONPATH"
        raise ValueError(f"{kind} {path!r} cannot be imported: {error}{advice}") from error
    candidate = getattr(module, name, None)
    if candidate is None:
        raise ValueError(unknown(kind, name, usable_names(kind, module_path, base)))
    if not (isclass(candidate) and issubclass(candidate, base)):
        raise ValueError(f"{kind} {path!r} is not a class that inherits from {base_path}")
    return candidate


def make_object(kind: str, item: Any, base_path: str) -> Any:
    """Return an object of the class with this import path; an object is returned unchanged.

    Args:
        kind: What it is, for error messages.
        item: The import path, or the object.
        base_path: The import path of the class that its class must inherit from.

    Raises:
        ValueError: It is something else, or its class needs arguments.
    """
    if not isinstance(item, str):
        if isinstance(item, base_class(base_path)):
            return item
        raise ValueError(f"{kind} {item!r} is not an object of {base_path}")
    try:
        return import_class(kind, item, base_path)()
    except TypeError as error:
        raise ValueError(f"{kind} {item!r} is built without arguments: {error}") from error


def base_class(path: str) -> type:
    """Return the base class with this import path."""
    module_path, _, name = path.rpartition(".")
    base: type = getattr(import_module(module_path), name)
    return base


def usable_names(component: str, module_path: str, base: type) -> list[str]:
    """Names of a module's classes to choose from: neither base classes nor private ones."""
    module = import_module(module_path)
    return [
        name
        for name in class_names(module_path, base)
        if not (name.startswith("_") or name in ABSTRACT)
        and objection(component, getattr(module, name)) is None
    ]


def class_names(module_path: str, base: type) -> list[str]:
    """Names of a module's classes that inherit from `base`; `__all__` includes lazy attributes."""
    module = import_module(module_path)
    names = {*vars(module), *getattr(module, "__all__", ())}
    values = {name: getattr(module, name) for name in names}
    return [name for name, value in values.items() if isclass(value) and issubclass(value, base)]


def defines(name: str) -> bool:
    """Return whether the module of an import path defines this class, judged by its source code.

    The module is not imported: a checkpoint can name any module, and importing one runs its code.

    >>> defines("model.networks.MLP"), defines("antigravity.MLP"), defines("nowhere.MLP")
    (True, False, False)
    """
    module_path, _, class_name = name.rpartition(".")
    module = find_module(module_path)
    if module is None or not module.has_location or not str(module.origin).endswith(".py"):
        return False
    body = ast.parse(Path(str(module.origin)).read_bytes()).body
    return any(isinstance(node, ast.ClassDef) and node.name == class_name for node in body)


def find_module(path: str) -> ModuleSpec | None:
    """Find a module on disk without importing it or the packages that contain it."""
    module: ModuleSpec | None = None
    search_path = None
    qualified_name = ""
    for name in path.split("."):
        if not name:
            return None
        qualified_name = f"{qualified_name}.{name}".lstrip(".")
        specs = (finder.find_spec(qualified_name, search_path) for finder in sys.meta_path)
        module = next((spec for spec in specs if spec is not None), None)
        if module is None:
            return None
        search_path = module.submodule_search_locations
    return module


def parameters_of(cls: Any) -> dict[str, Parameter]:
    """Return a constructor's parameters, including those passed on to the base class by `**kwargs`.

    >>> list(parameters_of(find("data", "Table")))[:5]
    ['path', 'target', 'ignore', 'id', 'categorical']
    """
    parameters: dict[str, Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        passes_on = False
        for name, parameter in signature(base).parameters.items():
            if parameter.kind is Parameter.VAR_KEYWORD:
                passes_on = True
            else:
                parameters.setdefault(name, parameter)
        if not passes_on:
            break
    return parameters


def name_of(component: str, cls: Any) -> str:
    """Return the shortest name by which `find` finds this class."""
    try:
        if find(component, cls.__name__) is cls:
            return str(cls.__name__)
    except ValueError:
        pass
    return f"{cls.__module__}.{cls.__qualname__}"
