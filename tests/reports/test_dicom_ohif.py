"""OHIF in a browser shows the results on the frame that they are of, and reports no error.

Needs Debian's orthanc, orthanc-dicomweb and chromium, and OHIF as npm ships it: unpack `npm pack @ohif/app@3.13.2` and
set SONOSEEK_OHIF to its folder package/dist.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_files import save, us_dataset
from dicom_sources import MULTI_FRAME, study, with_region
from ohif_room import ohif, orthanc, store
from PIL import Image

from sonoseek.core import Report
from sonoseek.datasets.phantom import make_phantom
from sonoseek.engine import SearchEngine, open_engine
from sonoseek.io import read_scan, read_source_header
from sonoseek.reports.dicom import render_dicom

pytest.importorskip("highdicom")
playwright = pytest.importorskip("playwright.sync_api")
ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
CHROMIUM = shutil.which("chromium")
DIST = Path(os.environ.get("SONOSEEK_OHIF", "/nowhere"))
FRAME = 3
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
GREEN = (0, 255, 0)
pytestmark = [
    pytest.mark.peer,
    pytest.mark.long,
    pytest.mark.skipif(
        not (Path(ORTHANC).is_file() and PLUGIN.is_file() and CHROMIUM and (DIST / "index.html").is_file()),
        reason="orthanc, orthanc-dicomweb, chromium, and $SONOSEEK_OHIF with OHIF's files are looked for",
    ),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[SearchEngine]:
    with open_engine(threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cine of five phantoms; the one with index `FRAME` has a malignant lesion."""
    chosen = make_phantom(0, pathology="malignant").scans[0].pixels
    frames = np.zeros((5, *chosen.shape), np.uint8)
    for index in range(5):
        other = make_phantom(index + 1, pathology="normal").scans[0].pixels[: chosen.shape[0], : chosen.shape[1]]
        frames[index, : other.shape[0], : other.shape[1]] = other
    frames[FRAME] = chosen
    dataset = with_region(study(us_dataset(frames, frames=5)))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MULTI_FRAME
    dataset.FrameTime, dataset.FrameIncrementPointer, dataset.PatientID = 40, 0x00181063, "P17"
    return save(dataset, tmp_path_factory.mktemp("cine") / "cine.dcm")


@pytest.fixture(scope="module")
def report(engine: SearchEngine, source: Path) -> Report:
    found = engine.query(engine.read(read_scan(source, frame=FRAME)))
    assert found.contour is not None
    return found


Opened = Callable[..., np.ndarray]


@pytest.fixture
def opened(source: Path, tmp_path: Path) -> Opened:
    """Send a result to the archive, open its study, and double-click its series: the viewport's picture, RGB."""

    def call(report: Report, kind: str) -> np.ndarray:
        header = read_source_header(source)
        (result,) = render_dicom(report, header, kinds=(kind,), study_key="key")
        file = tmp_path / "result.dcm"
        file.write_bytes(result.content)
        wrong: list[str] = []
        with (
            orthanc(tmp_path / "archive", program=ORTHANC, plugin=str(PLUGIN)) as archive,
            ohif(DIST, archive=archive) as address,
            playwright.sync_playwright() as driver,
        ):
            store(archive, [source, file])
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(f"{address}/viewer?StudyInstanceUIDs={header.study_instance_uid}")
            page.get_by_text("Skip all").click(timeout=60_000)
            page.get_by_text("Confirm and hide").click(timeout=60_000)
            page.get_by_text(re.compile("sonoseek")).first.dblclick(timeout=60_000)
            playwright.expect(page.locator("[data-cy='viewport-overlay-bottom-right']")).to_contain_text(
                f"({FRAME + 1}/5)", timeout=60_000
            )
            page.wait_for_timeout(3000)
            picture = page.screenshot(path=os.environ.get("SONOSEEK_OHIF_PICTURE"))
            browser.close()
        assert not wrong, wrong
        with Image.open(io.BytesIO(picture)) as image:
            return np.array(image.convert("RGB")).astype(int)

    return call


def test_the_outline_is_shown_on_its_frame(opened: Opened, report: Report) -> None:
    picture = opened(report, "sr")
    drawn = np.argwhere(np.abs(picture - np.array(GREEN)).sum(axis=2) < 60)
    assert report.contour is not None
    height, rows = report.scan.shape[0], report.contour.points[:, 0]
    assert len(drawn) > 200
    scale = 816 / height  # of the viewport's 826 rows, a few are its frame; the label stands beside the outline
    assert float(np.ptp(drawn[:, 0])) == pytest.approx(scale * float(np.ptp(rows)), rel=0.05)


def test_a_report_without_outline_is_shown(opened: Opened, report: Report) -> None:
    picture = opened(replace(report, contour=None), "sr")
    viewport = picture[200:800, 400:1300]
    assert float(viewport.std()) > 20.0  # the scan, not a blank


def test_the_segmentation_for_ohif_is_shown(opened: Opened, report: Report) -> None:
    picture = opened(report, "seg-ohif")
    red = (picture[..., 0] - picture[..., 1] > 60) & (picture[..., 0] - picture[..., 2] > 60)
    assert red[150:800, 400:1300].sum() > 5000
