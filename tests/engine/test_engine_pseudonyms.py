"""Pseudonyms from files into a gallery and into a query: one key, and a warning where a patient is not recognised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sonoseek.core import CaseRecord, Scan, SiteKeyError
from sonoseek.core.site_key import is_keyed, key_fingerprint, keyed
from sonoseek.datasets import open_dataset
from sonoseek.engine import SearchEngine
from sonoseek.gallery import Gallery
from sonoseek.indexing.build import Outcome, build_index, make_entry

OLD = "p-00000000000000aa"


@pytest.fixture
def archive(tmp_path: Path, make_scan: Any) -> Path:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder = tmp_path / "archive" / "benign"
    folder.mkdir(parents=True)
    for number in range(3):
        pixels = make_scan(number).pixels
        file = Dataset()
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file.SOPClassUID, file.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.6.1", generate_uid()
        file.PatientID, file.Modality = ("4711", "4711", "4712")[number], "US"
        file.Rows, file.Columns = pixels.shape
        file.BitsAllocated = file.BitsStored = 8
        file.HighBit, file.PixelRepresentation, file.SamplesPerPixel = 7, 0, 1
        file.PhotometricInterpretation, file.PixelData = "MONOCHROME2", pixels.tobytes()
        file.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder.parent


def test_patients_of_files_are_keyed_and_the_gallery_knows_the_key(
    archive: Path, empty_gallery: Gallery, encoder: Any
) -> None:
    assert build_index(open_dataset("folder", archive), empty_gallery, encoder).added == 3
    patients = [entry.record.patient_id for entry in empty_gallery]
    assert all(map(is_keyed, patients))
    assert len(set(patients)) == 2
    assert empty_gallery.site_key == key_fingerprint()
    again = build_index(open_dataset("folder", archive), empty_gallery, encoder)
    assert (again.unchanged, again.warnings) == (3, ())


def test_another_key_adds_nothing(
    archive: Path, empty_gallery: Gallery, encoder: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty_gallery.store_site_key("00000000")
    with pytest.raises(SiteKeyError, match="SONOSEEK_SITE_KEY"):
        build_index(open_dataset("folder", archive), empty_gallery, encoder)
    assert empty_gallery.count() == 0
    monkeypatch.setenv("SONOSEEK_SITE_KEY", str(tmp_path / "k"))
    (tmp_path / "k").write_text("damaged")
    (tmp_path / "k").chmod(0o600)
    with pytest.raises(SiteKeyError, match="damaged"):  # it ends the build, it is not the fault of each case
        build_index(open_dataset("folder", archive), empty_gallery, encoder, case_ids="names")


def test_a_build_into_an_old_gallery_says_what_to_do(
    archive: Path, empty_gallery: Gallery, encoder: Any, make_scan: Any
) -> None:
    record = CaseRecord(case_id="old", dataset="folder", pathology="benign", patient_id=OLD)
    empty_gallery.add([make_entry(make_scan(50), record, encoder)])
    result = build_index(open_dataset("folder", archive), empty_gallery, encoder)
    assert [each for each in result.warnings if "rekey" in each]


def test_a_worker_without_a_key_leaves_it_to_the_writer(encoder: Any, make_scan: Any) -> None:
    from sonoseek.indexing.ray import _with_keys

    entries = tuple(
        make_entry(
            make_scan(number),
            CaseRecord(case_id=name, dataset="d", pathology="benign", patient_id=patient),
            encoder,
        )
        for number, (name, patient) in enumerate([("file", OLD), ("table", OLD), ("word", "A17"), ("none", None)])
    )
    outcome = _with_keys(Outcome(source="d/x", entries=entries), {("d", "table")})
    assert [entry.record.patient_id for entry in outcome.entries] == [keyed(OLD), OLD, "A17", None]


def test_a_query_warns_where_its_patient_is_not_recognised(encoder: Any, gallery: Gallery, make_scan: Any) -> None:
    engine = SearchEngine(encoder, gallery)
    scan: Scan = replace(make_scan(500), patient_id=keyed(OLD))

    def codes() -> set[str]:
        return {warning.code for warning in engine.query(scan, k=3).warnings}

    assert "pseudonyms" not in codes()
    entry = next(iter(gallery))
    gallery.add([replace(entry, record=replace(entry.record, case_id="old", patient_id=OLD))])
    assert "pseudonyms" in codes()
