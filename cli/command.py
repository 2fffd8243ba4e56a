"""Run a typed function as a command: its errors become one line and an exit code."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

from cli.errors import one_line
from cli.parser import parse


def command(function: Callable[..., Any], argv: Sequence[str] | None = None) -> None:
    """Run `function` with the arguments of the command line, `sys.argv` by default.

    An error ends the program with one line on standard error and an exit code:
    2 for wrong input, 1 for a training that failed, 130 for Ctrl-C, 141 for a closed pipe.
    """
    quiet()
    escape_output()
    tokens = sys.argv[1:] if argv is None else list(argv)
    try:
        function(**parse(function, tokens))
    except BrokenPipeError:  # the reader, for example `| head`, closed the pipe
        # Python flushes standard output when it exits; that must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except (ValueError, OSError, NotImplementedError) as error:
        fail(str(error), 2)
    except FloatingPointError as error:
        fail(str(error), 1)
    except KeyboardInterrupt as error:
        fail(str(error) or "stopped", 130)
    except Exception as error:  # one kind of error is wanted, the others are raised again
        # Lightning's exception is compared by name, because predict.py does not import Lightning.
        if type(error).__name__ != "MisconfigurationException":
            raise
        fail(str(error), 2)


def fail(message: str, code: int) -> NoReturn:
    """End the program with one line on standard error."""
    print("error:", one_line(message), file=sys.stderr)
    sys.exit(code)


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
    ignored = (
        ".*LeafSpec.*",  # Lightning 2.6.6 on torch 2.15
        ".*torch.jit.trace.*",  # TensorBoard's add_graph on torch 2.15
        "GPU available but not used",  # --accelerator cpu says so
        ".*AccumulateGrad node's stream.*",  # Lightning 2.6.6's ddp on torch 2.11
        ".*NO_SHARD.*",  # fsdp on one device
        "Checkpoint directory .* exists and is not empty",  # when a run is resumed
    )
    for message in ignored:
        warnings.filterwarnings("ignore", message=message)
