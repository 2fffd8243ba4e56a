"""README.md and docs/: every command runs, every figure is measured, every flag and link exists."""

import json
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from sklearn.datasets import load_iris

from bench.figures import fill, pages
from cli.command import command
from cli.parser import parse
from evaluate import evaluate
from explain import explain
from export import export
from predict import predict
from tests import helpers
from tests.helpers import ROOT, two_forks
from train import train

PAGES = [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
COMMANDS = {
    "train.py": train,
    "evaluate.py": evaluate,
    "predict.py": predict,
    "explain.py": explain,
    "export.py": export,
}
# .ci/run or the site's workflow runs these, or they change the environment.
NOT_RUN = re.compile(
    r"pip install |pytest|ruff |mypy|zensical |pre-commit |git clone |python -m bench\."
)
CORE = ["train.py", "model/networks.py", "model/classifier.py", "data/iris.py", "data/tabular.py"]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page, language):
    """The code blocks of a page in a language: each with the file that it is to be saved as."""
    fence = re.compile(
        rf'^```{language}(?: title="([^"\n]+)")?\n(.*?)^```', re.DOTALL | re.MULTILINE
    )
    return fence.findall(page.read_text(encoding="utf-8"))


def prose(page):
    """A page's text without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


@each_page
def test_figures_are_the_measured_ones(page):
    text = page.read_text(encoding="utf-8")
    assert fill(text) == text, "run: python -m bench.figures"


def test_the_first_screen_is_what_train_prints(default_run):
    _, done = default_run
    screen = done.stdout.strip()
    assert f"```text\n{screen}\n```" in re.sub(r"^```text\n +", "```text\n", README, flags=re.M)


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_core_reads_in_an_hour():
    lines = {name: (ROOT / name).read_text("utf-8").count("\n") for name in CORE}
    assert sum(lines.values()) <= 700, lines
    for name in CORE:
        assert f"[{name}]({name})" in README


# Commands


@pytest.fixture
def clone(monkeypatch):
    """The working folder as a reader's clone: with examples and configs, and on the import path."""
    for name in ("examples", "configs"):
        Path(name).symlink_to(ROOT / name)
    monkeypatch.syspath_prepend(Path.cwd())
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if Path(f"{name}.py").exists():
            del sys.modules[name]  # another page's file may have the same name


@each_page
def test_commands_and_programs_run(page, clone):
    for name, text in blocks(page, "python"):
        if name:
            Path(name).write_text(text, encoding="utf-8")
    for name, text in blocks(page, "bash"):
        if name:  # a script: tests/test_cluster_page.py runs it
            check_script(text)
            continue
        for line in text.splitlines():
            for part in line.split("&&"):
                run_command(part.strip())
    iris = load_iris(as_frame=True)
    names = {"frame": iris.data, "features": iris.data.to_numpy(), "labels": iris.target}
    for name, text in blocks(page, "python"):
        if not name:
            exec(text, names)
    if "classifier" in names:
        labels = names["classifier"].predict(iris.data)
        assert labels.tolist()[:2] == ["setosa", "setosa"]


def run_command(line):
    """Run a line of a page in this process, as the command would run in its own."""
    program, *arguments = shlex.split(line)
    if program == "tensorboard":
        check_tensorboard(arguments)
        return
    if program == "torchrun":
        run_torchrun(arguments)
        return
    if program == "python" and arguments[0] == "-c":
        exec(arguments[1], {})
        return
    if program != "python" or arguments[0] not in COMMANDS:
        assert NOT_RUN.match(line), f"no test runs {line!r}"
        return
    script, *arguments = arguments
    if script in ("train.py", "evaluate.py"):
        arguments += ["--accelerator", "cpu"]
    if "--devices" in arguments:
        done = two_forks(helpers.script, COMMANDS[script], arguments)
        assert done.returncode == 0, done.stderr
        return
    if "configs/digits.yaml" in arguments:
        arguments += ["--folds", "2", "--max_epochs", "1"]  # minutes otherwise
    if {"--help", "--print_config"} & set(arguments):
        with pytest.raises(SystemExit) as stop:
            command(COMMANDS[script], arguments)
        assert not stop.value.code
    else:
        command(COMMANDS[script], arguments)


def run_torchrun(arguments):
    """Run a line of torchrun: its processes find each other on this machine."""
    script = arguments.index("train.py")
    line = [*arguments[:script], str(ROOT / "train.py"), *arguments[script + 1 :]]
    module = [sys.executable, "-m", "torch.distributed.run"]
    done = subprocess.run(
        [*module, *line, "--accelerator", "cpu"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def check_script(text):
    """Let shellcheck read a script of a page."""
    line = ["shellcheck", "--shell=bash", "-"]
    done = subprocess.run(line, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def check_tensorboard(arguments):
    """Start TensorBoard; it must know the run that the commands before it made."""
    arguments = [*arguments, "--host", "127.0.0.1", "--port", "0"]
    line = [sys.executable, "-m", "tensorboard.main", *arguments]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as server:
        try:
            addresses = (re.search(r"http://127\S+/", row) for row in server.stderr)
            address = next(match[0] for match in addresses if match)
            for _ in range(100):
                assert server.poll() is None, server.stderr.read()
                tags = scalar_tags(address)
                if any("final/test/accuracy" in tag for tag in tags.get("version_0", {})):
                    return
                time.sleep(0.2)
        finally:
            server.terminate()
    pytest.fail(f"TensorBoard knows {tags}")


def scalar_tags(address):
    """The tags of each run; none while TensorBoard does not answer yet."""
    try:
        with urllib.request.urlopen(f"{address}data/plugin/scalars/tags", timeout=30) as answer:
            return json.load(answer)
    except urllib.error.URLError:
        return {}


@each_page
def test_flags_in_tables_are_understood(page):
    function = None
    for row in prose(page).splitlines():
        cells = row.split("|")
        header = re.match(r"\| flag of `(\S+)(.*)` \|", row)
        if header:
            function = COMMANDS[header[1]]
            given = shlex.split(header[2])
        elif not row.startswith("|"):
            function = None
        elif row.startswith("| `--"):
            assert function is not None, f"which command takes the flags of {row!r}?"
            for flags in re.findall(r"`(--[^`]+)`", cells[1]):
                parse(function, given + shlex.split(flags))


# Links


@each_page
def test_internal_links_exist(page):
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}"


def anchors(page):
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_page_is_in_the_sites_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f": {page.name}" in menu
