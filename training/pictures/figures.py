"""The look of all figures: size, fonts, colours, and names that fit."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # matplotlib takes long to import: only when something is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Size of a figure in pixels: TensorBoard shows it in cards of 250 to 350 pixels.
WIDTH = 400
HEIGHT = 320
DPI = 100

FONT_SIZE = 9
TITLE_HEIGHT = 26
MARGIN = 14
MAX_NAME_WIDTH = 120  # longer names lose their middle

# Distinguishable with every kind of colour vision. Source: Okabe & Ito (2008).
OKABE_ITO = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]
BLUE = OKABE_ITO[4]
RED = OKABE_ITO[5]

# A letter is drawn in the first of these fonts that is installed and has it.
FONTS = [
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Lohit Devanagari",
    "Nirmala UI",
    "Mangal",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Thai",
    "Arial Unicode MS",
]


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw with these fonts, whatever the user's own matplotlibrc says."""
    import matplotlib

    style: Any = {
        "font.family": installed_fonts(),
        "font.size": FONT_SIZE,
        "axes.titlesize": FONT_SIZE,
        "text.parse_math": False,  # $ is a letter
    }
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # No installed font has the letter: nothing that a user can act on.
        warnings.filterwarnings("ignore", message="Glyph")
        yield


@lru_cache
def installed_fonts() -> list[str]:
    """The fonts of FONTS that are installed."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [name for name in FONTS if name in installed]


def new_figure(
    title: str, left: float, bottom: float, right: float = MARGIN
) -> tuple["Figure", "Axes"]:
    """A titled figure with one pair of axes. The margins are in pixels."""
    from matplotlib.figure import Figure

    figure = Figure((WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
    width = 1 - (left + right) / WIDTH
    height = 1 - (bottom + TITLE_HEIGHT) / HEIGHT
    axes = figure.add_axes((left / WIDTH, bottom / HEIGHT, width, height))
    figure.text(0.5, 1 - 9 / HEIGHT, shorten(title, WIDTH - 20), ha="center", va="center")
    return figure, axes


def render(figure: "Figure") -> np.ndarray:
    """The figure's pixels, (height, width, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image: np.ndarray = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return image


def heat_map(
    values: np.ndarray,
    title: str,
    row_names: Sequence[str],
    column_names: Sequence[str],
    limit: float | None = None,
) -> tuple["Figure", "Axes"]:
    """Values (rows, columns) as colours, with as many names as there is room for.

    Colours run from white at 0 to blue at 1. With a `limit` they run from blue at -limit over white
    to red at limit, with a colour bar.
    """
    right: float = MARGIN
    colours: dict[str, Any] = {"cmap": "Blues", "vmin": 0, "vmax": 1}
    if limit is not None:
        right = 78
        colours = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}

    # Column names stand upright if the widest is wider than its column.
    room = WIDTH - MAX_NAME_WIDTH - 40 - right
    columns = spaced_names(column_names, room)
    widest = max(map(text_width, columns.values()), default=0)
    is_upright = widest > room / max(1, len(columns)) - 6
    bottom = 42 + (widest if is_upright else 12)
    rows = spaced_names(row_names, HEIGHT - bottom - TITLE_HEIGHT)
    left = max(map(text_width, rows.values()), default=25) + 40

    figure, axes = new_figure(title, left, bottom, right)
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **colours)
    if rows:
        axes.set_yticks([*rows], [*rows.values()])
    if columns:
        axes.set_xticks([*columns], [*columns.values()], rotation=90 if is_upright else 0)
    if limit is not None:
        box = axes.get_position()
        bar = figure.add_axes((1 - 70 / WIDTH, box.y0, 14 / WIDTH, box.height))
        figure.colorbar(image, cax=bar, ticks=[-limit, 0, limit], format="%.2g")
    return figure, axes


def spaced_names(names: Sequence[str], room: float) -> dict[int, str]:
    """Evenly spaced names by their index, as many as fit into `room` pixels."""
    step = math.ceil(len(names) * 15 / room) or 1
    return {i: shorten(one_line(names[i])) for i in range(0, len(names), step)}


def palette(count: int) -> np.ndarray:
    """A colour for each of `count` classes, (count, 3) from 0 to 1."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    if count <= len(OKABE_ITO):
        return np.array([to_rgb(colour) for colour in OKABE_ITO[:count]])
    return np.asarray(colormaps["viridis"](np.linspace(0, 1, count)))[:, :3]


@lru_cache(10_000)
def text_width(text: str) -> float:
    """The width of a drawn text in pixels."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=installed_fonts(), size=FONT_SIZE)
    renderer = RendererAgg(1, 1, DPI)
    width, _, _ = renderer.get_text_width_height_descent(text, font, ismath=False)
    return float(width)


@lru_cache(10_000)
def shorten(text: str, room: float = MAX_NAME_WIDTH) -> str:
    """The text, without its middle if it is wider than `room` pixels.

    A third of what remains is the text's start, two thirds are its end.
    """
    shown = text
    keep = len(text)
    while text_width(shown) > room and keep > 2:
        keep = min(keep - 1, int(keep * room / text_width(shown)) + 1)
        start = text[: keep // 3].rstrip()
        end = text[len(text) - keep + keep // 3 :].lstrip()
        shown = f"{start}…{end}"
    return shown


def one_line(value: object) -> str:
    """A value as text in one line."""
    return " ".join(str(value).split())
