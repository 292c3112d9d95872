"""What every engine of `ENGINES` must do: opened and closed, added to and removed from."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from gallery_contract import BUNDLE_ID, DIMENSION, KINDS, case_ids, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonoseek.core import (
    BundleMismatchError,
    GalleryError,
    InvalidValueError,
    NotFoundError,
)
from sonoseek.gallery import (
    ENGINES,
    AddResult,
    Exclusion,
    create_gallery,
    encode_picture,
    open_gallery,
)


def test_every_engine_of_the_table_is_tested_here():
    names = [kind if isinstance(kind, str) else str(kind.values[0]) for kind in KINDS]
    assert {name.split()[0] for name in names} == set(ENGINES)


# Life


def test_a_new_gallery_is_empty_and_says_who_it_is(gallery, location):
    info = gallery.info()
    assert (gallery.count(), info.scans, info.cases, list(gallery)) == (0, 0, 0, [])
    assert (gallery.bundle_id, gallery.dimension) == (info.bundle_id, info.dimension) == (BUNDLE_ID, DIMENSION)
    assert info.gallery_id == gallery.gallery_id
    assert info.engine in ENGINES
    assert datetime.now(UTC) - info.created < timedelta(minutes=1)
    result = gallery.search(np.ones(DIMENSION, np.float32))
    assert (result.matches, result.nearest, result.novelty) == ((), None, None)
    assert gallery.verify() == ()


def test_what_was_added_is_there_after_opening_again(gallery, location, make_entries):
    entries = make_entries(30)
    gallery.add(entries)
    gallery_id = gallery.gallery_id
    gallery.close()
    with open_gallery(location) as opened:
        assert opened.gallery_id == gallery_id
        assert opened.count() == 30
        assert [entry.record.case_id for entry in opened] == [entry.record.case_id for entry in entries]
        assert all(same(kept, given) for kept, given in zip(opened, entries, strict=True))
        assert same(opened.get(entries[7].scan_id), entries[7])
        assert opened.get("0" * 64) is None


def test_opening_what_is_not_there_says_how_to_build_it(location):
    with pytest.raises(NotFoundError, match="index build"):
        open_gallery(location)
    with pytest.raises(NotFoundError, match="there are: sqlite, milvus"):
        open_gallery("nosuchengine://somewhere")
    with pytest.raises(InvalidValueError, match="mode"):
        open_gallery(location, "a")  # type: ignore[arg-type]


def test_creating_twice_is_refused_unless_it_continues(gallery, location, make_entries):
    gallery.add(make_entries(3))
    with pytest.raises(GalleryError, match="exists already"):
        create_gallery(location, bundle_id=BUNDLE_ID, dimension=DIMENSION)
    with create_gallery(location, bundle_id=BUNDLE_ID, dimension=DIMENSION, exist_ok=True) as again:
        assert again.count() == 3
    for other in ({"bundle_id": "else-1", "dimension": DIMENSION}, {"bundle_id": BUNDLE_ID, "dimension": 5}):
        with pytest.raises(BundleMismatchError, match=BUNDLE_ID):
            create_gallery(location, **other, exist_ok=True)
    assert gallery.count() == 3


@pytest.mark.parametrize(("bundle_id", "dimension"), [("", 3), ("b", 0)])
def test_a_gallery_needs_a_bundle_and_a_dimension(location, bundle_id, dimension):
    with pytest.raises(InvalidValueError, match="dimension"):
        create_gallery(location, bundle_id=bundle_id, dimension=dimension)


def test_a_gallery_open_for_reading_cannot_be_changed(gallery, location, make_entries):
    gallery.add(make_entries(2))
    with open_gallery(location) as reader:
        for change in (lambda: reader.add(make_entries(3)), lambda: reader.remove(scan_ids=["x"]), reader.optimise):
            with pytest.raises(GalleryError, match="'w'"):
                change()
        assert reader.count() == 2


def test_a_closed_gallery_says_so(gallery):
    gallery.close()
    gallery.close()
    with pytest.raises(GalleryError, match="closed"):
        gallery.count()


# Adding and removing


def test_adding_again_changes_nothing_and_says_so(gallery, make_entries):
    entries = make_entries(10)
    assert gallery.add(entries) == AddResult(added=10)
    assert gallery.add(iter(entries)) == AddResult(unchanged=10)
    assert gallery.add(list(gallery)) == AddResult(unchanged=10)
    assert gallery.add([]) == AddResult()
    assert gallery.count() == 10


@pytest.mark.parametrize(
    "change",
    [
        {"picture": None},
        {"picture": encode_picture(np.zeros((9, 9), np.uint8))},
        {"embedding": np.linspace(-1, 2, DIMENSION, dtype=np.float32)},
        {"laterality": "left"},
        {"view": "radial"},
        {"spacing_mm": None},
        {"source": "elsewhere"},
        {"fingerprint": "new"},
        {"scan_shape": (1, 2)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_entry_that_changed_is_updated(gallery, make_entry, change):
    gallery.add([make_entry(0), make_entry(1)])
    changed = dataclasses.replace(make_entry(0), **change)
    assert gallery.add([changed, make_entry(1)]) == AddResult(updated=1, unchanged=1)
    assert same(gallery.get(changed.scan_id), changed)
    assert gallery.count() == 2


def test_a_corrected_diagnosis_reaches_every_scan_of_the_case(gallery, make_entry):
    views = [dataclasses.replace(make_entry(number), record=make_entry(1).record) for number in (1, 2)]
    gallery.add(views)
    corrected = dataclasses.replace(views[0], record=dataclasses.replace(views[0].record, pathology="malignant"))
    assert gallery.add([corrected]) == AddResult(updated=1)
    assert {entry.record.pathology for entry in gallery} == {"malignant"}
    assert [match.label for match in gallery.search(views[1].embedding).matches] == ["malignant"] * 2


def test_same_pixels_in_two_cases_are_two_entries(gallery, make_entry):
    mine, theirs = make_entry(433, case_id="benign (433)"), make_entry(145, case_id="malignant (145)", pixels=433)
    assert mine.scan_id == theirs.scan_id
    assert gallery.add([theirs, mine]) == AddResult(added=2)
    assert gallery.count() == 2
    assert gallery.get(mine.scan_id).record.case_id == "benign (433)"
    assert [e.record.case_id for e in gallery.entries(scan_ids=[mine.scan_id])] == ["benign (433)", "malignant (145)"]
    excluded = gallery.search(mine.embedding, exclude=Exclusion(scan_ids=(mine.scan_id,)))
    assert excluded.matches == ()
    whole = gallery.exclusion_for(mine.scan_id)
    assert set(whole.groups) == {("phantom", mine.record.group), ("phantom", theirs.record.group)}
    assert gallery.remove(cases=[("phantom", "benign (433)")]).removed == 1
    assert [entry.record.case_id for entry in gallery] == ["malignant (145)"]


def test_adding_is_all_or_nothing(gallery, make_entry, make_entries):
    gallery.add(make_entries(3))
    wrong = dataclasses.replace(make_entry(9), embedding=np.ones(DIMENSION + 1, np.float32))
    with pytest.raises(InvalidValueError, match=str(DIMENSION + 1)):
        gallery.add([make_entry(7), make_entry(8), wrong])

    def breaks_down():
        yield make_entry(7)
        raise OSError("the camera fell")

    with pytest.raises(OSError, match="camera"):
        gallery.add(breaks_down())
    with pytest.raises(InvalidValueError, match="two different records"):
        gallery.add([make_entry(7, case_id="c"), make_entry(8, case_id="c")])
    with pytest.raises(InvalidValueError, match="Unicode"):
        gallery.add([make_entry(7), make_entry(8, case_id="broken \udcff name")])
    assert gallery.count() == 3
    assert gallery.verify() == ()


def test_odd_file_names_do_not_stop_an_entry(gallery, make_entry):
    gallery.add([dataclasses.replace(make_entry(1), source="a\udcffb.png")])
    assert gallery.get(make_entry(1).scan_id).source == "a\\udcffb.png"


@pytest.mark.parametrize(
    "embedding",
    [
        np.zeros(DIMENSION, np.float32),
        np.full(DIMENSION, np.nan, np.float32),
        np.array([np.inf] + [1.0] * (DIMENSION - 1), np.float32),
        np.full(DIMENSION, 1e300),
        np.ones((1, DIMENSION), np.float32),
        np.ones(DIMENSION, int),
        [1.0] * DIMENSION,
    ],
    ids=["zero", "nan", "infinite", "beyond float32", "2-d", "integers", "list"],
)
def test_embeddings_without_a_direction_are_refused(gallery, make_entry, embedding):
    with pytest.raises(InvalidValueError, match="embedding"):
        dataclasses.replace(make_entry(0), embedding=embedding)
    with pytest.raises(InvalidValueError, match="embedding"):
        gallery.search(embedding)


@pytest.mark.parametrize(
    "change",
    [{"scan_id": ""}, {"laterality": "both"}, {"scan_shape": (0, 4)}, {"picture": b"\x89PNG"}],
    ids=lambda change: next(iter(change)),
)
def test_entries_that_break_a_rule_are_refused(make_entry, change):
    with pytest.raises(InvalidValueError, match=next(iter(change))):
        dataclasses.replace(make_entry(0), **change)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scale=st.floats(-37, 37).map(lambda exponent: 10.0**exponent))
def test_embeddings_of_any_size_keep_their_digits(gallery, make_entry, scale):
    embedding = (np.random.default_rng(5).normal(size=DIMENSION) * scale).astype(np.float32)
    entry = dataclasses.replace(make_entry(0), embedding=embedding)
    gallery.add([entry])
    assert same(gallery.get(entry.scan_id), entry)
    assert gallery.search(embedding, k=1).matches[0].similarity == pytest.approx(1, abs=1e-6)


def test_removing_reports_what_was_not_there(gallery, make_entries):
    entries = make_entries(6)
    gallery.add(entries)
    result = gallery.remove(
        scan_ids=[entries[0].scan_id, "f" * 64, entries[0].scan_id],
        cases=[("phantom", "case 0001"), ("phantom", "nobody"), ("elsewhere", "case 0002")],
    )
    assert result.removed == 2
    assert result.missing_scan_ids == ("f" * 64,)
    assert result.missing_cases == (("phantom", "nobody"), ("elsewhere", "case 0002"))
    assert case_ids(gallery.search(entries[0].embedding, k=99)).count("case 0000") == 0
    assert gallery.count() == gallery.info().cases == 4
    assert gallery.remove().removed == 0
    assert gallery.verify() == ()


def test_whole_cases_drop_scans_that_are_gone(gallery, make_entry):
    old = [make_entry(number, case_id="c", pathology="benign") for number in (0, 10, 20)]
    shared = dataclasses.replace(old[0].record)
    old = [dataclasses.replace(entry, record=shared, fingerprint="before") for entry in old]
    other = make_entry(5)
    gallery.add([*old, other])
    new = [dataclasses.replace(make_entry(30), record=shared), old[1]]
    assert gallery.add(new, whole_cases=True) == AddResult(added=1, unchanged=1, removed=2)
    assert {entry.scan_id for entry in gallery} == {new[0].scan_id, old[1].scan_id, other.scan_id}
    assert gallery.verify() == ()


def test_fingerprints_list_cases_whose_scans_agree(gallery, make_entry):
    shared = make_entry(0).record
    views = [dataclasses.replace(make_entry(number), record=shared) for number in (0, 1)]
    gallery.add([*views, make_entry(2), dataclasses.replace(make_entry(3), fingerprint=""), make_entry(4, dataset="x")])
    assert gallery.fingerprints("phantom") == {"case 0002": "f2"}
    gallery.add([dataclasses.replace(view, fingerprint="same") for view in views])
    assert gallery.fingerprints("phantom") == {"case 0000": "same", "case 0002": "f2"}
    assert gallery.fingerprints("x") == {"case 0004": "f4"}
    assert gallery.fingerprints("nothing") == {}


def test_info_counts(gallery, make_entries):
    gallery.add(make_entries(30))
    info = gallery.info()
    assert info.by_label == {"normal": 10, "benign": 10, "malignant": 10}
    assert list(info.by_birads.items()) == [("2", 6), ("4", 6), ("4A", 6), ("5", 6), ("unknown", 6)]
    assert info.by_device == {"GE Logiq 7": 10, "Philips": 10, "unknown": 10}
    assert info.by_dataset == {"phantom": 30}
    assert (info.scans, info.cases) == (30, 30)
    assert info.bytes > 30 * DIMENSION * 2
    assert json.loads(json.dumps(dataclasses.asdict(info), default=str))["by_label"]["benign"] == 10
