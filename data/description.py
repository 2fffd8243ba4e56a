"""The table of columns that is printed before training."""

from typing import NamedTuple

from cli.output import printable

NAME_WIDTH = 24  # of a column's name
ABOUT_WIDTH = 40  # of what is said of it


class Kind(NamedTuple):
    """What a column is.

    Args:
        name: number, text, date, or left out.
        about: What is said of its values, or why it is left out.
        missing: Number of missing values.
        categories: Those of a column of text.
        form: That of a column of dates.
    """

    name: str
    about: str
    missing: int = 0
    categories: list[str] | None = None
    form: str | None = None

    @property
    def is_learned(self) -> bool:
        return self.name != "left out"


def describe(kinds: dict[str, Kind], most: int = 40) -> list[str]:
    """An aligned table of the columns: a line for each, with its kind, missing values and range.

    >>> kinds = {"size": Kind("number", "1 to 3", 2), "id": Kind("left out", "an id")}
    >>> print(*describe(kinds), sep=chr(10))
    column  kind      missing  values
    size    number          2  1 to 3
    id      left out        -  an id

    Args:
        kinds: What each column is.
        most: Lines at most; the last one then says how many columns are not shown.
    """
    names = [shorten(name, NAME_WIDTH) for name in kinds]
    size = max(map(len, ["column", *names]))
    lines = [f"{'column':{size}}  kind      missing  values"]
    for name, kind in zip(names, kinds.values(), strict=True):
        missing = f"{kind.missing:,}" if kind.is_learned else "-"
        about = shorten(kind.about, ABOUT_WIDTH)
        lines.append(f"{name:{size}}  {kind.name:8}  {missing:>7}  {about}")
    hidden = len(lines) - most + 1
    return [*lines[:-hidden], f"and {hidden} more columns"] if hidden > 1 else lines


def shorten(text: str, longest: int) -> str:
    """A text in one line of limited length.

    >>> shorten("a  long name", 8)
    'a lon...'
    """
    text = printable(" ".join(text.split()))
    return text if len(text) <= longest else text[: longest - 3] + "..."
