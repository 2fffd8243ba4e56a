"""The split, the statistics and the batches, against scikit-learn and by property."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_class_weight
from torch.utils.data import DataLoader, TensorDataset

from data.encoder import MAX_STANDARD_DEVIATIONS, robust_scale
from data.iris import Iris
from data.sampling import EpochSampler, row_order, row_orders
from data.tabular import RawTable, TabularData
from evaluation.plan import make_plan
from training.batches import TensorBatches


class Made(TabularData):
    """A table made by a test."""

    def __init__(self, table, **arguments):
        super().__init__(**arguments)
        self.table = table

    def load(self):
        return self.table


def made(rows=60, columns=3, classes=3, **arguments):
    features = np.random.default_rng(0).normal(5, 2, (rows, columns))
    names = [f"x{i}" for i in range(columns)], [f"class {i}" for i in range(classes)]
    table = Made(RawTable(features, np.arange(rows) % classes, *names), **arguments)
    table.setup()
    return table


def test_knows_its_table_before_a_network_is_built():
    iris = Iris()
    iris.setup()
    assert (iris.num_features, iris.num_classes) == (4, 3)
    assert iris.feature_names == [
        "sepal length (cm)",
        "sepal width (cm)",
        "petal length (cm)",
        "petal width (cm)",
    ]
    assert iris.class_names == ["setosa", "versicolor", "virginica"]


def test_statistics_are_standardscalers_on_the_training_rows():
    iris = Iris()
    iris.setup()
    raw = load_iris().data
    scaler = StandardScaler().fit(raw[iris.indices["train"]])
    for part, rows in iris.indices.items():
        np.testing.assert_allclose(
            iris.splits[part][0].numpy(), scaler.transform(raw[rows]), rtol=1e-6, atol=1e-6
        )
    train = iris.splits["train"][0].double()
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(train.std(0, unbiased=False), 1, atol=1e-6)
    state = iris.state_dict()
    np.testing.assert_allclose(state["mean"], raw[iris.indices["train"]].mean(0), rtol=1e-12)
    np.testing.assert_allclose(state["scale"], raw[iris.indices["train"]].std(0), rtol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9])
def test_a_constant_column_stays_finite(constant):
    table = made()
    features = table.table.features.copy()
    features[:, 1] = constant
    table = Made(table.table._replace(features=features))
    table.setup()
    assert all(
        part[0].isfinite().all() and part[0][:, 1].abs().max() < 1e-3
        for part in table.splits.values()
    )


def test_no_test_or_validation_row_changes_what_is_trained_on():
    before = made(val_fraction=0.2)
    features = before.table.features.copy()
    features[np.concatenate([before.indices["test"], before.indices["val"]])] *= 1000
    after = Made(before.table._replace(features=features), val_fraction=0.2)
    after.setup()
    assert torch.equal(before.splits["train"][0], after.splits["train"][0])
    assert not torch.equal(before.splits["test"][0], after.splits["test"][0])


@given(st.integers(30, 90), st.floats(0.1, 0.4), st.floats(0.1, 0.4), st.integers(0, 2**32 - 1))
def test_parts_are_disjoint_complete_and_stratified(rows, test_fraction, val_fraction, seed):
    table = made(rows, test_fraction=test_fraction, val_fraction=val_fraction, split_seed=seed)
    assert sorted(np.concatenate(list(table.indices.values()))) == list(range(rows))
    for part, fraction in {"test": test_fraction, "val": val_fraction}.items():
        assert len(table.indices[part]) == round(fraction * rows)
        counts = np.bincount(table.splits[part][1], minlength=3)
        assert counts.max() - counts.min() <= 2


def test_the_test_rows_depend_on_the_split_seed_alone():
    assert np.array_equal(
        made().indices["test"], made(val_fraction=0.3, batch_size=7).indices["test"]
    )
    assert not np.array_equal(made().indices["test"], made(split_seed=1).indices["test"])


def test_the_articles_split_is_the_articles():
    iris = Iris(test_fraction=0.2, val_fraction=0, stratify=False, split_seed=42)
    iris.setup()
    train, test = train_test_split(np.arange(150), test_size=0.2, random_state=42)
    assert np.array_equal(iris.indices["train"], train)
    assert np.array_equal(iris.indices["test"], test)
    assert list(iris.indices) == ["train", "test"]


def batches(rows, batch_size, sampler, rank=0, world_size=1):
    """TensorBatches of the row indices, as one process of several has them."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"), broadcast=lambda seed: seed)
    trainer = SimpleNamespace(global_rank=rank, world_size=world_size, strategy=strategy)
    indices = torch.arange(rows)
    return TensorBatches(TensorDataset(indices, indices * 2), batch_size, sampler, trainer=trainer)


def sampler(rows, epoch=0):
    order = EpochSampler(rows, seed=0, shuffle=True)
    order.set_epoch(epoch)
    return order


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 9))
def test_every_row_is_in_one_batch_and_the_short_one_is_kept(rows, batch_size, epoch):
    made = batches(rows, batch_size, sampler(rows, epoch))
    drawn = list(made)
    assert len(drawn) == len(made) == -(-rows // batch_size)
    sizes = [batch_size] * (rows // batch_size)
    if rows % batch_size:
        sizes.append(rows % batch_size)
    assert [len(first) for first, _ in drawn] == sizes
    assert sorted(torch.cat([first for first, _ in drawn]).tolist()) == list(range(rows))
    assert all(torch.equal(second, first * 2) for first, second in drawn)


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 9))
def test_fast_batches_are_those_of_a_dataloader(rows, batch_size, epoch):
    dataset = TensorDataset(torch.arange(rows), torch.arange(rows) * 2)
    theirs = DataLoader(dataset, batch_size, sampler=sampler(rows, epoch))
    ours = batches(rows, batch_size, sampler(rows, epoch))
    for our_batch, their_batch in zip(ours, theirs, strict=True):
        assert all(map(torch.equal, our_batch, their_batch))


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_processes_share_all_rows_in_as_many_steps(rows, batch_size, world_size):
    shares = [
        list(batches(rows, batch_size, sampler(rows), rank, world_size))
        for rank in range(world_size)
    ]
    assert len({len(share) for share in shares}) == 1
    drawn = {row for share in shares for batch, _ in share for row in batch.tolist()}
    assert drawn == set(range(rows))


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_every_process_evaluates_all_rows(rows, batch_size, world_size):
    drawn = torch.cat([first for first, _ in batches(rows, batch_size, None, 0, world_size)])
    assert torch.equal(drawn, torch.arange(rows))


def test_order_is_a_function_of_seed_and_epoch():
    assert np.array_equal(row_order(50, 1, 2), row_order(50, 1, 2))
    orders = {tuple(row_order(50, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@given(
    st.integers(1, 60),
    st.lists(st.integers(0, 2**64), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_orders_of_many_seeds_are_those_of_each(rows, seeds, epoch):
    orders = row_orders(rows, seeds, epoch)
    for order, seed in zip(orders, seeds, strict=True):
        assert np.array_equal(order, row_order(rows, seed, epoch))


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(0, 2**31), st.integers(0, 5))
def test_a_shuffled_epoch_is_the_runs_order(batch_size, seed, epoch):
    table = made(batch_size=batch_size)
    torch.manual_seed(seed)
    loader = table.train_dataloader()
    loader.sampler.set_epoch(epoch)
    features = torch.cat([batch[0] for batch in loader])
    assert torch.equal(features, table.splits["train"][0][row_order(len(features), seed, epoch)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; give 1 or more"),
        ({"test_fraction": 0.0}, "test_fraction is 0.0"),
        ({"test_fraction": 0.6, "val_fraction": 0.4}, "leave rows to train on"),
        ({"val_fraction": float("nan")}, "val_fraction nan"),
        ({"test_fraction": 0.02}, "without some of the 3 classes"),
        ({"test_fraction": 0.05, "stratify": False}, "without some of the 3 classes"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(**arguments)


def test_a_checkpoint_of_other_rows_is_refused():
    table = made()
    table.load_state_dict(table.state_dict())
    with pytest.raises(ValueError, match="trained on other rows"):
        made(split_seed=1).load_state_dict(table.state_dict())


def test_class_weights_are_those_of_the_training_rows():
    datamodule = Iris(class_weight="balanced", stratify=False, val_fraction=0.2)
    datamodule.setup()
    train = datamodule.splits["train"][1].numpy()
    expected = compute_class_weight("balanced", classes=np.arange(3), y=train)
    np.testing.assert_allclose(datamodule.class_weights, expected)
    assert len(set(expected)) > 1
    names = {"network": "MLP", "loss": "CrossEntropyLoss", "optimizer": "AdamW"}
    candidates = [{component: {"class": name} for component, name in names.items()}]
    plan = make_plan(datamodule, candidates, 5, 1, 2, 1, 0, members=None, memory=2**40)
    for (_, targets), weights in zip(
        [splits["train"] for splits in plan.splits], plan.class_weights, strict=True
    ):
        balanced = compute_class_weight("balanced", classes=np.arange(3), y=targets.numpy())
        np.testing.assert_allclose(weights, balanced)


@pytest.mark.parametrize("sign", [-1, 1])
def test_an_extreme_value_is_limited_on_both_sides(sign):
    iris = Iris()
    iris.setup()
    far = torch.full((1, 4), sign * 1e30, dtype=torch.float64)
    assert iris.encoder(far).tolist() == [[sign * MAX_STANDARD_DEVIATIONS] * 4]


def test_the_scale_of_a_number_whose_quartiles_are_equal_is_half_its_range():
    assert robust_scale(np.array([2.0] * 9 + [8.0])) == (2.0, 3.0)
    assert robust_scale(np.array([5.0, 5.0])) == (5.0, 1.0)
