"""Write a trained network as one file that runs without this program: ONNX, or torch.export's .pt2.

python export.py lightning_logs/version_0/checkpoints/best.ckpt model.onnx
"""

import hashlib
import json
import re
import tempfile
import tomllib
import warnings
from collections.abc import Container
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from cli.command import command
from cli.component import build
from predict import Predictor, load, reason

MOST_DIFFERENCE = 1e-5  # of a probability, between the file and torch
OPSETS = {"": 20, "ai.onnx.ml": 3}


def export(checkpoint: str, output: str) -> None:
    """Write a trained network as one file that runs without this program: ONNX, or torch.export's .pt2.

    An ONNX file takes each raw column by name, (rows, 1): numbers as float32, as float64 where float32 would predict
    otherwise, NaN where missing; text as strings without spaces around, empty where missing. It gives `label` (rows,)
    and `probabilities` (rows, classes), of a population `spread` too. Torch has no strings: a .pt2 file takes the
    columns as one table (rows, columns) in float64, a text as the number of its category (its metadata.json has them),
    and gives the number of the class.

    Args:
        checkpoint: A run's best.ckpt or population.ckpt.
        output: File to write, .onnx or .pt2.

    Raises:
        ValueError: A checkpoint that cannot be used, or a file that would not predict as torch does; none is written.
    """
    kind = Path(output).suffix.lower()
    if kind not in (".onnx", ".pt2"):
        raise ValueError(f"output is {output!r}; give a name that ends in .onnx or .pt2")
    if kind == ".onnx":
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ValueError(
                f'ONNX needs a further package ({error}): pip install -e ".[onnx]"'
            ) from error
    if Path(output).is_dir():
        raise ValueError(f"output is {output!r}, which is a folder; give a file")
    folder = Path(output).absolute().parent
    if not folder.is_dir():
        raise ValueError(f"output is {output!r}, but there is no folder {folder}; make it first")
    classifier = load(checkpoint)
    metadata = describe(classifier, Path(checkpoint))
    raw, which = rows(classifier, Path(checkpoint))
    program = trace(classifier, raw)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as name:
        part = Path(name, "model" + kind)
        if kind == ".onnx":
            doubles = wide(classifier, raw)
            write_onnx(program, classifier, metadata, doubles, part)
            found = run_onnx(part, classifier, raw, doubles)
        else:
            torch.export.save(
                program,
                part,
                extra_files={"metadata.json": json.dumps(metadata, ensure_ascii=False)},
            )
            numbers, *figures = torch.export.load(part).module()(torch.from_numpy(raw))
            found = (
                np.array(classifier.class_names, object)[numbers],
                *(figure.numpy() for figure in figures),
            )
        expected, spread = classifier.predict_raw(raw)
        difference = max(
            float(np.abs(one - other).max())
            for one, other in zip(found[1:], (expected, spread), strict=False)
            if other.size
        )
        labels = np.array(classifier.class_names, object)[expected.argmax(1)]
        if not difference <= MOST_DIFFERENCE or (labels != found[0]).any():
            raise ValueError(
                f"{output} would differ from torch by {difference:.1e} and was not written; report it"
            )
        part.replace(output)
    columns, classes = len(classifier.column_names), len(classifier.class_names)
    print(f"{output}   {columns} columns, {classes} classes, {Path(output).stat().st_size:,} bytes")
    print(
        f"largest difference from torch {difference:.1e}, labels identical, on {len(raw):,} rows ({which})"
    )


class Program(nn.Module):
    """What is written: (rows, columns) float64 to class numbers (rows,), probabilities and spread (rows, classes)."""

    def __init__(self, classifier: Predictor) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, raw: Tensor) -> tuple[Tensor, ...]:
        probabilities, spread = self.classifier(raw)
        number = probabilities.argmax(1)
        return (number, probabilities, spread) if self.classifier.many else (number, probabilities)


def trace(classifier: Predictor, raw: np.ndarray) -> torch.export.ExportedProgram:
    """The network as torch.export writes it down, for any number of rows."""
    example = (torch.from_numpy(raw[:3]),)
    try:
        with redirect_stderr(StringIO()):  # where it cannot, torch prints the whole graph
            return torch.export.export(
                Program(classifier), example, dynamic_shapes=({0: torch.export.Dim("rows", min=1)},)
            )
    except (
        Exception
    ) as error:  # whatever torch cannot write down, it says in exceptions of many kinds
        raise ValueError(f"torch.export cannot write this network down: {reason(error)}") from error


def describe(classifier: Predictor, checkpoint: Path) -> dict[str, Any]:
    """What a user of the file must know, as plain data."""
    columns = []
    for name in classifier.column_names:
        unit = re.search(r"\(([^()]+)\)\s*$", name)
        categories = classifier.categories.get(name)
        column = {"name": name, "type": "number" if categories is None else "text"}
        column |= {"unit": unit[1]} if unit else {}
        columns.append(column if categories is None else column | {"categories": categories})
    project = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text("utf-8"))[
        "project"
    ]
    return {
        "columns": columns,
        "class_names": classifier.class_names,
        "target": classifier.target,
        "version": f"{project['name']} {project['version']}",
        "run": f"{checkpoint.absolute().parents[1].name} {hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]}",
    }


def rows(classifier: Predictor, checkpoint: Path) -> tuple[np.ndarray, str]:
    """Rows to compare on: the run's table, and rows with all missing or unseen.

    Where the table is no longer there, rows drawn from what the checkpoint says of it.
    """
    odd = np.full((2, len(classifier.column_names)), np.nan)
    odd[1] = [len(classifier.categories.get(name, ())) for name in classifier.column_names]
    try:
        config = yaml.safe_load(
            checkpoint.absolute().parents[1].joinpath("config.yaml").read_text("utf-8")
        )
        table = build("data", config["data"])().read()
        if (
            table.column_names != classifier.column_names
            or table.categories != classifier.categories
        ):
            raise ValueError("another table is there now")
        raw, which = table.features.astype(np.float64), "the run's table"
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        raw, which = (
            draw(classifier, 1000, np.random.default_rng(0)),
            "drawn: the run's table is not there",
        )
    return np.concatenate([raw, odd]), which


def wide(classifier: Predictor, raw: np.ndarray) -> set[str]:
    """The columns of numbers that the file must take as float64, since rounded to float32 they predict otherwise."""
    rounded = raw.astype(np.float32).astype(np.float64)
    exact, found = classifier.predict_raw(raw)[0], classifier.predict_raw(rounded)[0]
    if (
        np.abs(exact - found).max() < MOST_DIFFERENCE / 2
        and (exact.argmax(1) == found.argmax(1)).all()
    ):
        return set()
    encoder, lost = classifier.encoder, np.nan_to_num(np.abs(raw - rounded)).max(0)
    scales = (
        encoder.scale.reshape(-1, len(encoder.source)).min(0).values
    )  # of several members the finest
    sources = zip(encoder.source.tolist(), scales.tolist(), encoder.indicator.tolist(), strict=True)
    deviations = {source: scale for source, scale, indicator in sources if not indicator}
    names = enumerate(classifier.column_names)
    return {
        name
        for i, name in names
        if name not in classifier.categories and lost[i] > 1e-6 * deviations[i]
    }


def draw(classifier: Predictor, count: int, random: np.random.Generator) -> np.ndarray:
    """Random raw rows like those of training, a tenth of them missing or of unseen categories."""
    encoder = classifier.encoder
    source = encoder.source.numpy()
    mean, scale = (
        value.numpy().reshape(-1, len(source))[0] for value in (encoder.mean, encoder.scale)
    )
    raw = np.empty((count, len(classifier.column_names)))
    for i, name in enumerate(classifier.column_names):
        if name in classifier.categories:
            raw[:, i] = random.integers(0, len(classifier.categories[name]) + 1, count)
        else:
            feature = int(np.flatnonzero(source == i)[0])
            raw[:, i] = random.normal(
                mean[feature], 3 * np.nan_to_num(scale[feature], posinf=1.0), count
            )
    raw[random.random(raw.shape) < 0.1] = np.nan
    return raw


def input_names(classifier: Predictor) -> list[str]:
    """The graph's inputs: the columns' names, but for what ONNX or the outputs call otherwise."""
    taken = {"label", "probabilities", "spread"}
    names: list[str] = []
    for i, name in enumerate(classifier.column_names, 1):
        name = name or f"column {i}"
        while name in taken or (
            name in classifier.column_names and name != classifier.column_names[i - 1]
        ):
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def write_onnx(
    program: torch.export.ExportedProgram,
    classifier: Predictor,
    metadata: dict[str, Any],
    doubles: set[str],
    path: Path,
) -> None:
    """The exported program between the raw columns and the class names, checked."""
    import onnx
    from onnx import TensorProto, compose, helper

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's notes on its own exporter
        written = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=OPSETS[""])
    assert written is not None
    names = input_names(classifier)
    prefix = "/"
    while any(name.startswith(prefix) for name in names):
        prefix += "/"
    inner = compose.add_prefix(written.model_proto, prefix)
    inputs, nodes = [], []
    for i, (name, column) in enumerate(zip(names, classifier.column_names, strict=True)):
        text = column in classifier.categories
        kind = (
            TensorProto.STRING
            if text
            else TensorProto.DOUBLE
            if column in doubles
            else TensorProto.FLOAT
        )
        inputs.append(helper.make_tensor_value_info(name, kind, ["rows", 1]))
        given = name
        if text:
            known = {category: float(i) for i, category in enumerate(classifier.categories[column])}
            if list(known) == ["false", "true"]:
                known |= {"False": 0.0, "FALSE": 0.0, "0": 0.0, "True": 1.0, "TRUE": 1.0, "1": 1.0}
            unseen, keys, values = float(len(known)), [*known, ""], [*known.values(), float("nan")]
            given = f"{prefix}code {i}"
            mapping: dict[str, Any] = {
                "keys_strings": keys,
                "values_floats": values,
                "default_float": unseen,
            }
            nodes.append(
                helper.make_node("LabelEncoder", [name], [given], domain="ai.onnx.ml", **mapping)
            )
        nodes.append(helper.make_node("Cast", [given], [f"{prefix}raw {i}"], to=TensorProto.DOUBLE))
    raw = [f"{prefix}raw {i}" for i in range(len(names))]
    nodes.append(helper.make_node("Concat", raw, [inner.graph.input[0].name], axis=1))
    nodes += inner.graph.node
    number, *figures = (output.name for output in inner.graph.output)
    classes = classifier.class_names
    code: dict[str, Any] = {
        "keys_int64s": list(range(len(classes))),
        "values_strings": classes,
        "default_string": "",
    }
    nodes.append(helper.make_node("LabelEncoder", [number], ["label"], domain="ai.onnx.ml", **code))
    outputs = [helper.make_tensor_value_info("label", TensorProto.STRING, ["rows"])]
    for name, figure in zip(("probabilities", "spread"), figures, strict=False):
        nodes.append(helper.make_node("Identity", [figure], [name]))
        outputs.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", len(classes)])
        )
    graph = helper.make_graph(
        nodes, "classifier", inputs, outputs, initializer=inner.graph.initializer
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    about = {"producer_name": metadata["version"], "ir_version": written.model_proto.ir_version}
    model = helper.make_model(graph, opset_imports=opsets, functions=inner.functions, **about)
    properties = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def columns_of(
    classifier: Predictor, raw: np.ndarray, doubles: Container[str] = ()
) -> dict[str, np.ndarray]:
    """A raw table as an ONNX file takes it."""
    found = {}
    for i, (name, column) in enumerate(
        zip(input_names(classifier), classifier.column_names, strict=True)
    ):
        values = raw[:, i : i + 1]
        if column in classifier.categories:
            names = [*classifier.categories[column], "\0unseen", ""]
            numbers = np.where(np.isnan(values), len(names) - 1, np.minimum(values, len(names) - 2))
            found[name] = np.array(names, object)[numbers.astype(int)]
        else:
            found[name] = values if column in doubles else values.astype(np.float32)
    return found


def run_onnx(
    path: Path, classifier: Predictor, raw: np.ndarray, doubles: set[str]
) -> tuple[np.ndarray, ...]:
    """What onnxruntime makes of a raw table."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return tuple(session.run(None, columns_of(classifier, raw, doubles)))


if __name__ == "__main__":
    command(export)
