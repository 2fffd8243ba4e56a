"""Write a trained network as a file that runs without this program: ONNX or torch.export's .pt2.

python export.py lightning_logs/version_0/checkpoints/best.ckpt model.onnx
"""

from cli.command import command  # first: from here on Ctrl-C is one line

# isort: split
from pathlib import Path

from cli.output import show
from inference.exported import (
    compare,
    comparison_rows,
    make_metadata,
    run_pt2,
    trace,
    write_pt2,
)
from inference.files import check_output, scratch_folder
from inference.onnx import (
    check_packages,
    check_single_input,
    float64_columns,
    run_onnx,
    write_onnx,
)
from inference.predictor import load


def export(checkpoint: str, output: str, single_input: bool = False) -> None:
    """Write a trained network as a file that runs without this program, .onnx or torch's .pt2.

    An ONNX file takes each raw column by name, (rows, 1). Numbers are float32, or float64 where
    rounding would change a prediction, and NaN where missing; text is strings without spaces
    around, empty where missing. It returns `label` (rows,) and `probabilities` (rows, classes), and
    for a population `spread` (rows, classes), the standard deviation between members.

    Where all columns are numbers, --single_input makes one input X (rows, columns) of them, as the
    exports of scikit-learn have; thousands of columns are much faster that way.

    Torch has no strings: a .pt2 file takes the columns as one float64 table (rows, columns) with
    each text as the index of its category, which its metadata.json lists, and returns class
    indices instead of labels.

    Args:
        checkpoint: A run's best.ckpt or population.ckpt.
        output: File to write, .onnx or .pt2.
        single_input: One input of all columns in an ONNX file, in place of one for each.

    Raises:
        ValueError: The checkpoint cannot be used, or the file would not predict as torch does;
            nothing was written.
    """
    check_output(output, (".onnx", ".pt2"))
    suffix = Path(output).suffix.lower()
    if suffix == ".onnx":
        check_packages()
    elif single_input:
        raise ValueError("a .pt2 file has a single input anyway; leave out --single_input")
    predictor = load(checkpoint)
    if single_input:
        check_single_input(predictor)
    metadata = make_metadata(predictor, Path(checkpoint))
    raw, source = comparison_rows(predictor, Path(checkpoint))
    program = trace(predictor, raw)
    with scratch_folder(output, ".export-") as folder:
        path = folder / f"model{suffix}"
        if suffix == ".onnx":
            float64 = float64_columns(predictor, raw)
            write_onnx(program, predictor, metadata, float64, path, single_input)
            predictions = run_onnx(path, predictor, raw, float64, single_input)
        else:
            write_pt2(program, metadata, path)
            predictions = run_pt2(path, predictor, raw)
        agreement = compare(predictions, predictor, raw)
        if not agreement.is_close:
            raise ValueError(
                f"{output} would differ from torch by {agreement.difference:.1e} "
                "and was not written; report it"
            )
        path.replace(output)
    columns = len(predictor.column_names)
    classes = len(predictor.class_names)
    size = Path(output).stat().st_size
    show(f"{output}   {columns} columns, {classes} classes, {size:,} bytes")
    print(
        f"largest difference from torch {agreement.difference:.1e}, labels identical, "
        f"on {len(raw):,} rows ({source})"
    )


if __name__ == "__main__":
    command(export)
