"""Where train.py departs from plain Lightning for speed, and what each departure saves.

| departure | where | instead of | saves |
|---|---|---|---|
| batches as slices | training/batches.py | a DataLoader | 8 % |
| metrics once an epoch | FastClassifier | self.log and torchmetrics in every step | 39 % |
| last.ckpt every two seconds | training/checkpoints.py | a checkpoint after every epoch | 21 % |
| fused optimizer | model/recipe.py | a loop over the parameters | 4 % |
| no driver look-up | skip_driver_lookup | a search for a driver in every step | 13 % |

The shares are of a fit of small batches (bench/speed.py, bench/results/speed.json); of the whole
default command each saves 0 to 3 %. `Classifier` and `TabularData` give the same weights without
the departures, with any Trainer. For speed, train.py also attaches pictures that are drawn after
the test only then.
"""

import os
from collections.abc import Iterable
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from model.classifier import Batch, Classifier
from model.running_scores import RunningScores
from model.scores import METRICS, confusion, probabilities, recalls, score
from model.shares import gathered
from training.accumulation import batch_share
from training.hparams import VALUES


class FastClassifier(Classifier):
    """Computes the metrics once an epoch, writes them to the logger directly, and checks them.

    `outputs` holds the loss, logits and targets of each batch of a split until its next epoch, or
    of a large table their sums. The test computes every score of every split; `recalls` holds each
    class's, (num_classes,).

    Args:
        *args: Arguments of Classifier.
        watched: A curve to log besides loss and accuracy, such as val/auroc.
        is_summed: Whether the rows are too many to keep their logits: of a stream or large table.
        compiles: Whether torch.compile makes a program of the network.
        **kwargs: Arguments of Classifier.
    """

    def __init__(
        self,
        *args: Any,
        watched: str = "",
        is_summed: bool = False,
        compiles: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.compiles = compiles
        self.watched_split, _, self.metric = watched.partition("/")
        self.is_summed = is_summed
        self.outputs: dict[str, Any] = {}
        self.recalls: dict[str, Tensor] = {}
        self.is_recorded = False  # whether the metrics of this epoch's training rows are

    def configure_model(self) -> None:
        """Compile the network at the beginning of the fit; the test comes with it compiled."""
        if self.compiles:
            compile_layers([self.network])
            self.compiles = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.trainer.accumulate_grad_batches > 1:
            loss = loss * batch_share(self.trainer, batch_idx)
        return loss

    def batch_rows(self, batch: Batch) -> int:
        """Rows of a batch."""
        return len(batch[1])

    def shared_step(self, batch: Batch, name: str) -> Tensor:
        features, targets = batch[:2]
        weights = batch[2:]  # of the rows, where an estimator got some
        if len(targets):
            logits = self(features)
            loss: Tensor = self.loss(logits, targets, *weights)
        else:  # the batch has fewer rows than processes: take part in the exchange of gradients
            logits = self(features.new_zeros(2, *features.shape[1:]))[:0]
            loss = logits.sum()
        split = name.removeprefix("final/")
        recorded = loss
        if self.has_share_of(name):
            factor, rows_factor = factors_of_share(self.loss, targets)
            loss = loss * factor
            recorded = loss * rows_factor if self.is_summed else loss
        outputs = recorded.detach(), logits.detach(), targets
        if not self.is_summed:
            self.outputs.setdefault(split, []).append(outputs)
            return loss
        if split not in self.outputs:
            self.outputs[split] = self.new_sums(split)
        self.outputs[split].append(outputs)
        return loss

    def new_sums(self, split: str) -> RunningScores:
        """The scores of a split of many rows, before its first batch."""
        metrics: tuple[str, ...] = METRICS
        if not self.trainer.testing:
            is_watched = split == self.watched_split and self.metric in METRICS
            metrics = (self.metric,) if is_watched else ()
        return RunningScores(int(self.hparams["num_classes"]), metrics)

    def epoch_metrics(self, split: str, **more: Tensor) -> dict[str, float]:
        """Loss, accuracy and what is watched of the epoch, over the rows of all processes.

        With them come scalars that are on the device too: the host waits for it once an epoch.
        """
        if self.is_summed:
            return self.summed_metrics(split) | {name: more[name].item() for name in more}
        watched = {}
        if split == self.watched_split and self.metric in METRICS and self.metric != "accuracy":
            watched[self.metric] = score(self.metric, *self.predictions(split)).item()
        losses, logits, targets = zip(*self.outputs[split], strict=True)
        # In float32, also where the network computes in 16 bits; the rows are few enough for it.
        loss = torch.stack(losses).float()
        counts = [len(batch) for batch in targets]
        rows = torch.tensor(counts, dtype=torch.float32, device=self.device)
        hits = (torch.cat(logits).argmax(1) == torch.cat(targets)).sum().float()
        total = float(sum(counts))
        if self.has_share_of(split):
            loss = self.trainer.strategy.reduce(loss, reduce_op="mean")
            rows = self.trainer.strategy.reduce(rows, reduce_op="sum")
            hits = self.trainer.strategy.reduce(hits, reduce_op="sum")
            total = rows.sum().item()
        values = torch.stack([loss @ rows, hits, *more.values()]).tolist()
        metrics = {"loss": values[0] / total, "accuracy": values[1] / total} | watched
        # What decides about epochs is the same to the last digit, whatever the processes run on.
        agreed: dict[str, float] = self.trainer.strategy.broadcast(metrics)
        return agreed | dict(zip(more, values[2:], strict=True))

    def has_share_of(self, split: str) -> bool:
        """Whether this process has its share of the rows of each batch, and not all of them."""
        return self.trainer.world_size > 1 and self.trainer.training and split == "train"

    def summed_metrics(self, split: str) -> dict[str, float]:
        """The metrics of an epoch of many rows, over those of all processes."""
        scores: RunningScores = self.outputs[split]
        if self.trainer.world_size > 1:
            for name, part in scores.sums.items():
                part = part.to(self.device)  # where this process had no row
                scores.sums[name] = self.trainer.strategy.reduce(part, reduce_op="sum")
        names = [name for name in METRICS if name == "accuracy" or name in scores.metrics]
        return scores.values(["loss", *names])

    def epoch_state(self) -> dict[str, Any]:
        """What is known of a streamed epoch in its middle, for a checkpoint."""
        return {"lr": self.lr, "sums": self.outputs["train"].sums}

    def resume_epoch(self, state: dict[str, Any]) -> None:
        """Go on in the middle of an epoch."""
        self.lr = state["lr"]
        self.is_recorded = False
        self.outputs["train"] = self.new_sums("train")
        self.outputs["train"].sums = state["sums"]

    def predictions(self, split: str) -> tuple[Tensor, Tensor]:
        """The epoch's probabilities (rows, num_classes) and targets (rows,), on the CPU."""
        _, logits, targets = zip(*self.outputs[split], strict=True)
        predictions = [(torch.cat(logits).cpu(), torch.cat(targets).cpu())]
        if self.has_share_of(split):
            predictions = gathered(predictions[0])
        all_logits, all_targets = zip(*predictions, strict=True)
        return probabilities(torch.cat(all_logits)), torch.cat(all_targets)

    def record(self, metrics: dict[str, float]) -> None:
        """Write metrics to callback_metrics and the loggers, as `self.log` would."""
        self.check_finite(metrics)
        # float64: in float32, epochs that differ would tie.
        tensors = {
            name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()
        }
        self.trainer.callback_metrics.update(tensors)
        # The epoch, from 0, as Lightning logs it: curves can be drawn over it.
        with_epoch = metrics | {"epoch": self.current_epoch}
        for logger in self.loggers:
            logger.log_metrics(with_epoch, step=self.trainer.global_step)

    def check_finite(self, values: dict[str, float]) -> None:
        """Stop a diverged run before a checkpoint of this epoch is written.

        Raises:
            FloatingPointError: A value is not finite.
        """
        for name, value in values.items():
            if not isfinite(value):
                raise FloatingPointError(
                    f"{name} is {value} in epoch {self.current_epoch + 1} "
                    f"at learning rate {self.lr:g}; give a lower --optimizer.lr"
                )

    def on_train_epoch_start(self) -> None:
        self.outputs.pop("train", None)
        self.is_recorded = False
        self.lr = self.trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        # Here and not at the end of the epoch, where all callbacks come before this module: they
        # find the metrics of this epoch, as they would those of `self.log`.
        if self.trainer.is_last_batch:
            self.end_train_epoch()

    def on_train_epoch_end(self) -> None:
        if not self.is_recorded:  # --trainer.max_steps cut the epoch short
            self.end_train_epoch()

    def end_train_epoch(self) -> None:
        """Check the weights, and record the metrics of the training rows."""
        metrics = self.epoch_metrics("train", weights=self.weight_sum())
        # The last step may have made a weight infinite or NaN, which no loss shows yet.
        self.check_finite({"the sum of all weights": metrics.pop("weights")})
        self.is_recorded = True
        self.record(
            {f"train/{name}": value for name, value in metrics.items()} | {f"{VALUES}/lr": self.lr}
        )

    def weight_sum(self) -> Tensor:
        """The sum of all weights, which is finite if they are."""
        return torch.stack(
            [parameter.detach().float().sum() for parameter in self.parameters()]
        ).sum()

    def on_validation_epoch_start(self) -> None:
        self.outputs.pop("val", None)

    def on_validation_epoch_end(self) -> None:
        metrics = self.epoch_metrics("val")
        if not self.trainer.sanity_checking:
            self.record({f"val/{name}": value for name, value in metrics.items()})

    def on_test_epoch_start(self) -> None:
        self.outputs.clear()

    def on_test_epoch_end(self) -> None:
        for split in list(self.outputs):
            metrics = self.epoch_metrics(split)
            if self.is_summed:
                self.recalls[split] = recalls(self.outputs[split].sums["confusion"])
            else:
                predictions = self.predictions(split)
                scores = {name: score(name, *predictions).item() for name in METRICS}
                metrics = scores | metrics
                self.recalls[split] = recalls(confusion(*predictions))
            final = {f"final/{split}/{name}": torch.tensor(metrics[name]) for name in metrics}
            self.trainer.callback_metrics.update(final)


def factors_of_share(loss: nn.Module, targets: Tensor) -> tuple[Tensor, Tensor]:
    """What makes of a process's loss its part in that of the whole batch.

    The loss is a mean over rows, weighted by class where it has a `weight`, or a sum over them.

    Args:
        loss: The loss.
        targets: Class indices (rows,) of this process's share of the batch.

    Returns:
        A factor with which the mean over the processes is the batch's loss, and another one with
        which that, times the rows of each process, sums up to the loss times the batch's rows.
    """
    processes = torch.distributed.get_world_size()
    rows = torch.tensor(float(len(targets)), device=targets.device)
    counted = rows
    if isinstance(getattr(loss, "weight", None), Tensor):
        # nn.Module declares its attributes as tensors or modules; this one is a tensor.
        counted = loss.weight[targets].sum()  # type: ignore[index]
    totals = torch.stack([counted, rows]).float()
    torch.distributed.all_reduce(totals)
    factor = processes * counted / totals[0]
    if getattr(loss, "reduction", "mean") == "sum":
        factor = torch.full_like(rows, processes)
    return factor, totals[1] / (processes * rows.clamp(min=1))


def compile_layers(modules: Iterable[nn.Module]) -> None:
    """Let torch.compile make a program of each module, in place: its parameters keep their names.

    Dropout draws the random numbers that it draws without.
    """
    for module in modules:
        module.compile(options={"fallback_random": True})


def skip_driver_lookup() -> None:
    """Tell torch that there is no GPU, where there is none.

    The optimizers of torch's CUDA build otherwise look for a driver library in every step.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
