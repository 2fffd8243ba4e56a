"""Which share of small changes to the code the tests notice: a random sample, by mutmut.

    python -m bench.mutants        # about 15 minutes on 2 cores
    python -m bench.mutants 40     # so many mutants; writes nothing

mutmut changes one place of a file (a number, an operator, an argument) and runs the tests that
reach it; [tool.mutmut] in pyproject.toml names the files and tests. The results, with the changes
that no test noticed, are in bench/results/mutants.json. Needs `pip install mutmut`.
"""

import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.measure import ROOT, processor

RESULT = Path(__file__).with_name("results") / "mutants.json"
COUNT = 60
NOTICED = {1, 3, 24, 36, 37, 152, 255, -24, -9}  # exit codes: a test failed, or did not end


def main() -> None:
    """Draw a sample, run it, write mutants.json."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with tempfile.TemporaryDirectory() as root:
        copy = Path(root, "copy")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "lightning_logs", "site"))
        # A name that no mutant has: makes the mutants, and finds which tests reach which function.
        mutmut(copy, "none")
        names = sorted(exit_codes(copy))
        sample = random.Random(0).sample(names, count)
        mutmut(copy, *sample)
        codes = {name: exit_codes(copy)[name] for name in sample}
        survivors = {name: difference(copy, name) for name in sample if codes[name] not in NOTICED}
    killed = len(sample) - len(survivors)
    print(f"{killed} of {len(sample)} mutants were noticed")
    for name, changed in survivors.items():
        print(name, codes[name], *changed, sep="\n    ")
    result: dict[str, Any] = {
        "command": "python -m bench.mutants",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {"python": platform.python_version()},
        "n": f"a random sample of {len(sample)} of {len(names):,} mutants",
        "noticed": killed,
        "sample": len(sample),
        "survivors": survivors,
    }
    if count == COUNT:
        RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def mutmut(folder: Path, *names: str) -> None:
    """Run some mutants; what mutmut prints is kept in mutmut.log."""
    with (folder / "mutmut.log").open("a") as log:
        subprocess.run(
            [sys.executable, "-m", "mutmut", "run", "--max-children", "2", *names],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )


def exit_codes(folder: Path) -> dict[str, int | None]:
    """Each mutant's exit code; None of one that was not run."""
    codes: dict[str, int | None] = {}
    for path in (folder / "mutants").rglob("*.meta"):
        codes |= json.loads(path.read_text())["exit_code_by_key"]
    return codes


def difference(folder: Path, name: str) -> list[str]:
    """The changed lines of a mutant."""
    shown = subprocess.run(
        [sys.executable, "-m", "mutmut", "show", name], cwd=folder, capture_output=True, text=True
    )
    lines = shown.stdout.splitlines()
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


if __name__ == "__main__":
    main()
