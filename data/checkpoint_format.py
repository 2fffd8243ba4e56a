"""The format in which a checkpoint describes its table.

data/tabular.py writes it, inference/checkpoint.py reads it. It is in a file of its own because the
reader must not import Lightning, which takes longer than predicting.
"""

from pathlib import Path

# Written by this version. Format 1 has no limit of robustly scaled features; format 2 neither dates
# nor types of labels, and numbers in one notation.
FORMAT = 3
READABLE_FORMATS = frozenset({1, 2, 3})  # tests/golden holds a checkpoint of each
LABEL_TYPES = ("text", "int", "float", "bool")
# Keys by which a reader recognizes the description; it also holds the encoder's other buffers.
KEYS = frozenset(
    {
        "format",
        "column_names",
        "categories",
        "feature_names",
        "class_names",
        "target",
        "source",
        "mean",
        "scale",
    }
)


def run_dir_of(checkpoint: str | Path) -> Path:
    """The folder of a run, given by itself or by a checkpoint in its folder checkpoints.

    >>> run_dir_of("/runs/version_0/checkpoints/best.ckpt"), run_dir_of("/best.ckpt")
    (PosixPath('/runs/version_0'), PosixPath('/'))
    """
    if Path(checkpoint).is_dir():
        return Path(checkpoint).resolve()
    return Path(checkpoint).absolute().parent.parent
