"""What a single value means. Each value is read by itself, so no other row can change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import polars as pl

# fmt: off
# In a column of numbers or dates these words are missing values, in any case of letters.
MISSING = [
    "na", "n/a", "n.a.", "n.a", "#n/a", "#na", "<na>", "nan", "-nan", "nat", "none", "null", "nil",
    "missing", "unknown", "?", "-", "--", "---", ".", "..", "*", "#div/0!", "#ref!", "#value!",
    "#name?", "#num!", "#null!", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
]

# In a column of text only these are: what pandas reads as missing.
MISSING_TEXT = [
    "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "None", "NULL", "null",
    "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
]
# fmt: on

# The categories of a column of booleans, in any spelling; the order gives each its index.
BOOLEANS = ["false", "true"]

# What a lower-case value of a known column of booleans may be, and the category that it means.
BOOLEAN_SPELLINGS = {"false": "false", "true": "true", "0": "false", "1": "true"}

WHOLE = r"^\+?(-?)(0|[1-9]\d*)(?:\.0*)?$"
LARGEST_WHOLE = 2**53  # of a float; beyond it neighbours are one number
MINUS_SIGN = "\u2212"
SIMPLE = (  # types, besides numbers
    pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null, pl.Date, pl.Datetime, pl.Time,
)  # fmt: skip


def text_of(column: pl.Series) -> pl.Series:
    """A column's values as stripped text; missing and empty values are null.

    A float that is a whole number reads "1", not "1.0".

    Raises:
        ValueError: The column holds lists, bytes or the like.
    """
    check_type(column)
    column = column.alias("")  # polars takes a name such as ^a$ for a pattern
    text = column.cast(pl.String).str.strip_chars()
    if column.dtype.is_float():
        text = text.set(column.is_nan().fill_null(False), None)
        numbers = column.cast(pl.Float64)  # polars does not round numbers of 16 bits
        is_whole = (numbers == numbers.floor()) & (numbers.abs() <= LARGEST_WHOLE)
        whole = numbers.set(~is_whole.fill_null(False), None).cast(pl.Int64)
        text = whole.cast(pl.String).zip_with(is_whole.fill_null(False), text)
    return text.set(text == "", None)


def check_type(column: pl.Series) -> None:
    """Refuse a column of lists, bytes or the like, whose values are no classes or categories."""
    if not (column.dtype.is_numeric() or column.dtype in SIMPLE):
        raise ValueError(
            f"column {column.name!r} holds {column.dtype}; give text, numbers or true and false"
        )


def canonical(text: pl.Series) -> pl.Series:
    """Text in which whole numbers of equal value are spelled alike: 1.0 is "1", -0 is "0".

    >>> canonical(pl.Series(["1.0", "-0", "1.50", "007"])).to_list()
    ['1', '0', '1.50', '007']
    """
    return text.str.replace(WHOLE, "$1$2").str.replace("^-0$", "0")


def is_inexact(text: pl.Series, numbers: pl.Series) -> pl.Series:
    """Which whole numbers float64 does not have: beyond 2^53 it has only some of them.

    >>> text = pl.Series(["9007199254740993", "9007199254740994", "9.1e99", "0.1"])
    >>> is_inexact(text, text.cast(pl.Float64)).to_list()
    [True, False, False, False]

    Args:
        text: Numbers as a program writes them.
        numbers: The same as float64.
    """
    is_large = numbers.is_not_nan() & (numbers.abs() >= LARGEST_WHOLE)
    is_whole = (is_large & text.str.contains(r"^[+-]?\d+$")).fill_null(False)
    exact = text.set(~is_whole, None).cast(pl.Int128, strict=False)
    nearest = numbers.set(~is_whole, None).cast(pl.Int128, strict=False)
    return is_whole & (exact != nearest).fill_null(True)  # null: beyond 2^127


def number_keys(text: pl.Series) -> pl.Series:
    """Keys that are equal for texts of equal numbers; null for anything else.

    >>> number_keys(pl.Series(["1.50", "1.5", "-0", "x", "9007199254740993"])).to_list()
    ['1.5', '1.5', '0.0', None, '9007199254740993']
    """
    numbers = text.cast(pl.Float64, strict=False)
    numbers = numbers.set(~numbers.is_finite(), None).set(numbers == 0, 0.0)  # no -0.0
    rounded = is_inexact(text, numbers)
    return canonical(text).zip_with(rounded, numbers.cast(pl.String))


def plain(column: pl.Series) -> pl.Series:
    """Values of a few types, null where missing: categories as text, no NaN."""
    column = column.alias("")  # polars takes a name such as ^a$ for a pattern
    if column.dtype in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    return column.fill_nan(None) if column.dtype.is_float() else column


@dataclass(frozen=True)
class Reading:
    """How numbers are written, and which further words are missing values.

    Args:
        decimal: The decimal sign, a point or a comma.
        thousands: The sign between groups of three digits; none by default.
        missing: Words or numbers for missing values, beside an empty field and the usual words.

    Raises:
        ValueError: A sign that is not a single character, or both are the same.
    """

    decimal: str = "."
    thousands: str | None = None
    missing: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.decimal not in (".", ","):
            raise ValueError(f"decimal is {self.decimal!r}; give . or ,")
        sign = self.thousands
        if sign is None:
            return
        if len(sign) != 1 or sign.isalnum() or sign in f"+-{self.decimal}":
            raise ValueError(
                f"thousands is {sign!r} beside decimal {self.decimal!r}; "
                "give one other character, such as , or '"
            )

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as in a program."""
        return self.decimal == "." and self.thousands is None

    def known(self, text: pl.Series) -> pl.Series:
        """Values of a column of numbers or dates, as `text_of` returns them; null if missing."""
        if (
            not self.missing
            and text.cast(pl.Float64, strict=False).is_finite().sum() == text.count()
        ):
            return text  # the fast way: no number is one of the words
        words = [*MISSING, *(word.lower() for word in self.missing)]
        plain = text.str.to_lowercase().str.replace_all(MINUS_SIGN, "-", literal=True)
        return text.set(plain.is_in(words), None)

    def known_text(self, text: pl.Series) -> pl.Series:
        """Values of a column of text; null if missing."""
        return text.set(text.is_in([*MISSING_TEXT, *self.missing]), None)

    def without_missing(self, numbers: pl.Series) -> pl.Series:
        """Numbers without those that stand for a missing value, such as -999."""
        if not self.missing:
            return numbers
        values = pl.Series(self.missing, dtype=pl.String).cast(pl.Float64, strict=False)
        return numbers.set(numbers.is_in(values.drop_nulls().to_list()), None)

    def numbers(self, text: pl.Series) -> pl.Series:
        """The numbers that are written; null for anything else.

        >>> Reading(",", ".").numbers(pl.Series(["1.234,5", "1,5", "1.5"])).to_list()
        [1234.5, 1.5, None]
        """
        return self.plain(text).cast(pl.Float64, strict=False)

    def plain(self, text: pl.Series) -> pl.Series:
        """Numbers as a program writes them; null where the groups of digits are not of three."""
        text = text.str.replace_all(MINUS_SIGN, "-", literal=True)
        if self.is_plain:
            return text
        decimal = f"[{self.decimal}]"
        # Any space may stand between groups: a no-break space is often not told from another.
        sign = r"\s" if self.thousands and self.thousands.isspace() else self.thousands or ""
        group = sign if sign == r"\s" else "".join(f"\\{character}" for character in sign)
        grouped = rf"\d{{1,3}}(?:{group}\d{{3}})+|" if group else ""
        number = rf"^[+-]?(?:{grouped}\d+)?(?:{decimal}\d*)?(?:[eE][+-]?\d+)?$"
        text = text.set(~text.str.contains(number), None)
        if group:
            text = text.str.replace_all(group, "")
        return text.str.replace(self.decimal, ".", literal=True)


def numbers_of(column: pl.Series, reading: Reading) -> tuple[pl.Series, pl.Series]:
    """A column's values as numbers, NaN where missing, and a mask of values that are neither."""
    check_type(column)
    column = column.alias("")
    none_wrong = pl.repeat(False, len(column), eager=True)
    if column.dtype.is_numeric():
        numbers = reading.without_missing(column.cast(pl.Float64))
        return numbers.fill_null(float("nan")), none_wrong
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String and reading.is_plain and not reading.missing:
        # The fast way, for text that is nothing but numbers and missing values.
        numbers = column.cast(pl.Float64, strict=False)
        if numbers.null_count() == column.null_count():
            return numbers.fill_null(float("nan")), none_wrong
    text = reading.known(text_of(column))
    numbers = reading.numbers(text)
    wrong = numbers.is_null() & text.is_not_null()
    return reading.without_missing(numbers).fill_null(float("nan")), wrong


def is_boolean(text: pl.Series) -> bool:
    """Whether all values are true or false, in upper or lower case."""
    return set(text.drop_nulls().unique().str.to_lowercase()) <= set(BOOLEANS)


def spellings(word: str) -> list[str]:
    """All ways to write a lower-case word in upper and lower case.

    >>> spellings("no")
    ['no', 'nO', 'No', 'NO']
    """
    letters = [dict.fromkeys((letter, letter.upper())) for letter in word]
    return ["".join(choice) for choice in product(*letters)]
