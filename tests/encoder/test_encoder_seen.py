"""Copies of training scans are recognised, other scans are not, and a bundle carries what that needs."""

import base64
from dataclasses import replace

import cv2
import numpy as np
import pytest

from sonoseek.core import BundleError, Scan
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import SeenScan, load_bundle, write_ensemble
from sonoseek.encoder.perceptual_hash import BITS, SAME_WITHIN, nearest_distance, query_hashes, stored_hashes
from sonoseek.encoder.seen import as_manifest_part, hash_bytes, training_scans, union


@pytest.fixture(scope="module")
def phantoms():
    """Forty scans; the first twenty are learnt from."""
    dataset = PhantomDataset(count=40, seed=8)
    return [dataset.load(record.case_id, masks=False).scans[0] for record in dataset.records()]


def gathered(scans, dataset="archive"):
    return training_scans((dataset, scan.scan_id, hash_bytes(scan)) for scan in scans)


@pytest.fixture(scope="module")
def learnt(phantoms):
    return gathered(phantoms[:20])


def saved(pixels, quality=75):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def scaled(pixels, factor):
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=how)


def cropped(pixels, top, bottom, left, right):
    height, width = (side / 100 for side in pixels.shape)
    return pixels[
        round(top * height) : round((100 - bottom) * height), round(left * width) : round((100 - right) * width)
    ]


COPIES = {
    "JPEG 50": lambda p: saved(p, 50),
    "half": lambda p: scaled(p, 0.5),
    "double": lambda p: scaled(p, 2),
    "mirrored": lambda p: p[:, ::-1],
    "cropped left": lambda p: cropped(p, 0, 0, 5, 0),
    "cropped top": lambda p: cropped(p, 5, 0, 0, 0),
    "cropped right": lambda p: cropped(p, 0, 0, 0, 5),
    "cropped bottom": lambda p: cropped(p, 0, 5, 0, 0),
    "cropped all": lambda p: cropped(p, 5, 5, 5, 5),
    "cropped 2.5 %": lambda p: cropped(p, 2.5, 2.5, 2.5, 2.5),
    "half, JPEG, mirrored": lambda p: saved(scaled(p, 0.5))[:, ::-1],
    "cropped, mirrored, JPEG": lambda p: saved(np.ascontiguousarray(cropped(p, 0, 5, 5, 0)[:, ::-1])),
    "border": lambda p: cv2.copyMakeBorder(p, 20, 20, 20, 20, cv2.BORDER_CONSTANT, value=0),
}


class TestFind:
    def test_the_same_pixels_are_found_exactly(self, learnt, phantoms):
        assert learnt.find(phantoms[3]) == SeenScan(exact=True, distance=0)
        assert len(learnt) == 20

    @pytest.mark.parametrize("change", COPIES)
    def test_copies_are_found(self, learnt, phantoms, change):
        for scan in phantoms[:20]:
            found = learnt.find(Scan(pixels=np.ascontiguousarray(COPIES[change](scan.pixels))))
            assert found is not None
            assert not found.exact
            assert 0 <= found.distance <= SAME_WITHIN

    def test_other_scans_are_not(self, learnt, phantoms):
        assert [learnt.find(scan) for scan in phantoms[20:]] == [None] * 20

    def test_a_picture_without_contrast_is_like_no_other(self, phantoms):
        flat = [Scan(pixels=np.full((50, 60), grey, np.uint8)) for grey in (0, 90)]
        known = gathered([flat[0], *phantoms[:2]])
        assert known.find(flat[0]) == SeenScan(exact=True, distance=0)
        assert known.find(flat[1]) is None
        assert hash_bytes(flat[0]) == b""

    def test_nothing_is_found_where_nothing_was_learnt_from(self, phantoms):
        empty = gathered([])
        assert len(empty) == 0
        assert empty.find(phantoms[0]) is None

    @pytest.mark.parametrize("shape", [(8, 8), (8, 3000), (3000, 8), (1, 9)])
    def test_pictures_of_any_shape_are_hashed(self, learnt, shape):
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (max(8, shape[0]), shape[1]), dtype=np.uint8)
        assert learnt.find(Scan(pixels=pixels)) is None

    def test_a_scan_with_borders_is_found_without_them(self, phantoms):
        bordered = cv2.copyMakeBorder(phantoms[0].pixels, 60, 30, 90, 10, cv2.BORDER_CONSTANT, value=40)
        assert gathered([Scan(pixels=bordered)]).find(phantoms[0]) is not None
        assert stored_hashes(bordered).shape == (2, 32)


class TestDistance:
    def test_it_is_the_number_of_bits_that_differ(self):
        rng = np.random.default_rng(1)
        asked, known = (rng.integers(0, 256, (n, 32), dtype=np.uint8) for n in (7, 50))
        bits = (np.unpackbits(asked, axis=1)[:, None] != np.unpackbits(known, axis=1)[None]).sum(axis=2)
        assert nearest_distance(asked, known, within=192) == bits.min()
        assert nearest_distance(asked, known, within=int(bits.min()) - 1) == BITS
        known[20] = asked[4]
        known[20, -1] ^= 0b111
        assert nearest_distance(asked, known) == 3
        assert nearest_distance(asked[:0], known) == BITS
        assert nearest_distance(~known[:1], known[:1]) == BITS  # all bits differ: no overflow

    def test_a_mirrored_scan_has_the_hashes_of_the_scan(self, phantoms):
        pixels = phantoms[0].pixels
        one, other = query_hashes(pixels), query_hashes(np.ascontiguousarray(pixels[:, ::-1]))
        assert nearest_distance(other, stored_hashes(pixels)) == nearest_distance(one, stored_hashes(pixels))


class TestManifest:
    def test_a_bundle_carries_them(self, make_bundle, learnt, phantoms):
        bundle = load_bundle(make_bundle(training_scans=as_manifest_part(learnt)))
        assert bundle.training_scans is not None
        assert np.array_equal(bundle.training_scans.sha256, learnt.sha256)
        assert np.array_equal(bundle.training_scans.hashes, learnt.hashes)
        assert dict(bundle.training_scans.counts) == {"archive": 20}
        assert bundle.training_scans.find(phantoms[3]) == SeenScan(exact=True, distance=0)

    def test_a_bundle_without_them_does_not_know(self, bundle_folder):
        assert load_bundle(bundle_folder).training_scans is None

    def test_a_scan_that_two_datasets_share_is_kept_once(self, phantoms):
        scan = phantoms[0]
        both = training_scans((dataset, scan.scan_id, hash_bytes(scan)) for dataset in ("b", "a", "b"))
        assert len(both) == 1
        assert dict(both.counts) == {"a": 1, "b": 2}
        assert list(both.counts) == ["a", "b"]

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"format": 2}, "format 2; this sonoseek compares 1"),
            ({"sha256": base64.b64encode(bytes(33)).decode()}, "33 bytes"),
            ({"hashes": base64.b64encode(bytes(31)).decode()}, "31"),
            ({"hashes": base64.b64encode(bytes(32 * 41)).decode()}, "41 hashes for 20 scans"),
            ({"counts": {"archive": 19}}, "for 20 distinct scans"),
            ({"counts": {"archive": 20, "other": 0}}, "for 20 distinct scans"),
            ({"sha256": "", "hashes": ""}, "for 0 distinct scans"),
            ({"sha256": "not base64!"}, "training_scans"),
            ({"names": []}, "names"),
        ],
    )
    def test_damage_is_refused(self, make_bundle, learnt, change, said):
        with pytest.raises(BundleError, match=said):
            load_bundle(make_bundle(training_scans={**as_manifest_part(learnt), **change}))


class TestEnsemble:
    def test_it_knows_what_any_member_knows(self, make_member, phantoms, tmp_path):
        parts = [gathered(phantoms[:12]), gathered(phantoms[10:20])]
        members = [make_member(f"m{i}", seed=i, training_scans=as_manifest_part(p)) for i, p in enumerate(parts)]
        both = load_bundle(write_ensemble(tmp_path / "both", members, name="both", version="1", norms=[1.0, 1.0]))
        assert both.training_scans is not None
        assert len(both.training_scans) == 20
        assert dict(both.training_scans.counts) == {"archive": 12}
        assert all(both.training_scans.find(scan) for scan in phantoms[:20])

    def test_it_does_not_know_where_a_member_does_not(self, make_member, learnt, tmp_path):
        members = [make_member("a", training_scans=as_manifest_part(learnt)), make_member("b", seed=1)]
        folder = write_ensemble(tmp_path / "both", members, name="both", version="1", norms=[1.0, 1.0])
        assert load_bundle(folder).training_scans is None

    def test_the_union_of_one_is_itself(self, learnt):
        same = union([learnt])
        assert np.array_equal(same.sha256, learnt.sha256)
        assert np.array_equal(same.hashes, learnt.hashes)


def test_values_stay_as_they_are(learnt):
    with pytest.raises(ValueError, match="read-only"):
        learnt.hashes[0] = 0
    assert replace(SeenScan(exact=True, distance=0), exact=False) == SeenScan(exact=False, distance=0)
