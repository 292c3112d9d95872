"""Draw the pictures of the documentation, from phantoms alone: `.venv/bin/python docs/images/make.py`.

The report's picture needs Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sonoseek.cleaning import CleaningRecipe, contact_sheet
from sonoseek.datasets.phantom import PhantomDataset

HERE = Path(__file__).parent
TILE = (300, 240)


def phantoms() -> None:
    """Twelve phantoms, every scanner among them."""
    dataset = PhantomDataset(count=60, seed=11)
    scans = [dataset.load(record.case_id).scans[0].pixels for record in dataset.records()[::5]]
    tiles = []
    for pixels in scans:
        scale = min(TILE[0] / pixels.shape[1], TILE[1] / pixels.shape[0])
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        tile = np.zeros((TILE[1], TILE[0]), np.uint8)
        top, left = (TILE[1] - small.shape[0]) // 2, (TILE[0] - small.shape[1]) // 2
        tile[top : top + small.shape[0], left : left + small.shape[1]] = small
        tiles.append(tile)
    sheet = np.vstack([np.hstack(tiles[row : row + 4]) for row in range(0, 12, 4)])
    Image.fromarray(sheet).save(HERE / "phantoms.png", optimize=True)


def cleaning() -> None:
    """Six phantoms before and after cleaning."""
    dataset = PhantomDataset(count=60, seed=13)
    marked = [plan for record in dataset.records() if (plan := dataset.load(record.case_id)).device][:40:7]
    named = [(case.case_id, case.scans[0]) for case in marked]
    Image.fromarray(contact_sheet(named, CleaningRecipe(), columns=3)).save(HERE / "cleaning.png", optimize=True)


def report() -> None:
    """A report about a phantom, and the demo's page, as Chromium shows them."""
    browser = shutil.which("chromium")
    if browser is None:
        raise SystemExit("no chromium on the PATH; install it to draw the report's picture")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["sonoseek", "demo", "--out", folder], check=True)
        for page, picture, height in (("report-05.html", "report.png", 1480), ("index.html", "demo.png", 900)):
            options = [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--window-size=1280,{height}",
            ]
            target = f"--screenshot={HERE / picture}"
            subprocess.run([browser, *options, target, (Path(folder) / page).as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    phantoms()
    cleaning()
    report()
