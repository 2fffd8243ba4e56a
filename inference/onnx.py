"""A trained network as an ONNX file: raw columns by name in, class names and probabilities out."""

import json
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from data.columns import are_numbers
from data.labels import typed_names
from data.values import BOOLEAN_SPELLINGS, BOOLEANS, MISSING_TEXT, is_inexact, spellings
from inference.exported import LARGEST_DIFFERENCE
from inference.predictor import Predictor

if TYPE_CHECKING:  # an optional dependency, imported when a file is written
    import onnx_ir as ir

OPSET = 20
ML_DOMAIN = "ai.onnx.ml"
ML_OPSET = 3
ROUNDING_TOLERANCE = 1e-6  # of a column's scale
OUTPUTS = ("label", "probabilities", "spread")
SINGLE_INPUT = "X"  # as skl2onnx.to_onnx calls it, which also has the outputs label, probabilities


def check_packages() -> None:
    """Refuse to go on without the packages that ONNX needs.

    Raises:
        ValueError: One is not installed.
    """
    try:  # imported to see whether they are there, not to be used here
        import onnx  # noqa: F401
        import onnx_ir  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f'ONNX needs a further package ({error}): pip install -e ".[onnx]"'
        ) from error


def input_names(predictor: Predictor) -> list[str]:
    """The names of the graph's inputs: the columns' names, changed if they are not unique.

    A column without a name is named by its position; underscores tell a column apart from an output
    or another column.
    """
    columns = set(predictor.column_names)
    taken = set(OUTPUTS)
    names = []
    for position, column in enumerate(predictor.column_names, 1):
        name = column or f"column {position}"
        while name in taken or (name != column and name in columns):
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def float64_columns(predictor: Predictor, raw: np.ndarray) -> set[str]:
    """The columns that must be float64: rounded to float32 they would predict otherwise.

    Dates; no number, as long as the rows (rows, columns) predict the same when all are rounded.
    """
    rounded = raw.astype(np.float32).astype(np.float64)
    exact_probabilities, _ = predictor.predict_raw(raw)
    rounded_probabilities, _ = predictor.predict_raw(rounded)
    difference = np.abs(exact_probabilities - rounded_probabilities).max()
    same_labels = (exact_probabilities.argmax(1) == rounded_probabilities.argmax(1)).all()
    if same_labels and difference < LARGEST_DIFFERENCE / 2:
        return set(predictor.columns.dates)
    errors = np.nan_to_num(np.abs(raw - rounded)).max(0)
    tolerances = ROUNDING_TOLERANCE * column_scales(predictor)
    return {
        name
        for i, name in enumerate(predictor.column_names)
        if name not in predictor.categories and errors[i] > tolerances[i]
    } | set(predictor.columns.dates)


def column_scales(predictor: Predictor) -> np.ndarray:
    """The scale of each column's standardization, for a population the smallest of its members'.

    A text column has that of one of its categories.
    """
    encoder = predictor.encoder
    by_member = encoder.scale.numpy().reshape(-1, len(encoder.source))
    is_value = ~encoder.indicator.numpy()
    scales = np.full(len(predictor.column_names), np.nan)
    scales[encoder.source.numpy()[is_value]] = by_member.min(0)[is_value]
    return scales


def check_single_input(predictor: Predictor) -> None:
    """Refuse a single input where not all columns are numbers.

    Raises:
        ValueError: A column is text or dates.
    """
    for name in predictor.column_names:
        kind = predictor.columns.kind(name)
        if kind != "number":
            raise ValueError(
                f"a single input holds numbers, and column {name!r} is {kind}; "
                "leave out --single_input"
            )


def write_onnx(
    program: torch.export.ExportedProgram,
    predictor: Predictor,
    metadata: dict[str, Any],
    float64: Collection[str],
    path: Path,
    single_input: bool = False,
) -> None:
    """Write the traced program as an ONNX file from raw columns to class names, and check it.

    Args:
        program: The predictor, traced.
        predictor: The network or population.
        metadata: What `make_metadata` returns.
        float64: The numeric columns that are float64, not float32.
        path: File to write.
        single_input: Whether the graph has one input (rows, columns) of all columns.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import CheckerPass, ClearMetadataAndDocStringPass, NameFixPass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes of torch on its own exporter
        exported = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=OPSET)
    assert exported is not None
    model = exported.model
    ClearMetadataAndDocStringPass()(model)  # stack traces with the paths of this machine
    model.graph.name = "classifier"
    if single_input:
        replace_table_by_numbers(model.graph, predictor, float64)
    else:
        replace_table_by_columns(model.graph, predictor, float64)
    replace_indices_by_labels(model.graph, predictor)
    model.opset_imports[ML_DOMAIN] = ML_OPSET
    model.producer_name = metadata["version"]
    model.producer_version = None
    for key, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.metadata_props[key] = text
    # Columns may be called like values inside the graph. Inputs and outputs keep their names.
    NameFixPass()(model)
    CheckerPass(full_check=True)(model)
    ir.save(model, path)


def replace_table_by_numbers(
    graph: "ir.Graph", predictor: Predictor, float64: Collection[str]
) -> None:
    """Replace the input by one of float32, or of float64 if a column needs it."""
    import onnx_ir as ir

    (table,) = graph.inputs
    dtype = ir.DataType.DOUBLE if float64 else ir.DataType.FLOAT
    value = ir.val(SINGLE_INPUT, dtype, ["rows", len(predictor.column_names)])
    cast = ir.node("Cast", [value], {"to": ir.DataType.DOUBLE})
    table.replace_all_uses_with(cast.outputs[0])
    graph.inputs[0] = value
    graph.insert_before(graph[0], [cast])


def replace_table_by_columns(
    graph: "ir.Graph", predictor: Predictor, float64: Collection[str]
) -> None:
    """Replace the input (rows, columns) by an input (rows, 1) for each raw column."""
    import onnx_ir as ir

    (table,) = graph.inputs
    graph.inputs.clear()
    nodes = []
    codes = []
    for name, column in zip(input_names(predictor), predictor.column_names, strict=True):
        if column in predictor.categories:
            value = ir.val(name, ir.DataType.STRING, ["rows", 1])
            missing = [*MISSING_TEXT, *predictor.columns.reading.missing]
            encode = encode_categories(value, predictor.categories[column], missing)
            nodes.append(encode)
            code = encode.outputs[0]
        else:
            dtype = ir.DataType.DOUBLE if column in float64 else ir.DataType.FLOAT
            value = ir.val(name, dtype, ["rows", 1])
            code = value
        graph.inputs.append(value)
        cast = ir.node("Cast", [code], {"to": ir.DataType.DOUBLE})
        nodes.append(cast)
        codes.append(cast.outputs[0])
    concat = ir.node("Concat", codes, {"axis": 1})
    table.replace_all_uses_with(concat.outputs[0])
    graph.insert_before(graph[0], [*nodes, concat])


def encode_categories(
    column: "ir.Value", categories: list[str], missing: Sequence[str]
) -> "ir.Node":
    """The node from a text column to the category codes that data.columns assigns.

    Args:
        column: The texts.
        categories: The column's categories.
        missing: Words for missing values; onnxruntime also makes them of None, NaN and pd.NA.
    """
    import onnx_ir as ir

    codes = {"": float("nan")} | dict.fromkeys(missing, float("nan"))
    if categories == BOOLEANS:
        # A LabelEncoder cannot lower the case of a text.
        for word, boolean in BOOLEAN_SPELLINGS.items():
            texts = [*spellings(word), f"{word}.0"]
            codes |= dict.fromkeys(texts, float(BOOLEANS.index(boolean)))
    spelled = pl.Series(categories, dtype=pl.String)
    rounded = is_inexact(spelled, spelled.cast(pl.Float64, strict=False)).to_list()
    for i, category in enumerate(categories):
        if category.lstrip("-").isdigit():  # a whole number may have decimals
            codes[f"{category}.0"] = float(i)
        if are_numbers(categories) and not rounded[i]:
            codes[str(float(category))] = float(i)
    codes |= {category: float(i) for i, category in enumerate(categories)}
    return ir.node(
        "LabelEncoder",
        [column],
        {
            "keys_strings": list(codes),
            "values_floats": list(codes.values()),
            "default_float": float(len(categories)),  # unseen
        },
        domain=ML_DOMAIN,
    )


def replace_indices_by_labels(graph: "ir.Graph", predictor: Predictor) -> None:
    """Replace the first output, class indices, by labels, and name all outputs.

    Whole numbers are int64, all other labels text.
    """
    import onnx_ir as ir

    class_names = predictor.class_names
    names: dict[str, Any] = {"values_strings": class_names, "default_string": ""}
    dtype = ir.DataType.STRING
    labels = typed_names(class_names, predictor.label_type)
    if labels.dtype == np.int64:
        names = {"values_int64s": labels.tolist(), "default_int64": -1}
        dtype = ir.DataType.INT64
    label = ir.val("label", dtype, ["rows"])
    to_label = ir.node(
        "LabelEncoder",
        [graph.outputs[0]],
        {"keys_int64s": list(range(len(class_names))), **names},
        domain=ML_DOMAIN,
        outputs=[label],
    )
    graph.append(to_label)
    graph.outputs[0] = label
    for name, output in zip(OUTPUTS, graph.outputs, strict=False):  # only populations have spread
        output.name = name
    for output in graph.outputs[1:]:
        output.shape = ir.Shape(["rows", len(class_names)])


def onnx_inputs(
    predictor: Predictor,
    raw: np.ndarray,
    float64: Collection[str] = (),
    single_input: bool = False,
) -> dict[str, np.ndarray]:
    """A raw table (rows, columns) as the inputs of an ONNX file, by name."""
    if single_input:
        return {SINGLE_INPUT: raw.astype(np.float64 if float64 else np.float32)}
    inputs = {}
    for i, (name, column) in enumerate(
        zip(input_names(predictor), predictor.column_names, strict=True)
    ):
        values = raw[:, i : i + 1]
        if column in predictor.categories:
            inputs[name] = to_texts(values, predictor.categories[column])
        elif column in float64:
            inputs[name] = values
        else:
            inputs[name] = values.astype(np.float32)
    return inputs


def to_texts(values: np.ndarray, categories: list[str]) -> np.ndarray:
    """The texts of category codes; a code without one becomes a text that no category has."""
    texts = np.array([*categories, "\0unseen", ""], object)
    unseen = len(categories)
    missing = unseen + 1
    indices = np.where(np.isnan(values), missing, np.minimum(values, unseen))
    selected: np.ndarray = texts[indices.astype(int)]
    return selected


def run_onnx(
    path: Path,
    predictor: Predictor,
    raw: np.ndarray,
    float64: Collection[str],
    single_input: bool = False,
) -> list[np.ndarray]:
    """What onnxruntime predicts for a raw table: labels (rows,), probabilities and spread."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    inputs = onnx_inputs(predictor, raw, float64, single_input)
    outputs: list[np.ndarray] = session.run(None, inputs)
    return outputs
