"""What a schedule is called with besides its optimizer: arguments that depend on the run."""

from functools import partial
from inspect import signature
from typing import Any

from torch.optim import Optimizer

from cli.component import Factory


def accepted_by(factory: Factory, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a class, or a partial of one, takes."""
    parameters = signature(partial(factory).func).parameters
    return {name: value for name, value in arguments.items() if name in parameters}


def run_arguments(
    make_schedule: Factory, make_optimizer: Factory, optimizer: Optimizer, total_steps: int
) -> dict[str, Any]:
    """The arguments of a schedule that depend on the run, as far as its class takes them.

    Args:
        make_schedule: The schedule's class, or a partial of it.
        make_optimizer: The same of the optimizer.
        optimizer: The optimizer that it made.
        total_steps: Optimizer steps of the whole fit.

    Raises:
        ValueError: The schedule would override a momentum that was given.
    """
    known = {
        "total_steps": total_steps,
        "T_max": total_steps,
        "max_lr": optimizer.param_groups[0]["lr"],
    }
    arguments = accepted_by(make_schedule, known)
    if "cycle_momentum" in signature(partial(make_schedule).func).parameters:
        arguments["cycle_momentum"] = cycles_momentum(make_schedule, make_optimizer, optimizer)
    return arguments


def cycles_momentum(make_schedule: Factory, make_optimizer: Factory, optimizer: Optimizer) -> bool:
    """Whether OneCycleLR or CyclicLR sets the momentum, or the first beta, in every step.

    torch's default is to do so, without a word on the value that the optimizer was given. Here a
    momentum means what was given: it is cycled only where the schedule is told to. Betas that
    nobody gave are cycled too, as the default recipe was measured.

    Raises:
        ValueError: Both are given.
    """
    given = partial(make_optimizer).keywords
    held = [name for name in ("momentum", "betas") if name in given]
    options = partial(make_schedule).keywords
    asked = options.get("cycle_momentum")
    if asked is None and options.keys() & {"base_momentum", "max_momentum"}:
        asked = True
    if asked is None:
        return "betas" in optimizer.defaults and not held
    if asked and held:
        raise ValueError(
            f"the schedule would override optimizer.{held[0]} {given[held[0]]}; "
            "give it --schedule.cycle_momentum false"
        )
    return bool(asked)
