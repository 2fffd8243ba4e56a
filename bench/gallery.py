"""Curves and pictures of the committed run lightning_logs/reference, for the documentation.

python -m bench.gallery   # seconds; writes curves.png, regions.png, weights.png to docs/images
"""

import io
import logging
import tempfile

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bench.measure import ROOT
from cli.command import quiet
from data.iris import Iris
from model.classifier import Classifier
from training.hparams import VISUAL
from training.pictures.figures import BLUE
from training.pictures.regions import Regions
from training.pictures.weights import Weights

RUN_DIR = ROOT / "lightning_logs" / "reference"
IMAGES = ROOT / "docs" / "images"
CURVES = ("train/loss", "train/accuracy", "values/lr")


def draw_curves() -> None:
    """Draw loss, accuracy and learning rate against steps, as the Time Series tab shows them."""
    events = EventAccumulator(str(RUN_DIR), size_guidance={"scalars": 0}).Reload()
    figure = Figure((10, 2.8), dpi=100, layout="constrained")
    for axes, tag in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        points = events.Scalars(tag)
        steps = [point.step for point in points]
        values = [point.value for point in points]
        axes.plot(steps, values, color=BLUE)
        axes.set(title=tag, xlabel="step")
        axes.grid(alpha=0.3)
    figure.savefig(IMAGES / "curves.png")


def draw_pictures() -> None:
    """Test the run's network again, and keep two pictures of the Images tab."""
    classifier = Classifier.load_from_checkpoint(RUN_DIR / "checkpoints" / "best.ckpt")
    with tempfile.TemporaryDirectory() as log_dir:
        trainer = Trainer(
            accelerator="cpu",
            enable_progress_bar=False,
            logger=TensorBoardLogger(log_dir),
            callbacks=[Regions(), Weights()],
        )
        trainer.test(classifier, Iris(), verbose=False)
        trainer.loggers[0].experiment.close()
        events = EventAccumulator(trainer.log_dir, size_guidance={"images": 0}).Reload()
    for name in ("Regions", "Weights"):
        tags = [tag for tag in events.Tags()["images"] if tag.startswith(f"{VISUAL}/{name}/")]
        images = [events.Images(tag)[-1].encoded_image_string for tag in tags]
        pixels = np.hstack([np.asarray(Image.open(io.BytesIO(image))) for image in images])
        # 256 colours are enough, and a quarter of the bytes.
        reduced = Image.fromarray(pixels).quantize(256)
        reduced.save(IMAGES / f"{name.lower()}.png", optimize=True)


if __name__ == "__main__":
    quiet()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    draw_curves()
    draw_pictures()
