"""The figures of accuracy: tables, recipe, digits and the coverage of intervals."""

from typing import Any

import numpy as np
from scipy.stats import rankdata

from bench.markdown import interval, measured, paragraphs, read, table

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
