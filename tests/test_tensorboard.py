"""What a person sees of a run: TensorBoard in a real browser (Debian's chromium, driven by Playwright).

Without a browser these tests are skipped, but where CI is set (.ci/run) they fail.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.helpers import python

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
FLAGS += ["--disable-sync", "--disable-quic"]
# All text of a page, also within web components, which TensorBoard is made of.
TEXT = """() => {
  const hidden = ["STYLE", "SCRIPT", "NOSCRIPT", "TEMPLATE", "DOM-MODULE"];
  const walk = node => node.nodeType === Node.TEXT_NODE ? node.textContent : hidden.includes(node.nodeName) ? ""
    : [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes].map(walk).join(" ");
  return walk(document.body).replace(/\\s+/g, " ");
}"""


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "there is no chromium: apt-get install chromium"
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fresh run's folder, and TensorBoard's address over it."""
    folder = tmp_path_factory.mktemp("seen")
    done = python("train.py", "--data.val_fraction", "0.1", "--accelerator", "cpu", cwd=folder)
    assert done.returncode == 0, done.stderr
    line = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        "lightning_logs",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    with subprocess.Popen(line, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = next(
                found[0] for row in server.stderr if (found := re.search(r"http://127\S+/", row))
            )
            yield folder / "lightning_logs" / "version_0", url
        finally:
            server.terminate()


@pytest.fixture
def page(browser, run):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    yield page
    page.close()


def seen(page, address, *words):
    """Open an address and wait until all the words stand there, in whatever frame; the text."""
    if address:
        page.goto(address)
    for _ in range(150):
        text = " ".join(frame.evaluate(TEXT) for frame in page.frames if not frame.is_detached())
        if all(word in text for word in words):
            return text
        page.wait_for_timeout(200)
    raise AssertionError(f"{[word for word in words if word not in text]} not in {text}")


def colours(picture):
    """How many different colours a picture (PNG bytes) has: a blank one has one."""
    return len(
        np.unique(np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3), axis=0)
    )


def shown(page, selector):
    """Scroll to an element and wait until something is drawn there; its picture."""
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()
    for _ in range(50):
        picture = element.screenshot()
        if colours(picture) > 20:
            return picture
        page.wait_for_timeout(200)
    raise AssertionError(f"{selector} is blank")


def test_time_series_has_the_run_and_its_numbers(page, run):
    folder, url = run
    result = json.loads((folder / "result.json").read_text())
    words = (
        "version_0",
        "final",
        "train",
        "val",
        "ConfusionMatrix",
        "Regions",
        "Weights",
        "Reliability",
        "gradients",
    )
    seen(page, f"{url}#timeseries", *words)
    page.get_by_role("combobox", name="Filter tags (regex)").fill("final/test")
    shortest = float(f"{result['test/loss']:.4g}")
    seen(page, None, "final/test", "/loss", f"{shortest:g}")  # in the data table below the card
    shown(page, "line-chart")


def test_images_are_drawn(page, run):
    seen(
        page,
        f"{run[1]}#images",
        "ConfusionMatrix/test",
        "ConfusionMatrix/validation",
        "Regions/components",
    )
    shown(page, "tf-image-loader img")
    sizes = page.locator("tf-image-loader img").evaluate_all(
        "all => all.map(one => one.naturalWidth)"
    )
    assert len(sizes) >= 4
    assert min(sizes) >= 350
    for i in range(4):
        picture = page.locator("tf-image-loader img").nth(i)
        picture.scroll_into_view_if_needed()
        assert colours(picture.screenshot()) > 20


def test_graphs_has_the_network(page, run):
    seen(page, f"{run[1]}#graphs", "Main Graph", "MLP", "input", "output")
    shown(page, "#svg")


def test_hparams_has_settings_and_result(page, run):
    folder, url = run
    result = json.loads((folder / "result.json").read_text())
    page.set_viewport_size({"width": 2600, "height": 1000})  # the table shows what it has room for
    text = seen(
        page, f"{url}#hparams", "optimizer.lr", "network.hidden", "version_0", "Iris", "0.20000"
    )
    for name in ("test/loss", "train/loss", "train/accuracy"):
        assert f"final/{name}" in text
        assert f"{result[name]:#.5g}" in text, name


def test_the_projector_has_the_last_hidden_layer(page, run):
    seen(
        page, f"{run[1]}#projector", "1 tensor found", "Embedding", "150x128", "class", "predicted"
    )
    for frame in page.frames:
        if frame.locator("canvas").count():
            frame.locator("canvas").first.wait_for()
            return
    raise AssertionError("the projector has no canvas")


def test_pr_curves_are_one_for_each_class(page, run):
    seen(
        page,
        f"{run[1]}#pr_curves",
        *(
            f"PrecisionRecall/{i}_{name}"
            for i, name in enumerate(("setosa", "versicolor", "virginica"))
        ),
    )
    shown(page, "vz-line-chart2")


def test_text_has_the_card(page, run):
    folder, url = run
    result = json.loads((folder / "result.json").read_text())
    seen(
        page, f"{url}#text", "Card", "optimizer.lr 0.05", "sepal length (cm)", "setosa, versicolor, virginica",
        f"final/test/loss {result['test/loss']:.4f}",
    )  # fmt: skip


def test_the_browser_sees_what_is_blank(page):
    """What the tests above assert can fail."""
    page.set_content("<div id=a style='width:50px;height:50px'></div>")
    with pytest.raises(AssertionError, match="blank"):
        shown(page, "#a")
    start = time.monotonic()
    assert colours(page.screenshot()) == 1
    assert time.monotonic() - start < 30
