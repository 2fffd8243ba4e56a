"""What a cross-validation prints: the answer first."""

from collections.abc import Iterator
from typing import Any

SCORES = {"log_loss": "log-loss", "brier": "Brier score", "calibration_error": "calibration error"}


def report(result: dict[str, Any]) -> Iterator[str]:
    """The lines of result.json's tables."""
    nested = "optimistic" in result
    if "accuracy/mean" in result:
        yield f"{'':22}{'mean':>8}   95 % interval"
        yield f"{'accuracy':22}{interval(result, 'accuracy')}" + (
            "   nested: what to expect" if nested else ""
        )
        if nested:
            best = interval(result["optimistic"], "accuracy")
            yield f"{'  optimistic':22}{best}   the best setting's, on the rows that chose it"
        yield from (f"{title:22}{interval(result, name)}" for name, title in SCORES.items())
        each = result["repeats"] * result["seeds"]
        if each > 1:
            yield f"{f'accuracy of {each} as one':22}{result['ensemble/accuracy']:8.4f}"
        yield ""
    if len(result["settings"]) > 1:
        yield from settings_table(result["settings"])
        yield ""
    for row in result.get("differences", []):
        verdict = "no difference can be told from these data"
        if row["p"] < 0.05:
            verdict = f"{row['second'] if row['mean'] > 0 else row['first']} is better"
        yield "{second} minus {first}: {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}".format_map(
            row
        )
        yield f"p = {row['p']:.3f}: {verdict}"
        yield ""
    if "confusion" in result:
        yield from confusion(result)
        yield ""
    if result["failed"]:
        yield f"{result['failed']} of {result['members']} networks failed, their loss or weights are not finite:"
        yield from first(result["failures"])
        yield ""
    if "train" in result:
        yield f"chosen   {result['train']}"
        yield ""
    rate = result["members"] / result["fit_seconds"]
    yield (
        f"{result['members']:,} networks, {result['folds']} folds x {result['repeats']} repeats, "
        f"in {result['fit_seconds']:.1f} s: "
        + (f"{rate:,.0f} per second" if rate >= 1 else f"{1 / rate:,.1f} s each")
    )


def settings_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each setting."""
    width = max(len(row["setting"]) for row in rows)
    nested = "chosen" in rows[0]
    yield f"{'setting':{width}}  accuracy   95 % interval   log-loss" + (
        "   chosen in folds" if nested else ""
    )
    for row in rows:
        scores = f"{'all networks failed':>36}"
        if "accuracy/mean" in row:
            scores = f"{interval(row, 'accuracy', 10)}{row['log_loss/mean']:9.4f}"
        yield f"{row['setting']:{width}}{scores}" + (f"{row['chosen']:18}" if nested else "")


def confusion(result: dict[str, Any]) -> Iterator[str]:
    """Which class is taken for which, in rows of the table; and the rows that most networks get wrong."""
    names = result["class_names"]
    each = result["repeats"] * result["seeds"]
    left, right = (
        max(len("true class"), *map(len, names)),
        max(9, *(len(name) + 3 for name in names)),
    )
    yield (
        f"{'true class':{left}}" + "".join(f"{name:>{right}}" for name in names) + "   (predicted)"
    )
    for name, votes in zip(names, result["confusion"], strict=True):
        yield f"{name:{left}}" + "".join(f"{count / each:{right}.1f}" for count in votes)
    yield ""
    line = "row {row}: {class}, taken for {taken_for} by {wrong} of {of}"
    wrong = [line.format_map(row) for row in result["often_wrong"]]
    yield f"rows that most networks get wrong, counted from 1: {len(wrong) or 'none'}"
    yield from first(wrong)


def first(lines: list[str], most: int = 10) -> Iterator[str]:
    """The first lines, and how many more there are."""
    yield from (f"  {line}" for line in lines[:most])
    if len(lines) > most:
        yield f"  and {len(lines) - most} more, in result.json"


def interval(values: dict[str, Any], name: str, width: int = 8) -> str:
    """A mean and its interval."""
    mean, low, high = (values[f"{name}/{key}"] for key in ("mean", "low", "high"))
    return f"{mean:{width}.4f}   {low:.3f} to {high:.3f}"
