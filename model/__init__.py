"""Networks, losses, and the LightningModule that trains them."""

from model.classifier import Classifier
from model.losses import BCEWithLogitsLoss, MSELoss
from model.networks import MLP
from model.population import Population

__all__ = ["MLP", "BCEWithLogitsLoss", "Classifier", "MSELoss", "Population"]
