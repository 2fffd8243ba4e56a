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
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from evaluation.report import report
from evaluation.result import EvaluationResult
from training.result import TrainResult

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
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


# Markdown


def read(name: str) -> dict[str, Any]:
    """The results of one bench script."""
    path = RESULTS / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right: every column but the first."""
    rule = ["---", *("---:" for _ in header[1:])]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def paragraphs(*texts: str) -> str:
    return "\n\n".join(texts)


def screen(lines: Iterable[str]) -> str:
    """What a command prints."""
    return "\n".join(["```text", *lines, "```"])


def measured(result: dict[str, Any], repetitions: str) -> str:
    """Where the figures come from: command, repetitions, machine and versions."""
    hardware = result["hardware"]
    processor = hardware.get("processor")
    cores = f"{hardware['cpus']} cores"
    machine = f"{cores} ({processor})" if processor else cores
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"`{result['command']}`: {repetitions}, on {machine}; {versions}."


def interval(low: float, high: float, digits: int = 3) -> str:
    return f"{low:.{digits}f} to {high:.{digits}f}"


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
    ]
    return table(["on 2 cores, without a GPU", ""], rows)


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
    costs = read("predict")["microseconds for one row"]
    rows = [[name, f"{cost:,.0f}"] for name, cost in costs.items()]
    return table(["one row at a time", "microseconds"], rows)


# Accuracy


SHOWN = {
    "ours": "`train.py --data Table`",
    "Majority class": "majority class",
    "LogisticRegression": "LogisticRegression",
    "SVC": "SVC, calibrated",
    "RandomForestClassifier": "RandomForestClassifier",
    "HistGradientBoostingClassifier": "HistGradientBoosting",
    "MLPClassifier": "MLPClassifier",
    "LGBMClassifier": "LightGBM",
}
SCORES = ("accuracy", "balanced_accuracy", "log_loss")


def measured_tables(half: str) -> dict[str, Any]:
    """The results of a half of the tables: those that all classifiers were measured on."""
    result = read(f"tables_{half}")
    tables = {name: known for name, known in result["tables"].items() if known.keys() >= set(SHOWN)}
    return result | {"tables": tables}


def means(result: dict[str, Any], score: str) -> dict[str, np.ndarray]:
    """Each classifier's mean over the folds of each table, (tables,)."""
    return {
        name: np.array([np.mean(known[name][score]) for known in result["tables"].values()])
        for name in SHOWN
    }


def ranks(values: dict[str, np.ndarray], best_is_high: bool) -> dict[str, float]:
    """Each classifier's mean rank over the tables, 1 for the best; the majority class is left out.

    >>> ranks({"a": np.array([0.9, 0.5]), "b": np.array([0.8, 0.5])}, best_is_high=True)
    {'a': 1.25, 'b': 1.75}
    """
    names = [name for name in values if name != "Majority class"]
    matrix = np.stack([values[name] for name in names])
    by_table = rankdata(-matrix if best_is_high else matrix, axis=0)
    return dict(zip(names, by_table.mean(1).tolist(), strict=True))


def real_tables(half: str) -> str:
    """The default for tables beside what people would pick instead: means and ranks."""
    result = measured_tables(half)
    by_score = {score: means(result, score) for score in SCORES}
    accuracy_ranks = ranks(by_score["accuracy"], best_is_high=True)
    loss_ranks = ranks(by_score["log_loss"], best_is_high=False)
    rows = []
    for name, title in SHOWN.items():
        cells = [f"{by_score[score][name].mean():.3f}" for score in SCORES]
        for order in (accuracy_ranks, loss_ranks):
            cells.append(f"{order[name]:.2f}" if name in order else "")
        seconds = sum(known[name]["seconds"] for known in result["tables"].values())
        rows.append([title, *cells, f"{seconds:,.0f}"])
    head = [f"{len(result['tables'])} tables", "accuracy", "balanced accuracy", "log-loss"]
    head += ["rank by accuracy", "rank by log-loss", "seconds"]
    source = measured(result, "5 folds, twice on tables of up to 2,000 rows, the same for all")
    return paragraphs(table(head, rows), source)


def each_real_table(half: str) -> str:
    """Accuracy and log-loss of each classifier on each table."""
    result = measured_tables(half)
    rows = []
    for name, known in result["tables"].items():
        cells = []
        for classifier in SHOWN:
            values = known[classifier]
            cells.append(f"{np.mean(values['accuracy']):.3f} / {np.mean(values['log_loss']):.3f}")
        rows.append([name, *cells])
    return table(["accuracy / log-loss", *SHOWN.values()], rows)


def eight_tables() -> str:
    """The default for tables beside pytabkit's networks, on the first folds of eight tables."""
    result = read("tables_held_out")
    networks = ("RealMLP_TD", "TabM_D")
    tables = {name: known for name, known in result["tables"].items() if networks[1] in known}
    rows = []
    for classifier in ("ours", "LGBMClassifier", *networks):
        cells = []
        for score in SCORES:
            values = [np.mean(known[classifier][score][:5]) for known in tables.values()]
            cells.append(f"{np.mean(values):.3f}")
        seconds = [
            known[classifier]["seconds"] / len(known[classifier]["accuracy"])
            for known in tables.values()
        ]
        rows.append([SHOWN.get(classifier, classifier), *cells, f"{np.mean(seconds):.1f}"])
    head = [f"{len(tables)} tables", "accuracy", "balanced accuracy", "log-loss", "seconds a fold"]
    return table(head, rows)


def parts() -> str:
    """What the default for tables loses without each of its parts."""
    result = read("parts")
    whole = result["without"]["nothing"]
    rows = []
    for part, tables in result["without"].items():
        if part == "nothing":
            continue
        differences = [
            f"{tables[name]['accuracy'] - whole[name]['accuracy']:+.3f} / "
            f"{tables[name]['log_loss'] - whole[name]['log_loss']:+.3f}"
            for name in whole
        ]
        rows.append([part, *differences])
    source = measured(result, "change of accuracy / log-loss, means over 5 folds")
    return paragraphs(table(["without", *whole], rows), source)


def dirty() -> str:
    """Accuracies on damaged tables."""
    result = read("dirty")
    rows = []
    for name, by_damage in result["accuracy"].items():
        for classifier, title in (("ours", SHOWN["ours"]), ("RandomForestClassifier",) * 2):
            clean = by_damage["none"][classifier]
            cells = [f"{clean:.3f}"]
            for damage, accuracies in by_damage.items():
                if damage != "none":
                    cells.append(f"{accuracies[classifier] - clean:+.3f}")
            rows.append([name, title, *cells])
    damages = [damage for damage in next(iter(result["accuracy"].values())) if damage != "none"]
    source = measured(result, "accuracy and its change, means over 5 folds")
    return paragraphs(table(["", "", "clean", *damages], rows), source)


def public_tables() -> str:
    """What was made of each public table, and with which flags after a refusal."""
    result = read("public_tables")
    tables = result["tables"]
    rows = []
    for name, entry in tables.items():
        kinds = [kind for kind, _ in entry.get("columns", {}).values()]
        counts = [str(kinds.count(kind) or "") for kind in ("number", "text", "date", "left out")]
        given = [flag.split(" ", 1) for flag in entry["flags"]]
        flags = " ".join(f'`{flag} "{value}"`' for flag, value in given)
        rows.append([name, entry["from"], f"{entry['rows']:,}", *counts, flags])
    at_once = sum(not entry["refused"] for entry in tables.values())
    trained = [entry for entry in tables.values() if "columns" in entry]
    difference = max(entry["onnx difference"] for entry in trained)
    summary = (
        f"{at_once} of {len(tables)} tables are read as they come, {len(trained) - at_once} more "
        f"with the flags that a message named, and {len(tables) - len(trained)} not at all. "
        f"`predict.py` and the ONNX file agree to {difference:.0e}."
    )
    header = ["table", "package, name", "rows", "numbers", "text", "dates", "left out", "flags"]
    return paragraphs(summary, table(header, rows), measured(result, "each table once"))


def public_tables_refused() -> str:
    """Each refusal of a public table."""
    rows = []
    for name, entry in read("public_tables")["tables"].items():
        for message in entry["refused"]:
            _, _, reason = message.partition(": ")
            rows.append([name, reason.replace("|", "\\|")])
    lines = ["| table | refused: |", "| --- | --- |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def small_tables() -> str:
    """The recipe beside scikit-learn's classifiers."""
    result = read("small_tables")
    accuracy = result["accuracy"]
    columns = list(next(iter(accuracy.values())))
    rows = []
    for name, scores in accuracy.items():
        rows.append([name, *(f"{score[0]:.4f}" for score in scores.values())])
    folds = ", ".join(f"{name} {count}" for name, count in result["n"].items())
    source = measured(result, f"mean accuracy over cross-validation folds ({folds})")
    return paragraphs(table(["", *columns], rows), source)


def recipe() -> str:
    """The default recipe and what was tried beside it."""
    result = read("recipe")
    rows = []
    for candidate in result["candidates"]:
        changes = [f"{name} {value}" for name, value in candidate["change"].items()]
        name = ", ".join(changes) or "**the recipe**"
        scores = [f"{score:.4f}" for score in candidate["accuracy"].values()]
        rows.append([name, *scores])
    columns = list(result["candidates"][0]["accuracy"])
    folds = ", ".join(f"{name} {count}" for name, count in result["n"].items())
    source = measured(result, f"mean accuracy over cross-validation folds ({folds})")
    return paragraphs(table(["", *columns], rows), source)


def digits() -> str:
    """A convolutional network on scikit-learn's digits."""
    result = read("digits")
    rows = []
    for name, scores in result["runs"].items():
        mean, low, high = scores["accuracy"]
        log_loss = scores["log_loss"][0]
        rows.append([name, f"{mean:.4f}", interval(low, high, 4), f"{log_loss:.4f}"])
    scores_table = table(["", "accuracy", "95 % interval", "log-loss"], rows)
    source = measured(result, f"mean over {result['n']} folds")
    return paragraphs(scores_table, source)


def coverage() -> str:
    """How often the intervals cover a known truth: on a grid of tables, and in other procedures."""
    result = read("coverage")
    tables = f"{result['n']['tables']} simulated tables for each line"
    groups = iter(result["coverage"].items())
    name, grid = next(groups)
    texts = [
        f"The share of intervals that cover the truth, in brackets their mean width: {name}.",
        table(COVERAGE_HEADER, map(coverage_cells, grid)),
        "The same for other procedures:",
    ]
    rows = [[name, *coverage_cells(row)] for name, group in groups for row in group]
    texts.append(table(["procedure", *COVERAGE_HEADER], rows))
    texts.append(measured(result, tables))
    return paragraphs(*texts)


COVERAGE_HEADER = [
    "rows",
    "true accuracy",
    "**accuracy**",
    "t-interval instead",
    "all rows instead",
    "balanced accuracy",
    "log-loss",
    "difference: accuracy",
    "difference: log-loss",
]


def coverage_cells(row: dict[str, Any]) -> list[str]:
    """A line of the table of coverage."""
    intervals = row["intervals"]
    cells = [str(row["rows"]), f"{row['true accuracy']:.3f}"]
    for name in ("accuracy", "accuracy, corrected t", "accuracy, Wilson of all rows"):
        cells.append(f"{intervals[name]['share']:.3f} ({intervals[name]['width']:.3f})")
    for name in ("balanced_accuracy", "log_loss"):
        cells.append(f"{intervals[name]['share']:.3f}")
    for name in ("accuracy", "log_loss"):
        cells.append(f"{intervals[f'difference of {name}']['share']:.3f}")
    return cells


def noise() -> str:
    """What a sweep reports on labels that are pure noise."""
    result = read("coverage")
    rows = []
    for name in ("optimistic", "nested"):
        estimate = result["noise"][name]
        mean = f"{estimate['mean']:.3f}"
        rows.append(
            [
                name,
                f"{mean} ({interval(estimate['low'], estimate['high'])})",
                f"{estimate['covered']['share']:.3f}",
            ]
        )
    candidates = result["noise"]["settings"]
    count = result["n"]["tables of noise"]
    first = f"best of {candidates} candidates, {count} tables"
    return table([first, "mean accuracy (95 % interval)", "intervals that cover 0.5"], rows)


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
    "pictures": pictures,
    "population": population,
    "population-scaling": population_scaling,
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
