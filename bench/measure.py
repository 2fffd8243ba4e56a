"""What the scripts that measure share: the machine's processor, and the cost of a process."""

import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

ROOT = Path(__file__).parents[1]

# Runs between this process and the measured one, because a process starts with the peak memory of
# the process that started it.
LAUNCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def quiet_trainer(epochs: int, accelerator: str = "cpu", precision: Any = "32-true") -> Trainer:
    """A Trainer that writes and prints nothing."""
    return Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def processor() -> str:
    """The processor's name, as well as the system knows it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(": ")[1]
    return platform.processor()


def whole(*arguments: str, code: int = 0) -> tuple[float, float]:
    """Seconds and peak MiB of a Python process with these arguments, run in an empty folder."""
    launch = [sys.executable, "-S", "-c", LAUNCH, sys.executable, *arguments]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(launch, cwd=folder, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - start
    assert done.returncode == code, arguments
    return seconds, int(done.stdout) / 1024
