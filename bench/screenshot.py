"""The first screen that TensorBoard shows of the reference run, in a browser as in the tests.

python -m bench.screenshot   # seconds; needs chromium; writes docs/images/tensorboard.png
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from bench.measure import ROOT
from tests.browser import WINDOW, chromium, tensorboard

RUN_DIR = ROOT / "lightning_logs" / "reference"
IMAGE = ROOT / "docs" / "images" / "tensorboard.png"
LINE_DRAWN = 3_000  # milliseconds


def first_screen(run_dir: Path) -> bytes:
    """What a window of 1,400 x 900 pixels shows when TensorBoard is opened, as PNG."""
    with tempfile.TemporaryDirectory() as log_dir:
        shutil.copytree(run_dir, Path(log_dir, run_dir.name))  # without the other runs beside it
        with tensorboard(log_dir) as url, chromium() as browser:
            page = browser.new_page(viewport=WINDOW)
            page.goto(url)
            page.locator("line-chart").first.wait_for()
            page.wait_for_timeout(LINE_DRAWN)
            return page.screenshot()


def main() -> None:
    """Write the image: 64 colours are enough, and a fraction of the bytes."""
    run_dir = Path(sys.argv[1]) if len(sys.argv) > 1 else RUN_DIR
    image = Image.open(io.BytesIO(first_screen(run_dir))).convert("RGB")
    image.quantize(64).save(IMAGE, optimize=True)
    print(f"{IMAGE}: {IMAGE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
