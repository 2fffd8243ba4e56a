"""Numbers that are not written as numbers, such as $5 or 5 kg, and what to do about them."""

import re
from collections import Counter
from collections.abc import Sequence

# A number with something around it: brackets, a currency, groups of digits, a comma, a unit.
DECORATED = re.compile(
    r"\(?[-+\u2212]?\s?[$€£¥₹]?\s?[-+\u2212]?"
    r"(?P<groups>\d{1,3}(?:[,.'’\s]\d{3})+|\d+)(?P<fraction>[,.]\d+)?"
    r"\s?(?P<unit>[%$€£¥₹]|[A-Za-zµμ°/²³]{1,6})?\)?"
)
ORDINALS = {"st", "nd", "rd", "th"}


def almost_numbers(values: Sequence[str]) -> list[str]:
    """Those of some texts that are numbers, also with something around them, all of one unit.

    >>> almost_numbers(["$5", "7", "red"]), almost_numbers(["1st", "2nd", "3rd"])
    (['$5', '7'], [])
    """
    matches = [match for match in map(DECORATED.fullmatch, values) if match]
    units = Counter(match["unit"] for match in matches if match["unit"])
    allowed = {None, *(unit for unit, _ in units.most_common(1))} - ORDINALS
    return [match.string for match in matches if match["unit"] in allowed]


def number_hint(value: str) -> str | None:
    """What to do about a number that has something around it; None for any other text.

    >>> number_hint("1,5"), number_hint("5 kg"), number_hint("red")
    ('give --data.decimal ,', 'give plain numbers', None)
    """
    match = DECORATED.fullmatch(value)
    if match is None or match["unit"] in ORDINALS:
        return None
    inner = match["groups"] + (match["fraction"] or "")
    if inner != value.lstrip("-+"):
        return "give plain numbers"
    fraction = match["fraction"] or ""
    flags = []
    if fraction.startswith(","):
        flags.append("--data.decimal ,")
    if not match["groups"].isdigit():
        sign = re.sub(r"\d", "", match["groups"])[0]
        flags.append(f'--data.thousands "{sign}"')
    if not flags:
        return None
    return "give " + " and ".join(flags)
