"""Pseudonyms without a site key are replaced by keyed ones, and two keys never meet in one gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gallery_contract import BUNDLE_ID, DIMENSION

from sonoseek.core import SiteKeyError
from sonoseek.core.site_key import key_fingerprint, keyed
from sonoseek.gallery import Gallery, create_gallery, open_gallery
from sonoseek.gallery.pseudonyms import note_site_key, pseudonym_problem, rekey

OLD = ("p-00000000000000aa", "p-00000000000000bb")
NEW = tuple(map(keyed, OLD))
PATIENTS = {0: OLD[0], 1: OLD[0], 2: OLD[1], 3: "A17", 4: None, 5: "p-12", 6: NEW[1]}


def patients(gallery: Gallery) -> list[str | None]:
    return [entry.record.patient_id for entry in gallery]


@pytest.fixture
def mixed(gallery: Gallery, make_entry: Any) -> Gallery:
    gallery.add(make_entry(number, patient_id=patient, group=None) for number, patient in PATIENTS.items())
    return gallery


def test_only_old_pseudonyms_are_replaced_and_the_gallery_is_sound(mixed: Gallery, make_entry: Any) -> None:
    assert mixed.count_unkeyed() == 3
    before = mixed.state()
    assert rekey(mixed) == 3
    assert patients(mixed) == [NEW[0], NEW[0], NEW[1], "A17", None, "p-12", NEW[1]]
    assert mixed.site_key == key_fingerprint()
    assert mixed.count_unkeyed() == 0
    assert mixed.state() != before
    assert mixed.verify() == ()
    assert rekey(mixed) == 0
    again = [make_entry(0, patient_id=NEW[0], group=None)]
    assert mixed.add(again).unchanged == 1


def test_scans_of_one_patient_are_left_out_before_and_after(mixed: Gallery, make_entry: Any) -> None:
    query = make_entry(0).embedding
    exclude = mixed.exclusion_for("f" * 64, patient_id=OLD[0])
    before = [match.case_id for match in mixed.search(query, exclude=exclude).matches]
    rekey(mixed)
    exclude = mixed.exclusion_for("f" * 64, patient_id=NEW[0])
    assert [match.case_id for match in mixed.search(query, exclude=exclude).matches] == before
    assert {"case 0000", "case 0001"}.isdisjoint(before)


def test_a_reader_is_told_where_a_patient_may_not_be_recognised(
    mixed: Gallery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert pseudonym_problem(mixed, ["A17", None]) is None
    assert "rekey" in str(pseudonym_problem(mixed, [NEW[0]]))
    rekey(mixed)
    assert pseudonym_problem(mixed, [NEW[0]]) is None
    monkeypatch.setenv("SONOSEEK_SITE_KEY", str(tmp_path / "other"))
    assert "another site key" in str(pseudonym_problem(mixed, [NEW[0]]))


def test_two_keys_do_not_meet(mixed: Gallery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    note_site_key(mixed, ["A17", None])
    assert mixed.site_key is None
    note_site_key(mixed, [NEW[0]])
    note_site_key(mixed, [NEW[0]])
    monkeypatch.setenv("SONOSEEK_SITE_KEY", str(tmp_path / "other"))
    for act in (lambda: note_site_key(mixed, [NEW[0]]), lambda: rekey(mixed)):
        with pytest.raises(SiteKeyError, match="SONOSEEK_SITE_KEY"):
            act()
    assert mixed.count_unkeyed() == 3


def test_a_copy_knows_the_key(tmp_path: Path, make_entry: Any) -> None:
    made = {"bundle_id": BUNDLE_ID, "dimension": DIMENSION}
    with create_gallery(tmp_path / "one", **made) as gallery:
        gallery.add([make_entry(0, patient_id=OLD[0])])
        rekey(gallery)
        gallery.copy_to(tmp_path / "two")
    with open_gallery(tmp_path / "two") as copy:
        assert copy.site_key == key_fingerprint()


def test_an_error_leaves_every_pseudonym_as_it_was(tmp_path: Path, make_entry: Any) -> None:
    with create_gallery(tmp_path / "one", bundle_id=BUNDLE_ID, dimension=DIMENSION) as gallery:
        gallery.add([make_entry(0, patient_id=OLD[0]), make_entry(3, patient_id=OLD[1])])

        def fails(unkeyed: str) -> str:
            if unkeyed == OLD[1]:
                raise KeyboardInterrupt
            return keyed(unkeyed)

        with pytest.raises(KeyboardInterrupt):
            gallery.replace_unkeyed(fails, fingerprint="00000000")
        assert patients(gallery) == list(OLD)
    with open_gallery(tmp_path / "one") as gallery:
        assert gallery.site_key is None


def test_no_trace_of_an_old_pseudonym_stays_on_disk(tmp_path: Path, make_entry: Any, sonoseek_here: Any) -> None:
    with create_gallery(tmp_path / "one", bundle_id=BUNDLE_ID, dimension=DIMENSION) as gallery:
        gallery.add(make_entry(number, patient_id=OLD[0]) for number in range(9))
        gallery.refresh()
    done = sonoseek_here("index", "rekey", "--gallery", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    assert "9 cases" in done.stdout
    for file in (tmp_path / "one").iterdir():
        assert OLD[0].encode() not in file.read_bytes(), file
    done = sonoseek_here("index", "rekey", "--gallery", tmp_path / "one")
    assert done.returncode == 2
    assert "nothing to replace" in done.stderr
