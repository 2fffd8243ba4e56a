"""Run a typed function as a command: its errors become one line and an exit code."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch

from cli.parser import parse


def command(function: Callable[..., Any], argv: Sequence[str] | None = None) -> None:
    """Run `function` as the command line says; one line and exit code 2 for wrong input, 1 for a failed training."""
    quiet()
    try:
        function(**parse(function, sys.argv[1:] if argv is None else list(argv)))
    except BrokenPipeError:  # `| head`: who read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python's flush at the end
        sys.exit(141)
    except (ValueError, OSError, NotImplementedError) as error:
        fail(str(error), 2)
    except FloatingPointError as error:
        fail(str(error), 1)
    except KeyboardInterrupt as error:
        fail(str(error) or "stopped", 130)
    except Exception as error:
        if (
            type(error).__name__ != "MisconfigurationException"
        ):  # Lightning's, by name: predict.py does not import it
            raise
        fail(str(error), 2)


def fail(message: str, code: int) -> NoReturn:
    """End with one line on standard error."""
    print("error:", " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def quiet() -> None:
    """Keep off the screen what no user can act on."""
    for name in (
        "lightning.pytorch",
        "lightning.fabric",
    ):  # "GPU available: False", tips, "`fit` stopped"
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6.6 on torch 2.15
    warnings.filterwarnings(
        "ignore", message=".*torch.jit.trace.*"
    )  # TensorBoard's add_graph on torch 2.15
    warnings.filterwarnings(
        "ignore", message="Checkpoint directory .* exists and is not empty"
    )  # a resumed run's
    # torch 2.15's optimizers look for a driver library in every step, a tenth of a small fit; here is no GPU to find.
    if not torch.cuda.is_available():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
