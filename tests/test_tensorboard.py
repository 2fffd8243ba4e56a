"""What a person sees of a run: TensorBoard in a real browser (Debian's chromium, by Playwright).

Without a browser these tests are skipped, but if CI is set (.ci/run) they fail.
"""

import io
import json
import os
import time
from contextlib import chdir

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from tests.browser import WINDOW, chromium, chromium_path, tensorboard
from tests.helpers import forked, script
from train import train
from training.hparams import log_result

pytestmark = pytest.mark.xdist_group("browser")  # one server and one browser for all

# All text of a page, also within web components, which TensorBoard is made of.
TEXT = """() => {
  const hidden = ["STYLE", "SCRIPT", "NOSCRIPT", "TEMPLATE", "DOM-MODULE"];
  const walk = node => {
    if (node.nodeType === Node.TEXT_NODE) return node.textContent;
    if (hidden.includes(node.nodeName)) return "";
    const roots = node.shadowRoot ? [node.shadowRoot] : [];
    return [...roots, ...node.childNodes].map(walk).join(" ");
  };
  return walk(document.body).replace(/\\s+/g, " ");
}"""


@pytest.fixture(scope="module")
def browser():
    if chromium_path() is None:
        message = "there is no chromium: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fresh run's folder, and TensorBoard's address over it."""
    folder = tmp_path_factory.mktemp("seen")
    line = ["--data.val_fraction", "0.1", "--accelerator", "cpu"]
    with chdir(folder):
        done = forked(script, train, line)
    assert done.returncode == 0, done.stderr
    with tensorboard(folder / "lightning_logs") as url:
        yield folder / "lightning_logs" / "version_0", url


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport=WINDOW)
    yield page
    page.close()


def wait_for_text(page, *words, url=None):
    """Wait until the page, with its frames, shows all the words; its text."""
    if url is not None:
        page.goto(url)
    for _ in range(150):
        frames = [frame for frame in page.frames if not frame.is_detached()]
        text = " ".join(frame.evaluate(TEXT) for frame in frames)
        if all(word in text for word in words):
            return text
        page.wait_for_timeout(200)
    raise AssertionError(f"{[word for word in words if word not in text]} not in {text}")


def pixels(picture):
    """The pixels of a picture (PNG bytes), (pixels, 3)."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3)


def colours(picture):
    """Number of colours in a picture; a blank one has a single colour."""
    return len(np.unique(pixels(picture), axis=0))


def wait_for_drawing(page, selector, tries=50):
    """Scroll to an element and wait until something is drawn in it."""
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()
    for _ in range(tries):
        if colours(element.screenshot()) > 20:
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"{selector} is blank")


def is_in_window(box):
    """Whether a bounding box lies within the window."""
    fits_across = box["x"] >= 0 and box["x"] + box["width"] <= WINDOW["width"]
    return fits_across and box["y"] >= 0 and box["y"] + box["height"] <= WINDOW["height"]


def visible_part(box):
    """The part of a bounding box that lies within the window."""
    height = min(box["height"], WINDOW["height"] - box["y"])
    return {"x": box["x"], "y": box["y"], "width": box["width"], "height": height}


def wait_for_line(page, box, tries=50):
    """Wait until a curve is drawn in a part of the window; axes and text are grey."""
    for _ in range(tries):
        picture = pixels(page.screenshot(clip=box)).astype(int)
        is_coloured = picture.max(1) - picture.min(1) > 25
        if is_coloured.sum() > 100:
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"no line in {box}")


def test_the_first_screen_is_the_curves(page, run):
    _, url = run
    page.goto(url)
    tags = ["train/accuracy", "train/loss", "val/accuracy", "val/log_loss"]
    cards = page.locator("card-view")
    cards.nth(3).locator("line-chart").wait_for()
    for i, tag in enumerate(tags):
        title = cards.nth(i).locator("tb-truncated-path")
        assert title.get_attribute("title") == tag
        assert is_in_window(title.bounding_box())
        # TensorBoard's cards are 418 pixels high, so the second row's charts end below the window.
        chart = cards.nth(i).locator("line-chart")
        box = visible_part(chart.bounding_box())
        assert box["height"] > 90
        wait_for_line(page, box)
    assert all(is_in_window(cards.nth(i).bounding_box()) for i in (0, 1))


def test_time_series_has_the_run_and_its_results(page, run):
    run_dir, url = run
    result = json.loads((run_dir / "result.json").read_text())
    wait_for_text(page, "version_0", "train", "val", "values", "visual", url=f"{url}#timeseries")
    page.get_by_role("combobox", name="Filter tags (regex)").fill("final/test/loss")
    shortest = float(f"{result['test/loss']:.4g}")
    wait_for_text(page, "final/test", "/loss", f"{shortest:g}")  # in the table below the chart
    wait_for_drawing(page, "line-chart")


def test_images_are_drawn(page, run):
    _, url = run
    names = ("ConfusionMatrix/test", "ConfusionMatrix/validation", "Regions/components")
    wait_for_text(page, *(f"visual/{name}" for name in names), url=f"{url}#images")
    wait_for_drawing(page, "tf-image-loader img")
    images = page.locator("tf-image-loader img")
    widths = images.evaluate_all("images => images.map(image => image.naturalWidth)")
    assert len(widths) >= 4
    assert min(widths) >= 350
    for i in range(4):
        image = images.nth(i)
        image.scroll_into_view_if_needed()
        assert colours(image.screenshot()) > 20


def test_graphs_has_the_network(page, run):
    _, url = run
    wait_for_text(page, "Main Graph", "MLP", "input", "output", url=f"{url}#graphs")
    wait_for_drawing(page, "#svg")


def hparams_table(page, log_dir_url):
    """The cells of the HParams table within the window: (rows, columns) of their texts."""
    wait_for_text(page, "Trial ID", "version_0", url=f"{log_dir_url}#hparams")
    cells = page.locator("tf-hparams-table-view vaadin-grid-cell-content")
    rows = {}
    for cell in cells.all():
        box = cell.bounding_box()
        if box is not None and is_in_window(box):
            center = round((box["y"] + box["height"] / 2) / 10)
            rows.setdefault(center, []).append((box["x"], cell.inner_text().strip()))
    return [[text for _, text in sorted(rows[center])] for center in sorted(rows)]


def test_hparams_has_results_and_settings_in_the_window(page, run):
    run_dir, url = run
    result = json.loads((run_dir / "result.json").read_text())
    header, row = hparams_table(page, url)
    columns = dict(zip(header, row, strict=True))
    assert columns == {
        "Trial ID": "version_0",
        "Show Metrics": "",
        "Test accuracy": f"{result['test/accuracy']:#.5g}",
        "Test log-loss": f"{result['test/log_loss']:#.5g}",
        "data.val_fraction": "0.10000",
        "network.hidden": "[128]",
        "seed": "0.0000",
    }


def test_hparams_has_first_what_differs_between_runs(page, tmp_path):
    network = {"class": "MLP", "hidden": [128], "activation": "SiLU", "init_std": None}
    network["embedding"] = None
    for i, dropout in enumerate((0.0, 0.3, 0.5)):
        config = {"network": network | {"dropout": dropout}, "max_epochs": 7, "seed": 0}
        logger = TensorBoardLogger(tmp_path, "", f"version_{i}")
        log_result(logger, config, {"test/log_loss": 0.5 + i, "test/accuracy": 0.9})
        logger.experiment.close()
    with tensorboard(tmp_path) as url:
        header, *rows = hparams_table(page, url)
    assert header[2:] == [
        "Test log-loss",
        "network.dropout",
        "Test accuracy",
        "max_epochs",
        "network.hidden",
    ]
    assert [row[3] for row in rows] == ["", "0.30000", "0.50000"]


def test_the_projector_has_the_last_hidden_layer(page, run):
    _, url = run
    words = ("1 tensor found", "Embedding", "150x128", "class", "predicted")
    wait_for_text(page, *words, url=f"{url}#projector")
    canvases = [frame.locator("canvas").first for frame in page.frames]
    shown = [canvas for canvas in canvases if canvas.count()]
    assert shown
    shown[0].wait_for()


def test_pr_curves_are_one_for_each_class(page, run):
    _, url = run
    names = ("setosa", "versicolor", "virginica")
    tags = [f"PrecisionRecall/{i}_{name}" for i, name in enumerate(names)]
    wait_for_text(page, *tags, url=f"{url}#pr_curves")
    wait_for_drawing(page, "vz-line-chart2")


def test_text_has_the_card(page, run):
    run_dir, url = run
    result = json.loads((run_dir / "result.json").read_text())
    words = (
        "Card",
        "optimizer ScaledAdamW",
        "sepal length (cm)",
        "setosa, versicolor, virginica",
        f"final/test/loss {result['test/loss']:.4f}",
    )
    wait_for_text(page, *words, url=f"{url}#text")


def test_the_browser_sees_what_is_blank(page):
    """What the tests above assert can fail."""
    page.set_content("<div id=a style='width:50px;height:50px'></div>")
    with pytest.raises(AssertionError, match="blank"):
        wait_for_drawing(page, "#a", tries=2)
    with pytest.raises(AssertionError, match="no line"):
        wait_for_line(page, {"x": 0, "y": 0, "width": 50, "height": 50}, tries=2)
    assert not is_in_window({"x": 1346, "y": 100, "width": 160, "height": 20})
    start = time.monotonic()
    assert colours(page.screenshot()) == 1
    assert time.monotonic() - start < 30
