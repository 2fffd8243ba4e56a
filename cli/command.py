"""Run a typed function as a command: its errors become one line and an exit code."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any

from cli.errors import LostProcessError, Speaker, one_line
from cli.interrupts import (
    Handlers,
    Terminated,
    catch,
    interrupt_of,
    is_first_process,
    leave,
    process_index,
    restore,
    stop,
)
from cli.output import check_writes, show
from cli.parser import parse

FIRST_SECONDS = 5.0  # in which a process is ended after the first one


def command(function: Callable[..., Any], argv: Sequence[str] | None = None) -> None:
    """Run `function` with the arguments of the command line, `sys.argv` by default.

    An error ends the program with one line on standard error and an exit code:
    2 for wrong input or a full disk, 1 for a training that failed, 130 for Ctrl-C, 143 for SIGTERM,
    141 for a closed pipe.
    """
    quiet()
    if argv is None:  # in a process of its own
        check_writes()
    escape_output()
    tokens = sys.argv[1:] if argv is None else list(argv)
    handlers: Handlers = {}
    code = 1
    try:
        handlers = catch(stop)
        call(function, tokens)
        code = 0
    except BaseException as error:
        code = exit_code(error)
    finally:
        if argv is None:  # Python ends: it closes threads and libraries, and Ctrl-C waits for none
            catch(lambda *_: os._exit(code))
        else:
            restore(handlers)
    if code:
        sys.exit(code)


def call(function: Callable[..., Any], tokens: Sequence[str]) -> None:
    """Call the function; what it, or --help, printed is written when this returns."""
    try:
        function(**parse(function, tokens))
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()


def exit_code(error: BaseException) -> int:
    """Print an error as one line, and return the program's exit code.

    Raises:
        BaseException: The error itself, if it is the program's own.
    """
    interrupt = interrupt_of(error)
    if interrupt is not None:
        if is_first_process() or Speaker.is_this:
            print_error(str(interrupt) or "stopped")
        return 143 if isinstance(interrupt, Terminated) else 130
    if isinstance(error, OSError):
        discard_output()
    if isinstance(error, BrokenPipeError):  # the reader, for example `| head`, closed the pipe
        return 141
    # Lightning's exception is compared by name, because predict.py does not import Lightning.
    is_misconfiguration = type(error).__name__ == "MisconfigurationException"
    if is_misconfiguration or isinstance(error, ValueError | OSError | NotImplementedError):
        print_error(str(error))
        return 2
    if isinstance(error, FloatingPointError | LostProcessError):
        print_error(str(error))
        return 1
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which not every command imports
        print_error(
            "the memory of the GPU is full; give a smaller --data.batch_size, fewer networks, or "
            f"--accelerator cpu: {error}"
        )
        return 1
    raise error


def print_error(message: str) -> None:
    """Print one line on standard error, unless another process of the run does."""
    if Speaker.is_this is None and not is_first_process():
        Speaker.is_this = outlives_first()
        message = f"process {process_index()}: {message}"
    if Speaker.is_this is not False:
        show(f"error: {one_line(message)}", file=sys.stderr)


def outlives_first() -> bool:
    """Whether this process, which is not the first one, has an error that the first does not have.

    Where the first one has it too, what started the processes ends this one within seconds.
    """
    catch(leave)
    parent = os.getppid()
    until = time.monotonic() + FIRST_SECONDS
    while os.getppid() == parent and time.monotonic() < until:
        time.sleep(0.1)
    return os.getppid() == parent


def discard_output() -> None:
    """Drop what standard output cannot take: Python would try, and fail, again when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def escape_output() -> None:
    """Let a name that a terminal or file cannot encode be printed with escapes, not as an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def quiet() -> None:
    """Silence log lines and warnings that users cannot act on."""
    # "GPU available: False", tips, "`Trainer.fit` stopped"
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # The report of --trainer.profiler is a log line, too.
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)
    # "No CUDA runtime is found", with --compile on a CPU
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    ignored = (
        ".*LeafSpec.*",  # Lightning 2.6.6 on torch 2.15
        ".*torch.jit.trace.*",  # TensorBoard's add_graph on torch 2.15
        "GPU available but not used",  # --accelerator cpu says so
        ".*AccumulateGrad node's stream.*",  # Lightning 2.6.6's ddp on torch 2.11
        ".*NO_SHARD.*",  # fsdp on one device
        "Checkpoint directory .* exists and is not empty",  # when a run is resumed
        "The `srun` command is available",  # docs/cluster.md says when to use it
    )
    for message in ignored:
        warnings.filterwarnings("ignore", message=message)
