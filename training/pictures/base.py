"""The base of every picture: when it is drawn, and what happens when it fails."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cli.errors import FULL, first_line
from model.classifier import Classifier
from training.pictures.figures import figure_style
from training.pictures.view import View, view_of


class Picture(Callback):
    """A callback that draws after the test, and during the fit if asked; a subclass says what.

    It is drawn with the weights that were tested. During the fit it shows validation rows, or
    training rows if there are none: test rows are for the one test. Drawing does not change the
    run, and an error in a picture is a warning.

        Trainer(logger=TensorBoardLogger("logs"), callbacks=[ConfusionMatrix(), Regions(epochs=10)])

    Args:
        epochs: Draw at about this many evenly spaced epochs of the fit too.
    """

    def __init__(self, epochs: int = 0) -> None:
        self.epochs = epochs
        self.has_failed = False

    @property
    def watches(self) -> bool:
        """Whether it must be attached during the fit."""
        return self.epochs > 0

    def draw(self, view: View) -> None:
        """Draw with `view.show` or `view.writer`.

        The network is in evaluation mode, and the state of the random numbers is restored.
        """
        raise NotImplementedError(f"{type(self).__name__} must define draw(self, view)")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Members are several networks until the fit ends.
        if self.epochs > 0 and isinstance(pl_module, Classifier):
            interval = math.ceil((trainer.max_epochs or 1) / self.epochs)
            if (trainer.current_epoch + 1) % interval == 0:
                self.attempt(trainer, pl_module, is_tested=False)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.attempt(trainer, pl_module, is_tested=True)

    def attempt(self, trainer: Trainer, pl_module: LightningModule, is_tested: bool) -> None:
        """Draw, on the first process only, and leave the run as it was."""
        if self.has_failed or not trainer.is_global_zero:
            return
        modes = [(module, module.training) for module in pl_module.modules()]
        is_cuda = pl_module.device.type == "cuda"
        devices = [pl_module.device] if is_cuda else []
        with self.errors_as_warning(), torch.random.fork_rng(devices), figure_style():
            try:
                pl_module.eval()
                self.draw(view_of(trainer, pl_module, is_tested))
            finally:
                for module, mode in modes:
                    module.training = mode

    @contextmanager
    def errors_as_warning(self) -> Iterator[None]:
        """Turn an error into one warning, and draw no more: the run matters more."""
        try:
            yield
        except Exception as error:  # a user's own picture can raise anything
            if isinstance(error, OSError) and error.errno in FULL:
                raise  # the run can write no more either
            self.has_failed = True
            reason = first_line(error)
            warnings.warn(f"no {type(self).__name__} in TensorBoard: {reason}", stacklevel=1)
