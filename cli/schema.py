"""The arguments that a command takes: those of its function and of each component's class."""

import collections.abc
import typing
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from inspect import Parameter, signature, unwrap
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args, get_type_hints

from jsonargparse import ArgumentParser

from cli.convert import to_text
from cli.registry import REGISTRY, SUPPLIED, SUPPLIED_FIRST, find, parameters_of

REQUIRED = Parameter.empty  # the default of an argument that has none

# Arguments of Lightning's Trainer that the program sets itself, with the reason.
SET_BY_PROGRAM = {
    "logger": "curves go to TensorBoard in the run's folder; --loggers adds other loggers",
    "callbacks": "--patience, --pictures and --callbacks add to those of every run",
    "enable_checkpointing": "a run always ends with a checkpoint",
    "enable_progress_bar": "the program has its own progress bar",
    "enable_model_summary": "TensorBoard's Graphs tab shows the network",
    "fast_dev_run": "it would write no checkpoint to test; give --max_epochs 1 for a short run",
    "barebones": "it would turn off the logger and the checkpoints",
    "default_root_dir": "a run's folder is inside --log_dir",
    "num_sanity_val_steps": "it would log the validation of an untrained network",
    "plugins": "a plugin is a Python object; --precision and --strategy choose the usual ones",
    "limit_val_batches": "all validation rows choose the epoch; --data.val_fraction says how many",
    "limit_test_batches": "all test rows are tested; --data.test_fraction says how many",
    "limit_predict_batches": "train.py does not predict",
    "overfit_batches": "batches are drawn anew in each epoch; to overfit a few rows, give a large "
    "--data.test_fraction",
    "reload_dataloaders_every_n_epochs": "the rows are read once",
    "use_distributed_sampler": "every process takes its share of the rows",
    "enable_autolog_hparams": "config.yaml and TensorBoard have all settings",
    "model_registry": "it would upload checkpoints; a run stays in its folder",
}

# The arguments that one command has alone.
TRAIN_ONLY = ("compile", "pictures", "callbacks", "loggers")
EVALUATE_ONLY = (
    "folds",
    "repeats",
    "seeds",
    "sweep",
    "search",
    "inner_folds",
    "compare",
    "save",
    "baselines",
    "cluster",
)
BELONGS_TO = dict.fromkeys(TRAIN_ONLY, "train.py") | dict.fromkeys(EVALUATE_ONLY, "evaluate.py")


class Argument(NamedTuple):
    """One argument: its type, its default (`REQUIRED` without one), and whether it has no flag."""

    hint: Any
    default: Any = REQUIRED
    positional: bool = False


Schema = dict[str, Argument]  # by key, such as "seed" or "network.hidden"
Factories = dict[str, partial[Any] | None]  # by component; null for none
Function = Callable[..., Any]


def factory_of(component: str, name: Any) -> partial[Any] | None:
    """Return a component by the name of its class, with the class's own defaults; null for none.

    Raises:
        ValueError: The class is not known. Only the schedule can be null.
    """
    if component == "schedule" and name in (None, "null"):
        return None
    return partial(find(component, name if isinstance(name, str) else to_text(name)))


def build_schema(function: Function, factories: Factories) -> Schema:
    """Return every argument of a function, including those of its components' classes."""
    schema = function_schema(function)
    for component, factory in factories.items():
        if factory is not None:
            schema |= component_schema(component, factory)
    if "trainer" in signature(function).parameters:
        schema |= trainer_schema(function)
    return schema


def function_schema(function: Function) -> Schema:
    """Return a function's arguments, without its components, `trainer`, `sweep` and `compare`.

    A parameter without a default is a positional argument.
    """
    hints = type_hints(function)
    schema = {}
    for name, parameter in signature(function).parameters.items():
        if name in REGISTRY or name in ("trainer", "sweep", "compare"):
            continue
        argument = argument_of(parameter, hints)
        schema[name] = argument._replace(positional=parameter.default is REQUIRED)
    return schema


def component_schema(component: str, factory: partial[Any]) -> Schema:
    """Return the arguments of a component's class, with the defaults that the factory binds."""
    arguments = class_schema(factory.func)
    names = list(arguments)[SUPPLIED_FIRST.get(component, 0) :]
    schema = {}
    for name in names:
        if name in SUPPLIED.get(component, ()):
            continue
        argument = arguments[name]
        if name in factory.keywords:
            argument = argument._replace(default=factory.keywords[name])
        schema[f"{component}.{name}"] = argument
    return schema


def trainer_schema(function: Function) -> Schema:
    """Return the Trainer's arguments that a function takes.

    They are those of its TypedDict, or all but its own arguments and those that the program sets.
    """
    from lightning.pytorch import Trainer  # here, because predict.py does not import Lightning

    taken = SET_BY_PROGRAM.keys() | signature(function).parameters.keys()
    arguments = class_schema(Trainer)
    for hint in get_args(type_hints(function)["trainer"]):
        if typing.is_typeddict(hint):  # the function takes these only
            return {f"trainer.{name}": arguments[name] for name in hint.__annotations__}
    return {f"trainer.{name}": arguments[name] for name in arguments if name not in taken}


@cache  # a search asks for the same classes again and again
def class_schema(cls: Any) -> Schema:
    """Return a constructor's arguments.

    >>> class_schema(find("network", "MLP"))["dropout"]
    Argument(hint=<class 'float'>, default=0.0, positional=False)
    """
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base):
            hints |= type_hints(base.__init__)
    parameters = parameters_of(cls)
    schema = {}
    for name in argument_names(cls):
        argument = Argument(Any, default=None)
        if name in parameters:
            argument = argument_of(parameters[name], hints)
        is_private = name.startswith("_") and argument.default is not REQUIRED
        if not is_private:
            schema[name] = argument
    return schema


def argument_names(cls: Any) -> list[str]:
    """Return the names of a constructor's arguments.

    With `**kwargs`, jsonargparse reads in the source code which arguments they can be.
    """
    parameters = signature(cls).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        parser = ArgumentParser(add_help=False)
        names: list[str] = parser.add_class_arguments(cls, as_group=False, fail_untyped=False)
        return names
    return [p.name for p in parameters if p.kind is not Parameter.VAR_POSITIONAL]


def argument_of(parameter: Parameter, hints: dict[str, Any]) -> Argument:
    """Return a parameter as an argument; without a type, its default suggests one."""
    default = parameter.default
    hint = hints.get(parameter.name, REQUIRED)
    if hint is REQUIRED and default in (REQUIRED, None):
        return Argument(Any, default=None)
    if hint is REQUIRED:
        return Argument(type(default) | Any, default)
    is_optional = type(None) in get_args(hint)
    if default is None and not is_optional:
        hint = hint | None
    if default is REQUIRED and is_optional:
        default = None
    return Argument(hint, default)


def type_hints(function: Function) -> dict[str, Any]:
    """Return a function's type hints; one that cannot be resolved is Any.

    A module can import names for type checkers only: those of Python's own typing modules are known
    here, and each hint is resolved alone, so that another such name affects its own hint only.
    """
    function = unwrap(function)
    names = vars(typing) | vars(collections.abc) | getattr(function, "__globals__", {})
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        hints[name] = Any
        with suppress(NameError, AttributeError, TypeError):
            hints |= get_type_hints(SimpleNamespace(__annotations__={name: annotation}), names)
    return hints
