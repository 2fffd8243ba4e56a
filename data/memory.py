"""How much memory this process may still take."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
# The limit of a container and what it uses, in the second and the first version of cgroups.
CGROUP_FILES = [
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
]
UNKNOWN = 2**63  # Windows does not say


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, its container and its own limit.

    >>> free_memory() > 0
    True
    """
    return max(0, min([machine_memory(), *container_memory(), *limited_memory()]))


def machine_memory() -> int:
    """Bytes of the machine that are free, or that it would free for a program."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return UNKNOWN


def container_memory(
    folder: Path = CGROUPS, process: Path = Path("/proc/self/cgroup")
) -> list[int]:
    """Bytes that each control group of this process has left: of containers and SLURM jobs.

    Args:
        folder: Where the groups are.
        process: The file that says in which of them this process is.
    """
    free = []
    for group in group_folders(folder, process):
        for limit_name, usage_name in CGROUP_FILES:
            limit = number_in(group / limit_name)
            usage = number_in(group / usage_name)
            if limit is not None and usage is not None:
                free.append(limit - usage + reclaimable(group / "memory.stat"))
    return free


def group_folders(folder: Path, process: Path) -> Iterator[Path]:
    """The folders of this process's control groups and of those around them."""
    yield folder
    yield folder / "memory"
    if not process.is_file():
        return
    for line in process.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            group = folder / controllers / path.lstrip("/")
            while group not in (folder, folder / "memory"):
                yield group
                group = group.parent


def number_in(file: Path) -> int | None:
    """The number that a file holds; None if there is no file, or it says max."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def reclaimable(file: Path) -> int:
    """Bytes of files that the kernel only keeps in case they are read again."""
    try:
        lines = dict(line.split() for line in file.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(lines.get("inactive_file", 0))


def limited_memory() -> list[int]:
    """Bytes that the limit of this process's address space leaves (ulimit -v), if it has one."""
    try:
        import resource  # Windows has none
    except ImportError:
        return []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not statm.is_file():
        return []
    return [limit - int(statm.read_text().split()[0]) * resource.getpagesize()]


def give_back() -> None:
    """Return freed memory to the system.

    glibc keeps it, and cannot use it again for arrays of the same size where something small has
    been put between them: reading 50 columns would take the memory of all of them.
    """
    with suppress(AttributeError, OSError, TypeError):  # other systems have no such function
        ctypes.CDLL(None).malloc_trim(0)


def readable(size: float) -> str:
    """A number of bytes in a message.

    >>> readable(3 * 2**30), readable(1536), readable(2**50)
    ('3.0 GiB', '1.5 KiB', '1,048,576.0 GiB')
    """
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
