"""Tables of results: compressed CSV, one struct a row, typed by msgspec; any reader of CSV opens them.

A struct within a row takes several columns (`search: Search` → `search_gallery`, `search_relevant` …). Names in a cell
are separated by "|". An empty cell is a field's default: NaN where nothing was measured. Numbers with a fraction are
written as the shortest text that reads back as the same float32, so that rows read and written again stay the same.
"""

from __future__ import annotations

import bz2
import csv
import fcntl
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec
import numpy as np

from sonoseek.core import ResultsError
from sonoseek.core.files import write_atomically

SYSTEM = "system"
"""First column of a table that holds several systems."""
SEPARATOR = "|"
LOCK = ".lock"
Row = TypeVar("Row", bound=msgspec.Struct)


class _Column(NamedTuple):
    path: tuple[str, ...]
    required: bool
    many: bool


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder of results while it is changed, made if need be: runs that end at once wait for each other."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_table(path: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Replace a table in one step; the same rows give the same bytes."""
    _write(path, columns(kind), (_cells(kind, row) for row in rows))


def read_table(path: Path, kind: type[Row]) -> list[Row]:
    """Rows in the order of the file; row n stands in line n + 2.

    Raises:
        ResultsError: not there, no table with these columns, or a cell that does not hold what its column must.
    """
    return _decode(path, kind, list(enumerate(_read(path, columns(kind)), start=2)))


def place_rows(path: Path, kind: type[Row], rows: Iterable[Row], *, system: str) -> None:
    """Put one system's rows into a table of several, in the place of those that it had there; others' stay as they are.

    Systems stand in the order of their names. Hold the folder (`locked`) where others may write as well.

    Raises:
        ResultsError: a table stands there that has other columns or does not read.
    """
    heads = (SYSTEM, *columns(kind))
    others = [cells for cells in _read(path, heads) if cells[0] != system] if path.is_file() else []
    _write(path, heads, sorted([*others, *([system, *_cells(kind, row)] for row in rows)], key=lambda cells: cells[0]))


def read_systems(path: Path, kind: type[Row]) -> dict[str, list[Row]]:
    """System → its rows, of a table that `place_rows` wrote.

    Raises:
        ResultsError: as `read_table`.
    """
    lines_of: dict[str, list[tuple[int, list[str]]]] = {}
    for line, (system, *cells) in enumerate(_read(path, (SYSTEM, *columns(kind))), start=2):
        lines_of.setdefault(system, []).append((line, cells))
    return {system: _decode(path, kind, lines) for system, lines in lines_of.items()}


def columns(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Headings of a table of such rows, but for "system"."""
    return tuple("_".join(column.path) for column in _columns(kind))


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ResultsError: not there, or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"no readable {path.name} in {path.parent} ({error}). Evaluate again.") from error


def write_json(path: Path, content: Any, *, depth: int = 2) -> None:
    """Replace a JSON file in one step; objects down to `depth` have a line for each key, what is deeper shares it."""
    write_atomically(path, (_lines(content, depth) + "\n").encode())


@cache
def _columns(kind: type[msgspec.Struct]) -> tuple[_Column, ...]:
    listed: list[_Column] = []
    for field in msgspec.structs.fields(kind):
        types = (field.type, *get_args(field.type))
        inner = next((t for t in types if isinstance(t, type) and issubclass(t, msgspec.Struct)), None)
        if inner is None:
            listed.append(_Column((field.name,), field.required, get_origin(field.type) is tuple))
        else:
            listed += [column._replace(path=(field.name, *column.path), required=False) for column in _columns(inner)]
    return tuple(listed)


def _cells(kind: type[Row], row: Row) -> list[str]:
    cells = []
    for column in _columns(kind):
        value: Any = row
        for name in column.path:
            value = None if value is None else getattr(value, name)
        cells.append(_text(value))
    return cells


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else str(np.float32(value)).removesuffix(".0")
    if isinstance(value, tuple):
        return SEPARATOR.join(value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _decode(path: Path, kind: type[Row], lines: Sequence[tuple[int, list[str]]]) -> list[Row]:
    content = [_content(kind, cells) for _, cells in lines]
    try:
        return msgspec.convert(content, list[kind], strict=False)  # type: ignore[valid-type]
    except msgspec.ValidationError as error:
        rule, _, where = str(error).partition(" - at ")
        place, name = re.fullmatch(r"`\$\[(\d+)\]\.?([\w.]*)(?:\[\.\.\.\])?`", where).groups()  # type: ignore[union-attr]
        line, cells = lines[int(place)]
        cell = dict(zip(columns(kind), cells, strict=True)).get(column := name.replace(".", "_"))
        problem = f"{column}:" if cell is None else f"{column} is {cell!r};"
        raise ResultsError(f"{path}, line {line}: {problem} {rule[0].lower()}{rule[1:]}. Evaluate again.") from error


def _content(kind: type[Row], cells: Sequence[str]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for column, cell in zip(_columns(kind), cells, strict=True):
        if cell or column.required:
            *outer, name = column.path
            inside = content
            for each in outer:
                inside = inside.setdefault(each, {})
            inside[name] = cell.split(SEPARATOR) if column.many else cell
    return content


def _read(path: Path, heads: Sequence[str]) -> list[list[str]]:
    """Cells of every row of a table with exactly these columns."""
    try:
        text = bz2.decompress(path.read_bytes()).decode()
        first, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (OSError, ValueError, csv.Error) as error:
        raise ResultsError(f"no readable {path.name} in {path.parent} ({error}). Evaluate again.") from error
    if first != list(heads):
        raise ResultsError(f"{path} has the columns {first}; they must be {list(heads)}. Evaluate again.")
    for line, cells in enumerate(rows, start=2):
        if len(cells) != len(heads):
            raise ResultsError(f"{path}, line {line} has {len(cells)} cells, not {len(heads)}. Evaluate again.")
    return rows


def _write(path: Path, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    write_atomically(path, bz2.compress(text.getvalue().encode()))


def _lines(content: Any, depth: int) -> str:
    if depth and content and isinstance(content, Mapping):
        return (
            "{\n"
            + ",\n".join(f"{json.dumps(key)}: {_lines(value, depth - 1)}" for key, value in content.items())
            + "\n}"
        )
    if depth and content and isinstance(content, list | tuple):
        return "[\n" + ",\n".join(_lines(value, 0) for value in content) + "\n]"
    return json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
