"""Error messages of one line."""

import errno
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, no quota, the largest file allowed

SHOWN = 100  # characters of a value in a message
LINE = 1000  # of a message


class LostProcessError(RuntimeError):
    """Another process of a run ended: one line and exit code 1."""


class Speaker:
    """Which of several processes prints the error; None until a run decides it: the first one."""

    is_this: bool | None = None


def quoted(value: object) -> str:
    """A value in a message: as Python writes it, without the middle of a long one.

    >>> quoted("mlp"), len(quoted("x" * 3000))
    ("'mlp'", 99)
    """
    return shortened(repr(value), SHOWN)


def shortened(text: str, size: int) -> str:
    """A text of at most `size` characters: a long one loses its middle."""
    if len(text) <= size:
        return text
    half = (size - len(" ... ")) // 2
    return f"{text[:half]} ... {text[-half:]}"


def one_line(message: str) -> str:
    r"""An error's message as one line of bounded length.

    >>> one_line("two lines\n  of text, and a path: 'a  b'")
    "two lines of text, and a path: 'a  b'"
    """
    lines = [line.strip() for line in message.splitlines()]
    return shortened(" ".join(filter(None, lines)), LINE)


def unknown(
    kind: str, name: str, known: Iterable[str], spellings: Mapping[str, str] | None = None
) -> str:
    """Error message for an unknown name, with the closest known one.

    Args:
        kind: What the name is of.
        name: The unknown name.
        known: All known names.
        spellings: Known names by what users may write for them; None: as they are.

    >>> unknown("activation", "Relu", ["ReLU", "SiLU", "Tanh"])
    "activation 'Relu' is not known; nearest: ReLU"
    """
    names = spellings or {known_name: known_name for known_name in sorted(known)}
    by_lowercase = {spelling.lower(): known_name for spelling, known_name in names.items()}
    message = f"{kind} {quoted(name)} is not known"
    closest = get_close_matches(name.lower()[:SHOWN], by_lowercase, n=1, cutoff=0.0)
    if closest:
        message += f"; nearest: {by_lowercase[closest[0]]}"
    return message


def first_line(error: BaseException) -> str:
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
