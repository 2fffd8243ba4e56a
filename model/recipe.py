"""The default recipe, one for every table.

bench/recipe.py measured it against its neighbours: bench/results/recipe.json.
"""

from functools import partial

from torch.nn import CrossEntropyLoss
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from model.networks import MLP

NETWORK = MLP
LOSS = partial(CrossEntropyLoss, label_smoothing=0.1)
OPTIMIZER = partial(AdamW, lr=0.05, weight_decay=0.3, fused=True)
SCHEDULE = OneCycleLR
MAX_EPOCHS = 100
