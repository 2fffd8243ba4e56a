"""The one look of all figures: size, fonts, colours and room for names."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # matplotlib is imported when something is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = (
    400,
    320,
    100,
)  # of a figure, in pixels: TensorBoard shows it in cards of 250 to 350
NAME = 120  # a class name that is longer, in pixels, loses its middle
OKABE_ITO = [
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
]  # told apart by all eyes
# A letter is drawn by the first of these that is installed and has it.
FAMILIES = [
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "WenQuanYi Micro Hei",
]
FAMILIES += [
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
]
FAMILIES += ["Malgun Gothic", "Noto Sans Devanagari", "Lohit Devanagari", "Nirmala UI", "Mangal"]
FAMILIES += ["Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Thai", "Arial Unicode MS"]


@contextmanager
def look() -> Iterator[None]:
    """Fonts and lines of every figure, whatever the user's own matplotlibrc says."""
    import matplotlib

    style: Any = {
        "font.family": families(),
        "font.size": 9,
        "axes.titlesize": 9,
        "text.parse_math": False,
    }  # $ is a letter
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph"
        )  # no font here has it: nothing that a user can act on
        yield


@lru_cache
def families() -> list[str]:
    """The fonts of FAMILIES that are installed."""
    from matplotlib.font_manager import fontManager

    return [name for name in FAMILIES if name in {font.name for font in fontManager.ttflist}]


def sheet(title: str, left: float, bottom: float, right: float = 14) -> tuple["Figure", "Axes"]:
    """A figure with one pair of axes and these margins in pixels."""
    from matplotlib.figure import Figure

    figure = Figure((WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
    size = 1 - (left + right) / WIDTH, 1 - (bottom + 26) / HEIGHT
    axes = figure.add_axes((left / WIDTH, bottom / HEIGHT, *size))
    figure.text(0.5, 1 - 9 / HEIGHT, fit(title, WIDTH - 20), ha="center", va="center")
    return figure, axes


def drawn(figure: "Figure") -> np.ndarray:
    """The figure's pixels: (height, width, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image: np.ndarray = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return image


def heat_map(
    values: np.ndarray,
    title: str,
    down: Sequence[str],
    across: Sequence[str],
    size: float | None = None,
) -> tuple["Figure", "Axes"]:
    """Values (rows, columns) as colours, with as many names of rows and columns as there are and fit.

    White to blue from 0 to 1; with `size` from -size, blue, over 0, white, to size, red.
    """
    right = 14 if size is None else 78
    room = WIDTH - NAME - 40 - right
    columns = thin(across, room)
    widest = max(map(pixels, columns.values()), default=0)
    upright = widest > room / max(1, len(columns)) - 6
    bottom = 42 + (widest if upright else 12)
    rows = thin(down, HEIGHT - bottom - 26)
    figure, axes = sheet(title, max(map(pixels, rows.values()), default=25) + 40, bottom, right)
    style: dict[str, Any] = (
        {"cmap": "RdBu_r", "vmin": -(size or 0)}
        if size is not None
        else {"cmap": "Blues", "vmin": 0}
    )
    image = axes.imshow(
        values, aspect="auto", interpolation="nearest", vmax=1 if size is None else size, **style
    )
    if rows:
        axes.set_yticks([*rows], [*rows.values()])
    if columns:
        axes.set_xticks([*columns], [*columns.values()], rotation=90 if upright else 0)
    if size is not None:
        box = axes.get_position()
        bar = figure.add_axes((1 - 70 / WIDTH, box.y0, 14 / WIDTH, box.height))
        figure.colorbar(image, cax=bar, ticks=[-size, 0, size], format="%.2g")
    return figure, axes


def thin(names: Sequence[str], room: float) -> dict[int, str]:
    """As many names as there is room for, in pixels, by their number."""
    step = math.ceil(len(names) * 15 / room) or 1
    return {i: fit(plain(names[i])) for i in range(0, len(names), step)}


def palette(count: int) -> np.ndarray:
    """A colour (red, green, blue) for each of so many classes."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    if count <= len(OKABE_ITO):
        return np.array([to_rgb(color) for color in OKABE_ITO[:count]])
    return np.asarray(colormaps["viridis"](np.linspace(0, 1, count)))[:, :3]


@lru_cache(10_000)
def pixels(text: str) -> float:
    """How wide a figure draws the text."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer: Any = RendererAgg
    font = FontProperties(family=families(), size=9)
    return float(renderer(1, 1, DPI).get_text_width_height_descent(text, font, ismath=False)[0])


@lru_cache(10_000)
def fit(text: str, room: float = NAME) -> str:
    """The text, or where it is wider than so many pixels a third of what fits from its start, the rest from its end."""
    shown, keep = text, len(text)
    while pixels(shown) > room and keep > 2:
        keep = min(keep - 1, int(keep * room / pixels(shown)) + 1)
        shown = f"{text[: keep // 3].rstrip()}…{text[len(text) - keep + keep // 3 :].lstrip()}"
    return shown


def plain(value: Any) -> str:
    """A value as one line."""
    return " ".join(str(value).split())
