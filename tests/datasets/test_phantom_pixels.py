import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from sonoseek.datasets.phantom import SCANNERS, PhantomDataset, make_phantom, plan_phantom, render_plan, truth_of
from sonoseek.datasets.phantom.grid import make_grid
from sonoseek.datasets.phantom.physics import envelope


@cache
def lesions(pathology, kinds, count=20):
    """(pixels, mask, truth, area) of clean scans, without marks, of some kinds of lesion."""
    found, seed = [], 0
    while len(found) < count:
        plan = plan_phantom(seed, pathology=pathology, scanner="Aurelia 7")
        seed += 1
        if plan.kind in kinds:
            case = render_plan(replace(plan, calipers=0, caption=False))
            found.append((case.scans[0].pixels.astype(np.float32), case.lesion_masks[0], truth_of(plan)))
    return found


def test_the_same_seed_gives_the_same_pixels():
    first, again, other = make_phantom(7), make_phantom(7), make_phantom(8)
    assert np.array_equal(first.scans[0].pixels, again.scans[0].pixels)
    assert np.array_equal(first.lesion_masks[0], again.lesion_masks[0])
    assert first.scans[0].scan_id != other.scans[0].scan_id


def test_views_of_a_patient_differ():
    first, second = make_phantom(7), make_phantom(7, view=1)
    assert first.scans[0].scan_id != second.scans[0].scan_id
    assert first.patient_id == second.patient_id
    assert first.case_id != second.case_id


@pytest.mark.parametrize("scanner", sorted(SCANNERS))
def test_every_scanner_makes_a_scan(scanner):
    case = make_phantom(3, scanner=scanner)
    scan = case.scans[0]
    assert scan.pixels.dtype == np.uint8
    assert all(300 <= side <= 900 for side in scan.shape)
    assert case.device == scanner
    assert scan.spacing_mm[0] == scan.spacing_mm[1]
    area = make_grid(scanner, plan_phantom(3, scanner=scanner).depth_mm).area
    assert area.shape == scan.shape
    assert 40 < scan.pixels[area].mean() < 150
    assert scan.pixels[area].std() > 25


def test_sector_and_trapezoid_leave_black_corners():
    for scanner, shape in ((s.name, s.shape) for s in SCANNERS.values()):
        depth = SCANNERS[scanner].depths_mm[0]
        grid = make_grid(scanner, depth)
        top, bottom, left, right = grid.window
        full = grid.area[top:bottom, left:right].all()
        assert full == (shape == "linear")


def test_normal_has_an_empty_mask():
    case = make_phantom(5, pathology="normal")
    assert case.lesion_masks[0].dtype == np.bool_
    assert not case.lesion_masks[0].any()


@pytest.mark.parametrize("scanner", sorted(SCANNERS))
def test_mask_measures_what_the_truth_says(scanner):
    for seed in range(4):
        pathology = "malignant" if seed % 2 else "benign"
        plan = plan_phantom(seed, pathology=pathology, scanner=scanner)
        truth, case = truth_of(plan), render_plan(plan)
        mask = case.lesion_masks[0]
        area = mask.sum() * case.scans[0].spacing_mm[0] * case.scans[0].spacing_mm[1]
        assert area == pytest.approx(np.pi / 4 * truth.axes_mm[0] * truth.axes_mm[1], rel=0.03)
        rows, columns = np.nonzero(mask)
        assert np.ptp(rows) * truth.spacing_mm[0] == pytest.approx(truth.extent_mm[0], abs=0.3)
        assert np.ptp(columns) * truth.spacing_mm[1] == pytest.approx(truth.extent_mm[1], abs=0.3)
        grid = make_grid(scanner, plan.depth_mm)
        assert (mask & ~grid.area).sum() == 0
        assert mask[round(truth.centre[0]), round(truth.centre[1])]


def _ring(mask, pixels, truth):
    """Pixels beside the lesion, left and right, at its depth: what shadow and enhancement do not reach."""
    rows, columns = np.nonzero(mask)
    width = max(int(3 / truth.spacing_mm[1]), 12)
    band = np.s_[rows.min() : rows.max()]
    left = pixels[band, max(columns.min() - 5 - width, 0) : max(columns.min() - 5, 1)]
    right = pixels[band, columns.max() + 5 : columns.max() + 5 + width]
    return np.concatenate([left.ravel(), right.ravel()])


@pytest.mark.parametrize(
    ("pathology", "kinds"), [("benign", ("cyst", "fibroadenoma")), ("malignant", ("ductal", "lobular"))]
)
def test_the_mask_marks_what_was_drawn_darker(pathology, kinds):
    darker = [
        pixels[mask].mean() - _ring(mask, pixels, truth).mean() for pixels, mask, truth in lesions(pathology, kinds)
    ]
    assert np.mean(darker) < -20
    assert np.mean(np.array(darker) < 0) > 0.85


def _behind(pixels, mask, truth):
    """Grey level behind the lesion minus that beside it at the same depth."""
    rows, columns = np.nonzero(mask)
    depth = int(5 / truth.spacing_mm[0])
    band = pixels[rows.max() + 4 : rows.max() + 4 + depth]
    middle, half = int(columns.mean()), int(0.3 * np.ptp(columns))
    wide = int(0.5 * np.ptp(columns)) + int(3 / truth.spacing_mm[1])
    beside = np.concatenate(
        [band[:, max(middle - wide - 30, 0) : max(middle - wide, 1)], band[:, middle + wide : middle + wide + 30]], 1
    )
    return band[:, middle - half : middle + half].mean() - beside.mean()


def test_cysts_enhance_and_carcinomas_shadow():
    cysts = [_behind(*item) for item in lesions("benign", ("cyst", "fibroadenoma"))]
    cancers = [_behind(*item) for item in lesions("malignant", ("ductal", "lobular"))]
    assert np.mean(cysts) > 4
    assert np.mean(cancers) < -12
    assert np.median(cysts) - np.median(cancers) > 20


def test_speckle_of_even_tissue_is_rayleigh():
    grid = make_grid("Borealis 5", 40.0)
    noise = np.random.default_rng(0).standard_normal((2, *grid.x.shape), dtype=np.float32)
    power = envelope(np.ones(grid.x.shape, np.float32), None, grid, noise=noise)[8:-8, 12:-12]
    amplitude = np.sqrt(power)
    assert power.mean() == pytest.approx(1.0, abs=0.05)
    assert amplitude.mean() / amplitude.std() == pytest.approx(1.91, abs=0.15)
    third = len(amplitude) // 3
    for part in (amplitude[:third], amplitude[third : 2 * third], amplitude[2 * third :]):
        assert part.mean() / part.std() == pytest.approx(1.91, abs=0.15)


def test_speckle_is_wider_than_high_and_widens_with_depth():
    grid = make_grid("Borealis 5", 40.0)
    noise = np.random.default_rng(1).standard_normal((2, *grid.x.shape), dtype=np.float32)
    amplitude = np.sqrt(envelope(np.ones(grid.x.shape, np.float32), None, grid, noise=noise))

    def close(part, axis):
        part = part - part.mean()
        lagged = np.roll(part, 2, axis)
        return float((part * lagged).mean() / part.var())

    focus, deep = amplitude[120:200], amplitude[-80:]
    assert close(deep, 1) > close(focus, 1) + 0.05
    assert close(deep, 1) > close(deep, 0)


def test_a_higher_frequency_has_finer_speckle_in_millimetres():
    grain = {}
    for name in ("Cirrus L14", "Estuary Go"):
        grid = make_grid(name, SCANNERS[name].depths_mm[0])
        noise = np.random.default_rng(2).standard_normal((2, *grid.x.shape), dtype=np.float32)
        amplitude = np.sqrt(envelope(np.ones(grid.x.shape, np.float32), None, grid, noise=noise))
        slope = np.mean(np.diff(amplitude, axis=0) ** 2) / amplitude.var()
        grain[name] = grid.step_mm[0] / np.sqrt(slope)
    assert grain["Cirrus L14"] < 0.75 * grain["Estuary Go"]


def test_depth_darkens_and_skin_is_bright():
    rows = np.mean([pixels.mean(1) for pixels, _, _ in lesions("benign", ("cyst", "fibroadenoma"))], axis=0)
    top = rows[:25].mean()
    assert top > rows[200:300].mean() > rows[-60:].mean()


def test_calipers_are_burned_in_on_every_class():
    for pathology in ("normal", "benign", "malignant"):
        plan = plan_phantom(11, pathology=pathology, scanner="Borealis 5")
        without, measured = (render_plan(replace(plan, calipers=n, caption=False)).scans[0].pixels for n in (0, 2))
        changed = np.count_nonzero(without != measured)
        assert 60 < changed < 5000


def test_dataset_loads_what_it_lists():
    dataset = PhantomDataset("ignored", count=4, seed=2)
    for record in dataset.records():
        case = dataset.load(record.case_id)
        for field in record.__dataclass_fields__:
            assert getattr(case, field) == getattr(record, field)
        assert case.scans[0].patient_id == record.patient_id
        assert case.lesion_masks[0].any() == (record.pathology != "normal")
    assert len({dataset.fingerprint(r.case_id) for r in dataset.records()}) == 4


def test_it_is_fast_enough():
    make_phantom(0, scanner="Aurelia 7")
    start = time.process_time()
    for seed in range(10):
        make_phantom(seed, scanner="Aurelia 7")
    assert (time.process_time() - start) / 10 < 0.15  # 30 a second on two idle cores is 0.067; the rest is leniency
