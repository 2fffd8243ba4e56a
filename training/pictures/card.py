"""The card: the run as a table."""

from collections.abc import Sequence
from typing import Any

from training.pictures.base import Picture
from training.pictures.figures import one_line
from training.pictures.view import SPLIT_NAMES, View


class Card(Picture):
    """Settings, columns, classes and results of the run, for the tab Text."""

    def draw(self, view: View) -> None:
        view.writer.add_text("Card", markdown_table(card_lines(view)), view.step)


def card_lines(view: View) -> dict[str, Any]:
    """Names and values of the card's lines."""
    lines = dict(view.settings)
    for split, (_, targets) in view.splits.items():
        lines[f"{SPLIT_NAMES[split]} rows"] = f"{len(targets):,}"
    columns = [one_line(name) for name in view.column_names]
    lines[f"{len(columns):,} columns"] = first_names(columns)
    lines[f"{len(view.class_names):,} classes"] = first_names(view.class_names)
    for name, value in view.metrics.items():
        lines[name] = f"{value:.4f}"
    return lines


def markdown_table(lines: dict[str, Any]) -> str:
    """A Markdown table of two columns without a header.

    >>> print(markdown_table({"seed": 0}))
    | | |
    |---|---|
    | seed | 0 |
    """
    rows = [f"| {as_cell(name)} | {as_cell(value)} |" for name, value in lines.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def first_names(names: Sequence[str], limit: int = 20) -> str:
    """The first names, and how many more there are.

    >>> first_names(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    text = ", ".join(names[:limit])
    if len(names) > limit:
        text += f" and {len(names) - limit:,} more"
    return text


def as_cell(value: object) -> str:
    """A value as text in a Markdown table.

    >>> as_cell("a|b <c>")
    'a&#124;b &lt;c>'
    """
    text = one_line(value).replace("&", "&amp;")
    return text.replace("<", "&lt;").replace("|", "&#124;")
