"""The SQLite file: what it keeps, what is no gallery, earlier schemas, locks, other processes."""

import dataclasses
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from sonoseek.core import GalleryError, NotFoundError, TemporaryError
from sonoseek.gallery import create_gallery, open_gallery
from sonoseek.gallery.sqlite import rows
from sonoseek.gallery.sqlite.database import SCHEMA_VERSION

ENTRIES = """
import sys, time, numpy as np
from sonoseek.core import CaseRecord
from sonoseek.gallery import GalleryEntry, create_gallery, open_gallery

def batch(first, count, picture=2_000):
    rng = np.random.default_rng(first)
    return [
        GalleryEntry(
            record=CaseRecord(case_id=f"{number:06d}", dataset="d", pathology="benign", group=str(number)),
            scan_id=f"{number:064x}",
            embedding=rng.normal(size=24).astype(np.float32),
            picture=b"\\xff\\xd8" + rng.bytes(picture),
            scan_shape=(24, 32),
        )
        for number in range(first, first + count)
    ]

path = sys.argv[1]
"""
"""The beginning of scripts that run in a process of their own."""


def start(script: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run a script after `ENTRIES`, its output piped."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", ENTRIES + script, str(path), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def filled(path, make_entries) -> Path:
    """A closed gallery of thirty entries, with a cache; the path of its file."""
    with create_gallery(path, bundle_id="b", dimension=24) as gallery:
        gallery.add(make_entries(30))
        gallery.search(np.ones(24, np.float32))
    return path / "gallery.db"


# The file


@pytest.mark.parametrize("name", ["archive", "archive.db", "deep/er/archive.sqlite", "sqlite://archive"])
def test_a_location_is_a_folder_or_a_file(tmp_path, monkeypatch, name, make_entries):
    monkeypatch.chdir(tmp_path)
    with create_gallery(name, bundle_id="b", dimension=24) as gallery:
        gallery.add(make_entries(2))
        gallery.search(np.ones(24, np.float32))
    plain = name.removeprefix("sqlite://")
    file = Path(plain) if Path(plain).suffix else Path(plain) / "gallery.db"
    assert sorted(item.name for item in file.parent.iterdir()) == [file.name, file.name + ".vectors"]
    with open_gallery(name) as gallery:
        assert gallery.count() == 2
        assert Path(gallery.location) == file


def test_the_file_keeps_what_was_promised(filled):
    with sqlite3.connect(filled) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert raw.execute("PRAGMA application_id").fetchone() == (int.from_bytes(b"SONO"),)
        strict = raw.execute(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite%'"
        )
        assert dict(strict) == dict.fromkeys(
            ("meta", "cases", "scans", "pictures", "evidence", "states", "removals"), 1
        )
        assert {len(blob) for (blob,) in raw.execute("SELECT embedding FROM scans")} == {2 * 24}
    raw.close()
    with open_gallery(filled, "w") as gallery, gallery._connections.any() as own:  # type: ignore[attr-defined]
        assert own.execute("PRAGMA synchronous").fetchone() == (2,)
        assert own.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_searches_use_the_indices(filled):
    with sqlite3.connect(filled) as raw:
        for sql in (rows.SELECT_BY_SCAN, rows.SELECT_BY_CASE, rows.SELECT_BY_PATIENT, rows.SELECT_BY_GROUP):
            plan = [line[-1] for line in raw.execute("EXPLAIN QUERY PLAN " + sql, ("[]",))]
            assert not [line for line in plan if line.startswith("SCAN") and "VIRTUAL TABLE" not in line], plan
    raw.close()


def test_the_lazy_parts_stay_out_of_a_plain_search(filled):
    script = """
with open_gallery(path) as gallery:
    gallery.search(np.ones(24, np.float32))
    print(sorted(name for name in ("lark", "cv2", "torch") if name in sys.modules))
"""
    process = start(script, filled)
    assert process.communicate(timeout=30)[0] == "[]\n"
    assert process.returncode == 0


# Not a gallery, another schema, damage


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x89PNG\r\n" * 2_000, b"SQLite format 3\0" + bytes(4_080)],
    ids=["empty", "text", "picture", "lies"],
)
def test_other_files_are_no_galleries(tmp_path, content):
    file = tmp_path / "g.db"
    file.write_bytes(content)
    for mode in ("r", "w"):
        with pytest.raises(GalleryError, match="build"):
            open_gallery(file, mode)
    with pytest.raises(GalleryError, match="build"):
        create_gallery(file, bundle_id="b", dimension=3, exist_ok=True)
    with pytest.raises(GalleryError, match="exists already"):
        create_gallery(file, bundle_id="b", dimension=3)
    assert file.read_bytes() == content


def test_another_database_is_no_gallery(tmp_path):
    with sqlite3.connect(tmp_path / "g.db") as raw:
        raw.execute("CREATE TABLE cases (name TEXT)")
    raw.close()
    with pytest.raises(GalleryError, match="no sonoseek gallery"):
        open_gallery(tmp_path / "g.db")
    with pytest.raises(NotFoundError):
        open_gallery(tmp_path / "nothing.db")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(NotFoundError):
        open_gallery(tmp_path / "folder.db")


@pytest.mark.parametrize(
    ("version", "remedy"), [(SCHEMA_VERSION + 1, "Upgrade"), (SCHEMA_VERSION - 1, "anew"), (0, "anew")]
)
def test_another_schema_version_is_refused(filled, version, remedy):
    with sqlite3.connect(filled) as raw:
        raw.execute(f"PRAGMA user_version = {version}")
    raw.close()
    with pytest.raises(GalleryError, match=f"schema version {version}.*{remedy}"):
        open_gallery(filled)


def test_a_gallery_that_lost_its_description_is_refused(filled):
    with sqlite3.connect(filled) as raw:
        raw.execute("DELETE FROM meta WHERE key = 'bundle_id'")
    raw.close()
    with pytest.raises(GalleryError, match="bundle_id"):
        open_gallery(filled)


def test_verify_knows_a_duplicate_threshold_that_is_none(filled):
    for value, said in ((1.5, "duplicate_threshold is 1.5"), ("much", None)):
        with sqlite3.connect(filled) as raw:
            raw.execute("INSERT OR REPLACE INTO meta VALUES ('duplicate_threshold', ?)", (value,))
        raw.close()
        if said is None:
            with pytest.raises(GalleryError, match="much"):
                open_gallery(filled)
        else:
            with open_gallery(filled) as gallery:
                assert any(said in problem for problem in gallery.verify())


def test_verify_lists_damage_and_search_does_not_hide_it(filled, make_entries):
    with sqlite3.connect(filled) as raw:
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("UPDATE scans SET embedding = x'0011' WHERE row_id = 1")
        raw.execute("UPDATE scans SET embedding = zeroblob(48) WHERE row_id = 2")
        raw.execute("UPDATE scans SET embedding = ? WHERE row_id = 3", (np.full(24, np.nan, "<f2").tobytes(),))
        raw.execute("UPDATE pictures SET jpeg = x'ffd8' WHERE row_id = 4")
        raw.execute("DELETE FROM pictures WHERE row_id = 5")
        raw.execute("UPDATE scans SET case_key = 999 WHERE row_id = 6")
        raw.execute("UPDATE states SET stamp = 1")
    raw.close()
    with open_gallery(filled) as gallery:
        problems = "\n".join(gallery.verify())
        for sentence in (
            "2 bytes, expected 48",
            "all zero",
            "NaN",
            "picture does not decode",
            "picture is missing",
            "points to a row of cases",
            "has no scans",
        ):
            assert sentence in problems
        with pytest.raises(GalleryError, match="verify"):
            gallery.search(np.ones(24, np.float32))


# Locks


def test_a_locked_gallery_is_temporary_trouble(filled, make_entry):
    with sqlite3.connect(filled, isolation_level=None) as raw, open_gallery(filled, "w", timeout_s=0.1) as gallery:
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(TemporaryError, match="Try again"):
            gallery.add([make_entry(99)])
        assert len(gallery.search(make_entry(0).embedding, k=99).matches) == 30
        raw.execute("COMMIT")
        assert gallery.add([make_entry(99)]).added == 1
    raw.close()


def test_a_thread_that_writes_too_long_is_temporary_trouble(filled, make_entry):
    with open_gallery(filled, "w", timeout_s=0.1) as gallery:
        with gallery._connections.writer(), pytest.raises(TemporaryError, match="Try again"):  # type: ignore[attr-defined]
            gallery.add([make_entry(99)])
        assert gallery.add([make_entry(99)]).added == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_must_open_its_own(filled):
    def child(gallery, answer) -> None:
        try:
            gallery.count()
        except GalleryError as error:
            answer.put(str(error))

    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    with open_gallery(filled) as gallery:
        process = context.Process(target=child, args=(gallery, answer))
        process.start()
        assert "forked" in answer.get(timeout=20)
        process.join()
        assert gallery.count() == 30


@pytest.mark.skipif(not hasattr(os, "setuid") or os.getuid() != 0, reason="only root can become somebody else")
def test_a_read_only_folder_can_be_searched(make_entries):
    script = """
import os, numpy.random, sonoseek.encoder, sonoseek.gallery.pictures, sonoseek.gallery.sqlite.gallery
import sonoseek.io.sandbox
sonoseek.io.sandbox.start_readers(1)  # nobody may not enter the folder of this Python, perhaps
os.setgid(65534), os.setuid(65534)
try:
    open_gallery(path, "w").add(batch(1, 1))
except Exception as error:
    print(type(error).__name__)
with open_gallery(path) as gallery:
    print(len(gallery.search(np.ones(24, np.float32), k=99).matches), gallery.verify())
"""
    with tempfile.TemporaryDirectory() as name:  # unlike tmp_path, under a folder that everybody may enter
        with create_gallery(name, bundle_id="b", dimension=24) as gallery:
            gallery.add(make_entries(30))
        for file in Path(name).iterdir():
            file.chmod(0o444)  # they are made for their owner alone
        Path(name).chmod(0o555)
        process = start(script, Path(name))
        assert process.communicate(timeout=30)[0] == "GalleryError\n30 ()\n"


# Killed writers, other processes


def test_a_writer_killed_inside_a_transaction_leaves_what_was_acknowledged(path):
    script = """
gallery = create_gallery(path, bundle_id="b", dimension=24)
gallery.add(batch(0, 50))
print("acknowledged", flush=True)
gallery.add(batch(50, 20_000))
"""
    process = start(script, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "acknowledged\n"
    log = path / "gallery.db-wal"
    before = log.stat().st_size
    deadline = time.monotonic() + 120
    # The log grows past SQLite's page cache while the second, unfinished transaction spills into it.
    while log.stat().st_size < before + 2_000_000 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert log.stat().st_size > before
    process.stdout.close()
    for mode in ("r", "w"):
        with open_gallery(path, mode) as gallery:
            assert gallery.count() == 50
            assert len(gallery.search(np.ones(24, np.float32), k=99).matches) == 50
    with sqlite3.connect(path / "gallery.db") as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()


def test_readers_see_whole_batches_while_another_process_writes(path):
    script = """
gallery = open_gallery(path, "w")
for first in range(100, 1_100, 10):
    gallery.add(batch(first, 10))
    gallery.remove(scan_ids=[f"{number:064x}" for number in range(first - 100, first - 90)])
print("done", flush=True)
"""
    exec(ENTRIES.replace("path = sys.argv[1]", ""), module := {})  # noqa: S102  # the same entries as the other process
    with create_gallery(path, bundle_id="b", dimension=24) as gallery:
        gallery.add(module["batch"](0, 100))
    process = start(script, path)
    seen = set()
    with open_gallery(path) as gallery:
        while process.poll() is None:
            found = gallery.search(np.ones(24, np.float32), k=10_000, where="dataset = 'd'").matches
            numbers = {int(match.scan_id, 16) for match in found}
            assert len(numbers) == len(found)
            assert len(numbers) in (100, 110)
            assert all(numbers >= {n - n % 10 + place for place in range(10)} for n in numbers)
            assert len(list(gallery)) in (100, 110)
            seen.add(min(numbers))
        final = gallery.search(np.ones(24, np.float32), k=10_000, pictures=False).matches
    assert process.communicate(timeout=30)[0] == "done\n"
    assert {int(match.scan_id, 16) for match in final} == set(range(1_000, 1_100))
    assert len(seen) > 3, "the reader saw almost nothing of the writing; make the batches slower"


def test_a_build_continues_where_it_was_stopped(path):
    exec(ENTRIES.replace("path = sys.argv[1]", ""), module := {})  # noqa: S102
    with create_gallery(path, bundle_id="b", dimension=24) as gallery:
        gallery.add([_printed(entry) for entry in module["batch"](0, 40)])
    with create_gallery(path, bundle_id="b", dimension=24, exist_ok=True) as gallery:
        known = gallery.fingerprints("d")
        missing = [_printed(e) for e in module["batch"](0, 100) if known.get(e.record.case_id) != "v1"]
        assert len(missing) == 60
        assert gallery.add(missing, whole_cases=True).added == 60
        assert gallery.count() == 100


def _printed(entry):
    return dataclasses.replace(entry, fingerprint="v1")
