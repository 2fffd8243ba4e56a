"""Dates and times as numbers: days since 1970-01-01, in UTC where a value names its zone."""

import re
from collections.abc import Iterator
from itertools import product

import polars as pl

# The forms in which dates are written, in strptime's letters. Where only the order of day and month
# differs, a table may fit both.
# fmt: off
DATE_FORMS = [
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d",
    "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y",
    "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%B-%y", "%d-%B-%Y",
    "%d %B %Y", "%B %d, %Y", "%B %d %Y",
]
# fmt: on
CLOCK_FORMS = ["%H:%M", "%H:%M:%S%.f", "%I:%M %p", "%I:%M:%S %p"]
ZONES = ["", "%z"]

# What a typed date may be when it is read from text; "" is the form of typed dates.
ISO_FORMS = ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f%z"]

# What each directive stands for; %B is a month's name, long or short.
PATTERNS = {
    "%Y": r"\d{4}",
    "%y": r"\d{2}",
    "%m": r"\d{1,2}",
    "%d": r"\d{1,2}",
    "%H": r"\d{1,2}",
    "%I": r"\d{1,2}",
    "%M": r"\d{2}",
    "%S": r"\d{2}",
    "%.f": r"(?:\.\d{1,9})?",
    "%B": r"[A-Za-z]{3,9}",
    "%p": r"[AaPp][Mm]",
    "%z": r"(?:Z|[+-]\d{2}:?\d{2})",
}
DIRECTIVE = re.compile(r"%\.f|%.")
MICROSECONDS_PER_DAY = 86_400_000_000


def check_form(form: str) -> None:
    """Refuse a form that is none of a date.

    Raises:
        ValueError: It has an unknown directive, or none.
    """
    directives = DIRECTIVE.findall(form)
    unknown = [directive for directive in directives if directive not in PATTERNS]
    if unknown or not directives:
        known = " ".join(PATTERNS)
        raise ValueError(
            f"the form of a date is {form!r}; give one such as '%d.%m.%Y', made of {known}"
        )


def pattern(form: str) -> str:
    """The regular expression of a form.

    >>> [bool(re.match(pattern("%d.%m.%y"), text)) for text in ("31.12.24", "1.2.10")]
    [True, False]
    """
    literals = DIRECTIVE.split(form)
    parts = [re.escape(literals[0])]
    # A version such as 1.2.10 is no date.
    fixed = "%m.%y" in form or "%Y%m%d" in form
    for directive, literal in zip(DIRECTIVE.findall(form), literals[1:], strict=True):
        expression = PATTERNS[directive]
        if fixed and directive in ("%d", "%m"):
            expression = r"\d{2}"
        parts += [expression, re.escape(literal)]
    return f"^{''.join(parts)}$"


def forms() -> Iterator[str]:
    """All forms that are recognized: dates, dates with a clock and perhaps a zone, clocks."""
    yield from DATE_FORMS
    for date, between, clock, zone in product(DATE_FORMS, " T", CLOCK_FORMS, ZONES):
        yield f"{date}{between}{clock}{zone}"
    yield from CLOCK_FORMS


def fitting_forms(text: pl.Series) -> list[str]:
    """The forms that fit all of these values, which are not missing.

    >>> fitting_forms(pl.Series(["13/01/2024", "2/3/2024"]))
    ['%d/%m/%Y']
    """
    first = text[0]
    candidates = [form for form in forms() if re.match(pattern(form), first)]
    return [form for form in candidates if days(text, form).null_count() == 0]


def are_dates(text: pl.Series) -> bool:
    """Whether each of these values is a date, in whatever form.

    >>> are_dates(pl.Series(["31.12.2024", "2024-12-31"])), are_dates(pl.Series(["1.2.10", "red"]))
    (True, False)
    """
    by_form = [days(text, form) for form in DATE_FORMS]
    return pl.select(pl.coalesce(by_form)).to_series().null_count() == 0


def days(text: pl.Series, form: str) -> pl.Series:
    """Days since 1970-01-01 of text in a form, of a clock alone the part of the day; else null.

    >>> days(pl.Series(["01.01.1970 12:00", "2.1.1970 6:00", "1970-01-01"]), "%d.%m.%Y %H:%M")
    shape: (3,)
    Series: '' [f64]
    [
        0.5
        1.25
        null
    ]
    """
    if form == "":
        by_form = [days(text, iso) for iso in ISO_FORMS]
        return pl.select(pl.coalesce(by_form)).to_series()
    text = text.alias("").set(~text.str.contains(pattern(form)), None)
    if "%z" in form:
        text = text.str.replace("Z$", "+00:00")
    if not re.search("%[Yy]", form):
        text = "1970-01-01 " + text
        form = f"%Y-%m-%d {form}"
    if not re.search("%[HI]", form):
        parsed = text.str.to_date(form, strict=False).cast(pl.Datetime("us"))
    else:
        parsed = text.str.to_datetime(form, strict=False, time_unit="us")
    return epoch_days(parsed)


def epoch_days(column: pl.Series) -> pl.Series:
    """Days since 1970-01-01 of a typed column of dates, of a clock alone the part of the day."""
    column = column.alias("")  # polars takes a name such as ^a$ for a pattern
    if column.dtype == pl.Time:
        return column.cast(pl.Int64) / (1000 * MICROSECONDS_PER_DAY)
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    return column.dt.epoch("us") / MICROSECONDS_PER_DAY


def is_typed_date(column: pl.Series) -> bool:
    """Whether a column is of dates or times by its type."""
    return column.dtype in (pl.Date, pl.Datetime, pl.Time)
