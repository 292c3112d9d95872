"""Headers that contradict their pixel data: the data's own sense is read, or the file is refused with what is wrong."""

from __future__ import annotations

from pathlib import Path

import jpeg_ls
import numpy as np
import pytest
from dicom_files import (
    colourful,
    encapsulated,
    j2k_bytes,
    jpeg_bytes,
    luma,
    save,
    speckle,
    to_ybr,
    transcoded,
    us_dataset,
    without_marker,
)
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from sonoseek.core import ScanReadError
from sonoseek.io.dicom import read_dicom

SYNTAXES = (
    "native",
    "implicit",
    "big endian",
    "RLELossless",
    "JPEGLosslessProcess14_1",
    "JPEGLSLossless",
    "JPEG2000Lossless",
)
RNG = np.random.default_rng(1)


def written(folder: Path, samples: NDArray[np.generic], syntax: str, *, bits: int = 16, **header: int) -> Path:
    """Samples encoded as `bits` bits; then the header is made to say something else. gdcm always codes 16 bits."""
    path = folder / "scan.dcm"
    dataset = us_dataset(samples, bits_stored=bits)
    if syntax in ("native", "implicit", "big endian"):
        if syntax == "big endian":
            dataset.PixelData = samples.astype(samples.dtype.newbyteorder(">")).tobytes()
        for keyword, value in header.items():
            setattr(dataset, keyword, value)
        uids = {"implicit": ImplicitVRLittleEndian, "big endian": ExplicitVRBigEndian}
        dataset.file_meta.TransferSyntaxUID = uids.get(syntax, ExplicitVRLittleEndian)
        return save(dataset, path)
    save(dataset, path)
    if syntax == "RLELossless":
        dataset = dcmread(path)
        dataset.compress(RLELossless)
    else:
        dataset = dcmread(transcoded(path, folder / "coded.dcm", syntax))
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def assert_grey(path: Path, wanted: NDArray[np.floating], *, within: float = 0.51, frame: int = 0) -> None:
    found = read_dicom(path, frame=frame).pixels.astype(float)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= within


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_samples_that_lie_high_in_their_words(tmp_path: Path, syntax: str, bits: int) -> None:
    values = speckle(maximum=2**bits - 1)
    path = written(tmp_path, values << (16 - bits), syntax, BitsStored=bits, HighBit=15)
    assert_grey(path, values / (2**bits - 1) * 255)


def test_samples_in_the_middle_of_their_words_and_of_colour(tmp_path: Path) -> None:
    values = speckle(maximum=1023)
    assert_grey(written(tmp_path, values << 2, "native", BitsStored=10, HighBit=11), values / 1023 * 255)
    deep = colourful().astype(np.uint16) * 16
    path = save(us_dataset(deep << 4, photometric="RGB"), tmp_path / "rgb.dcm")
    dataset = dcmread(path)
    dataset.BitsStored, dataset.HighBit = 12, 15
    dataset.save_as(path)
    assert_grey(path, luma(colourful()) * 16 / 4095 * 255, within=1.01)


@pytest.mark.parametrize("syntax", ["native", "JPEGLosslessProcess14_1", "JPEG2000Lossless"])
@pytest.mark.parametrize("high_bit", [0, 7, 15, 31])
def test_a_high_bit_that_is_wrong_moves_nothing(tmp_path: Path, syntax: str, high_bit: int) -> None:
    values = speckle(maximum=4095)
    assert_grey(written(tmp_path, values, syntax, bits=12, HighBit=high_bit), values / 4095 * 255)


def test_a_high_bit_beyond_the_word_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, speckle(maximum=4095) << 4, "native", BitsStored=12, HighBit=31)
    with pytest.raises(ScanReadError, match="HighBit is 31"):
        read_dicom(path)


def box(shape: tuple[int, int]) -> NDArray[np.bool_]:
    drawn = np.zeros(shape, np.bool_)
    drawn[20:60, 30:32] = drawn[20:60, 90:92] = drawn[20:22, 30:92] = drawn[58:60, 30:92] = True
    return drawn


FOREIGN = {
    "a drawn box in bit 12": lambda shape: box(shape).astype(np.uint16) << 12,
    "rubbish in four bits": lambda shape: RNG.integers(0, 16, shape).astype(np.uint16) << 12,
    "rubbish in one bit": lambda shape: RNG.integers(0, 2, shape).astype(np.uint16) << 15,
    "all bits set": lambda shape: np.full(shape, 0xF000, np.uint16),
}


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("bits", FOREIGN)
def test_bits_above_the_stored_ones_are_cut_off(tmp_path: Path, syntax: str, bits: str) -> None:
    values = speckle(maximum=4095)
    path = written(tmp_path, values | FOREIGN[bits](values.shape), syntax, BitsStored=12, HighBit=11)
    assert_grey(path, values / 4095 * 255)


@pytest.mark.parametrize("syntax", ["native", "implicit", "big endian", "RLELossless", "JPEGLosslessProcess14_1"])
@pytest.mark.parametrize("bits", ["extended", *FOREIGN])
def test_signed_samples_are_extended_whatever_stands_above_them(tmp_path: Path, syntax: str, bits: str) -> None:
    values = speckle(maximum=4095).astype(np.int16) - 2048
    patterns = values.view(np.uint16)
    if bits != "extended":
        patterns = (patterns & 0xFFF) | FOREIGN[bits](values.shape)
    path = written(tmp_path, patterns, syntax, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert_grey(path, (values + 2048.0) / 4095 * 255)


def test_eight_bits_of_which_six_are_stored(tmp_path: Path) -> None:
    values = speckle(maximum=63).astype(np.uint8)
    path = written(
        tmp_path, values | (box(values.shape).astype(np.uint8) << 7), "native", bits=8, BitsStored=6, HighBit=5
    )
    assert_grey(path, values / 63 * 255)


def jpeg_ls_bytes(samples: NDArray[np.generic]) -> bytes:
    """A codestream of as many bits as the largest sample needs."""
    return bytes(jpeg_ls.encode_array(samples))


@pytest.mark.parametrize("stated", [8, 9, 10, 14, 16])
def test_a_codestream_s_own_precision_is_followed(tmp_path: Path, stated: int) -> None:
    values = speckle(maximum=4095)
    dataset = us_dataset(values, bits_stored=stated)
    coded = jpeg_ls_bytes(values)
    assert_grey(save(encapsulated(dataset, JPEGLSLossless, [coded]), tmp_path / "scan.dcm"), values / 4095 * 255)


@pytest.mark.parametrize("stated", [10, 12, 16])
def test_a_codestream_of_8_bits_in_words_of_16(tmp_path: Path, stated: int) -> None:
    grey = speckle().astype(np.uint8)
    for syntax, coded in (
        (JPEG2000Lossless, j2k_bytes(grey)),
        (JPEGBaseline8Bit, jpeg_bytes(grey)),
        (JPEGLSLossless, jpeg_ls_bytes(grey)),
    ):
        dataset = encapsulated(us_dataset(speckle(), bits_stored=stated), syntax, [coded])
        assert_grey(
            save(dataset, tmp_path / "scan.dcm"), grey.astype(float), within=10 if syntax == JPEGBaseline8Bit else 0
        )


@pytest.mark.parametrize("syntax", ["native", "big endian", "RLELossless", "JPEG2000Lossless"])
@pytest.mark.parametrize("stated", [8, 9, 10])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_samples_that_need_more_bits_than_are_stated_are_refused(
    tmp_path: Path, syntax: str, stated: int, noise: float
) -> None:
    values = np.clip(speckle(maximum=4095) + RNG.normal(0, noise * 4095, (96, 128)), 0, 4095).astype(np.uint16)
    path = written(tmp_path, values, syntax, BitsStored=stated, HighBit=stated - 1)
    with pytest.raises(ScanReadError, match=f"samples need 12 bits, but BitsStored says {stated}"):
        read_dicom(path)


@pytest.mark.parametrize("signed", [False, True])
def test_a_codestream_of_another_sign_is_refused(tmp_path: Path, signed: bool) -> None:
    values = speckle(maximum=4095)
    values = values.astype(np.int16) - 2048 if signed else values
    path = written(tmp_path, values, "JPEG2000Lossless", bits=12, PixelRepresentation=int(not signed))
    with pytest.raises(ScanReadError, match=f"PixelRepresentation says {'unsigned' if signed else 'signed'}"):
        read_dicom(path)


@pytest.mark.parametrize("missing", ["PixelRepresentation", "BitsStored", "HighBit"])
def test_numbers_that_are_missing_have_their_usual_value(tmp_path: Path, missing: str) -> None:
    dataset = us_dataset(speckle().astype(np.uint8))
    delattr(dataset, missing)
    assert_grey(save(dataset, tmp_path / "scan.dcm"), speckle().astype(float), within=0)


@pytest.mark.parametrize("planar", [0, 1, 2, None, "missing"])
@pytest.mark.parametrize(
    "syntax", ["native", "RLELossless", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"]
)
def test_planar_configuration_counts_for_native_colour_alone(tmp_path: Path, syntax: str, planar: object) -> None:
    rgb = colourful()
    path = save(us_dataset(rgb, photometric="RGB"), tmp_path / "rgb.dcm")
    if syntax == "RLELossless":
        dataset = dcmread(path)
        dataset.compress(RLELossless)
    elif syntax == "native":
        dataset = dcmread(path)
        if planar == 1:
            dataset.PixelData = rgb.transpose(2, 0, 1).tobytes()
    else:
        dataset = dcmread(transcoded(path, tmp_path / "coded.dcm", syntax))
    if planar == "missing":
        del dataset.PlanarConfiguration
    else:
        dataset.PlanarConfiguration = planar
    dataset.save_as(path)
    assert_grey(path, luma(rgb), within=1.01)


def big_endian(path: Path, pixels: NDArray[np.uint8], *, vr: str, frames: int = 0, photometric: str) -> Path:
    dataset = us_dataset(pixels, photometric=photometric, frames=frames)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    data = pixels.tobytes() + b"\0" * (pixels.size % 2)
    dataset.PixelData = np.frombuffer(data, "<u2").astype(">u2").tobytes() if vr == "OW" else data
    dataset["PixelData"].VR = vr
    return save(dataset, path)


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_8_bits_in_big_endian_words(tmp_path: Path, vr: str) -> None:
    grey, rgb = speckle().astype(np.uint8), colourful()
    path = tmp_path / "scan.dcm"
    assert_grey(big_endian(path, grey, vr=vr, photometric="MONOCHROME2"), grey.astype(float), within=0)
    assert_grey(big_endian(path, 255 - grey, vr=vr, photometric="MONOCHROME1"), grey.astype(float), within=0)
    assert_grey(big_endian(path, rgb, vr=vr, photometric="RGB"), luma(rgb), within=1.01)
    odd = RNG.integers(0, 256, (5, 33, 41)).astype(np.uint8)  # frames begin in the middle of words
    big_endian(path, odd, vr=vr, frames=5, photometric="MONOCHROME2")
    for frame in range(5):
        assert_grey(path, odd[frame].astype(float), within=0, frame=frame)


def says(path: Path, uid: str) -> Path:
    """Put another transfer syntax into the file meta group, of the same length."""
    data = path.read_bytes()
    at = data.index(b"\x02\x00\x10\x00UI") + 8
    length = int.from_bytes(data[at - 2 : at], "little")
    path.write_bytes(data[:at] + uid.encode().ljust(length, b"\0")[:length] + data[at + length :])
    return path


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("shape", [(96, 128), (170, 150), (31, 33)])
def test_a_transfer_syntax_that_lies_of_the_vr(tmp_path: Path, deep: bool, shape: tuple[int, int]) -> None:
    values = speckle(*shape, maximum=4095 if deep else 255)
    samples = values if deep else values.astype(np.uint8)
    dataset = us_dataset(samples, bits_stored=12 if deep else 8)
    wanted = values / (4095 if deep else 255) * 255
    path = tmp_path / "scan.dcm"
    for stored, stated in (
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
    ):
        dataset.file_meta.TransferSyntaxUID = stored
        # the longer of the two UIDs first, so that the shorter fits in its place
        save(dataset, path)
        if len(stated) > len(stored) + len(stored) % 2:
            data = path.read_bytes()
            at = data.index(b"\x02\x00\x10\x00UI")
            grown = data[: at + 6] + (20).to_bytes(2, "little") + str(stated).encode().ljust(20, b"\0")
            rest = data[at + 8 + len(stored) + len(stored) % 2 :]
            path.write_bytes(grown + rest)  # the group length is wrong now: nobody trusts it
        else:
            says(path, stated)
        assert_grey(path, wanted)


def test_a_jpeg_in_an_implicit_data_set_without_a_transfer_syntax_or_under_another(tmp_path: Path) -> None:
    grey = speckle().astype(np.uint8)
    coded = jpeg_bytes(grey)
    dataset = encapsulated(us_dataset(grey), JPEGBaseline8Bit, [coded])
    path = save(dataset, tmp_path / "scan.dcm")
    assert_grey(path, grey.astype(float), within=10)
    for stated in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90", ""):
        assert_grey(says(path, stated), grey.astype(float), within=10)
    data = save(dataset, path).read_bytes()
    (tmp_path / "bare.dcm").write_bytes(data[data.index(b"\x08\x00\x16\x00UI") :])  # no file meta group at all
    assert_grey(tmp_path / "bare.dcm", grey.astype(float), within=10)


def test_native_pixels_under_the_transfer_syntax_that_they_once_had(tmp_path: Path) -> None:
    grey = speckle().astype(np.uint8)
    path = says(save(us_dataset(grey), tmp_path / "scan.dcm"), "1.2.840.10008.1.2.5")
    assert_grey(path, grey.astype(float), within=0)


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "RGB", "YBR_PARTIAL_420"])
def test_jpeg_2000_with_its_own_colour_transform_is_rgb(tmp_path: Path, photometric: str) -> None:
    rgb = colourful()
    dataset = encapsulated(us_dataset(rgb, photometric=photometric), JPEG2000Lossless, [j2k_bytes(rgb, mct=1)])
    assert_grey(save(dataset, tmp_path / "scan.dcm"), luma(rgb), within=1.01)


def test_jpeg_2000_without_one_is_what_the_header_says(tmp_path: Path) -> None:
    rgb = colourful()
    dataset = us_dataset(rgb, photometric="YBR_FULL")
    plain = encapsulated(dataset, JPEG2000Lossless, [j2k_bytes(to_ybr(rgb), mct=0)])
    assert_grey(save(plain, tmp_path / "scan.dcm"), luma(rgb), within=1.01)
    dataset.PhotometricInterpretation = "YBR_RCT"
    with pytest.raises(ScanReadError, match="contradict each other"):
        read_dicom(save(dataset, tmp_path / "scan.dcm"))


@pytest.mark.parametrize("photometric", ["YBR_ICT", "YBR_PARTIAL_420", "YBR_PARTIAL_422"])
def test_native_colour_has_no_photometric_of_a_codestream(tmp_path: Path, photometric: str) -> None:
    path = save(us_dataset(colourful(), photometric=photometric), tmp_path / "scan.dcm")
    with pytest.raises(ScanReadError, match="contradict each other"):
        read_dicom(path)


@pytest.mark.parametrize("photometric", ["YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_FULL", "YBR_ICT"])
def test_jpeg_baseline_of_any_photometric_is_read_by_its_own_marks(tmp_path: Path, photometric: str) -> None:
    rgb = colourful()
    for coded in (jpeg_bytes(rgb), without_marker(jpeg_bytes(rgb), 0xE0)):
        dataset = encapsulated(us_dataset(rgb, photometric=photometric), JPEGBaseline8Bit, [coded])
        assert_grey(save(dataset, tmp_path / "scan.dcm"), luma(rgb), within=5)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize("text", [" MONOCHROME2", "monochrome2 ", "Monochrome2", "MONOCHROME 2"])
def test_a_photometric_in_any_spelling(tmp_path: Path, text: str) -> None:
    grey = speckle().astype(np.uint8)
    assert_grey(save(us_dataset(grey, photometric=text), tmp_path / "scan.dcm"), grey.astype(float), within=0)


@pytest.mark.parametrize("frames", ["0", "", " "])
def test_no_frames_can_only_mean_one(tmp_path: Path, frames: str) -> None:
    grey = speckle().astype(np.uint8)
    for dataset in (us_dataset(grey), encapsulated(us_dataset(grey), JPEGBaseline8Bit, [jpeg_bytes(grey)])):
        path = save(dataset, tmp_path / "scan.dcm")
        data = path.read_bytes()
        at = data.index(b"\x28\x00\x10\x00US")
        element = b"\x28\x00\x08\x00IS" + (len(frames) + len(frames) % 2).to_bytes(2, "little")
        path.write_bytes(data[:at] + element + frames.encode().ljust(len(frames) + len(frames) % 2) + data[at:])
        assert_grey(path, grey.astype(float), within=10)
        assert read_dicom(path).frames is None


def test_an_element_without_a_vr_hides_nothing(tmp_path: Path) -> None:
    grey = speckle().astype(np.uint8)
    path = save(us_dataset(grey), tmp_path / "scan.dcm")
    data = path.read_bytes()
    for element, vrs in (
        (b"\x10\x00\x20\x00LO", (b"\0\0", b"lo", b"??", b"XX")),
        (b"\x28\x00\x02\x00US", (b"\0\0", b"us")),
    ):
        for vr in vrs:
            path.write_bytes(data.replace(element, element[:4] + vr))
            assert_grey(path, grey.astype(float), within=0)
            assert read_dicom(path).patient_id == read_dicom(save(us_dataset(grey), tmp_path / "a.dcm")).patient_id


def test_a_number_that_stands_twice(tmp_path: Path) -> None:
    grey = speckle().astype(np.uint8)
    dataset = us_dataset(grey)
    dataset.Rows = [96, 96]
    assert_grey(save(dataset, tmp_path / "scan.dcm"), grey.astype(float), within=0)
    dataset.Rows = [96, 95]
    with pytest.raises(ScanReadError, match="Rows stands more than once, with the values 96, 95"):
        read_dicom(save(dataset, tmp_path / "scan.dcm"))
