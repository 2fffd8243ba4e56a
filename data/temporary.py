"""Where temporary files go that may be large."""

import os
import tempfile
from pathlib import Path

LARGE_FILES = Path("/var/tmp")  # on a disk, where /tmp may be in memory


def temporary_folder() -> str:
    """The folder TMPDIR, or /var/tmp where there is one."""
    if "TMPDIR" not in os.environ and os.access(LARGE_FILES, os.W_OK):
        return str(LARGE_FILES)
    return tempfile.gettempdir()
