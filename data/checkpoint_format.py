"""The format in which a checkpoint describes its table.

data/tabular.py writes it, inference/checkpoint.py reads it. It is in a file of its own because the
reader must not import Lightning, which takes longer than predicting.
"""

FORMAT = 1  # written by this version
READABLE_FORMATS = frozenset({1})  # tests/golden holds a checkpoint of each
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
