"""Checkpoint files: written whole, and read as data: nothing in them runs, damage is refused.

All commands read checkpoints through `read_file`. It is at the ground, and does not import
Lightning, which takes longer than predicting.
"""

import copy
import io
import sys
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from cli.errors import first_line
from cli.files import write_whole
from data.checkpoint_guards import MAX_PICKLE_BYTES, check_content, check_pickle

LONGEST_REASON = 200  # characters of torch's own message in ours


def read_file(path: str) -> Any:
    """The plain data and tensors of a checkpoint, on the CPU.

    Raises:
        ValueError: It is damaged, or holds code; the message says which.
    """
    check_archive(path)
    return read_content(path)


def write_file(path: Path, content: Any) -> None:
    """Write a checkpoint, so that its name never leads to half a file.

    It is written beside an older one of this name, to the disk, and takes its place when complete.
    """
    buffer = io.BytesIO()
    torch.save(canonical(content), buffer)
    path.parent.mkdir(exist_ok=True)  # not also its parent: a run whose folder is gone is over
    write_whole(path, buffer.getbuffer())


def canonical(content: Any) -> Any:
    """A copy in which equal texts are one object, so that equal content is written as equal bytes.

    Pickle writes an object once and then refers to it, so a text that was read from a file would
    otherwise be written apart from an equal one of the program.

    >>> content = canonical({"a": ["".join("bc"), "bc"]})
    >>> content["a"][0] is content["a"][1]
    True
    """
    if type(content) is str:
        return sys.intern(content)
    if type(content) in (list, tuple):
        return type(content)(map(canonical, content))
    if isinstance(content, dict):
        items = {canonical(key): canonical(value) for key, value in content.items()}
        same = copy.copy(content)  # of its class, with its attributes
        same.clear()
        same.update(items)
        return same
    return content


def check_archive(path: str) -> None:
    """Refuse a file that is not a whole zip archive as torch writes it.

    torch.load ignores the checksums, and takes an entry that is marked as a folder for
    uninitialized weights; torch itself writes neither folders nor compressed entries.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; give a checkpoint in it, such as best.ckpt")
    if not Path(path).is_file():
        raise ValueError(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            damaged: str | None = "its list of files"
            if is_as_torch_writes(entries, Path(path).stat().st_size):
                damaged = archive.testzip()
    except Exception as error:  # zipfile raises many kinds on a damaged archive
        raise ValueError(f"{path} is damaged, or no checkpoint: {torch_reason(error)}") from error
    if damaged:
        raise ValueError(f"{path} is damaged: the checksum of {damaged} is wrong; copy it again")


def is_as_torch_writes(entries: list[zipfile.ZipInfo], file_bytes: int) -> bool:
    """Whether an archive's entries are stored files of different names that fit into it."""
    names = {entry.filename.lower() for entry in entries}  # torch ignores the case
    is_stored = not any(entry.compress_type or entry.external_attr for entry in entries)
    size = sum(entry.file_size for entry in entries)
    return is_stored and len(names) == len(entries) and size <= file_bytes


def read_content(path: str) -> Any:
    """Unpickle a checkpoint, plain data and tensors only."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.lower().endswith(".pkl"):
                    check_pickle(archive.open(entry).read(MAX_PICKLE_BYTES + 1))
        content = torch.load(path, map_location="cpu", weights_only=True)
        check_content(content, Path(path).stat().st_size)
        return content
    except UnpicklingError as error:
        raise ValueError(
            f"{path} holds code, not data alone, and was not loaded: {torch_reason(error)}"
        ) from error
    except Exception as error:  # torch raises many kinds on a damaged file
        raise ValueError(f"{path} is damaged, or no checkpoint: {torch_reason(error)}") from error


def torch_reason(error: Exception) -> str:
    """The line of torch's message that names a forbidden class, else its first line."""
    lines = [line.strip() for line in str(error).splitlines()]
    causes = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    reason = causes[0] if causes else first_line(error)
    return reason[:LONGEST_REASON]
