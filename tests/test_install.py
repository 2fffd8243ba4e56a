"""The project under one name outside of the clone: installed as README says, and as a wheel."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

# In a folder with a module and a package of the clone's names, which are the user's own.
SCRIPT = """
import sys

import data
import model

assert data.MINE and model.MINE
from lightning_iris import (
    MLP, Classifier, NetworkClassifier, RawTable, Table, TabularData, evaluate, explain, export,
    load, predict, quiet, train,
)
from mine import Flowers

quiet()
result = train(data=Flowers, max_epochs=3, accelerator="cpu", pictures="none")
assert issubclass(Flowers, TabularData)
classifier = load("lightning_logs/version_0/checkpoints/best.ckpt")
assert classifier.predict([[5.1, 3.5, 1.4, 0.2]]).shape == (1,)
network = Classifier.load_from_checkpoint("lightning_logs/version_0/checkpoints/best.ckpt").network
assert type(network) is MLP
assert MLP.__module__ == "lightning_iris.model.networks"
assert sys.modules["data"].MINE and "data.iris" not in sys.modules
"""
FLOWERS = """
from lightning_iris import Iris


class Flowers(Iris):
    pass
"""


def run_script(environment):
    for name in ("data", "model"):
        Path(name).mkdir()
        Path(name, "__init__.py").write_text("MINE = True\n")
    Path("mine.py").write_text(FLOWERS)
    Path("script.py").write_text(SCRIPT)
    line = [sys.executable, "script.py"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(Path("lightning_logs/version_0/result.json").read_text())
    assert result["epochs"] == 3


def outside():
    """An environment in which no variable leads to the clone."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_an_editable_install_serves_a_script_in_another_folder():
    probe = [sys.executable, "-c", "import lightning_iris"]
    if subprocess.run(probe, env=outside(), capture_output=True, timeout=120).returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("pip install -e . was not run")
    run_script(outside())


def test_a_wheel_holds_all_modules_and_no_other_name():
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "lightning_logs", "__pycache__")
    shutil.copytree(ROOT, "clone", ignore=ignored)  # building leaves files behind
    line = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", "wheel", "./clone"]
    subprocess.run(line, check=True, timeout=300)
    (wheel,) = Path("wheel").glob("*.whl")
    site = Path("site").absolute()
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", site, wheel], check=True)
    names = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"lightning_iris"}
    run_script(outside() | {"PYTHONPATH": str(site)})
