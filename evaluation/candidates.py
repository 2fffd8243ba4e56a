"""Candidates: the combinations of settings that a sweep or a comparison tries."""

import json
import shlex
from collections.abc import Collection
from functools import partial
from inspect import Signature
from itertools import product
from typing import Any

from cli.component import ComponentConfig, describe, to_config
from cli.errors import unknown
from cli.registry import LEARNED, find
from cli.schema import component_schema
from evaluation.search import EXAMPLE, Sweep, check_sweep, draw_all

# What candidates may differ in besides their components; those that share it train together.
SHARED = ("data", "max_epochs", "members", "patience")
# The settings of the data that say which rows there are, and how they are cut into folds.
SAME_ROWS = (
    "path",
    "target",
    "groups",
    "time",
    "split",
    "test_path",
    "stratify",
    "split_seed",
    "test_fraction",
)

# The arguments of evaluate.py that train.py takes too and that change what is learned.
TRAIN_ARGUMENTS = (
    "data",
    *LEARNED,
    "precision",
    "max_epochs",
    "members",
    "patience",
    "metric",
    "seed",
    "trainer",
)

Components = dict[str, Any]  # a ComponentConfig, or None for no schedule, for each of LEARNED
Candidate = dict[str, Any]  # the same for each of LEARNED, and a value for each of SHARED


def make_candidates(
    settings: Candidate,
    sweep: Sweep | None,
    compare: dict[str, Components] | None,
    search: int | None = None,
    seed: int = 0,
) -> dict[str, Candidate]:
    """The settings of each candidate, by the candidate's name.

    Args:
        settings: The settings of the command line.
        sweep: What to try, by flag: {"optimizer.lr": [0.1, 0.2]}, or for a search a range.
        compare: The components to compare, by name.
        search: Number of candidates to draw from the sweep; None tries all combinations.
        seed: Seed of the draws.

    Raises:
        ValueError: Both sweep and compare are given, or one of them cannot be used.
    """
    if sweep is not None and compare is not None:
        raise ValueError("sweep and compare are both given; give one of them")
    if search is not None and sweep is None:
        raise ValueError(
            f"search is {search}, but there is nothing to draw from; give lists or ranges, as in "
            f"--sweep.optimizer.lr {EXAMPLE}"
        )
    if compare is not None:
        if len(compare) < 2:
            raise ValueError(
                f"compare has {len(compare)} candidate; give two or more, of different names"
            )
        return {name: settings | to_config(changes) for name, changes in compare.items()}
    if sweep is not None:
        check_sweep(sweep, search)
        if search is not None:
            return named(settings, draw_all(sweep, search, seed))
        combinations = product(*sweep.values())
        return named(settings, [dict(zip(sweep, values, strict=True)) for values in combinations])
    return {"default": settings}


def named(settings: Candidate, combinations: list[dict[str, Any]]) -> dict[str, Candidate]:
    """The candidates with these values of a sweep, by names such as "optimizer.lr 0.1"."""
    candidates = {}
    for changes in combinations:
        name = ", ".join(f"{key} {as_flag(value)}" for key, value in changes.items())
        candidates[name] = changed(settings, changes)
    return candidates


def changed(settings: Candidate, changes: dict[str, Any]) -> Candidate:
    """A candidate: the settings, with other values for some flags."""
    candidate = {
        name: dict(value) if isinstance(value, dict) else value for name, value in settings.items()
    }
    for key, value in changes.items():
        change(candidate, key, value)
    return candidate


def change(candidate: Candidate, key: str, value: Any) -> None:
    """Put a value into a candidate's settings, as `--KEY VALUE` would.

    Raises:
        ValueError: No candidate may differ in it, or no component has such an argument.
    """
    name, _, argument = key.partition(".")
    if name == "data" and argument in ("", *SAME_ROWS):
        raise ValueError(
            f"the sweep has {key!r}, but all candidates meet the same rows in the same folds; "
            f"give one --{key}"
        )
    if name not in (*LEARNED, *SHARED):
        raise ValueError(
            f"the sweep has {key!r}; give arguments of {', '.join(LEARNED)} or data, or max_epochs,"
            " members or patience"
        )
    if not argument and name in SHARED:
        candidate[name] = value
        return
    if not argument:
        candidate[name] = None
        if value is not None:
            candidate[name] = describe(name, find(name, value))
        return
    config: ComponentConfig = candidate.get(name) or {}
    known: Collection[str] = ()
    if config:
        known = component_schema(name, partial(find(name, config["class"])))
    if key not in known:
        raise ValueError(unknown("setting to sweep", key, known))
    config[argument] = value


def as_flag(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def train_commands(
    configs: dict[str, dict[str, Any]],
    defaults: Signature,
    swept_keys: Collection[str] = (),
) -> list[str]:
    """The `python train.py …` that trains each candidate.

    Args:
        configs: The arguments of each candidate, as plain data.
        defaults: The signature whose defaults train.py shares: that of evaluate.py.
        swept_keys: The settings that were tried: they are shown also at their defaults.
    """
    values = {name: parameter.default for name, parameter in defaults.parameters.items()}
    return [train_command(config, values, swept_keys) for config in configs.values()]


def train_command(
    config: dict[str, Any], defaults: dict[str, Any], swept_keys: Collection[str] = ()
) -> str:
    """The `python train.py …` that trains with these arguments; train.py's defaults are left out.

    Args:
        config: Plain values of the TRAIN_ARGUMENTS; others are ignored.
        defaults: The defaults of the TRAIN_ARGUMENTS, components as classes.
        swept_keys: The settings that are not left out.
    """
    words = ["python", "train.py"]
    for name in TRAIN_ARGUMENTS:
        value = config[name]
        default = defaults[name]
        if name == "trainer":
            words += flags_of_trainer(value or {})
        elif isinstance(value, dict):
            words += component_flags(name, value, describe(name, default) or {}, swept_keys)
        elif value != default or name in swept_keys:
            words += [f"--{name}", as_flag(value)]
    return shlex.join(words)


def flags_of_trainer(arguments: dict[str, Any]) -> list[str]:
    """The flags of the Trainer's arguments.

    >>> flags_of_trainer({"gradient_clip_val": 0.5})
    ['--trainer.gradient_clip_val', '0.5']
    """
    return [
        word for name, value in arguments.items() for word in (f"--trainer.{name}", as_flag(value))
    ]


def component_flags(
    name: str,
    config: ComponentConfig,
    default: ComponentConfig,
    swept_keys: Collection[str] = (),
) -> list[str]:
    """The flags that turn a default component into another, and those of its swept settings.

    >>> default = {"class": "SGD", "lr": 0.1}
    >>> component_flags("optimizer", {"class": "SGD", "lr": 0.2}, default)
    ['--optimizer.lr', '0.2']
    """
    flags = []
    has_other_class = config["class"] != default.get("class")
    if has_other_class or name in swept_keys or not default.keys() <= config.keys():
        # Naming a class also resets its arguments to their own defaults.
        flags += [f"--{name}", config["class"]]
        default = describe(name, find(name, config["class"])) or {}
    for key, value in config.items():
        is_default = key in default and default[key] == value
        if not is_default or f"{name}.{key}" in swept_keys:
            flags += [f"--{name}.{key}", as_flag(value)]
    return flags
