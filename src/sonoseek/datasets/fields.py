"""How archives write a BI-RADS category, an age, a date, a side, a pixel spacing; and what we make of it.

Each parser takes the text of one cell, returns None for an empty one, and raises `InvalidValueError` for nonsense.
"""

from __future__ import annotations

import contextlib
import math
import re
from datetime import date

from sonoseek.core import BIRADS_CATEGORIES, PATHOLOGIES, InvalidValueError
from sonoseek.core.scan import Laterality

_EMPTY = {"", "nan", "none", "n/a", "na", "-", "not available", "not applicable", "unknown"}
_SIDES: dict[str, Laterality] = {"left": "left", "l": "left", "right": "right", "r": "right"}
_BIRADS = re.compile(r"^(?:bi[\s_-]?rads)?[\s:=_-]*(?:category\s*)?(?P<category>[0-6][abc]?)(?:\.0)?$", re.IGNORECASE)
_NUMBER = re.compile(r"^[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?$")
_DATE = re.compile(
    r"^(?:(?P<y1>[0-9]{4})(?P<sign>[-/])(?P<m1>[0-9]{1,2})(?P=sign)(?P<d1>[0-9]{1,2})"
    r"|(?P<d2>[0-9]{1,2})\.(?P<m2>[0-9]{1,2})\.(?P<y2>[0-9]{4})|(?P<y3>[0-9]{4})(?P<m3>[0-9]{2})(?P<d3>[0-9]{2}))"
    r"(?:[T ][0-9]{1,2}:?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]+)?)?\s*(?:[AaPp][Mm])?\s*(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
)
"""A whole day: year, month and day are all there; whatever follows is a time."""
FIRST_YEAR = 1950
"""No ultrasound scan of a breast is older."""
OLDEST = 130.0
"""Years. No patient is older."""


def is_empty(text: str) -> bool:
    """Whether a cell says that nothing is known."""
    return text.strip().lower() in _EMPTY


def parse_pathology(text: str) -> str:
    """One of `PATHOLOGIES`, whatever the case of its letters; never empty."""
    value = text.strip().lower()
    if value not in PATHOLOGIES:
        raise InvalidValueError(
            f"pathology is {text!r}; it must be one of {', '.join(PATHOLOGIES)}. "
            "Leave cases without a reference standard out of the archive."
        )
    return value


def parse_birads(text: str) -> str | None:
    """One of `BIRADS_CATEGORIES`: "4a", "BI-RADS 4A" and "birads4a" are 4A; a spreadsheet's "3.0" is 3."""
    if is_empty(text):
        return None
    match = _BIRADS.match(text.strip())
    category = match["category"].upper() if match else ""
    if category not in BIRADS_CATEGORIES:
        raise InvalidValueError(
            f"birads is {text!r}; it must be one of {', '.join(BIRADS_CATEGORIES)} or empty. Correct the cell."
        )
    return category


def parse_number(text: str, *, name: str, above: float = -math.inf, up_to: float = math.inf) -> float | None:
    """A finite number with `above` < number ≤ `up_to`; "0,07" is 0.07."""
    if is_empty(text):
        return None
    plain = text.strip()
    value = float(plain.replace(",", ".")) if _NUMBER.match(plain) else math.nan
    if not (math.isfinite(value) and above < value <= up_to):
        raise InvalidValueError(
            f"{name} is {text!r}; it must be a number above {above:g}, at most {up_to:g}, or empty."
        )
    return value


def parse_age(text: str) -> float | None:
    """Years, 0 … 130; DICOM's "063Y" as well (PS3.5, VR AS)."""
    stripped = text.strip()
    return parse_number(stripped[:-1] if stripped[-1:] in "Yy" else stripped, name="age", above=-1e-9, up_to=OLDEST)


def parse_date(text: str, *, name: str = "acquired") -> date | None:
    """A day: 2024-05-31, 31.05.2024, 20240531 or 2024/05/31, each with or without a time after it."""
    if is_empty(text):
        return None
    if match := _DATE.match(text.strip()):
        year, month, day = (int(next(filter(None, (match[f"{part}{form}"] for form in "123")))) for part in "ymd")
        with contextlib.suppress(ValueError):
            if year >= FIRST_YEAR:
                return date(year, month, day)
    raise InvalidValueError(f"{name} is {text!r}; write it as 2024-05-31 (year-month-day), or leave it empty.")


def parse_laterality(text: str) -> Laterality | None:
    """From "left", "right", "L", "R" in any case of letters; None for anything that names neither ("both")."""
    return _SIDES.get(text.strip().lower())


def parse_spacing(text: str) -> tuple[float, float] | None:
    """Millimetres between pixel centres as (row, column): "0.07" for both, "0.08x0.07" for row × column."""
    if is_empty(text):
        return None
    parts = [parse_number(part, name="spacing_mm", above=0.0, up_to=10.0) for part in re.split(r"[x×]", text.strip())]
    numbers = [part for part in parts if part is not None]
    if len(parts) > 2 or len(numbers) < len(parts):
        raise InvalidValueError(f"spacing_mm is {text!r}; write millimetres per pixel, 0.07 or row×column 0.08x0.07.")
    return numbers[0], numbers[-1]
