"""TensorBoard as a person sees it: a server over runs, and a real browser (Debian's chromium)."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

WINDOW = {"width": 1400, "height": 900}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]


def chromium_path() -> str | None:
    """Where chromium is installed."""
    return shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window, driven by Playwright."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def tensorboard(log_dir) -> Iterator[str]:
    """A TensorBoard over the runs of a folder: its address."""
    line = [sys.executable, "-m", "tensorboard.main", "--logdir", str(log_dir)]
    line += ["--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as server:
        try:
            addresses = (re.search(r"http://127\S+/", row) for row in server.stderr)
            yield next(address[0] for address in addresses if address)
        finally:
            server.terminate()
