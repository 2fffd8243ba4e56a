"""How long a fit and the whole command take, as ratios of two things measured interleaved in one run.

    python -m bench.speed

Fit: 100 epochs of batches of 16 on Iris's 105 training rows, validation every epoch, the same network, optimizer and
schedule; for the two Lightning jobs TensorBoard and checkpoints on. Command: train.py's start to end against importing
what it cannot do without. Needs `pip install -e ".[bench]"`. Medians of n; results in bench/results/speed.json.
"""

import json
import logging
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

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

from bench.measure import processor, whole
from cli.command import quiet
from data.iris import Iris
from model import recipe
from train import train

ROOT = Path(__file__).parents[1]
N, EPOCHS, BATCH, HIDDEN = 7, 100, 16, 128
IMPORTS = "import lightning, jsonargparse, sklearn.datasets, sklearn.model_selection, torch.utils.tensorboard"

quiet()
os.environ.pop("CUDA_VISIBLE_DEVICES", None)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.simplefilter("ignore")  # the plain jobs' advice on workers
iris = Iris(batch_size=BATCH, val_fraction=0.1)
iris.setup()
STEPS = EPOCHS * -(-len(iris.indices["train"]) // BATCH)


def network() -> nn.Module:
    """What train.py builds by default."""
    return nn.Sequential(nn.Linear(4, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 3))


def optimization(module: nn.Module) -> tuple[AdamW, OneCycleLR]:
    """The default recipe's optimizer and schedule."""
    optimizer = recipe.OPTIMIZER(module.parameters())
    return optimizer, OneCycleLR(
        optimizer, max_lr=optimizer.param_groups[0]["lr"], total_steps=STEPS
    )


class Plain(LightningModule):
    """The job as Lightning's own guide writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.loss = network(), recipe.LOSS()
        self.train_accuracy, self.val_accuracy = MulticlassAccuracy(3), MulticlassAccuracy(3)

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


def ours() -> float:
    """The fit that train.py times itself, in this process."""
    os.environ["CUDA_VISIBLE_DEVICES"] = (
        ""  # as train.py has it where there is no GPU; the others run as they come
    )
    try:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            table = partial(Iris, batch_size=BATCH, val_fraction=0.1)
            result = train(table, max_epochs=EPOCHS, accelerator="cpu", log_dir=folder)
        return float(result["fit_seconds"])
    finally:
        del os.environ["CUDA_VISIBLE_DEVICES"]


def plain_lightning() -> float:
    """Lightning with a per-row DataLoader."""
    with tempfile.TemporaryDirectory() as folder:
        loaders = [
            DataLoader(TensorDataset(*iris.splits[part]), BATCH, shuffle=part == "train")
            for part in ("train", "val")
        ]
        trainer = Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            logger=TensorBoardLogger(folder),
            callbacks=[ModelCheckpoint(monitor="val/loss", save_last=True)],
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        return timed(lambda: trainer.fit(Plain(), *loaders))


def plain_pytorch() -> float:
    """A loop over a per-row DataLoader; no logs, no checkpoints."""
    module, loss = network(), recipe.LOSS()
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
    """Skorch's NeuralNetClassifier with its defaults but the recipe's loss, optimizer and batches."""
    features, targets = (
        torch.cat([iris.splits["train"][i], iris.splits["val"][i]]).numpy() for i in (0, 1)
    )
    options = {"optimizer__weight_decay": 0.3, "criterion__label_smoothing": 0.1, "verbose": 0}
    classifier = skorch.NeuralNetClassifier(
        network(),
        criterion=nn.CrossEntropyLoss,
        optimizer=AdamW,
        lr=0.05,
        max_epochs=EPOCHS,
        batch_size=BATCH,
        **options,
    )
    return timed(lambda: classifier.fit(features, targets))


def scikit_learn() -> float:
    """MLPClassifier, Adam, the same width, batches and epochs."""
    classifier = MLPClassifier(
        (HIDDEN,), batch_size=BATCH, max_iter=EPOCHS, n_iter_no_change=EPOCHS, tol=0
    )
    features, targets = (tensor.numpy() for tensor in iris.splits["train"])
    return timed(lambda: classifier.fit(features, targets))


def timed(job: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def main() -> None:
    """Measure, write bench/results/speed.json, print the two tables."""
    script = str(ROOT / "train.py")
    fits = {"plain Lightning": plain_lightning, "train.py": ours, "skorch": with_skorch}
    fits |= {"plain PyTorch": plain_pytorch, "scikit-learn": scikit_learn}
    commands: dict[str, Callable[[], tuple[float, float]]] = {
        "import": lambda: whole("-c", IMPORTS),
        "python train.py": lambda: whole(script, "--accelerator", "cpu"),
        "python train.py --help": lambda: whole(script, "--help"),
        "python train.py --netwrk MLP": lambda: whole(script, "--netwrk", "MLP", code=2),
    }
    for fit in fits.values():
        fit()  # once before the clock: what is imported and compiled at first use
    fit_seconds: dict[str, list[float]] = {name: [] for name in fits}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(N):
        for name, fit in fits.items():
            fit_seconds[name].append(fit())
    for _ in range(N):
        for name, command in commands.items():
            runs[name].append(command())
    fit_medians = {name: median(seconds) for name, seconds in fit_seconds.items()}
    seconds = {name: median(run[0] for run in each) for name, each in runs.items()}
    memory = {name: median(run[1] for run in each) for name, each in runs.items()}
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
        "fit": {
            name: {"seconds": value, "of plain Lightning": value / fit_medians["plain Lightning"]}
            for name, value in fit_medians.items()
        },
        "whole command": {
            name: {
                "seconds": seconds[name],
                "of the import": seconds[name] / seconds["import"],
                "peak MiB": memory[name],
                "memory of the import": memory[name] / memory["import"],
            }
            for name in commands
        },
        "import": IMPORTS,
    }
    result = json.loads(
        json.dumps(result), parse_float=lambda digits: float(f"{float(digits):.4g}")
    )
    (ROOT / "bench" / "results" / "speed.json").write_text(json.dumps(result, indent=2) + "\n")
    for name, row in result["fit"].items():
        print(
            f"{name:32}{row['seconds']:8.2f} s{row['of plain Lightning']:8.2f} of plain Lightning"
        )
    for name, row in result["whole command"].items():
        print(
            f"{name:32}{row['seconds']:8.2f} s{row['of the import']:8.2f} of the import"
            f"{row['peak MiB']:8.0f} MiB{row['memory of the import']:8.2f}"
        )


if __name__ == "__main__":
    main()
