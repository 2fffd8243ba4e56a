"""Networks, losses, and the LightningModule that trains them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.classifier import Classifier
    from model.losses import BCEWithLogitsLoss, MSELoss
    from model.networks import MLP, ConvNet
    from model.population import Population

__all__ = ["MLP", "BCEWithLogitsLoss", "Classifier", "ConvNet", "MSELoss", "Population"]
HOMES = {"MLP": "model.networks", "Classifier": "model.classifier", "Population": "model.population"}
HOMES["ConvNet"] = HOMES["MLP"]
HOMES |= dict.fromkeys(("BCEWithLogitsLoss", "MSELoss"), "model.losses")


def __getattr__(name: str) -> Any:  # when asked for: predict.py needs neither Lightning nor its three seconds
    if name not in HOMES:
        raise AttributeError(f"module 'model' has no {name}")
    return getattr(import_module(HOMES[name]), name)
