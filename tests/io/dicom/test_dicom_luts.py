"""Rescale, windows and look-up tables as files have them; spacing of enhanced objects; ids in any character set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_files import save, speckle, us_dataset
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from sonoseek.core import ScanReadError
from sonoseek.io.dicom import read_dicom

GREY = speckle().astype(np.uint8)
DEEP = speckle(maximum=4095)


def shown(path: Path, dataset: Dataset) -> NDArray[np.float64]:
    return read_dicom(save(dataset, path / "scan.dcm")).pixels.astype(float)


def with_values(dataset: Dataset, **values: object) -> Dataset:
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("slope", ["0", "0.0", "", None])
@pytest.mark.parametrize("window", [False, True])
def test_a_slope_that_is_void_counts_as_1(tmp_path: Path, slope: str | None, window: bool) -> None:
    dataset = with_values(us_dataset(GREY), RescaleSlope=slope, RescaleIntercept="0")
    if window:
        with_values(dataset, WindowCenter=128, WindowWidth=256)
    assert np.abs(shown(tmp_path, dataset) - GREY).max() <= 1


def test_slope_and_intercept_go_before_the_window(tmp_path: Path) -> None:
    dataset = with_values(us_dataset(GREY), RescaleSlope=2, RescaleIntercept=-100, WindowCenter=100, WindowWidth=200)
    wanted = np.clip((2.0 * GREY - 100 - 99.5) / 199 + 0.5, 0, 1) * 255
    assert np.abs(shown(tmp_path, dataset) - wanted).max() <= 0.51


@pytest.mark.parametrize(("centre", "width"), [(40000, 100), (-40000, 100), (1e9, 1), (300, 10)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_that_leaves_one_grey_is_void(tmp_path: Path, centre: float, width: float, photometric: str) -> None:
    dataset = with_values(us_dataset(GREY, photometric=photometric), WindowCenter=centre, WindowWidth=width)
    wanted = GREY if photometric == "MONOCHROME2" else 255 - GREY
    assert np.array_equal(shown(tmp_path, dataset), wanted)


def lut(first: int, entries: NDArray[np.integer], bits: int, *, kind: str = "OW", **more: object) -> Sequence:
    """kind: "OW" one or two bytes an entry, "US" one number an entry, "packed" two entries of 8 bits a number."""
    item = with_values(Dataset(), LUTDescriptor=[len(entries) % 65536, first, bits], **more)
    if kind == "OW":
        data = entries.astype("u1" if bits <= 8 else "<u2").tobytes()
        item.add_new("LUTData", "OW", data + b"\0" * (len(data) % 2))
    else:
        numbers = entries.astype("u1").view("<u2") if kind == "packed" else entries
        item.add_new("LUTData", "US", [int(number) for number in numbers])
    return Sequence([item])


SLOPING = np.rint(255 * np.linspace(1, 0, 256) ** 2).astype(np.uint16)


@pytest.mark.parametrize("kind", ["OW", "US", "packed"])
@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda uid: uid.name)
def test_tables_of_8_bits(tmp_path: Path, kind: str, name: str, syntax: str) -> None:
    more = {"ModalityLUTType": "US"} if name.startswith("M") else {}
    dataset = with_values(us_dataset(GREY), **{name: lut(0, SLOPING, 8, kind=kind, **more)})
    dataset.file_meta.TransferSyntaxUID = syntax
    assert np.abs(shown(tmp_path, dataset) - SLOPING[GREY]).max() <= 0.51


@pytest.mark.parametrize("kind", ["OW", "US"])
@pytest.mark.parametrize(("bits", "count", "first"), [(16, 4096, 0), (12, 4096, 0), (10, 1000, 500), (16, 4000, 96)])
def test_tables_of_more_bits(tmp_path: Path, kind: str, bits: int, count: int, first: int) -> None:
    entries = np.rint((2**bits - 1) * np.linspace(0, 1, count) ** 0.5).astype(np.uint16)
    dataset = with_values(us_dataset(DEEP, bits_stored=12), VOILUTSequence=lut(first, entries, bits, kind=kind))
    wanted = entries[np.clip(DEEP.astype(int) - first, 0, count - 1)] / (2**bits - 1) * 255
    assert np.abs(shown(tmp_path, dataset) - wanted).max() <= 0.51


def test_a_modality_table_goes_before_the_window(tmp_path: Path) -> None:
    dataset = with_values(us_dataset(GREY), ModalityLUTSequence=lut(0, SLOPING, 8, ModalityLUTType="US"))
    with_values(dataset, WindowCenter=100, WindowWidth=100)
    wanted = np.clip((SLOPING[GREY] - 99.5) / 99 + 0.5, 0, 1) * 255
    assert np.abs(shown(tmp_path, dataset) - wanted).max() <= 0.51


@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    words = "VOI LUT" if name.startswith("V") else "Modality LUT"
    for item in (
        with_values(Dataset(), LUTDescriptor=[256, 0, 16]),
        lut(0, SLOPING[:9], 8)[0],
        with_values(Dataset(), LUTExplanation="nothing"),
    ):
        if "LUTData" in item:
            item.LUTDescriptor = [256, 0, 8]
        dataset = with_values(us_dataset(GREY), **{name: Sequence([item])})
        with pytest.raises(ScanReadError, match=f"its {words} "):
            shown(tmp_path, dataset)
    assert np.array_equal(shown(tmp_path, with_values(us_dataset(GREY), **{name: Sequence([])})), GREY)


@pytest.mark.parametrize("count", [255, 256, 17])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_palettes_of_any_length(tmp_path: Path, count: int, bits: int, order: str) -> None:
    indices = (GREY // 16).astype(np.uint8) if count == 17 else np.minimum(GREY, 254)
    dataset = us_dataset(indices, photometric="PALETTE COLOR")
    if order == ">":
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    wanted = np.zeros(count)
    for weight, name, power in ((0.299, "Red", 1), (0.587, "Green", 2), (0.114, "Blue", 0.5)):
        entries = np.rint(255 * np.linspace(0, 1, count) ** power).astype(np.uint16)
        wanted += weight * entries
        data = entries.astype("u1").tobytes() if bits == 8 else (entries * 257).astype(f"{order}u2").tobytes()
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [count, 0, bits])
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", data + b"\0" * (len(data) % 2))
    assert np.abs(shown(tmp_path, dataset) - wanted[indices]).max() <= 0.51
    dataset.GreenPaletteColorLookupTableData = b"\1\2"
    with pytest.raises(ScanReadError, match="Green palette announces"):
        shown(tmp_path, dataset)


def measures(row: float, column: float) -> Dataset:
    inner = with_values(Dataset(), PixelSpacing=[row, column])
    return with_values(Dataset(), PixelMeasuresSequence=Sequence([inner]))


def test_spacing_of_enhanced_objects(tmp_path: Path) -> None:
    dataset = us_dataset(np.stack([GREY, GREY]), frames=2)
    dataset.SharedFunctionalGroupsSequence = Sequence([measures(0.08, 0.1)])
    path = save(dataset, tmp_path / "scan.dcm")
    assert read_dicom(path).spacing_mm == (0.08, 0.1)
    dataset.PerFrameFunctionalGroupsSequence = Sequence([Dataset(), measures(0.2, 0.3)])
    save(dataset, path)
    assert read_dicom(path, frame=0).spacing_mm == (0.08, 0.1)
    assert read_dicom(path, frame=1).spacing_mm == (0.2, 0.3)
    dataset.PixelSpacing = [0.4, 0.5]
    assert read_dicom(save(dataset, path), frame=1).spacing_mm == (0.4, 0.5)


@pytest.mark.parametrize("spacing", [[10000, 10000], [0.00008, 0.00008], [0.1, 100], [-0.1, 0.1], [0, 0]])
def test_spacing_that_cannot_be_is_unknown(tmp_path: Path, spacing: list[float]) -> None:
    path = save(with_values(us_dataset(GREY), PixelSpacing=spacing), tmp_path / "scan.dcm")
    assert read_dicom(path).spacing_mm is None


def element(tag: bytes, vr: bytes, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    return tag + vr + len(value).to_bytes(2, "little") + value


def patient(folder: Path, text: bytes, *charset: str) -> str | None:
    """The id of a file whose PatientID and SpecificCharacterSet are just these bytes."""
    dataset = us_dataset(GREY)
    del dataset.PatientID, dataset.PatientName
    path = save(dataset, folder / "scan.dcm")
    named = element(b"\x08\x00\x05\x00", b"CS", "\\".join(charset).encode()) if charset else b""
    data = path.read_bytes()
    for before, what in (
        (b"\x08\x00\x16\x00UI", named),
        (b"\x28\x00\x02\x00US", element(b"\x10\x00\x20\x00", b"LO", text)),
    ):
        at = data.index(before)
        data = data[:at] + what + data[at:]
    path.write_bytes(data)
    return read_dicom(path).patient_id


def test_one_patient_has_one_id_in_every_character_set(tmp_path: Path) -> None:
    text = "Müller-07"
    latin, utf = text.encode("latin-1"), text.encode()
    same = {
        patient(tmp_path, latin, "ISO_IR 100"),
        *(patient(tmp_path, latin, name) for name in ("ISO IR 100", "iso_ir_100", "ISO-IR-100", "ISO_IR100", "latin1")),
        patient(tmp_path, latin, "ISO 2022 IR 100"),
        patient(tmp_path, latin, "", "ISO 2022 IR 100"),
        *(patient(tmp_path, utf, name) for name in ("ISO_IR 192", "ISO IR 192", "iso-ir-192", "UTF-8", "utf8")),
        patient(tmp_path, utf + b"\0", "ISO_IR 192"),
        patient(tmp_path, "Mu\u0308ller-07".encode(), "ISO_IR 192"),
        patient(tmp_path, utf),
        patient(tmp_path, latin),
    }
    assert len(same) == 1
    greek = "Ιωάννης"
    assert patient(tmp_path, greek.encode("iso8859-7"), "ISO_IR 126") == patient(tmp_path, greek.encode(), "ISO_IR 192")
    kanji = b"\x1b$B;3ED\x1b(B"
    assert patient(tmp_path, kanji, "", "ISO 2022 IR 87") == patient(tmp_path, "山田".encode(), "ISO_IR 192")


def test_two_patients_never_share_an_id(tmp_path: Path) -> None:
    texts = [b"M\xfcller", b"M\xf6ller", b"M\xe4ller", b"M\xff\xfeller"]
    for charset in ("ISO_IR 192", "ISO_IR 999", "ISO_IR 13", "GB18030", "rubbish"):
        ids = [patient(tmp_path, text, charset) for text in texts]
        assert len(set(ids)) == 4, charset
        assert None not in ids
    assert patient(tmp_path, b"MRN 0815", "rubbish") is not None
