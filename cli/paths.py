"""Paths that a user gives: `~` and variables stand for what they do in a shell."""

import os

# The arguments that are paths, whatever component they belong to.
PATHS = {"checkpoint", "log_dir", "output", "path", "resume", "root", "table", "test_path"}


def expand_path(path: str) -> str:
    """Return a path with `~`, `$VAR` and `${VAR}` expanded; one that exists is left as it is.

    >>> from pathlib import Path
    >>> os.environ["RUNS"] = "/runs"
    >>> expand_path("$RUNS/iris"), expand_path("~") == str(Path.home())
    ('/runs/iris', True)
    """
    # pathlib would raise errors of names that are too long and of users that do not exist.
    if os.path.exists(path):  # noqa: PTH110
        return path
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111


def check_path(key: str, path: str) -> str:
    """Return the path of a flag, expanded.

    Raises:
        ValueError: It is empty, or no file system can have it.
    """
    if not path or "\0" in path:
        raise ValueError(f"--{key} is {path!r}; give a path")
    return expand_path(path)
