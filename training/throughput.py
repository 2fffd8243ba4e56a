"""How fast a fit is: rows per second, and what share of the device's arithmetic that takes."""

import time
import warnings
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops, measure_flops
from lightning.pytorch import Trainer
from torch import nn

from training.hparams import VALUES

COMPUTE = {
    "64-true": torch.float64,
    "bf16-true": torch.bfloat16,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}


class Throughput:
    """Counts rows, and logs how many there were per second.

    Lightning's ThroughputMonitor looks at the clock in every step, and waits for the GPU there.
    This one looks every two seconds at the end of an epoch, where the metrics have waited already.
    """

    seconds = 2.0

    def __init__(self) -> None:
        self.rows = 0
        self.start = time.perf_counter()
        self.is_logged = False

    def rows_per_second(self) -> float:
        """Rows per second since the last call of `log`, of all processes."""
        return self.rows / (time.perf_counter() - self.start)

    def is_due(self) -> bool:
        return time.perf_counter() - self.start > self.seconds

    def log(self, trainer: Trainer, module: Any) -> None:
        """Log the speed of a Classifier's fit to all loggers, and count anew.

        Args:
            trainer: The Trainer of the fit.
            module: The Classifier; other modules have none to log.
        """
        seconds = time.perf_counter() - self.start
        rate = self.rows / seconds
        self.rows = 0
        self.start = time.perf_counter()
        self.is_logged = True
        if not hasattr(module, "make_network"):
            return
        values = {"rows_per_second": rate}
        if seconds > self.seconds:  # counting takes 20 ms, a tenth of a small fit
            flops = rate * flops_per_row(module.make_network, module.example.shape[1])
            values["teraflops_per_second"] = flops / 1e12
            peak = peak_flops(trainer)
            if peak is not None:
                values["share_of_peak"] = flops / (peak * trainer.world_size)
        named = {f"{VALUES}/throughput/{name}": value for name, value in values.items()}
        for logger in trainer.loggers:
            logger.log_metrics(named, step=trainer.global_step)


def flops_per_row(make_network: Any, num_features: int) -> float:
    """Floating-point operations of a training step per row: forward and backward products.

    Only products of matrices and convolutions are counted, on the meta device.

    >>> flops_per_row(lambda: nn.Linear(4, 3), 4)  # a product, and that of the weights' gradient
    48.0
    """
    rows = 8
    try:
        with torch.device("meta"):
            network: nn.Module = make_network().train()
            features = torch.zeros(rows, num_features)
        flops = measure_flops(network, lambda: network(features), torch.sum)
    except Exception:  # a network that reads values
        return 0.0
    return flops / rows


def peak_flops(trainer: Trainer) -> int | None:
    """The device's floating-point operations per second at best, None where nobody knows."""
    dtype = COMPUTE.get(str(trainer.precision), torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a device that Lightning does not know
        return get_available_flops(trainer.strategy.root_device, dtype)
