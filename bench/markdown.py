"""Results as Markdown: tables, and where their figures come from."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")


def read(name: str) -> dict[str, Any]:
    """The results of one bench script."""
    path = RESULTS / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right: every column but the first."""
    rule = ["---", *("---:" for _ in header[1:])]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def paragraphs(*texts: str) -> str:
    return "\n\n".join(texts)


def screen(lines: Iterable[str]) -> str:
    """What a command prints."""
    return "\n".join(["```text", *lines, "```"])


def measured(result: dict[str, Any], repetitions: str) -> str:
    """Where the figures come from: command, repetitions, machine and versions."""
    hardware = result["hardware"]
    processor = hardware.get("processor")
    cores = f"{hardware['cpus']} cores"
    machine = f"{cores} ({processor})" if processor else cores
    if "gpu" in hardware:
        machine = f"{hardware['gpu']} and {machine}"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"`{result['command']}`: {repetitions}, on {machine}; {versions}."


def interval(low: float, high: float, digits: int = 3) -> str:
    return f"{low:.{digits}f} to {high:.{digits}f}"
