"""What the tests share: runs in their own folder, in this process or in another one."""

import json
import multiprocessing
import os
import pty
import shutil
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path
from tempfile import mkdtemp
from threading import RLock

import torch
from tqdm import tqdm

from cli.command import command
from train import train

ROOT = Path(__file__).parents[1]

# A server that has imported the commands: the processes that it forks do not wait for imports.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.helpers", "evaluate", "explain", "export", "predict"])


def python(script, *arguments, cwd, **options):
    """Run a script of this project in another process, as a user does; its output is captured."""
    line = [sys.executable, str(ROOT / script), *arguments]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=120, **options)


@contextmanager
def started(script, *arguments, **options) -> Iterator[subprocess.Popen]:
    """A script of this project in another process, which is ended with the block."""
    line = [sys.executable, str(ROOT / script), *arguments]
    with subprocess.Popen(line, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


class Fork:
    """A function that runs in another process, a fork.

    Args:
        function: The function.
        arguments: Its arguments.
        environment: Further environment variables.
        files: Of some of the streams 0, 1 and 2 a file; by default `end` returns the last two.
    """

    def __init__(self, function, arguments, environment=None, files=None):
        with chdir(ROOT):  # where the server, if it starts now, finds what it imports
            forkserver.ensure_running()
        self.folder = mkdtemp()
        self.outputs = [str(Path(self.folder, name)) for name in ("out", "err")]
        streams = dict(enumerate([os.devnull, *self.outputs])) | (files or {})
        call = (function, arguments, os.environ | (environment or {}), streams)
        self.process = FORKS.Process(target=in_fork, args=call)
        self.process.start()
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()

    def is_running(self):
        return self.process.is_alive()

    def send_signal(self, number):
        os.kill(self.pid, number)

    def end(self):
        """Wait for its end: the exit code, and what it printed."""
        self.process.join(300)
        self.process.kill()
        self.process.join()
        texts = [path.read_text() if path.exists() else "" for path in map(Path, self.outputs)]
        shutil.rmtree(self.folder)
        return subprocess.CompletedProcess((), self.process.exitcode, *texts)


def forked(function, *arguments, **environment):
    """Run a function in another process, a fork; its output is captured."""
    return Fork(function, arguments, environment).end()


def in_terminal(function, *arguments):
    """Run a function in a fork whose standard error is a terminal, and what that shows."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    fork = Fork(function, arguments, files={2: os.ttyname(theirs)})
    shown = os.read(ours, 1000)  # it has opened its end
    os.close(theirs)
    with suppress(OSError):  # it has closed its end
        while True:
            shown += os.read(ours, 1000)
    os.close(ours)
    return fork.end(), shown.decode()


def start_two(function, *arguments, **environment):
    """Start a function in two forks that find each other as the processes of torchrun do."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    shared |= {"LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "tests"}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    return [Fork(function, arguments, environment | shared | rank) for rank in ranks]


def two_forks(function, *arguments, **environment):
    """Run a function in two processes of a group; what both printed, one after the other."""
    ends = [fork.end() for fork in start_two(function, *arguments, **environment)]
    code = next((end.returncode for end in ends if end.returncode), 0)
    texts = ["".join(getattr(end, name) for end in ends) for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess((), code, *texts)


def free_port():
    """A port of this machine that nothing uses."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def in_fork(function, arguments, environment, streams):
    """Run a function in this process, a fork, with files as standard input, output and error."""
    tqdm.set_lock(RLock())  # its usual lock is a semaphore, which a killed process would leave
    os.environ.clear()
    os.environ.update(environment)
    for stream, path in streams.items():
        flags = os.O_WRONLY | os.O_CREAT if stream else os.O_RDONLY
        os.dup2(os.open(path, flags | os.O_NOCTTY), stream)
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1)
    function(*arguments)


def script(function, line):
    """Do what the script of a command does in a process of its own."""
    sys.argv = [str(ROOT / f"{function.__name__}.py"), *line]
    command(function)


def run(*arguments):
    """`python train.py …` in this process, without pictures by default; its result.json."""
    if not {"--pictures", "--config", "--resume"} & set(arguments):
        arguments = (*arguments, "--pictures", "none")
    command(train, [*arguments, "--accelerator", "cpu"])
    run_dirs = sorted(Path("lightning_logs").iterdir(), key=os.path.getmtime)
    return json.loads((run_dirs[-1] / "result.json").read_text())


def age(run_dir):
    """Let a run be of earlier seconds: by them TensorBoard orders its files."""
    names = {path: path.name.split(".", 4) for path in Path(run_dir).glob("events*")}
    if any(int(words[3]) + 1 > time.time() for words in names.values()):
        for path, words in names.items():
            words[3] = str(int(words[3]) - 2)
            path.rename(path.with_name(".".join(words)))


def weights(checkpoint):
    """The state_dict of a checkpoint, loaded as data."""
    return torch.load(checkpoint, weights_only=True)["state_dict"]
