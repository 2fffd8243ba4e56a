"""What TensorBoard shows beyond curves: each picture is a callback of its own.

    Trainer(logger=TensorBoardLogger("logs"), callbacks=[ConfusionMatrix(), Regions(epochs=10)])

A picture is drawn after the test, with the weights that were tested; with `epochs` also about so many times during the
fit, and then of validation rows, or of training rows where there are none: test rows are for the one test. Looking at
a run does not change it, and what goes wrong in a picture is a warning.

What is taken of the run: its TensorBoardLogger; of the LightningModule its logits, `loss`, and, for the confusion
matrix as it changes, `outputs` (model/classifier.py); of the datamodule `parts`, each part's standardized features
(rows, num_features) and targets (rows,), `feature_names`, `class_names`, and the encoder's `mean` and `scale`.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.utils import make_grid

from cli.component import flatten
from cli.errors import unknown
from evaluation.estimates import BINS, calibration, calibration_error
from training.figures import (
    HEIGHT,
    OKABE_ITO,
    WIDTH,
    drawn,
    fit,
    heat_map,
    look,
    palette,
    pixels,
    plain,
    sheet,
)

if TYPE_CHECKING:  # matplotlib is imported when something is drawn
    from matplotlib.figure import Figure

FEW = 10  # up to so many classes have a legend, and numbers in the confusion matrix
MOST_ROWS, MOST_DOTS, MOST_NUMBERS, MOST_TAGS, MOST_KERNELS, MOST_MATRICES = (
    1000,
    300,
    100_000,
    50,
    16,
    6,
)
GRID, FINER = (
    (48, 60),
    4,
)  # logits are computed at the points of a grid, and interpolated between them
PARTS = {"train": "training", "val": "validation", "test": "test"}  # in words
MARKERS = "osD^vP*X"


class View:
    """What a picture sees of a run: table, network, and TensorBoard's writer.

    Args:
        trainer: The run.
        module: Its LightningModule.
        final: Whether the run was tested, so that test rows may be looked at.

    Raises:
        ValueError: A run without a TensorBoardLogger, or no process of which has all weights.
    """

    def __init__(self, trainer: Trainer, module: LightningModule, final: bool) -> None:
        self.trainer, self.module, self.final, self.step = (
            trainer,
            module,
            final,
            trainer.global_step,
        )
        self.network: nn.Module = getattr(module, "network", module)
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not loggers:
            raise ValueError("the run has no TensorBoardLogger; give the Trainer one")
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            raise ValueError(
                f"under {type(trainer.strategy).__name__} no process has all weights; use ddp"
            )
        self.writer: Any = loggers[0].experiment
        self.table: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.class_names = [plain(name) for name in self.table.class_names]
        parts: dict[str, tuple[Tensor, Tensor]] = self.table.splits
        self.splits = {part: rows for part, rows in parts.items() if final or part != "test"}
        self.part = next(part for part in ("test", "val", "train") if part in self.splits)
        self.title = f"{len(self.splits[self.part][1]):,} {PARTS[self.part]} rows"

    def on_device(self, features: Tensor) -> Tensor:
        """Rows as the network takes them."""
        rows: Tensor = self.trainer.precision_plugin.convert_input(features)
        return rows.to(self.module.device)

    def logits(self, features: Tensor) -> Tensor:
        """(rows, num_features) -> (rows, num_classes) on the CPU, some rows at a time."""
        with torch.inference_mode(), self.trainer.precision_plugin.forward_context():
            return torch.cat(
                [
                    self.module(self.on_device(rows)).float().cpu()
                    for rows in features.split(MOST_ROWS)
                ]
            )

    def probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the part that is looked at (rows, num_classes), and its targets (rows,)."""
        features, targets = self.splits[self.part]
        return self.logits(features).double().softmax(1).numpy(), targets.cpu().numpy()

    def sample(self, most: int) -> tuple[Tensor, Tensor, list[str]]:
        """About so many rows of all parts that may be looked at: features, targets, and the part of each."""
        total = sum(len(targets) for _, targets in self.splits.values())
        found = []
        for part, (features, targets) in self.splits.items():
            some = evenly(len(targets), math.ceil(most * len(targets) / total))
            found.append((features[some].cpu(), targets[some].cpu(), [PARTS[part]] * len(some)))
        rows, numbers, words = zip(*found, strict=True)
        return torch.cat(rows), torch.cat(numbers), [word for own in words for word in own]

    def modules(self, kind: type[nn.Module], features: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """What goes into and comes out of each innermost module of a kind, in the order in which they run."""
        kept: dict[str, tuple[Tensor, Tensor]] = {}

        def keep(name: str, _: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            kept.pop(name, None)
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                kept[name] = inputs[0].float().cpu(), output.float().cpu()

        named = [(name or "network", module) for name, module in self.network.named_modules()]
        leaves = [
            (name, module)
            for name, module in named
            if isinstance(module, kind) and not [*module.children()]
        ]
        hooks = [module.register_forward_hook(partial(keep, name)) for name, module in leaves]
        try:
            with torch.inference_mode(), self.trainer.precision_plugin.forward_context():
                self.module(self.on_device(features))  # all rows at once: a hook sees one call
        finally:
            for hook in hooks:
                hook.remove()
        return kept

    def show(self, tag: str, figure: "Figure", step: int | None = None) -> None:
        """Draw a figure into the Images tab."""
        self.writer.add_image(
            f"visual/{tag}", drawn(figure), self.step if step is None else step, dataformats="HWC"
        )


class Picture(Callback):
    """Decides when to draw, and lets nothing that goes wrong there end a run. A subclass draws.

    Args:
        epochs: Draw at about so many epochs of the fit too, evenly spaced.
    """

    def __init__(self, epochs: int = 0) -> None:
        self.epochs, self.failed = epochs, False

    @property
    def watches(self) -> bool:
        """Whether it must be there during the fit."""
        return self.epochs > 0

    def draw(self, view: View) -> None:
        """Write to `view.writer`. The network is in evaluation mode, and random numbers drawn here are given back."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(self, view)")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (
            self.epochs
            and (trainer.current_epoch + 1) % math.ceil((trainer.max_epochs or 1) / self.epochs)
            == 0
        ):
            self.attempt(trainer, pl_module, final=False)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.attempt(trainer, pl_module, final=True)

    def attempt(self, trainer: Trainer, pl_module: LightningModule, final: bool) -> None:
        """Draw, on the first process alone."""
        if self.failed or not trainer.is_global_zero:
            return
        modes = [(module, module.training) for module in pl_module.modules()]
        gpus = [pl_module.device] if pl_module.device.type == "cuda" else []
        with self.careful(), torch.random.fork_rng(gpus), look():
            try:
                pl_module.eval()
                self.draw(View(trainer, pl_module, final))
            finally:
                for module, mode in modes:
                    module.training = mode

    @contextmanager
    def careful(self) -> Iterator[None]:
        """Make a warning of what goes wrong, and give the picture up: a run is worth more than its pictures."""
        try:
            yield
        except Exception as error:
            self.failed = True
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(f"no {type(self).__name__} in TensorBoard: {reason}", stacklevel=1)


class ConfusionMatrix(Picture):
    """True classes against predicted ones: of the test rows, and how the matrix changed during the fit.

    During the fit of validation rows, else of training rows as they were trained on (process 0's share of them). An
    epoch is counted there and drawn later, of those where a count changed a few from first to last.
    """

    def __init__(self, epochs: int = 0) -> None:
        super().__init__(epochs)
        self.seen: list[tuple[str, int, int, Tensor]] = []  # part, epoch, step, counts

    @property
    def watches(self) -> bool:
        return True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.record(trainer, pl_module, "val")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.enable_validation:
            self.record(trainer, pl_module, "train")
        super().on_train_epoch_end(trainer, pl_module)

    def record(self, trainer: Trainer, pl_module: LightningModule, part: str) -> None:
        """Count what the module keeps of the epoch, where it keeps it."""
        outputs = getattr(pl_module, "outputs", {})
        if self.failed or part not in outputs or not trainer.is_global_zero:
            return
        with self.careful():
            logits, targets = (torch.cat([batch[i] for batch in outputs[part]]) for i in (1, 2))
            counts = confusion(logits, targets)
            if not self.seen or not torch.equal(counts, self.seen[-1][3]):
                self.seen.append((part, trainer.current_epoch + 1, trainer.global_step, counts))
            if len(self.seen) > 100:  # bounded memory: of 1,000 classes a matrix takes 8 MB
                del self.seen[1:-1:2]

    def draw(self, view: View) -> None:
        for i in evenly(len(self.seen), MOST_MATRICES if view.final else 1):
            part, epoch, step, counts = self.seen[i]
            title = f"{int(counts.sum()):,} {PARTS[part]} rows, epoch {epoch}"
            view.show(
                f"ConfusionMatrix/{PARTS[part]}",
                matrix(counts.cpu().numpy(), view.class_names, title),
                step,
            )
        self.seen.clear()
        if view.final:
            features, targets = view.splits["test"]
            counts = confusion(view.logits(features), targets.cpu())
            view.show("ConfusionMatrix/test", matrix(counts.numpy(), view.class_names, view.title))


def confusion(logits: Tensor, targets: Tensor) -> Tensor:
    """Rows of each true class (down) predicted as each class (across): (num_classes, num_classes).

    >>> confusion(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 0]))
    tensor([[1, 1],
            [0, 1]])
    """
    size = logits.shape[1]
    return torch.bincount(targets * size + logits.argmax(1), minlength=size * size).reshape(
        size, size
    )


def matrix(counts: np.ndarray, names: list[str], title: str) -> "Figure":
    """A confusion matrix, coloured by the share of the true class; numbers where classes are few."""
    share = counts / counts.sum(1, keepdims=True).clip(1)
    right = counts.trace() / max(counts.sum(), 1)
    figure, axes = heat_map(share, f"{title}, {right:.3f} right", names, names)
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(names) <= FEW:
        for (i, j), count in np.ndenumerate(counts):
            axes.text(
                j,
                i,
                f"{count:,}",
                ha="center",
                va="center",
                color="white" if share[i, j] > 0.5 else "black",
            )
    return figure


class Regions(Picture):
    """Which class the network answers where: over the two principal components, and over the two best features.

    The plane lies through the mean of the training rows; colours are deeper where the network is surer. The rows are
    those of all parts that may be looked at, the wrong ones ringed. A table of one feature has no plane.
    """

    def draw(self, view: View) -> None:
        features, targets = (tensor.cpu() for tensor in view.splits["train"])
        center = features.mean(0)
        sample = features[evenly(len(features), MOST_ROWS)] - center
        _, spread, axes = torch.linalg.svd(sample, full_matrices=False)
        if len(axes) < 2:
            return
        # The sign is the algorithm's whim: let the largest weight be positive.
        axes = axes[:2] * axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)).sign()
        share = spread.square() / spread.square().sum()
        labels = [f"component {i + 1} ({share[i]:.0%} of variance)" for i in (0, 1)]
        self.plane(view, "components", center, axes, labels, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        some = evenly(len(features), 10 * MOST_ROWS)
        best = separation(features[some], targets[some]).topk(2).indices
        mean, scale = (getattr(view.table.encoder, name).cpu()[best] for name in ("mean", "scale"))
        scale = scale.nan_to_num(posinf=1.0)  # of a feature that is the same in all training rows
        units = torch.stack([mean + scale * center[best], scale], 1).float()
        names = [plain(view.table.feature_names[i]) for i in best.tolist()]
        self.plane(view, "features", center, torch.eye(len(center))[best], names, units)

    def plane(
        self, view: View, tag: str, center: Tensor, axes: Tensor, labels: list[str], units: Tensor
    ) -> None:
        """Draw the plane through `center` (num_features,) along `axes` (2, num_features).

        `units` (2, 2) has what each axis shows at the center, and for a step of 1.
        """
        features, targets, _ = view.sample(MOST_DOTS)
        total = sum(len(own) for _, own in view.splits.values())
        wrong = view.logits(features).argmax(1) != targets
        places = (features - center) @ axes.T
        low, high = places.amin(0), places.amax(0)
        margin = 0.05 * (high - low).clamp(min=1e-3)
        low, high = low - margin, high + margin
        y, x = (
            torch.linspace(float(low[i]), float(high[i]), n)
            for i, n in ((1, GRID[0]), (0, GRID[1]))
        )
        points = torch.cartesian_prod(y, x).flip(1) @ axes + center
        logits = view.logits(points).reshape(1, *GRID, -1).permute(0, 3, 1, 2)
        sure, answer = (
            interpolate(logits, scale_factor=FINER, mode="bilinear", align_corners=True)
            .softmax(1)[0]
            .max(0)
        )
        colors = palette(len(view.class_names))
        image = 1 - (1 - colors[answer]) * (0.15 + 0.45 * sure.numpy()[..., None])

        few = len(view.class_names) <= FEW
        entries = [*map(fit, view.class_names), "wrong"] if few else []
        columns = max(1, int((WIDTH - 20) // (max(map(pixels, entries), default=0) + 40)))
        legend = 19 * math.ceil(len(entries) / columns)
        title = f"{len(targets):,} of {total:,} rows, {int(wrong.sum())} wrong (ringed)"
        figure, plot = sheet(title, left=62, bottom=48 + legend)
        (left, bottom), (right, top) = (
            (units[:, 0] + units[:, 1] * end).tolist() for end in (low, high)
        )
        plot.imshow(
            image,
            origin="lower",
            extent=(left, right, bottom, top),
            aspect="auto",
            interpolation="bilinear",
        )
        shown = (units[:, 0] + units[:, 1] * places).numpy()
        style: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.6, "s": 20}
        handles = []
        for i in range(len(view.class_names) if few else len(MARKERS)):
            own = (targets if few else targets % len(MARKERS)) == i
            marker = MARKERS[i % len(MARKERS)]
            handles.append(
                plot.scatter(*shown[own].T, color=colors[targets[own]], marker=marker, **style)
            )
        ring: dict[str, Any] = {
            "s": 80,
            "facecolors": "none",
            "edgecolors": "black",
            "linewidths": 1.2,
        }
        handles.append(plot.scatter(*shown[wrong].T, **ring))
        names = fit(labels[0], WIDTH - 60), fit(labels[1], HEIGHT - 40 - legend)
        plot.set(xlabel=names[0], ylabel=names[1], xlim=(left, right), ylim=(bottom, top))
        if few:
            place: dict[str, Any] = {"loc": "lower center", "ncols": columns, "frameon": False}
            figure.legend(
                handles,
                entries,
                **place,
                columnspacing=1,
                handletextpad=0.2,
                borderaxespad=0.1,
                labelspacing=0.3,
            )
        view.show(f"Regions/{tag}", figure)


def separation(features: Tensor, targets: Tensor) -> Tensor:
    """How well each feature alone tells the classes apart: the F-value of a one-way analysis of variance, (features,).

    >>> separation(torch.tensor([[0.0, 1.0], [1.0, 2.0], [10.0, 1.0], [11.0, 2.0]]), torch.tensor([0, 0, 1, 1]))
    tensor([200.,   0.])
    """
    one_hot = nn.functional.one_hot(targets).double()
    counts = one_hot.sum(0).clip(1)
    means = (one_hot.T @ features.double()) / counts[:, None]
    between = (counts[:, None] * (means - features.double().mean(0)).square()).sum(0)
    within = (features.double() - means[targets]).square().sum(0)
    f = (between / (len(counts) - 1)) / (within / (len(features) - len(counts)))
    return f.nan_to_num(0.0, posinf=torch.finfo(torch.double).max).float()


class Weights(Picture):
    """The weights of each layer as a heat-map, and a convolution's kernels each as an image; 0 is white."""

    def draw(self, view: View) -> None:
        named = [
            (name, weight) for name, weight in view.network.named_parameters() if weight.ndim > 1
        ]
        for name, weight in named[:MOST_TAGS]:
            own = weight.detach().float().cpu()
            if own.ndim > 2:
                view.show(f"Weights/{name}", kernels(own, name))
            else:
                view.show(
                    f"Weights/{name}", layer(own, name, view.table.feature_names, view.class_names)
                )


def layer(weight: Tensor, name: str, features: Sequence[str], classes: Sequence[str]) -> "Figure":
    """A linear layer's weights (outputs, inputs), the longer side lying, with the names of features and classes."""
    outputs, inputs = weight.shape
    down = "output", classes if len(classes) == outputs else []
    across = "input", features if len(features) == inputs else []
    if outputs > inputs:
        weight, down, across = weight.T, across, down
    title = f"{name}, {outputs:,} outputs x {inputs:,} inputs"
    figure, axes = heat_map(weight.numpy(), title, down[1], across[1], float(weight.abs().max()))
    axes.set(ylabel=down[0], xlabel=across[0])
    return figure


def kernels(weight: Tensor, name: str) -> "Figure":
    """A convolution's kernels (outputs, inputs, ..., height, width), a row of images for each output."""
    outputs, inputs = weight.shape[:2]
    own = weight[:MOST_KERNELS, :MOST_KERNELS] if inputs > 1 else weight[: 4 * MOST_KERNELS]
    images = own.reshape(-1, 1, own[0, 0, ..., 0].numel(), own.shape[-1])
    values = make_grid(
        images, own.shape[1] if inputs > 1 else MOST_KERNELS // 2, padding=1, pad_value=math.nan
    )[0]
    title = f"{name}, {own.shape[0]} of {outputs:,} outputs, {own.shape[1]} of {inputs:,} inputs"
    figure, axes = heat_map(values.numpy(), title, [], [], float(own.abs().max()))
    axes.set(xticks=[], yticks=[], aspect="equal", facecolor="#999999")
    axes.set(xlabel="input", ylabel="output") if inputs > 1 else axes.set(xlabel="output")
    return figure


class Reliability(Picture):
    """How often the network is right where it is so sure, and how many rows that are."""

    def draw(self, view: View) -> None:
        sums = calibration(*view.probabilities())
        rows, sure, right = sums[sums[:, 0] > 0].T
        edges = np.arange(BINS)[sums[:, 0] > 0] / BINS
        figure, axes = sheet(
            f"{view.title}, calibration error {calibration_error(sums):.3f}", left=55, bottom=125
        )
        bars: dict[str, Any] = {
            "width": 1 / BINS,
            "align": "edge",
            "edgecolor": "white",
            "color": OKABE_ITO[4],
        }
        axes.bar(edges, right / rows, **bars)
        axes.plot([0, 1], [0, 1], "--", color="black", linewidth=1)
        axes.plot(sure / rows, right / rows, "o", color=OKABE_ITO[5], markeredgecolor="black")
        axes.set(xlim=(0, 1), ylim=(0, 1.04), ylabel="share right", xticklabels=[])
        below = figure.add_axes((55 / WIDTH, 45 / HEIGHT, 1 - 69 / WIDTH, 65 / HEIGHT))
        below.bar(edges, rows, **bars)
        below.set(xlim=(0, 1), xlabel="confidence of the prediction", ylabel="rows")
        view.show(f"Reliability/{PARTS[view.part]}", figure)


class Histograms(Picture):
    """Weights, the loss's gradient in some training rows, and what comes out of each layer for them."""

    def draw(self, view: View) -> None:
        features, targets = (rows[: MOST_ROWS // 4] for rows in view.splits["train"])
        parameters = {
            name: own for name, own in view.network.named_parameters() if own.requires_grad
        }
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            view.trainer.precision_plugin.forward_context(),
        ):
            module: Any = view.module
            loss = module.loss(module(view.on_device(features)), targets.to(module.device))
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        found = {f"weights/{name}": own.detach() for name, own in parameters.items()}
        found |= {
            f"gradients/{name}": own
            for name, own in zip(parameters, gradients, strict=True)
            if own is not None
        }
        found |= {
            f"activations/{name}": own
            for name, (_, own) in view.modules(nn.Module, features).items()
        }
        for tag, values in found.items():
            flat = values.flatten()
            view.writer.add_histogram(
                f"visual/{tag}", flat[:: -(-len(flat) // MOST_NUMBERS)].float().cpu().numpy(), view.step
            )


class PrecisionRecall(Picture):
    """Each class against the others, for the tab PR Curves."""

    def draw(self, view: View) -> None:
        probabilities, targets = view.probabilities()
        for i, name in enumerate(view.class_names[:MOST_TAGS]):
            tag = f"PrecisionRecall/{i}_{name}"  # the number keeps apart what TensorBoard writes alike, as < and >
            view.writer.add_pr_curve(tag, targets == i, probabilities[:, i], view.step)


class Embedding(Picture):
    """What goes into the last linear layer, for the tab Projector: rows of all parts that may be looked at."""

    def draw(self, view: View) -> None:
        features, targets, parts = view.sample(MOST_ROWS)
        layers = view.modules(nn.Linear, features)
        if not layers:
            return
        hidden = [*layers.values()][-1][0].flatten(1)
        numbers = zip(
            targets.tolist(), view.logits(features).argmax(1).tolist(), parts, strict=True
        )
        labels = [
            [view.class_names[true], view.class_names[answer], part]
            for true, answer, part in numbers
        ]
        header = ["class", "predicted", "part"]
        with redirect_stdout(
            StringIO()
        ):  # where a run ends a second time torch prints that the folder is there
            view.writer.add_embedding(
                hidden, labels, global_step=view.step, tag="Embedding", metadata_header=header
            )


class Card(Picture):
    """The run in a table, for the tab Text: settings, columns, classes and what came out."""

    def draw(self, view: View) -> None:
        trainer, table = view.trainer, view.table
        columns = [plain(name) for name in getattr(table, "column_names", table.feature_names)]
        lines = flatten(dict(view.module.hparams)) | {"data": type(table).__name__}
        lines |= {f"data.{name}": value for name, value in table.hparams.items()}
        lines |= {
            "max_epochs": trainer.max_epochs,
            "precision": trainer.precision,
            "seed": torch.initial_seed(),
        }
        lines |= {
            f"{PARTS[part]} rows": f"{len(targets):,}" for part, (_, targets) in view.splits.items()
        }
        lines |= {f"{len(columns):,} columns": first(columns)}
        lines |= {f"{len(view.class_names):,} classes": first(view.class_names)}
        lines |= {name: f"{value:.4f}" for name, value in trainer.callback_metrics.items()}
        rows = [f"| {cell(name)} | {cell(value)} |" for name, value in lines.items()]
        view.writer.add_text("Card", "\n".join(["| | |", "|---|---|", *rows]), view.step)


def first(names: Sequence[str], most: int = 20) -> str:
    """The first names, and how many more there are.

    >>> first(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (
        f" and {len(names) - most:,} more" if len(names) > most else ""
    )


def cell(value: Any) -> str:
    """A value in a Markdown table.

    >>> cell("a|b <c>")
    'a&#124;b &lt;c>'
    """
    return plain(value).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


PICTURES: dict[str, type[Picture]] = {
    picture.__name__: picture
    for picture in (
        ConfusionMatrix,
        Regions,
        Weights,
        Reliability,
        Histograms,
        PrecisionRecall,
        Embedding,
        Card,
    )
}
WHEN = {"none": None, "final": 0, "all": 10}


def chosen(pictures: str | Sequence[str]) -> list[Picture]:
    """All pictures drawn at the end (final) or also at ten epochs (all), none, or those that are named.

    Raises:
        ValueError: A name that no picture has.
    """
    if isinstance(pictures, str) and pictures in WHEN:
        epochs = WHEN[pictures]
        return [] if epochs is None else [picture(epochs) for picture in PICTURES.values()]
    names = [pictures] if isinstance(pictures, str) else pictures
    for name in names:
        if name not in PICTURES:
            raise ValueError(unknown("picture", name, [*PICTURES, *WHEN]))
    return [PICTURES[name]() for name in names]


def evenly(count: int, most: int) -> list[int]:
    """The numbers from 0 to count - 1, or so many of them: the last, and others evenly spaced.

    >>> evenly(3, 5), evenly(10, 3), evenly(10, 1)
    ([0, 1, 2], [0, 5, 9], [9])
    """
    return sorted(
        {count - 1 - i * (count - 1) // max(1, most - 1) for i in range(most)}
        if count > most
        else range(count)
    )
