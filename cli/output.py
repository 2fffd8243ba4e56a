"""Standard output that tells when it could not take everything."""

import io
import sys


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
