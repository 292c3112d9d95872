"""The schema of the SQLite file, and the check that a file has this schema and nothing else.

A gallery may come from elsewhere. A view in the place of a table, a trigger or a generated column would run the file's
own statements within ours, so a file is refused before the first statement on its tables.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from sonoseek.core import GalleryError

LONGEST_VALUE = 1 << 26
"""Bytes of one text or blob, read, written or given as a parameter."""
LARGEST_SCHEMA = 1 << 16
"""Characters of one statement of the schema that are read; the longest has some thousand."""

# Pictures have a table of their own: a search reads ten of them, a filter walks past none.
SCHEMA = """
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cases (
    case_key   INTEGER PRIMARY KEY,
    dataset    TEXT NOT NULL,
    case_id    TEXT NOT NULL,
    pathology  TEXT NOT NULL CHECK (pathology IN ('normal', 'benign', 'malignant')),
    patient_id TEXT,
    "group"    TEXT,
    birads     TEXT CHECK (birads IN ('0', '1', '2', '3', '4', '4A', '4B', '4C', '5', '6')),
    histology  TEXT,
    device     TEXT,
    age_years  REAL,
    acquired   TEXT,
    licence    TEXT NOT NULL,
    descriptors TEXT,                  -- JSON, [[feature, word], …]
    digest     BLOB NOT NULL,          -- of all the above; see digests.py
    UNIQUE (dataset, case_id)
) STRICT;
CREATE INDEX cases_by_patient ON cases (patient_id, dataset) WHERE patient_id IS NOT NULL;
CREATE INDEX cases_by_group ON cases (dataset, "group") WHERE "group" IS NOT NULL;

CREATE TABLE scans (
    row_id         INTEGER PRIMARY KEY,
    scan_id        TEXT NOT NULL,
    case_key       INTEGER NOT NULL REFERENCES cases (case_key),
    embedding      BLOB NOT NULL,      -- float16, little-endian; times 2^exponent
    exponent       INTEGER NOT NULL,
    height         INTEGER NOT NULL,
    width          INTEGER NOT NULL,
    spacing_row    REAL,
    spacing_column REAL,
    laterality     TEXT CHECK (laterality IN ('left', 'right')),  -- the breast
    view           TEXT,               -- which picture of the lesion, as its archive names it
    source         TEXT NOT NULL,
    fingerprint    TEXT NOT NULL,
    digest         BLOB NOT NULL,               -- of the row, its picture and its evidence; see digests.py
    changed        INTEGER NOT NULL DEFAULT 0,  -- the state in which it, or its case, was last written
    UNIQUE (scan_id, case_key)
) STRICT;
CREATE INDEX scans_by_case ON scans (case_key, laterality, view);  -- all that a filter needs of a scan
CREATE INDEX scans_by_change ON scans (changed);

CREATE TABLE pictures (
    row_id INTEGER PRIMARY KEY REFERENCES scans (row_id) ON DELETE CASCADE,
    jpeg   BLOB NOT NULL
) STRICT;

CREATE TABLE evidence (
    row_id INTEGER PRIMARY KEY REFERENCES scans (row_id) ON DELETE CASCADE,
    packed BLOB NOT NULL               -- see sonoseek.encoder.packed
) STRICT;

CREATE TABLE states (                  -- the last of them is the gallery's; see state.py
    seq   INTEGER PRIMARY KEY,
    stamp INTEGER NOT NULL
) STRICT;

CREATE TABLE removals (                -- scans that went, and in which state
    changed INTEGER NOT NULL,
    row_id  INTEGER NOT NULL,
    PRIMARY KEY (changed, row_id)
) STRICT, WITHOUT ROWID;
"""

_STATISTICS = {
    "sqlite_stat1": "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
    "sqlite_stat4": "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
}
"""Tables that SQLite itself makes with `PRAGMA optimize`."""
_SEPARATORS = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|(?:--[^\n]*|/\*.*?\*/|\s+)+""", re.DOTALL)
"""Quoted text, which is kept, or a comment or white space, which is none of the schema."""
Item = tuple[str, str, str, str]
"""Type, name, table and statement."""


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file whose tables and indices are not exactly those that a gallery is made with.

    Raises:
        GalleryError: a table or index is missing, has another definition or shares its pages with another; or there is
            a view, a trigger or a table that does not belong to a gallery.
    """
    expected = _expected()
    present: set[str] = set()
    roots: set[int] = set()
    listed = connection.execute(
        "SELECT type, name, tbl_name, iif(length(sql) <= ?1, sql, iif(sql IS NULL, '', 'too long')), rootpage "
        "FROM sqlite_master LIMIT ?2",
        (LARGEST_SCHEMA, len(expected) + len(_STATISTICS) + 1),
    )
    for kind, name, table, statement, root in listed:
        if name in _STATISTICS and (kind, name, table, statement) == ("table", name, name, _STATISTICS[name]):
            continue
        if name in present or root in roots or not _same((kind, name, table, statement), expected.get(name)):
            raise GalleryError(
                f"{path}: {str(kind)[:40]} {str(name)[:80]!r} is not one that sonoseek made; a gallery has its own "
                "tables and indices and no view or trigger. Do not open it: restore it from a copy, or build it anew "
                "with `sonoseek index build`."
            )
        present.add(name)
        roots.add(root)
    if missing := sorted(expected.keys() - present):
        raise GalleryError(
            f"{path} lacks {', '.join(missing)}; a gallery has all of its tables and indices. Restore it from a copy, "
            "or build it anew with `sonoseek index build`."
        )


@cache
def _expected() -> dict[str, Item]:
    """Name → item of a new gallery, as this SQLite lists them."""
    with closing(sqlite3.connect(":memory:")) as made:
        made.executescript(SCHEMA)
        return {
            name: (kind, name, table, statement or "")
            for kind, name, table, statement in made.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
        }


def _same(item: Item, expected: Item | None) -> bool:
    """Whether an item is the expected one; comments and white space may differ."""
    if expected is None or item[:3] != expected[:3]:
        return False
    return item[3] == expected[3] or _plain(str(item[3])) == _plain(expected[3])


def _plain(statement: str) -> str:
    """A statement without comments, with single spaces."""
    return _SEPARATORS.sub(lambda token: token[1] or " ", statement)
