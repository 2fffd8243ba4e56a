"""The embedding: what the last layer sees of each row."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from torch import Tensor, nn

from training.pictures.base import Picture
from training.pictures.view import MAX_ROWS, View


class Embedding(Picture):
    """Input of the last linear layer for some rows of all splits, for the tab Projector."""

    def draw(self, view: View) -> None:
        sample = view.sample(MAX_ROWS)
        vectors = last_hidden_layer(view, sample.features)
        if vectors is None:
            return
        predicted = view.predict(sample.features).argmax(1)
        rows = zip(sample.targets.tolist(), predicted.tolist(), sample.split_names, strict=True)
        labels = [
            [view.class_names[target], view.class_names[answer], split]
            for target, answer, split in rows
        ]
        with redirect_stdout(StringIO()):  # torch prints that the folder of a resumed run exists
            view.writer.add_embedding(
                vectors,
                labels,
                global_step=view.step,
                tag="Embedding",
                metadata_header=["class", "predicted", "split"],
            )
        list_once(Path(view.writer.log_dir, "projector_config.pbtxt"))


def list_once(path: Path) -> None:
    """Drop the repetitions from the Projector's list: a resumed run draws some embeddings again."""
    embeddings = re.findall(r"embeddings \{.*?^\}\n", path.read_text(), re.DOTALL | re.MULTILINE)
    path.write_text("".join(dict.fromkeys(embeddings)))


def last_hidden_layer(view: View, features: Tensor) -> Tensor | None:
    """Input of the linear layer that runs last, (rows, units); None without linear layers."""
    layers = view.record_layers(nn.Linear, features)
    if not layers:
        return None
    inputs, _ = list(layers.values())[-1]
    return inputs.flatten(1)
