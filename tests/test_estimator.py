"""NetworkClassifier: scikit-learn's own checks, and the same numbers as the Classifier inside."""

import logging
import os
import re
import runpy
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from joblib import Parallel, delayed, parallel_backend
from lightning.pytorch import Trainer
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import AdaBoostClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from data.typed import whole_frame
from model import recipe
from model.classifier import Classifier
from model.networks import MLP
from tests.helpers import ROOT, forked
from training.estimator import NetworkClassifier
from training.rows import Rows

IRIS = load_iris(return_X_y=True)
# They want 1e-7, which is float32's precision: they pass below, with a network in float64.
EXACT = [
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
]


def test_scikit_learns_checks_all_pass(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # without it one of them is skipped
    found = check_estimator(NetworkClassifier(), on_fail=None)
    assert len(found) > 60
    not_passed = {check["check_name"] for check in found if check["status"] != "passed"}
    assert not_passed == set(EXACT)


def test_it_is_the_same_training():
    features, targets = IRIS
    settings = partial(MLP, hidden=[8]), partial(SGD, lr=0.5)
    estimator = NetworkClassifier(
        settings[0], optimizer=settings[1], batch_size=16, max_epochs=5, random_state=3
    )
    seed = np.random.RandomState(3).randint(2**31 - 1)
    torch.manual_seed(seed)
    rows = Rows(features, targets, 3, 16)
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


@pytest.mark.parametrize(("backend", "jobs"), [("threading", 4), ("loky", 2)])
def test_fits_at_a_time_are_those_of_lone_fits(backend, jobs):
    alone = [weights_of(seed) for seed in range(4)]
    filters = list(warnings.filters)
    level = logging.getLogger("lightning.pytorch").level
    for _ in range(3):
        together = Parallel(jobs, backend=backend)(delayed(weights_of)(seed) for seed in range(4))
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


# Weights of rows


class InFloat64(nn.Module):
    """The default network with weights and logits in float64."""

    def __init__(self, num_features, num_classes):
        super().__init__()
        self.network = MLP(num_features, num_classes).double()

    def forward(self, features):
        return self.network(features.double())


@pytest.mark.parametrize("name", EXACT)
def test_weights_are_repeated_rows_to_scikit_learns_tolerance_in_float64(name):
    getattr(estimator_checks, name)("NetworkClassifier", NetworkClassifier(InFloat64))


def weighted_table():
    """Numbers and text, some missing, with whole weights of which some are 0."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": np.where(random.random(80) < 0.2, np.nan, random.normal(size=80)),
            "colour": random.choice(["red", "blue", None], 80),
        }
    )
    targets = np.where(frame["colour"] == "red", "a", random.choice(["a", "b"], 80))
    return frame, targets, random.integers(0, 4, 80)


@pytest.mark.parametrize("class_weight", [None, "balanced", {"a": 1.0, "b": 3.0}])
def test_whole_weights_are_repeated_rows(class_weight):
    frame, targets, weights = weighted_table()
    estimator = NetworkClassifier(max_epochs=50, class_weight=class_weight)
    weighted = clone(estimator).fit(frame, targets, sample_weight=weights)
    repeated = clone(estimator).fit(frame.loc[frame.index.repeat(weights)], targets.repeat(weights))
    for name in ("fill", "mean", "scale"):
        statistics = (getattr(one.encoder_, name) for one in (weighted, repeated))
        np.testing.assert_allclose(*statistics, rtol=1e-12)
    probabilities = (one.predict_proba(frame) for one in (weighted, repeated))
    np.testing.assert_allclose(*probabilities, rtol=1e-5)


def test_equal_weights_are_none():
    networks = [
        NetworkClassifier(max_epochs=5).fit(*IRIS, sample_weight=weight)
        for weight in (None, 2.0, np.full(150, 0.1))
    ]
    expected, *others = (network.predict_proba(IRIS[0]) for network in networks)
    for probabilities in others:
        np.testing.assert_array_equal(probabilities, expected)


def test_a_class_of_no_weight_keeps_its_place():
    weights = np.where(IRIS[1] == 1, 0.0, 1.0)
    network = NetworkClassifier(max_epochs=50).fit(*IRIS, sample_weight=weights)
    assert network.classes_.tolist() == [0, 1, 2]
    assert set(network.predict(IRIS[0])) == {0, 2}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(149), "sample_weight is of shape (149,); give a number for each of 150 rows"),
        (np.eye(150), "sample_weight is of shape (150, 150); give a number for each of 150 rows"),
        (np.arange(150) - 1, "sample_weight has -1; give numbers of 0 or more"),
        (np.zeros(150), "sample_weight is zero for every row; give one above 0"),
        (np.full(150, np.nan), "sample_weight contains NaN"),
    ],
)
def test_weights_that_cannot_be(weights, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        NetworkClassifier().fit(*IRIS, sample_weight=weights)


def test_a_loss_without_reduction_cannot_weight_rows():
    with pytest.raises(ValueError, match="Plain cannot weight rows; give its constructor an argu"):
        NetworkClassifier(loss=Plain).fit(*IRIS, sample_weight=np.arange(150))


class Plain(nn.Module):
    def forward(self, logits, targets):
        return nn.functional.cross_entropy(logits, targets)


def test_boosting_weights_the_rows():
    """Stumps of one hidden unit: together they are better than one."""
    stump = NetworkClassifier(partial(MLP, hidden=[1]), max_epochs=20)
    boosted = AdaBoostClassifier(stump, n_estimators=5, random_state=0).fit(*IRIS)
    assert len(boosted.estimators_) > 1
    assert boosted.score(*IRIS) > clone(stump).fit(*IRIS).score(*IRIS)


# DataFrames and sparse matrices


@pytest.mark.parametrize("kind", ["pandas", "nullable", "category", "polars"])
def test_columns_of_text_become_categories(kind):
    frame, targets, _ = weighted_table()
    converted = {
        "pandas": frame,
        "nullable": frame.convert_dtypes(),
        "category": frame.astype({"colour": "category"}),
        "polars": pl.DataFrame(frame).with_columns(pl.col("size").fill_nan(None)),
    }[kind]
    network = NetworkClassifier(max_epochs=50).fit(converted, targets)
    assert network.encoder_.layout.names == [
        *("size", "size missing"),
        *("colour=blue", "colour=red", "colour missing"),
    ]
    features = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True)), ["size"]),
        (OneHotEncoder(), ["colour"]),
    )
    filled = frame.assign(colour=frame["colour"].fillna(frame["colour"].mode()[0]))
    expected = StandardScaler().fit_transform(features.fit_transform(filled))
    columns = network.columns_.matrix(whole_frame(converted))
    made = network.encoder_(torch.from_numpy(columns)).numpy()
    np.testing.assert_allclose(made[:, :4], expected, atol=1e-6)
    one = converted[:1]
    np.testing.assert_allclose(
        network.predict_proba(one), network.predict_proba(converted)[:1], atol=1e-6
    )
    assert len(network.feature_names_in_) == network.n_features_in_ == 2


def test_text_needs_its_columns_to_predict():
    frame, targets, _ = weighted_table()
    network = NetworkClassifier(max_epochs=5).fit(frame, targets)
    with pytest.raises(ValueError, match="feature names should match"):
        network.predict(frame.rename(columns={"size": "weight"}))
    with pytest.raises(ValueError, match="column 'size' is 'big'; give a number up to"):
        network.predict(frame.assign(size="big"))
    assert cross_val_score(network, frame, targets, cv=3, error_score="raise").mean() > 0.5


def test_a_sparse_matrix_is_its_array():
    sparse = csr_matrix(np.where(IRIS[0] > 2, IRIS[0], 0))
    dense = NetworkClassifier(max_epochs=5).fit(sparse.toarray(), IRIS[1])
    network = NetworkClassifier(max_epochs=5).fit(sparse.todok(), IRIS[1])
    np.testing.assert_array_equal(
        network.predict_proba(sparse), dense.predict_proba(sparse.toarray())
    )
    with pytest.raises(ValueError, match="X is sparse, of 150 rows and 2,000,000 columns, and"):
        NetworkClassifier().fit(csr_matrix((150, 2_000_000)), IRIS[1])


def test_the_logarithms_are_those_of_the_probabilities():
    network = NetworkClassifier(max_epochs=50).fit(*IRIS)
    logarithms = network.predict_log_proba(IRIS[0])
    np.testing.assert_allclose(logarithms, np.log(network.predict_proba(IRIS[0])), rtol=1e-4)
    far = network.predict_log_proba(IRIS[0] * 1e9)
    assert np.isfinite(far).all()


# Functions and objects as components


def make_linear(num_features, num_classes, layer=nn.Linear):
    return layer(num_features, num_classes)


def sgd(parameters):
    return SGD(parameters, lr=0.1)


WORK = {
    "a function": {"network": make_linear},
    "a lambda": {"network": lambda features, classes: nn.Linear(features, classes)},
    "a class among arguments": {"network": partial(make_linear, layer=nn.Linear)},
    "a dictionary": {"network": {"class": "Linear"}},
    "a loss": {"loss": nn.CrossEntropyLoss()},
    "a function that makes a loss": {"loss": lambda: nn.CrossEntropyLoss()},
    "a function that is a loss": {"loss": nn.functional.cross_entropy},
    "an optimizer's function": {"optimizer": sgd},
    "a schedule's function": {"schedule": lambda optimizer: StepLR(optimizer, 10)},
}


@pytest.mark.parametrize("kind", WORK)
@pytest.mark.parametrize("weights", [None, "classes", "rows"])
def test_functions_and_losses_work(kind, weights):
    expected = {"network": nn.Linear, "loss": nn.CrossEntropyLoss, "max_epochs": 5}
    plain = expected | {"optimizer": {"class": "SGD", "lr": 0.1}, "schedule": None}
    if "schedule" in WORK[kind]:
        plain["schedule"] = partial(StepLR, step_size=10)
    settings = {"class_weight": {0: 1, 1: 2, 2: 3} if weights == "classes" else None}
    rows = np.arange(150) if weights == "rows" else None
    networks = [
        clone(NetworkClassifier(**plain | given, **settings)).fit(*IRIS, sample_weight=rows)
        for given in ({}, WORK[kind])
    ]
    assert repr(networks[1])
    np.testing.assert_allclose(*(one.predict_proba(IRIS[0]) for one in networks), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": nn.Linear(4, 3)}, "network is an object of Linear, which each fit would go "),
        (
            {"optimizer": SGD(nn.Linear(4, 3).parameters(), lr=0.1)},
            "optimizer is an object of SGD, which holds the weights of another network; give a ",
        ),
        ({"network": "MLP"}, "network is 'MLP'; give a class, a function, or a functools.partial"),
        ({"optimizer": None}, "optimizer is None; give a class, a function, or a functools.par"),
        ({"loss": 3}, "loss is 3; give a class, a function, or a functools.partial of one"),
    ],
)
def test_what_cannot_be_a_component_is_one_line(given, message):
    with pytest.raises(ValueError, match=message):
        NetworkClassifier(**given).fit(*IRIS)


@pytest.mark.parametrize("name", ["max_epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "5"])
def test_what_cannot_be_a_count_is_refused(name, value):
    with pytest.raises((TypeError, ValueError), match=f"^{name} "):
        NetworkClassifier(**{name: value}).fit(*IRIS)


def test_numbers_that_are_too_large_are_refused():
    with pytest.raises(ValueError, match=r"row 1, column 'column 0'; give a number up to 1e\+100"):
        NetworkClassifier().fit(IRIS[0] * 1e200, IRIS[1])


def test_a_function_without_reduction_cannot_weight_rows():
    losses = {
        "the loss is a function that cannot weight rows": lambda logits, targets: (
            nn.functional.cross_entropy(logits, targets)
        ),
        "the loss, an object of Plain, cannot weight rows": Plain(),
    }
    for message, loss in losses.items():
        network = NetworkClassifier(loss=loss, max_epochs=2).fit(*IRIS)
        with pytest.raises(ValueError, match=message):
            network.fit(*IRIS, sample_weight=np.arange(150))


SCRIPT = """
import joblib
import numpy as np
from functools import partial
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from lightning_iris import MLP, NetworkClassifier

if __name__ == "__main__":
    iris = load_iris(as_frame=True)
    frame = iris.data.assign(kind=iris.target_names[iris.target])
    network = NetworkClassifier(partial(MLP, hidden=[8]), max_epochs=5)
    network.fit(frame, iris.target)
    pipeline = make_pipeline(StandardScaler(), NetworkClassifier(max_epochs=5))
    grid = {"networkclassifier__network__hidden": [[4], [8]]}
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(iris.data, iris.target)
    joblib.dump((network, search, frame), "fitted.joblib")
    np.save("expected.npy", [network.predict_proba(frame), search.predict_proba(iris.data)])
"""
LOADING = """
import joblib
import numpy as np

network, search, frame = joblib.load("fitted.joblib")
found = [network.predict_proba(frame), search.predict_proba(frame.drop(columns="kind"))]
np.testing.assert_array_equal(found, np.load("expected.npy"))
"""


def test_what_a_script_dumps_another_process_loads():
    for name, text in {"fit.py": SCRIPT, "use.py": LOADING}.items():
        Path(name).write_text(text)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "fit.py"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    done = forked(runpy.run_path, "use.py")
    assert done.returncode == 0, done.stderr
