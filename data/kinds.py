"""Deciding what each column of a training table is; a column of which it is unsure is refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import polars as pl

from cli.errors import in_list
from data.columns import Columns, has_leading_zeros, refuse, shown
from data.dates import are_dates, check_form, days, epoch_days, fitting_forms, is_typed_date
from data.description import Kind
from data.file import File
from data.hints import almost_numbers, number_hint
from data.ids import is_id_name, why_id
from data.values import (
    BOOLEANS,
    Reading,
    canonical,
    is_boolean,
    number_keys,
    numbers_of,
    text_of,
)

# Text of which more than half the values differ is free text, if so many do.
FREE_TEXT_VALUES = 50

# Text beside this many different whole numbers makes them codes; beside more it is a mistake.
MAX_CODES = 10

SHOWN_CATEGORIES = 4
SECONDS_PER_DAY = 86_400
DATES_LOOKED_AT = 50  # different values that may be dates in several forms
SAMPLE = 2_000  # different values that are looked at to see whether they are almost numbers


class Kinds:
    """Decides what columns are, by what the user says about them or else by all their values.

    Args:
        reading: How numbers are written.
        categorical: Columns of text, whatever it looks like.
        numeric: Columns of numbers.
        dates: Columns of dates with their forms, such as {"when": "%d.%m.%Y"}.
        is_typed: Whether text is text, as in a Parquet file; in a CSV file it may be numbers.
        file: The file that the columns come from, for messages.

    Raises:
        ValueError: A form that is none, or a column that is said to be two things.
    """

    def __init__(
        self,
        reading: Reading,
        categorical: Sequence[str] = (),
        numeric: Sequence[str] = (),
        dates: Mapping[str, str] | None = None,
        is_typed: bool = True,
        file: File | None = None,
    ) -> None:
        self.reading = reading
        self.categorical = categorical
        self.numeric = numeric
        self.dates = dates or {}
        self.is_typed = is_typed
        self.file = file
        for form in self.dates.values():
            check_form(form)
        for name, times in Counter([*categorical, *numeric, *self.dates]).items():
            if times > 1:
                raise ValueError(
                    f"column {name!r} is given {times} times in categorical, numeric and dates; "
                    "give it once"
                )

    def kind_of(self, column: pl.Series) -> Kind:
        """What a column is.

        Args:
            column: All of its values.

        Raises:
            ValueError: It may be several things; the message has a line and the flag that decides.
        """
        name = column.name
        if name in self.categorical:
            return self.category(column)
        if name in self.numeric:
            return self.number(column)
        if name in self.dates:
            return self.date(column, self.dates[name])
        if is_typed_date(column):
            return self.date(column, "")
        if column.dtype == pl.Boolean:
            return self.category(column)
        if column.dtype.is_numeric():
            return self.kind_of_numbers(column, text=None)
        if column.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
            return self.kind_of_text(column)
        raise ValueError(
            f"{self.source}column {name!r} holds {column.dtype}; "
            "give numbers, text or dates, or leave it out (ignore)"
        )

    @property
    def source(self) -> str:
        """How a message about a whole column begins."""
        return f"{self.file.name}: " if self.file else ""

    def kind_of_text(self, column: pl.Series) -> Kind:
        """What a column of text is, which in a CSV file may be anything."""
        text = text_of(column)
        known = self.reading.known(text)
        if not known.count():
            return Kind("left out", "nothing but missing values", len(column))
        is_number = self.reading.numbers(known).is_not_null()
        all_numbers = is_number.sum() == known.count()
        if all_numbers and not (self.is_typed or has_leading_zeros(known)):
            return self.kind_of_numbers(column, known)
        if is_boolean(self.reading.known_text(text)):
            return self.category(column)
        if not all_numbers:
            form = self.form_of(column, known)
            if form is not None:
                return self.date(column, form)
            if not (self.is_typed or are_codes(known.filter(is_number))):
                self.refuse_few(column, known, is_number, "numbers")
            self.refuse_decorated(column, known)
        return self.kind_of_categories(column, text)

    def kind_of_numbers(self, column: pl.Series, text: pl.Series | None) -> Kind:
        """What a column of numbers is: a quantity, a date such as 20241231, or an id.

        Args:
            column: Its values.
            text: The same as stripped text, null where missing; None for a typed column.
        """
        numbers, _ = numbers_of(column, self.reading)
        known = numbers.drop_nans()
        if not len(known):
            return Kind("left out", "nothing but missing values", len(column))
        is_whole = column.dtype.is_integer() if text is None else is_spelled_whole(text)
        if is_whole:
            values = column.alias("") if text is None else text
            exact = values.drop_nulls().cast(pl.Int64, strict=False)
            if exact.null_count():
                exact = values.drop_nulls().cast(pl.Int128, strict=False)
            if len(exact) == len(known) and not exact.null_count():
                known = exact  # large ids are apart only as whole numbers
            if known.is_between(19000101, 21001231).all():
                days_of = days(known.cast(pl.Int64).cast(pl.String), "%Y%m%d")
                if days_of.null_count() == 0:
                    return self.date(column, "%Y%m%d")
            reason = why_id(column.name, known, len(column))
            if reason is not None:
                return Kind("left out", reason)
        return self.number(column)

    def kind_of_categories(self, column: pl.Series, text: pl.Series) -> Kind:
        """A column of text, or an id; free text is refused."""
        known = self.reading.known_text(text).drop_nulls()
        different = known.n_unique()
        if different == len(column):  # a value for each row
            has_spaces = known.str.contains(r"\s").any()
            if is_id_name(column.name):
                return Kind("left out", f"an id: {different:,} values, all different")
            if len(known) >= FREE_TEXT_VALUES and not has_spaces:
                return Kind("left out", f"an id: {different:,} values, all different")
        if different > len(known) / 2 and different >= FREE_TEXT_VALUES:
            ignore = f'--data.ignore "[{in_list(column.name)}]"'
            raise ValueError(
                f"{self.source}column {column.name!r} is text with {different:,} values in "
                f"{len(known):,} rows, such as {shown(known[0])}; leave it out with {ignore}, or "
                "say what it is with --data.categorical or --data.numeric"
            )
        return self.category(column)

    def category(self, column: pl.Series) -> Kind:
        """A column of text."""
        text = text_of(column)
        if column.name not in self.categorical:
            text = self.reading.known_text(text)
        missing = text.null_count()
        if is_boolean(text):
            categories = list(BOOLEANS)
        else:
            categories = canonical(text.drop_nulls()).unique().sort().to_list()
            categories = without_equal_numbers(categories)
        listed = ", ".join(categories[:SHOWN_CATEGORIES])
        if len(categories) > SHOWN_CATEGORIES:
            listed += ", ..."
        return Kind("text", f"{len(categories)}: {listed}", missing, categories)

    def number(self, column: pl.Series) -> Kind:
        """A column of numbers; `Columns.matrix` refuses anything else in it."""
        numbers, _ = numbers_of(column, self.reading)
        missing = int(numbers.is_nan().sum())
        known = numbers.drop_nans()
        about = "nothing but missing values"
        if len(known):
            values = known.to_numpy()
            about = f"{values.min():g} to {values.max():g}"
        return Kind("number", about, missing)

    def date(self, column: pl.Series, form: str) -> Kind:
        """A column of dates in a form; `Columns.matrix` refuses anything else in it."""
        if is_typed_date(column):
            known = epoch_days(column)
        else:
            known = days(self.reading.known(text_of(column)), form)
        missing = known.null_count()
        about = "nothing but missing values"
        if known.count():
            about = " to ".join(map(moment, pl.Series([known.min(), known.max()])))
        if form:
            about += f", as {form}"
        return Kind("date", about, missing, form=form)

    def form_of(self, column: pl.Series, known: pl.Series) -> str | None:
        """The form of a column's dates, None if it has none.

        Args:
            column: Its values.
            known: The same as text, null where missing.
        """
        values = known.drop_nulls()
        sample = values.unique(maintain_order=True)[:SAMPLE]
        forms = [form for form in fitting_forms(sample) if days(values, form).null_count() == 0]
        if not forms:
            for form in fitting_forms(sample[:1]):
                self.refuse_few(column, known, days(known, form).is_not_null(), "dates")
            if len(sample) > 1 and are_dates(sample[:DATES_LOOKED_AT]):
                raise ValueError(
                    f"{self.source}column {column.name!r} has dates in several forms, such as "
                    f"{sample[0]!r}; write them alike, or leave it out (ignore)"
                )
            return None
        by_form = [days(values, form) for form in forms]
        if not all(by_form[0].equals(other) for other in by_form):
            choices = " or ".join(
                f"--data.dates \"{{{in_list(column.name)}: '{form}'}}\"" for form in forms
            )
            raise ValueError(
                f"{self.source}column {column.name!r} has dates such as {values[0]!r}, of which "
                f"the day and the month cannot be told apart; give {choices}"
            )
        return forms[0]

    def refuse_few(self, column: pl.Series, known: pl.Series, fits: pl.Series, what: str) -> None:
        """Refuse a column of which most values are numbers, or dates, and a few are not.

        Args:
            column: Its values.
            known: The same as text, null where missing.
            fits: Which values are numbers, or dates.
            what: Which of the two.
        """
        if fits.sum() * 2 <= known.count():
            return
        wrong = known.is_not_null() & ~fits
        value = known.filter(wrong)[0]
        advice = f"most of the column are {what}. If this is a missing value, give "
        advice += f'--data.missing "[{in_list(cut(value))}]"; if the column is text, '
        advice += f'--data.categorical "[{in_list(column.name)}]"'
        hint = number_hint(value)
        if what == "numbers" and hint is not None:
            advice += f"; if it is a number, {hint}"
        refuse(column, wrong, advice, self.file, 0)

    def refuse_decorated(self, column: pl.Series, known: pl.Series) -> None:
        """Refuse a column of which most values would be numbers without a sign around them."""
        sample = known.drop_nulls().unique(maintain_order=True)[:SAMPLE].to_list()
        numbers = almost_numbers(sample)
        decorated = [value for value in numbers if number_hint(value) is not None]
        if not decorated or len(numbers) * 2 <= len(sample):
            return
        has_unit = all(value[-1].isalpha() for value in decorated)
        if has_unit and len(numbers) <= MAX_CODES:  # codes, such as 2wd and 4wd
            return
        advice = f"{number_hint(decorated[0])}; if the column is text, give "
        advice += f'--data.categorical "[{in_list(column.name)}]"'
        refuse(column, known == decorated[0], advice, self.file, 0)


def moment(days_since_1970: float) -> str:
    """A date in words; of a clock alone the time.

    >>> moment(1.5), moment(0.25)
    ('1970-01-02', '06:00')
    """
    time = datetime.fromtimestamp(days_since_1970 * SECONDS_PER_DAY, UTC)
    is_clock = 0 < days_since_1970 < 1
    return f"{time:%H:%M}" if is_clock else f"{time:%Y-%m-%d}"


def is_spelled_whole(text: pl.Series) -> bool:
    """Whether all numbers are written without decimals."""
    whole = r"^[+-]?\d+$"
    first = text.head(SAMPLE).drop_nulls()
    return bool(first.str.contains(whole).all() and text.drop_nulls().str.contains(whole).all())


def are_codes(text: pl.Series) -> bool:
    """Whether numbers are few and whole, so that text beside them is one more code."""
    return is_spelled_whole(text) and text.n_unique() <= MAX_CODES


def without_equal_numbers(categories: list[str]) -> list[str]:
    """Sorted categories; where all are numbers, one of each value.

    >>> without_equal_numbers(["1", "1.5", "1.50"]), without_equal_numbers(["1.5", "1.50", "a"])
    (['1', '1.5'], ['1.5', '1.50', 'a'])
    """
    texts = pl.Series(categories, dtype=pl.String)
    keys = number_keys(texts)
    if keys.null_count() or has_leading_zeros(texts):
        return categories
    first = dict(zip(reversed(keys.to_list()), reversed(categories), strict=True))
    return sorted(first.values())


def cut(value: str) -> str:
    """A value inside a flag, cut if it is long."""
    return shown(value)[1:-1]


def make_columns(kinds: dict[str, Kind], reading: Reading) -> Columns:
    """The columns that are learned, by the kind of each."""
    learned = {name: kind for name, kind in kinds.items() if kind.is_learned}
    return Columns(
        list(learned),
        {name: kind.categories for name, kind in learned.items() if kind.categories is not None},
        {name: kind.form for name, kind in learned.items() if kind.form is not None},
        reading,
    )
