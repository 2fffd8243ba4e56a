"""The README's commands, run in its order in one folder, and its figures, read from the committed results."""

import json
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_iris

from cli.command import command
from cli.parser import parse
from evaluate import evaluate
from evaluation.report import report
from evaluation.result import EvaluationResult
from explain import explain
from export import export
from predict import predict
from tests.helpers import ROOT
from train import train

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [
    part.strip()
    for language, text in BLOCKS
    if language == "bash"
    for line in text.splitlines()
    for part in line.split("&&")
]


def results(name):
    return json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())


def losses(values):
    return " | ".join(f"{values[i]:.3f}" for i in (0, 1, 3, 5, 7, 9))


def figures():
    """Every line or phrase of the README that states what was measured."""
    article, speed, recipe = results("article"), results("speed"), results("recipe")
    at, closest, ours = article["at_alpha_0.1"], article["closest"], article["ours"]
    span = "test accuracy {min:.2f} to {max:.2f}, mean {mean:.2f}".format_map
    listing, right = (
        [kind[name]["test_accuracy"] for name in kind] for kind in (at["listing"], at["bce"])
    )
    agree, rate = closest["bce"]["agree_within_10_percent"], closest["bce"]["rate"]
    yield f"It gets {ours['test_accuracy']:.3f} of the test rows right"
    yield f"over {article['n']} starts"
    yield "`" + "{type}: {message}".format_map(article["listing"]["as printed"]["error"]) + "`"
    yield span(listing[0]).capitalize()
    yield "{min:.2f} to {max:.2f}, mean {mean:.2f}, as a mean over rows".format_map(listing[1])
    yield span(right[0])
    yield "{min:.2f} to {max:.2f}, mean {mean:.2f}, as a mean over rows".format_map(right[1])
    yield f"at the closest one, {rate} on the mean gradient, {agree} of the ten agree within 10 %"
    yield f"| published | {losses(article['published']['losses'])} |"
    yield f"| binary cross-entropy, rate {rate} | {losses(closest['bce']['losses'])} |"
    yield f"| softmax cross-entropy, rate {closest['softmax']['rate']} | {losses(closest['softmax']['losses'])} |"
    yield f"| `configs/article.yaml`, times 3 | {losses(ours['losses_times_3'])} |"
    yield f"medians of {speed['n']} interleaved runs on {speed['hardware']['cpus']} cores"
    for name, row in speed["fit"].items():
        yield f"| {name} | {row['seconds']:.2f} | {row['of plain Lightning']:.2f} |"
    for name, row in speed["whole command"].items():
        if name != "import":
            yield f"| `{name}` | {row['of the import']:.2f} | {row['memory of the import']:.2f} |"
    population, coverage, tables, iris = (
        results(name) for name in ("population", "coverage", "tables", "evaluate")
    )
    yield "\n".join(report(EvaluationResult.from_json(iris)))
    for row in coverage["coverage"]:
        yield "| {true accuracy:.3f} | {mean estimate:.3f} | {mean width:.2f} |".format_map(row) + (
            " {share:.3f} ({low:.3f} to {high:.3f}) |".format_map(row["covered"])
        )
    yield "Over {tables} tables".format_map(coverage["n"])
    for name in ("nested", "optimistic"):
        yield f"{name} {{mean:.3f}} ({{low:.3f}} to {{high:.3f}})".format_map(
            coverage["noise"][name]
        )
    yield f"The nested interval covers 0.5 in {coverage['noise']['nested']['covered']['share']:.3f} of them"
    yield f"the optimistic one in {coverage['noise']['optimistic']['covered']['share']:.3f}"
    for name, row in tables["accuracy"].items():
        yield f"| {name} | " + " | ".join(f"{value[0]:.4f}" for value in row.values()) + " |"
    for name in ("full batch", "batches of 16"):
        row = population[name]
        yield f"| {name} | {row['scikit-learn ms']:.1f} | {row['population ms']:.2f} | {row['ratio']:.0f} |"
    for name in ("members", "rows", "MiB of a stack"):
        yield (
            f"| {name} | "
            + " | ".join(f"{int(count):,}: {cost:.2f}" for count, cost in population[name].items())
            + " |"
        )
    yield "(100 networks) takes {ratio:.2f} times as long as `python train.py`".format_map(
        population["whole command"]
    )
    predicting = results("predict")
    yield f"a CSV of {predicting['rows']:,} flowers in"
    yield f"medians of {predicting['n']} interleaved runs, [bench/results/predict.json]"
    for name, row in predicting["whole process"].items():
        yield (
            f"| {name} | {row['seconds']:.2f} | {row['of predict.py']:.2f} | {row['rows per second']:,} "
            f"| {row['peak MiB']:,} |"
        )
    latency = predicting["microseconds for one row"]
    yield "onnxruntime {onnxruntime:.0f}, `classifier.predict_proba` of an array".format_map(
        latency
    )
    yield "array {:,.0f}, scikit-learn {:,.0f}".format(
        latency["classifier.predict_proba, an array"], latency["scikit-learn"]
    )
    costs = results("pictures")
    yield "medians of {fits} fits and {commands} commands".format_map(costs["n"])
    fit, whole = costs["fit"], costs["whole command"]
    yield f"one batch take {fit['final']['of none']:.2f} times as long"
    yield f"`--pictures all` {fit['all']['of none']:.0f} times"
    yield f"takes {whole['final']['of import']:.2f} times as long as the import"
    yield f"and {whole['none']['of import']:.2f} times with `--pictures none`"
    for name, row in results("digits")["runs"].items():
        mean, low, high = row["accuracy"]
        yield f"| {name} | {mean:.4f} | {low:.4f} to {high:.4f} | {row['log_loss'][0]:.4f} |"
    for candidate in recipe["candidates"]:
        name = (
            ", ".join(f"{key} {value}" for key, value in candidate["change"].items())
            or "**the recipe**"
        )
        yield (
            f"| {name} | "
            + " | ".join(f"{score:.4f}" for score in candidate["accuracy"].values())
            + " |"
        )


def test_every_figure_comes_from_a_committed_file():
    text = " ".join(README.split())
    for figure in figures():
        assert " ".join(figure.split()) in text, figure


def test_the_screen_is_the_reference_runs():
    result = json.loads((ROOT / "lightning_logs" / "reference" / "result.json").read_text())
    for part in ("train", "test"):
        line = f"{part:12}{result['rows'][part]:6}{result[f'{part}/loss']:9.4f}{result[f'{part}/accuracy']:10.3f}"
        assert line in README
    assert (
        "interval {test/accuracy/low:.3f} to {test/accuracy/high:.3f}".format_map(result) in README
    )


def test_every_flag_in_the_tables_is_understood():
    cells = [row.split("|")[1] for row in README.splitlines() if row.startswith("| `--")]
    flags = [flag for cell in cells for flag in re.findall(r"`(--[^`]+)`", cell)]
    assert len(flags) > 8
    for flag in flags:
        if re.match(r"--data\.(ignore|delimiter)", flag):
            flag = f"--data Table --data.path t.csv --data.target y {flag}"
        parse(
            evaluate if re.match("--(folds|sweep|save|devices)", flag) else train, shlex.split(flag)
        )


def python_block(word):
    return next(text for language, text in BLOCKS if language == "python" and word in text)


def test_every_command_runs(monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())
    Path("mine.py").write_text(python_block("class Residual"))
    flowers = load_iris(as_frame=True)
    names = pd.Series(flowers.target_names[flowers.target], name="species")
    flowers.data.join(names).to_csv("flowers.csv", index=False)
    flowers.data.to_csv("today.csv", index=False)
    scripts = {
        "train.py": train,
        "evaluate.py": evaluate,
        "predict.py": predict,
        "export.py": export,
    }
    scripts["explain.py"] = explain
    ran = 0
    for line in COMMANDS:
        program, *arguments = shlex.split(line)
        if program == "python":
            script, *arguments = arguments
            arguments = [
                str(ROOT / word) if word.startswith("configs/") else word for word in arguments
            ]
            arguments += ["--accelerator", "cpu"] if scripts[script] in (train, evaluate) else []
            arguments += (
                ["--folds", "2", "--max_epochs", "1"] if "--repeats 1" in line else []
            )  # minutes otherwise
            command(scripts[script], arguments)
            ran += 1
        elif program == "tensorboard":
            ran += serves(arguments)
        else:
            assert line in (
                "pip install -e .",
                'pip install -e ".[test]"',
                'pip install -e ".[onnx]"',
                "pytest",
            )  # .ci/run's
    assert ran == 16
    assert len(pl.read_parquet("out.parquet")) == 150
    names = {"frame": flowers.data, "features": flowers.data.to_numpy(), "labels": flowers.target}
    for word in ("from predict import load", "NetworkClassifier"):
        exec(python_block(word), names)
    assert names["classifier"].predict(flowers.data).tolist()[:2] == ["setosa", "setosa"]


def serves(arguments):
    """Start TensorBoard on this machine alone; it must know the run that the commands before it made."""
    line = [
        sys.executable,
        "-m",
        "tensorboard.main",
        *arguments,
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = next(
                found[0] for row in server.stderr if (found := re.search(r"http://127\S+/", row))
            )
            for _ in range(100):
                assert server.poll() is None, server.stderr.read()
                try:
                    tags = json.load(
                        urllib.request.urlopen(f"{url}data/plugin/scalars/tags", timeout=30)
                    )
                except (
                    urllib.error.URLError
                ) as error:  # it may say its address before it answers there
                    tags = {"error": str(error)}
                if "values/final/test/accuracy" in tags.get("version_0", {}):
                    return 1
                time.sleep(0.2)
        finally:
            server.terminate()
    pytest.fail(f"TensorBoard knows {tags}")


def test_the_example_is_ten_lines():
    assert len([line for line in python_block("class Residual").splitlines() if line]) == 9
