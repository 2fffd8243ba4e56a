"""Classifier: one network with its loss, optimizer, schedule and metrics, as a LightningModule."""

import warnings
from collections.abc import Iterable
from copy import deepcopy
from functools import partial
from inspect import signature
from math import isfinite

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from cli.component import ComponentConfig, Factory, build, describe
from model import recipe

Batch = tuple[Tensor, Tensor]


class Classifier(LightningModule):
    """A network that learns classes, for Lightning's Trainer.

    Network, loss, optimizer and schedule are each a class, a `functools.partial` of one, or the dictionary that
    describes it (model/spec.py). The checkpoint holds the dictionaries, so `load_from_checkpoint` needs nothing else.

    Shapes: features (rows, num_features) standardized -> logits (rows, num_classes); targets (rows,) class numbers.

    >>> Classifier(4, 3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])

    Args:
        num_features: Number of features.
        num_classes: Number of classes.
        network: Called with num_features and num_classes; returns the module from features to logits.
        loss: Called without arguments; returns the module from logits and targets to a scalar.
        optimizer: Called with the parameters.
        schedule: Called with the optimizer; steps after every batch. null keeps the learning rate.

    Raises:
        ValueError: A learning rate that is not finite and above 0, or what the four themselves refuse.
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
        nouns = {"network": network, "loss": loss, "optimizer": optimizer, "schedule": schedule}
        specs = {noun: describe(noun, factory) for noun, factory in nouns.items()}
        self.save_hyperparameters(
            {"num_features": num_features, "num_classes": num_classes, **specs}, logger=False
        )
        try:
            self.make_network = partial(build("network", network), num_features, num_classes)
            self.network = self.make_network()
        except TypeError as error:
            raise ValueError(
                f"the network is called with the numbers of features and of classes: {error}"
            ) from error
        make_loss = partial(build("loss", loss))
        if (
            "weight" in make_loss.keywords
        ):  # of each class: a list in the checkpoint, a tensor in the loss
            make_loss = partial(make_loss, weight=torch.tensor(make_loss.keywords["weight"]))
        try:
            self.loss = make_loss()
        except TypeError as error:
            raise ValueError(
                f"the loss takes no class weights ({error}); give CrossEntropyLoss"
            ) from error
        self.try_loss(num_classes)
        self.make_optimizer = build("optimizer", optimizer)
        self.make_schedule = build("schedule", schedule) if schedule else None
        self.optimize(
            self.network.parameters(), 1000
        )  # for its errors: better now than after the run's folder was made
        self.try_network(num_features, num_classes)
        self.metrics = MetricCollection(
            {
                "loss": MeanMetric(nan_strategy="disable"),
                "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
            }
        )
        self.outputs: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self.example = torch.zeros(1, num_features)  # TensorBoard draws the graph with it

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network(features)
        return logits

    def try_network(self, num_features: int, num_classes: int) -> None:
        """Refuse a network that the table's rows do not fit, before anything is trained."""
        name, rows = type(self.network).__name__, torch.zeros(2, num_features)
        try:
            with torch.no_grad():
                logits = deepcopy(self.network).eval()(rows)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"network {name} does not take rows of shape {tuple(rows.shape)}: {reason}"
            ) from error
        expected, made = (2, num_classes), tuple(getattr(logits, "shape", ()))
        if made != expected:
            raise ValueError(
                f"network {name} makes {made} of rows of shape {tuple(rows.shape)}; expected logits {expected}"
            )

    def try_loss(self, num_classes: int) -> None:
        """Refuse a loss that is no scalar, or wants other targets than class numbers, before anything is trained."""
        logits, targets = (
            torch.zeros(num_classes + 1, num_classes),
            torch.zeros(num_classes + 1, dtype=torch.long),
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "error"
                )  # torch only warns of targets that it stretches to the logits' shape
                value = self.loss(logits, targets)
        except (RuntimeError, ValueError, TypeError, Warning) as error:
            reason = str(error).split(". ")[0]
            raise ValueError(
                f"the loss must take (rows, classes) logits and (rows,) class numbers: {reason}"
            ) from error
        if value.ndim:
            raise ValueError(
                f"the loss is of shape {tuple(value.shape)}; give one that is a scalar (reduction mean)"
            )

    def optimize(
        self, parameters: Iterable[nn.Parameter], total_steps: int
    ) -> tuple[Optimizer, LRScheduler | None]:
        """A new optimizer of the parameters, and its schedule over a run of `total_steps` steps."""
        lr = getattr(self.make_optimizer, "keywords", {}).get("lr", 1.0)
        if not 0 < lr < torch.finfo(torch.float32).max:
            raise ValueError(f"the optimizer's lr is {lr}; give a finite number above 0")
        optimizer = self.make_optimizer(parameters)
        if self.make_schedule is None:
            return optimizer, None
        # What a schedule asks for that only the run knows.
        run = {
            "total_steps": total_steps,
            "T_max": total_steps,
            "max_lr": optimizer.param_groups[0]["lr"],
        }
        cls = getattr(self.make_schedule, "func", self.make_schedule)
        known = {name: value for name, value in run.items() if name in signature(cls).parameters}
        try:
            return optimizer, self.make_schedule(optimizer, **known)
        except ZeroDivisionError as error:  # torch's OneCycleLR where a phase has one step
            raise ValueError(
                f"the schedule has no place in {total_steps} steps; give more epochs"
            ) from error

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer, schedule = self.optimize(
            self.network.parameters(), int(self.trainer.estimated_stepping_batches)
        )
        if schedule is None:
            return optimizer
        if isinstance(schedule, ReduceLROnPlateau):
            monitor = "val/loss" if self.trainer.enable_validation else "train/loss"
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": schedule, "monitor": monitor},
            }
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def step(self, part: str, batch: Batch) -> Tensor:
        """The batch's loss; what the metrics need is kept until the epoch ends, where one update counts it all."""
        features, targets = batch
        logits = self(features)
        loss: Tensor = self.loss(logits, targets)
        self.outputs.setdefault(part, []).append((loss.detach(), logits.detach(), targets))
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.step("train", batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.step("val", batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        loaders = self.trainer.test_dataloaders
        self.step(list(loaders)[dataloader_idx] if isinstance(loaders, dict) else "test", batch)

    def summarize(self, part: str) -> dict[str, float]:
        """Loss and accuracy over what `step` kept of a part."""
        losses, logits, targets = zip(*self.outputs.pop(part), strict=True)
        rows = torch.tensor([len(batch) for batch in targets], device=self.device)
        # Each row with its batch's loss: torchmetrics 1.9's "disable", which lets NaN through, forgets a `weight`.
        value = torch.stack(losses).repeat_interleave(rows)
        self.metrics.update(value=value, preds=torch.cat(logits), target=torch.cat(targets))
        values = {f"{part}/{name}": value.item() for name, value in self.metrics.compute().items()}
        self.metrics.reset()
        return values

    def check(self, values: dict[str, float]) -> None:
        """Stop a run that diverged, before a checkpoint of this epoch is written.

        Raises:
            FloatingPointError: A value that is not finite.
        """
        for name, value in values.items():
            if not isfinite(value):
                raise FloatingPointError(
                    f"{name} is {value} in epoch {self.current_epoch + 1} at learning rate {self.lr:g}; "
                    "give a lower --optimizer.lr"
                )

    def record(self, values: dict[str, float]) -> None:
        """Write an epoch's values to where `self.log` would: it takes 2 ms for each, half the time of a small epoch."""
        self.check(values)
        self.trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in values.items()}
        )
        for logger in self.loggers:
            logger.log_metrics(values, step=self.trainer.global_step)

    def on_train_epoch_start(self) -> None:
        self.lr = self.trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self) -> None:
        # The epoch's last step may have ruined weights that no loss has seen yet.
        self.check(
            {"the sum of all weights": sum(p.detach().sum().item() for p in self.parameters())}
        )
        self.record(self.summarize("train") | {"values/lr": self.lr})

    def on_validation_epoch_end(self) -> None:
        values = self.summarize("val")
        if not self.trainer.sanity_checking:
            self.record(values)

    def on_test_epoch_end(self) -> None:
        # A group of its own in TensorBoard: the kept epoch's figures, not the next point of a curve.
        for part in list(self.outputs):
            values = {f"final/{name}": value for name, value in self.summarize(part).items()}
            self.log_dict(
                values, logger=False, sync_dist=True
            )  # train.py logs them, beside the settings
