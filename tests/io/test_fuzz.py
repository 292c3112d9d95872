"""400 damaged, lying and harmful files, and known attacks: a typed error or the right picture, within the limits."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from fuzz_attacks import ATTACKS
from fuzz_corpus import Case, Source, corpus, phantom, sources
from fuzz_measure import Outcome, measured

from sonoseek.core import ScanReadError
from sonoseek.io import read_scan

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures through /proc")
SAMPLE = 8
"""One of so many files is read by `make test`, all of them by `make test-long`."""
LOSSY = ("jpeg", "tiff JPEG", "dicom JPEGBaseline", "dicom JPEG2000", "dicom JPEGLSNear")


@pytest.fixture(scope="module")
def sound() -> list[Source]:
    return sources()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The temporary folder of the process that reads."""
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def written(folder: Path, files: list[bytes]) -> list[Path]:
    paths = [folder / f"{number:03d}.bin" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    return paths


def test_what_they_are_made_of_is_read_right(tmp_path: Path, sound: list[Source]) -> None:
    grey = phantom().astype(float)
    colour = np.dstack([grey, grey // 2, 255 - grey]) @ [0.299, 0.587, 0.114]
    for source, path in zip(sound, written(tmp_path, [source.data for source in sound]), strict=True):
        lossy, coloured = source.name.startswith(LOSSY), source.name.endswith(("colour", "palette"))
        distance = np.abs(read_scan(path).pixels - (colour if coloured else grey))
        most = {"png palette": 40, "jpeg colour": 6}.get(source.name, 4 if lossy else 0.51)
        assert distance.mean() <= most, source.name


def test_the_same_files_are_made_in_every_run() -> None:
    first, second = corpus(), corpus()
    assert 380 <= len(first) <= 450
    assert [case.name for case in first] == [case.name for case in second]
    different = [one.name for one, other in zip(first, second, strict=True) if one.data != other.data]
    assert different == []


def faults_of(cases: list[Case], sound: list[Source], folder: Path, scratch: Path) -> list[str]:
    (folder / "sound.dcm").write_bytes(next(source.data for source in sound if source.name == "dicom explicit"))
    outcomes = read_all([source.data for source in sound], folder, scratch)
    true = {source.name: outcome for source, outcome in zip(sound, outcomes, strict=True)}
    found = []
    for case, outcome in zip(cases, read_all([case.data for case in cases], folder, scratch), strict=True):
        faults = outcome.faults()
        right = true[case.source.name]
        if outcome.outcome == "read" and case.exact and outcome.sha256 != right.sha256:
            faults.append("another picture")
        if outcome.outcome == "read" and case.sized and outcome.shape != right.shape:
            faults.append(f"{outcome.shape} pixels, not {right.shape}")
        found += [f"{case.name}: {fault}" for fault in faults]
    assert list(scratch.iterdir()) == []
    return found


def read_all(files: list[bytes], folder: Path, scratch: Path) -> list[Outcome]:
    return measured(written(folder, files), scratch=scratch)


def test_a_sample_of_them(tmp_path: Path, scratch: Path, sound: list[Source]) -> None:
    cases = corpus()
    assert faults_of(cases[::SAMPLE], sound, tmp_path, scratch) == []


@pytest.mark.long
def test_all_of_them(tmp_path: Path, scratch: Path, sound: list[Source]) -> None:
    assert faults_of(corpus(), sound, tmp_path, scratch) == []


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_stays_within_the_limits(tmp_path: Path, scratch: Path, sound: list[Source], name: str) -> None:
    path = tmp_path / name
    path.write_bytes(ATTACKS[name]())
    (tmp_path / "sound.dcm").write_bytes(next(source.data for source in sound if source.name == "dicom explicit"))
    (outcome,) = measured([path], scratch=scratch, hang_s=40)
    assert outcome.faults() == []
    assert list(scratch.iterdir()) == []


def test_the_measure_sees_what_it_is_to_see(tmp_path: Path, scratch: Path, sound: list[Source]) -> None:
    paths = written(tmp_path, [sound[0].data, b"no picture", sound[0].data])
    paths.insert(2, tmp_path / "not there")
    read, refused, missing, again = measured(paths, scratch=scratch)
    assert read.outcome == again.outcome == "read"
    assert read.frames == "1"
    assert read.sha256 == hashlib.sha256(read_scan(paths[0]).pixels.tobytes()).hexdigest()
    assert read.faults() == refused.faults() == []
    assert refused.outcome == "ScanReadError"
    assert missing.faults()[0].startswith("NotFoundError")
    slow = Outcome(outcome="read", cpu_s=2.5, memory_mb=600, printed=20_000)
    assert len(slow.faults()) == 3
    assert Outcome(outcome="hung").faults()


@pytest.mark.parametrize("name", ["png grey", "png palette", "png 16 bits"])
def test_any_flipped_bit_of_a_chunk_s_name_is_noticed(tmp_path: Path, sound: list[Source], name: str) -> None:
    data = next(source.data for source in sound if source.name == name)
    path = tmp_path / "scan.png"
    path.write_bytes(data)
    right = read_scan(path)
    at, wrong = 8, []
    while at < len(data):
        for bit in range(64):
            changed = bytearray(data)
            changed[at + bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            try:
                if not np.array_equal(read_scan(path).pixels, right.pixels):
                    wrong.append(bytes(changed[at + 4 : at + 8]))
            except ScanReadError:
                continue
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    assert wrong == []
