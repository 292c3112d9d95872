import dataclasses

import cv2
import numpy as np
import pytest
from audit_pictures import MemoryDataset, case, layout, speckle, tissue
from hypothesis import given
from hypothesis import strategies as st

from sonoseek.datasets.audit import audit
from sonoseek.datasets.audit.alignment import align
from sonoseek.datasets.audit.candidates import NEIGHBOURS
from sonoseek.datasets.audit.features import chain, fingerprint, inverse, mirror_descriptors
from sonoseek.datasets.audit.grouping import connected

STRANGERS = 24
assert STRANGERS > NEIGHBOURS + 1, "with fewer scans the search compares all with all, and is not tested"


def shifted(pixels, *, right, down):
    move = np.array([[1, 0, right], [0, 1, down]], np.float32)
    return cv2.warpAffine(pixels, move, pixels.shape[::-1])


def jpeg(pixels, quality):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def resized(pixels, across, down=None):
    return cv2.resize(pixels, None, fx=across, fy=down or across, interpolation=cv2.INTER_AREA)


def turned(pixels, degrees):
    height, width = pixels.shape
    return cv2.warpAffine(pixels, cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1), (width, height))


def gained(pixels):
    """Time gain turned: dark above, bright below."""
    return np.clip(pixels * np.linspace(0.15, 1.6, len(pixels))[:, None], 0, 255).astype(np.uint8)


def measured(pixels):
    marked = pixels.copy()
    for x, y in ((100, 60), (180, 70), (140, 40), (138, 100)):
        cv2.drawMarker(marked, (x, y), 255, cv2.MARKER_CROSS, 12, 2)
    return cv2.putText(marked, "LEFT BREAST", (20, 220), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)


COPIES = {
    "shifted": lambda p: shifted(p, right=60, down=-25),
    "cropped": lambda p: p[40:220, 50:290].copy(),
    "cropped to a third of the area": lambda p: p[30:170, 60:250].copy(),
    "at half the size": lambda p: resized(p, 0.5),
    "at twice the size": lambda p: cv2.resize(p, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    "squeezed to a square": lambda p: resized(p, 0.7, 0.7 * 320 / 240),
    "brighter": lambda p: cv2.convertScaleAbs(p, alpha=1.2, beta=15),
    "with another gamma": lambda p: (255 * (p / 255.0) ** 0.6).astype(np.uint8),
    "with another contrast": lambda p: cv2.createCLAHE(3.0, (8, 8)).apply(p),
    "with another time gain": gained,
    "re-saved as JPEG": lambda p: jpeg(p, 20),
    "with calipers and words": measured,
    "turned": lambda p: turned(p, 5),
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "upside down": lambda p: np.ascontiguousarray(p[::-1]),
    "all at once": lambda p: jpeg(resized(cv2.convertScaleAbs(p[20:220, 30:300], alpha=1.1, beta=5), 0.8), 50),
}


@pytest.fixture(scope="module")
def found():
    """One audit of many strangers and of one copy of each kind, each of a picture of its own."""
    originals = [case(f"original {index}", tissue(index)) for index in range(STRANGERS)]
    copies = [case(name, change(tissue(index))) for index, (name, change) in enumerate(COPIES.items())]
    return audit(MemoryDataset([*originals, *copies]))


@pytest.mark.parametrize(("index", "name"), list(enumerate(COPIES)))
def test_a_copy_is_found(found, index, name):
    pair = next((p for p in found.pairs if p.b == name), None)
    assert pair is not None
    assert (pair.a, pair.kind) == (f"original {index}", "near")
    assert pair.detail > 0.6
    assert pair.overlap > 0.5


def test_nothing_else_is_found(found):
    assert {(p.a, p.b) for p in found.pairs} == {(f"original {i}", name) for i, name in enumerate(COPIES)}
    assert found.related == ()
    assert [len(group.case_ids) for group in found.groups] == [2] * len(COPIES)


@pytest.mark.parametrize(
    ("name", "of_b", "of_a"),
    [
        ("shifted", (160, 75), (100, 100)),
        ("cropped", (50, 60), (100, 100)),
        ("at half the size", (49.75, 49.75), (100, 100)),
        ("mirrored", (219, 100), (100, 100)),
        ("upside down", (100, 139), (100, 100)),
    ],
)
def test_the_transform_leads_from_the_second_scan_to_the_first(found, name, of_b, of_a):
    pair = next(p for p in found.pairs if p.b == name)
    np.testing.assert_allclose(pair.transform @ [*of_b, 1], of_a, atol=1.0)
    assert pair.mirrored == (name in {"mirrored", "upside down"})


def test_a_copy_that_agrees_in_speckle_but_not_in_brightness_is_one(found):
    assert next(p.ncc for p in found.pairs if p.b == "with another time gain") < 0.85


def test_intensities_set_right_what_features_leave_off():
    """Features that are off by some pixels, as between blurred scans, still end in an exact fit."""
    a, b = fingerprint(tissue(1)), fingerprint(shifted(tissue(1), right=30, down=10))
    jitter = np.random.default_rng(0).normal(0, 3, b.points.shape).astype(np.float32)
    fit = align(a, dataclasses.replace(b, points=b.points + jitter))
    corners = np.array([[40, 20, 1], [300, 20, 1], [40, 230, 1], [300, 230, 1]])
    np.testing.assert_allclose(corners @ fit.transform.T, corners[:, :2] - [30, 10], atol=0.25)


def test_identical_pixels_are_exact_even_without_texture():
    blank = np.full((60, 80), 7, np.uint8)
    cases = [case("a", tissue(1)), case("b", tissue(1)), case("c", blank), case("d", blank), case("e", blank + 1)]
    result = audit(MemoryDataset(cases))
    assert [(p.a, p.b, p.kind, p.ncc) for p in result.pairs] == [("a", "b", "exact", 1.0), ("c", "d", "exact", 1.0)]


def test_the_copy_of_an_exact_pair_pairs_with_both():
    cases = [case("a", tissue(1)), case("b", tissue(1)), case("c", jpeg(tissue(1), 50))]
    assert [(p.a, p.b, p.kind) for p in audit(MemoryDataset(cases)).pairs] == [
        ("a", "b", "exact"),
        ("a", "c", "near"),
        ("b", "c", "near"),
    ]


def test_more_copies_than_neighbours_still_make_one_complete_group():
    count = NEIGHBOURS + 5
    copies = [case(f"copy {i}", shifted(tissue(50), right=2 * i, down=i)) for i in range(count)]
    result = audit(MemoryDataset(copies))
    assert len(result.pairs) == count * (count - 1) // 2
    assert len(result.groups) == 1


def test_a_neighbouring_frame_is_not_a_copy():
    """The same place with other speckle: related, kept together, but not the same scan."""
    place = cv2.GaussianBlur(layout(3), (0, 0), 1.0)
    frames = [np.clip(220 * place * speckle(seed) ** 0.12, 0, 255).astype(np.uint8) for seed in (1, 2)]
    result = audit(MemoryDataset([case("frame 1", frames[0]), case("frame 2", frames[1]), case("else", tissue(4))]))
    assert result.pairs == ()
    assert [(p.a, p.b, p.kind) for p in result.related] == [("frame 1", "frame 2", "frame")]
    assert ("frame 1", "frame 2") in result.keep_together


def test_the_same_words_on_different_scans_do_not_make_them_copies():
    cases = [case(f"case {seed}", measured(tissue(seed))) for seed in range(6)]
    result = audit(MemoryDataset(cases))
    assert result.pairs == ()
    assert result.related == ()


def test_the_scans_of_one_case_are_not_held_against_it():
    result = audit(MemoryDataset([case("a", [tissue(1), tissue(1)]), case("b", [tissue(2), jpeg(tissue(1), 60)])]))
    assert {(p.a, p.scan_a, p.b, p.scan_b) for p in result.pairs} == {("a", 0, "b", 1), ("a", 1, "b", 1)}
    assert result.scans == 4


@pytest.mark.parametrize("size", [(8, 8), (9, 400), (3, 5)])
def test_odd_sizes_are_described(size):
    pixels = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)
    item = fingerprint(pixels)
    assert max(item.image.shape) == 320
    assert len(item.points) == len(item.descriptors)


def test_mirrored_descriptors_are_those_of_the_mirrored_picture():
    straight = fingerprint(tissue(5))
    mirrored = fingerprint(np.ascontiguousarray(tissue(5)[:, ::-1]))
    predicted = mirror_descriptors(straight.descriptors).astype(int)
    nearest = [np.abs(mirrored.descriptors - row).sum(axis=1).min() for row in predicted]
    unmirrored = [np.abs(mirrored.descriptors - row.astype(int)).sum(axis=1).min() for row in straight.descriptors]
    assert np.median(nearest) < 0.25 * np.median(unmirrored)
    np.testing.assert_array_equal(mirror_descriptors(mirror_descriptors(straight.descriptors)), straight.descriptors)


numbers = st.integers(-500, 500).map(lambda tenths: tenths / 10)


@given(st.lists(numbers, min_size=6, max_size=6), numbers, numbers)
def test_a_transform_and_its_inverse_cancel(values, x, y):
    transform = np.array(values).reshape(2, 3)
    if abs(np.linalg.det(transform[:, :2])) < 1e-2:
        return
    back = chain(inverse(transform), transform)
    np.testing.assert_allclose(back @ [x, y, 1], [x, y], atol=1e-4)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_connected_components_hold_every_pair_and_do_not_overlap(pairs):
    groups = connected(10, pairs)
    of = {item: index for index, group in enumerate(groups) for item in group}
    assert sum(map(len, groups)) == len(of)
    assert all(one == other or of[one] == of[other] for one, other in pairs)
    assert all(len(group) > 1 for group in groups)
