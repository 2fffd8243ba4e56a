"""Makes the files beside it: python tests/golden/make.py, once for each format of a checkpoint.

A file that is already there is never overwritten: every later version must be able to read it.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import polars as pl  # noqa: E402

from data.checkpoint_format import FORMAT  # noqa: E402
from predict import load  # noqa: E402

TABLE = "tests/golden/table.csv"
DATA = ["--data=Table", f"--data.path={TABLE}", "--data.target=kind", "--accelerator=cpu"]
SMALL = [*DATA, "--network.hidden=[4]"]
THREE_FOLDS = ["--folds=3", "--repeats=1"]
# Every group of flags, most with a value that is not the default.
OPTIONS = [
    *DATA,
    "--data.ignore=[wet]",
    "--data.delimiter=,",
    "--data.batch_size=8",
    "--data.test_fraction=0.25",
    "--data.val_fraction=0.25",
    "--data.stratify=false",
    "--data.split_seed=3",
    "--data.class_weight=balanced",
    "--network=MLP",
    "--network.hidden=[5, 4]",
    "--network.activation=Tanh",
    "--network.dropout=0.1",
    "--network.init_std=0.3",
    "--loss=CrossEntropyLoss",
    "--loss.label_smoothing=0.1",
    "--optimizer=SGD",
    "--optimizer.lr=0.05",
    "--optimizer.momentum=0.9",
    "--optimizer.nesterov=true",
    "--schedule=CosineAnnealingLR",
    "--schedule.eta_min=0.001",
    "--devices=1",
    "--max_epochs=20",
    "--patience=5",
    "--seed=7",
]
TRAIN_OPTIONS = [*OPTIONS, "--pictures=[ConfusionMatrix]", "--trainer.gradient_clip_val=1.0"]
SWEEP_OPTIONS = [
    *OPTIONS,
    *THREE_FOLDS,
    "--seeds=2",
    "--inner_folds=2",
    "--sweep.optimizer.lr=[0.05, 0.1]",
    "--sweep.network.hidden=[[4], [5, 4]]",
]


def main() -> None:
    """Write checkpoints of this format with what they predict, and the configs of runs."""
    with TemporaryDirectory() as folder:
        for width in (4, 8):
            config = f"network:\n  class: MLP\n  hidden:\n  - {width}\n"
            Path(folder, f"width_{width}.yaml").write_text(config)
        compared = [f"{folder}/width_4.yaml", f"{folder}/width_8.yaml"]

        small = run(folder, "train.py", *SMALL)
        population = run(folder, "evaluate.py", *SMALL, *THREE_FOLDS, "--members=1", "--save")
        options = run(folder, "train.py", *TRAIN_OPTIONS)
        sweep = run(folder, "evaluate.py", *SWEEP_OPTIONS)
        compare = run(folder, "evaluate.py", *DATA, *THREE_FOLDS, "--compare", *compared)

        keep_checkpoint(small / "checkpoints" / "best.ckpt", "best")
        keep_checkpoint(population / "checkpoints" / "population.ckpt", "population")
        keep_checkpoint(options / "checkpoints" / "best.ckpt", "options")
        keep_config(options, "train")
        keep_config(sweep, "sweep")
        keep_config(compare, "compare")


def run(folder: str, script: str, *flags: str) -> Path:
    """Run a script in the project's folder; the new folder of its run in `folder`."""
    before = set(Path(folder).iterdir())
    line = [sys.executable, script, *flags, "--log_dir", folder]
    subprocess.run(line, cwd=ROOT, check=True)
    (run_dir,) = set(Path(folder).iterdir()) - before
    return run_dir


def keep_checkpoint(checkpoint: Path, name: str) -> None:
    """Keep a checkpoint and the probabilities that it predicts for the table."""
    kept = HERE / f"{name}_{FORMAT}.ckpt"
    if kept.exists():
        return
    shutil.copy(checkpoint, kept)
    probabilities = load(str(kept)).predict_proba(pl.read_csv(ROOT / TABLE))
    kept.with_suffix(".json").write_text(json.dumps(probabilities.round(6).tolist()) + "\n")


def keep_config(run_dir: Path, name: str) -> None:
    """Keep the config of a run, without the temporary folder in its paths."""
    kept = HERE / f"{name}_{FORMAT}.yaml"
    if kept.exists():
        return
    text = (run_dir / "config.yaml").read_text("utf-8")
    kept.write_text(text.replace(str(run_dir.parent), "lightning_logs"), "utf-8")


if __name__ == "__main__":
    main()
