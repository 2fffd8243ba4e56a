"""NetworkClassifier: scikit-learn's own checks, and the same numbers as the Classifier inside."""

import logging
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_backend
from lightning.pytorch import Trainer
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.utils.estimator_checks import check_estimator
from torch import nn
from torch.optim import SGD

from model import recipe
from model.classifier import Classifier
from model.networks import MLP
from training.estimator import NetworkClassifier, Rows

IRIS = load_iris(return_X_y=True)


def test_scikit_learns_checks_all_pass(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # without it one of them is skipped
    found = check_estimator(NetworkClassifier(), on_fail=None)
    assert len(found) > 50
    assert {
        (check["check_name"], check["status"]) for check in found if check["status"] != "passed"
    } == set()


def test_it_is_the_same_training():
    features, targets = IRIS
    settings = partial(MLP, hidden=[8]), partial(SGD, lr=0.5)
    estimator = NetworkClassifier(
        settings[0], optimizer=settings[1], batch_size=16, max_epochs=5, random_state=3
    )
    seed = np.random.RandomState(3).randint(2**31 - 1)
    torch.manual_seed(seed)
    rows = Rows(features, targets, ["0", "1", "2"], 16)
    rows.setup()
    alone = Classifier(4, 3, settings[0], optimizer=settings[1])
    options = {
        "limit_val_batches": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    Trainer(max_epochs=5, accelerator="cpu", logger=False, log_every_n_steps=1, **options).fit(
        alone, rows
    )
    expected = alone(rows.splits["train"][0]).softmax(1).detach().numpy()
    np.testing.assert_array_equal(
        estimator.fit(features, targets).predict_proba(features), expected
    )


def test_it_leaves_torchs_generator_and_the_global_warnings_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    NetworkClassifier(max_epochs=1).fit(*IRIS)
    assert torch.equal(torch.rand(3), expected)


def test_it_works_in_pipelines_searches_and_cross_validation():
    pipeline = make_pipeline(PolynomialFeatures(2), NetworkClassifier(max_epochs=30))
    assert cross_val_score(pipeline, *IRIS, cv=3).mean() > 0.93
    grid = {"network": [partial(MLP, hidden=[1]), partial(MLP, hidden=[32])], "max_epochs": [30]}
    search = GridSearchCV(NetworkClassifier(), grid, cv=3).fit(*IRIS)
    assert search.best_params_["network"].keywords == {"hidden": [32]}
    assert clone(search.best_estimator_).get_params()["max_epochs"] == 30


def test_a_search_reaches_the_arguments_of_components():
    grid = {
        "classifier__network__hidden": [[1], [32]],
        "classifier__optimizer": [SGD, recipe.OPTIMIZER],
        "classifier__optimizer__lr": [1e-6, 0.05],
    }
    pipeline = Pipeline([("classifier", NetworkClassifier(max_epochs=30))])
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(*IRIS)
    best = search.best_estimator_["classifier"]
    assert best.network.keywords == {"hidden": [32]}
    assert best.optimizer.keywords == recipe.OPTIMIZER.keywords | {"lr": 0.05}
    assert best.get_params()["optimizer__lr"] == 0.05
    assert len(set(search.cv_results_["mean_test_score"])) > 2


def test_arguments_that_no_component_has():
    estimator = NetworkClassifier(schedule=None, loss=lambda: nn.CrossEntropyLoss())
    for name, nearest in {
        "network__hiden": "network__hidden",
        "loss__label_smoothing": "",
        "schedule__lr": "",
        "data__path": "",
    }.items():
        with pytest.raises(
            ValueError, match=f"parameter '{name}' is not known; nearest: {nearest}"
        ):
            estimator.set_params(**{name: 1})


def test_labels_of_any_type_and_missing_numbers():
    frozen = IRIS[0].copy()
    frozen.flags.writeable = False  # as pandas gives them
    assert NetworkClassifier(max_epochs=1).fit(frozen, IRIS[1]).predict(frozen).shape == (150,)
    features, targets = IRIS[0].copy(), np.array(["Ä", "b", "c d"], object)[IRIS[1]]
    features[::7, 2] = np.nan
    estimator = NetworkClassifier(max_epochs=50).fit(features, targets)
    assert estimator.encoder_.layout.names[2:4] == ["column 2", "column 2 missing"]
    assert set(estimator.predict(features)) == {"Ä", "b", "c d"}
    assert estimator.score(features, targets) > 0.9


@pytest.mark.parametrize("weight", ["balanced", {0: 1.0, 1: 50.0}])
def test_class_weights_move_rows_to_the_rare_class(weight):
    random = np.random.default_rng(0)
    targets = (random.random(300) < 0.05).astype(int)
    features = random.normal(targets[:, None], 1.0, (300, 2))
    plain, weighted = (
        NetworkClassifier(class_weight=one, max_epochs=30).fit(features, targets)
        for one in (None, weight)
    )
    assert weighted.predict(features).sum() > 2 * plain.predict(features).sum()


def test_balanced_classes_are_found_as_by_logistic_regression():
    """600 rows with 23 of one class, and the linear network: with torch's weights it was 0.58."""
    random = np.random.default_rng(0)
    targets = np.repeat([1, 0], [23, 577])
    features = random.normal(0.9 * targets[:, None], 1.0, (600, 6))

    def balanced_accuracy(classifier):
        return cross_val_score(classifier, features, targets, scoring="balanced_accuracy").mean()

    reference = balanced_accuracy(LogisticRegression(class_weight="balanced"))
    network = NetworkClassifier(nn.Linear, class_weight="balanced")
    assert balanced_accuracy(network) > reference - 0.03
    assert reference > 0.8


# Threads and processes


def weights_of(seed):
    """The weights of a fit that draws random numbers in every step."""
    estimator = NetworkClassifier(partial(MLP, dropout=0.3), batch_size=50, max_epochs=3)
    estimator.set_params(random_state=seed).fit(*IRIS)
    return torch.cat([parameter.flatten() for parameter in estimator.network_.parameters()])


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_fits_at_a_time_are_those_of_lone_fits(backend):
    alone = [weights_of(seed) for seed in range(4)]
    filters = list(warnings.filters)
    level = logging.getLogger("lightning.pytorch").level
    for _ in range(3):
        together = Parallel(4, backend=backend)(delayed(weights_of)(seed) for seed in range(4))
        assert all(map(torch.equal, alone, together))
    assert list(warnings.filters) == filters
    assert logging.getLogger("lightning.pytorch").level == level


def test_a_vote_of_networks_inside_of_a_cross_validation_in_threads():
    networks = [
        (str(seed), NetworkClassifier(max_epochs=3, random_state=seed)) for seed in range(3)
    ]
    vote = VotingClassifier(networks, voting="soft")
    alone = cross_val_predict(vote, *IRIS, cv=3, method="predict_proba")
    vote.set_params(n_jobs=3)
    for _ in range(3):
        with parallel_backend("threading"):
            threads = cross_val_predict(vote, *IRIS, cv=3, method="predict_proba", n_jobs=3)
        np.testing.assert_array_equal(threads, alone)
