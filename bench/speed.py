"""How long a fit and the whole command take, as ratios of things measured in turns in one run.

    python -m bench.speed           # 5 minutes on 2 cores
    python -m bench.speed --small   # seconds, writes nothing: does it run?

Fit: 100 epochs of batches of 16 on Iris's 105 training rows, validation every epoch, with the same
network, optimizer and schedule; the two Lightning jobs also write TensorBoard and checkpoints.
Deviations: the same fit by train.py, and its default fit, each with one deviation of
training/fast.py undone. Command: train.py from start to end, against importing the libraries that
it needs. Needs `pip install -e ".[bench]"`. Medians of n; results in bench/results/speed.json.
"""

import json
import logging
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from functools import partial
from io import StringIO
from statistics import median
from typing import Any
from unittest.mock import patch

import lightning
import sklearn
import skorch
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

import train as train_module
from bench.measure import ROOT, processor, whole
from cli.command import quiet
from data.iris import Iris
from model import recipe
from model.classifier import Batch, Classifier
from training import batches, fast
from training.checkpoints import LastCheckpoint
from training.fast import FastClassifier, skip_driver_lookup

SMALL = "--small" in sys.argv
N = 1 if SMALL else 7
EPOCHS = 2 if SMALL else 100
PICTURES = "none" if SMALL else "final"
BATCH = 16
HIDDEN = 128
IMPORTS = (
    "import lightning, jsonargparse, sklearn.datasets, sklearn.model_selection, "
    "torch.utils.tensorboard"
)

quiet()
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.simplefilter("ignore")  # advice on DataLoader workers, from the plain jobs
iris = Iris(batch_size=BATCH, val_fraction=0.1)
iris.setup()
STEPS = EPOCHS * -(-len(iris.indices["train"]) // BATCH)


def network() -> nn.Module:
    """What train.py builds by default."""
    return nn.Sequential(nn.Linear(4, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 3))


def optimization(module: nn.Module) -> tuple[AdamW, OneCycleLR]:
    """The default recipe's optimizer and schedule."""
    optimizer = recipe.OPTIMIZER(module.parameters(), total_steps=STEPS)
    max_lr = optimizer.param_groups[0]["lr"]
    return optimizer, OneCycleLR(optimizer, max_lr=max_lr, total_steps=STEPS)


class Plain(LightningModule):
    """The job as Lightning's own guide writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.loss = recipe.LOSS()
        self.train_accuracy = MulticlassAccuracy(3)
        self.val_accuracy = MulticlassAccuracy(3)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        logits = self.network(batch[0])
        loss: Tensor = self.loss(logits, batch[1])
        self.train_accuracy(logits, batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        logits = self.network(batch[0])
        self.val_accuracy(logits, batch[1])
        self.log("val/loss", self.loss(logits, batch[1]))
        self.log("val/accuracy", self.val_accuracy)

    def configure_optimizers(self) -> Any:
        optimizer, schedule = optimization(self)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


@contextmanager
def driver_lookup(is_skipped: bool) -> Iterator[None]:
    """Whether torch's optimizers are told that there is no GPU, as train.py tells them."""
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if is_skipped:
        skip_driver_lookup()
    yield
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)


def small_batches(**arguments: Any) -> float:
    """Seconds of train.py's fit of batches of 16."""
    return fit_of_train(data=partial(Iris, batch_size=BATCH, val_fraction=0.1), **arguments)


def fit_of_train(**arguments: Any) -> float:
    """Seconds of the fit, as train.py measures them itself."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        result = train_module.train(
            max_epochs=EPOCHS, accelerator="cpu", log_dir=folder, pictures=PICTURES, **arguments
        )
    return result.fit_seconds


def dataloader(
    dataset: TensorDataset, trainer: Trainer, rows: Any, most_rows: int, **arguments: Any
) -> DataLoader[Any]:
    """What TensorBatches takes the place of."""
    return DataLoader(dataset, **arguments)


def plain_lightning() -> float:
    """Lightning with a per-row DataLoader."""
    with tempfile.TemporaryDirectory() as folder:
        train_loader = DataLoader(TensorDataset(*iris.splits["train"]), BATCH, shuffle=True)
        val_loader = DataLoader(TensorDataset(*iris.splits["val"]), BATCH)
        trainer = Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            logger=TensorBoardLogger(folder),
            callbacks=[ModelCheckpoint(monitor="val/loss", save_last=True)],
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        return timed(lambda: trainer.fit(Plain(), train_loader, val_loader))


def plain_pytorch() -> float:
    """A loop over a per-row DataLoader; no logs, no checkpoints."""
    module = network()
    loss = recipe.LOSS()
    optimizer, schedule = optimization(module)
    loader = DataLoader(TensorDataset(*iris.splits["train"]), BATCH, shuffle=True)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        for features, targets in loader:
            optimizer.zero_grad()
            loss(module(features), targets).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            loss(module(iris.splits["val"][0]), iris.splits["val"][1])
    return time.perf_counter() - start


def with_skorch() -> float:
    """Skorch's NeuralNetClassifier with its defaults, and the recipe's loss and optimizer."""
    both = (iris.splits["train"], iris.splits["val"])
    features = torch.cat([features for features, _ in both]).numpy()
    targets = torch.cat([targets for _, targets in both]).numpy()
    classifier = skorch.NeuralNetClassifier(
        network(),
        criterion=nn.CrossEntropyLoss,
        criterion__label_smoothing=0.1,
        optimizer=AdamW,
        optimizer__weight_decay=0.3,
        lr=0.05,
        max_epochs=EPOCHS,
        batch_size=BATCH,
        verbose=0,
    )
    return timed(lambda: classifier.fit(features, targets))


def scikit_learn() -> float:
    """MLPClassifier: Adam, the same width, batches and epochs."""
    classifier = MLPClassifier(
        (HIDDEN,), batch_size=BATCH, max_iter=EPOCHS, n_iter_no_change=EPOCHS, tol=0
    )
    features, targets = iris.splits["train"]
    return timed(lambda: classifier.fit(features.numpy(), targets.numpy()))


def timed(job: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


class LogsEveryStep(FastClassifier):
    """Logs training by self.log and torchmetrics, as Classifier does."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return Classifier.shared_step(self, batch, "train")

    def end_train_epoch(self) -> None:
        pass


# Each undoes one deviation of training/fast.py: a context, and arguments of train().
DEVIATIONS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], dict[str, Any]]] = {
    "none": (nullcontext, {}),
    "batches as slices": (partial(patch.object, batches, "TensorBatches", dataloader), {}),
    "metrics once an epoch": (
        partial(patch.object, fast, "FastClassifier", LogsEveryStep),
        {},
    ),
    "last.ckpt every two seconds": (partial(patch.object, LastCheckpoint, "seconds", 0.0), {}),
    "fused optimizer": (nullcontext, {"optimizer": partial(AdamW, lr=0.05, weight_decay=0.3)}),
    "no driver look-up": (
        partial(patch.object, train_module, "skip_driver_lookup", lambda: None),
        {},
    ),
}


def undone(name: str, fit: Callable[..., float]) -> float:
    """Seconds of a fit without one deviation."""
    context, arguments = DEVIATIONS[name]
    with driver_lookup(is_skipped=False), context():
        return fit(**arguments)


def interleaved(jobs: dict[str, Callable[[], Any]], rounds: int = N) -> dict[str, list[Any]]:
    """What each job returns, over so many rounds in which the jobs take turns."""
    values: dict[str, list[Any]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            values[name].append(job())
    return values


def measure_fits() -> dict[str, dict[str, float]]:
    """Seconds of each library's fit, and their ratio to plain Lightning's."""
    fits: dict[str, Callable[[], float]] = {
        "plain Lightning": plain_lightning,
        "train.py": partial(undone, "none", small_batches),
        "skorch": with_skorch,
        "plain PyTorch": plain_pytorch,
        "scikit-learn": scikit_learn,
    }
    interleaved(fits, rounds=1)  # what is imported and compiled at first use
    seconds = {name: median(runs) for name, runs in interleaved(fits).items()}
    return {
        name: {"seconds": value, "of plain Lightning": value / seconds["plain Lightning"]}
        for name, value in seconds.items()
    }


def measure_deviations(command_seconds: float) -> dict[str, dict[str, float]]:
    """What each deviation saves, as a share of the fit of small batches and of the command."""
    saved: dict[str, dict[str, float]] = {}
    small = interleaved({name: partial(undone, name, small_batches) for name in DEVIATIONS})
    default = interleaved({name: partial(undone, name, fit_of_train) for name in DEVIATIONS})
    for name in DEVIATIONS:
        if name == "none":
            continue
        small_gain = [gone - kept for gone, kept in zip(small[name], small["none"], strict=True)]
        gain = [gone - kept for gone, kept in zip(default[name], default["none"], strict=True)]
        saved[name] = {
            "of the fit of small batches": median(small_gain) / median(small[name]),
            "of the default command": median(gain) / (command_seconds + median(gain)),
        }
    return saved


def measure_commands() -> dict[str, dict[str, float]]:
    """Seconds and peak memory of whole processes, and their ratio to importing the libraries."""
    script = str(ROOT / "train.py")
    commands: dict[str, Callable[[], tuple[float, float]]] = {
        "import": lambda: whole("-c", IMPORTS),
        "python train.py": lambda: whole(script, "--accelerator", "cpu"),
        "python train.py --help": lambda: whole(script, "--help"),
        "python train.py --netwrk MLP": lambda: whole(script, "--netwrk", "MLP", code=2),
    }
    runs = interleaved(commands)
    seconds = {name: median(run[0] for run in runs[name]) for name in commands}
    memory = {name: median(run[1] for run in runs[name]) for name in commands}
    return {
        name: {
            "seconds": seconds[name],
            "of the import": seconds[name] / seconds["import"],
            "peak MiB": memory[name],
            "memory of the import": memory[name] / memory["import"],
        }
        for name in commands
    }


def main() -> None:
    """Measure, write bench/results/speed.json, print."""
    fits = measure_fits()
    commands = measure_commands()
    result = {
        "command": "python -m bench.speed",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "skorch": skorch.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "n": N,
        "fit": fits,
        "whole command": commands,
        "import": IMPORTS,
        "saved": measure_deviations(commands["python train.py"]["seconds"]),
    }
    text = json.dumps(result)
    rounded = json.loads(text, parse_float=lambda digits: float(f"{float(digits):.4g}"))
    text = json.dumps(rounded, indent=2) + "\n"
    print(text)
    if not SMALL:
        (ROOT / "bench" / "results" / "speed.json").write_text(text)


if __name__ == "__main__":
    main()
