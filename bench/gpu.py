"""Whether everything works on this machine's CUDA GPU, and how fast: one command, one report.

    python -m bench.gpu               # all sections, about 6 minutes
    python -m bench.gpu alone speed   # some of them
    python -m bench.gpu --small       # on the CPU and small: does it run? Writes nothing

`works` runs commands that train on the GPU beside the same on the CPU; `alone` compares members of
a population with the same networks alone; `checkpoints` reads on the CPU what the GPU wrote, and
back; `processes` lets two share the GPU; `syncs` counts how often the CPU waits for the GPU;
`memory` and `speed` measure. Results in bench/results/gpu.json, which is written after every
section.
"""

import contextlib
import io
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import numpy as np
import polars as pl
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from bench.measure import ROOT, processor, quiet_trainer
from bench.population import CANDIDATE, make_folds, population_cost, scikit_learn_cost
from cli.command import command, quiet
from cli.component import describe
from data.augmentation import Augmentation
from data.raw_table import RawTable
from data.sampling import row_order
from data.tabular import TabularData
from evaluate import evaluate
from model.classifier import Classifier
from model.convnet import ConvNet
from model.networks import MLP
from model.population import Member, Population
from model.recipe import LOSS, OPTIMIZER, SCHEDULE
from model.stack import Stack
from train import train
from training.fast import TensorBatches, make_classifier

RESULT = Path(__file__).with_name("results") / "gpu.json"
SMALL = "--small" in sys.argv
DEVICE = "cpu" if SMALL else "gpu"
QUICK = "--pictures none --max_epochs 20"
MINI_BATCHES = "--data.batch_size 16 --data.val_fraction 0.1"
PRECISIONS = ["32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true"]
IMAGES = (
    "--data Images --data.rotation 10 --data.shift 0.1 --data.flip true "
    "--network ConvNet --data.batch_size 64 --max_epochs 3"
)
RATES = '{"low":0.01,"high":0.1,"log":true}'
TRAIN_RUNS = {
    "train": "--pictures all",
    **{f"train, {name}": f"--pictures none --precision {name}" for name in PRECISIONS},
    **{
        f"train, {name}, patience": f"{QUICK} {MINI_BATCHES} --precision {name} --patience 9"
        for name in PRECISIONS
    },
    **{
        f"train, {name}, clipped": f"{QUICK} --precision {name} --trainer.gradient_clip_val 1"
        for name in ("32-true", "bf16-mixed", "16-mixed")
    },
    "train, SGD, 16-mixed": "--optimizer SGD --optimizer.lr 0.1 --precision 16-mixed",
    "train, deterministic": f"{QUICK} {MINI_BATCHES} --trainer.deterministic true",
    "train, accumulated": f"{QUICK} {MINI_BATCHES} --trainer.accumulate_grad_batches 4",
    "train, MSELoss": f"{QUICK} --loss MSELoss",
    "train, MultiMarginLoss": f"{QUICK} --loss MultiMarginLoss",
    "train, balanced": f"{QUICK} --data.class_weight balanced",
    "train, auroc": f"{QUICK} {MINI_BATCHES} --metric auroc",
    "train, members": f"{QUICK} --members 8",
    "train, members, bf16-mixed": f"{QUICK} --members 8 --precision bf16-mixed",
    "train, images": f"{IMAGES} --pictures none",
    "train, images, bf16-mixed": f"{IMAGES} --pictures none --precision bf16-mixed",
    "train, ddp": f"{QUICK} --strategy ddp",
    "train, fsdp": f"{QUICK} --strategy fsdp",
}
FOLDS = "--folds 5 --repeats 2"
EVALUATE_RUNS = {
    "evaluate": FOLDS,
    "evaluate, batches": f"{FOLDS} --data.batch_size 16",
    "evaluate, patience": f"{FOLDS} {MINI_BATCHES} --patience 10",
    "evaluate, auroc": f"{FOLDS} {MINI_BATCHES} --metric auroc",
    "evaluate, bf16-mixed": f"{FOLDS} --precision bf16-mixed",
    "evaluate, bf16-true": f"{FOLDS} --precision bf16-true",
    "evaluate, 64-true": f"{FOLDS} --precision 64-true",
    "evaluate, MSELoss": f"{FOLDS} --loss MSELoss",
    "evaluate, balanced": f"{FOLDS} --data.class_weight balanced",
    "evaluate, dropout": f"{FOLDS} --network.dropout 0.2",
    "evaluate, SGD": f"{FOLDS} --optimizer SGD --optimizer.lr 0.1",
    "evaluate, plateau": f"{FOLDS} --schedule ReduceLROnPlateau --max_epochs 10",
    "evaluate, members": f"{FOLDS} --members 8 --max_epochs 20",
    "evaluate, sweep": "--folds 3 --sweep.network.hidden [[16],[32]] --inner_folds 2 --save",
    "evaluate, search": f"--folds 3 --sweep.optimizer.lr {RATES} --search 4 --inner_folds 2",
    "evaluate, images": f"{IMAGES} --max_epochs 1 --folds 2 --repeats 1",
    "evaluate, ddp": f"{FOLDS} --strategy ddp",
}

# Rows, columns, hidden units, rows of a batch, precision.
THROUGHPUTS: dict[str, tuple[int, int, list[int], int, str]] = {
    "1,000,000 rows, 256-256": (1_000_000, 50, [256, 256], 4096, "32-true"),
    "1,000,000 rows, 256-256, bf16-mixed": (1_000_000, 50, [256, 256], 4096, "bf16-mixed"),
    "width 2,048, bf16-mixed": (262_144, 50, [2048] * 4, 8192, "bf16-mixed"),
    "width 8,192, bf16-mixed": (131_072, 50, [8192] * 4, 16_384, "bf16-mixed"),
}
if SMALL:
    THROUGHPUTS = {"2,000 rows": (2000, 5, [8], 256, "bf16-mixed")}


class Attempt:
    """A command that was run: seconds, result.json, its error, warnings and folder.

    Args:
        function: train or evaluate.
        argv: Its arguments, between spaces.
        device: Where it computes.
        alone: Whether to run it in a process of its own, as process groups need it.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        argv: str,
        device: str = DEVICE,
        alone: bool = False,
    ) -> None:
        self.error = ""
        self.warnings: list[str] = []
        line = [*argv.split(), "--accelerator", device, "--devices", "1", "--log_dir", "logs"]
        start = time.perf_counter()
        if alone:
            self.run_alone(f"{function.__name__}.py", line)
        else:
            self.run_here(function, line)
        self.seconds = time.perf_counter() - start
        folders = sorted(Path("logs").glob("version_*"), key=lambda path: int(path.name[8:]))
        self.run_dir = folders[-1] if folders else Path("logs")
        self.result: dict[str, Any] = {}
        if not self.error:
            self.result = json.loads((self.run_dir / "result.json").read_text())

    def run_here(self, function: Callable[..., Any], line: list[str]) -> None:
        """Run it in this process."""
        stderr = io.StringIO()
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(stderr),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            try:
                command(function, line)
            except SystemExit:
                self.error = stderr.getvalue().strip().splitlines()[-1]
            except Exception as error:  # what a user would see as a traceback
                self.error = f"{type(error).__name__}: {error}"[:300]
        self.warnings = sorted({str(warning.message)[:200] for warning in caught})

    def run_alone(self, script: str, line: list[str]) -> None:
        """Run it in a process of its own; whatever it says on standard error is a warning."""
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *line], capture_output=True, text=True
        )
        said = done.stderr.strip()[-400:]
        if done.returncode:
            self.error = said
        elif said:
            self.warnings = [said]


def works() -> dict[str, Any]:
    """Each command on the GPU and on the CPU: the same loss within 5 %, no error, no warning."""
    Attempt(train, QUICK)  # makes the GPU's context
    rows = {}
    commands: list[tuple[str, Callable[..., Any], str, str]] = [
        *((name, train, line, "train/loss") for name, line in TRAIN_RUNS.items()),
        *((name, evaluate, line, "log_loss/mean") for name, line in EVALUATE_RUNS.items()),
    ]
    for name, function, line, key in commands:
        gpu = Attempt(function, line, alone="--strategy" in line)
        row: dict[str, Any] = {"seconds": round(gpu.seconds, 2)}
        if gpu.warnings:
            row["warnings"] = gpu.warnings
        if gpu.error:
            row["error"] = gpu.error
        else:
            cpu = Attempt(function, line.partition("--strategy")[0], "cpu")
            row["loss"] = gpu.result[key]
            row["on the CPU"] = cpu.result[key]
        same = math.isclose(row.get("loss", math.inf), row.get("on the CPU", 0), rel_tol=0.05)
        row["ok"] = same and not gpu.warnings
        rows[name] = row
        print(f"{name:34}", row, flush=True)
    return rows


def alone() -> dict[str, Any]:
    """The largest difference between a member's weights and those of the network alone."""
    folds = make_folds(1)[:5]
    epochs = 2 if SMALL else 30
    rows = {}
    for precision in ("32-true", "64-true", "bf16-mixed"):
        for batch_size in (None, 16):
            population = Population(
                4,
                3,
                [CANDIDATE],
                [Member(0, i, i) for i in range(5)],
                folds=folds,
                batch_size=batch_size,
                row_order=row_order,
                stack_bytes=2**34,
            )
            quiet_trainer(epochs, DEVICE, precision).fit(population)
            weights = population.weights()
            worst = 0.0
            for i, splits in enumerate(folds):
                state = trained_alone(i, splits["train"], batch_size, epochs, precision)
                for name, value in state.items():
                    difference = weights[Member(0, i, i)][name].double() - value.cpu().double()
                    worst = max(worst, difference.abs().max().item())
            rows[f"{precision}, batches of {batch_size}"] = worst
    return rows


def trained_alone(
    seed: int,
    rows: tuple[torch.Tensor, torch.Tensor],
    batch_size: int | None,
    epochs: int,
    precision: str,
) -> dict[str, torch.Tensor]:
    """The weights of a network trained by Lightning's Trainer as users write it."""
    seed_everything(seed, verbose=False)
    classifier = Classifier(4, 3, **CANDIDATE)
    trainer = quiet_trainer(epochs, DEVICE, precision)
    features, targets = rows
    size = batch_size or len(targets)

    class Batches:
        def __len__(self) -> int:
            return -(-len(targets) // size)

        def __iter__(self) -> Any:
            order = np.arange(len(targets))
            if batch_size:
                order = row_order(len(targets), seed, trainer.current_epoch)
            for batch in torch.from_numpy(order).split(size):
                yield features[batch], targets[batch]

    trainer.fit(classifier, Batches())
    return classifier.network.state_dict()


def checkpoints() -> dict[str, Any]:
    """Exit codes of commands that read, with and without the GPU, what it wrote."""
    single = Attempt(train, f"{QUICK} --data.val_fraction 0.1").run_dir
    many = Attempt(evaluate, "--folds 3 --repeats 1 --save --max_epochs 20")
    iris = load_iris(as_frame=True)
    table = iris.data.assign(species=iris.target_names[iris.target])
    pl.DataFrame({name: table[name].to_list() for name in table}).write_csv("iris.csv")
    last = single / "checkpoints" / "last.ckpt"
    rows = {}
    for where, visible in (("with the GPU", {}), ("without", {"CUDA_VISIBLE_DEVICES": ""})):
        accelerator = "cpu" if visible else DEVICE
        resume = ["--config", str(single / "config.yaml"), "--resume", str(last)]
        resume += ["--accelerator", accelerator, "--pictures", "none"]
        lines = {"train.py --resume": ["train.py", *resume]}
        for path in (
            single / "checkpoints" / "best.ckpt",
            many.run_dir / "checkpoints" / "population.ckpt",
        ):
            predict = ["predict.py", str(path), "iris.csv", "--score"]
            predict += ["--output", f"{path.stem}.csv"]
            lines[f"predict.py {path.name}"] = predict
            lines[f"explain.py {path.name}"] = ["explain.py", str(path), "iris.csv"]
            lines[f"export.py {path.name}"] = ["export.py", str(path), f"{path.stem}.onnx"]
        with ThreadPoolExecutor() as pool:
            answers = pool.map(partial(answer, os.environ | visible), lines.values())
            rows |= {f"{name}, {where}": row for name, row in zip(lines, answers, strict=True)}
    return rows


def answer(environment: dict[str, str], line: list[str]) -> dict[str, Any]:
    """The exit code of a command, and the last line of its standard error, if any."""
    script, *arguments = line
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )
    row: dict[str, Any] = {"exit code": done.returncode}
    if done.stderr.strip():
        row["standard error"] = done.stderr.strip().splitlines()[-1][:200]
    return row


PROCESS = """
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from cli.command import command
from evaluate import evaluate
from train import train
from training.fast import TensorBatches, make_classifier
StrategyRegistry.register("ddp_gloo", DDPStrategy, process_group_backend="gloo")
line = "--accelerator {device} --devices 1 --num_nodes 2 --strategy ddp_gloo --log_dir two".split()
command(train, [*line, "--pictures", "final"])
batches = "--data.batch_size 8 --data.val_fraction 0.1 --precision bf16-mixed --pictures none"
command(train, [*line, *batches.split()])
command(evaluate, [*line, "--folds", "3", "--repeats", "1", "--save"])
"""


def processes() -> dict[str, Any]:
    """Two processes that share the GPU as two machines: exit codes, and the losses they agree on.

    NCCL does not let two processes share a GPU, so they talk through gloo.
    """
    running = []
    for rank in (0, 1):
        place = {"NODE_RANK": str(rank), "LOCAL_RANK": "0", "PYTHONPATH": path_with_root()}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", PROCESS.replace("{device}", DEVICE)],
                env=os.environ | place | address,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    rows: dict[str, Any] = {}
    for rank, process in enumerate(running):
        try:
            _, stderr = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            process.kill()
            _, stderr = process.communicate()
        rows[f"process {rank}"] = {"exit code": process.returncode, "error": stderr[-300:]}
    for path in sorted(Path("two").glob("version_*/result.json")):
        result = json.loads(path.read_text())
        key = "train/loss" if "train/loss" in result else "log_loss/mean"
        rows[path.parent.name] = {key: result[key]}
    return rows


def path_with_root() -> str:
    """PYTHONPATH with this repository in front."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))


def syncs() -> dict[str, Any]:
    """How often a line waits for the GPU, per epoch: the twelve that wait most."""
    rows: dict[str, Any] = {}
    if SMALL:
        return rows
    epochs = 50
    lines: dict[str, tuple[Callable[..., Any], str]] = {
        "train": (train, "--pictures none"),
        "train, batches": (train, f"--pictures none {MINI_BATCHES}"),
        "evaluate, batches": (evaluate, f"{FOLDS} {MINI_BATCHES}"),
    }
    for name, (function, line) in lines.items():
        torch.cuda.set_sync_debug_mode("warn")
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("always")
            quick = f"--max_epochs {epochs} --accelerator gpu --devices 1 --log_dir logs"
            command(function, [*line.split(), *quick.split()])
        torch.cuda.set_sync_debug_mode("default")
        waits = Counter(
            f"{Path(warning.filename).name}:{warning.lineno}"
            for warning in caught
            if "synchroniz" in str(warning.message)
        )
        rows[name] = {place: count / epochs for place, count in waits.most_common(12)}
    return rows


def memory() -> dict[str, Any]:
    """Peak GiB of images of MNIST's shape: a test batch, and held-out rows of ten networks."""
    rows: dict[str, Any] = {}
    if SMALL:
        return rows
    network = ConvNet(784, 10).cuda().eval()
    for count in (2048, 16_384):
        with peak_memory(rows, f"ConvNet, {count:,} rows"), torch.inference_mode():
            network(torch.randn(count, 784, device="cuda"))
    stack = Stack(lambda: ConvNet(784, 10), range(10)).cuda().eval()
    for count in (100, 700):
        with peak_memory(rows, f"10 ConvNets as one, {count} rows each"), torch.no_grad():
            stack(torch.randn(10, 784, count, device="cuda"))
    return rows


@contextlib.contextmanager
def peak_memory(rows: dict[str, Any], name: str) -> Any:
    """Record the peak memory of a block, in GiB."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield
    rows[name] = round(torch.cuda.max_memory_allocated() / 2**30, 2)


def speed() -> dict[str, Any]:
    """Networks per second of a population, a fit on both devices, and a batch of images."""
    rows: dict[str, Any] = {}
    folds = make_folds(1)
    population_cost(folds, 10, accelerator=DEVICE)  # warm up
    sklearn_ms = scikit_learn_cost(folds, 1 if SMALL else 10)
    for count in (10,) if SMALL else (100, 1000, 10_000, 100_000, 1_000_000):
        start = time.perf_counter()
        Stack(lambda: MLP(4, 3, hidden=[16]), range(count))
        building = (time.perf_counter() - start) / count * 1000
        rounds = 1 if count > 10_000 else 3
        cost = median(
            population_cost(folds, count, accelerator=DEVICE, stack_bytes=2**34)
            for _ in range(rounds)
        )
        rows[f"{count:,} networks"] = {
            "networks per second": round(1000 / cost),
            "ratio to scikit-learn": round(sklearn_ms / cost),
            "share of building": round(building / cost, 2),
        }
        print(count, rows[f"{count:,} networks"], flush=True)
    if not SMALL:
        cost = population_cost(folds, 1000, 16, accelerator=DEVICE, stack_bytes=2**34)
        rows["1,000 networks, batches of 16"] = {"networks per second": round(1000 / cost)}
    for name, line in {"fit": "", "fit, batches of 16": MINI_BATCHES}.items():
        attempts = {
            device: [
                Attempt(train, f"--pictures none {line}", device).result["fit_seconds"]
                for _ in range(1 if SMALL else 3)
            ]
            for device in (DEVICE, "cpu")
        }
        rows[name] = {
            f"seconds on {device}": round(median(values), 3) for device, values in attempts.items()
        }
    rows["512 images, ms"] = image_costs()
    for name, (count, columns, hidden, batch, precision) in THROUGHPUTS.items():
        rows[name] = throughput(count, columns, hidden, batch, precision)
        print(name, rows[name], flush=True)
    return rows


class Noise(TabularData):
    """A table of random numbers."""

    def __init__(self, count: int, columns: int, batch_size: int) -> None:
        super().__init__(batch_size)
        self.shape = (count, columns)

    def load(self) -> RawTable:
        random = np.random.default_rng(0)
        features = random.standard_normal(self.shape, np.float32)
        targets = (features[:, 0] > 0).astype(np.int64)
        names = [f"column {i}" for i in range(self.shape[1])]
        return RawTable(features, targets, names, ["negative", "positive"])


def throughput(
    count: int, columns: int, hidden: list[int], batch_size: int, precision: Any
) -> dict[str, Any]:
    """Rows per second of a fit as train.py runs it, and of a bare loop over tensors.

    With the share of the largest matrix product's speed that the fit's products reach.
    """
    noise = Noise(count, columns, batch_size)
    noise.setup()
    epochs = 4
    config = {
        "network": {"class": "MLP", "hidden": hidden},
        "loss": describe("loss", LOSS),
        "optimizer": describe("optimizer", OPTIMIZER),
        "schedule": describe("schedule", SCHEDULE),
    }
    classifier = make_classifier(noise, config, "train/loss")
    trainer = quiet_trainer(epochs, DEVICE, precision)
    clock = EpochClock()
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    noise.make_loader = partial(TensorBatches, trainer=trainer)
    trainer.fit(classifier, noise)
    rows = len(noise.splits["train"][1])
    ours = rows / median(clock.seconds[1:])
    bare = rows / bare_epoch(noise, hidden, precision, epochs)
    weights = sum(parameter.numel() for parameter in classifier.parameters())
    result = {
        "rows per second": round(ours),
        "ratio to a bare loop": round(ours / bare, 2),
        "TFLOP per second": round(6 * weights * ours / 1e12, 1),
    }
    if not SMALL:
        result["of the peak"] = round(6 * weights * ours / matmul_speed(precision), 2)
    return result


class EpochClock(Callback):
    """Seconds of each epoch of a fit, the GPU's work included."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds: list[float] = []
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not SMALL:
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start)
        self.start = time.perf_counter()


def bare_epoch(noise: Noise, hidden: list[int], precision: str, epochs: int) -> float:
    """Median seconds of an epoch of a plain PyTorch loop over tensors on the device."""
    device = "cpu" if SMALL else "cuda"
    features, targets = (tensor.to(device) for tensor in noise.splits["train"])
    network = MLP(features.shape[1], 2, hidden=hidden).to(device)
    loss = LOSS()
    optimizer = OPTIMIZER(network.parameters(), total_steps=1000)
    size = noise.batch_size or len(targets)
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        order = torch.randperm(len(targets), device=device)
        for x, y in zip(features[order].split(size), targets[order].split(size), strict=True):
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
                value = loss(network(x), y)
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
        value.item()
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def matmul_speed(precision: str) -> float:
    """FLOP per second of a product of 8,192 x 8,192 matrices."""
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    a = torch.randn(8192, 8192, device="cuda", dtype=dtype)
    return 8 * 2 * 8192**3 / (milliseconds(lambda: [a @ a for _ in range(8)]) / 1000)


def image_costs() -> dict[str, float]:
    """Milliseconds to augment 512 images of 8 x 8, and of a ConvNet's step with them."""
    device = "cpu" if SMALL else "cuda"
    augment = Augmentation(
        (1, 8, 8), torch.zeros(1, 64), rotation=10, flip=True, scale=0.1, shift=0.1
    )
    images = torch.rand(512, 64, device=device)
    targets = torch.zeros(512, dtype=torch.long, device=device)
    network = ConvNet(64, 10).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)

    def step() -> None:
        nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    return {
        "augmentation": round(milliseconds(lambda: augment(images)), 2),
        "step": round(milliseconds(step), 2),
    }


def milliseconds(function: Callable[[], Any], rounds: int = 15) -> float:
    """Median time of a call, the GPU's work included."""
    function()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        if not SMALL:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


SECTIONS = (works, alone, checkpoints, processes, syncs, memory, speed)


def main() -> None:
    """Run the sections named on the command line, or all; write gpu.json."""
    quiet()
    for message in ("Total length of `list`", "You defined a `validation_step`"):
        warnings.filterwarnings("ignore", message=message)
    warnings.simplefilter("ignore", ConvergenceWarning)
    named = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    result: dict[str, Any] = {
        "command": " ".join(["python -m bench.gpu", *named]),
        "hardware": {
            "gpu": "none" if SMALL else torch.cuda.get_device_name(),
            "cpus": os.cpu_count(),
            "processor": processor(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
        },
        "n": "1 run each; speeds are medians of 3, one from 100,000 networks on",
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for section in SECTIONS:
            if named and section.__name__ not in named:
                continue
            start = time.perf_counter()
            try:
                result[section.__name__] = section()
            except Exception as error:  # the other sections still say something
                result[section.__name__] = {"error": f"{type(error).__name__}: {error}"[:500]}
            seconds = time.perf_counter() - start
            print(f"{section.__name__}: {seconds:.0f} s", flush=True)
            if section is not works:
                print(json.dumps(result[section.__name__], indent=2), flush=True)
            if not SMALL:
                RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
