"""Descriptors and evidence in a gallery: kept, counted, filtered by, updated."""

import contextlib
import dataclasses
import sqlite3

import numpy as np
import pytest

from sonoseek.core import Box, CaseRecord, GalleryError, WhereError
from sonoseek.encoder import pack_evidence
from sonoseek.gallery import create_gallery
from sonoseek.preprocessing.mapping import fit_to_canvas

SPIKY = (("margin", "spiculated"), ("margin", "angular"), ("shape", "irregular"))
SMOOTH = (("margin", "circumscribed"), ("shape", "oval"))


def described(make_entry, number, words, **changes):
    entry = make_entry(number, **changes)
    return dataclasses.replace(entry, record=dataclasses.replace(entry.record, descriptors=words))


@pytest.fixture
def gallery(make_entry, tmp_path):
    with create_gallery(tmp_path / "g", bundle_id="b-1", dimension=len(make_entry(0).embedding)) as store:
        store.add(
            [
                described(make_entry, 1, SPIKY),
                described(make_entry, 2, SMOOTH),
                described(make_entry, 3, SMOOTH),
                described(make_entry, 4, ()),
            ]
        )
        yield store


def found(gallery, make_entry, where):
    return sorted(m.case_id for m in gallery.search(make_entry(9).embedding, k=9, where=where).matches)


def test_words_come_back_with_entries_and_matches(gallery, make_entry):
    kept = {entry.record.case_id: entry.record.descriptors for entry in gallery}
    assert kept[make_entry(1).record.case_id] == SPIKY
    matches = gallery.search(make_entry(1).embedding, k=9).matches
    assert {match.case_id: match.descriptors for match in matches} == kept


def test_words_are_counted_by_scan_and_follow_the_gallery(gallery, make_entry):
    assert gallery.descriptor_counts() == {
        "margin": {"": 3, "spiculated": 1, "angular": 1, "circumscribed": 2},
        "shape": {"": 3, "irregular": 1, "oval": 2},
    }
    gallery.remove(scan_ids=[make_entry(1).scan_id])
    assert gallery.descriptor_counts()["margin"] == {"": 2, "circumscribed": 2}
    gallery.add([described(make_entry, 4, SPIKY)])
    assert gallery.descriptor_counts()["shape"] == {"": 3, "irregular": 1, "oval": 2}


def test_words_are_counted_once_and_the_count_is_no_ones_to_change(gallery, monkeypatch):
    from sonoseek.gallery.sqlite import rows

    gallery.descriptor_counts()["margin"].clear()
    monkeypatch.setattr(rows, "count_descriptors", lambda _: pytest.fail("counted again"))
    assert gallery.descriptor_counts()["margin"][""] == 3


def test_a_changed_description_is_an_update(gallery, make_entry):
    assert gallery.add([described(make_entry, 2, SMOOTH)]).unchanged == 1
    assert gallery.add([described(make_entry, 2, SPIKY)]).updated == 1
    entry = gallery.get(make_entry(2).scan_id)
    assert entry is not None
    assert entry.record.descriptors == SPIKY


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ("margin = 'spiculated'", [1]),
        ("margin = 'Angular'", [1]),
        ("margin != 'spiculated'", [2, 3]),
        ("margin in ('spiculated', 'circumscribed')", [1, 2, 3]),
        ("margin not in ('spiculated', 'indistinct')", [2, 3]),
        ("margin contains 'circ'", [2, 3]),
        ("margin is null", [4]),
        ("margin is not null and shape = 'oval'", [2, 3]),
        ("not margin = 'spiculated'", [2, 3]),
        ("posterior = 'shadowing' or shape = 'irregular'", [1]),
        ("margin = '\"] OR 1=1 --'", []),
    ],
)
def test_filters_by_word(gallery, make_entry, where, numbers):
    assert found(gallery, make_entry, where) == sorted(make_entry(number).record.case_id for number in numbers)


def test_words_have_no_order(gallery, make_entry):
    with pytest.raises(WhereError, match="no order"):
        found(gallery, make_entry, "margin > 'a'")


def test_evidence_is_kept_updated_and_goes_with_its_scan(gallery, make_entry):
    entry = dataclasses.replace(make_entry(7), evidence=b"abc")
    assert gallery.add([entry]).added == 1
    assert gallery.add([entry]).unchanged == 1
    assert gallery.get(entry.scan_id).evidence == b"abc"
    (bare,) = gallery.entries(scan_ids=[entry.scan_id], evidence=False)
    assert bare.evidence is None
    assert gallery.add([dataclasses.replace(entry, evidence=b"xyz")]).updated == 1
    assert gallery.get(entry.scan_id).evidence == b"xyz"
    assert gallery.add([dataclasses.replace(entry, evidence=None)]).updated == 1
    assert gallery.get(entry.scan_id).evidence is None
    gallery.add([entry])
    gallery.remove(scan_ids=[entry.scan_id])
    with gallery._connections.any() as own:
        assert own.execute("SELECT count(*) FROM evidence").fetchone() == (0,)


def test_damaged_evidence_is_found(gallery, make_entry):
    entry = make_entry(7)
    evidence = np.ones((4, 2, 2), np.float32)
    mapping = fit_to_canvas((60, 80), Box(top=0, left=0, bottom=60, right=80), canvas_size=32)
    packed = pack_evidence(evidence, np.ones((2, 2), np.float32), mapping=mapping)
    gallery.add([dataclasses.replace(entry, evidence=packed)])
    assert not [line for line in gallery.verify() if "evidence" in line]
    gallery.add([dataclasses.replace(entry, evidence=packed[:-1] + b"?")])
    (problem,) = [line for line in gallery.verify() if "evidence" in line]
    assert entry.scan_id in problem


@pytest.mark.parametrize("told", ['[["margin"', '[["mood", "bad"]]', '[["margin", ""]]', '{"a": 1}', "[1]"])
def test_damaged_descriptors_are_found_and_said(gallery, make_entry, tmp_path, told):
    with contextlib.closing(sqlite3.connect(tmp_path / "g" / "gallery.db")) as other, other:
        other.execute("UPDATE cases SET descriptors = ? WHERE descriptors LIKE '%spiculated%'", (told,))
    (problem,) = [line for line in gallery.verify() if "descriptors" in line]
    assert make_entry(1).record.case_id in problem
    with pytest.raises(GalleryError, match="damaged"):
        gallery.search(make_entry(1).embedding, k=9)


def test_a_record_without_words_is_as_before():
    assert CaseRecord(case_id="a", dataset="d", pathology="benign").descriptors == ()
