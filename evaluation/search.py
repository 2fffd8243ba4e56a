"""Search: candidates whose settings are drawn at random, from lists and from ranges of numbers."""

from math import exp, isfinite, log
from typing import Any

import numpy as np

from cli.errors import unknown

# Of each setting what it may be: a list of values, or a range {"low": …, "high": …, "log": …}.
Sweep = dict[str, list[Any] | dict[str, Any]]

EXAMPLE = '"{low: 0.001, high: 0.1, log: true}"'
DRAWS = 20  # of each candidate, before the sweep is said to have too few


def check_sweep(sweep: Sweep, search: int | None) -> None:
    """Refuse a sweep without values, and ranges from which nothing can be drawn.

    Args:
        sweep: What each setting may be.
        search: Number of candidates to draw; None for all combinations of lists.

    Raises:
        ValueError: A list is empty, or a range is empty or the wrong way round.
    """
    if not sweep or not all(sweep.values()):
        raise ValueError(
            "the sweep is empty; give each setting a list of one value or more, or a range "
            f"such as {EXAMPLE}"
        )
    for key, values in sweep.items():
        if isinstance(values, list):
            continue
        check_range(key, values)
        if search is None:
            raise ValueError(
                f"--sweep.{key} is a range; give --search 50 to draw 50 candidates, or a list"
            )


def check_range(key: str, limits: dict[str, Any]) -> None:
    """Refuse a range from which no number can be drawn.

    Raises:
        ValueError: A limit is missing or no number, or the range is empty.
    """
    for name in limits:
        if name not in ("low", "high", "log"):
            raise ValueError(unknown(f"--sweep.{key}: limit", name, ("low", "high", "log")))
    for name in ("low", "high"):
        limit = limits.get(name)
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not isfinite(limit):
            raise ValueError(f"--sweep.{key} has {name} {limit}; give a number, as in {EXAMPLE}")
    low = limits["low"]
    high = limits["high"]
    is_log = limits.get("log", False)
    if low >= high:
        raise ValueError(f"--sweep.{key} has low {low} and high {high}; give a low below the high")
    if is_log not in (True, False):
        raise ValueError(f"--sweep.{key} has log {is_log}; give true or false")
    if is_log and low <= 0:
        raise ValueError(f"--sweep.{key} has low {low} and a log scale; give a low above 0")


def draw_all(sweep: Sweep, count: int, seed: int) -> list[dict[str, Any]]:
    """Different combinations of values, drawn at random.

    >>> draw_all({"seed": [1, 2], "lr": {"low": 0.1, "high": 10.0, "log": True}}, 2, seed=0)
    [{'seed': 2, 'lr': 0.3464}, {'seed': 2, 'lr': 0.1208}]

    Args:
        sweep: What each setting may be.
        count: Number of combinations.
        seed: Seed of the draws.

    Raises:
        ValueError: There are not that many.
    """
    if count < 1:
        raise ValueError(f"search is {count}; give 1 or more")
    generator = np.random.default_rng(seed)
    drawn: dict[str, dict[str, Any]] = {}
    for _ in range(DRAWS * count):
        values = {key: draw(choices, generator) for key, choices in sweep.items()}
        drawn[str(values)] = values
        if len(drawn) == count:
            return list(drawn.values())
    raise ValueError(
        f"search is {count}, but {DRAWS * count} draws gave only {len(drawn)} different "
        "candidates; give a smaller number or wider ranges"
    )


def draw(choices: list[Any] | dict[str, Any], generator: np.random.Generator) -> Any:
    """A value of a list, or a number of a range: whole between whole limits, else of 4 digits."""
    if isinstance(choices, list):
        return choices[generator.integers(len(choices))]
    low = choices["low"]
    high = choices["high"]
    is_whole = isinstance(low, int) and isinstance(high, int)
    margin = 0.5 if is_whole else 0.0  # the limits are as likely as the numbers between
    if choices.get("log"):
        exponent = generator.uniform(log(low - margin), log(high + margin))
        number = exp(exponent)
    else:
        number = generator.uniform(low - margin, high + margin)
    number = round(number) if is_whole else float(f"{number:.4g}")
    return min(max(number, low), high)
