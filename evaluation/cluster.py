"""Workers of a Ray cluster, for `evaluate.py --cluster`: each has a CPU or a GPU of its own.

Why Ray: a task whose worker is killed runs again, on several machines too, and the rows that all
tasks read lie in a machine's memory once. concurrent.futures, tried beside it, gives up all tasks
when a worker is killed (BrokenProcessPool), holds a copy of the rows in every worker, and stays on
one machine.
"""

import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from logging import ERROR
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor

from cli.errors import first_line
from cli.interrupts import catch, restore, stop, uninterrupted

RETRIES = 3  # of a task whose worker died
SECONDS = 5  # to reach the address of a cluster
CLUSTER_BYTES = 2**44  # of all networks: the workers have them, a stack at a time

INSTALLED = {"site-packages", "dist-packages"}  # folders of packages that all machines have

# Ray reads these when it is imported: no telemetry, and no lines about workers that died.
SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}

Key = TypeVar("Key")


def check_cluster(
    cluster: str, accelerator: str, devices: int | list[int] | str, strategy: str, num_nodes: int
) -> None:
    """Refuse what does not go with a cluster, before anything is connected.

    Raises:
        ValueError: An argument that cannot be used, or Ray is not installed.
    """
    if cluster != "ray" and host_and_port(cluster) is None:
        raise ValueError(
            f"cluster is {cluster!r}; give ray, or a Ray cluster's address such as ray://head:10001"
        )
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(
            f"accelerator is {accelerator}, but the workers of a cluster have a CPU or a GPU each; "
            "give cpu, gpu or auto"
        )
    defaults = {"devices": (devices, "auto"), "strategy": (strategy, "auto")}
    for name, (value, default) in (defaults | {"num_nodes": (num_nodes, 1)}).items():
        if value != default:
            raise ValueError(
                f"{name} is {value} and cluster is {cluster}: give a fixed set of devices, or a "
                f"cluster, whose workers are its own; leave out --{name} or --cluster"
            )
    import_ray()


def import_ray() -> Any:
    """The module, silenced.

    Raises:
        ValueError: It is not installed.
    """
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            f'--cluster needs a further package ({error}): pip install -e ".[cluster]"'
        ) from error
    return ray


@contextmanager
def connected(cluster: str | None, accelerator: str) -> Iterator["Workers | None"]:
    """The workers of a cluster, until the block ends; None without a cluster.

    A process that is connected to Ray already stays so, and its cluster is the one that is meant.

    Args:
        cluster: ray, or the address of a cluster.
        accelerator: What each worker computes on: cpu, gpu, or auto.

    Raises:
        ValueError: There is no such cluster, or it has no such worker.
    """
    if cluster is None:
        yield None
        return
    ray = import_ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        connect(ray, cluster)
    try:
        yield Workers(ray, cluster, accelerator)
    finally:
        if is_ours:
            with uninterrupted():
                ray.shutdown()


def connect(ray: Any, cluster: str) -> None:
    """Connect to a cluster, or to a new one on this machine where none is named or runs here.

    Raises:
        ValueError: No cluster answers there.
    """
    address = None if cluster == "ray" else cluster
    named = address or os.environ.get("RAY_ADDRESS", "")
    check_answers(named)
    options: dict[str, Any] = {}
    # Ray takes the modules of a job, and a cluster on this machine finds them by itself.
    if named not in ("", "local") and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        options["runtime_env"] = {"py_modules": own_modules()}
    handlers = catch(stop)
    try:
        with uninterrupted(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(
                address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=ERROR,
                **options,
            )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ValueError(
            f"Ray does not connect to {named or cluster}: {first_line(error)}; where a cluster "
            "asks for a token, set RAY_AUTH_MODE=token"
        ) from error
    finally:
        restore(handlers)  # Ray has a handler of its own for SIGTERM


def check_answers(address: str) -> None:
    """Refuse an address where nothing answers: Ray itself would wait for minutes."""
    target = host_and_port(address)
    if target is None:  # such as auto or local
        return
    try:
        socket.create_connection(target, timeout=SECONDS).close()
    except OSError as error:
        raise ValueError(
            f"no Ray cluster answers at {address}: {error.strerror or error}; start one with ray "
            "start --head, or give --cluster ray without RAY_ADDRESS for one on this machine"
        ) from error


def host_and_port(address: str) -> tuple[str, int] | None:
    """The host and port of an address; None if it is no such address.

    >>> host_and_port("ray://head:10001"), host_and_port("[::1]:6379"), host_and_port("auto")
    (('head', 10001), ('::1', 6379), None)
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    is_port = port.isascii() and port.isdecimal() and len(port) <= 5
    if not (host and is_port) or "/" in host:
        return None
    return host.strip("[]"), int(port)


def own_modules() -> list[str]:
    """Files and folders of the imported modules that are not installed: this project's, the user's.

    A worker gets a copy of them, so that it runs the code that this process runs.
    """
    known = {*sys.stdlib_module_names, "__main__", "lightning_iris"}
    names = {name for name in sys.modules if "." not in name} - known
    paths = {location(sys.modules[name]) for name in names}
    return sorted(str(path) for path in paths if path and not INSTALLED & set(path.parts))


def location(module: ModuleType) -> Path | None:
    """The file of a module, or the folder of a package; None for one of another kind."""
    file = getattr(module, "__file__", None)
    if file is None or Path(file).suffix != ".py":
        return None
    path = Path(file).resolve()
    return path.parent if path.name == "__init__.py" else path


class Workers:
    """The workers of a cluster, which call functions with arguments of this process.

    Args:
        ray: The module, connected.
        cluster: The name of the cluster, for messages.
        accelerator: What each worker computes on: cpu, gpu, cuda, or auto for GPUs if there are
            any.

    Raises:
        ValueError: There is no such worker.
    """

    def __init__(self, ray: Any, cluster: str, accelerator: str) -> None:
        self.ray = ray
        has_gpus = ray.cluster_resources().get("GPU", 0) >= 1
        self.accelerator = accelerator
        if accelerator == "auto":
            self.accelerator = "gpu" if has_gpus else "cpu"
        self.resource = "CPU" if self.accelerator == "cpu" else "GPU"
        if not self.count():
            raise ValueError(
                f"accelerator is {accelerator}, but the cluster {cluster} has no {self.resource}; "
                "give another --accelerator, or add machines to it"
            )

    def count(self) -> int:
        """How many tasks the cluster can run at once now; machines may come and go."""
        return int(self.ray.cluster_resources().get(self.resource, 0))

    def share(self, value: Any) -> Any:
        """A reference to a value that a machine has once; its workers read the same memory."""
        register = self.ray.util.register_serializer
        register(Tensor, serializer=Tensor.numpy, deserializer=tensor_of)
        try:
            return self.ray.put(value)
        finally:
            self.ray.util.deregister_serializer(Tensor)

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple[Key, tuple[Any, ...]]]
    ) -> Iterator[tuple[Key, Any]]:
        """Call the function with the arguments of each task: its key and result, as they end.

        No more tasks are under way than there are workers, and one, so that no worker waits for
        this process. A task whose worker died starts over, on any worker.

        Args:
            function: A function of a module.
            tasks: A key and the arguments of each task; taken when a worker is free.

        Raises:
            Exception: What the function raised.
            ConnectionError: A task's worker died again and again, or the cluster is lost.
        """
        ray = self.ray
        task = ray.remote(num_cpus=1, num_gpus=int(self.resource == "GPU"), max_retries=RETRIES)(
            function
        )
        waiting = iter(tasks)
        running: dict[Any, Key] = {}
        while True:
            for key, arguments in islice(waiting, max(0, self.count() + 1 - len(running))):
                running[task.remote(*arguments)] = key
            if not running:
                return
            (reference,), _ = ray.wait(list(running))
            yield running.pop(reference), self.result_of(reference)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns on one worker."""
        ((_, result),) = self.run(function, [(0, arguments)])
        return result

    def result_of(self, reference: Any) -> Any:
        """What a task returned."""
        errors = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, ImportError):
                raise ValueError(
                    f"a worker of the cluster cannot import the code: {first_line(cause)}; install "
                    "the same packages on all machines"
                ) from error
            raise cause from error
        except (errors.WorkerCrashedError, errors.NodeDiedError) as error:
            raise ConnectionError(
                f"{RETRIES + 1} workers died of the same networks; their memory is too small, or "
                "the network's own code ends the process"
            ) from error
        except errors.RayError as error:
            raise ConnectionError(f"the cluster ended the task: {first_line(error)}") from error


def tensor_of(array: Any) -> Tensor:
    """A tensor of the same memory, which is read-only: folds are read, and never changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(array)
