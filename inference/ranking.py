"""A ranking of columns by importance, as lines for the screen and as a picture for TensorBoard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import numpy as np

from inference.attribution import Importance

if TYPE_CHECKING:  # matplotlib is imported when something is drawn
    from matplotlib.axes import Axes

SHOWN_COLUMNS = 20  # on the screen and in the picture
LONGEST_NAME = 36  # characters of a column's name


def label(column: Importance) -> str:
    """A column's name as it is shown, its position if nothing of the name can be printed."""
    return shorten_name(column.name) or f"column {column.position}"


def shorten_name(name: str) -> str:
    """A name without what cannot be printed, and without its middle if it is too long.

    >>> shorten_name("the mean of the temperature of the last week in °C")
    'the mean of the tempera…t week in °C'
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in name)
    name = " ".join(printable.split())
    keep = LONGEST_NAME * len(name) // max(1, screen_width(name))
    if len(name) <= keep:
        return name
    start = name[: keep * 2 // 3 - 1]
    end = name[-(keep // 3) :]
    return f"{start}…{end}"


def screen_width(text: str) -> int:
    """The columns of a terminal that a text takes: two for a Chinese character."""
    wide = sum(east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide


def to_lines(ranking: list[Importance]) -> list[str]:
    """The first columns of a ranking as aligned lines, below a header."""
    shown = ranking[:SHOWN_COLUMNS]
    header = "mean |attribution|"
    if ranking[0].accuracy_drop is not None:
        header += "   loss of accuracy when shuffled"
    names = ["column", *(label(column) for column in shown)]
    figures = [header, *(figures_of(column) for column in shown)]
    longest = max(screen_width(name) for name in names)
    lines = []
    for name, text in zip(names, figures, strict=True):
        padding = " " * (longest - screen_width(name))
        lines.append(f"{name}{padding}   {text}")
    if len(ranking) > SHOWN_COLUMNS:
        lines.append(f"and {len(ranking) - SHOWN_COLUMNS:,} more columns")
    return lines


def figures_of(column: Importance) -> str:
    """A column's figures, as wide as the header above them."""
    text = f"{column.attribution:18.4f}"
    if column.accuracy_drop is not None:
        text += f"{column.accuracy_drop:13.4f} ± {column.accuracy_drop_std:.4f}"
    return text


# The picture: margins in pixels, chosen so that it is legible where TensorBoard scales it down.
LABEL_ROOM = 140  # for a column's name
LABEL_MARGIN = 16
PANEL_GAP = 16
TOP = 24
BOTTOM = 66
RIGHT = 8
BAR = 17


@dataclass(frozen=True)
class Panel:
    """One diagram of bars, a bar for each column."""

    title: str
    color: str
    values: list[float]
    errors: list[float] | None = None


def draw(ranking: list[Importance]) -> np.ndarray:
    """The first columns of a ranking as bars: (height, width, 3) uint8."""
    from matplotlib.figure import Figure

    from training.pictures.figures import DPI, WIDTH, figure_style, render, shorten, text_width

    shown = ranking[:SHOWN_COLUMNS]
    panels = make_panels(shown)
    with figure_style():
        names = [shorten(label(column), LABEL_ROOM) for column in shown]
        left = max(text_width(name) for name in names) + LABEL_MARGIN
        panel_width = (WIDTH - left - RIGHT) / len(panels) - PANEL_GAP
        panel_height = BAR * max(len(shown), 3)
        height = TOP + panel_height + BOTTOM
        figure = Figure((WIDTH / DPI, height / DPI), dpi=DPI)
        for i, panel in enumerate(panels):
            x = left + i * (panel_width + PANEL_GAP)
            box = (x / WIDTH, BOTTOM / height, panel_width / WIDTH, panel_height / height)
            names_here = names if i == 0 else []
            draw_bars(figure.add_axes(box), panel, names_here)
        title = f"{len(ranking)} columns"
        if len(ranking) > SHOWN_COLUMNS:
            title = f"{len(shown)} of {len(ranking):,} columns"
        figure.text(0.5, 1 - 10 / height, title, ha="center", va="center")
        return render(figure)


def make_panels(shown: list[Importance]) -> list[Panel]:
    """The attributions and, if the columns were shuffled, the lost accuracies."""
    from training.pictures.figures import OKABE_ITO

    values = [column.attribution for column in shown]
    panels = [Panel("mean |attribution|\nin logits", OKABE_ITO[4], values)]
    drops = [column.accuracy_drop for column in shown if column.accuracy_drop is not None]
    stds = [column.accuracy_drop_std for column in shown if column.accuracy_drop_std is not None]
    if drops:
        panels.append(Panel("loss of accuracy\nwhen shuffled", OKABE_ITO[0], drops, stds))
    return panels


def draw_bars(axes: "Axes", panel: Panel, names: Sequence[str]) -> None:
    """Horizontal bars from top to bottom, with these names on the left."""
    count = len(panel.values)
    axes.barh(
        range(count),
        panel.values,
        color=panel.color,
        xerr=panel.errors,
        ecolor="#555555",
        capsize=2,
    )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlabel=panel.title, ylim=(count - 0.4, -0.6), yticks=range(count))
    axes.set_yticklabels(names)
    axes.locator_params(axis="x", nbins=3)
    axes.spines[["top", "right"]].set_visible(False)
