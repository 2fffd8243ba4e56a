"""Write the measured figures into README.md and docs/, from bench/results/.

A page holds a block of figures between two markers; the block's name is a function below.

    <!-- figures: speed -->
    ... what speed() returns ...
    <!-- /figures -->

python -m bench.figures           # rewrite the blocks
python -m bench.figures --check   # change nothing; exit code 1 if a block is out of date
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.accuracy_figures import (
    coverage,
    digits,
    dirty,
    each_real_table,
    eight_tables,
    means,
    measured_tables,
    noise,
    parts,
    public_tables,
    public_tables_refused,
    real_tables,
    recipe,
    small_tables,
)
from bench.markdown import measured, paragraphs, read, screen, table
from bench.scale_figures import (
    scale_cross_validation,
    scale_growth,
    scale_memory,
    scale_processes,
    scale_speed,
)
from bench.stream_figures import stream_libraries, stream_memory, stream_order
from evaluation.report import report
from evaluation.result import EvaluationResult
from training.result import TrainResult

ROOT = Path(__file__).parents[1]
REFERENCE_RUN = ROOT / "lightning_logs" / "reference"
BLOCK = re.compile(r"<!-- figures: ([\w-]+) -->\n.*?<!-- /figures -->", re.DOTALL)

SHOWN_EPOCHS = (100, 200, 400, 600, 800, 1000)  # of the article's ten published losses


def main() -> int:
    """Rewrite every page whose blocks are out of date, or only name them."""
    parser = argparse.ArgumentParser(description="Write bench/results into README.md and docs/.")
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    check = parser.parse_args().check
    outdated = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        updated = fill(text)
        if updated == text:
            continue
        outdated.append(page)
        if not check:
            page.write_text(updated, encoding="utf-8")
    for page in outdated:
        print(f"{'out of date' if check else 'updated'}: {page.relative_to(ROOT)}")
    return 1 if check and outdated else 0


def pages() -> list[Path]:
    """The pages that may hold figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def fill(text: str) -> str:
    """A page's text with every block of figures generated again."""
    return BLOCK.sub(lambda match: block(match[1]), text)


def block(name: str) -> str:
    """A block of figures between its two markers."""
    if name not in FIGURES:
        raise ValueError(f"no figures are called {name!r}; known: {', '.join(FIGURES)}")
    return f"<!-- figures: {name} -->\n\n{FIGURES[name]()}\n\n<!-- /figures -->"


# What the two commands of the quickstart print


def train_screen() -> str:
    """The last lines of `python train.py`, from the committed reference run."""
    path = REFERENCE_RUN / "result.json"
    result = TrainResult.from_json(json.loads(path.read_text(encoding="utf-8")))
    lines = list(result.lines())
    lines.append("")
    lines.append("run      lightning_logs/version_0")
    lines.append("curves   tensorboard --logdir lightning_logs")
    return screen(lines)


def evaluate_lines() -> list[str]:
    return list(report(EvaluationResult.from_json(read("evaluate"))))


def evaluate_screen() -> str:
    """What `python evaluate.py` prints."""
    return screen(evaluate_lines())


def evaluate_scores() -> str:
    """The first lines that `python evaluate.py` prints: the answer."""
    lines = evaluate_lines()
    return screen(lines[: lines.index("")])


def highlights() -> str:
    """The few figures that README.md shows."""
    speed_ratio = read("speed")["fit"]["train.py"]["of plain Lightning"]
    networks = read("population")["batches of 16"]["ratio"]
    command = read("population")["whole command"]["ratio"]
    predicting = read("predict")
    rate = predicting["whole process"]["predict.py"]["rows per second"]
    losses = means(measured_tables("held_out"), "log_loss")
    best = min(values.mean() for name, values in losses.items() if name != "ours")
    killed = [read("faults")["rows"][name] for name in ("killed_train", "killed_evaluate")]
    kept = f"{sum(row['held'] for row in killed)} of {sum(row['tries'] for row in killed)}"
    gpu_rate = read("gpu")["speed"]["100,000 networks"]["networks per second"]
    groups = read("coverage")["coverage"].values()
    covered = [row["intervals"]["accuracy"]["share"] for group in groups for row in group]
    rows = [
        [
            f"log-loss on {len(losses['ours'])} real tables, relative to the best of "
            "scikit-learn and LightGBM",
            f"{losses['ours'].mean() / best:.2f}",
        ],
        ["time to fit, relative to plain Lightning", f"{speed_ratio:.2f}"],
        ["time of `evaluate.py` (100 networks), relative to `train.py`", f"{command:.2f}"],
        ["1,000 networks at once, speed relative to scikit-learn", f"{networks:.0f}"],
        ["`predict.py`, CSV to CSV, rows per second", f"{rate:,}"],
        [
            "95 % intervals of the accuracy that cover the truth, over simulated tables",
            f"{min(covered):.3f} to {max(covered):.3f}",
        ],
        ["killed runs (`kill -9`) that end, resumed, bit for bit as undisturbed", kept],
        ["on an H200: networks of a population per second, 100,000 at once", f"{gpu_rate:,}"],
    ]
    return table(["on 2 cores, without a GPU but in the last line", ""], rows)


# Speed


def speed() -> str:
    """One fit, beside the same job in other libraries."""
    result = read("speed")
    rows = []
    for name, fit in result["fit"].items():
        rows.append([name, f"{fit['seconds']:.2f}", f"{fit['of plain Lightning']:.2f}"])
    fits = table(["fit", "seconds", "relative to plain Lightning"], rows)
    source = measured(result, f"medians of {result['n']} interleaved runs")
    return paragraphs(fits, source)


def speed_commands() -> str:
    """Whole commands, beside the time and memory that their imports take."""
    result = read("speed")
    rows = []
    for name, command in result["whole command"].items():
        if name == "import":
            continue
        time = f"{command['of the import']:.2f}"
        memory = f"{command['memory of the import']:.2f}"
        rows.append([f"`{name}`", time, memory])
    return table(["whole command", "time / import time", "memory / import memory"], rows)


def departures() -> str:
    """What each departure of training/fast.py saves."""
    saved = read("speed")["saved"]
    names = ("of the fit of small batches", "of the default command")
    rows = [[key, *(f"{100 * row[name]:.0f} %" for name in names)] for key, row in saved.items()]
    return table(
        ["train.py's departure from plain Lightning", *(f"saves {n}" for n in names)], rows
    )


def pictures() -> str:
    """What the pictures cost: in the fit, and in the whole command."""
    result = read("pictures")
    rows = []
    for name, fit in result["fit"].items():
        command = result["whole command"][name]
        fit_ratio = f"{fit['of none']:.2f}"
        command_ratio = f"{command['of import']:.2f}"
        rows.append([f"`--pictures {name}`", fit_ratio, command_ratio])
    header = ["flag of `train.py`", "fit / fit without", "whole command / import"]
    costs = table(header, rows)
    count = result["n"]
    source = measured(result, f"medians of {count['fits']} fits and {count['commands']} commands")
    return paragraphs(costs, source)


def options() -> str:
    """What each option of a fit costs or saves, by network."""
    result = read("options")
    networks = result["networks"]
    last = networks[list(networks)[-1]]
    rows = []
    for option in last:
        if option == "none":
            continue
        cells = [network.get(option, {}) for network in networks.values()]
        times = [f"{cell['time']:.2f}" if cell else "-" for cell in cells]
        memory = last[option].get("memory")
        rows.append([option, *times, "-" if memory is None else f"{memory:.2f}"])
    compiling = [network["`--compile`"]["seconds to compile"] for network in networks.values()]
    times = table(["flag of `train.py`", *networks, "memory of the last"], rows)
    threads = result["threads"]
    source = measured(result, f"medians of {result['n']} interleaved fits, threads: {threads}")
    return paragraphs(
        times,
        f"Compiling itself takes {min(compiling):.0f} to {max(compiling):.0f} seconds once. Memory "
        "is what the last of these networks keeps of a batch for its backward pass.",
        source,
    )


def population() -> str:
    """The price of one of 1,000 networks, beside scikit-learn."""
    result = read("population")
    rows = []
    for name in ("full batch", "batches of 16"):
        cost = result[name]
        theirs = f"{cost['scikit-learn ms']:.1f}"
        ours = f"{cost['population ms']:.2f}"
        rows.append([name, theirs, ours, f"{cost['ratio']:.0f}"])
    costs = table(["ms per network", "scikit-learn", "`Population`", "ratio"], rows)
    source = measured(result, f"medians of {result['n']} interleaved runs")
    ratio = result["whole command"]["ratio"]
    command = (
        f"`python evaluate.py` (100 networks) takes {ratio:.2f} times as long as `python train.py`."
    )
    return paragraphs(costs, command, source)


def population_scaling() -> str:
    """How the price of a network changes with networks, rows and the size of a stack."""
    result = read("population")
    titles = {
        "members": "networks trained together",
        "rows": "rows of the table (100 networks)",
        "MiB of a stack": "MiB of activations in a stack",
    }
    rows = []
    for key, title in titles.items():
        costs = result[key].items()
        rows.append([title, " · ".join(f"{int(count):,}: {cost:.2f}" for count, cost in costs)])
    return table(["varied", "ms per network"], rows)


def gpu() -> str:
    """What a CUDA GPU makes of a population, of wide networks and of images."""
    result = read("gpu")
    speeds = result["speed"]
    populations = [
        [name, f"{row['networks per second']:,}", f"{row['ratio to scikit-learn']:,}"]
        for name, row in speeds.items()
        if "ratio to scikit-learn" in row
    ]
    fits = [
        [
            name,
            f"{row['rows per second']:,}",
            f"{row['ratio to a bare loop']:.2f}",
            f"{row['TFLOP per second']:.1f}",
        ]
        for name, row in speeds.items()
        if "rows per second" in row
    ]
    return paragraphs(
        table(["population", "networks per second", "ratio to scikit-learn"], populations),
        table(["fit", "rows per second", "ratio to a bare loop", "TFLOP per second"], fits),
        measured(result, result["n"]),
    )


def faults() -> str:
    """How often what must hold did, fault by fault."""
    result = read("faults")
    rows = [
        [row["what"], f"{row['tries']:,}", f"{row['held']:,}"] for row in result["rows"].values()
    ]
    return paragraphs(table(["fault", "tries", "held"], rows), measured(result, "random moments"))


def mutants() -> str:
    """Which share of changes to the code the tests notice."""
    result = read("mutants")
    share = result["noticed"] / result["sample"]
    noticed = f"The tests notice {result['noticed']} of {result['sample']} mutants ({share:.0%})."
    return paragraphs(noticed, measured(result, result["n"]))


def predict() -> str:
    """Predicting a large CSV file, as whole processes."""
    result = read("predict")
    rows = []
    for name, process in result["whole process"].items():
        seconds = f"{process['seconds']:.2f}"
        ratio = f"{process['of predict.py']:.2f}"
        rate = f"{process['rows per second']:,}"
        memory = f"{process['peak MiB']:,}"
        rows.append([name, seconds, ratio, rate, memory])
    header = [
        f"{result['rows']:,} rows, CSV to CSV",
        "seconds",
        "relative to predict.py",
        "rows per second",
        "peak MiB",
    ]
    source = measured(result, f"medians of {result['n']} interleaved runs")
    return paragraphs(table(header, rows), source)


def latency() -> str:
    """One row at a time."""
    result = read("predict")
    rows = [[name, f"{cost:,.0f}"] for name, cost in result["microseconds for one row"].items()]
    columns = result["columns of the wide table"]
    for name, cost in result["microseconds for one wide row"].items():
        rows.append([f"onnxruntime, {columns:,} columns, {name}", f"{cost:,.0f}"])
    return table(["one row at a time", "microseconds"], rows)


# The article


def article_listing() -> str:
    """What was measured about the article's listing."""
    result = read("article")
    error = result["listing"]["as printed"]["error"]
    alpha = result["at_alpha_0.1"]
    closest = result["closest"]["bce"]
    test_accuracy = result["published"]["test_accuracy"]
    rows = [["as printed", f"stops: `{error['type']}: {error['message']}`"]]
    variants = {
        "runs, with its own gradient": alpha["listing"],
        "with the right gradient": alpha["bce"],
    }
    for name, by_reduction in variants.items():
        for reduction, scores in by_reduction.items():
            accuracy = "{mean:.2f} ({min:.2f} to {max:.2f})".format_map(scores["test_accuracy"])
            rows.append([f"{name}, {reduction}", accuracy])
    rows += [
        ["`configs/article.yaml`", f"{result['ours']['test_accuracy']:.3f}"],
        ["published", f"{test_accuracy:.3f}"],
    ]
    header = ["the listing, α = 0.1", f"test accuracy over {result['n']} starts (least to most)"]
    agree = (
        f"At the learning rate that comes closest, {closest['rate']} on the mean gradient, "
        f"{closest['agree_within_10_percent']} of the ten published losses agree within 10 %."
    )
    source = measured(result, f"{result['n']} starts")
    return paragraphs(table(header, rows), agree, source)


def article_losses() -> str:
    """The published losses beside the closest that were reached."""
    result = read("article")
    closest = result["closest"]
    published = result["published"]
    curves = {
        "published": published["losses"],
        f"binary cross-entropy, rate {closest['bce']['rate']}": closest["bce"]["losses"],
        f"softmax cross-entropy, rate {closest['softmax']['rate']}": closest["softmax"]["losses"],
        "`configs/article.yaml`, times 3": result["ours"]["losses_times_3"],
    }
    indices = [published["epochs"].index(epoch) for epoch in SHOWN_EPOCHS]
    rows = []
    for name, losses in curves.items():
        rows.append([name, *(f"{losses[index]:.3f}" for index in indices)])
    return table(["loss after epoch", *(f"{epoch:,}" for epoch in SHOWN_EPOCHS)], rows)


FIGURES: dict[str, Callable[[], str]] = {
    "train-screen": train_screen,
    "evaluate-screen": evaluate_screen,
    "evaluate-scores": evaluate_scores,
    "highlights": highlights,
    "speed": speed,
    "speed-commands": speed_commands,
    "departures": departures,
    "options": options,
    "pictures": pictures,
    "population": population,
    "population-scaling": population_scaling,
    "gpu": gpu,
    "scale-speed": scale_speed,
    "scale-memory": scale_memory,
    "scale-growth": scale_growth,
    "scale-cross-validation": scale_cross_validation,
    "scale-processes": scale_processes,
    "faults": faults,
    "stream-order": stream_order,
    "stream-memory": stream_memory,
    "stream-libraries": stream_libraries,
    "mutants": mutants,
    "predict": predict,
    "latency": latency,
    "small-tables": small_tables,
    "tables-held-out": partial(real_tables, "held_out"),
    "tables-held-out-each": partial(each_real_table, "held_out"),
    "tables-eight": eight_tables,
    "tables-development": partial(real_tables, "development"),
    "parts": parts,
    "dirty": dirty,
    "public-tables": public_tables,
    "public-tables-refused": public_tables_refused,
    "recipe": recipe,
    "digits": digits,
    "coverage": coverage,
    "noise": noise,
    "article-listing": article_listing,
    "article-losses": article_losses,
}


if __name__ == "__main__":
    sys.exit(main())
