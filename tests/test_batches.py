"""How rows reach the device: where they are, batches on their way, and bounded evaluations."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import evaluate as evaluate_module
from data.iris import Iris
from data.sampling import EpochSampler
from model.classifier import Classifier
from model.networks import MLP
from model.running_scores import RunningScores
from model.scores import METRICS, score
from model.scores import probabilities as probabilities_of
from tests.helpers import ROOT
from train import train
from training import batches, classifiers
from training.batches import TensorBatches, loader_of
from training.device_rows import DeviceRows, Transfer, are_on_device, evaluation_rows, row_bytes

SHORT = {"accelerator": "cpu", "pictures": "none", "max_epochs": 3}
CPU = torch.device("cpu")


def trainer_on(device):
    return SimpleNamespace(
        global_rank=0, world_size=1, strategy=SimpleNamespace(root_device=torch.device(device))
    )


@given(
    rows=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    gathered=st.integers(1, 200),
    shuffle=st.booleans(),
)
@settings(deadline=None)
def test_batches_are_the_same_however_many_are_gathered(rows, batch_size, gathered, shuffle):
    dataset = TensorDataset(torch.randn(rows, 3), torch.arange(rows))
    sampler = EpochSampler(rows, seed=1, shuffle=shuffle)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "GATHERED_VALUES", gathered)
        made = list(TensorBatches(dataset, batch_size, sampler, trainer=trainer_on("cpu")))
    expected = [dataset[order] for order in torch.from_numpy(sampler.indices()).split(batch_size)]
    assert len(made) == len(expected)
    for batch, (features, targets) in zip(made, expected, strict=True):
        assert torch.equal(batch[0], features)
        assert torch.equal(batch[1], targets)


def test_unshuffled_batches_are_no_copies():
    dataset = TensorDataset(torch.randn(10, 3), torch.arange(10))
    sampler = EpochSampler(10, seed=1, shuffle=False)
    (features, _), *_ = TensorBatches(dataset, 4, sampler, trainer=trainer_on("cpu"))
    assert features.data_ptr() == dataset.tensors[0].data_ptr()


@given(sizes=st.lists(st.integers(0, 5), max_size=8))
@settings(deadline=None)
def test_batches_on_their_way_to_the_device(sizes):
    """Each arrives as it was, also when its buffer holds another one by then."""
    sent = [(torch.randn(size, 2), torch.arange(size)) for size in sizes]
    arrived = list(Transfer(CPU).copies(iter(sent)))
    assert len(arrived) == len(sent)
    for there, here in zip(arrived, sent, strict=True):
        assert all(torch.equal(first, second) for first, second in zip(there, here, strict=True))


def test_the_next_batch_is_sent_before_one_is_used():
    sent = []

    def source():
        for index in range(3):
            sent.append(index)
            yield (torch.tensor([index]),)

    arriving = Transfer(CPU).copies(source())
    assert next(arriving)[0].item() == 0
    assert sent == [0, 1]


def test_rows_of_the_host_are_transferred_in_batches():
    """The meta device stands for a GPU: what is on it has no values, but shapes and a device."""
    dataset = TensorDataset(torch.randn(10, 3), torch.arange(10))
    rows = SimpleNamespace(place=lambda tensor: tensor)
    sampler = EpochSampler(10, seed=1, shuffle=True)
    made = TensorBatches(dataset, 4, sampler, trainer=trainer_on("meta"), rows=rows)
    assert [(batch[0].device.type, len(batch[0])) for batch in made] == [
        ("meta", 4),
        ("meta", 4),
        ("meta", 2),
    ]


def test_rows_are_moved_to_the_device_once():
    iris = Iris()
    iris.setup()
    rows = DeviceRows(iris, trainer_on("meta"))
    features, _ = iris.splits["train"]
    assert rows.place(features) is rows.place(features[:])
    assert rows.place(features).device.type == "meta"
    rows.is_on_device = False
    assert rows.place(features) is features


@pytest.mark.parametrize(
    ("rows_on", "needed", "free", "expected"),
    [
        ("auto", 4, 8, True),
        ("auto", 5, 8, False),
        ("host", 1, 8, False),
        ("device", 7, 8, True),
    ],
)
def test_where_rows_are(rows_on, needed, free, expected):
    assert are_on_device(rows_on, needed, free) is expected


def test_rows_that_do_not_fit_on_the_device():
    with pytest.raises(ValueError, match=r"rows need 3.0 GiB and 2.0 GiB are free; give host"):
        are_on_device("device", 3 * 2**30, 2 * 2**30)


def test_rows_of_an_evaluation_are_bounded_by_the_network():
    small = Classifier(4, 3)
    large = Classifier(4, 3, partial(MLP, hidden=[20_000]))
    assert row_bytes(nn.Linear(4, 3), torch.zeros(1, 4)) == 4 * (4 + 3)
    assert evaluation_rows(small, CPU) > 20_000
    assert evaluation_rows(large, CPU) < 300
    assert large.network.training
    iris = Iris()
    iris.setup()
    iris.make_loader = loader_of(iris, trainer_on("cpu"), large)
    loader = iris.evaluation_dataloader("test")
    assert loader.batch_size == evaluation_rows(large, CPU)


def test_metrics_of_many_rows_are_those_of_few(monkeypatch):
    data = partial(Iris, batch_size=16, val_fraction=0.2)
    kept = train(data, **SHORT, metric="auroc")
    monkeypatch.setattr(classifiers, "KEPT_LOGITS", 0)
    summed = train(data, **SHORT, metric="auroc")
    assert summed.best_epoch == kept.best_epoch
    assert summed.metrics() == pytest.approx(kept.metrics(), abs=2e-3)
    for split in kept.splits:
        assert summed.splits[split].recall == pytest.approx(kept.splits[split].recall)
        assert summed.splits[split].log_loss == pytest.approx(kept.splits[split].log_loss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("metrics", [(), METRICS])
def test_rows_are_counted_however_they_come(dtype, metrics):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3000, 3, generator=generator).to(dtype)
    targets = torch.randint(0, 3, (3000,), generator=generator)
    for size in (7, 1000, 3000):
        scores = RunningScores(3, metrics)
        for some, classes in zip(logits.split(size), targets.split(size), strict=True):
            scores.append((torch.tensor(1.0), some, classes))
        expected = score("accuracy", probabilities_of(logits), targets)
        assert scores.values(["accuracy"])["accuracy"] == pytest.approx(expected.item(), abs=1e-12)
        assert scores.sums["rows"] == 3000


def test_a_batch_larger_than_the_data():
    with pytest.raises(ValueError, match=r"batch_size is 121, more than the 120 training rows"):
        train(partial(Iris, batch_size=121), **SHORT)
    with pytest.raises(ValueError, match=r"batch_size is 140, more than the 135 training rows"):
        evaluate_module.evaluate(partial(Iris, batch_size=140), repeats=1, **CHEAP)


CHEAP = {"accelerator": "cpu", "max_epochs": 2}


def test_the_default_batch_of_a_table_may_be_larger():
    from data.table import Table

    table = Table(str(ROOT / "examples" / "flowers.csv"), "species")
    table.setup()
    assert table.batch_size > len(table.indices["train"])


def test_rows_of_a_population_are_on_its_device():
    data = partial(Iris, rows_on="host")
    with pytest.raises(ValueError, match="rows_on is host, but networks that are trained together"):
        train(data, members=2, **SHORT)
    with pytest.raises(ValueError, match="rows_on is host, but networks that are trained together"):
        evaluate_module.evaluate(data, repeats=1, **CHEAP)
    assert train(data, **SHORT).epochs == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("batch_size", [None, 16])
def test_rows_of_the_host_train_as_those_of_the_gpu(batch_size):
    options = SHORT | {"accelerator": "gpu", "devices": 1}
    metrics = [
        train(partial(Iris, batch_size=batch_size, rows_on=rows_on), **options).metrics()
        for rows_on in ("device", "host")
    ]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-6)
