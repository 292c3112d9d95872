"""CSV cells that a spreadsheet reads as text."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Also in full width, which spreadsheets of East Asian languages take for the same."""


def csv_cell(value: object) -> object:
    """The value as a cell of a CSV file that people open in a spreadsheet.

    A text that a spreadsheet could take for a formula gets an apostrophe in front (CWE-1236). Such a text begins with
    one of `= + - @`, plain or in full width, or with a blank that is trimmed. None is an empty cell; every other value
    stays as it is.
    """
    if (
        isinstance(value, str)
        and value
        and (value.startswith(_FORMULA) or not value[0].isprintable() or value[0].isspace())
    ):
        return f"'{value}"
    return "" if value is None else value
