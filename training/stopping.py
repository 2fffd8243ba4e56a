"""How a run ends early: Ctrl-C, SIGTERM, a disk that is full or gone."""

import errno
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cli.errors import FULL


def resume_words(script: str, run: Path) -> list[str]:
    """The words of a command that goes on with a run, given by its checkpoint or folder."""
    started = sys.argv[0]  # where the script is, if it runs and was not called from Python
    return ["python", started if Path(started).name == script else script, "--resume", str(run)]


def disk_fault(error: BaseException | None, run_dir: Path) -> OSError | None:
    """The failed write into a run's folder that an error comes from, if there is one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno not in (None, errno.EPIPE):
            names = [name for name in (error.filename, error.filename2) if is_path(name)]
            # A write to a file that is open has no name.
            if not names or any(is_inside(name, run_dir) for name in names):
                return error
        error = error.__cause__ or error.__context__
    return None


def is_path(name: Any) -> bool:
    """Whether an error's file is a path, not a number or nothing."""
    return isinstance(name, str | bytes | os.PathLike)


def is_inside(path: str | bytes | os.PathLike[str], folder: Path) -> bool:
    """Whether a path is in a folder, or the folder itself."""
    return Path(os.fsdecode(path)).absolute().is_relative_to(folder.absolute())


def advice_on(fault: OSError, words: Sequence[str]) -> str:
    """Why a run's folder cannot be written, and what to do.

    >>> advice_on(OSError(errno.ENOSPC, "No space left on device"), ["python", "train.py"])
    'No space left on device; make space, then resume with: python train.py'

    Args:
        fault: The failed write.
        words: Words of the command that goes on with the run; none where nothing was kept.
    """
    steps = ["make space"] if fault.errno in FULL else []
    if words:
        steps.append(f"resume with: {shlex.join(words)}")
        return f"{fault.strerror}; {', then '.join(steps)}"
    steps.append("give another --log_dir")
    return f"{fault.strerror}; nothing was kept; {' or '.join(steps)}"


def leave_process_group() -> None:
    """Stop the threads of torch.distributed before Python ends.

    Lightning does so for NCCL only. Gloo's threads would sometimes outlive the interpreter:
    "terminate called without an active exception".
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
