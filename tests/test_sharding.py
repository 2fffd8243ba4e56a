"""--strategy fsdp: two processes that share the weights train what one trains (gloo, on a CPU)."""

import json
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch.distributed.tensor import DTensor

from cli.command import command
from evaluation.devices import check_processes
from export import export
from predict import predict
from tests.helpers import ROOT, python, run, two_forks, weights
from train import train
from training.sharding import ShardedClassifier

LINE = [
    *("--accelerator", "cpu", "--network", "ResidualMLP", "--network.width", "16"),
    *("--optimizer", "Adam", "--optimizer.lr", "0.005", "--schedule", "null"),
    *("--pictures", "none", "--data.val_fraction", "0.2", "--trainer.gradient_clip_val", "0.5"),
    *("--data.class_weight", "balanced"),
]
SHARDED = ["--strategy", "fsdp", "--devices", "2"]


def train_watched():
    """Both processes do this: one run, one that is resumed; and write what each of them holds."""
    configure = ShardedClassifier.configure_model

    def watched(self):
        configure(self)
        shares = [p.to_local().numel() for p in self.parameters() if isinstance(p, DTensor)]
        Path(f"rank_{self.trainer.global_rank}").write_text(str(sum(shares)))

    ShardedClassifier.configure_model = watched
    line = [*LINE, *SHARDED]
    command(train, [*line, "--max_epochs", "8"])
    command(train, [*line, "--max_epochs", "3"])
    command(train, ["--resume", "lightning_logs/version_1", "--max_epochs", "8"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes trained a network in one go (version_0) and resumed (version_1)."""
    folder = tmp_path_factory.mktemp("sharded")
    with chdir(folder):
        done = two_forks(train_watched)
    assert done.returncode == 0, done.stderr
    return folder


def read(folder, version):
    run_dir = Path(folder, "lightning_logs", f"version_{version}")
    return json.loads((run_dir / "result.json").read_text()), run_dir / "checkpoints"


@pytest.mark.parametrize("version", [0, 1], ids=["in one go", "resumed"])
def test_two_processes_train_what_one_trains(folder, version):
    alone = run(*LINE, "--max_epochs", "8")
    result, checkpoints = read(folder, version)
    for split in ("train", "val", "test"):
        assert result[f"{split}/loss"] == pytest.approx(alone[f"{split}/loss"], abs=1e-5)
        assert result[f"{split}/accuracy"] == alone[f"{split}/accuracy"]
    assert result["num_parameters"] == alone["num_parameters"]
    mine, theirs = read(".", 0)[1], checkpoints
    for name in ("best.ckpt", "last.ckpt"):
        expected = weights(mine / name)
        state = weights(theirs / name)
        assert state.keys() == expected.keys()
        for key, tensor in expected.items():
            assert type(state[key]) is torch.Tensor
            torch.testing.assert_close(state[key], tensor, rtol=0, atol=1e-5)
    before, after = (
        torch.load(path / "last.ckpt", weights_only=True)["optimizer_states"][0]
        for path in (mine, theirs)
    )
    for name in ("params", "lr"):
        assert before["param_groups"][0][name] == after["param_groups"][0][name]
    for index, state in before["state"].items():
        torch.testing.assert_close(after["state"][index], state, rtol=0, atol=1e-5)


def test_each_process_holds_its_share(folder):
    shares = [int(Path(folder, f"rank_{rank}").read_text()) for rank in (0, 1)]
    total = read(folder, 0)[0]["num_parameters"]
    assert sum(shares) == total
    assert max(shares) < 0.53 * total


def test_a_laptop_reads_the_checkpoint(folder, capsys):
    checkpoint = read(folder, 1)[1] / "best.ckpt"
    command(predict, [str(checkpoint), str(ROOT / "examples" / "flowers.csv")])
    assert len(capsys.readouterr().out.splitlines()) == 151
    command(export, [str(checkpoint), "model.pt2"])
    assert Path("model.pt2").exists()


def test_a_layer_whose_output_is_a_view_is_sharded_without_a_word(tmp_path):
    """As that of the default network of a Table from 1,000 rows on."""
    line = ["--network.embedding", "4", "--max_epochs", "5", "--pictures", "none"]
    done = python("train.py", "--accelerator", "cpu", "--strategy", "fsdp", *line, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    alone = run(*line)
    result = json.loads((tmp_path / "lightning_logs/version_0/result.json").read_text())
    assert result["train/loss"] == pytest.approx(alone["train/loss"], abs=1e-6)


def test_only_tested_strategies_are_taken():
    trainer = SimpleNamespace(strategy=FSDPStrategy(), world_size=1)
    with pytest.raises(ValueError, match=r"FSDPStrategy, .*; give auto, ddp or fsdp"):
        check_processes(trainer)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--strategy fsdp --members 3",
            "strategy is ModelParallelStrategy; give auto or ddp",
        ),
        ("--strategy fsdp --precision 64-true", "does not support"),
    ],
)
def test_refuses_what_cannot_be_shared(line, message, capsys):
    with pytest.raises(SystemExit) as stop:
        command(train, ["--accelerator", "cpu", *line.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("lightning_logs").exists()
