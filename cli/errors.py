"""Error messages in one line."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line for a name that nothing has.

    >>> unknown("activation", "Relu", ["ReLU", "SiLU", "Tanh"])
    "activation 'Relu' is not known; nearest: ReLU"
    """
    names = {candidate.lower(): candidate for candidate in sorted(known)}
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.0)
    return (
        f"{kind} {name!r} is not known; nearest: {names[near[0]]}"
        if near
        else f"{kind} {name!r} is not known"
    )


def first_line(error: Exception) -> str:
    r"""The first line of an error's message, or its class where it has none.

    >>> first_line(ValueError("two lines\nof text")), first_line(KeyError())
    ('two lines', 'KeyError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
