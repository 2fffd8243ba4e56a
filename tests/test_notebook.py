"""The notebook: every cell runs beside its tables, and gives what the commands give."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers import ROOT


@pytest.fixture
def notebook(monkeypatch):
    """The notebook after all its cells were run beside its tables."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for its kernel: this clone, installed or not
    shutil.copytree(ROOT / "examples", "examples")
    content = nbformat.read("examples/iris.ipynb", as_version=4)
    resources = {"metadata": {"path": "examples"}}
    NotebookClient(content, timeout=300, resources=resources).execute()
    return content


def printed(cell):
    """What a cell wrote to standard output."""
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def test_every_cell_runs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    text = "".join(map(printed, cells))
    result = json.loads(Path("lightning_logs/version_0/result.json").read_text())
    assert f"{result['test/accuracy']:.3f}   95 % interval" in text
    assert "100 networks, 10 folds x 10 repeats" in text
    pictures = [
        output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 1
    assert "setosa" in cells[-2].outputs[0]["data"]["text/plain"]
    for cell in cells:
        assert not [output.text for output in cell.outputs if output.get("name") == "stderr"]


def test_the_install_cell_is_marked_and_clones_what_the_badge_opens():
    content = nbformat.read(ROOT / "examples" / "iris.ipynb", as_version=4)
    install = next(cell for cell in content.cells if "install" in cell.metadata.get("tags", []))
    address = "github.com/OWNER/lightning-iris"
    assert address in install.source
    badge = address.replace("github.com", "colab.research.google.com/github")
    for text in (content.cells[0].source, (ROOT / "README.md").read_text("utf-8")):
        assert f"{badge}/blob/main/examples/iris.ipynb" in text
