"""What the scripts beside it share: the machine they ran on, and what a whole process costs."""

import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")),
        platform.processor(),
    )


# Runs between this process and the measured one, because a process starts with the peak memory of
# the process that started it.
LAUNCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def whole(*line: str, code: int = 0) -> tuple[float, float]:
    """Seconds and peak MiB of a whole Python process, in an empty folder."""
    launch = [sys.executable, "-S", "-c", LAUNCH, sys.executable, *line]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(launch, cwd=folder, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - start
    assert done.returncode == code, line
    return seconds, int(done.stdout) / 1024
