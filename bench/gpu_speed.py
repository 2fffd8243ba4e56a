"""How a GPU is used; `syncs`, `memory` and `speed`, sections of bench/gpu.py."""

import contextlib
import io
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from bench.gpu_commands import DEVICE, FOLDS, MINI_BATCHES, SMALL, Attempt
from bench.large_tables import (
    Noise,
    bare_epochs,
    make_network,
    plain_lightning,
    project_epochs,
)
from bench.population import make_folds, population_cost, scikit_learn_cost
from cli.command import command
from cli.component import ComponentConfig
from data.augmentation import Augmentation
from evaluate import evaluate
from model.convnet import ConvNet
from model.networks import MLP
from model.stack import Stack
from train import train

TORCH_DEVICE = "cpu" if SMALL else "cuda"


def mlp(*hidden: int) -> ComponentConfig:
    return {"class": "MLP", "hidden": list(hidden)}


def residual(width: int) -> ComponentConfig:
    return {"class": "ResidualMLP", "width": width, "blocks": 2, "expansion": 1}


# Rows, network, rows of a batch, precision.
THROUGHPUTS: dict[str, tuple[int, ComponentConfig, int, str]] = {
    "1,000,000 rows, 256-256": (1_000_000, mlp(256, 256), 4096, "32-true"),
    "1,000,000 rows, 256-256, bf16-mixed": (1_000_000, mlp(256, 256), 4096, "bf16-mixed"),
    "10,000,000 rows, 256-256": (10_000_000, mlp(256, 256), 4096, "32-true"),
    "width 2,048, bf16-mixed": (262_144, mlp(*[2048] * 4), 8192, "bf16-mixed"),
    "width 8,192, bf16-mixed": (131_072, mlp(*[8192] * 4), 16_384, "bf16-mixed"),
    **{
        f"residual, width {width:,}, bf16-mixed": (rows, residual(width), 16_384, "bf16-mixed")
        for width, rows in {1024: 524_288, 4096: 262_144, 8192: 131_072, 16_384: 65_536}.items()
    },
}
if SMALL:
    THROUGHPUTS = {
        "2,000 rows": (2000, mlp(8), 256, "bf16-mixed"),
        "residual, width 8": (2000, residual(8), 256, "bf16-mixed"),
    }


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
    for name, arguments in THROUGHPUTS.items():
        rows[name] = throughput(*arguments)
        print(name, rows[name], flush=True)
    return rows


def throughput(
    count: int, network: ComponentConfig, batch_size: int, precision: Any
) -> dict[str, Any]:
    """Rows per second of a fit as train.py runs it, of a bare loop over tensors, and of Lightning.

    With the share of the largest matrix product's speed that the fit's products reach.
    """
    noise = Noise(count, 5 if SMALL else 50, batch_size)
    noise.setup()
    epochs = 4
    rows = len(noise.splits["train"][1])
    ours = rows / median(project_epochs(noise, network, epochs, DEVICE, precision)[1:])
    bare = rows / median(bare_epochs(noise, network, epochs, TORCH_DEVICE, precision)[1:])
    plain = plain_lightning(noise, network, 5, DEVICE, precision)
    weights = sum(parameter.numel() for parameter in make_network(noise, network).parameters())
    result = {
        "rows per second": round(ours),
        "ratio to a bare loop": round(ours / bare, 2),
        "ratio to plain Lightning": round(ours / plain, 1),
        "TFLOP per second": round(6 * weights * ours / 1e12, 1),
    }
    if not SMALL:
        result["of the peak"] = round(6 * weights * ours / matmul_speed(precision), 2)
    return result


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
