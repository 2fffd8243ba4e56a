"""evaluate.py on a real Ray cluster of 127.0.0.1: the numbers of one process, whatever dies."""

import json
import os
import shlex
import signal
import sys
import time
from logging import ERROR
from pathlib import Path

import pytest
import torch

from cli.command import command
from evaluate import evaluate
from evaluation.cluster import host_and_port, import_ray, own_modules
from tests.helpers import ROOT, forked, script, started, weights
from tests.test_resume_evaluate import Mine
from training.stack_fits import StackFits

pytestmark = pytest.mark.xdist_group("ray")  # one cluster for all

FAST = "--accelerator cpu --folds 3 --repeats 2 --inner_folds 2 --max_epochs 8 --baselines []"
FAST = FAST.split()

# A researcher's module. The first worker that gets to the middle of a stack is killed, once.
MINE = """
import os
import signal
from pathlib import Path

from torch import nn

import layers


class Net(nn.Sequential):
    def __init__(self, num_features, num_classes, then="stop"):
        super().__init__(*layers.make(num_features, num_classes))
        self.then = then
        self.calls = 0

    def forward(self, features):
        self.calls += 1
        if self.calls == 20:
            getattr(self, self.then)()
        return super().forward(features)

    def go_on(self):
        pass

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def die_once(self):
        killed = Path(__file__).with_name("killed")
        if not killed.exists():
            killed.write_text(str(os.getpid()))
            self.die()

    def refuse(self):
        raise ValueError("the network\\nis tired")
"""
LAYERS = """
from torch import nn


def make(num_features, num_classes):
    return nn.Linear(num_features, 8), nn.Tanh(), nn.Linear(8, num_classes)
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The folder of a researcher's modules, on the import path."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(MINE)
    (folder / "layers.py").write_text(LAYERS)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in ("mine", "layers"):  # other tests have modules of these names
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def ray(mine):
    """Ray with two workers, to which this process is connected."""
    module = import_ray()
    module.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": f"{ROOT}{os.pathsep}{mine}"}},
    )
    yield module
    module.shutdown()


@pytest.fixture
def small_stacks(monkeypatch):
    """Several stacks, where there would be one."""
    monkeypatch.setattr("evaluation.devices.STACK_BYTES", 600_000)


def run(*flags):
    """`python evaluate.py …`; its folder, and its result without what a clock says."""
    command(evaluate, [*FAST, *flags])
    return last_run()


def last_run():
    run_dir = max(Path("lightning_logs").iterdir(), key=lambda path: int(path.name.split("_")[1]))
    result = json.loads((run_dir / "result.json").read_text())
    result.pop("fit_seconds")
    return run_dir, result


def refused(capsys, *flags):
    with pytest.raises(SystemExit) as stop:
        command(evaluate, [*FAST, *flags])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


# The same numbers


@pytest.mark.usefixtures("ray", "small_stacks")
@pytest.mark.parametrize(
    "flags",
    [
        "--save",
        "--search 6 --sweep.optimizer.lr [0.001,0.003,0.01,0.02,0.05] --sweep.max_epochs [7,8]",
        "--search 4 --sweep.optimizer.lr [0.001,0.01,0.1,0.2] --patience 2 --data.val_fraction 0.2"
        " --save",
        "--members 2 --data.batch_size 32 --data.class_weight balanced --metric auroc --patience 3",
        "--optimizer SGD --optimizer.lr 1e30 --schedule ReduceLROnPlateau --loss MSELoss",
    ],
)
def test_the_result_is_that_of_one_process_to_the_bit(flags, capsys):
    def outcome(*more):
        try:
            return run(*flags.split(), *more)
        except SystemExit as stop:  # no network stayed finite
            return None, (stop.code, capsys.readouterr().err)

    alone_dir, alone = outcome()
    cluster_dir, result = outcome("--cluster", "ray")
    assert result == alone
    if "--save" in flags:
        files = [path / "checkpoints" / "population.ckpt" for path in (alone_dir, cluster_dir)]
        first, second = map(weights, files)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert list(cluster_dir.glob("checkpoints/*")) == [files[1]]  # no stack is left


@pytest.mark.usefixtures("ray")
def test_dropout_is_that_of_one_process_where_there_is_one_stack():
    _, alone = run("--network.dropout", "0.3")
    _, result = run("--network.dropout", "0.3", "--cluster", "ray")
    assert result == alone


@pytest.mark.usefixtures("ray", "small_stacks")
def test_a_killed_worker_costs_its_stack_and_changes_no_number(mine):
    flags = ["--network", "mine.Net", "--max_epochs", "40"]
    _, alone = run(*flags, "--network.then", "go_on")
    _, result = run(*flags, "--network.then", "die_once", "--cluster", "ray")
    pid = int((mine / "killed").read_text())
    assert pid != os.getpid()
    assert not Path(f"/proc/{pid}").exists()
    assert result == alone


# Networks that fail


@pytest.mark.usefixtures("ray")
def test_a_network_that_raises_is_not_tried_again(capsys):
    flags = ["--network", "mine.Net", "--network.then", "refuse", "--max_epochs", "40"]
    alone = refused(capsys, *flags)
    assert alone == "error: the network is tired\n"
    assert refused(capsys, *flags, "--cluster", "ray") == alone
    assert not list(Path("lightning_logs").iterdir())


@pytest.mark.usefixtures("ray")
def test_a_network_that_ends_every_worker_is_given_up(monkeypatch, capsys):
    monkeypatch.setattr("evaluation.cluster.RETRIES", 1)
    flags = ["--network", "mine.Net", "--network.then", "die", "--max_epochs", "40"]
    assert "2 workers died of the same networks" in refused(capsys, *flags, "--cluster", "ray")
    assert not list(Path("lightning_logs").iterdir())


@pytest.mark.usefixtures("ray")
def test_another_torch_would_give_other_numbers(monkeypatch, capsys):
    monkeypatch.setattr(torch, "__version__", "1.0")
    error = refused(capsys, "--cluster", "ray")
    assert "a worker of the cluster has torch" in error
    assert "and this machine 1.0" in error


# Interrupted and resumed


MINE_SEARCHED = "--data tests.test_resume_evaluate.Mine --search 4 --sweep.optimizer.lr"
SEARCH = f"{MINE_SEARCHED} [0.001,0.01,0.1,0.2]"


@pytest.mark.usefixtures("ray", "small_stacks")
def test_an_interrupted_evaluation_goes_on_with_the_stacks_that_are_kept(monkeypatch, capsys):
    flags = SEARCH.split()
    _, expected = run(*flags)
    kept = []
    keep = StackFits.keep

    def interrupt(self, until, index, result):
        keep(self, until, index, result)
        kept.append((until, index))
        if until == 4 and len(kept) > len(self.stacks) + 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StackFits, "keep", interrupt)
        with pytest.raises(SystemExit) as stop:
            run(*flags, "--cluster", "ray")
    assert stop.value.code == 130
    first, line = capsys.readouterr().err.split("resume with: ")
    assert first.startswith("error: stopped after ")
    _, script, *words = shlex.split(line)
    assert script == "evaluate.py"

    run_dir = Path(words[-1])
    assert "was begun on a cluster" in refused_resume(capsys, run_dir, "--cluster", "null")
    with monkeypatch.context() as patch:
        patch.setattr(Mine, "shift", 0.001)
        assert "learned from other rows" in refused_resume(capsys, run_dir)
    damaged = max(run_dir.glob("checkpoints/group_1_epoch_2_*.ckpt"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-100])
    assert str(damaged) in refused_resume(capsys, run_dir)
    damaged.write_bytes(whole)

    again = []
    with monkeypatch.context() as patch:
        patch.setattr(StackFits, "keep", lambda *args: again.append(args[1:3]) or keep(*args))
        command(evaluate, words)
    assert last_run() == (run_dir, expected)
    assert not {*kept} & {*again}


def refused_resume(capsys, run_dir, *flags):
    with pytest.raises(SystemExit) as stop:
        command(evaluate, ["--resume", str(run_dir), *flags])
    assert stop.value.code == 2
    return capsys.readouterr().err


# Other clusters than that of this process


FAR = """
from torch import nn

import layers

with open({log!r}, "a") as file:
    file.write(__file__ + "\\n")


class Net(nn.Sequential):
    def __init__(self, num_features, num_classes):
        super().__init__(*layers.make(num_features, num_classes))
"""


def test_a_cluster_at_an_address_gets_the_code(ray, mine, tmp_path):
    """Its workers import the researcher's modules from copies: nothing leads to the folder."""
    log = tmp_path / "imported"
    (mine / "far.py").write_text(FAR.format(log=str(log)))
    address = ray.get_runtime_context().gcs_address
    flags = [*FAST, "--network", "far.Net"]
    line = [*flags, "--cluster", "ray"]
    done = forked(script, evaluate, line, PYTHONPATH=str(mine), RAY_ADDRESS=address)
    assert (done.returncode, done.stderr) == (0, "")
    files = set(log.read_text().split())
    assert files - {str(mine / "far.py")}
    _, result = last_run()
    _, alone = run(*flags)
    assert result == alone


def test_ctrl_c_ends_a_cluster_of_its_own(tmp_path):
    flags = [*FAST, "--max_epochs", "1000", "--sweep.network.hidden", "[[4],[5],[6],[7],[8]]"]
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    line = ["evaluate.py", *flags, "--cluster", "ray"]
    kept = tmp_path / "lightning_logs" / "version_0" / "checkpoints"
    errors = tmp_path / "errors"
    with (
        errors.open("w") as file,
        started(*line, cwd=tmp_path, env=environment, process_group=0, stderr=file) as process,
    ):
        wait(lambda: list(kept.glob("group_*.ckpt")) or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, also to Ray's processes
        assert process.wait(timeout=60) == 130
        wait(lambda: is_over(process.pid))
    first, line = errors.read_text().split("; resume with: ")
    assert first.startswith("error: stopped after ")
    assert line.endswith("--resume lightning_logs/version_0\n")


def wait(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def is_over(process_group):
    """Whether no process of a group is left."""
    try:
        os.killpg(process_group, 0)
    except ProcessLookupError:
        return True
    return False


# Wrong input


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--cluster dask",
            "cluster is 'dask'; give ray, or a Ray cluster's address such as ray://",
        ),
        ("--cluster ray --devices 2", "devices is 2 and cluster is ray"),
        ("--cluster ray --strategy ddp", "leave out --strategy or --cluster"),
        ("--cluster ray --num_nodes 2", "num_nodes is 2"),
        ("--cluster ray --accelerator mps", "accelerator is mps, but the workers"),
        ("--cluster ray://127.0.0.1:1", "no Ray cluster answers at ray://127.0.0.1:1: Connection"),
    ],
)
def test_what_does_not_go_together_is_refused(flags, message, monkeypatch, capsys):
    monkeypatch.setattr(import_ray(), "is_initialized", bool)
    assert message in refused(capsys, *flags.split())
    assert not Path("lightning_logs").exists()


def test_an_address_of_the_environment_is_tried_too(monkeypatch, capsys):
    monkeypatch.setattr(import_ray(), "is_initialized", bool)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "answers at 127.0.0.1:1" in refused(capsys, "--cluster", "ray")
    assert not Path("lightning_logs").exists()


@pytest.mark.usefixtures("ray")
def test_a_cluster_without_a_gpu_is_refused(capsys):
    error = refused(capsys, "--cluster", "ray", "--accelerator", "gpu")
    assert "accelerator is gpu, but the cluster ray has no GPU" in error
    assert not Path("lightning_logs").exists()


def test_ray_that_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert 'pip install -e ".[cluster]"' in refused(capsys, "--cluster", "ray")


def test_an_evaluation_without_a_cluster_is_not_resumed_on_one(monkeypatch, capsys):
    run_dir, _ = run()
    (run_dir / "result.json").unlink()
    (run_dir / "checkpoints").mkdir()
    (run_dir / "checkpoints" / "group_1.ckpt").touch()
    assert "was begun without a cluster" in refused_resume(capsys, run_dir, "--cluster", "ray")


@pytest.mark.parametrize("address", ["auto", "local", "head", "head:x", "a/b:1", ":1", "h:123456"])
def test_what_is_no_address(address):
    assert host_and_port(address) is None


def test_modules_that_are_installed_stay_here():
    names = {Path(path).name for path in own_modules()}
    assert {"model", "training", "evaluate.py"} <= names
    assert not {"torch", "numpy", "json", "ray"} & names
