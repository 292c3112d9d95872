"""What every engine of `ENGINES` must do."""

import dataclasses
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonoseek.core import (
    BundleMismatchError,
    ExcludedCounts,
    GalleryError,
    InvalidValueError,
    NotFoundError,
    WhereError,
)
from sonoseek.gallery import (
    ENGINES,
    AddResult,
    Exclusion,
    Gallery,
    GalleryEntry,
    create_gallery,
    encode_picture,
    open_gallery,
)
from sonoseek.gallery.sqlite.index import EXACT_UP_TO

DIMENSION, BUNDLE_ID = 24, "tiny-0123456789ab"
KINDS = ["sqlite", "sqlite ivf", pytest.param("milvus", marks=[pytest.mark.peer, pytest.mark.long])]
"""Each engine, and each kind of search that an engine has."""


def test_every_engine_of_the_table_is_tested_here():
    names = [kind if isinstance(kind, str) else str(kind.values[0]) for kind in KINDS]
    assert {name.split()[0] for name in names} == set(ENGINES)


def place(kind: str, request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> str:
    """Where a gallery of a kind goes."""
    if kind == "milvus":
        return f"{request.getfixturevalue('milvus')}/g{uuid4().hex}"
    # Small galleries are searched as large ones are, or, beside a gallery of the module that is, as they are.
    patch.setattr("sonoseek.gallery.sqlite.index.EXACT_UP_TO", 0 if kind == "sqlite ivf" else EXACT_UP_TO)
    return str(folder / "archive")


@pytest.fixture(params=KINDS)
def location(request, tmp_path, monkeypatch) -> str:
    return place(request.param, request, tmp_path, monkeypatch)


@pytest.fixture
def gallery(location) -> Iterator[Gallery]:
    with create_gallery(location, bundle_id=BUNDLE_ID, dimension=DIMENSION) as made:
        yield made


def same(one: GalleryEntry, other: GalleryEntry) -> bool:
    """Equal in everything; embeddings as closely as half precision allows."""
    plain = {field.name for field in dataclasses.fields(GalleryEntry)} - {"embedding"}
    largest = np.abs(one.embedding).max()
    return all(getattr(one, name) == getattr(other, name) for name in plain) and np.allclose(
        one.embedding, other.embedding, rtol=2**-11, atol=largest * 6e-8
    )


def case_ids(result) -> list[str]:
    return [match.case_id for match in result.matches]


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


# Searching


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_search_finds_what_brute_force_finds(filled, entries, brute_force, data):
    query = np.random.default_rng(data.draw(st.integers(0, 2**32))).normal(size=DIMENSION).astype(np.float32)
    k = data.draw(st.integers(0, 70))
    out = data.draw(st.sets(st.integers(0, 59), max_size=20))
    patients = data.draw(st.sets(st.integers(0, 19), max_size=4))
    groups = data.draw(st.sets(st.integers(0, 29), max_size=4))
    where, passes = data.draw(
        st.sampled_from(
            [
                (None, lambda _: True),
                ("label = 'benign'", lambda record: record.pathology == "benign"),
                ("case = 'case 0031'", lambda record: record.case_id == "case 0031"),
                ("case = 'nobody'", lambda _: False),
            ]
        )
    )
    exclude = Exclusion(
        scan_ids=tuple(entries[number].scan_id for number in out),
        patients=tuple(("phantom", f"p{number}") for number in patients),
        groups=tuple(("phantom", f"g{number}") for number in groups),
    )
    allowed = [
        entry
        for number, entry in enumerate(entries)
        if number not in out and number // 3 not in patients and number // 2 not in groups
    ]
    result = filled.search(query, k=k, where=where, exclude=exclude)
    expected = brute_force([entry for entry in allowed if passes(entry.record)], query, k)
    assert [(match.case_id, match.scan_id) for match in result.matches] == [item[:2] for item in expected]
    assert [match.similarity for match in result.matches] == pytest.approx([item[2] for item in expected], abs=1e-6)
    assert [match.rank for match in result.matches] == list(range(1, len(expected) + 1))
    nearest = brute_force(allowed, query, 1)
    assert result.nearest == pytest.approx(1 - nearest[0][2], abs=1e-6)
    alone = filled.search(query, k=k, where=where, exclude=exclude, novelty=False)
    assert alone.matches == result.matches
    assert (alone.nearest, alone.novelty) == (None, None)


@pytest.fixture(scope="module")
def entries(make_entries) -> list[GalleryEntry]:
    return make_entries(60)


@pytest.fixture(scope="module", params=KINDS)
def filled(request, tmp_path_factory, entries) -> Iterator[Gallery]:
    """Sixty entries, as they come back: brute force sees the same rounded embeddings."""
    with pytest.MonkeyPatch.context() as patch:
        at = place(request.param, request, tmp_path_factory.mktemp("filled"), patch)
        with create_gallery(at, bundle_id=BUNDLE_ID, dimension=DIMENSION) as made:
            made.add(entries)
            entries[:] = list(made)
            yield made


def test_a_match_tells_everything_about_its_case(filled, entries):
    (match,) = filled.search(entries[13].embedding, k=1).matches
    record = entries[13].record
    for name in ("case_id", "dataset", "birads", "histology", "device", "patient_id", "group"):
        assert getattr(match, name) == getattr(record, name)
    assert (match.label, match.scan_id) == (record.pathology, entries[13].scan_id)
    assert match.picture == entries[13].picture
    assert filled.search(entries[13].embedding, k=1, pictures=False).matches[0].picture is None


def test_same_patient_and_group_do_not_answer(filled, entries):
    for number in (0, 13, 59):
        exclude = filled.exclusion_for(entries[number].scan_id)
        found = filled.search(entries[number].embedding, k=100, exclude=exclude).matches
        own = {n for n in range(60) if n // 3 == number // 3 or n // 2 == number // 2}
        assert {match.case_id for match in found} == {f"case {n:04d}" for n in range(60) if n not in own}
    assert filled.exclusion_for("unseen") == Exclusion(scan_ids=("unseen",))


def test_exclusion_is_per_dataset(gallery, make_entry):
    gallery.add([make_entry(0, dataset="a", patient_id="p"), make_entry(1, dataset="b", patient_id="p", group=None)])
    result = gallery.search(make_entry(0).embedding, exclude=gallery.exclusion_for(make_entry(0).scan_id))
    assert case_ids(result) == ["case 0001"]
    assert gallery.exclusion_for(make_entry(1).scan_id).groups == ()


def test_a_patient_who_is_named_by_the_asker_is_left_out_everywhere(gallery, make_entry):
    known = [make_entry(number, dataset=name, patient_id="p") for number, name in enumerate("ab")]
    gallery.add([*known, make_entry(2, dataset="a", patient_id="q")])
    exclude = gallery.exclusion_for("f" * 64, patient_id="p")
    assert exclude == Exclusion(scan_ids=("f" * 64,), patients=(("a", "p"), ("b", "p")))
    assert case_ids(gallery.search(known[0].embedding, exclude=exclude)) == ["case 0002"]


def test_entries_come_by_scan_and_by_case(filled, entries):
    found = filled.entries(
        scan_ids=[entries[5].scan_id, "f" * 64], cases=[("phantom", "case 0002"), ("x", "case 0003")]
    )
    assert [entry.record.case_id for entry in found] == ["case 0002", "case 0005"]
    assert same(found[1], entries[5])
    (bare,) = filled.entries(scan_ids=[entries[5].scan_id], pictures=False)
    assert same(bare, dataclasses.replace(entries[5], picture=None))
    assert filled.entries() == ()


def test_exclusions_join():
    one = Exclusion(scan_ids=("a",), patients=(("d", "p"),))
    both = one | Exclusion(scan_ids=("a", "b"), groups=(("d", "g"),))
    assert both == Exclusion(scan_ids=("a", "b"), patients=(("d", "p"),), groups=(("d", "g"),))
    assert both
    assert not Exclusion()


def test_equal_similarities_come_in_the_order_of_their_ids_under_any_filter(gallery, make_entry):
    vector = np.random.default_rng(3).normal(size=DIMENSION).astype(np.float32)
    # Two lengths: the direction is what counts, and adding it in another order changes nothing.
    twins = [make_entry(n, embedding=vector * (2.0 if n % 2 else 1.0)) for n in range(80)]
    others = [make_entry(n) for n in range(100, 137)]
    gallery.add([twin for pair in zip(others, twins, strict=False) for twin in pair] + twins[37:])
    order = [twin.record.case_id for twin in sorted(twins, key=lambda twin: twin.scan_id)]
    for k in (1, 3, 80):
        found = gallery.search(vector, k=k)
        assert case_ids(found) == order[:k]
        assert len({match.similarity for match in found.matches}) == 1
    few = {order[2], order[40], order[41]}
    where = "case in (" + ", ".join(f"'{case_id}'" for case_id in few) + ")"
    for novelty in (True, False):
        found = gallery.search(vector, k=2, where=where, novelty=novelty)
        assert case_ids(found) == [order[2], order[40]]
        assert found.matches[0].similarity == gallery.search(vector, k=1).matches[0].similarity


def test_a_filtered_search_is_never_short(filled, entries):
    for where, expected in (("label = 'malignant'", 20), ("label = 'malignant' and birads = '5'", 4), ("age < 0", 0)):
        assert len(filled.search(entries[0].embedding, k=60, where=where).matches) == expected


@pytest.mark.parametrize("k", [-1, -10])
def test_a_negative_k_is_refused(filled, entries, k):
    with pytest.raises(InvalidValueError, match="k is"):
        filled.search(entries[0].embedding, k=k)


def test_a_wrong_dimension_is_refused(filled):
    with pytest.raises(InvalidValueError, match=f"25 numbers, the gallery holds {DIMENSION}"):
        filled.search(np.ones(25, np.float32))


def test_a_filter_that_does_not_parse_leaves_the_gallery_usable(filled, entries):
    with pytest.raises(WhereError, match="brads"):
        filled.search(entries[0].embedding, where="brads = 4")
    assert len(filled.search(entries[0].embedding).matches) == 10


def test_every_search_sees_what_was_written_before_it(gallery, location, make_entry):
    with open_gallery(location) as reader:
        for number in range(5):
            gallery.add([make_entry(number)])
            for view in (gallery, reader):
                assert len(view.search(make_entry(0).embedding, where="dataset = 'phantom'").matches) == number + 1
        gallery.add([make_entry(0, dataset="moved")])
        assert case_ids(reader.search(make_entry(0).embedding, where="dataset = 'moved'")) == ["case 0000"]
        gallery.remove(cases=[("phantom", "case 0000")])
        assert len(reader.search(make_entry(0).embedding).matches) == 5


# What is left out, and who holds the most


def test_what_an_exclusion_leaves_out_is_counted_once(gallery, make_entry):
    gallery.add(
        [
            make_entry(0, patient_id="p", group="a"),
            make_entry(1, patient_id="p", group="a"),
            make_entry(2, patient_id="p", group="b"),
            make_entry(3, patient_id="q", group="b"),
            make_entry(4, patient_id=None, group="b"),
            make_entry(5, patient_id="p", group="b", dataset="elsewhere"),
            make_entry(6, pixels=0, patient_id="r", group=None),  # the same pixels in another case
            make_entry(7, patient_id=None, group=None),
        ]
    )
    exclusion = gallery.exclusion_for(make_entry(0).scan_id) | gallery.exclusion_for(make_entry(2).scan_id)
    counts = gallery.count_excluded(exclusion)
    assert counts == ExcludedCounts(scans=8, same_scan=3, same_patient=1, same_group=2)
    assert counts.excluded == 6
    assert len(gallery.search(make_entry(0).embedding, k=9, exclude=exclusion).matches) == 8 - counts.excluded
    assert gallery.count_excluded(Exclusion()) == ExcludedCounts(scans=8)
    assert gallery.count_excluded(Exclusion(scan_ids=("0" * 64,), groups=(("phantom", "none"),))).excluded == 0


# Several queries, independent matches


def test_many_searches_at_once_find_what_each_finds(filled, entries):
    queries = np.stack([entry.embedding for entry in entries[:7]])
    for options in (
        {},
        {"k": 3, "where": "label = 'benign'", "novelty": False},
        {"k": 60, "exclude": Exclusion(scan_ids=(entries[3].scan_id,)), "pictures": False},
        {"k": 4, "per_patient": True, "duplicate_threshold": 0.5},
        {"k": 0},
    ):
        assert filled.search_many(queries, **options) == tuple(filled.search(query, **options) for query in queries)
    assert filled.search_many(np.empty((0, DIMENSION), np.float32)) == ()


@pytest.mark.parametrize("wrong", [np.ones(DIMENSION), np.ones((2, DIMENSION), int), np.zeros((1, DIMENSION)), [[1.0]]])
def test_many_searches_need_a_matrix_of_embeddings(filled, wrong):
    with pytest.raises(InvalidValueError, match="embedding"):
        filled.search_many(wrong)


@pytest.fixture
def apart(gallery, make_entry):
    """Adds entries of which each is a little less similar to `QUERY` than the one before, and like no other."""

    def add(*records: dict) -> None:
        gallery.add([make_entry(n, embedding=ray(n), **record) for n, record in enumerate(records)])

    return add


QUERY = np.eye(DIMENSION, dtype=np.float32)[0]


def ray(number: int, *, towards: int | None = None) -> np.ndarray:
    """A vector at a cosine of 0.8, 0.79 … to `QUERY`, at most 0.65 to each other."""
    cosine = 0.8 - 0.01 * number
    vector = cosine * np.eye(DIMENSION)[0]
    vector[1 + (number if towards is None else towards)] = np.sqrt(1 - cosine**2)
    return vector


def counts(matches) -> list[tuple[str, int, int]]:
    return [(match.case_id[-1], match.near_duplicates, match.same_patient) for match in matches]


def test_one_match_per_patient_or_group(filled, entries):
    """Of the 60, three share a patient and two a group: six in a row hang together."""
    every = filled.search(entries[0].embedding, k=60).matches
    for k in (1, 5, 10, 30):
        found = filled.search(entries[0].embedding, k=k, per_patient=True).matches
        taken: list[tuple[str, str]] = []
        first = []
        for match in every:
            names = [("p", match.patient_id), ("g", match.group)]
            if not set(names) & set(taken):
                first.append(match)
            taken += names
        assert [match.scan_id for match in found] == [match.scan_id for match in first[:k]]
        assert [match.rank for match in found] == list(range(1, len(found) + 1))
    assert len(found) + sum(match.same_patient for match in found) == 60
    assert not any(match.near_duplicates for match in found)
    benign = filled.search(entries[0].embedding, k=30, per_patient=True, where="label = 'benign'").matches
    assert len(benign) == 20
    assert {match.label for match in benign} == {"benign"}


@pytest.mark.parametrize("duplicate_threshold", [None, 0.975])
def test_scans_of_one_case_patient_or_group_are_one_match(gallery, apart, make_entry, duplicate_threshold):
    apart(
        {"patient_id": "p", "group": "a"},
        {"patient_id": "p", "group": "b"},
        {"patient_id": "p", "group": "b", "dataset": "elsewhere"},
        {"patient_id": None, "group": "b"},  # of the group of a scan of p: behind it
        {"patient_id": "q", "group": "b"},  # a group across two patients
        {"patient_id": None, "group": "g"},
        {"patient_id": None, "group": "g"},
        {"patient_id": None, "group": None},
        {"patient_id": None, "group": None},
    )
    other = make_entry(9, embedding=ray(9))
    gallery.add([dataclasses.replace(other, record=gallery.entries(cases=[("phantom", "case 0008")])[0].record)])
    found = gallery.search(QUERY, k=9, per_patient=True, duplicate_threshold=duplicate_threshold).matches
    assert counts(found) == [("0", 0, 3), ("2", 0, 0), ("5", 1, 0), ("7", 0, 0), ("8", 0, 1)]
    assert counts(gallery.search(QUERY, k=9, duplicate_threshold=duplicate_threshold).matches)[1] == ("1", 0, 0)


def test_three_copies_of_one_scan_are_one_match_with_two_near_duplicates(gallery, make_entry):
    """As of BUSI: one group, no patient; with and without a cosine that shows it."""
    copies = [make_entry(n, embedding=ray(0, towards=n % 2), patient_id=None, group="S0001") for n in range(3)]
    others = [make_entry(n, embedding=ray(n), patient_id=None, group=None) for n in range(3, 9)]
    gallery.add([*copies, *others])
    for options in ({"per_patient": True}, {"per_patient": True, "duplicate_threshold": 0.975}):
        for k in (1, 5, 9):
            found = gallery.search(QUERY, k=k, **options).matches
            assert len(found) == min(k, 7)
            assert (found[0].near_duplicates, found[0].same_patient) == (2, 0)
            assert found[0].group == "S0001"
            assert [match.rank for match in found] == list(range(1, len(found) + 1))


def test_near_duplicates_of_a_patient_s_other_scan_belong_to_that_patient(gallery, make_entry):
    """Copies under other names are not independent of a scan that is itself left out; small steps make no chain."""
    gallery.add(
        [
            make_entry(0, embedding=ray(0), patient_id="p", group=None),
            make_entry(1, embedding=ray(1), patient_id="p", group=None),
            make_entry(2, embedding=ray(2, towards=0), patient_id="p", group=None),  # nearly 0
            make_entry(3, embedding=ray(3, towards=1), patient_id=None, group=None),  # nearly 1, and nameless
            make_entry(4, embedding=ray(4), patient_id=None, group=None),
        ]
    )
    found = gallery.search(QUERY, k=9, per_patient=True, duplicate_threshold=0.99).matches
    assert counts(found) == [("0", 1, 2), ("4", 0, 0)]
    assert counts(gallery.search(QUERY, k=9, per_patient=True).matches) == [("0", 0, 2), ("3", 0, 0), ("4", 0, 0)]


def test_small_steps_make_no_chain(gallery, make_entry):
    angles = np.radians(10.0 * np.arange(6))
    steps = [np.cos(angle) * np.eye(DIMENSION)[0] + np.sin(angle) * np.eye(DIMENSION)[1] for angle in angles]
    gallery.add([make_entry(n, embedding=step, patient_id=f"q{n}", group=None) for n, step in enumerate(steps)])
    found = gallery.search(QUERY, k=9, duplicate_threshold=float(np.cos(np.radians(15)))).matches
    assert counts(found) == [("0", 1, 0), ("2", 1, 0), ("4", 1, 0)]


def test_what_is_counted_does_not_depend_on_what_was_fetched(gallery, apart):
    """The last match too has all that comes before the next independent scan counted."""
    apart(*({"patient_id": f"p{n // 18}", "group": None} for n in range(22)))
    for options in ({}, {"where": "dataset = 'phantom'"}):
        one = gallery.search(QUERY, k=1, per_patient=True, **options).matches
        assert [match.same_patient for match in one] == [17]
        both = gallery.search(QUERY, k=2, per_patient=True, **options).matches
        assert [match.same_patient for match in both] == [17, 3]


def test_near_duplicates_stand_behind_the_better_match(gallery, make_entry):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, DIMENSION))
    gallery.add(
        [
            make_entry(n, embedding=centres[n % 4] + 0.01 * rng.normal(size=DIMENSION), patient_id=f"q{n}", group=None)
            for n in range(40)
        ]
    )
    query = centres[2].astype(np.float32)
    found = gallery.search(query, k=10, duplicate_threshold=0.99).matches
    assert [(match.near_duplicates, match.same_patient) for match in found] == [(9, 0)] * 4
    assert found[0] == dataclasses.replace(gallery.search(query, k=1).matches[0], near_duplicates=9)
    assert len(gallery.search(query, k=10, duplicate_threshold=1.0).matches) == 10
    assert len(gallery.search(query, k=2, duplicate_threshold=0.99).matches) == 2


def test_a_threshold_of_one_takes_equal_embeddings_for_copies(gallery, make_entry):
    """However a float32 product of two equal unit vectors is rounded."""
    vectors = [make_entry(n).embedding for n in range(30)]
    gallery.add([make_entry(n, embedding=vectors[n // 2], patient_id=f"q{n}", group=None) for n in range(60)])
    found = gallery.search(vectors[0], k=60, duplicate_threshold=1.0).matches
    assert [match.near_duplicates for match in found] == [1] * 30


def test_independent_matches_follow_what_was_written_since_the_cache(gallery, make_entry):
    """Enough scans that the cache is followed, not made anew: a scan written again is compared as it is now."""
    gallery.add([make_entry(n, embedding=-ray(n % 20), patient_id=f"q{n}", group=None) for n in range(1_000)])
    gallery.refresh()
    gallery.add([make_entry(7, embedding=ray(0), patient_id=None, group=None)])
    gallery.add([make_entry(n, embedding=ray(0), patient_id=None, group=None) for n in (1_000, 1_001)])
    (found,) = gallery.search(QUERY, k=1, duplicate_threshold=0.975).matches
    assert found.near_duplicates == 2


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.5, float("nan")])
def test_a_duplicate_threshold_is_a_cosine(filled, entries, threshold):
    with pytest.raises(InvalidValueError, match="duplicate_threshold is"):
        filled.search(entries[0].embedding, duplicate_threshold=threshold)


# Novelty


def test_novelty_needs_twenty_scans(gallery, make_entries):
    entries = make_entries(20)
    gallery.add(entries[:19])
    assert gallery.novelty(entries[0].embedding) is None
    gallery.add(entries)
    assert gallery.novelty(entries[0].embedding) is not None


def test_novelty_is_the_rank_among_the_gallery_s_own_distances(filled, entries, brute_force):
    own = []
    for number, entry in enumerate(entries):
        strangers = [e for n, e in enumerate(entries) if n // 3 != number // 3 and n // 2 != number // 2]
        own.append(1 - brute_force(strangers, entry.embedding, 1)[0][2])
    for seed in range(20):
        query = np.random.default_rng(seed).normal(size=DIMENSION)
        nearest = 1 - brute_force(entries, query, 1)[0][2]
        expected = 100 * np.mean(np.array(own) < nearest)
        assert filled.novelty(query.astype(np.float32)) == pytest.approx(expected, abs=1e-9)
        assert filled.search(query.astype(np.float32), k=3, where="label = 'benign'").novelty == filled.novelty(
            query.astype(np.float32)
        )


def test_what_is_known_is_not_novel_and_what_is_strange_is(gallery, make_entry):
    rng = np.random.default_rng(0)
    centre = np.eye(DIMENSION)[0]
    gallery.add([make_entry(n, embedding=centre + 0.05 * rng.normal(size=DIMENSION)) for n in range(50)])
    assert gallery.novelty(make_entry(0, embedding=list(gallery)[3].embedding).embedding) == 0
    assert gallery.novelty(-centre.astype(np.float32)) == 100
    everything = Exclusion(groups=tuple(("phantom", f"g{n}") for n in range(25)))
    assert gallery.novelty(centre.astype(np.float32), exclude=everything) is None


THRESHOLD = 0.975


@pytest.fixture
def with_threshold(location) -> Iterator[Gallery]:
    options = {"bundle_id": BUNDLE_ID, "dimension": DIMENSION, "duplicate_threshold": THRESHOLD}
    with create_gallery(location, **options) as made:
        yield made


def test_a_duplicate_threshold_belongs_to_the_gallery(with_threshold, location, make_entries, tmp_path):
    with_threshold.add(make_entries(3))
    with create_gallery(location, bundle_id=BUNDLE_ID, dimension=DIMENSION, exist_ok=True) as again:
        assert again.duplicate_threshold == THRESHOLD
    with_threshold.snapshot(tmp_path / "copy")
    with open_gallery(location) as one, open_gallery(tmp_path / "copy") as other:
        assert one.duplicate_threshold == other.duplicate_threshold == THRESHOLD
        assert one.verify() == other.verify() == ()


def test_a_gallery_may_have_no_duplicate_threshold(gallery, location):
    with open_gallery(location) as opened:
        assert gallery.duplicate_threshold is opened.duplicate_threshold is None
    with pytest.raises(InvalidValueError, match="duplicate_threshold is"):
        create_gallery(f"{location}2", bundle_id=BUNDLE_ID, dimension=DIMENSION, duplicate_threshold=1.5)


@pytest.fixture
def doubled(make_entry) -> list[GalleryEntry]:
    """Thirty scans, and a copy of each that no record marks."""
    alone = {"patient_id": None, "group": None}
    rng = np.random.default_rng(0)
    scans = [make_entry(n, **alone) for n in range(30)]
    copies = [
        make_entry(100 + n, embedding=scan.embedding + 0.02 * rng.normal(size=DIMENSION), **alone)
        for n, scan in enumerate(scans)
    ]
    return scans + copies


def expected_novelty(entries: list[GalleryEntry], query: np.ndarray) -> float:
    """From all cosines in float64; pairs of near-duplicates are left out on both sides."""
    unit = np.stack([entry.embedding for entry in entries]).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    pairs, asked = unit @ unit.T, unit @ (query / np.linalg.norm(query))
    own = 1 - np.where(pairs < THRESHOLD, pairs, -np.inf).max(axis=1)
    return 100 * float(np.mean(own < 1 - asked[asked < THRESHOLD].max()))


def test_copies_that_no_record_marks_do_not_count_in_novelty(with_threshold, doubled):
    with_threshold.add(doubled)
    told = []
    for seed in range(10):
        query = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
        for options in ({}, {"k": 0}, {"where": "label = 'benign'", "k": 3}, {"per_patient": True}):
            found = with_threshold.search(query, **options)
            assert found.novelty == pytest.approx(expected_novelty(doubled, query), abs=1e-9)
        told.append(found.novelty)
    assert min(told) < 50  # beside distances to copies all of them would be at 100


def test_a_copy_in_the_archive_is_the_nearest_and_makes_nothing_familiar(with_threshold, doubled):
    with_threshold.add(doubled)
    for entry in (doubled[0], doubled[17]):
        for options in ({}, {"k": 0}, {"k": 1}, {"where": "label = 'benign'", "k": 3}):
            found = with_threshold.search(entry.embedding, **options)
            assert found.nearest == pytest.approx(0, abs=1e-5)
            assert found.novelty == pytest.approx(expected_novelty(doubled, entry.embedding), abs=1e-9)
            assert found.novelty > 0


def test_many_copies_of_the_query_are_looked_past(with_threshold, doubled, make_entry):
    rng = np.random.default_rng(1)
    near = [doubled[0].embedding + 0.02 * rng.normal(size=DIMENSION) for _ in range(60)]
    copies = [make_entry(200 + n, embedding=vector, patient_id=None, group=None) for n, vector in enumerate(near)]
    with_threshold.add(doubled + copies)
    found = with_threshold.search(doubled[0].embedding, k=5)
    assert found.nearest == pytest.approx(0, abs=1e-3)  # 8-bit codes do not tell the nearest of so many copies
    assert all(match.similarity > THRESHOLD for match in found.matches)
    assert found.novelty == pytest.approx(expected_novelty(doubled + copies, doubled[0].embedding), abs=1e-9)


def test_where_all_are_copies_of_the_query_nothing_is_said_of_novelty(with_threshold, make_entry):
    vector = make_entry(0).embedding
    with_threshold.add([make_entry(n, embedding=vector, patient_id=None, group=None) for n in range(40)])
    found = with_threshold.search(vector)
    assert found.nearest == pytest.approx(0, abs=1e-5)
    assert found.novelty is None


def test_a_copy_that_was_written_since_the_cache_is_looked_past(with_threshold, make_entry):
    alone = {"patient_id": None, "group": None}
    with_threshold.add([make_entry(n, **alone) for n in range(1_000)])
    query = make_entry(5_000).embedding
    before = with_threshold.search(query)
    with_threshold.add([make_entry(1_001, embedding=query, **alone)])
    after = with_threshold.search(query)
    assert after.nearest == pytest.approx(0, abs=1e-5)
    assert before.nearest > 0.1
    assert after.novelty == before.novelty > 0


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
    gallery.snapshot(tmp_path / "deep" / "copy")
    before = gallery.search(entries[0].embedding)
    gallery.remove(scan_ids=[entries[0].scan_id])
    with open_gallery(tmp_path / "deep" / "copy") as copy:
        assert copy.gallery_id == gallery.gallery_id
        assert (copy.bundle_id, copy.dimension) == (BUNDLE_ID, DIMENSION)
        assert all(same(kept, given) for kept, given in zip(copy, entries, strict=True))
        assert copy.search(entries[0].embedding).matches == before.matches
        assert copy.verify() == ()
    with pytest.raises(GalleryError, match="exists already"):
        gallery.snapshot(tmp_path / "deep" / "copy")
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
