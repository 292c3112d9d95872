"""The script for a GPU, on the processor with the smallest recipe: it trains, scores every hospital and packs."""

import csv
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoseek.datasets.bus_uc import known_groups as known_uc_groups
from sonoseek.datasets.busi import known_groups

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "train_on_gpu.sh"
LARGEST = 16_000_000


def draw_archives(root: Path) -> None:
    """A tenth of the names of BUSI and BUS_UC, and 30 patients of BUS-BRA: noise, brighter where malignant."""
    rng = np.random.default_rng(0)

    def draw(path: Path, kind: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(20, 120 if kind == "benign" else 220, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    for name in list(known_groups())[::10]:
        kind = name.split(" (")[0]
        draw(root / "busi" / "Dataset_BUSI_with_GT" / kind / name, kind)
    for case_id in list(known_uc_groups())[::10]:
        kind, number = case_id.split("-")
        draw(root / "bus_uc" / "BUS_UC" / kind.capitalize() / "images" / f"{number}.png", kind)
    folder = root / "busbra" / "BUSBRA"
    rows = [("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX")]
    for patient in range(1, 31):
        kind = "malignant" if patient % 3 == 0 else "benign"
        draw(folder / "Images" / f"bus_{patient:04d}-l.png", kind)
        rows.append((f"bus_{patient:04d}-l", str(patient), "x", kind, "4", "GE", "64", "64", "left", "[1,1,5,5]"))
    with (folder / "bus_data.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


@pytest.mark.long
def test_it_trains_scores_every_hospital_and_packs_what_is_kept(tmp_path: Path) -> None:
    draw_archives(tmp_path / "data")
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT / "src"),
        "SONOSEEK_DATA": str(tmp_path / "data"),
        "LIMIT": "900",
    }
    command = ["bash", str(SCRIPT), str(ROOT / "recipes" / "tiny.toml"), str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "out" / "results" / "leave-one-hospital-out"
    metrics = json.loads((folder / "scores.json").read_text())["systems"]["tiny"]
    assert set(metrics["hospitals"]) == {"busi", "busbra", "bus-uc", "mean", "worst"}
    packed = sorted((tmp_path / "out" / "pack").iterdir())
    assert packed
    assert all(part.stat().st_size <= LARGEST for part in packed)
    whole = tmp_path / "whole.tgz"
    whole.write_bytes(b"".join(part.read_bytes() for part in packed))
    with tarfile.open(whole) as archive:
        names = archive.getnames()
    assert "./run/network.safetensors" in names
    assert "./results/leave-one-hospital-out/rows.csv.bz2" in names
    assert not [name for name in names if "prepared" in name or name.endswith((".png", ".npz", ".ckpt"))]


def test_an_unknown_recipe_is_named() -> None:
    done = subprocess.run(
        ["bash", str(SCRIPT), "recipes/none.toml"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no recipe at recipes/none.toml" in done.stderr
