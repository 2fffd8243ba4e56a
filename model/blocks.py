"""Blocks: several epochs of one stack after the other, several stacks at a time on a CPU."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from model.stack_fit import StackFit


class Blocks:
    """How many epochs each stack trains before the next one does.

    A block lasts about `seconds`: a stack stays in the processor's cache, and Lightning's loop
    costs little beside it, yet a checkpoint or the progress bar waits no longer. As many stacks
    train at a time as there are threads, each with one thread: that is as fast as all threads on
    one stack, and several times as fast while other programs run, for which threads on one stack
    wait in every call.

    Neither changes a result, as long as no stack draws random numbers or calls a stranger's code;
    else a block is one epoch, one stack at a time.

    Args:
        fits: The fits of all stacks.
    """

    seconds = 0.25

    def __init__(self, fits: Sequence[StackFit]) -> None:
        self.fits = fits
        self.is_free = all(fit.is_free for fit in fits)
        self.threads = torch.get_num_threads()
        on_cpu = all(fit.device.type == "cpu" for fit in fits)
        self.is_parallel = self.is_free and on_cpu and len(fits) >= self.threads > 1
        self.size = 1

    def end(self, epochs: int, seconds: float) -> None:
        """Choose the size of the next block, by the time that this one took."""
        if self.is_free:
            self.size = max(1, int(self.seconds * epochs / max(seconds, 1e-9)))

    def train(self, epochs: range) -> list[dict[str, np.ndarray]]:
        """Train every stack for some epochs, in threads if that is faster; each one's metrics."""
        if not self.is_parallel or torch.is_autocast_enabled("cpu"):  # threads have no autocast
            return [fit.train(epochs) for fit in self.fits]
        torch.set_num_threads(1)  # also in threads that begin from now on
        executor = ThreadPoolExecutor(self.threads)
        try:
            return list(executor.map(lambda fit: fit.train(epochs), self.fits))
        finally:
            executor.shutdown(cancel_futures=True)
            torch.set_num_threads(self.threads)
