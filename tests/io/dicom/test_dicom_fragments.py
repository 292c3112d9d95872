"""Encapsulated frames: wrong offset tables, split fragments, padding; damaged codestreams."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from dicom_files import j2k_bytes, jpeg_bytes, save, speckle, transcoded, us_dataset
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from sonoseek.core import ScanReadError
from sonoseek.io.dicom import frame_count, read_dicom

FRAMES = [speckle(64, 80, seed=seed).astype(np.uint8) for seed in range(4)]
CODED = [jpeg_bytes(frame) for frame in FRAMES]


def items(fragments: Sequence[bytes], table: bytes = b"") -> bytes:
    """Fragments as they lie in a file, each of even length, behind a basic offset table."""
    parts = [table, *(fragment + b"\0" * (len(fragment) % 2) for fragment in fragments)]
    return b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(part)) + part for part in parts)


def starts(fragments: Sequence[bytes]) -> list[int]:
    sizes = [8 + len(fragment) + len(fragment) % 2 for fragment in fragments]
    return [sum(sizes[:number]) for number in range(len(sizes))]


def encapsulated_as(
    path: Path, data: bytes, *, frames: int = 4, syntax: UID = JPEGBaseline8Bit, **more: object
) -> Path:
    pixels = np.stack(FRAMES[:frames]) if frames > 1 else FRAMES[0]
    dataset = us_dataset(pixels, frames=frames if frames > 1 else 0)
    dataset.file_meta.TransferSyntaxUID = syntax
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = data
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    return save(dataset, path)


def assert_frames(path: Path, *, within: float = 12, frames: int = 4) -> None:
    assert frame_count(path) == frames
    for number in range(frames):
        found = read_dicom(path, frame=number).pixels.astype(float)
        assert np.abs(found - FRAMES[number]).max() <= within


def table(offsets: Sequence[int], form: str = "<L") -> bytes:
    return b"".join(struct.pack(form, offset) for offset in offsets)


SOUND = starts(CODED)
TABLES = {
    "none": b"",
    "right": table(SOUND),
    "zeros": table([0, 0, 0, 0]),
    "shifted": table([offset + 8 for offset in SOUND]),
    "from the file's start": table([offset + 1000 for offset in SOUND]),
    "two of four": table(SOUND[:2]),
    "five of four": table([*SOUND, 99999]),
    "reversed": table(SOUND[::-1]),
    "big endian": table(SOUND, ">L"),
    "not of whole numbers": b"\1\2\3\4\5\6",
    "huge": table([0, 2**31, 2**32 - 1, 5]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_fragment_a_frame_needs_no_table(tmp_path: Path, name: str) -> None:
    assert_frames(encapsulated_as(tmp_path / "scan.dcm", items(CODED, TABLES[name])))


@pytest.mark.parametrize("offsets", [SOUND, [0, 0, 0, 0], SOUND[::-1], [7, 8], [2**63] * 4])
def test_an_extended_table_is_checked_too(tmp_path: Path, offsets: list[int]) -> None:
    more = {"ExtendedOffsetTable": table(offsets, "<Q"), "ExtendedOffsetTableLengths": table([9] * len(offsets), "<Q")}
    assert_frames(encapsulated_as(tmp_path / "scan.dcm", items(CODED), **more))


@pytest.mark.parametrize("right", [False, True])
def test_frames_in_several_fragments_begin_where_a_codestream_does(tmp_path: Path, right: bool) -> None:
    split = [part for frame in CODED for part in (frame[:400], frame[400:1000], frame[1000:])]
    offsets = starts(split)[::3] if right else [0, 0, 0, 0]
    assert_frames(encapsulated_as(tmp_path / "scan.dcm", items(split, table(offsets))))


def test_fragments_that_nothing_groups_are_refused(tmp_path: Path) -> None:
    cut = [part for frame in CODED[:2] for part in (frame[:1000], frame[1000:])]
    path = encapsulated_as(tmp_path / "scan.dcm", items(cut, table([0, 4])), frames=3)
    with pytest.raises(ScanReadError, match="which of its 4 fragments make up which frame is not known"):
        read_dicom(path)


def lossless(folder: Path, syntax: str, *, deep: bool = False) -> tuple[bytes, Dataset]:
    pixels = speckle(64, 80, maximum=4095) if deep else FRAMES[0]
    source = save(us_dataset(pixels, bits_stored=12 if deep else 8), folder / "plain.dcm")
    dataset = dcmread(transcoded(source, folder / "coded.dcm", syntax))
    return next(generate_frames(dataset.PixelData, number_of_frames=1)), dataset


CODECS = {
    JPEGBaseline8Bit: None,
    JPEGLosslessSV1: "JPEGLosslessProcess14_1",
    JPEGLSLossless: "JPEGLSLossless",
    JPEG2000Lossless: None,
}


def codestream(folder: Path, syntax: UID) -> bytes:
    if syntax == JPEG2000Lossless:
        return j2k_bytes(FRAMES[0])
    name = CODECS[syntax]
    return CODED[0] if name is None else lossless(folder, name)[0]


@pytest.mark.parametrize("syntax", CODECS, ids=lambda uid: uid.name)
@pytest.mark.parametrize("padding", [b"\0", b"\0" * 64, b"\0" * 4096, b"\xff" * 1000, b"\xa5" * 100])
def test_what_follows_the_end_marker_is_padding(tmp_path: Path, syntax: UID, padding: bytes) -> None:
    coded = codestream(tmp_path, syntax)
    path = encapsulated_as(tmp_path / "scan.dcm", items([coded + padding]), frames=1, syntax=syntax)
    assert_frames(path, frames=1)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLosslessSV1], ids=lambda uid: uid.name)
def test_padding_before_a_codestream(tmp_path: Path, syntax: UID) -> None:
    coded = codestream(tmp_path, syntax)
    for padding in (b"\0\0", b"\xff" * 3, b"\0" * 20):
        path = encapsulated_as(tmp_path / "scan.dcm", items([padding + coded]), frames=1, syntax=syntax)
        assert_frames(path, frames=1)


@pytest.mark.parametrize("syntax", CODECS, ids=lambda uid: uid.name)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_codestream_is_refused_though_it_ends_well(tmp_path: Path, syntax: UID, share: float) -> None:
    coded = codestream(tmp_path, syntax)
    cut = coded[: int(len(coded) * share)] + b"\xff\xd9"
    path = encapsulated_as(tmp_path / "scan.dcm", items([cut]), frames=1, syntax=syntax)
    with pytest.raises(ScanReadError, match=r"truncated|no codestream|damaged"):
        read_dicom(path)


def flipped(data: bytes, *, seed: int, count: int, after: int) -> bytes:
    chance, changed = random.Random(seed), bytearray(data)
    for _ in range(count):
        changed[chance.randrange(after, len(data) - 4)] ^= 1 << chance.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize(
    ("syntax", "least"), [(JPEGBaseline8Bit, 1.0), (JPEGLosslessSV1, 0.8), (JPEGLSLossless, 1.0)], ids=lambda x: str(x)
)
def test_twenty_flipped_bits_are_noticed_where_the_format_has_a_check(
    tmp_path: Path, syntax: UID, least: float
) -> None:
    coded = codestream(tmp_path, syntax)
    after = coded.index(b"\xff\xda") + 14
    refused = 0
    for seed in range(40):
        damaged = flipped(coded, seed=seed, count=20, after=after)
        path = encapsulated_as(tmp_path / "scan.dcm", items([damaged]), frames=1, syntax=syntax)
        try:
            read_dicom(path)
        except ScanReadError:
            refused += 1
    assert refused >= least * 40


def test_a_deflated_data_set_ends_where_the_file_does(tmp_path: Path) -> None:
    dataset = us_dataset(FRAMES[0])
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(dataset, tmp_path / "scan.dcm")
    assert_frames(path, frames=1, within=0)
    path.write_bytes(path.read_bytes() + b"\0")
    assert_frames(path, frames=1, within=0)
    path.write_bytes(path.read_bytes() + b"rubbish")
    with pytest.raises(ScanReadError, match="ends before the file does"):
        read_dicom(path)


def test_a_sound_lossless_codestream_of_any_picture_is_needed_to_its_end(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    pictures: list[NDArray[np.uint8]] = [
        np.zeros((64, 80), np.uint8),
        np.full((64, 80), 128, np.uint8),
        np.vstack([FRAMES[0][:40], np.zeros((24, 80), np.uint8)]),
        chance.integers(0, 256, (64, 80)).astype(np.uint8),
        np.repeat(np.arange(64, dtype=np.uint8)[:, None], 80, axis=1),
    ]
    for pixels in pictures:
        source = save(us_dataset(pixels), tmp_path / "plain.dcm")
        path = transcoded(source, tmp_path / "coded.dcm", "JPEGLosslessProcess14_1")
        assert np.array_equal(read_dicom(path).pixels, pixels)
