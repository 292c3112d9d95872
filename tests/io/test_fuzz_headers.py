"""Whatever bytes a header's reader is given: it returns, or raises an error of its own."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fuzz_corpus import sources
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonoseek.core import ScanReadError
from sonoseek.io import SourceHeader, frame_count
from sonoseek.io.dicom.header import read_header
from sonoseek.io.png import checked_png
from sonoseek.io.tiff import PAGES_LIMIT
from sonoseek.io.worker import serve

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),  # Hypothesis, of an example that fails
]
SOUND = sources()
thorough = settings(
    max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def damaged(*names: str) -> st.SearchStrategy[bytes]:
    """Sound files of these families with bytes put in the place of others, cut off, or made up behind their head."""
    files = [source.data for source in SOUND if source.name.startswith(names)]
    places = st.floats(0, 1).map(lambda share: share**3)  # most of them in the header
    edits = st.lists(st.tuples(places, st.binary(min_size=1, max_size=8)), max_size=6)

    def made(data: bytes, changes: list[tuple[float, bytes]], end: float, tail: bytes) -> bytes:
        body = bytearray(data)
        for share, value in changes:
            at = int(share * (len(body) - len(value)))
            body[at : at + len(value)] = value
        return bytes(body[: int(end * len(body))]) + tail if end < 1 else bytes(body)

    ends = st.just(1.0) | st.floats(0, 1)
    return st.builds(made, st.sampled_from(files), edits, ends, st.binary(max_size=64))


@thorough
@given(damaged("dicom"))
def test_a_dicom_headers_attributes(data: bytes) -> None:
    request = {"job": "header", "kind": "dicom", "frame": 0, "max_megapixels": 10, "memory_mb": 256}
    reply, payload = serve(request, io.BytesIO(data))
    if payload is None:
        assert reply["error"] in ("ScanReadError", "ScanTooLargeError")
        assert "retire" not in reply or "nested" in reply["message"]
        return
    attributes = json.loads(payload.tobytes())["attributes"]
    assert all(re.fullmatch("[0-9A-F]{8}", tag) and len(element["vr"]) == 2 for tag, element in attributes.items())
    header = SourceHeader(attributes=attributes)
    assert header.frames >= 1
    assert isinstance(header.patient_name, str)


@thorough
@given(damaged("dicom"))
def test_a_dicom_header(data: bytes) -> None:
    request = {"job": "count", "kind": "dicom", "frame": 0, "max_megapixels": 10, "memory_mb": 256}
    reply, payload = serve(request, io.BytesIO(data))  # what pydicom raises becomes an error here
    assert payload is None
    assert reply.get("error") in (None, "ScanReadError", "ScanTooLargeError", "InvalidValueError")
    if "error" in reply:
        assert "retire" not in reply or "nested" in reply["message"]
        return
    assert reply["frames"] >= 1
    header = read_header(io.BytesIO(data), max_pixels=10**7, memory_mb=256)
    assert header.rows * header.columns <= 10**7
    assert header.bits_allocated in (8, 16)
    assert 1 <= header.bits_stored <= header.bits_allocated
    if header.parts is not None:
        assert len(header.parts) == header.frames
    else:
        assert header.native_frame_bytes * header.frames <= header.stream.seek(0, io.SEEK_END)


@thorough
@given(damaged("tiff") | st.binary(max_size=200).map(lambda tail: b"II*\0" + tail))
def test_the_chain_of_a_tiff_s_directories(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "scan.tif").write_bytes(data)
    try:
        assert 1 <= frame_count(tmp_path / "scan.tif") <= PAGES_LIMIT
    except ScanReadError:
        return


@thorough
@given(damaged("png") | st.binary(max_size=200).map(lambda tail: b"\x89PNG\r\n\x1a\n" + tail))
def test_the_chunks_of_a_png(data: bytes) -> None:
    file = io.BytesIO(data)
    try:
        checked = checked_png(file)
    except ScanReadError:
        return
    assert checked.tell() == 0
    assert len(checked.read()) <= len(data)


def test_what_is_damaged_is_not_always_refused() -> None:
    """The strategies reach both outcomes: else the tests above would hold nothing."""
    outcomes = []

    @settings(max_examples=300, deadline=None, database=None)
    @given(damaged("dicom"))
    def tried(data: bytes) -> None:
        try:
            read_header(io.BytesIO(data), max_pixels=10**7, memory_mb=256)
            outcomes.append(True)
        except Exception:
            outcomes.append(False)

    tried()
    assert 0.1 < np.mean(outcomes) < 0.95
