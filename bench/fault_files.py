"""Damaged and hostile files, and wrong command lines: rows of bench/faults.py."""

import contextlib
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from bench.fault_runs import Command, contents, damaged, outcome, wait_for
from bench.measure import ROOT
from cli.command import command
from evaluate import evaluate
from explain import explain
from export import export
from predict import predict
from tests import command_lines as lines
from tests.hostile import CHECKPOINTS, CONFIGS, attempt, write_checkpoint
from tests.test_command_lines import COUNTS, RIGHT
from train import train

Tried = Iterator[tuple[bool, str]]
FLOWERS = str(ROOT / "examples" / "flowers.csv")
MAX_SECONDS = 2.0
MAX_MEBIBYTES = 300.0


class Answer(NamedTuple):
    """What a command did in this process: its exit code, and what it printed."""

    code: Any
    stdout: bytes
    stderr: str


def ask(function: Callable[..., Any], argv: list[str]) -> Answer:
    """Run a command in this process."""
    stdout = TextIOWrapper(BytesIO(), "utf-8")  # predict.py writes bytes
    stderr = StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            command(function, argv)
        except SystemExit as stop:
            code = stop.code
        except BaseException as error:  # a traceback, for a user
            code = f"{type(error).__name__}: {error}"
        stdout.flush()
    printed: Any = stdout.buffer
    return Answer(code, printed.getvalue(), stderr.getvalue())


def damaged_checkpoints(count: int) -> Tried:
    """Bits flipped, cut off, zeroed or doubled: refused by name, or the same as undamaged."""
    numbers = random.Random("damage")
    with tempfile.TemporaryDirectory() as root, contextlib.chdir(root):
        train_run = Path("runs/version_0")
        evaluate_run = Path("stopped/lightning_logs/version_0")
        ask(train, f"--accelerator cpu --max_epochs 9 --data.val_fraction 0.2 --pictures none "
                   f"--data Table --data.path {FLOWERS} --data.target species --members 1 "
                   "--log_dir runs".split())  # fmt: skip
        interrupted_evaluation(Path("stopped").resolve())
        best = str(train_run / "checkpoints" / "best.ckpt")
        uses: list[tuple[Callable[..., Any], Path, str, list[str]]] = [
            (train, train_run, "last.ckpt", ["--resume", str(train_run / "checkpoints/last.ckpt")]),
            (evaluate, evaluate_run, "group_1.ckpt", ["--resume", str(evaluate_run)]),
            (predict, train_run, "best.ckpt", [best, FLOWERS]),
            (explain, train_run, "best.ckpt", [best, FLOWERS]),
            (export, train_run, "best.ckpt", [best, "out.onnx"]),
        ]
        for function, run_dir, name, argv in uses:
            whole = Path(shutil.copytree(run_dir, f"whole {function.__name__}"))
            expected = used(function, run_dir, argv)
            for _ in range(count // len(uses)):
                restore(whole, run_dir)
                file = run_dir / "checkpoints" / name
                file.write_bytes(damaged(file.read_bytes(), numbers))
                yield judged(function, run_dir, argv, expected)
            restore(whole, run_dir)


def restore(whole: Path, run_dir: Path) -> None:
    """Put a run's folder back as it was."""
    shutil.rmtree(run_dir)
    shutil.copytree(whole, run_dir)


def interrupted_evaluation(work: Path) -> None:
    """Leave the folder of an evaluation that was killed after its first checkpoint."""
    evaluation = Command(["evaluate.py", "--accelerator", "cpu", "--max_epochs", "2000"], work)
    wait_for(evaluation, "**/group_1.ckpt", work)
    evaluation.send(signal.SIGKILL)
    evaluation.wait()


def used(function: Callable[..., Any], run_dir: Path, argv: list[str]) -> str:
    """What comes out of a checkpoint, as text."""
    answer = ask(function, argv)
    assert answer.code == 0, answer
    if function in (train, evaluate):
        return str(outcome(run_dir))
    if function is export:
        return exported()
    return str(answer.stdout)


def exported() -> str:
    """The model that export.py wrote, without the digest of its checkpoint's file."""
    model = onnx.load("out.onnx")
    entries = [entry for entry in model.metadata_props if entry.key != "run"]
    del model.metadata_props[:]
    model.metadata_props.extend(entries)
    return str(model)


def judged(
    function: Callable[..., Any], run_dir: Path, argv: list[str], expected: str
) -> tuple[bool, str]:
    """Whether a command refuses a damaged file and changes nothing, or says what it must."""
    before = contents(run_dir)
    answer = ask(function, argv)
    how = f"{function.__name__}: code {answer.code}: {answer.stderr.strip()[-200:]!r}"
    if answer.code == 0:
        return same_after_damage(function, run_dir, argv, answer, expected), f"{how} accepted"
    is_one_line = answer.stderr.startswith("error: ") and answer.stderr.count("\n") == 1
    held = answer.code == 2 and is_one_line and contents(run_dir) == before
    return held, how


def same_after_damage(
    function: Callable[..., Any], run_dir: Path, argv: list[str], answer: Answer, expected: str
) -> bool:
    """Whether an accepted file gave what the undamaged one gives: the damage was in padding."""
    if function in (train, evaluate):
        return str(outcome(run_dir)) == expected
    if function is export:
        return exported() == expected
    return str(answer.stdout) == expected


def hostile_files(count: int) -> Tried:
    """Configs and checkpoints made to harm: nothing runs, refused in 2 s and 300 MB."""
    with tempfile.TemporaryDirectory() as root, contextlib.chdir(root):
        for name in list(CONFIGS)[:count]:
            Path("c.yaml").write_text(CONFIGS[name](), "utf-8", "surrogateescape")
            yield refused(f"config, {name}", train, ["--config", "c.yaml"])
        for name in list(CHECKPOINTS)[:count]:
            write_checkpoint(name, "c.ckpt")
            yield refused(f"checkpoint, {name}", predict, ["c.ckpt", FLOWERS])


def refused(name: str, function: Callable[..., Any], argv: list[str]) -> tuple[bool, str]:
    """Whether a command refuses a file in one line, little time and little memory."""
    answers: list[Answer] = []

    def act() -> None:
        answers.append(ask(function, argv))
        if answers[0].code != 2 or answers[0].stderr.count("\n") != 1:
            raise AssertionError(answers[0])

    price = attempt(act)
    held = not price.error and price.seconds < MAX_SECONDS and price.mebibytes < MAX_MEBIBYTES
    note = f"{name}: {price.seconds:.1f} s, {price.mebibytes:.0f} MiB {price.error[:300]}"
    return held, note


def command_lines(count: int) -> Tried:
    """Random lines of right and wrong values: no traceback, no folder left, the flag is named."""
    total = sum(COUNTS.values())
    for function, share in COUNTS.items():
        number = max(1, count * share // total)
        for line in lines.command_lines(function, number, seed=1, right=RIGHT):
            faults = lines.faults_of(line, lines.run_line(function, line))
            yield not faults, f"{function.__name__} {' '.join(line)[:200]}: {faults}"[:400]
