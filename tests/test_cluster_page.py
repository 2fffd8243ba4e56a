"""docs/cluster.md: its scripts run, with two processes on this machine in place of a cluster.

Schedulers are played by a few lines of shell: what they do is to start processes with environment
variables, and to end them with a signal.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.helpers import ROOT, free_port
from tests.test_docs import blocks, check_script

PAGE = ROOT / "docs" / "cluster.md"
SRUN = """#!/bin/bash
# srun: two tasks, one on each of two machines; the step fails as soon as one of them does.
shift
for rank in 0 1; do
    SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=1 SLURM_NNODES=2 SLURM_PROCID=$rank SLURM_LOCALID=0 \\
        SLURM_NODEID=$rank SLURM_NODELIST=127.0.0.1 "$@" &
    echo $! >> tasks
done
wait -n && wait -n
"""
SCONTROL = """#!/bin/bash
# scontrol requeue: ends the tasks with SIGTERM.
echo "$@" >> requeued
xargs kill -TERM < tasks
"""


def script(language, title, changes):
    """A script of the page, with few epochs on two processes of this machine."""
    (text,) = (text for name, text in blocks(PAGE, language) if name == title)
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def machine(monkeypatch):
    """The working folder: with examples, the commands, and the programs of a cluster."""
    Path("bin").mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        Path("bin", name).write_text(text)
        Path("bin", name).chmod(0o755)
    for name in ("examples", "train.py"):
        Path(name).symlink_to(ROOT / name)
    folders = [str(Path("bin").absolute()), str(Path(sys.executable).parent)]
    monkeypatch.setenv("PATH", os.pathsep.join([*folders, os.environ["PATH"]]))
    monkeypatch.setenv("MASTER_PORT", str(free_port()))


def in_bash(text, **environment):
    """A script in a shell of its own."""
    return subprocess.Popen(
        ["bash", "-c", text],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path, process):
    until = time.monotonic() + 100
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_job_of_slurm_goes_on_after_it_was_requeued(machine):
    changes = {"--accelerator gpu --devices 4": "--accelerator cpu --devices 1 --max_epochs 400"}
    text = script("bash", "train.sbatch", changes)
    run_dir = Path("runs/77/version_0")
    with in_bash(text, SLURM_JOB_ID="77") as job:
        wait_for(run_dir / "checkpoints" / "last.ckpt", job)
        job.send_signal(signal.SIGUSR1)
        output, _ = job.communicate(timeout=60)
    assert Path("requeued").read_text() == "requeue 77\n"
    assert re.findall(r"^error: .*", output, re.MULTILINE) == re.findall(
        r"^error: stopped in epoch \d+; resume with: .*", output, re.MULTILINE
    )
    assert output.count("error: ") == 1, output
    assert not (run_dir / "result.json").exists()
    with in_bash(text, SLURM_JOB_ID="77") as job:
        output, _ = job.communicate(timeout=100)
    assert job.returncode == 0, output
    assert json.loads((run_dir / "result.json").read_text())["epochs"] == 400
    assert list(Path("runs/77").iterdir()) == [run_dir]


def test_pods_of_kubernetes_train_one_network(machine):
    changes = {
        "--accelerator gpu --devices 4": "--accelerator cpu --devices 1 --max_epochs 3",
        "--nproc_per_node 4": "--nproc_per_node 1",
        "train-0.train:29500": f"127.0.0.1:{free_port()}",
        "/runs": str(Path("runs").absolute()),
    }
    service, job = yaml.safe_load_all(script("yaml", "train.yaml", changes))
    name = job["metadata"]["name"]
    template = job["spec"]["template"]["spec"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert service["metadata"]["name"] == template["subdomain"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    (container,) = template["containers"]
    volumes = [volume["name"] for volume in template["volumes"]]
    assert [mount["name"] for mount in container["volumeMounts"]] == volumes
    shell, flag, text = container["command"]
    assert (shell, flag) == ("bash", "-c")
    check_script(text)
    pods = [in_bash(text, JOB_COMPLETION_INDEX=str(index)) for index in (0, 1)]
    outputs = [pod.communicate(timeout=100)[0] for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], outputs
    assert json.loads(Path("runs/version_0/result.json").read_text())["epochs"] == 3
