"""Tables as archives write them: CSV with comma, semicolon or tab, with or without a BOM; and .xlsx."""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sonoseek.core import DatasetError
from sonoseek.datasets.file_names import LINE_BREAKS

log = logging.getLogger(__name__)
DELIMITERS = (",", ";", "\t")
_SEPARATOR = re.compile(r'"?sep=(.)"?[\r\n]+', re.IGNORECASE)
"""Excel's own first line."""
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; UTF-32's begins with UTF-16's."""
MAX_CELL = 1_000_000
"""Characters. A longer cell means an open quote that swallowed the rest of the file."""


class Row(dict[str, str]):
    """One row: column → text, stripped, empty where the table has none; and where it stands."""

    def __init__(self, cells: Mapping[str, str], *, origin: str) -> None:
        """Take `cells`; `origin` is "row 12 of archive.csv", the header being row 1."""
        super().__init__(cells)
        self.origin = origin


def read_table(path: Path, *, requires: Sequence[str], allows: Sequence[str] | None = None) -> list[Row]:
    """Read a CSV table.

    Rows end at line feeds and carriage returns alone. Within a cell whatever breaks a line becomes a space. A first
    line "sep=;" names the separator. Columns without a name must be empty, or number the rows.

    Args:
        path: UTF-8 or UTF-16 (with its byte order mark) or, failing that, Windows-1252.
        requires: columns that must be there.
        allows: every column that may be there; None allows any.

    Raises:
        DatasetError: missing, empty, a missing or unknown column, a row that is longer than the header.
    """
    text = _text(path)
    if any(len(line) > MAX_CELL for line in re.split("[\r\n]", text)):
        raise DatasetError(f"{path} has a line of more than {MAX_CELL} characters; it is no table. Export it as CSV.")
    named = _SEPARATOR.match(text)
    text = text[named.end() :] if named else text
    header = text.split("\n", 1)[0]
    delimiter = named[1] if named else max(DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = [_tidy(cell) for cell in next(reader, [])]
        rows = [(number, cells) for number, cells in enumerate(reader, start=2) if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise DatasetError(
            f"row {reader.line_num} of {path} does not parse: {error}. Export the table as CSV."
        ) from error
    if allows is not None:
        _check_unnamed(columns, rows, path=path)
    _check_columns(columns, path=path, requires=requires, allows=allows)
    return [_row(cells, columns=columns, origin=f"row {number} of {path.name}") for number, cells in rows]


def read_xlsx(path: Path, *, requires: Sequence[str]) -> list[Row]:
    """Read the first sheet of an .xlsx whose first row holds all of `requires`.

    Raises:
        DatasetError: missing, not an .xlsx, or no such sheet.
    """
    import openpyxl  # 0.2 s, and only one dataset needs it

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl lets zipfile's, xml's and its own errors through
        raise DatasetError(f"{path} does not read as .xlsx: {error}. Get it again from its source.") from error
    try:
        for sheet in book.worksheets:
            rows = sheet.iter_rows(values_only=True)
            columns = [_cell(value) for value in next(rows, ())]
            if set(requires) <= set(columns):
                return [
                    _row([_cell(value) for value in values], columns=columns, origin=f"row {number} of {path.name}")
                    for number, values in enumerate(rows, start=2)
                    if any(value is not None for value in values)
                ]
    finally:
        book.close()
    raise DatasetError(
        f"{path} has no sheet with the columns {', '.join(requires)}; its source's has. Get it again from its source."
    )


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"table {path} does not open: {error.strerror}. Give the dataset as its source has it."
        ) from error
    wide = next((codec for mark, codec in _MARKS if data.startswith(mark)), None)
    if not wide and b"\0" in data[:256]:
        raise DatasetError(f"{path} holds null bytes: it is UTF-16 without a mark, or no text. Save it as CSV UTF-8.")
    try:
        return data.decode(wide or "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise DatasetError(f"{path} is no sound {wide}: {error.reason}. Export it as CSV UTF-8.") from error
        log.warning("%s is not UTF-8; it is read as Windows-1252. Export it as UTF-8 if letters look wrong.", path.name)
        return data.decode("cp1252", errors="replace")


def _check_unnamed(columns: Sequence[str], rows: Sequence[tuple[int, Sequence[str]]], *, path: Path) -> None:
    """A column without a name holds nothing, or is the first and numbers the rows, as pandas writes it."""
    for place, name in enumerate(columns):
        cells = [cells[place].strip() if place < len(cells) else "" for _, cells in rows]
        if name or not any(cells):
            continue
        numbers = [list(map(str, range(first, first + len(cells)))) for first in (0, 1)]
        if place or cells not in numbers:
            row = next(number for (number, _), cell in zip(rows, cells, strict=True) if cell)
            raise DatasetError(
                f"column {place + 1} of {path} has no name, but row {row} of it holds something; the first row names "
                "every column. Name it or remove it."
            )


def _check_columns(
    columns: Sequence[str], *, path: Path, requires: Sequence[str], allows: Sequence[str] | None
) -> None:
    missing = [name for name in requires if name not in columns]
    if missing:
        raise DatasetError(
            f"{path} has the columns {', '.join(columns) or '(none)'}; it lacks {', '.join(missing)}. "
            "The first row names the columns, separated by comma, semicolon or tab."
        )
    if allows is not None and (unknown := [name for name in columns if name and name not in allows]):
        raise DatasetError(
            f"{path} has unknown columns: {', '.join(repr(name) for name in unknown)}; "
            f"there may be: {', '.join(allows)}. Rename or remove them."
        )
    twice = sorted({name for name in columns if columns.count(name) > 1 and name})
    if twice:
        raise DatasetError(f"{path} names a column twice: {', '.join(twice)}; each stands once. Remove one.")


def _row(cells: Sequence[str], *, columns: Sequence[str], origin: str) -> Row:
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise DatasetError(
            f"{origin} has {len(cells)} cells for {len(columns)} columns; a cell that holds the separator needs quotes."
        )
    padded = [*cells, *([""] * (len(columns) - len(cells)))]
    return Row({name: _tidy(cell) for name, cell in zip(columns, padded, strict=False)}, origin=origin)


def _tidy(cell: str) -> str:
    return LINE_BREAKS.sub(" ", cell).strip()


def _cell(value: object) -> str:
    """A spreadsheet's value as text; whole numbers without the ".0"."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
