"""De-identified files: no identifier in their bytes, nothing outside of the regions, an alarm for a name."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from identified_files import COLUMNS, IDENTIFIERS, REGION, ROWS, identified, in_all_encodings, save, screen, speckle
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

pytest.importorskip("dicognito", reason="the extra pacs is not installed")

from sonoseek.core import InvalidValueError, NotFoundError, SiteKeyError
from sonoseek.core.files import PRIVATE
from sonoseek.io.dicom import read_dicom
from sonoseek.pacs.deidentification.run import Options, Summary, deidentify_folder, new_uid
from sonoseek.pacs.deidentification.words import found_kinds

Run = Callable[..., tuple[Summary, list[Dataset], list[dict[str, str]]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def act(*datasets: Dataset, **options: Any) -> tuple[Summary, list[Dataset], list[dict[str, str]]]:
        for number, dataset in enumerate(datasets):
            save(dataset, tmp_path / "in" / f"MUELLER_{number}.dcm")
        done = deidentify_folder(tmp_path / "in", tmp_path / "out", Options(**options))
        rows = list(csv.DictReader(done.report.read_text("utf-8").splitlines()))
        return done, [dcmread(tmp_path / "out" / row["output"]) for row in rows if row["output"]], rows

    return act


def outside() -> np.ndarray:
    mask = np.ones((ROWS, COLUMNS), np.bool_)
    left, top, right, bottom = REGION
    mask[top:bottom, left:right] = False
    return mask


@pytest.mark.parametrize("dates", ["shift", "remove"])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_no_identifier_is_left_in_the_bytes(tmp_path: Path, run: Run, dates: str, syntax: Any) -> None:
    dataset = identified(screen())
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
    dataset.preamble = "Müller Annegret".encode("latin-1").ljust(128)
    dataset.file_meta.SourceApplicationEntityTitle = "HOFSTETTER"
    _, (clean,), _ = run(dataset, dates=dates)
    (file,) = (tmp_path / "out").iterdir()
    content = file.read_bytes()
    original = save(identified(screen()), tmp_path / "original.dcm").read_bytes()
    for text in IDENTIFIERS:
        forms = in_all_encodings(text)
        assert any(form in original for form in forms) or text == "MUELLER", text
        assert not [form for form in forms if form in content], text
    assert file.stat().st_mode & 0o777 == PRIVATE
    assert clean.PatientName == clean.PatientID == read_dicom(tmp_path / "original.dcm").patient_id
    assert (clean.PatientIdentityRemoved, clean.BurnedInAnnotation) == ("YES", "NO")
    codes = [item.CodeValue for item in clean.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113101", *(["113107"] if dates == "shift" else [])]
    assert "Annegret" not in str(clean)


def test_a_number_that_is_the_patient_s_does_not_stay(run: Run) -> None:
    dataset = identified(screen())
    dataset.PatientID, dataset.SeriesNumber, dataset.AcquisitionNumber = "4711081", 4711081, 47
    _, (clean,), _ = run(dataset)
    assert (clean.SeriesNumber, clean.AcquisitionNumber) == (None, 47)


def test_what_a_reader_needs_stays(run: Run) -> None:
    _, (clean,), _ = run(identified(screen()))
    (region,) = clean.SequenceOfUltrasoundRegions
    assert (region.RegionLocationMaxX1, region.PhysicalDeltaX) == (REGION[2] - 1, 0.008)
    tags = [element.tag for element in clean.iterall()]
    assert not [tag for tag in tags if tag.is_private or 0x6000 <= tag.group < 0x6100]
    assert clean.AnatomicRegionSequence[0].CodeMeaning == "Breast"
    assert (clean.Modality, clean.ImageLaterality, clean.Manufacturer, clean.InstanceNumber) == ("US", "L", "Acuson", 4)
    assert "ManufacturerModelName" not in clean  # it holds the patient's name


def test_nothing_outside_of_the_regions_and_the_scan_as_it_was(run: Run) -> None:
    pixels = screen()
    _, (clean,), (row,) = run(identified(pixels))
    found = clean.pixel_array
    assert not found[outside()].any()
    assert pixels[outside()].any()
    same = found[~outside()] == pixels[~outside()]
    assert same.mean() > 0.98  # what was taken for text within is black
    assert not found[~outside()][~same].any()
    assert (row["blanked"], row["look"], row["ocr"]) == ("regions", "no", "not checked by OCR")
    assert float(row["outside_percent"]) == pytest.approx(100 * outside().mean(), abs=0.1)


def test_a_name_within_the_scan_is_blanked_in_every_frame_of_a_cine(run: Run) -> None:
    frames = np.stack([screen(seed, name_inside=True) for seed in range(5)])
    clear = np.stack([screen(seed) for seed in range(5)])
    _, (clean,), (row,) = run(identified(frames, frames=5))
    found = clean.pixel_array
    assert found.shape == frames.shape
    assert not found[:, outside()].any()
    ink = frames.astype(int) - clear > 50
    assert ink.sum() > 5 * 100
    assert (found[ink] == 0).mean() > 0.97
    assert (row["frames"], row["look"]) == ("5", "no")


def test_a_name_in_one_frame_of_a_cine_is_blanked_there(run: Run) -> None:
    frames = np.stack([screen(seed, name_inside=seed == 7) for seed in range(12)])
    clear = np.stack([screen(seed) for seed in range(12)])
    _, (clean,), _ = run(identified(frames, frames=12))
    ink = frames.astype(int) - clear > 50
    assert ink[7].any()
    assert (clean.pixel_array[ink] == 0).mean() > 0.97


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("kind", ["grey", "colour", "16 bit"])
def test_compressed_files_keep_their_pixels(run: Run, kind: str, syntax: Any) -> None:
    pixels: Any = screen(name_outside=False)
    if kind == "colour":
        pixels = np.stack([pixels, pixels // 2, pixels // 3], axis=-1)
    elif kind == "16 bit":
        pixels = pixels.astype(np.uint16) * 200
    dataset = identified(pixels)
    dataset.compress(syntax, generate_instance_uid=False)
    _, (clean,), _ = run(dataset)
    inside = ~outside()
    assert clean.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    differing = clean.pixel_array[inside] != pixels[inside]
    assert differing.mean() < 0.02
    assert not clean.pixel_array[inside][differing].any()


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless], ids=["JPEG", "JPEG 2000"])
@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_jpeg_is_decoded_in_its_own_colours(run: Run, colour: bool, syntax: Any) -> None:
    pixels: Any = cv2.GaussianBlur(screen(name_outside=False), (0, 0), 2)
    if colour:
        pixels = np.stack([pixels, pixels // 2, pixels // 3], axis=-1)
    dataset = identified(pixels)
    stream = io.BytesIO()
    if syntax == JPEGBaseline8Bit:
        Image.fromarray(pixels).save(stream, "JPEG", quality=98, subsampling=0)
    else:
        Image.fromarray(pixels).save(stream, "JPEG2000", no_jp2=True, irreversible=False, mct=int(colour))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    if colour:
        dataset.PhotometricInterpretation = "YBR_FULL_422" if syntax == JPEGBaseline8Bit else "YBR_RCT"
    _, (clean,), _ = run(dataset)
    assert clean.PhotometricInterpretation == ("RGB" if colour else "MONOCHROME2")
    found, inside = clean.pixel_array, ~outside()
    kept = found.astype(bool).reshape(ROWS, COLUMNS, -1).any(axis=-1) & inside
    assert kept.sum() > 0.97 * inside.sum()
    assert np.abs(found[kept].astype(int) - pixels[kept]).mean() < (3 if syntax == JPEGBaseline8Bit else 1e-9)


def test_pixels_of_422_are_written_in_full(run: Run) -> None:
    pixels = screen(name_outside=False)
    dataset = identified(np.zeros((ROWS, COLUMNS, 2), np.uint8)[..., 0])
    packed = np.full((ROWS, COLUMNS // 2, 4), 128, np.uint8)
    packed[..., 0], packed[..., 1] = pixels[:, ::2], pixels[:, 1::2]
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation, dataset.PixelData = "YBR_FULL_422", packed.tobytes()
    _, (clean,), _ = run(dataset)
    assert clean.PhotometricInterpretation == "YBR_FULL"
    found = np.frombuffer(clean.PixelData, np.uint8).reshape(ROWS, COLUMNS, 3)
    inside = ~outside()
    assert (found[inside][:, 0] == pixels[inside]).mean() > 0.98
    assert (found[outside()] == (0, 128, 128)).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "YBR_FULL"])
def test_blank_is_black_in_every_colour_model(run: Run, photometric: str, tmp_path: Path) -> None:
    pixels = 255 - screen()
    if photometric == "YBR_FULL":
        pixels = np.stack([screen(), *2 * [np.full((ROWS, COLUMNS), 128, np.uint8)]], -1)
    dataset = identified(pixels)
    dataset.PhotometricInterpretation = photometric
    run(dataset)
    (file,) = (tmp_path / "out").iterdir()
    assert not read_dicom(file).pixels[outside()].any()


@pytest.mark.parametrize("signed", [False, True])
def test_an_overlay_in_unused_bits_does_not_stay(run: Run, signed: bool) -> None:
    plain = screen(name_outside=False).astype(np.int32) * 8 - (1024 if signed else 0)
    overlay = np.zeros((ROWS, COLUMNS), np.uint8)
    cv2.putText(overlay, "MUELLER", (100, 150), cv2.FONT_HERSHEY_SIMPLEX, 1, 1, 2)
    dataset = identified(((plain & 0x0FFF) | (overlay.astype(np.int32) << 15)).astype(np.uint16))
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, int(signed)
    _, (clean,), _ = run(dataset)
    patterns = np.frombuffer(clean.PixelData, "<u2").reshape(ROWS, COLUMNS)
    kept = patterns[~outside()] == (plain & 0xFFFF)[~outside()]
    assert kept.mean() > 0.98
    assert len(np.unique(patterns[~outside()][~kept])) <= 1


def test_uids_are_consistent_and_depend_on_the_key(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (one, two), _ = run(identified(screen(1), uid="5"), identified(screen(2), uid="6"))
    assert one.StudyInstanceUID == two.StudyInstanceUID == new_uid("1.2.826.0.1.3680043.77.1")
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert one.StudyDate == two.StudyDate < "20230317"
    assert all(each.file_meta.MediaStorageSOPInstanceUID == each.SOPInstanceUID for each in (one, two))
    assert {file.stem for file in (tmp_path / "out").iterdir()} == {one.SOPInstanceUID, two.SOPInstanceUID}
    monkeypatch.setenv("SONOSEEK_SITE_KEY", str(tmp_path / "other"))
    assert new_uid("1.2.826.0.1.3680043.77.1") != one.StudyInstanceUID


@pytest.mark.parametrize(("dates", "code"), [("shift", "MODIFIED"), ("remove", "REMOVED"), ("keep", "UNMODIFIED")])
def test_dates(run: Run, dates: str, code: str) -> None:
    _, (clean,), _ = run(identified(screen()), dates=dates)
    assert clean.LongitudinalTemporalInformationModified == code
    if dates == "keep":
        assert (clean.StudyDate, clean.AcquisitionDateTime) == ("20230517", "20230517101113.5")
    elif dates == "remove":
        assert clean.StudyDate == clean.StudyTime == ""
        assert "SeriesDate" not in clean
    else:
        assert clean.StudyDate == clean.SeriesDate == clean.AcquisitionDateTime[:8] != "20230517"
        assert clean.PatientBirthDate == ""


def test_a_date_that_is_none_does_not_stay(run: Run) -> None:
    dataset = identified(screen())
    dataset["StudyDate"]._value = "Müller"
    _, (clean,), (row,) = run(dataset)
    assert (clean.StudyDate, row["state"]) == ("", "written")


@pytest.mark.parametrize(
    ("said", "look"), [("YES", "yes"), (None, "yes"), ("NO", "no")], ids=["says so", "says nothing", "denies it"]
)
def test_without_regions_the_scan_area_counts_and_somebody_has_to_look(run: Run, said: str | None, look: str) -> None:
    dataset = identified(screen(), regions=False)
    if said is not None:
        dataset.BurnedInAnnotation = said
    _, (clean,), (row,) = run(dataset)
    assert (row["look"], row["blanked"]) == (look, "scan area")
    removed = {"no": "YES", "yes": "NO"}[look]
    assert (clean.BurnedInAnnotation, clean.PatientIdentityRemoved) == (look.upper(), removed)
    assert not clean.pixel_array[:40].any()


def test_files_that_may_have_burned_in_text_can_be_refused(run: Run) -> None:
    done, files, (row,) = run(identified(screen(), regions=False), refuse_burned_in=True)
    assert (done.refused, files, row["state"]) == (1, [], "refused")
    assert "regions" in row["note"]


def test_the_alarm_fires_on_a_name_that_is_left_and_names_it_nowhere(run: Run, tmp_path: Path) -> None:
    seen = []

    def ocr(pixels: np.ndarray) -> list[str]:
        seen.append(pixels)
        return ["Depth 4 cm", "MUELLER, Anne"]

    done, (clean,), (row,) = run(identified(screen()), ocr=ocr)
    assert (done.look, row["look"], row["ocr"]) == (1, "yes", "found: name")
    assert (clean.BurnedInAnnotation, clean.PatientIdentityRemoved) == ("YES", "NO")
    assert not seen[0][outside()].any()
    told = done.report.read_text().replace("MUELLER_0.dcm", "")
    assert not [text for text in IDENTIFIERS if text in told]
    assert done.report.stat().st_mode & 0o777 == PRIVATE
    assert not done.report.resolve().is_relative_to(tmp_path / "out")


def test_no_alarm_where_an_ocr_reads_nothing_of_the_patient(run: Run) -> None:
    _, _, (row,) = run(identified(screen()), ocr=lambda _: ["Depth 4 cm", "Linear 12"])
    assert (row["look"], row["ocr"]) == ("no", "no identifier found")


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("MUELLER", ("name",)),
        ("Müller", ("name",)),
        ("xMULLERx", ("name",)),
        ("12.04.1961", ("birth date",)),
        ("1961-04-12", ("birth date",)),
        ("04/12/1961", ("birth date",)),
        ("ID PX47I1-O815", ("patient id",)),
        ("Lee", ("name",)),
        ("sleeve", ()),
        ("12.04.1962", ()),
        ("", ()),
    ],
)
def test_words_are_found_however_they_are_spelt(text: str, kinds: tuple[str, ...]) -> None:
    words = [("name", "Müller"), ("name", "Lee"), ("patient id", "PX4711-0815")]
    words += [("birth date", each) for each in ("19610412", "12041961", "04121961")]
    assert found_kinds([text], words) == kinds


def test_a_run_continues_and_other_options_start_anew(tmp_path: Path, run: Run) -> None:
    first, *_ = run(identified(screen(1), uid="5"), identified(screen(2), uid="6"))
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    again, *_ = run(options := identified(screen(3), uid="7"))  # replaces the first file
    assert (first.written, first.known, again.written, again.known) == (2, 0, 2, 1)
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in stamps.items())
    with again.report.open("ab") as report:
        report.write(b"torn")
    anew = deidentify_folder(tmp_path / "in", tmp_path / "out", Options(dates="remove"))
    assert (anew.written, anew.known) == (2, 0)
    assert options.PatientName


def test_what_is_no_ultrasound_is_listed_and_two_of_one_uid_are_refused(tmp_path: Path, run: Run) -> None:
    other = identified(screen(), uid="8")
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "letter.txt").write_text("Müller")
    (tmp_path / "in" / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"x" * 400)
    done, files, rows = run(identified(screen()), identified(screen()), other)
    assert [row["state"] for row in rows] == ["written", "refused", "skipped", "skipped", "refused"]
    assert (done.written, done.skipped, done.refused, len(files)) == (1, 2, 2, 1)


def test_wrong_places_and_a_wrong_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError):
        deidentify_folder(tmp_path / "in", tmp_path / "out", Options())
    (tmp_path / "in").mkdir()
    with pytest.raises(InvalidValueError, match="elsewhere"):
        deidentify_folder(tmp_path / "in", tmp_path / "in" / "out", Options())
    with pytest.raises(InvalidValueError, match="dates"):
        Options(dates="later")  # type: ignore[arg-type]
    (tmp_path / "k").write_text("")
    (tmp_path / "k").chmod(0o600)
    monkeypatch.setenv("SONOSEEK_SITE_KEY", str(tmp_path / "k"))
    with pytest.raises(SiteKeyError):
        deidentify_folder(tmp_path / "in", tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path, sonoseek_here: Any) -> None:
    save(identified(screen()), tmp_path / "in" / "MUELLER.dcm")
    done = sonoseek_here("deidentify", tmp_path / "in", tmp_path / "out", "--dates", "remove")
    assert done.returncode == 0, done.stderr
    assert "1 written" in done.stdout
    assert "not checked by OCR" not in done.stdout
    save(identified(speckle(), regions=False, uid="9"), tmp_path / "in" / "other.dcm")
    done = sonoseek_here("deidentify", tmp_path / "in", tmp_path / "out", "--dates", "remove")
    assert done.returncode == 2
    assert "1 to be looked at" in done.stdout


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["grey", "colour", "cine"])
def test_dciodvfy_finds_no_error(tmp_path: Path, run: Run, kind: str) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    frames = 3 if kind == "cine" else 0
    pixels = {"grey": screen(), "colour": np.stack([screen()] * 3, -1), "cine": np.stack([screen()] * 3)}[kind]
    run(identified(pixels, frames=frames))
    (file,) = (tmp_path / "out").iterdir()
    done = subprocess.run([program, "-new", str(file)], capture_output=True, text=True, check=False)
    assert "Error" not in done.stderr, done.stderr
