"""The plan of the house: imports run one way, packages hold no logic, the core stays short."""

import ast
import json
from pathlib import Path

import pytest

from tests.helpers import ROOT

# From the ground up: a room imports from itself and from the rooms before it.
ROOMS = ["cli", "data", "model", "evaluation", "training", "inference"]
COMMANDS = ["train", "evaluate", "predict", "explain", "export"]
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
SCRIPTS = [ROOT / f"{name}.py" for name in COMMANDS]


def imports(path):
    """The project's modules that a file imports, also inside of functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = str(node.module)
            # `from model import recipe` imports the module model.recipe.
            names |= (
                {f"{module}.{name.name}" for name in node.names} if is_package(module) else {module}
            )
        elif isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
    return {name for name in names if name.partition(".")[0] in ROOMS + COMMANDS}


def is_package(module):
    return (ROOT / Path(*module.split("."))).is_dir()


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    below = ROOMS[: ROOMS.index(room) + 1]
    assert {name for name in imports(path) if name.partition(".")[0] not in below} == set()


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_command_imports_no_command(path):
    assert {name for name in imports(path) if name in COMMANDS} == set()


def test_no_import_goes_round_in_a_circle():
    graph = {name_of(path): imports(path) for path in FILES}
    while graph:
        leaves = [name for name, needed in graph.items() if not needed & graph.keys()]
        assert leaves, f"a circle among {sorted(graph)}"
        for name in leaves:
            del graph[name]


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=name_of)
def test_a_package_has_a_docstring_and_no_logic(path):
    (statement,) = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(statement, ast.Expr)


def test_plain_imports_would_escape_the_package():
    """__init__.py turns `from data.iris import Iris` into an import of lightning_iris.data.iris."""
    for path in FILES + SCRIPTS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = {name.name.partition(".")[0] for name in node.names}
                assert not names & {*ROOMS, *COMMANDS}, path


def test_the_head_of_fast_py_has_what_was_measured():
    saved = json.loads((ROOT / "bench" / "results" / "speed.json").read_text())["saved"]
    head = (ROOT / "training" / "fast.py").read_text().split('"""')[1]
    rows = [line.split(" | ") for line in head.splitlines() if line.endswith("% |")]
    shown = {row[0].removeprefix("| "): row[-1].removesuffix(" |") for row in rows}
    shares = {name: row["of the fit of small batches"] for name, row in saved.items()}
    assert shown == {name: f"{100 * share:.0f} %" for name, share in shares.items()}
