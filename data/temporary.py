"""Where temporary files go that may be large."""

import os
import tempfile
from pathlib import Path

LARGE_FILES = Path("/var/tmp")  # on a disk, where /tmp may be in memory


def temporary_folder() -> str:
    """The folder TMPDIR, else /var/tmp; Python's choice where neither can be written to."""
    for folder in (os.environ.get("TMPDIR"), str(LARGE_FILES)):
        if folder and Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return tempfile.gettempdir()
