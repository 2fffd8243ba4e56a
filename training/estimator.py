"""The same training as a scikit-learn estimator, for pipelines and cross-validation."""

import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import isclass
from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
import torch
from lightning.pytorch import Trainer
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import (
    Tags,
    check_random_state,
    check_scalar,
    check_X_y,
    compute_class_weight,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cli.errors import unknown
from cli.registry import LEARNED
from cli.schema import REQUIRED, component_schema
from data.arrays import densified
from data.columns import Columns
from data.frames import to_frame, with_names
from data.typed import categorical_names, columns_of, has_types, whole_frame
from model import recipe
from training.batches import TensorBatches
from training.factories import check_factory, loss_maker, network_maker
from training.fast import FastClassifier
from training.rows import Rows, checked_weights

NUMBERS = {"accept_sparse": "csr", "dtype": np.float64, "ensure_all_finite": "allow-nan"}

# One fit at a time in a process: initial weights and dropout draw from torch's global generator,
# and log levels and warning filters are global too.
ONE_FIT = threading.Lock()
LEAF_SPEC = ".*LeafSpec.*"  # a warning of Lightning 2.6.6 on torch 2.14
# Here too: scikit-learn's threads set the filters that there were before they began.
warnings.filterwarnings("ignore", message=LEAF_SPEC)


# N803 and N806 below: scikit-learn calls the rows X.
class NetworkClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # no types
    """A neural network as a scikit-learn classifier; NaN is missing and imputed (data/encoder.py).

    After `fit`: `classes_`; `network_`, from standardized features to logits; `encoder_`, from raw
    columns to standardized features.

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> classifier = NetworkClassifier(max_epochs=50)
    >>> cross_val_score(classifier, *load_iris(return_X_y=True), cv=3).mean() > 0.9
    np.True_
    >>> classifier.set_params(network__hidden=[8], optimizer__lr=0.02).network.keywords
    {'hidden': [8]}

    Args:
        network: Called with the numbers of features and of classes; partial(MLP, hidden=[8]) makes
            another one.
        loss: Called without arguments.
        optimizer: Called with the parameters.
        schedule: Called with the optimizer, steps after every batch; None keeps the learning rate.
        batch_size: Rows in a step of the optimizer; None takes all at once.
        class_weight: Weight of each class's rows; balanced gives every class the same total weight.
        max_epochs: Passes over the rows.
        accelerator: Where to train.
        random_state: Seed of initial weights, dropout and the order of rows.
    """

    def __init__(
        self,
        network: Callable[[int, int], nn.Module] = recipe.NETWORK,
        loss: Callable[[], nn.Module] = recipe.LOSS,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = recipe.OPTIMIZER,
        schedule: Callable[..., LRScheduler] | None = recipe.SCHEDULE,
        batch_size: int | None = None,
        class_weight: Literal["balanced"] | dict[Any, float] | None = None,
        max_epochs: int = recipe.MAX_EPOCHS,
        accelerator: str = "auto",
        random_state: Any = 0,
    ) -> None:
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.schedule = schedule
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.max_epochs = max_epochs
        self.accelerator = accelerator
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        return tags

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments; deep: those of the components too, as `network__hidden`."""
        params: dict[str, Any] = super().get_params(deep=False)
        if deep:
            for component in LEARNED:
                params |= component_params(component, params[component])
        return params

    def set_params(self, **params: Any) -> Self:
        """Set arguments by name, those of a component as in `optimizer__lr=0.01`."""
        super().set_params(**{name: value for name, value in params.items() if "__" not in name})
        for name, value in params.items():
            component, is_nested, argument = name.partition("__")
            if not is_nested:
                continue
            if name not in self.get_params():
                raise ValueError(unknown("parameter", name, self.get_params()))
            setattr(self, component, partial(getattr(self, component), **{argument: value}))
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train on rows with classes.

        Args:
            X: An array, a sparse matrix or a DataFrame (rows, columns); a DataFrame's columns of
                text, booleans and dates become features, too (data/encoder.py).
            y: The class of each row, of any type (rows,).
            sample_weight: The weight of each row in the loss and in means, scales and medians.
        """
        for component in LEARNED:
            check_factory(component, getattr(self, component))
        check_scalar(self.max_epochs, "max_epochs", Integral, min_val=1)
        if self.batch_size is not None:
            check_scalar(self.batch_size, "batch_size", Integral, min_val=1)
        self.columns_: Columns | None = None
        X = with_names(X)  # noqa: N806
        if has_types(X):
            validate_data(self, X, skip_check_array=True)  # names and number of the columns
            frame = whole_frame(X)
            self.columns_ = columns_of(frame, categorical_names(X))
            features, labels = check_X_y(self.columns_.matrix(frame), y, **NUMBERS)
        else:
            features, labels = validate_data(self, X, y, **NUMBERS)
        if issparse(features):
            features = densified("X", features)
        check_classification_targets(labels)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has one class, {self.classes_[0]!r}; give rows of two classes or more"
            )
        weights = checked_weights(sample_weight, len(targets))
        class_weights = self.weigh_classes(labels, targets, weights)
        rows = Rows(
            features,
            targets,
            num_classes=len(self.classes_),
            batch_size=self.batch_size,
            columns=self.columns_,
            weights=weights,
            class_weights=class_weights,
        )
        rows.setup()
        self.network_ = self.train(rows, class_weights)
        self.encoder_ = rows.encoder
        return self

    def weigh_classes(
        self, labels: np.ndarray, targets: np.ndarray, weights: np.ndarray | None
    ) -> list[float] | None:
        """The weight of each class, None for none; balanced counts the weights of the rows."""
        if self.class_weight is None:
            return None
        if weights is None or self.class_weight != "balanced":
            by_class = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)
        else:
            totals = np.bincount(targets, weights, len(self.classes_))
            by_class = weights.sum() / (len(totals) * np.where(totals, totals, np.inf))
        class_weights: list[float] = by_class.tolist()
        return class_weights

    def train(self, rows: Rows, class_weights: list[float] | None) -> nn.Module:
        """The network, trained on rows."""
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        # The one GPU that may be used; others would get a context each.
        gpus = [0] if torch.cuda.is_available() and self.accelerator != "cpu" else []
        with ONE_FIT, torch.random.fork_rng(gpus), silence():
            torch.manual_seed(seed)
            classifier = FastClassifier(
                rows.num_features,
                rows.num_classes,
                network_maker(self.network),
                loss_maker(self.loss, class_weights, rows.weights is not None),
                self.optimizer,
                self.schedule,
            )
            trainer = Trainer(
                accelerator=self.accelerator,
                devices=1,
                max_epochs=self.max_epochs,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                limit_val_batches=0,
                log_every_n_steps=1,
            )
            rows.make_loader = partial(TensorBatches, trainer=trainer)
            trainer.fit(classifier, rows)
        return classifier.network.cpu().eval()

    def logits(self, X: Any) -> Tensor:  # noqa: N803
        """Each class's logit (rows, classes)."""
        check_is_fitted(self)
        X = with_names(X)  # noqa: N806
        if self.columns_ is None:
            features = validate_data(self, X, reset=False, **NUMBERS)
            if issparse(features):
                features = densified("X", features)
        else:
            validate_data(self, X, skip_check_array=True, reset=False)
            frame = whole_frame(X) if hasattr(X, "columns") else to_frame(X, self.columns_.names)
            features = self.columns_.matrix(frame)
        with torch.inference_mode():
            logits: Tensor = self.network_(self.encoder_(torch.tensor(features)))
        return logits

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Each class's probability (rows, classes), in the order of `classes_`."""
        probabilities: np.ndarray = self.logits(X).softmax(1).numpy()
        return probabilities

    def predict_log_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """The logarithm of each class's probability (rows, classes)."""
        logarithms: np.ndarray = self.logits(X).log_softmax(1).numpy()
        return logarithms

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The class of each row."""
        indices = self.predict_proba(X).argmax(1)
        classes: np.ndarray = self.classes_[indices]
        return classes


def component_params(component: str, factory: Any) -> dict[str, Any]:
    """The arguments of a component's class with their values, by scikit-learn's names.

    >>> component_params("network", recipe.NETWORK)["network__activation"]
    'SiLU'
    """
    if not isclass(getattr(factory, "func", factory)):  # none, or a function
        return {}
    schema = component_schema(component, partial(factory))
    values = {key.replace(".", "__"): argument.default for key, argument in schema.items()}
    return {name: None if value is REQUIRED else value for name, value in values.items()}


@contextmanager
def silence() -> Iterator[None]:
    """Suppress Lightning's log lines: an estimator prints nothing."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=LEAF_SPEC)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
