"""`sonoseek explain`: pictures, numbers, outlines; odd scans; refusals."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoseek.engine import open_engine
from sonoseek.io import read_scan


def picture_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
        return picture.size


def files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir()}


def test_a_predictions_map_as_picture_numbers_and_outline(run, scan: Path, tmp_path: Path) -> None:
    done = run("explain", scan, "--out", tmp_path / "new" / "folder")
    found = files(tmp_path / "new" / "folder")
    assert done.stderr.count("written:") == len(found)
    (name,) = [name for name in found if name.endswith(".npz")]
    told = np.load(found[name])
    pixels = read_scan(scan)
    assert told["heatmap"].shape == pixels.shape
    assert told["heatmap"].dtype == np.float32
    total = float(told["heatmap"].sum(dtype=np.float64)) + float(told["bias"])
    assert total == pytest.approx(float(told["value"]), abs=1e-4)
    assert str(told["scan_id"]) == pixels.scan_id
    assert picture_size(found[name.replace(".npz", ".png")])[0] > 400
    outline = json.loads(found[name.replace(".npz", ".contour.json")].read_text())
    assert outline["estimate"] is True
    assert outline["longest_mm"] is None  # a PNG knows no millimetres
    rows, columns = np.array(outline["points"]).T
    assert 0 <= rows.min() <= rows.max() <= pixels.shape[0]
    assert 0 <= columns.min() <= columns.max() <= pixels.shape[1]


def test_any_class_may_be_explained(run, scan: Path, tmp_path: Path) -> None:
    run("explain", scan, "--out", tmp_path, "--target", "benign")
    assert "class_evidence-benign.png" in files(tmp_path)


def test_matches_are_explained_on_both_scans(run, gallery: Path, scan: Path, tmp_path: Path) -> None:
    run("explain", scan, "--gallery", gallery, "-k", 2, "--out", tmp_path)
    found = files(tmp_path)
    assert {"pair_evidence-match-01.png", "pair_evidence-match-02.png"} <= set(found)
    with open_engine(gallery) as engine:
        report = engine.query(read_scan(scan), k=2)
    for match in report.matches:
        told = np.load(found[f"pair_evidence-match-{match.rank:02d}.npz"])
        assert told["heatmap"].sum(dtype=np.float64) == pytest.approx(match.similarity, abs=1e-3)
        assert told["match_heatmap"].sum(dtype=np.float64) == pytest.approx(match.similarity, abs=1e-3)
    one = next(path for name, path in found.items() if name.startswith("class_") and name.endswith("png"))
    assert picture_size(found["pair_evidence-match-01.png"])[0] > picture_size(one)[0]  # two scans side by side


def test_one_match_by_a_method_that_asks(run, gallery: Path, scan: Path, tmp_path: Path) -> None:
    run("explain", scan, "--gallery", gallery, "--match", 2, "--method", "sbsm", "--out", tmp_path)
    assert set(files(tmp_path)) == {"sbsm-match-02.png", "sbsm-match-02.npz"}
    assert bool(np.load(tmp_path / "sbsm-match-02.npz")["exact"]) is False


def test_a_class_by_a_method_that_asks(run, scan: Path, tmp_path: Path) -> None:
    run("explain", scan, "--method", "occlusion", "--out", tmp_path)
    (name,) = [name for name in files(tmp_path) if name.endswith(".npz")]
    assert re.fullmatch(r"occlusion-(normal|benign|malignant)\.npz", name)
    told = np.load(tmp_path / name)
    assert told["heatmap"].shape == read_scan(scan).shape


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "gradcam"), "class_evidence"),
        (("--target", "cyst"), "classes are"),
        (("--method", "pair_evidence"), "--gallery"),
        (("--match", "2"), "--gallery"),
    ],
)
def test_what_makes_no_sense_is_refused(run, scan: Path, tmp_path: Path, arguments, said: str) -> None:
    done = run("explain", scan, "--out", tmp_path / "x", *arguments, ok=False)
    assert said in done.stderr
    assert not [path for path in (tmp_path / "x").glob("*") if path.suffix in (".png", ".npz")]


def test_a_rank_that_is_not_there_and_a_class_beside_a_match(run, gallery: Path, scan: Path, tmp_path: Path) -> None:
    done = run("explain", scan, "--gallery", gallery, "--match", 900, "--out", tmp_path, ok=False)
    assert "no match 900" in done.stderr
    both = ("--method", "occlusion", "--target", "benign")
    assert "leave one" in run("explain", scan, "--gallery", gallery, *both, "--out", tmp_path, ok=False).stderr


def odd(kind: str) -> Image.Image:
    rng = np.random.default_rng(0)
    if kind == "40 pixels":
        return Image.fromarray(rng.integers(20, 200, (40, 40), np.uint8))
    if kind == "4000 pixels":
        small = rng.integers(20, 120, (120, 400), np.uint8)
        return Image.fromarray(small).resize((4000, 1200))
    if kind == "colour":
        grey = rng.integers(20, 200, (200, 260, 1), np.uint8).repeat(3, 2)
        grey[:20, :60] = (200, 40, 40)
        return Image.fromarray(grey)
    if kind == "constant":
        return Image.fromarray(np.full((200, 260), 90, np.uint8))
    rows, columns = np.indices((240, 320))  # a lesion at the edge
    grey = rng.integers(90, 180, (240, 320)).astype(np.uint8)
    grey[np.hypot(rows - 120, columns) < 60] //= 6
    return Image.fromarray(grey)


@pytest.mark.parametrize("kind", ["40 pixels", "4000 pixels", "colour", "constant", "at the edge"])
def test_odd_scans_get_a_map_of_their_size(run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.png"
    odd(kind).save(path)
    run("explain", path, "--out", tmp_path / "out")
    (numbers,) = (tmp_path / "out").glob("*.npz")
    told = np.load(numbers)
    assert told["heatmap"].shape == read_scan(path).shape
    assert np.isfinite(told["heatmap"]).all()
    assert 400 <= max(picture_size(next((tmp_path / "out").glob("*.png")))) <= 1700
