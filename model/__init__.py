"""Networks, losses, and the LightningModule that trains them."""

from model.classifier import Classifier
from model.losses import BCEWithLogitsLoss, MSELoss
from model.networks import MLP

__all__ = ["MLP", "BCEWithLogitsLoss", "Classifier", "MSELoss"]
