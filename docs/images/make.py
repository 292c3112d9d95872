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
from PIL import Image, ImageDraw, ImageFont

from sonoseek.core import Box, Scan
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import open_encoder
from sonoseek.engine import SearchEngine
from sonoseek.gallery import create_gallery
from sonoseek.indexing.build import build_index
from sonoseek.preprocessing import PreprocessingRecipe, contact_sheet
from sonoseek.reports import render
from sonoseek.reports.overlay import Panel, draw_panel
from sonoseek.reports.phrases import percent
from sonoseek.reports.pictures import reference_of

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


def preprocessing() -> None:
    """Six phantoms before and after preprocessing."""
    dataset = PhantomDataset(count=60, seed=13)
    marked = [plan for record in dataset.records() if (plan := dataset.load(record.case_id)).device][:40:7]
    named = [(case.case_id, case.scans[0]) for case in marked]
    Image.fromarray(contact_sheet(named, PreprocessingRecipe(), columns=3)).save(
        HERE / "preprocessing.png", optimize=True
    )


def explanations() -> None:
    """Three phantoms: the likeliest class's heatmap, and three best matches with the pair's heatmaps on both scans."""
    dataset = PhantomDataset(count=300, seed=21)
    asked = PhantomDataset(count=40, seed=22)
    encoder = open_encoder()
    with tempfile.TemporaryDirectory() as folder:
        gallery = create_gallery(
            Path(folder) / "g", bundle_id=encoder.bundle.bundle_id, dimension=encoder.bundle.embedding_dim
        )
        build_index(dataset, gallery, encoder)
        engine = SearchEngine(encoder, gallery)
        wanted = {"malignant": 1, "benign": 2, "normal": 0}
        rows = []
        for label, skip in wanted.items():
            records = [record for record in asked.records() if record.pathology == label]
            scan = asked.load(records[skip].case_id).scans[0]
            rows.append(_explained_row(engine, scan, label))
        gallery.close()
    sheet = np.vstack(rows)
    Image.fromarray(sheet).save(HERE / "explanations.jpg", quality=88, optimize=True)


def _explained_row(engine: SearchEngine, scan: Scan, label: str) -> np.ndarray:
    report = engine.query(scan, k=3)
    likeliest = report.explanations[0]
    plain = _tile(Image.fromarray(scan.pixels).convert("RGB"), f"a phantom, drawn as {label}")
    drawn = draw_panel(
        Panel(pixels=scan.pixels, explanation=likeliest, title="", contour=report.contour, spacing_mm=scan.spacing_mm),
        reference=reference_of(likeliest),
    )
    said = report.prediction.probabilities[likeliest.target]
    above = [plain]
    below = [_tile(drawn, f"evidence for {likeliest.target} ({percent(said)})")]
    for match in report.matches:
        own, other = report.pair(match.rank) or (None, None)
        if own is None or other is None or match.picture is None:
            continue
        reference = max(reference_of(own), reference_of(other))
        picture = cv2.imdecode(np.frombuffer(match.picture, np.uint8), cv2.IMREAD_GRAYSCALE)
        query = draw_panel(Panel(pixels=scan.pixels, explanation=own, title=""), reference=reference)
        there = draw_panel(Panel(pixels=np.asarray(picture), explanation=other, title=""), reference=reference)
        above.append(_tile(query, f"where it is like match {match.rank} ({match.similarity:.2f})"))
        below.append(_tile(there, f"match {match.rank}, {match.label}: where it is like the scan"))
    return np.vstack([np.hstack(above), np.hstack(below)])


def _tile(picture: Image.Image, caption: str) -> np.ndarray:
    """A picture on a black tile with a line of text above it."""
    width, height = 290, 220
    tile = Image.new("RGB", (width, height + 18), (13, 17, 22))
    scale = min((width - 6) / picture.width, (height - 4) / picture.height)
    small = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    tile.paste(small, ((width - small.width) // 2, 18 + (height - small.height) // 2))
    ImageDraw.Draw(tile).text((4, 3), caption, fill=(226, 232, 240), font=ImageFont.load_default(size=12))
    return np.asarray(tile)


def report() -> None:
    """A report about a phantom, and a pair in it, as Chromium shows them."""
    browser = shutil.which("chromium")
    if browser is None:
        raise SystemExit("no chromium on the PATH; install it to draw the report's picture")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["sonoseek", "demo", "--no-serve", "--out", folder], check=True)
        for page, picture, height in (
            ("report-05.html", "report.png", 1480),
            ("report-01.html#match-2", "pair.png", 760),
        ):
            _photograph(browser, _address(Path(folder), page), picture, height)


def question() -> None:
    """A phantom asked about twice: as it is, and by the region of its outline, towards the second match."""
    browser = shutil.which("chromium")
    if browser is None:
        raise SystemExit("no chromium on the PATH; install it to draw the report's picture")
    encoder, dataset = open_encoder(threads=1), PhantomDataset(count=240, seed=5)
    with tempfile.TemporaryDirectory() as folder:
        bundle = encoder.bundle
        gallery = create_gallery(Path(folder) / "g", bundle_id=bundle.bundle_id, dimension=bundle.embedding_dim)
        build_index(dataset, gallery, encoder)
        engine = SearchEngine(encoder, gallery)
        record = next(record for record in dataset.records() if record.pathology == "malignant")
        scan = dataset.load(record.case_id).scans[0]
        first = engine.query(scan)
        assert first.contour is not None  # noqa: S101  # for the type checker
        top, left = first.contour.points.min(axis=0)
        bottom, right = first.contour.points.max(axis=0)
        region = Box(top=round(top) - 8, left=round(left) - 8, bottom=round(bottom) + 8, right=round(right) + 8)
        report = engine.query(scan, region=region, liked=[first.matches[1].scan_id], per_patient=True, deduplicate=True)
        page = Path(folder) / "question.html"
        page.write_text(render(report, "html"), encoding="utf-8")
        _photograph(browser, page.as_uri(), "question.png", 1180)


def _photograph(browser: str, address: str, picture: str, height: int) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size=1280,{height}"]
    command = [browser, *options, f"--screenshot={HERE / picture}", address]
    subprocess.run(command, check=True, capture_output=True)


def _address(folder: Path, page: str) -> str:
    name, _, part = page.partition("#")
    return (folder / name).as_uri() + (f"#{part}" if part else "")


if __name__ == "__main__":
    phantoms()
    preprocessing()
    explanations()
    report()
    question()
