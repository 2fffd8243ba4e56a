"""Baselines: scikit-learn's classifiers on the same folds, which say whether a network is worth it.

Their pipeline is the project's encoder, fitted to the fold's training rows: missing values are
imputed, categories one-hot encoded, features scaled. So they see what the networks see, and a
difference is one of classifiers.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cli.errors import first_line, unknown
from data.folds import Fold
from data.raw_table import LARGE_VALUES
from data.shared_rows import SharedSplits, shared
from data.tabular import Splits

MAJORITY = "DummyClassifier"  # predicts the shares of the classes
DEFAULT_BASELINES = (MAJORITY, "LogisticRegression")


@dataclass(frozen=True)
class Baseline:
    """What a classifier predicts for the held-out rows of each outer fold.

    Args:
        name: The name of its class.
        probabilities: By repeat and fold, (test rows, num_classes); 1 for the predicted class where
            the classifier gives no probabilities.
        has_probabilities: Whether it gives probabilities.
        failure: Why there are no predictions; empty if there are.
    """

    name: str
    probabilities: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    has_probabilities: bool = True
    failure: str = ""


def find_classifiers(names: Sequence[str], seed: int) -> dict[str, Any]:
    """Classifiers of scikit-learn by the names of their classes, with their default arguments.

    >>> find_classifiers(["GaussianNB", "RandomForestClassifier"], seed=0)
    {'GaussianNB': GaussianNB(), 'RandomForestClassifier': RandomForestClassifier(random_state=0)}

    Args:
        names: The names.
        seed: The seed of those that are random.

    Raises:
        ValueError: scikit-learn has no such classifier, or it cannot be made without arguments.
    """
    known = known_classifiers(names)
    classifiers = {}
    for name in names:
        if name not in known:
            raise ValueError(unknown("baseline", name, known))
        parameters = signature(known[name]).parameters.values()
        required = [
            parameter.name for parameter in parameters if parameter.default is Parameter.empty
        ]
        if required:
            raise ValueError(
                f"baseline {name} needs {', '.join(required)}; give classifiers without required "
                "arguments, such as RandomForestClassifier"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a class is deprecated
            classifier = known[name]()
        if "random_state" in classifier.get_params():
            classifier.set_params(random_state=seed)
        classifiers[name] = classifier
    return classifiers


def known_classifiers(names: Sequence[str]) -> dict[str, Any]:
    """The default baselines by name; all classifiers of scikit-learn if another one is asked for.

    Imported here: listing all of them takes half a second.
    """
    if set(names) <= set(DEFAULT_BASELINES):
        from sklearn.dummy import DummyClassifier
        from sklearn.linear_model import LogisticRegression

        return {MAJORITY: DummyClassifier, "LogisticRegression": LogisticRegression}
    from sklearn.utils.discovery import all_estimators

    return dict(all_estimators("classifier"))


def fit_baselines(
    classifiers: dict[str, Any],
    folds: Sequence[Fold],
    splits: Sequence[SharedSplits],
    num_classes: int,
) -> list[Baseline]:
    """Fit each classifier once per outer fold, and predict the fold's held-out rows.

    Args:
        classifiers: The classifiers by name.
        folds: The outer folds, and inner ones, which are left out.
        splits: The splits of each fold, standardized one fold at a time.
        num_classes: Number of classes.
    """
    outer = {
        fold[:2]: fold_splits
        for fold, fold_splits in zip(folds, splits, strict=True)
        if not fold.inner
    }
    return [
        fit_baseline(name, classifier, outer, num_classes)
        for name, classifier in classifiers.items()
    ]


def fit_baseline(
    name: str, classifier: Any, outer: dict[tuple[int, int], SharedSplits], num_classes: int
) -> Baseline:
    """Fit a classifier to each outer fold; where one fit fails, the baseline has failed."""
    probabilities = {}
    has_probabilities = hasattr(classifier, "predict_proba")
    bar = tqdm(outer.items(), desc=name, unit="fold", leave=False, disable=None)
    try:
        with warnings.catch_warnings(), bar:
            warnings.simplefilter("ignore")  # users cannot act on them
            for key, splits in bar:
                probabilities[key] = predict_fold(classifier, splits, num_classes)
    except Exception as error:  # whatever it is, the estimate of the networks is kept
        return Baseline(name, failure=first_line(error))
    return Baseline(name, probabilities, has_probabilities)


def predict_fold(classifier: Any, splits: Splits | SharedSplits, num_classes: int) -> np.ndarray:
    """Fit a classifier to a fold's training and validation rows, and predict its test rows.

    The validation rows are for training too: a baseline has no epoch to choose.

    Raises:
        ValueError: The classifier cannot be fitted to these rows.

    Returns:
        Probabilities (test rows, num_classes).
    """
    from sklearn.base import clone

    splits = shared(splits)
    known = [splits[split] for split in ("train", "val") if split in splits]
    values = known[0].num_rows * known[0].table.features.shape[1]
    dtype = torch.float64 if values < LARGE_VALUES else torch.float32
    features = in_one([rows.features.to(dtype) for rows in known]).numpy()
    targets = in_one([rows.targets for rows in known]).numpy()
    test = splits["test"].features.to(dtype).numpy()
    fitted = clone(classifier).fit(features, targets)
    if hasattr(fitted, "predict_proba"):
        predicted = fitted.predict_proba(test)
    else:
        predicted = fitted.predict(test)[:, None] == fitted.classes_
    if not np.isfinite(predicted).all():
        raise ValueError("its probabilities are not finite")
    probabilities = np.zeros((len(test), num_classes))
    probabilities[:, fitted.classes_] = predicted  # a class without training rows gets 0
    return probabilities


def in_one(tensors: list[Tensor]) -> Tensor:
    """Tensors one below the other; a single one is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
