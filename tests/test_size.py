"""A network too large for memory is refused before it is built."""

import re
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from torch.optim import SGD, Adam, AdamW

from cli.command import command
from evaluate import evaluate
from evaluation import size
from evaluation.devices import available_memory
from evaluation.size import check_size, count_parameters, count_states, memory_of_network
from model.networks import MLP
from model.residual import ResidualMLP
from train import train


@pytest.mark.parametrize("function", [train, evaluate])
@pytest.mark.parametrize(
    "network",
    [
        ["--network", "ResidualMLP", "--network.width", "65536"],
        ["--network.hidden", "[300000,300000]"],
    ],
)
def test_says_how_large_it_is_and_what_would_fit(function, network, capsys):
    with pytest.raises(SystemExit) as stop:
        command(function, ["--accelerator", "cpu", *network])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    found = re.fullmatch(
        r"error: network \w+ has ([\d,]+) parameters, which need ([\d,.]+) GiB .* ([\d,.]+) are "
        r"available; ([\d,]+) parameters would fit: give a smaller network, or more .* fsdp\n",
        error,
    )
    assert found, error
    parameters, needed, available, fitting = (float(n.replace(",", "")) for n in found.groups())
    assert needed == pytest.approx(16 * parameters / 2**30, rel=1e-3, abs=0.1)
    assert fitting == pytest.approx(available * 2**30 / 16, rel=0.05)
    assert fitting < parameters


@pytest.mark.parametrize(
    "network",
    [
        ["--network.hidden", "[10000000000000,10000000000000]"],
        ["--network.hidden", "[100000000000000000000]"],
        ["--network", "ResidualMLP", "--network.width", "10000000000"],
    ],
)
def test_a_layer_too_large_to_be_counted_is_one_line(network, capsys):
    with pytest.raises(SystemExit) as stop:
        command(train, ["--accelerator", "cpu", *network])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error == (
        "error: the network has a layer of more than 2^63 bytes; give a smaller network\n"
    )


def test_what_is_said_to_fit_does():
    components = {"network": {"class": "ResidualMLP", "width": 64}, "optimizer": {"class": "Adam"}}
    parameters = sum(p.numel() for p in ResidualMLP(4, 3, width=64).parameters())
    check_size(components, 4, 3, 16 * parameters)
    check_size(components, 4, 3, 8 * parameters, bytes_each=2)
    with pytest.raises(ValueError, match=f"{parameters - 1:,} parameters would fit"):
        check_size(components, 4, 3, 16 * parameters - 1)


def test_counts_without_memory_and_without_random_numbers():
    state = torch.get_rng_state()
    assert count_parameters(MLP, 4, 10**6) == 4 * 128 + 128 + 129 * 10**6
    assert torch.equal(torch.get_rng_state(), state)
    assert count_parameters(lambda *_: torch.nn.Linear(2, 2)(torch.ones(1, 3)), 4, 3) == 0


def test_counts_what_an_optimizer_keeps():
    assert count_states(Adam) == 2
    assert count_states(lambda weights: AdamW(weights, amsgrad=True)) == 3
    assert count_states(SGD) == 0
    assert count_states(lambda weights: SGD(weights, momentum=0.9)) == 1


def test_devices_that_divide_a_network_have_room_for_more(monkeypatch):
    trainer = Trainer(accelerator="cpu", devices=1, logger=False)
    machine = available_memory(torch.device("cpu"))
    assert memory_of_network(trainer) == machine
    # Four processes on each of two machines, as a Trainer under torchrun would have them.
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    several = SimpleNamespace(strategy=strategy, world_size=8, num_nodes=2)
    assert memory_of_network(several) == 2 * machine  # is_sharded: no DDP strategy
    monkeypatch.setattr(size, "is_sharded", lambda trainer: False)
    assert memory_of_network(several) == machine // 4
