"""Options of a fit: accumulated gradients, torch.compile, throughput and curves over epochs."""

from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer, seed_everything
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import TensorDataset

from cli.command import command
from data.iris import Iris
from model import recipe
from model.convnet import ConvNet
from model.networks import MLP
from tests.helpers import run, weights
from train import train
from training.accumulation import batch_share
from training.batches import TensorBatches
from training.callbacks import FitBar
from training.throughput import Throughput, flops_per_row, peak_flops

# Steps of plain SGD: weights show every gradient, without the scaling of Adam.
SGD = ["--optimizer", "SGD", "--optimizer.lr", "0.3", "--schedule", "null", "--pictures", "none"]


def kept(version):
    return weights(Path("lightning_logs", f"version_{version}", "checkpoints", "best.ckpt"))


def scalars(version):
    events = EventAccumulator(str(Path("lightning_logs", f"version_{version}")))
    events.Reload()
    return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}


# 120 training rows: the last group has 8 rows in batches of 7 and 1; two batches of 20 in place of
# four; a single batch; one group that is larger than the epoch.
@pytest.mark.parametrize(
    ("batch", "group", "more"),
    [(7, 4, []), (20, 4, []), (7, 4, ["--trainer.limit_train_batches", "5"]), (50, 9, [])],
)
def test_accumulated_batches_are_one_large_batch(batch, group, more):
    line = [*SGD, *more, "--max_epochs", "3", "--trainer.gradient_clip_val", "0.4"]
    accumulate = ["--trainer.accumulate_grad_batches", str(group)]
    run(*line, *accumulate, "--data.batch_size", str(batch))
    if more:  # 35 rows, as a batch of 28 and one of 7, which no other setting gives
        return check_plain_loop(batch, group)
    run(*line, "--data.batch_size", str(min(batch * group, 120)))
    for name, tensor in kept(1).items():
        torch.testing.assert_close(kept(0)[name], tensor, rtol=0, atol=1e-6)
    return None


def check_plain_loop(batch, group):
    """The steps of a plain loop over 5 batches of 7 rows, 4 of which make a group."""
    datamodule = Iris(batch_size=batch)
    datamodule.setup()
    features, targets = datamodule.splits["train"]
    seed_everything(0, verbose=False)
    network = recipe.NETWORK(4, 3)
    criterion = recipe.LOSS()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    loader = datamodule.train_dataloader()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        order = torch.as_tensor(list(loader.sampler))
        for rows in (order[: batch * group], order[batch * group : batch * (group + 1)]):
            optimizer.zero_grad()
            criterion(network(features[rows]), targets[rows]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.4)
            optimizer.step()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(kept(0)[f"network.{name}"], tensor, rtol=0, atol=1e-6)


class FitOf:
    """What `batch_share` asks of a Trainer."""

    def __init__(self, rows, batch, group):
        self.global_rank = 0
        self.world_size = 1
        self.strategy = type("Strategy", (), {"root_device": torch.device("cpu")})
        self.train_dataloader = TensorBatches(TensorDataset(torch.zeros(rows)), batch, trainer=self)
        self.num_training_batches = len(self.train_dataloader)
        self.accumulate_grad_batches = group


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 9))
def test_every_row_of_a_group_counts_the_same(rows, batch, group):
    trainer = FitOf(rows, batch, group)
    counts = [len(tensors[0]) for tensors in trainer.train_dataloader]
    for start in range(0, len(counts), group):
        members = range(start, min(start + group, len(counts)))
        total = sum(counts[i] for i in members)
        for i in members:
            share = batch_share(trainer, i)
            # Lightning divides by the size of the group; a mean divides by the batch's rows.
            assert share / group / counts[i] == pytest.approx(1 / total)
    trainer.train_dataloader = [None] * len(counts)  # batches alone are known
    shares = [batch_share(trainer, i) for i in range(len(counts))]
    assert sum(shares) / group == pytest.approx(-(-len(counts) // group))


def test_compiled_networks_learn_the_same():
    line = ["--network.hidden", "[16]", "--network.dropout", "0.2", "--pictures", "none"]
    line += ["--optimizer", "Adam", "--optimizer.lr", "0.01", "--schedule", "null"]
    plain = run(*line, "--max_epochs", "6")
    run(*line, "--max_epochs", "3", "--compile")
    command(train, ["--resume", "lightning_logs/version_1", "--max_epochs", "6"])
    result = run(*line, "--max_epochs", "6", "--compile", "true")
    assert result["train/loss"] == pytest.approx(plain["train/loss"], abs=1e-6)
    for version in (1, 2):
        assert kept(version).keys() == kept(0).keys()  # no _orig_mod
        for name, tensor in kept(0).items():
            torch.testing.assert_close(kept(version)[name], tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("line", "compiler", "message"),
    [
        ("--compile", "none", "--compile needs a compiler, and there is no none; install "),
        ("--compile --members 3", "python", "3 are trained as one; give --members 1"),
    ],
)
def test_refuses_to_compile(line, compiler, message, monkeypatch, capsys):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(SystemExit) as stop:
        command(train, ["--accelerator", "cpu", *line.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("lightning_logs").exists()


def test_speed_is_in_the_bar_and_in_tensorboard(monkeypatch, capsys):
    shown = property(lambda bar: False, lambda bar, value: None)  # no terminal hides the bar
    monkeypatch.setattr(FitBar, "is_disabled", shown, raising=False)
    monkeypatch.setattr(Throughput, "seconds", 0.0)
    run("--max_epochs", "500", "--pictures", "none")  # a bar is drawn ten times a second
    assert "rows/s=" in capsys.readouterr().err
    logged = scalars(0)
    rates = logged["values/throughput/rows_per_second"]
    assert [event.step for event in rates] == list(range(1, 501))
    flops = [event.value * 1e12 for event in logged["values/throughput/teraflops_per_second"]]
    # A product forward, one for the weights' gradient, one for the input's but in the first layer.
    expected = 6 * (4 * 128 + 128 * 3) - 2 * 4 * 128
    assert flops == pytest.approx([event.value * expected for event in rates], rel=1e-5)
    assert "values/throughput/share_of_peak" not in logged  # nobody knows a CPU's


def test_short_fits_log_their_speed_once():
    run("--max_epochs", "3", "--pictures", "none")
    logged = {tag: events for tag, events in scalars(0).items() if "/throughput/" in tag}
    assert list(logged) == ["values/throughput/rows_per_second"]
    assert len(logged["values/throughput/rows_per_second"]) == 1


def test_counts_the_operations_of_a_step():
    assert flops_per_row(partial(MLP, 10, 3, [20]), 10) == 6 * (200 + 60) - 2 * 200
    assert flops_per_row(partial(ConvNet, 64, 10), 64) > 10**6
    assert flops_per_row(lambda: torch.nn.Linear(2, 2), 3) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_gpu_has_a_peak():
    assert peak_flops(Trainer(accelerator="gpu", devices=1, precision="bf16-mixed", logger=False))


def test_curves_over_epochs():
    line = ["--max_epochs", "4", "--pictures", "none"]
    run(*line, "--data.batch_size", "25", "--data.val_fraction", "0.2")
    logged = scalars(0)
    for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/log_loss"):
        steps, epochs = logged[name], logged[f"{name}/by_epoch"]
        assert [event.step for event in steps] == [4, 8, 12, 16]
        assert [event.step for event in epochs] == [1, 2, 3, 4]
        assert [event.value for event in steps] == [event.value for event in epochs]
    run(*line)  # all rows in a step: the step is the epoch
    assert not [tag for tag in scalars(1) if tag.endswith("by_epoch")]
