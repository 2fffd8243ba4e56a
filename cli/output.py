"""What reaches the terminal: names that cannot steer it, and writes that fail loudly."""

import io
import sys
from typing import TextIO

# Spaces and joiners that words of some languages need; Python does not count them as printable.
SPACES = "\u00a0\u200c\u200d\u202f\u3000"


def printable(text: str) -> str:
    r"""A text whose control characters, line breaks and the like are escaped.

    A terminal obeys escape sequences, also those in the name of a column, a class or a file.

    >>> printable("Ärger \x1b[2J\n"), printable("\u202etxt.exe")
    ('Ärger \\x1b[2J\\n', '\\u202etxt.exe')
    """
    return "".join(
        c if c.isprintable() or c in SPACES else c.encode("unicode_escape").decode() for c in text
    )


def show(*lines: str, file: TextIO | None = None) -> None:
    """Print lines, each as one line whatever names are in it."""
    print(*map(printable, lines), sep="\n", file=file)


def check_writes() -> None:
    """Give an unbuffered standard output a buffer, which writes all or raises an error.

    With PYTHONUNBUFFERED a write to a full disk may end early, and Python would not notice.
    """
    stdout = sys.stdout
    if isinstance(getattr(stdout, "buffer", None), io.RawIOBase):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(stdout.buffer),
            encoding=stdout.encoding,
            errors=stdout.errors,
            line_buffering=True,
        )
