"""The README's pictures, drawn of the committed run lightning_logs/reference as TensorBoard shows it.

python -m bench.gallery   # seconds; writes curves.png, regions.png, weights.png to docs/images
"""

import io
import logging
import tempfile
from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cli.command import quiet
from data.iris import Iris
from model.classifier import Classifier
from training.pictures.figures import OKABE_ITO
from training.pictures.regions import Regions
from training.pictures.weights import Weights

ROOT = Path(__file__).parents[1]
RUN = ROOT / "lightning_logs" / "reference"
IMAGES = ROOT / "docs" / "images"


def curves() -> None:
    """What the Scalars tab shows: loss, accuracy and learning rate against steps."""
    read = EventAccumulator(str(RUN), size_guidance={"scalars": 0}).Reload()
    figure = Figure((10, 2.8), dpi=100, layout="constrained")
    for axes, tag in zip(
        figure.subplots(1, 3), ("train/loss", "train/accuracy", "lr"), strict=True
    ):
        points = read.Scalars(tag)
        axes.plot(
            [point.step for point in points], [point.value for point in points], color=OKABE_ITO[4]
        )
        axes.set(title=tag, xlabel="step")
        axes.grid(alpha=0.3)
    figure.savefig(IMAGES / "curves.png")


def pictures() -> None:
    """What the Images tab shows: test the run's network again, with two pictures."""
    table, best = Iris(), RUN / "checkpoints" / "best.ckpt"
    classifier = Classifier.load_from_checkpoint(best, weights_only=True)
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "logger": TensorBoardLogger(folder),
        }
        trainer = Trainer(callbacks=[Regions(), Weights()], **options)
        trainer.test(classifier, table, verbose=False)
        trainer.loggers[0].experiment.close()
        read = EventAccumulator(trainer.log_dir, size_guidance={"images": 0}).Reload()
        for name in ("Regions", "Weights"):
            tags = [tag for tag in read.Tags()["images"] if tag.startswith(name)]
            images = [
                Image.open(io.BytesIO(read.Images(tag)[-1].encoded_image_string)) for tag in tags
            ]
            side_by_side = Image.fromarray(np.hstack([np.asarray(image) for image in images]))
            # 256 colours are enough, and a quarter of the bytes
            side_by_side.quantize(256).save(IMAGES / f"{name.lower()}.png", optimize=True)


if __name__ == "__main__":
    quiet()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    curves()
    pictures()
