"""What the processes of a run must agree on before its first step: settings, rows and folder."""

import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cli.component import flatten
from cli.convert import to_text

Splits = Mapping[str, Iterable[Tensor]]
Sketch = dict[str, list[list[float]]]  # by split, for each of its tensors
CHUNK = 65_536  # rows that are summed at once in float64
SHARED_SECONDS = 30  # until a folder on a network shows another machine's files


class Claim(NamedTuple):
    """What a process says of itself before the first step."""

    host: str
    settings: dict[str, Any]
    rows: Sketch
    run_dir: str
    sees_run_dir: bool


def make_claim(settings: dict[str, Any], splits: Splits, run_dir: Path, names: set[str]) -> Claim:
    """What this process says of itself.

    Args:
        settings: The run's settings as plain data.
        splits: The rows of each split as tensors.
        run_dir: The run's folder.
        names: The names of the files that the first process sees in it, some of which no other
            run has.
    """
    until = time.monotonic() + SHARED_SECONDS
    while not names <= files_in(run_dir) and time.monotonic() < until:
        time.sleep(1)
    sees_run_dir = names <= files_in(run_dir)
    host = socket.gethostname()
    return Claim(host, flatten(settings), sketch(splits), str(run_dir.absolute()), sees_run_dir)


def check_agreement(claims: Sequence[Claim]) -> None:
    """Refuse processes that would not train the same network.

    Args:
        claims: What each process says of itself.

    Raises:
        ValueError: They have other settings or rows, or no folder in common.
    """
    first = claims[0]
    for rank, claim in enumerate(claims):
        who = f"process {rank} on {claim.host}"
        for key in sorted(first.settings.keys() | claim.settings.keys()):
            if to_text(claim.settings.get(key)) != to_text(first.settings.get(key)):
                raise ValueError(
                    f"{who} has --{key} {to_text(claim.settings.get(key))}, and process 0 on "
                    f"{first.host} {to_text(first.settings.get(key))}; give all the same command"
                )
        splits = differing(claim.rows, first.rows)
        if splits:
            raise ValueError(
                f"{who} has other rows ({describe(claim.rows, splits)}) than process 0 on "
                f"{first.host} ({describe(first.rows, splits)}); give every machine the same file"
            )
        if not claim.sees_run_dir:
            raise ValueError(
                f"{who} does not see the run's folder {first.run_dir} of process 0 on "
                f"{first.host}; give a --log_dir that all machines share"
            )


def sketch(splits: Splits) -> Sketch:
    """A few sums of each split's tensors that tell tables apart, their order included.

    They are compared with a tolerance: machines of different kinds round differently.

    >>> rows = torch.arange(6.0).reshape(3, 2)
    >>> differing(sketch({"test": [rows]}), sketch({"test": [rows.clone()]}))
    []
    >>> differing(sketch({"test": [rows]}), sketch({"test": [rows.flip(0)]}))
    ['test']
    """
    return {split: [sums(tensor) for tensor in tensors] for split, tensors in splits.items()}


def sums(tensor: Tensor) -> list[float]:
    """The number of rows, and the sum of each column with a random weight for each row."""
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(tensor[:1].numel(), dtype=torch.float64)
    for chunk in tensor.split(CHUNK):
        weights = torch.rand(len(chunk), dtype=torch.float64, generator=generator)
        total += weights @ chunk.cpu().double().reshape(len(chunk), -1)
    return [len(tensor), *total.tolist()]


def differing(sketch: Sketch, other: Sketch) -> list[str]:
    """The splits in which two sketches are not of the same rows."""
    return [
        split
        for split in sketch | other
        if not same_rows(sketch.get(split, []), other.get(split, []))
    ]


def same_rows(sums: list[list[float]], others: list[list[float]]) -> bool:
    """Whether two sketches of a split's tensors are of the same rows."""
    if [len(tensor) for tensor in sums] != [len(tensor) for tensor in others]:
        return False
    pairs = zip(sums, others, strict=True)
    return all(np.allclose(mine, theirs, 1e-9, 1e-5, equal_nan=True) for mine, theirs in pairs)


def describe(sketch: Sketch, splits: Sequence[str]) -> str:
    """The rows of some splits and a number that tells them apart, in words."""
    return ", ".join(
        f"{split}: {sketch[split][0][0]:,.0f} rows, sum {sum(sketch[split][0][1:]):g}"
        for split in splits
        if split in sketch
    )


def files_in(folder: Path) -> set[str]:
    """The names of the files in a folder; none where there is no such folder."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208  # names
    except OSError:
        return set()
