"""Files made to harm who reads them: configs and checkpoints by name, and the price of a refusal.

Each value is a function that makes the file's bytes. `attempt` reads one in a process of its own.
"""

import os
import pickle
import resource
import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

LAUGHS = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefg")]
CHAIN = [f"a{i + 1}: &a{i + 1} [*a{i}]" for i in range(190)]

CONFIGS: dict[str, Callable[[], str]] = {
    "anchors that double": lambda: "\n".join(["a: &a [x, x, x]", *LAUGHS]),
    "a chain of anchors": lambda: "\n".join(["a0: &a0 [x]", *CHAIN, "log_dir: *a190"]),
    "an anchor inside of itself": lambda: "a: &a [*a]",
    "merge keys": lambda: "a: &a {seed: 1}\nnetwork:\n  <<: *a",
    "50 MB list": lambda: "network: {hidden: [" + "1, " * 16_000_000 + "1]}",
    "many values": lambda: "network: {hidden: [" + "1, " * 300_000 + "1]}",
    "many keys": lambda: "\n".join(f"key{i}: 1" for i in range(15_000)),
    "one text of 50 MB": lambda: "log_dir: " + "a" * 50_000_000,
    "comments of 50 MB": lambda: "# comment\n" * 5_000_000,
    "3,000 levels of lists": lambda: "network: {hidden: " + "[" * 3000 + "]" * 3000 + "}",
    "3,000 levels of mappings": lambda: "a: " + "{a: " * 3000 + "1" + "}" * 3000,
    "levels of dashes": lambda: "- " * 30_000 + "1",
    "levels of question marks": lambda: "? " * 30_000 + "1",
    "levels of indentation": lambda: "".join(" " * i + "a:\n" for i in range(1000)),
    "a key of 100,000 characters": lambda: "? " + "a" * 100_000 + "\n: 1",
    "a number as a key": lambda: "1: 2",
    "null as a key": lambda: "network: {null: 2}",
    "true as a key": lambda: "trainer: {true: 3}",
    "a list as a key": lambda: "network: {? [a, b] : 1}",
    "a key twice": lambda: "seed: 1\nseed: 2",
    "a date": lambda: "network: {hidden: 2024-12-31}",
    "bytes": lambda: "log_dir: !!binary aGVsbG8=",
    "a set": lambda: "log_dir: !!set {a, b}",
    "an object": lambda: "log_dir: !!python/object/apply:os.system [touch run]",
    "a module": lambda: "network: !!python/name:antigravity.fly",
    "no number": lambda: "network: {hidden: [0b_]}",
    "a config in a config": lambda: "config: other.yaml",
    "a switch": lambda: "print_config: true",
    "two documents": lambda: "--- 1\n--- 2",
    "an escape sequence": lambda: '"\\e[31mred": 1',
    "a line break in a key": lambda: '"seed\\nerror: fine": 1',
    "control characters": lambda: "log_dir: \x1b[2J",
    "another encoding": lambda: "\udcff\udcfe",
    "nothing": lambda: "",
}


class Price(NamedTuple):
    """What an attempt took: seconds, MiB beyond those before it, and how it was refused."""

    seconds: float
    mebibytes: float
    error: str  # the kind of error and its message; empty if there was none


def attempt(action: Callable[[], object]) -> Price:
    """Call a function in a forked process, whose time and memory do not change this one's."""
    reading, writing = os.pipe()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    child = os.fork()
    if not child:
        error = ""
        try:
            action()
        except BaseException as raised:
            error = f"{type(raised).__name__}: {raised}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with os.fdopen(writing, "wb") as sink:
            pickle.dump((peak, error), sink)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as source:
        answer = source.read()
    os.waitpid(child, 0)
    seconds = time.perf_counter() - start
    if not answer:
        return Price(seconds, 0.0, "it was killed")
    peak, error = pickle.loads(answer)
    return Price(seconds, max(0, peak - before) / 1024, error)
