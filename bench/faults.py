"""What a run survives: kills, signals, full disks, damaged and hostile files, wrong commands.

    python -m bench.faults                     # all rows, about an hour on 2 cores
    python -m bench.faults damaged_checkpoints # some of them
    python -m bench.faults --small             # under three minutes; writes nothing

Each row tries a fault many times at random moments and counts how often what must hold did. The
results are in bench/results/faults.json, which is written after every row; docs/faults.md shows
them. Every fault runs in processes of its own, in temporary folders.
"""

import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch

from bench.fault_files import command_lines, damaged_checkpoints, hostile_files
from bench.fault_runs import (
    INTERRUPT,
    KILL,
    STOP,
    Command,
    Ended,
    Outcome,
    differences,
    leftovers,
    outcome,
    preload,
    wait_for,
)
from bench.measure import ROOT, processor
from training.groups import is_finished

RESULT = Path(__file__).with_name("results") / "faults.json"
SMALL = "--small" in sys.argv
FRESH = not SMALL  # whether commands that need not are started by a new Python too
QUICK = ["train.py", "--accelerator", "cpu", "--pictures", "none"]
RUNS: dict[str, list[str]] = {
    "plain": ["--max_epochs", "700"],
    "validation": ["--max_epochs", "500", "--data.val_fraction", "0.2"],
    "patience": ["--max_epochs", "900", "--data.val_fraction", "0.2", "--patience", "300"],
    "dropout": ["--max_epochs", "400", "--network.dropout", "0.3", "--data.batch_size", "64"],
    "augmentation": [
        "--max_epochs",
        "60",
        "--data",
        "Images",
        "--data.rotation",
        "10",
        "--data.batch_size",
        "256",
    ],
    "plateau": [
        *("--max_epochs", "500", "--data.val_fraction", "0.2"),
        *("--schedule", "ReduceLROnPlateau"),
    ],
    "cosine restarts": [
        *("--max_epochs", "700", "--schedule", "CosineAnnealingWarmRestarts"),
        *("--schedule.T_0", "90"),
    ],
    "population": ["--max_epochs", "400", "--members", "8", "--data.batch_size", "64"],
    "two processes": ["--max_epochs", "500", "--devices", "2", "--strategy", "ddp"],
}
EVALUATIONS: dict[str, list[str]] = {
    "folds": ["--max_epochs", "400"],
    "sweep": [
        *("--folds", "3", "--repeats", "2", "--inner_folds", "3", "--max_epochs", "300"),
        *("--sweep.network.hidden", "[[8],[16]]"),
    ],
    "search": [
        *("--folds", "3", "--repeats", "2", "--inner_folds", "3", "--max_epochs", "300"),
        *("--sweep.optimizer.lr", "{low: 0.001, high: 0.1, log: true}", "--search", "6"),
    ],
    "saved": ["--max_epochs", "400", "--save", "--data.val_fraction", "0.2", "--patience", "100"],
}


class Try(NamedTuple):
    """One try of a fault: whether what must hold did, and what happened."""

    held: bool
    note: str


def tries(count: int, small: int) -> int:
    return small if SMALL else count


def in_pairs(calls: Iterable[Callable[[], list[Try]]]) -> list[Try]:
    """All tries of these calls, two calls at a time."""
    with ThreadPoolExecutor(2) as pool:
        return [each for many in pool.map(lambda call: call(), calls) for each in many]


def killed_train() -> list[Try]:
    """Kill -9 of train.py after its first checkpoint; it ends as an undisturbed run."""
    names = ["dropout"] if SMALL else list(RUNS)
    return in_pairs(partial(killed_runs, name, RUNS[name], tries(7, 1)) for name in names)


def killed_runs(name: str, flags: list[str], count: int) -> list[Try]:
    """Kill a run of train.py at random moments, move its folder, and resume it."""
    numbers = random.Random(name)
    is_fresh = name == "two processes"  # Lightning starts the script a second time
    with tempfile.TemporaryDirectory() as root:
        line = [*QUICK, *flags]
        expected, seconds = undisturbed(line, Path(root, "reference"), is_fresh)
        done = []
        for index in range(count):
            work = Path(root, f"try {index}")
            place = numbers.choice(["lightning_logs", "./logs", str(work / "absolute")])
            command = Command([*line, "--log_dir", place], work, is_fresh)
            wait_for(command, "**/checkpoints/last.ckpt", work)
            time.sleep(numbers.uniform(0, seconds))
            was_running = command.is_running()
            command.send(KILL)
            command.wait()
            run_dir = (work / place / "version_0").resolve()
            if numbers.random() < 0.5:
                moved = work / "moved" / "version_0"
                moved.parent.mkdir()
                run_dir = Path(shutil.move(run_dir, moved))
            how = f"{name}, {place.split('/')[-1]}, {run_dir.parent.name}"
            if was_running:
                last = str(run_dir / "checkpoints" / "last.ckpt")
                resume = ["train.py", "--resume", last, "--accelerator", "cpu"]
                ended = Command(resume, work, is_fresh).wait()
                done.append(compared(ended, run_dir, expected, how))
            else:
                done.append(compared(Ended(0, "", ""), run_dir, expected, f"{how}, not killed"))
    return done


def undisturbed(line: list[str], work: Path, is_fresh: bool = False) -> tuple[Outcome, float]:
    """What a command ends with, and the seconds from its first checkpoint to its end."""
    command = Command([*line, "--log_dir", "logs"], work, is_fresh)
    wait_for(command, "logs/version_0/*", work)
    start = time.monotonic()
    ended = command.wait()
    assert ended.code == 0, ended.stderr
    return outcome(work / "logs" / "version_0"), time.monotonic() - start


def compared(ended: Ended, run_dir: Path, expected: Outcome, how: str) -> Try:
    """Whether a command ended well, with what is expected."""
    if ended.code != 0:
        return Try(False, f"{how}: exit code {ended.code}: {ended.stderr.strip()[-300:]}")
    wrong = differences(outcome(run_dir), expected)
    wrong += leftovers(run_dir)
    return Try(not wrong, f"{how}: {', '.join(wrong)[:300] or 'the same'}")


def killed_evaluate() -> list[Try]:
    """Kill -9 of evaluate.py at any moment of its run; resumed, it ends as undisturbed."""
    names = ["sweep"] if SMALL else list(EVALUATIONS)
    return in_pairs(
        partial(killed_evaluations, name, EVALUATIONS[name], tries(5, 1)) for name in names
    )


def killed_evaluations(name: str, flags: list[str], count: int) -> list[Try]:
    """Kill an evaluation at random moments, and resume it."""
    numbers = random.Random(name)
    with tempfile.TemporaryDirectory() as root:
        line = ["evaluate.py", "--accelerator", "cpu", *flags]
        expected, seconds = undisturbed(line, Path(root, "reference"))
        done = []
        for index in range(count):
            work = Path(root, f"try {index}")
            command = Command(line, work)
            wait_for(command, "lightning_logs/version_0/config.yaml", work)
            time.sleep(numbers.uniform(0, seconds))
            was_running = command.is_running()
            command.send(KILL)
            command.wait()
            run_dir = work / "lightning_logs" / "version_0"
            has_checkpoint = any(run_dir.glob("checkpoints/group_*.ckpt"))
            how = f"{name}, {'from a checkpoint' if has_checkpoint else 'from the start'}"
            ended = Ended(0, "", "")
            if was_running and not is_finished(run_dir, "--save" in flags):
                resume = ["evaluate.py", "--resume", str(run_dir), "--accelerator", "cpu"]
                ended = Command(resume, work).wait()
            done.append(compared(ended, run_dir, expected, how))
    return done


def signals() -> list[Try]:
    """SIGTERM and Ctrl-C at any moment: exit code, message, nothing half-written."""
    numbers = random.Random("signals")
    lines = {
        "train.py": [*QUICK[:3], "--max_epochs", "600", "--pictures", "all"],
        "evaluate.py": ["evaluate.py", "--accelerator", "cpu", "--max_epochs", "300"],
    }
    with tempfile.TemporaryDirectory() as root:
        calls = []
        for index in range(tries(40, 2)):
            name = list(lines)[index % 4 == 3]
            number = (STOP, INTERRUPT)[index % 2]
            moment = numbers.uniform(0.3, tries(14, 3))
            work = Path(root, f"try_{index}")
            calls.append(partial(signalled, lines[name], number, moment, work))
        return in_pairs(calls)


def signalled(line: list[str], number: int, moment: float, work: Path) -> list[Try]:
    """Send a signal to a command, `moment` seconds after its start."""
    command = Command(line, work, fresh=True)  # a fork has no handlers in its first moments
    time.sleep(moment)
    was_running = command.is_running()
    command.send(number)
    ended = command.wait()
    how = f"{line[0]}, signal {number} after {moment:.1f} s: {ended.stderr.strip()[-200:]!r}"
    runs = list(work.glob("lightning_logs/version_*"))
    if was_running and ended.code != 0:
        wrong = [] if ended.code == 128 + number else [f"exit code {ended.code}"]
    else:
        wrong = [] if ended.code == 0 else [f"exit code {ended.code}"]
        wrong += [] if (work / "lightning_logs/version_0/result.json").exists() else ["no result"]
    if "Traceback" in ended.stderr or len(ended.stderr.strip().splitlines()) > 1:
        wrong.append("more than one line")
    if ended.code and runs and "resume with" not in ended.stderr:
        wrong.append("a folder without advice")
    wrong += leftovers(work)
    return [Try(not wrong, f"{how} {', '.join(wrong)}")]


def full_disks() -> list[Try]:
    """A disk that is full after some kilobytes: not exit code 0, and last.ckpt, if any, loads."""
    if os.geteuid() != 0:
        print("small disks are mounted as root only: left out")
        return []
    numbers = random.Random("disk")
    sizes = [numbers.randrange(4, 900) for _ in range(tries(18, 2))]
    commands = [
        ["train.py", "--accelerator", "cpu", "--max_epochs", "300", "--data.val_fraction", "0.2"],
        ["evaluate.py", "--accelerator", "cpu", "--max_epochs", "100", "--save"],
    ]
    done = [filled(commands[i % 3 == 2], size) for i, size in enumerate(sizes)]
    return [*done, *(unwritable(way) for way in ("read-only", "deleted")[: tries(2, 1)])]


def filled(line: list[str], kilobytes: int) -> Try:
    """Run a command on a disk of this size."""
    with tempfile.TemporaryDirectory() as root, small_disk(Path(root, "disk"), kilobytes) as disk:
        ended = Command([*line, "--log_dir", str(disk)], Path(root, "work"), FRESH).wait()
        how = f"{line[0]}, {kilobytes} KiB: code {ended.code}: {ended.stderr.strip()[-200:]!r}"
        wrong = []
        is_whole = any(disk.glob("version_*/result.json"))
        if ended.code == 0 and not is_whole:
            wrong.append("exit code 0")
        if ended.code not in (0, 2) or "Traceback" in ended.stderr:
            wrong.append("not one line")
        if len(ended.stderr.strip().splitlines()) > 1:
            wrong.append("more than one line")
        for path in disk.glob("version_*/checkpoints/last.ckpt"):
            try:
                torch.load(path, "cpu", weights_only=True)
            except Exception as error:  # torch raises many kinds on a damaged file
                wrong.append(f"{path.name}: {error}")
        return Try(not wrong, f"{how} {', '.join(wrong)}")


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of some kilobytes, mounted in a new folder until the block ends."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def unwritable(way: str) -> Try:
    """Run train.py in a folder that cannot be written, or that is deleted during the fit."""
    with tempfile.TemporaryDirectory() as root:
        work = Path(root, "work")
        logs = Path(root, "logs")
        logs.mkdir()
        line = [*QUICK, "--max_epochs", "900", "--log_dir", str(logs)]
        if way == "read-only":
            os.system(f"mount -t tmpfs -o ro tmpfs {logs}")
        command = Command(line, work, FRESH)
        if way == "deleted":
            wait_for(command, "version_0/checkpoints/last.ckpt", logs)
            shutil.rmtree(logs)
        ended = command.wait()
        if way == "read-only":
            os.system(f"umount -l {logs}")
        held = ended.code == 2 and len(ended.stderr.strip().splitlines()) == 1
        return Try(held, f"{way}: code {ended.code}: {ended.stderr.strip()[-300:]!r}")


def at_once() -> list[Try]:
    """Runs that start together in one folder: each has a folder of its own, and its result."""
    count = tries(16, 2)
    with tempfile.TemporaryDirectory() as root:
        line = [*QUICK, "--max_epochs", "30"]
        work = Path(root, "work")
        commands = []
        for seed in range(count):
            # Their outputs are named after the folder, so each works in one of its own.
            where = Path(root, f"seed {seed}")
            commands.append(Command([*line, "--seed", str(seed), "--log_dir", str(work)], where))
        codes = [command.wait().code for command in commands]
        results = {}
        for path in work.glob("version_*/result.json"):
            content = json.loads(path.read_text())
            results[content["seed"]] = content["train/loss"]
        done = []
        for seed in range(count):
            expected, _ = undisturbed([*line, "--seed", str(seed)], Path(root, f"alone {seed}"))
            same = results.get(seed) == expected.result["train/loss"]
            done.append(Try(same and codes[seed] == 0, f"seed {seed}: code {codes[seed]}"))
    return done


def long_run() -> list[Try]:
    """The article's network for 100,000 epochs: memory and time an epoch stay what they were."""
    epochs = tries(100_000, 500)
    with tempfile.TemporaryDirectory() as root:
        line = [*QUICK, "--config", str(ROOT / "configs" / "article.yaml")]
        start = time.monotonic()
        command = Command([*line, "--max_epochs", str(epochs)], Path(root, "work"), FRESH)
        samples = []
        while command.is_running():
            time.sleep(1 if SMALL else 10)
            steps = epochs_done(Path(root, "work"))
            if steps:
                samples.append((time.monotonic() - start, steps, resident(command.process.pid)))
        ended = command.wait()
    if len(samples) < 4:
        return [Try(ended.code == 0, f"code {ended.code}, {epochs:,} epochs")]
    tenth = samples[len(samples) // 10]
    middle = samples[len(samples) // 2]
    last = samples[-2]
    early = (middle[0] - tenth[0]) / max(middle[1] - tenth[1], 1)
    late = (last[0] - middle[0]) / max(last[1] - middle[1], 1)
    growth = last[2] / tenth[2]
    note = f"code {ended.code}, {epochs:,} epochs, memory x {growth:.3f}, time x {late / early:.3f}"
    return [Try(ended.code == 0 and growth < 1.05 and late / early < 1.1, note)]


def epochs_done(work: Path) -> int:
    """The epoch of a run's last checkpoint."""
    for path in work.glob("lightning_logs/version_0/checkpoints/last.ckpt"):
        return int(torch.load(path, "cpu", weights_only=True)["epoch"])
    return 0


def resident(process: int) -> int:
    """Resident memory of a process, in pages; 0 of one that has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (FileNotFoundError, IndexError):
        return 0


# What is tried, and what must hold; and the function that tries it.
ROWS: dict[str, tuple[str, Callable[[], list[Try]]]] = {
    "killed_train": (
        "`train.py`, kill -9, folder moved or not: resumed, it ends bit for bit as undisturbed",
        killed_train,
    ),
    "killed_evaluate": (
        "`evaluate.py`, kill -9: resumed, it ends with the same numbers",
        killed_evaluate,
    ),
    "signals": (
        "SIGTERM, Ctrl-C at any moment: exit code, one line, nothing half-written",
        signals,
    ),
    "full_disks": (
        "disk full, read-only, folder deleted: not exit code 0, the last checkpoint loads",
        full_disks,
    ),
    "at_once": ("runs that start together in one folder: each has its own, and is right", at_once),
    "damaged_checkpoints": (
        "damaged checkpoints: refused by name, or the same result as undamaged",
        lambda: as_tries(damaged_checkpoints(tries(400, 5))),
    ),
    "hostile_files": (
        "hostile configs and checkpoints: refused in 2 s and 300 MB, nothing runs",
        lambda: as_tries(hostile_files(tries(200, 4))),
    ),
    "command_lines": (
        "random command lines: no traceback, no folder left, the flag is named",
        lambda: as_tries(command_lines(tries(1000, 25))),
    ),
    "long_run": (
        "100,000 epochs of the article's network: memory within 5 %, time an epoch within 10 %",
        long_run,
    ),
}


def as_tries(pairs: Iterable[tuple[bool, str]]) -> list[Try]:
    return [Try(held, note) for held, note in pairs]


def main() -> None:
    """Run the rows named on the command line, or all; write faults.json."""
    preload()
    named = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    result: dict[str, Any] = {}
    if named and RESULT.exists():
        result = json.loads(RESULT.read_text())
    result |= {
        "command": "python -m bench.faults",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
        },
    }
    failed = 0
    for name in named or ROWS:
        start = time.monotonic()
        what, attempt = ROWS[name]
        done = attempt()
        broken = [each.note for each in done if not each.held]
        failed += len(broken)
        row = {
            "what": what,
            "tries": len(done),
            "held": len(done) - len(broken),
            "broken": broken[:20],
            "seen": [each.note for each in done if each.held][:: max(1, len(done) // 5)],
        }
        result.setdefault("rows", {})[name] = row
        print(f"{name:20} {row['held']:4} of {row['tries']:4}   {time.monotonic() - start:.0f} s")
        for note in broken:
            print(f"    {note}")
        sys.stdout.flush()
        if not SMALL:
            RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
