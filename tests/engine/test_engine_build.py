"""Filling a gallery: all of it, in order, again and again, whatever single files do."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import pytest

from sonoseek.core import BundleMismatchError, GalleryError, InvalidValueError
from sonoseek.gallery import Gallery, create_gallery
from sonoseek.indexing.build import Refusal, build_index


def content(gallery: Gallery) -> list[tuple[object, ...]]:
    return [
        (e.record, e.scan_id, e.embedding.tobytes(), e.picture, e.scan_shape, e.source, e.fingerprint) for e in gallery
    ]


def test_every_case_is_kept_with_all_that_is_known(dataset: Any, empty_gallery: Gallery, encoder: Any) -> None:
    result = build_index(dataset, empty_gallery, encoder, workers=2)
    assert (result.added, result.updated, result.unchanged, result.refused) == (12, 0, 0, ())
    assert result.seconds > 0
    assert [e.record for e in empty_gallery] == list(dataset.records())
    entry = next(iter(empty_gallery))
    scan = dataset.load("case 000").scans[0]
    assert (entry.scan_id, entry.scan_shape, entry.source) == (scan.scan_id, scan.shape, "case 000")
    assert (entry.view, entry.laterality) == ("left", None)
    found = empty_gallery.search(entry.embedding, k=12, where="view = 'right'").matches
    assert {match.case_id for match in found} == {f"case {index:03d}" for index in range(1, 12, 2)}
    assert entry.picture is not None
    assert empty_gallery.fingerprints("fake") == {r.case_id: dataset.fingerprint(r.case_id) for r in dataset.records()}


def test_the_result_does_not_depend_on_the_workers(dataset: Any, tmp_path: Path, encoder: Any) -> None:
    dataset.count = 30
    contents = []
    for workers in (1, 4):
        with create_gallery(tmp_path / str(workers), bundle_id=encoder.bundle.bundle_id, dimension=24) as gallery:
            build_index(dataset, gallery, encoder, workers=workers)
            contents.append(content(gallery))
    assert contents[0] == contents[1]
    assert len(encoder.threads) > 1


def test_a_second_build_reads_nothing(dataset: Any, empty_gallery: Gallery, encoder: Any) -> None:
    build_index(dataset, empty_gallery, encoder)
    before = content(empty_gallery)
    dataset.loaded.clear()
    result = build_index(dataset, empty_gallery, encoder)
    assert (result.added, result.updated, result.unchanged) == (0, 0, 12)
    assert dataset.loaded == []
    assert content(empty_gallery) == before


def test_touched_files_are_read_but_the_same_pixels_are_not_encoded_again(
    dataset: Any, empty_gallery: Gallery, encoder: Any
) -> None:
    build_index(dataset, empty_gallery, encoder)
    vectors = [e.embedding.tobytes() for e in empty_gallery]
    dataset.touched = {"case 003", "case 007"}
    encoder.calls = 0
    dataset.loaded.clear()
    result = build_index(dataset, empty_gallery, encoder)
    assert sorted(dataset.loaded) == ["case 003", "case 007"]
    assert encoder.calls == 0
    assert result.added == 0
    assert result.updated + result.unchanged == 12
    assert [e.embedding.tobytes() for e in empty_gallery] == vectors
    assert build_index(dataset, empty_gallery, encoder).unchanged == 12


def test_a_case_whose_pixels_changed_is_replaced(dataset: Any, empty_gallery: Gallery, encoder: Any) -> None:
    build_index(dataset, empty_gallery, encoder)
    old = dataset.load("case 005").scans[0].scan_id
    dataset.edited = {"case 005"}
    result = build_index(dataset, empty_gallery, encoder)
    assert (result.added, result.removed, result.unchanged) == (1, 1, 11)
    assert empty_gallery.count() == 12
    assert empty_gallery.get(old) is None


def test_bad_files_are_refused_with_reasons_and_stop_nothing(
    dataset: Any, empty_gallery: Gallery, encoder: Any, unreadable: Exception
) -> None:
    dataset.broken = {
        "case 002": unreadable,
        "case 004": FileNotFoundError(2, "No such file or directory", "case 004.png"),
        "case 006": ZeroDivisionError("a bug that one file woke"),
    }
    result = build_index(dataset, empty_gallery, encoder, workers=3)
    assert result.added == 9
    assert [r.source for r in result.refused] == ["fake/case 002", "fake/case 004", "fake/case 006"]
    assert result.refused[0] == Refusal(source="fake/case 002", reason=str(unreadable))
    assert "case 004.png" in result.refused[1].reason
    assert "unexpected ZeroDivisionError" in result.refused[2].reason
    del dataset.broken["case 002"]
    again = build_index(dataset, empty_gallery, encoder)
    assert (again.added, again.unchanged, len(again.refused)) == (1, 9, 2)


def test_an_entry_that_the_gallery_cannot_keep_does_not_take_others_with_it(
    dataset: Any, empty_gallery: Gallery, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = empty_gallery.add

    def picky(entries: Any, *, whole_cases: bool = False) -> Any:
        given = list(entries)
        if any(e.record.case_id == "case 008" for e in given):
            raise InvalidValueError("case 008 cannot be kept. Leave it out.")
        return add(given, whole_cases=whole_cases)

    monkeypatch.setattr(empty_gallery, "add", picky)
    result = build_index(dataset, empty_gallery, encoder)
    assert result.added == 11
    assert [r.source for r in result.refused] == ["fake/case 008"]


def test_progress_counts_up_to_the_end_in_this_thread(
    dataset: Any, empty_gallery: Gallery, encoder: Any, unreadable: Exception
) -> None:
    seen: list[tuple[int, int]] = []
    dataset.broken = {"case 002": unreadable}

    def note(done: int, total: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append((done, total))

    build_index(dataset, empty_gallery, encoder, on_progress=note, workers=2)
    assert seen == [(i, 12) for i in range(13)]


class StoppedError(Exception):
    """As a batch job's stop button raises it."""


def test_opencv_takes_no_threads_beside_the_workers(dataset: Any, empty_gallery: Gallery, encoder: Any) -> None:
    before, during = cv2.getNumThreads(), []

    def stop(done: int, total: int) -> None:
        during.append(cv2.getNumThreads())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(dataset, empty_gallery, encoder, on_progress=stop)
    assert during == [1]
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, StoppedError])
def test_an_interrupted_build_keeps_what_was_done_and_continues(
    dataset: Any, empty_gallery: Gallery, encoder: Any, stopped: type[BaseException]
) -> None:
    dataset.count = 40

    def stop(done: int, total: int) -> None:
        if done == 15:
            raise stopped

    with pytest.raises(stopped):
        build_index(dataset, empty_gallery, encoder, on_progress=stop, workers=2)
    assert empty_gallery.count() == 15
    assert empty_gallery.verify() == ()
    assert not [t for t in threading.enumerate() if t.name.startswith("sonoseek-ingest")]
    dataset.loaded.clear()
    result = build_index(dataset, empty_gallery, encoder)
    assert (result.added, result.unchanged) == (25, 15)
    assert len(dataset.loaded) == 25
    assert empty_gallery.count() == 40


def test_memory_is_bounded(dataset: Any, empty_gallery: Gallery, encoder: Any) -> None:
    """Workers wait for the writer instead of reading the whole dataset into memory."""
    dataset.count = 100
    ahead: list[int] = []

    def note(done: int, total: int) -> None:
        ahead.append(len(dataset.loaded) - done)

    build_index(dataset, empty_gallery, encoder, on_progress=note, workers=2)
    assert max(ahead) <= 2 * 8 + 1


def test_trouble_with_the_gallery_is_not_blamed_on_a_case(
    dataset: Any, empty_gallery: Gallery, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(entries: Any, *, whole_cases: bool = False) -> Any:
        raise GalleryError("the disk is full; free some of it.")

    monkeypatch.setattr(empty_gallery, "add", full)
    with pytest.raises(GalleryError, match="disk is full"):
        build_index(dataset, empty_gallery, encoder)


def test_wrong_bundle_and_wrong_workers(dataset: Any, empty_gallery: Gallery, make_encoder: Any) -> None:
    with pytest.raises(BundleMismatchError, match=r"fake-000000000000.*other-1"):
        build_index(dataset, empty_gallery, make_encoder(bundle_id="other-1"))
    with pytest.raises(InvalidValueError, match="workers is -2"):
        build_index(dataset, empty_gallery, make_encoder(), workers=-2)


@pytest.mark.parametrize(("held", "said"), [(24, 1), (13, 1), (12, 0)])
def test_one_patient_over_half_of_a_dataset_is_said_also_of_cases_that_are_there_already(
    dataset: Any, empty_gallery: Gallery, encoder: Any, held: int, said: int
) -> None:
    dataset.count, dataset.one_patient = 24, held
    first = build_index(dataset, empty_gallery, encoder)
    assert len(first.warnings) == said
    assert all(f"patient 'A17' holds {held} of the 24 cases of 'fake'" in text for text in first.warnings)
    again = build_index(dataset, empty_gallery, encoder)
    assert (again.unchanged, again.warnings) == (24, first.warnings)


def test_placeholders_of_patients_are_counted(dataset: Any, empty_gallery: Gallery, encoder: Any) -> None:
    dataset.placeholders = {"case 001": "ANONYMOUS", "case 002": "ANONYMOUS", "case 003": "0"}
    told = build_index(dataset, empty_gallery, encoder).warnings
    assert [text.partition(";")[0] for text in told] == [
        "2 scans carry the placeholder patient id 'ANONYMOUS'",
        "1 scan carries the placeholder patient id '0'",
    ]


def test_an_empty_dataset(dataset: Any, empty_gallery: Gallery, encoder: Any) -> None:
    dataset.count = 0
    result = build_index(dataset, empty_gallery, encoder)
    assert (result.added, result.updated, result.unchanged, result.refused) == (0, 0, 0, ())
