"""Write files that are whole, or as they were before; lock a folder."""

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module, where there is one


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file in one step: a full disk or a kill leaves the one that was there.

    Raises:
        OSError: It cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:  # such as a full disk, or Ctrl-C
        unfinished.unlink(missing_ok=True)
        raise


def lock_folder(folder: Path) -> int:
    """Lock a folder until the returned descriptor is closed or this process ends, however it ends.

    A file system without locks, such as some on networks, locks nothing; nor does Windows.

    Raises:
        BlockingIOError: Another process has locked it.
    """
    if fcntl is None:
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass
    return descriptor
