"""Folds and members that share one table have the rows that each would have by itself."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.component import describe
from data import shared_rows
from data.encoder import Encoder
from data.folds import cross_validation, standardize_folds
from data.iris import Iris
from data.members import member_splits
from data.row_set import RowSet
from data.sampling import row_order
from data.shared_rows import SharedRows
from data.tabular import RawTable, TabularData
from model import recipe
from model.member import FoldData, Member
from model.member_rows import MemberRows
from model.networks import MLP
from model.population import Population
from tests.test_population import make_trainer


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_row_set_is_the_indices_it_was_made_of(data):
    table_rows = data.draw(st.integers(1, 300))
    rows = st.lists(st.integers(0, table_rows - 1), unique=True)
    indices = np.array(data.draw(rows), np.int64)
    if data.draw(st.booleans()):
        indices.sort()
    row_set = RowSet(indices, table_rows)
    assert len(row_set) == len(indices)
    assert np.array_equal(np.asarray(row_set), indices)
    assert list(row_set) == indices.tolist()
    numbers = np.random.default_rng(0).random(table_rows)
    assert np.array_equal(numbers[row_set], numbers[indices])


def test_rows_in_order_take_a_bit_each():
    indices = np.flatnonzero(np.arange(80_000) % 10)
    assert RowSet(indices, 80_000).content.nbytes == 10_000
    assert RowSet(np.arange(80_000), 80_000).content.nbytes == 16
    assert RowSet(indices[::-1], 80_000).content.nbytes == 4 * len(indices)
    assert RowSet(indices[:100], 80_000).content.nbytes == 400


def mixed_table(rows, seed, drift=0.0):
    """Numbers, outliers, gaps, text, dates; with drift, a number that grows from row to row."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 6))
    features[:, 1] = random.normal(1e6, 1e-2, rows)
    features[:, 2] = random.integers(0, 4, rows)
    features[:, 3] = random.integers(15_000, 20_000, rows) + random.random(rows)
    features[:, 4] = np.where(random.random(rows) < 0.8, 0, random.normal(size=rows))
    features[:, 5] += drift * np.arange(rows)
    features[random.random((rows, 6)) < 0.1] = np.nan
    features[random.integers(rows), 0] = 1e9
    targets = np.arange(rows) % 2
    names = ["a", "b", "colour", "when", "mostly 0", "growing"]
    categories = {"colour": ["blue", "green", "red", "white"]}
    return RawTable(features, targets, names, ["no", "yes"], categories, {"when": "%Y-%m-%d"})


@pytest.mark.parametrize("small_values", [0, 2**20], ids=["float32", "float64"])
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scaling=st.sampled_from(["standard", "robust"]),
    drift=st.sampled_from([0.0, 10.0]),
)
def test_a_fold_has_the_features_that_its_encoder_makes(small_values, seed, scaling, drift):
    table = mixed_table(60, seed, drift)
    datamodule = TabularData(split_seed=seed)
    if drift:
        datamodule.times = np.arange(60)
    folds = cross_validation(datamodule, table.targets, 3, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_rows, "SMALL_VALUES", small_values)
        shared, encoders = standardize_folds(table, folds, scaling)
    assert {id(rows.table) for splits in shared for rows in splits.values()} == {
        id(shared[0]["train"].table)
    }
    layout = table.layout()
    for fold, splits, encoder in zip(folds, shared, encoders, strict=True):
        train = np.asarray(fold.indices["train"])
        expected = Encoder(layout).fit(table.features[train], None, scaling)
        assert torch.equal(encoder.mean, expected.mean)
        assert torch.equal(encoder.scale, expected.scale)
        for split, rows in splits.items():
            raw = table.features[np.asarray(fold.indices[split])]
            features, targets = rows
            assert features.dtype == torch.float32
            torch.testing.assert_close(features, expected.transform(raw), rtol=2e-6, atol=2e-6)
            assert torch.equal(targets, torch.from_numpy(table.targets)[rows.indices])


def test_members_share_the_rows_that_they_were_cut_from():
    iris = Iris()
    iris.setup()
    members = member_splits(iris.splits, 5, iris)
    features, _ = iris.splits["train"]
    for member in members:
        assert member["train"].table.features is features
        assert member["val"].table.features is features
        assert member["test"] is members[0]["test"]


def shared_folds(monkeypatch, rows):
    """Ten folds of a table with gaps, held in float32."""
    monkeypatch.setattr(shared_rows, "SMALL_VALUES", 0)
    table = mixed_table(rows, seed=0)
    folds = cross_validation(TabularData(val_fraction=0.2), table.targets, 5, 2)
    splits, _ = standardize_folds(table, folds, "robust")
    return splits


@pytest.mark.parametrize("batch", [7, 40])
def test_chunks_of_shared_rows_are_those_of_kept_ones(monkeypatch, batch):
    splits = shared_folds(monkeypatch, rows=200)
    folds = [fold["train"] for fold in splits]
    owners = [0, 0, 3, 9, 1]
    monkeypatch.setattr("model.member_rows.CPU_CHUNK", 20_000)  # a few batches each
    shared = MemberRows(folds, owners, is_kept=False)
    kept = MemberRows(folds, owners, is_kept=True)
    orders = [row_order(shared.num_rows, seed, 0) for seed in range(len(owners))]
    order = torch.from_numpy(np.stack(orders).astype(np.int32))
    for rows in (shared, kept):
        rows.keep_only(torch.tensor([0, 2, 3]))
    for this_order in (None, order[[0, 2, 3]]):
        chunks = list(shared.chunks(batch, this_order))
        ((features, targets),) = kept.chunks(batch, this_order)
        assert len(chunks) > 1
        assert all(y.shape[1] % batch == 0 for _, y in chunks[:-1])
        assert torch.equal(torch.cat([x for x, _ in chunks], 2), features)
        assert torch.equal(torch.cat([y for _, y in chunks], 1), targets)
    for i, owner in enumerate([0, 3, 9]):
        assert torch.equal(features[i].T, folds[owner].features[orders[[0, 2, 3][i]]])
    positions = torch.tensor([[5, 1], [0, 0], [2, 3]])
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(shared.at(positions), kept.at(positions), strict=True)
    )


@pytest.mark.parametrize("batch_size", [None, 32])
@pytest.mark.parametrize("metric", ["log_loss", "auroc"])
def test_members_that_share_rows_learn_what_those_with_their_own_do(
    monkeypatch, batch_size, metric
):
    splits = shared_folds(monkeypatch, rows=203)  # folds of different sizes
    monkeypatch.setattr("model.member_rows.CPU_CHUNK", 20_000)
    components = {
        "network": partial(MLP, hidden=[8]),
        "loss": recipe.LOSS,
        "optimizer": recipe.OPTIMIZER,
        "schedule": None,
    }
    candidate = {name: describe(name, factory) for name, factory in components.items()}
    weights = [[0.5, 1.5], None] * 5
    folds = [FoldData(*fold) for fold in zip(splits, [None] * 10, weights, strict=True)]
    populations = []
    for keeps_rows, stack_bytes in ((True, 2**24), (False, 2**24), (False, 2**12)):
        population = Population(
            splits[0]["train"].table.features.shape[1],
            2,
            [candidate],
            [Member(0, i % 10, i) for i in range(12)],
            folds,
            batch_size=batch_size,
            metric=metric,
            keeps_rows=keeps_rows,
            stack_bytes=stack_bytes,
        )
        make_trainer(3).fit(population)
        populations.append(population)
    kept, *others = populations
    assert len(kept.stacks) < len(others[1].stacks)
    assert others[1].fits[0].evaluation_rows < 40  # held-out rows go through in slices
    for population in others:
        for member, outcome in kept.outcomes.items():
            other = population.outcomes[member]
            assert other.best_epoch == outcome.best_epoch
            np.testing.assert_allclose(other.probabilities, outcome.probabilities, atol=1e-5)
        for name, values in kept.learning_curves()[1].items():
            others_order = [index for stack in population.stack_indices for index in stack]
            own_order = [index for stack in kept.stack_indices for index in stack]
            ours = values[:, np.argsort(own_order)]
            theirs = population.learning_curves()[1][name][:, np.argsort(others_order)]
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_rows_do_not_travel_back_from_the_device():
    """They are in no buffer of the module, which moves when a fit ends, and in no checkpoint."""
    folds = [{"train": SharedRows.all_of(torch.randn(30, 4), torch.arange(30) % 3)}]
    folds[0]["test"] = folds[0]["train"]
    components = {"network": partial(MLP, hidden=[8]), "loss": recipe.LOSS}
    components |= {"optimizer": recipe.OPTIMIZER, "schedule": None}
    candidate = {name: describe(name, factory) for name, factory in components.items()}
    population = Population(4, 3, [candidate], [Member(0, 0, 0)], [FoldData(folds[0])])
    assert not list(population.buffers())
    make_trainer(1).fit(population)
    assert population.stacks[0].splits["train"].kept is None
