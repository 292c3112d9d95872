"""Bundles and calibrations from elsewhere: too large, too deep, or no files at all; refused before they are read."""

import hashlib
import json
import os
import time

import pytest

from sonoseek.core import BundleError, GalleryError
from sonoseek.encoder import bundle as bundle_module
from sonoseek.encoder import load_bundle
from sonoseek.encoder.archive_calibration import LARGEST_FILE, decode_calibration
from sonoseek.encoder.ensemble import decode_ensemble
from sonoseek.encoder.manifest import LARGEST_JSON, decode_manifest

DEEP = {
    "lists": b"[" * 100_000,
    "tables": b'{"training": ' * 50_000,
    "closed": b'{"format": 2, "training": ' + b"[" * 400 + b"]" * 400 + b"}",
    "in an unknown key": b'{"format": 2, "x": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
    "behind a text with brackets": b'{"name": "]]]]]]]]]] \\" ]]]]", "x": ' + b"[" * 40 + b"]" * 40 + b"}",
}
DECODERS = {
    "manifest": (decode_manifest, BundleError, LARGEST_JSON),
    "ensemble": (decode_ensemble, BundleError, LARGEST_JSON),
    "calibration": (decode_calibration, GalleryError, LARGEST_FILE),
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", DEEP)
def test_json_that_nests_deeply_is_refused(name, decoder):
    decode, error, _ = DECODERS[decoder]
    with pytest.raises(error, match=r"it nests [0-9,]+ deep; at most 32 levels are read\. \w+"):
        decode(DEEP[name], where="it")


@pytest.mark.parametrize("decoder", DECODERS)
def test_json_that_is_large_is_refused_before_it_is_decoded(decoder):
    decode, error, largest = DECODERS[decoder]
    began = time.perf_counter()
    with pytest.raises(error, match=f"more than {largest:,} bytes"):
        decode(b"[" + b"[]," * (largest // 3) + b"[]]", where="it")
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_is_no_utf_8_is_refused(decoder):
    decode, error, _ = DECODERS[decoder]
    with pytest.raises(error, match=r"it is no UTF-8 \(invalid start byte at byte 25\), as JSON is\. \w+"):
        decode(b'{"format": 2, "name": "abc\x80"}'[:25] + b'\x80"}', where="it")


def test_brackets_in_texts_are_no_nesting(make_bundle):
    name = "[" * 100 + '"' + "\\" + "{" * 100
    assert load_bundle(make_bundle(licences={"it": name})).name == "test"


def test_a_manifest_that_nests_a_little_is_read(make_bundle):
    training: dict[str, object] = {}
    for _ in range(20):
        training = {"more": [training]} if len(json.dumps(training).split("{")) < 14 else training
    assert load_bundle(make_bundle(training=training)).training == training


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device", "folder"])
def test_what_is_no_ordinary_file_is_refused_before_it_is_opened(bundle_folder, name, kind):
    path = bundle_folder / name
    path.unlink()
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        os.mkfifo(bundle_folder / "pipe")
        path.symlink_to(bundle_folder / "pipe")
    began = time.perf_counter()
    with pytest.raises(BundleError, match=f"{name} is no ordinary file but a {kind.rsplit(' ', 1)[-1]}.*Copy"):
        load_bundle(bundle_folder)
    assert time.perf_counter() - began < 1


def test_a_model_that_is_too_large_is_refused_before_it_is_opened(bundle_folder, monkeypatch):
    with (bundle_folder / "model.onnx").open("r+b") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    monkeypatch.setattr(hashlib, "file_digest", None)
    with pytest.raises(BundleError, match="1,099,511,627,776 bytes; at most 2,147,483,647 are read"):
        load_bundle(bundle_folder)
    assert bundle_module.LARGEST_MODEL == 2**31 - 1


def test_a_manifest_file_that_is_too_large_is_refused_before_it_is_opened(bundle_folder):
    with (bundle_folder / "bundle.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="1,099,511,627,776 bytes; at most 16,777,216"):
        load_bundle(bundle_folder)
