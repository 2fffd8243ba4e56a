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
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import polars as pl
import torch
from lightning.pytorch import seed_everything
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from bench.gpu_commands import DEVICE, QUICK, SMALL, Attempt, works
from bench.gpu_speed import memory, speed, syncs
from bench.measure import ROOT, processor, quiet_trainer
from bench.population import CANDIDATE, make_folds
from cli.command import quiet
from data.sampling import row_order
from evaluate import evaluate
from model.classifier import Classifier
from model.member import FoldData, Member
from model.population import Population
from train import train

RESULT = Path(__file__).with_name("results") / "gpu.json"


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
                [FoldData(splits) for splits in folds],
                batch_size=batch_size,
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
    rows: dict[str, Any] = {}
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
from training.batches import TensorBatches
from training.classifiers import make_classifier
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
