"""Ctrl-C and SIGTERM end a command with one line and an exit code, 130 or 143, at any moment.

Each command imports this before anything else: importing the libraries takes seconds, and in them
Ctrl-C would be a traceback. Afterwards a signal raises an exception, so that files are closed and
temporary ones removed; `uninterrupted` holds it back while something is written.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

EXIT_CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}
COMMANDS = ("train.py", "evaluate.py", "predict.py", "explain.py", "export.py")

Handlers = dict[int, Any]  # a function, or one of signal's own constants


class Terminated(KeyboardInterrupt):
    """SIGTERM: it ends a command as Ctrl-C does, with another exit code."""


class Held:
    """What `uninterrupted` holds back: the signals that came, and how many blocks are open."""

    blocks = 0
    signals: list[int] = []  # noqa: RUF012  # there is one process, and one main thread


def leave(number: int, frame: FrameType | None) -> None:
    """Handler while libraries are imported: nothing is open, and exceptions get lost in imports."""
    if is_first_process():
        os.write(2, b"error: stopped\n")
    os._exit(EXIT_CODES[number])


def stop(number: int, frame: FrameType | None) -> None:
    """Handler of a command that runs: raise, but not into the clean-up after an earlier signal."""
    if Held.blocks:
        Held.signals.append(number)
    elif interrupt_of(sys.exception()) is None:
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block ends, where `stop` handles them.

    TensorBoard's writer, for example, is a queue between two threads. Interrupted while it takes a
    value, it can lose count, and closing it would wait for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    Held.blocks += 1
    try:
        yield
    finally:
        Held.blocks -= 1
    if Held.signals and not Held.blocks:
        number = Held.signals[0]
        Held.signals = []
        stop(number, None)


def catch(handler: Any) -> Handlers:
    """Handle the signals with this; return their handlers before. An ignored one stays ignored."""
    before: Handlers = {}
    if threading.current_thread() is not threading.main_thread():
        return before
    for number in EXIT_CODES:
        # A shell's background jobs ignore Ctrl-C; None is a handler that Python cannot set again.
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, handler)
    return before


def restore(handlers: Handlers) -> None:
    """Handle the signals as before `catch`."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def interrupt_of(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that an error comes from: Lightning turns it into a SystemExit."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def is_first_process() -> bool:
    """Whether this is not one of the processes that Lightning, torchrun or SLURM started."""
    return process_index() == 0


def process_index() -> int:
    """The index of this process among those that were started with it."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # torchrun's, Lightning's, SLURM's
    return int(next((os.environ[name] for name in names if name in os.environ), 0))


def is_command() -> bool:
    """Whether the script that Python runs is a command of this project, not a test or notebook."""
    script = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
    return script.name in COMMANDS and script.parent == Path(__file__).resolve().parents[1]


if is_command():
    catch(leave)
    # Python's very end, where it takes handlers away: registered first, this is called last.
    atexit.register(catch, signal.SIG_IGN)
