"""What TensorBoard's HParams tab shows of a run's settings."""

from typing import Any

from cli.component import flatten

MACHINE = {
    "accelerator",
    "devices",
    "strategy",
    "num_nodes",
    "log_dir",
    "pictures",
}  # no setting of what is learned


def hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """What the HParams tab shows of a run's settings."""
    return {
        key: value
        for key, value in flatten(config).items()
        if key not in MACHINE and value is not None
    }
