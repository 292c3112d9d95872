"""What every engine of `ENGINES` must do: threads, upkeep, pictures, states and samples."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from gallery_contract import BUNDLE_ID, DIMENSION, same

from sonoseek.core import (
    GalleryError,
    InvalidValueError,
)
from sonoseek.gallery import (
    encode_picture,
    open_gallery,
)

# Threads


def test_threads_share_a_gallery(filled, entries):
    def ask(number: int) -> bool:
        found = filled.search(entries[number % 60].embedding, k=5, where="dataset = 'phantom'")
        return found.matches[0].scan_id == entries[number % 60].scan_id and filled.count() == 60

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(200)))


def test_threads_that_write_wait_for_each_other(gallery, make_entry):
    problems: list[BaseException] = []

    def write(first: int) -> None:
        try:
            for number in range(first, first + 5):
                gallery.add([make_entry(number)])
                assert gallery.search(make_entry(number).embedding, k=1).matches[0].case_id == f"case {number:04d}"
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(start * 5,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert gallery.count() == 20


def test_an_iteration_sees_one_state(gallery, make_entries):
    gallery.add(make_entries(10))
    iterator = iter(gallery)
    next(iterator)
    gallery.add(make_entries(12)[10:])
    gallery.remove(cases=[("phantom", f"case {number:04d}") for number in range(10)])
    left = [entry.record.case_id for entry in iterator]
    if gallery.info().engine == "milvus":  # has no snapshots: see Gallery.__iter__
        assert set(left) <= {f"case {number:04d}" for number in range(10)}
    else:
        assert left == [f"case {number:04d}" for number in range(1, 10)]
    assert gallery.count() == 2


# Upkeep


def test_verify_counts_its_steps_and_misses_pictures(gallery, make_entries):
    entries = make_entries(4)
    gallery.add([dataclasses.replace(entries[0], picture=None), *entries[1:]])
    seen: list[tuple[int, int]] = []
    problems = gallery.verify(on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4)
    assert len(problems) == 1
    assert entries[0].scan_id in problems[0]
    assert "picture is missing" in problems[0]


def test_optimise_keeps_everything(gallery, make_entries):
    entries = make_entries(40)
    gallery.add(entries)
    before = gallery.search(entries[0].embedding)
    gallery.remove(scan_ids=[entry.scan_id for entry in entries[30:]])
    gallery.optimise()
    assert gallery.count() == 30
    assert gallery.verify() == ()
    assert gallery.search(entries[0].embedding).matches[0] == before.matches[0]


def test_refresh_and_info_say_how_it_is_searched(gallery, make_entries):
    gallery.add(make_entries(30))
    gallery.refresh()
    assert gallery.info().index


def test_a_snapshot_is_the_whole_gallery_elsewhere(gallery, make_entries, tmp_path):
    entries = make_entries(30)
    gallery.add(entries)
    gallery.copy_to(tmp_path / "deep" / "copy")
    before = gallery.search(entries[0].embedding)
    gallery.remove(scan_ids=[entries[0].scan_id])
    with open_gallery(tmp_path / "deep" / "copy") as copy:
        assert copy.gallery_id == gallery.gallery_id
        assert (copy.bundle_id, copy.dimension) == (BUNDLE_ID, DIMENSION)
        assert all(same(kept, given) for kept, given in zip(copy, entries, strict=True))
        assert copy.search(entries[0].embedding).matches == before.matches
        assert copy.verify() == ()
    with pytest.raises(GalleryError, match="exists already"):
        gallery.copy_to(tmp_path / "deep" / "copy")
    assert [item.name for item in (tmp_path / "deep" / "copy").iterdir() if item.name.startswith(".")] == []


# Pictures


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((40, 30), (40, 30)),
        ((512, 512), (512, 512)),
        ((1024, 512), (512, 256)),
        ((600, 2), (512, 2)),
        ((9, 5000), (1, 512)),
    ],
)
def test_pictures_are_grey_jpegs_of_at_most_512(shape, expected):
    rows = np.linspace(0, 255, shape[0])[:, None]
    pixels = np.broadcast_to(rows, shape).astype(np.uint8)
    decoded = cv2.imdecode(np.frombuffer(encode_picture(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.shape == expected
    if min(expected) > 8:
        assert abs(float(decoded.mean()) - float(pixels.mean())) < 2


@pytest.mark.parametrize("pixels", [np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)])
def test_pictures_are_made_of_scans(pixels):
    with pytest.raises(InvalidValueError, match="uint8"):
        encode_picture(pixels)


def test_embeddings_that_are_given_back_cannot_be_changed(filled, entries):
    entry = filled.get(entries[0].scan_id)
    with pytest.raises(ValueError, match="read-only"):
        entry.embedding[0] = 5


# States and samples


def test_a_state_has_one_name_until_something_is_written(gallery, location, make_entries):
    names = [gallery.state()]
    entries = make_entries(6)
    gallery.add(entries)
    names.append(gallery.state())
    gallery.remove(scan_ids=[entries[0].scan_id])
    names.append(gallery.state())
    assert len(set(names)) == 3
    gallery.search(entries[1].embedding)
    assert gallery.state() == names[-1]
    with open_gallery(location) as other:
        assert other.state() == names[-1]
    assert all(name.isascii() and 0 < len(name) < 40 for name in names)


def test_a_sample_is_drawn_once_and_the_same_again(gallery, make_entries):
    gallery.add(make_entries(40))
    drawn = gallery.sample(12, seed=3)
    keys = [(entry.record.dataset, entry.record.case_id, entry.scan_id) for entry in drawn]
    assert len(set(keys)) == 12
    assert keys == sorted(keys)
    assert [entry.scan_id for entry in gallery.sample(12, seed=3)] == [entry.scan_id for entry in drawn]
    assert [entry.scan_id for entry in gallery.sample(12, seed=4)] != [entry.scan_id for entry in drawn]
    assert all(entry.picture is None and entry.evidence is None for entry in drawn)
    assert len(gallery.sample(1000)) == 40
    assert gallery.sample(0) == ()
    with pytest.raises(InvalidValueError, match="count is -1"):
        gallery.sample(-1)


def test_the_largest_patient_of_each_dataset_counts_cases(gallery, make_entry):
    assert gallery.largest_patients() == ()
    gallery.add(make_entry(n, dataset="ours", patient_id="A17" if n < 4 else f"p{n}") for n in range(6))
    gallery.add([make_entry(10, dataset="theirs", patient_id="A17"), make_entry(11, dataset="none", patient_id=None)])
    gallery.add(
        [dataclasses.replace(make_entry(n), record=make_entry(12, dataset="theirs").record) for n in range(12, 15)]
    )
    first, second = gallery.largest_patients()
    assert (first.dataset, first.patient_id, first.cases, first.total) == ("ours", "A17", 4, 6)
    assert (second.dataset, second.cases, second.total) == ("theirs", 1, 2)
