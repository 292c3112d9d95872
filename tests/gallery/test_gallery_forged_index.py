"""The search cache of a gallery from elsewhere: forged with right checksums, it is not used, or is refused by name."""

import logging
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gallery_contract import BUNDLE_ID, DIMENSION

from sonoseek.core import GalleryError
from sonoseek.gallery import create_gallery, open_gallery
from sonoseek.gallery.sqlite import index_files
from sonoseek.gallery.sqlite.index_files import _BLOCK, _HEAD

ROWS = 120
QUERY = np.random.default_rng(5).normal(size=DIMENSION).astype(np.float32)
FIELDS = ("magic", "gallery_id", "seq", "stamp", "rows", "dimension", "references", "size", "nprobe", "recall")


@pytest.fixture(scope="module", params=["exact", "ivf"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def template(tmp_path_factory, make_entries, kind) -> Path:
    folder = tmp_path_factory.mktemp("template") / "archive"
    with create_gallery(folder, bundle_id=BUNDLE_ID, dimension=DIMENSION, index=kind) as gallery:
        gallery.add(make_entries(ROWS))
        gallery.search(QUERY)
    return folder


@pytest.fixture
def archive(template, tmp_path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "archive")) / "gallery.db"


def resign(archive: Path, body: bytes | None = None, **changed: object) -> None:
    """Change the head (and the body) of a cache and give it the checksums of what it now holds.

    `row_ids` and `distances` are arrays that stand in the place of its own; the others are fields of the head.
    """
    path = archive.with_name("gallery.db.vectors")
    content = path.read_bytes()
    fields = dict(zip(FIELDS, _HEAD.unpack_from(content), strict=True))
    rows, references, size = fields["rows"], fields["references"], fields["size"]
    row_ids = np.frombuffer(content, "<i8", rows, _HEAD.size)
    distances = np.frombuffer(content, "<f4", references, _HEAD.size + 8 * rows)
    (ivf,) = list(archive.parent.glob("gallery.db.*.ivf")) or [None]
    old = ivf.read_bytes() if ivf is not None else content[len(content) - size :]
    new = old if body is None else body
    fields |= {"size": len(new)}
    row_ids, distances = changed.pop("row_ids", row_ids), changed.pop("distances", distances)
    fields |= {"rows": row_ids.size, "references": distances.size} | changed
    head = _HEAD.pack(*fields.values()) + row_ids.astype("<i8").tobytes() + distances.astype("<f4").tobytes()
    head += b"".join(struct.pack("<I", zlib.crc32(new[at : at + _BLOCK])) for at in range(0, len(new), _BLOCK))
    head += struct.pack("<I", zlib.crc32(head))
    path.write_bytes(head + b"\0" * (-len(head) % 64) + (new if ivf is None else b""))
    if ivf is not None:
        ivf.write_bytes(new)


def truth(archive: Path, kind: str) -> list[tuple[str, float]]:
    with open_gallery(archive, index=kind) as gallery:
        return [(match.case_id, match.similarity) for match in gallery.search(QUERY, k=5).matches]


def test_a_cache_that_was_signed_again_is_used(archive, kind, caplog):
    before = truth(archive, kind)
    resign(archive)
    with caplog.at_level(logging.WARNING):
        assert truth(archive, kind) == before
        loaded = index_files.load_index(archive, gallery_id=gallery_id(archive), dimension=DIMENSION)
    assert loaded is not None
    assert loaded.kind == kind
    assert "is not used" not in caplog.text


def gallery_id(archive: Path) -> str:
    with open_gallery(archive) as gallery:
        return gallery.gallery_id


HEADS: dict[str, dict[str, object]] = {
    "many rows": {"rows": 1 << 60},
    "rows below nothing": {"rows": -1},
    "many numbers": {"dimension": 1 << 60},
    "many distances": {"references": 1 << 61},
    "a large body": {"size": 1 << 62},
    "a body below nothing": {"size": -(1 << 40)},
    "a search of no lists": {"nprobe": -3},
    "a search of many lists": {"nprobe": 1 << 40},
    "no recall": {"recall": float("nan")},
    "scans out of order": {"row_ids": np.arange(ROWS, 0, -1)},
    "a scan twice": {"row_ids": np.r_[1, 1:ROWS]},
    "fewer scans": {"row_ids": np.arange(1, ROWS - 5)},
    "scans of another gallery": {"row_ids": np.arange(1_000, 1_000 + ROWS)},
    "distances out of order": {"distances": np.linspace(1, 0, ROWS)},
    "distances that are none": {"distances": np.full(ROWS, np.nan)},
    "distances beyond 2": {"distances": np.linspace(0, 9, ROWS)},
}


@pytest.mark.parametrize("name", HEADS)
def test_a_forged_head_is_not_used(archive, template, kind, name, caplog):
    before = truth(template / "gallery.db", kind)
    resign(archive, **HEADS[name])
    with caplog.at_level(logging.WARNING):
        assert truth(archive, kind) == before
    assert truth(archive, kind) == before  # it was made anew


def words_at(body: bytes, pattern: bytes, offset: int, form: str, value: object) -> bytes:
    content = bytearray(body)
    struct.pack_into(form, content, content.index(pattern) + offset, value)
    return bytes(content)


BODIES: dict[str, Callable[[bytes], bytes]] = {
    "another kind": lambda body: body.replace(b"IwSq", b"IwPQ", 1),
    "many vectors": lambda body: words_at(body, b"IwSq", 8, "<q", 1 << 50),
    "many numbers": lambda body: words_at(body, b"IwSq", 4, "<i", 1 << 30),
    "many lists": lambda body: words_at(body, b"IwSq", 37, "<Q", 1 << 60),
    "many centres": lambda body: words_at(body, b"IxFI", 8, "<q", 1 << 50),
    "large centres": lambda body: words_at(body, b"IxFI", 37, "<Q", 1 << 61),
    "a list that is long": lambda body: words_at(body, b"ilar", 32, "<Q", 1 << 62),
    "other lists": lambda body: words_at(body, b"ilar", 4, "<Q", 1 << 40),
    "large codes": lambda body: words_at(body, b"ilar", 12, "<Q", 1 << 40),
    "more sizes": lambda body: words_at(body, b"ilar", 24, "<Q", 1 << 60),
    "another storage": lambda body: body.replace(b"full", b"ilod", 1),
    "cut short": lambda body: body[: len(body) // 2],
    "cut in its head": lambda body: body[:41],
    "empty": lambda body: body[:0],
    "longer": lambda body: body + bytes(8),
    "rubbish": lambda body: bytes(np.random.default_rng(0).integers(0, 256, len(body), np.uint8)),
}


@pytest.mark.parametrize("kind", ["ivf"], indirect=True, scope="module")
@pytest.mark.parametrize("name", BODIES)
def test_a_forged_inverted_file_is_not_given_to_faiss(archive, kind, name, monkeypatch):
    before = truth(archive, kind)
    (ivf,) = archive.parent.glob("gallery.db.*.ivf")
    resign(archive, BODIES[name](ivf.read_bytes()))
    opened: list[Path] = []
    monkeypatch.setattr(index_files.InvertedFile, "open", lambda path, **_: opened.append(path))
    assert index_files.load_index(archive, gallery_id=gallery_id(archive), dimension=DIMENSION) is None
    assert opened == []
    monkeypatch.undo()
    assert truth(archive, kind) == before


@pytest.mark.parametrize("kind", ["ivf"], indirect=True, scope="module")
def test_scans_that_an_inverted_file_does_not_hold_are_an_error(archive):
    (ivf,) = archive.parent.glob("gallery.db.*.ivf")
    content = bytearray(ivf.read_bytes())
    for number in (1 << 50, -7, 3):  # the last list's ids stand at the end: out of range, or one twice
        struct.pack_into("<2q", content, len(content) - 16, number, number)
        resign(archive, bytes(content))
        with open_gallery(archive, index="ivf") as gallery:
            loaded = index_files.load_index(archive, gallery_id=gallery.gallery_id, dimension=DIMENSION)
            with pytest.raises(GalleryError, match="index optimise"):
                _ = loaded.inverted.list_of
            if number != 3:
                with pytest.raises(GalleryError, match="index optimise"):
                    gallery.search(QUERY, k=ROWS)
    with open_gallery(archive, "w", index="ivf") as gallery:
        gallery.optimise()
        assert len(gallery.search(QUERY, k=ROWS).matches) == ROWS


@pytest.mark.parametrize("kind", ["exact"], indirect=True, scope="module")
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_vectors_that_are_not_of_length_1_are_an_error(archive, value):
    forged = np.full((ROWS, DIMENSION), value * np.sign(QUERY), "<f4")
    resign(archive, forged.tobytes())
    with open_gallery(archive, "w") as gallery:
        with pytest.raises(GalleryError, match=r"not of length 1.*index optimise"):
            gallery.search(QUERY)
        assert any("disagrees" in problem for problem in gallery.verify())
        gallery.optimise()
        assert gallery.verify() == ()


def test_a_cache_that_is_a_pipe_is_not_waited_for(archive, kind):
    before = truth(archive, kind)
    names = [archive.with_name("gallery.db.vectors"), *archive.parent.glob("gallery.db.*.ivf")]
    for name in names:
        name.unlink()
        os.mkfifo(name)
        assert truth(archive, kind) == before


def test_a_cache_that_is_a_link_is_not_written_through(archive, kind, tmp_path):
    before = truth(archive, kind)
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    path = archive.with_name("gallery.db.vectors")
    path.unlink()
    path.symlink_to(target)
    assert truth(archive, kind) == before
    assert target.read_bytes() == b"precious"
