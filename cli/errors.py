"""Error messages of one line."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, no quota, the largest file allowed


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Error message for an unknown name, with the closest known one.

    >>> unknown("activation", "Relu", ["ReLU", "SiLU", "Tanh"])
    "activation 'Relu' is not known; nearest: ReLU"
    """
    by_lowercase = {known_name.lower(): known_name for known_name in sorted(known)}
    message = f"{kind} {name!r} is not known"
    closest = get_close_matches(name.lower(), by_lowercase, n=1, cutoff=0.0)
    if closest:
        message += f"; nearest: {by_lowercase[closest[0]]}"
    return message


def first_line(error: Exception) -> str:
    r"""Return the first line of an error's message, or the error's class if there is no message.

    >>> first_line(ValueError("two lines\nof text")), first_line(KeyError())
    ('two lines', 'KeyError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def in_list(name: str) -> str:
    """A name as a list in a flag has it, in quotes where YAML would read another value.

    >>> in_list("zip code"), in_list("a, b"), in_list("2020"), in_list("it's: so")
    ('zip code', "'a, b'", "'2020'", "'it''s: so'")
    """
    import yaml  # errors alone need it

    try:
        is_plain = yaml.safe_load(f"[{name}]") == [name]
    except yaml.YAMLError:
        is_plain = False
    return name if is_plain else "'" + name.replace("'", "''") + "'"
