"""Whatever bytes stand in the file of an inverted index: its layout is right, or it is refused with a ValueError."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoseek.gallery.sqlite.ivf import InvertedFile
from sonoseek.gallery.sqlite.ivf_layout import check_layout

pytestmark = pytest.mark.long
ROWS, DIMENSION = 300, 8


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    vectors = np.random.default_rng(0).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = InvertedFile.train(vectors, rows=ROWS)
    index.add(vectors)
    path = tmp_path_factory.mktemp("index") / "sound.ivf"
    index.save(path)
    return path.read_bytes()


changes = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=4)


def checked(data: bytes, *, nprobe: int = 1) -> bool:
    try:
        check_layout(np.frombuffer(data, np.uint8), rows=ROWS, dimension=DIMENSION, nprobe=nprobe)
    except ValueError:
        return False
    return True


@settings(max_examples=3000, deadline=None)
@given(changes=changes, end=st.just(1.0) | st.floats(0, 1), nprobe=st.integers(-1, 9))
def test_a_changed_file(
    sound: bytes, changes: list[tuple[float, bytes]], end: float, nprobe: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    body = bytearray(sound)
    for share, value in changes:
        at = int(share**3 * (len(body) - len(value)))
        body[at : at + len(value)] = value
    data = bytes(body[: int(end * len(body))])
    if not checked(data, nprobe=nprobe) or data == sound:
        return
    path = tmp_path_factory.getbasetemp() / "changed.ivf"  # what passes, faiss reads without harm
    path.write_bytes(data)
    assert faiss.read_index(str(path)).ntotal == ROWS


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=400))
def test_noise(data: bytes) -> None:
    assert not checked(data)
    assert not checked(b"IwSq" + data)


def test_the_sound_file_passes(sound: bytes) -> None:
    assert checked(sound)
    assert not checked(sound + b"\0")
