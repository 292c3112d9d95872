"""`Gallery.snapshot`: several reads of one state, whatever is written meanwhile; SQLite."""

import threading

import numpy as np
import pytest

from sonoseek.core import GalleryError
from sonoseek.gallery import create_gallery, open_gallery

DIMENSION = 24


@pytest.fixture(params=["another", "the same"])
def reader_and_writer(request, tmp_path, make_entries):
    """A gallery of 30 scans, and one to write with: opened by itself, or the same object."""
    with create_gallery(tmp_path / "g", bundle_id="b", dimension=DIMENSION) as writer:
        writer.add(make_entries(30))
        if request.param == "the same":
            yield writer, writer
        else:
            with open_gallery(tmp_path / "g") as reader:
                yield reader, writer


def test_every_read_of_a_snapshot_is_of_one_state(reader_and_writer, make_entries):
    reader, writer = reader_and_writer
    entries = make_entries(40)
    with reader.snapshot() as snapshot:
        before = (snapshot.state(), snapshot.count(), snapshot.info().cases, snapshot.descriptor_counts())
        found = snapshot.search(entries[35].embedding, k=50)
        writer.add(entries[30:])
        writer.remove(scan_ids=[entries[0].scan_id])
        assert (snapshot.state(), snapshot.count(), snapshot.info().cases, snapshot.descriptor_counts()) == before
        assert snapshot.search(entries[35].embedding, k=50) == found
        assert snapshot.get(entries[0].scan_id) is not None
        assert snapshot.get(entries[35].scan_id) is None
        assert len(list(snapshot)) == len(snapshot.entries(scan_ids=[e.scan_id for e in entries])) == 30
        assert snapshot.count_excluded(snapshot.exclusion_for(entries[35].scan_id)).excluded == 0
        assert reader.count() == 39  # outside of it the present is seen
    assert reader.count() == 39
    assert reader.search(entries[35].embedding, k=1).matches[0].scan_id == entries[35].scan_id


def test_the_state_is_that_of_the_beginning_even_before_the_first_read(reader_and_writer, make_entries):
    reader, writer = reader_and_writer
    with reader.snapshot() as snapshot:
        writer.add(make_entries(40)[30:])
        assert snapshot.count() == 30


def test_a_snapshot_of_a_snapshot_is_the_same_state(reader_and_writer, make_entries):
    reader, writer = reader_and_writer
    with reader.snapshot() as outer:
        writer.add(make_entries(40)[30:])
        with outer.snapshot() as inner:
            assert inner.count() == 30


def test_a_snapshot_is_for_reading_and_leaves_the_gallery_open(reader_and_writer, make_entries):
    reader, writer = reader_and_writer
    with reader.snapshot() as snapshot:
        with pytest.raises(GalleryError, match="open for reading"):
            snapshot.add(make_entries(1))
        snapshot.close()
    assert reader.count() == writer.add(make_entries(30)).unchanged == 30


def test_errors_of_the_block_pass_as_they_are_and_the_connection_is_given_back(reader_and_writer):
    reader, _ = reader_and_writer
    for _ in range(5):
        with pytest.raises(FileNotFoundError, match="another file"), reader.snapshot():
            raise FileNotFoundError("another file")
    assert len(reader._file._opened) == len(reader._file._idle)
    assert reader.count() == 30


def test_threads_have_snapshots_of_their_own(reader_and_writer, make_entries):
    reader, writer = reader_and_writer
    counts: list[int] = []
    ready, written = threading.Event(), threading.Event()

    def read() -> None:
        with reader.snapshot() as snapshot:
            counts.append(snapshot.count())
            ready.set()
            written.wait(20)
            counts.append(snapshot.count())

    thread = threading.Thread(target=read)
    thread.start()
    assert ready.wait(20)
    writer.add(make_entries(40)[30:])
    with reader.snapshot() as snapshot:
        counts.append(snapshot.count())
    written.set()
    thread.join(20)
    assert counts == [30, 40, 30]


def test_an_older_snapshot_keeps_its_index_while_the_gallery_goes_on(reader_and_writer, make_entries, monkeypatch):
    reader, writer = reader_and_writer
    entries = make_entries(40)
    with reader.snapshot() as older:
        before = older.search(entries[3].embedding)
        writer.add(entries[30:])
        reader.refresh()
        monkeypatch.setattr(
            "sonoseek.gallery.sqlite.index_cache.build_index", lambda *_, **__: pytest.fail("it was made again")
        )
        assert older.search(entries[3].embedding) == before
        assert reader.search(entries[3].embedding, k=50).matches[-1].rank == 40


def test_an_older_snapshot_searches_right_after_a_newer_one(reader_and_writer, make_entries):
    reader, writer = reader_and_writer
    entries = make_entries(40)
    query = entries[35].embedding
    with reader.snapshot() as older:
        writer.add(entries[30:])
        assert reader.search(query, k=1).matches[0].similarity == pytest.approx(1.0, abs=1e-5)
        best = older.search(query, k=1).matches[0]
        assert best.scan_id in {entry.scan_id for entry in entries[:30]}
        assert older.search(query, k=50).matches[-1].rank == 30
    assert np.isfinite(best.similarity)
