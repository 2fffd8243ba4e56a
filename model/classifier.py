"""Classifier: a network with its loss, optimizer, schedule and metrics, as a LightningModule."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics.functional.classification import multiclass_accuracy

from cli.component import ComponentConfig, Factory, build, describe
from model import checks, recipe
from model.schedule import accepted_by, run_arguments

Batch = tuple[Tensor, Tensor]


class Classifier(LightningModule):
    """A network that learns classes, for Lightning's Trainer.

    Network, loss, optimizer and schedule are components: each is a class, a `functools.partial` of
    one, or the dictionary that describes it (cli/component.py). The checkpoint holds the
    dictionaries, so `load_from_checkpoint` needs nothing else. train.py uses the subclass
    FastClassifier (training/fast.py), which computes the same metrics faster.

    Shapes: standardized features (rows, num_features) -> logits (rows, num_classes); the targets
    (rows,) are class indices.

    >>> Classifier(4, 3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])

    Args:
        num_features: Number of features.
        num_classes: Number of classes.
        network: Called with num_features and num_classes; returns a module from features to logits.
        loss: Called without arguments; returns a module from logits and targets to a scalar.
        optimizer: Called with the parameters.
        schedule: Called with the optimizer; stepped after every batch (ReduceLROnPlateau: every
            epoch). None keeps the learning rate.

    Raises:
        ValueError: A component that cannot be built or does not fit the table.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        network: Factory | ComponentConfig = recipe.NETWORK,
        loss: Factory | ComponentConfig = recipe.LOSS,
        optimizer: Factory | ComponentConfig = recipe.OPTIMIZER,
        schedule: Factory | ComponentConfig | None = recipe.SCHEDULE,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(
            {
                "num_features": num_features,
                "num_classes": num_classes,
                "network": describe("network", network),
                "loss": describe("loss", loss),
                "optimizer": describe("optimizer", optimizer),
                "schedule": describe("schedule", schedule),
            },
            logger=False,
        )
        self.example = torch.zeros(1, num_features)
        self.make_network = partial(build("network", network), num_features, num_classes)
        self.make_optimizer = build("optimizer", optimizer)
        self.make_schedule = None if schedule is None else build("schedule", schedule)
        self.network = checks.built_network(self.make_network)
        self.loss = checks.built_loss(build("loss", loss))
        # Try each component now, so that a bad one fails before the run's folder exists. This
        # optimizer is thrown away; 1000 steps are enough for any schedule.
        checks.check_loss(self.loss, num_classes)
        self.optimize(self.network.parameters(), total_steps=1000)
        checks.check_network(self.network, num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network(features)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.shared_step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.shared_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        # All splits are tested with the kept weights; the prefix keeps this apart from the curves.
        self.shared_step(batch, f"final/{self.test_split(dataloader_idx)}")

    def shared_step(self, batch: Batch, name: str) -> Tensor:
        """Return a batch's loss; log loss and accuracy, averaged over the rows of the epoch."""
        features, targets = batch
        logits = self(features)
        loss: Tensor = self.loss(logits, targets)
        accuracy = multiclass_accuracy(logits, targets, logits.shape[1], average="micro")
        self.log_dict(
            {f"{name}/loss": loss, f"{name}/accuracy": accuracy},
            on_step=False,
            on_epoch=True,
            batch_size=len(targets),
            add_dataloader_idx=False,
            sync_dist=True,
        )
        return loss

    def test_split(self, dataloader_idx: int) -> str:
        """The name of what a test dataloader reads: its key, or "test", "test_1", ... in a list."""
        dataloaders = self.trainer.test_dataloaders
        if isinstance(dataloaders, dict):
            return str(list(dataloaders)[dataloader_idx])
        return f"test_{dataloader_idx}" if dataloader_idx else "test"

    def configure_optimizers(self) -> OptimizerLRScheduler:
        total_steps = int(self.trainer.estimated_stepping_batches)
        options = {}
        if self.trainer.gradient_clip_val and "mixed" in self.trainer.precision:
            options["fused"] = False  # Lightning refuses to clip for a fused optimizer
        optimizer, schedule = self.optimize(self.network.parameters(), total_steps, **options)
        if schedule is None:
            return optimizer
        if isinstance(schedule, ReduceLROnPlateau):
            monitor = "val/loss" if self.trainer.enable_validation else "train/loss"
            epochs = self.trainer.check_val_every_n_epoch or 1
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": schedule, "monitor": monitor, "frequency": epochs},
            }
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def optimize(
        self, parameters: Iterable[nn.Parameter], total_steps: int, **options: Any
    ) -> tuple[Optimizer, LRScheduler | None]:
        """A new optimizer of the parameters, and its schedule over `total_steps` steps.

        Options are arguments of the optimizer that it gets if its class takes them.
        """
        accepted = accepted_by(self.make_optimizer, options | {"total_steps": total_steps})
        optimizer = checks.built_optimizer(self.make_optimizer, parameters, **accepted)
        if self.make_schedule is None:
            return optimizer, None
        arguments = run_arguments(self.make_schedule, self.make_optimizer, optimizer, total_steps)
        schedule = checks.built_schedule(self.make_schedule, optimizer, arguments, total_steps)
        return optimizer, schedule
