"""A gallery from elsewhere is input: its schema, the sizes in its rows and the shape of its pages are not trusted."""

import multiprocessing
import resource
import sqlite3
import struct
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from gallery_contract import BUNDLE_ID, DIMENSION

from sonoseek.core import GalleryError, InvalidValueError
from sonoseek.gallery import create_gallery, decode_picture, encode_picture, open_gallery
from sonoseek.gallery.sqlite import connections, versions
from sonoseek.gallery.values import LARGEST_PICTURE, MAX_DIMENSION

QUERY = np.ones(DIMENSION, np.float32)


@pytest.fixture
def archive(tmp_path, make_entries) -> Path:
    """A closed gallery of thirty entries; the path of its file."""
    with create_gallery(tmp_path / "archive", bundle_id=BUNDLE_ID, dimension=DIMENSION) as gallery:
        gallery.add(make_entries(30))
        gallery.search(QUERY)
    return tmp_path / "archive" / "gallery.db"


def forge(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(script)


# Its schema

OTHER_SCHEMAS = {
    "a view for a table": """ALTER TABLE scans RENAME TO kept; CREATE VIEW scans AS WITH RECURSIVE n(row_id) AS
        (SELECT 1 UNION ALL SELECT row_id + 1 FROM n) SELECT * FROM n""",
    "another view": "CREATE VIEW summary AS SELECT * FROM cases",
    "a trigger": """CREATE TRIGGER rewrite AFTER INSERT ON scans BEGIN
        UPDATE cases SET pathology = 'benign'; END""",
    "another table": "CREATE TABLE notes (text TEXT)",
    "a virtual table": "CREATE VIRTUAL TABLE notes USING fts5(text)",
    "another column": "ALTER TABLE cases ADD COLUMN notes TEXT",
    "a generated column": "ALTER TABLE scans ADD COLUMN twice INTEGER AS (row_id * 2)",
    "a renamed column": "ALTER TABLE scans RENAME COLUMN view TO views",
    "another index": "CREATE INDEX more ON cases (device)",
    "an index of an expression": """DROP INDEX scans_by_change;
        CREATE INDEX scans_by_change ON scans (abs(changed))""",
    "a missing index": "DROP INDEX cases_by_group",
    "a missing table": "DROP TABLE evidence",
    "another constraint": """DROP TABLE removals; CREATE TABLE removals (changed INTEGER NOT NULL,
        row_id INTEGER NOT NULL CHECK (row_id > 0), PRIMARY KEY (changed, row_id)) STRICT, WITHOUT ROWID""",
    "statistics of another shape": """ANALYZE; PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET sql = 'CREATE VIEW sqlite_stat1 AS SELECT 1' WHERE name = 'sqlite_stat1'""",
    "two tables with the same pages": """PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage =
        (SELECT rootpage FROM sqlite_master WHERE name = 'evidence') WHERE name = 'pictures'""",
    "a statement of another table": """PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET sql = replace(sql, 'STRICT', '') WHERE name = 'pictures'""",
    "a statement that is very long": """PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET sql = sql || printf('%.*c', 1000000, ' ') WHERE name = 'pictures'""",
    "a difference within quotes": """PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET sql = replace(sql, '''benign''', '''benign--''') WHERE name = 'cases'""",
}


@pytest.mark.parametrize("mode", ["r", "w"])
@pytest.mark.parametrize("name", OTHER_SCHEMAS)
def test_another_schema_is_refused_before_the_first_statement(archive, name, mode):
    try:
        forge(archive, OTHER_SCHEMAS[name])
    except sqlite3.OperationalError as error:
        pytest.skip(f"this SQLite makes no such file: {error}")
    began = time.perf_counter()
    with pytest.raises(GalleryError, match=r"not one that sonoseek made|lacks|malformed|restore|Restore"):
        open_gallery(archive, mode)
    assert time.perf_counter() - began < 2


def test_statistics_and_other_white_space_are_no_difference(archive):
    forge(
        archive,
        "ANALYZE; PRAGMA writable_schema = ON;"
        "UPDATE sqlite_master SET sql = replace(sql, '    ', '  -- a note\n\t') WHERE name = 'scans'",
    )
    with open_gallery(archive, "w") as gallery:
        assert gallery.count() == 30
        assert gallery.verify() == ()
        gallery.optimise()
    with open_gallery(archive) as gallery:
        assert gallery.verify() == ()


def test_connections_trust_no_schema_and_wipe_what_they_delete(archive):
    with open_gallery(archive, "w") as gallery, gallery._file.any() as connection:
        for pragma, value in (("trusted_schema", 0), ("cell_size_check", 1), ("secure_delete", 1)):
            assert connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)


def test_what_was_removed_is_no_longer_in_the_file(archive, make_entry):
    entry = make_entry(3, histology="a very particular finding")
    with open_gallery(archive, "w") as gallery:
        gallery.add([entry])
        with gallery._file.writer() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert b"a very particular finding" in archive.read_bytes()
        gallery.remove(cases=[(entry.record.dataset, entry.record.case_id)])
    assert b"a very particular finding" not in archive.read_bytes()


# The shape of its pages


def amplify(path: Path, name: str, *, levels: int) -> None:
    """Lay levels of interior pages over a table's or an index's root, all of whose children are the level below."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    pages = len(content) // size
    old = bytes(content[(root - 1) * size : root * size])
    assert old[0] in (2, 5, 10, 13)
    table = old[0] in (5, 13)
    content += old  # the former root moves to the end
    child = pages + 1
    for level in range(levels):
        page = bytearray(size)
        cells = 400 if table else 300
        cell_size = 5 if table else 8
        at = size
        for number in range(cells):
            at -= cell_size
            # A table's cell is a child and a key; an index's a child and a record of one NULL… here of the integer 0.
            cell = struct.pack(">I", child) + (b"\x01" if table else b"\x03\x03\x08\x08")
            page[at : at + len(cell)] = cell
            page[12 + 2 * number : 14 + 2 * number] = struct.pack(">H", at)
        page[0:12] = struct.pack(">BHHHBI", 5 if table else 2, 0, cells, at, 0, child)
        if level == levels - 1:
            content[(root - 1) * size : root * size] = page
        else:
            content += page
            child = len(content) // size
    content[28:32] = struct.pack(">I", len(content) // size)
    path.write_bytes(content)


def test_a_read_that_leads_in_circles_ends(archive, monkeypatch):
    amplify(archive, "removals", levels=1)  # opening reads none of it
    with open_gallery(archive) as gallery:
        assert gallery.count() == 30
    amplify(archive, "scans", levels=8)
    monkeypatch.setattr(connections, "STEPS", 2_000_000)
    began = time.perf_counter()
    with (
        open_gallery(archive) as gallery,
        pytest.raises(GalleryError, match=r"more steps than .* Restore"),
        gallery._connections.snapshot() as connection,
    ):
        connection.execute("SELECT sum(exponent) FROM scans NOT INDEXED").fetchone()
    assert time.perf_counter() - began < 60


def test_a_count_that_leads_in_circles_ends(archive, monkeypatch):
    with closing(sqlite3.connect(archive)) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN SELECT count(*) FROM scans").fetchone()[3]
    amplify(archive, plan.rsplit(" ", 1)[-1], levels=8)
    monkeypatch.setattr(versions, "LONGEST_COUNT_S", 0.5)
    began = time.perf_counter()
    with open_gallery(archive) as gallery, pytest.raises(GalleryError, match=r"more steps than|damaged"):
        gallery.count()
    assert time.perf_counter() - began < 20


def test_the_limit_on_steps_is_of_one_block(archive, monkeypatch):
    monkeypatch.setattr(connections, "STEPS", 200_000)
    monkeypatch.setattr(connections, "STEPS_PER_BYTE", 0)
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) SELECT max(i) FROM n"
    with open_gallery(archive) as gallery, gallery.snapshot() as pinned:
        for _ in range(20):
            with pinned._connections.snapshot() as connection:
                assert connection.execute(count).fetchone() == (5000,)
        with pytest.raises(GalleryError, match="more steps"), pinned._connections.snapshot() as connection:
            connection.execute(count.replace("5000", "5000000")).fetchone()
        assert pinned.count() == 30


# Sizes in its rows


def rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def put(column: str, value: str, *, table: str = "scans") -> str:
    return f"UPDATE {table} SET {column} = {value}"  # noqa: S608


FORGED_ROWS: dict[str, tuple[str, Callable[..., object], str]] = {
    "a shape": (put("height", "200000") + ";" + put("width", "200000"), list, "case .* 200000 × 200000.*megapixels"),
    "a negative shape": (put("height", "-5"), list, "case .*scan_shape"),
    "an embedding": (put("embedding", "zeroblob(50000000)"), list, "case .*embedding has 50,000,000 bytes"),
    "a searched embedding": (
        put("embedding", "zeroblob(50000000)"),
        lambda gallery: gallery.search(QUERY),
        f"does not have {DIMENSION} numbers",
    ),
    "a picture": (
        put("jpeg", "zeroblob(50000000)", table="pictures"),
        list,
        "case .*picture has 50,000,000 bytes; at most",
    ),
    "a matched picture": (
        put("jpeg", "zeroblob(50000000)", table="pictures"),
        lambda gallery: gallery.search(QUERY),
        "case .*picture has 50,000,000 bytes; at most",
    ),
    "evidence": (
        "INSERT INTO evidence SELECT row_id, zeroblob(50000000) FROM scans LIMIT 1",
        list,
        "case .*evidence has 50,000,000 bytes; at most",
    ),
    "a text": (put("source", "printf('%.*c', 90000000, 'x')"), list, "longer than"),
    "long descriptors": (
        put("descriptors", "'[[\"shape\", \"' || printf('%.*c', 20000000, 'x') || '\"]]'", table="cases"),
        list,
        r"descriptors are .*…; they are pairs",
    ),
    "deep descriptors": (put("descriptors", "replace(hex(zeroblob(30000)), '0', '[')", table="cases"), list, "pairs"),
    "listed descriptors": (put("descriptors", '\'[[["shape"], "oval"]]\'', table="cases"), list, "pairs"),
    "a number as descriptors": (put("descriptors", "'5'", table="cases"), list, "pairs"),
    "counted descriptors": (
        put("descriptors", "replace(hex(zeroblob(30000)), '0', '[')", table="cases"),
        lambda gallery: gallery.descriptor_counts(),
        "pairs",
    ),
}


@pytest.mark.parametrize("name", FORGED_ROWS)
def test_sizes_in_rows_are_bounded_before_memory_is_asked_for(archive, name):
    script, read, words = FORGED_ROWS[name]
    (archive.with_name("gallery.db.vectors")).unlink()
    if any(large in script for large in ("zeroblob(50000000)", "90000000", "20000000")) and "INSERT" not in script:
        script = f"{script} WHERE rowid = (SELECT max(rowid) FROM {script.split()[1]})"  # noqa: S608
    forge(archive, f"PRAGMA ignore_check_constraints = ON; {script}")
    before = rss_mb()
    with open_gallery(archive) as gallery, pytest.raises(GalleryError, match=words) as raised:
        read(gallery)
    assert len(str(raised.value)) < 1_000
    assert rss_mb() - before < 100


@pytest.mark.parametrize("dimension", [MAX_DIMENSION + 1, 10**15, 0, -1, "'much'", "9e999", "x'00'", "NULL"])
def test_an_absurd_dimension_is_refused(archive, dimension):
    (archive.with_name("gallery.db.vectors")).unlink()
    if dimension == "NULL":
        forge(archive, "DELETE FROM meta WHERE key = 'dimension'")
    else:
        forge(archive, f"UPDATE meta SET value = {dimension} WHERE key = 'dimension'")  # noqa: S608
    with pytest.raises(GalleryError, match="lacks its own description"):
        open_gallery(archive)


def test_a_dimension_that_the_file_has_no_room_for_is_refused(archive):
    (archive.with_name("gallery.db.vectors")).unlink()
    forge(archive, f"UPDATE meta SET value = {MAX_DIMENSION} WHERE key = 'dimension'")  # noqa: S608
    with open_gallery(archive) as gallery, pytest.raises(GalleryError, match=r"30 scans .* do not fit into"):
        gallery.search(np.ones(MAX_DIMENSION, np.float32))


def test_a_description_of_many_keys_is_not_read(archive):
    forge(
        archive,
        """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000)
        INSERT INTO meta SELECT 'a' || i, 1 FROM n""",
    )
    with pytest.raises(GalleryError, match="lacks its own description"):
        open_gallery(archive)


def test_an_entry_that_could_not_be_read_again_is_not_taken(make_entry, monkeypatch):
    entry = make_entry(1)
    for change, words in (
        ({"scan_shape": (9_000, 9_000)}, "9000 × 9000.*SONOSEEK_MAX_MEGAPIXELS"),
        ({"picture": b"\xff\xd8" + bytes(LARGEST_PICTURE)}, "picture has .* at most"),
        ({"evidence": bytes(40 << 20)}, "evidence has .* at most"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            type(entry)(**{**{name: getattr(entry, name) for name in entry.__dataclass_fields__}, **change})
    monkeypatch.setenv("SONOSEEK_MAX_MEGAPIXELS", "100")
    type(entry)(**{**{name: getattr(entry, name) for name in entry.__dataclass_fields__}, "scan_shape": (9_000, 9_000)})


def test_a_stored_picture_of_many_pixels_is_not_decoded():
    picture = bytearray(encode_picture(np.zeros((24, 32), np.uint8)))
    at = picture.index(b"\xff\xc0")
    picture[at + 5 : at + 9] = struct.pack(">HH", 30_000, 30_000)
    before = rss_mb()
    for bad in (
        bytes(picture),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\xff\xd8\xff\xe0\x00\x00",
        b"\xff\xd8" + b"\xff" * 50,
    ):
        with pytest.raises(GalleryError, match="does not decode"):
            decode_picture(bad)
    assert rss_mb() - before < 50


# First builders


def _build(place: str, entry, barrier, replies) -> None:
    try:
        barrier.wait(30)
        with create_gallery(place, bundle_id=BUNDLE_ID, dimension=DIMENSION, exist_ok=True, timeout_s=30) as gallery:
            gallery.add([entry])
        replies.put("")
    except Exception as error:  # told to the test
        replies.put(repr(error))


def test_two_first_builders_at_once_both_succeed(tmp_path, make_entry):
    fork = multiprocessing.get_context("fork")
    for attempt in range(8):
        place = str(tmp_path / f"archive {attempt}")
        barrier, replies = fork.Barrier(2), fork.Queue()
        builders = [
            fork.Process(target=_build, args=(place, make_entry(number), barrier, replies)) for number in range(2)
        ]
        for builder in builders:
            builder.start()
        assert [replies.get(timeout=60) for _ in builders] == ["", ""]
        for builder in builders:
            builder.join(60)
        with open_gallery(place) as gallery:
            assert gallery.count() == 2
            assert gallery.verify() == ()


def test_a_gallery_of_an_older_schema_is_refused_and_left_as_it_is(archive):
    forge(archive, "PRAGMA user_version = 3")
    before = archive.read_bytes()
    for mode in ("r", "w"):
        with pytest.raises(GalleryError, match=r"schema version 3.*Build the gallery anew"):
            open_gallery(archive, mode)
    assert archive.read_bytes() == before
