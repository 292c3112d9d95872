"""The calibration beside a gallery: what is written is read, and nothing else counts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sonoseek.core import GalleryError
from sonoseek.encoder.archive_calibration import (
    ArchiveCalibration,
    Figure,
    FigurePair,
    decode_calibration,
    encode_calibration,
)
from sonoseek.gallery import Gallery, create_gallery
from sonoseek.gallery.calibration_file import (
    calibration_path,
    read_calibration,
    remove_calibration,
    write_calibration,
)

FIGURE = Figure(value=0.5, low=0.4, high=None)


def made(**changed: object) -> ArchiveCalibration:
    facts = {
        "sonoseek": "0.1.0",
        "bundle_id": "tiny-1",
        "gallery_id": "g",
        "gallery_state": "3-abcdef",
        "created": datetime(2026, 11, 28, 12, tzinfo=UTC),
        "cases": 312,
        "scans": 400,
        "patients": 290,
        "class_cases": {"benign": 200, "malignant": 112},
        "left_out": {"trained_on": 3},
        "temperature": 1.7,
        "class_bias": {"normal": 0.0, "benign": -0.25, "malignant": 0.25},
        "abstain_below": 0.55,
        "conformal": {"level": 0.9, "quantile": 0.8},
        "operating_points": {"sensitivity_98": {"threshold": 0.1, "sensitivity": 0.98, "specificity": 0.4}},
        "bundle_points": [],
        "figures": {"log_loss": FigurePair(before=FIGURE, after=FIGURE)},
        "log_loss_change": FIGURE,
        "improved_by": "log_loss",
    }
    return ArchiveCalibration(**{**facts, **changed})


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    with create_gallery(tmp_path / "g", bundle_id="tiny-1", dimension=4) as found:
        yield found


def test_what_is_written_is_read(gallery: Gallery) -> None:
    assert read_calibration(gallery) is None
    calibration = made(gallery_id=gallery.gallery_id)
    path = write_calibration(gallery.location, calibration)
    assert path == Path(gallery.location).with_name("gallery.db.calibration.json") == calibration_path(gallery.location)
    found = read_calibration(gallery)
    assert found is not None
    assert msgspec.structs.replace(found, digest="") == calibration
    assert found.fitted.isoformat() == "2026-11-28"
    write_calibration(gallery.location, msgspec.structs.replace(calibration, cases=400))
    assert read_calibration(gallery).cases == 400  # type: ignore[union-attr]
    assert [p.name for p in path.parent.iterdir() if "calibration" in p.name] == [path.name]  # no draft is left
    gallery.optimise()  # which clears the search cache
    assert path.exists()
    assert remove_calibration(gallery.location)
    assert not remove_calibration(gallery.location)
    assert read_calibration(gallery) is None


@pytest.mark.parametrize(
    ("location", "name"),
    [("a/b", "a/b/gallery.db"), ("a/x.sqlite", "a/x.sqlite"), ("sqlite://a/b", "a/b/gallery.db")],
)
def test_it_lies_beside_the_file(location: str, name: str) -> None:
    assert calibration_path(location) == Path(f"{name}.calibration.json")


def test_a_server_has_no_place_for_one() -> None:
    with pytest.raises(GalleryError, match="index copy"):
        calibration_path("milvus://host:19530/x")


def test_another_gallery_s_is_refused_and_another_bundle_s_is_given_back(gallery: Gallery) -> None:
    write_calibration(gallery.location, made())
    with pytest.raises(GalleryError, match=r"fitted on gallery g;.*--remove"):
        read_calibration(gallery)
    write_calibration(gallery.location, made(bundle_id="other-2"))
    assert read_calibration(gallery).bundle_id == "other-2"  # type: ignore[union-attr]


def test_a_file_that_cannot_be_written_is_an_error_that_loses_nothing(gallery: Gallery, tmp_path: Path) -> None:
    write_calibration(gallery.location, made(gallery_id=gallery.gallery_id))
    with pytest.raises(GalleryError):
        write_calibration(tmp_path / "nowhere", made())
    path = calibration_path(tmp_path / "other")
    path.mkdir(parents=True)
    with pytest.raises(GalleryError):
        write_calibration(tmp_path / "other", made())
    assert list(path.parent.iterdir()) == [path]
    assert read_calibration(gallery) is not None


def test_every_cut_and_every_changed_letter_is_noticed() -> None:
    content = encode_calibration(made())
    assert decode_calibration(content, where="f").cases == 312
    for end in range(0, len(content) - 2, 7):
        with pytest.raises(GalleryError, match=r"f.*sonoseek calibrate"):
            decode_calibration(content[:end], where="f")
    rng = np.random.default_rng(0)
    for place in rng.choice(len(content), 300, replace=False).tolist():
        changed = bytearray(content)
        changed[place] = changed[place] ^ 1
        try:
            found = decode_calibration(bytes(changed), where="f")
        except GalleryError:
            continue
        assert found == decode_calibration(content, where="f")  # white space


@pytest.mark.parametrize("thing", [b"", b"[]", b"{}", b"null", b"\xff\xfe", b'{"format": "1"}', b'{"format": 1}'])
def test_what_is_no_calibration_is_refused(thing: bytes) -> None:
    with pytest.raises(GalleryError, match=r"does not read as a calibration|is no UTF-8"):
        decode_calibration(thing, where="f")


def test_other_formats_and_unknown_keys_are_refused() -> None:
    document = json.loads(encode_calibration(made()))
    with pytest.raises(GalleryError, match=r"format 2.*Update sonoseek"):
        decode_calibration(json.dumps({**document, "format": 2, "more": 1}).encode(), where="f")
    with pytest.raises(GalleryError, match="more"):
        decode_calibration(json.dumps({**document, "more": 1}).encode(), where="f")
    assert decode_calibration(re.sub(rb"\s*\n\s*", b" ", encode_calibration(made())), where="f").cases == 312


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"abstain_below": 1.5},
        {"cases": 0},
        {"patients": -3},
        {"class_bias": {"normal": 0.0, "benign": 99.0, "malignant": 0.0}},
        {"conformal": {"level": 0.9}},
        {"conformal": {"quantile": 0.9}},
        {"operating_points": {"sensitivity_98": {"threshold": 1.2, "sensitivity": 0.98, "specificity": 0.4}}},
        {"bundle_points": ["sensitivity_50"]},
    ],
)
def test_numbers_that_no_fit_gives_are_refused_though_they_are_signed(changed: dict[str, object]) -> None:
    with pytest.raises(GalleryError, match="--remove"):
        decode_calibration(encode_calibration(made(**changed)), where="f")


def test_a_calibration_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    with create_gallery(tmp_path / "archive", bundle_id="tiny-1", dimension=8) as gallery:
        os.mkfifo(calibration_path(gallery.location))
        with pytest.raises(GalleryError, match=r"no ordinary file.*--no-calibration"):
            read_calibration(gallery)
