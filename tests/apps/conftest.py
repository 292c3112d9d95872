"""A command line to call, an archive of phantoms on disk, and a gallery made from it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sonoseek.apps.cli.data import write_phantoms

if TYPE_CHECKING:  # most tests here need neither a browser nor a server
    from fastapi.testclient import TestClient
    from playwright.sync_api import Browser
    from web_pages import Reader

    from sonoseek.engine import SearchEngine

Run = Callable[..., subprocess.CompletedProcess[str]]
KINDS = ("normal", "benign", "malignant")


@pytest.fixture(scope="session")
def run(sonoseek_here: Run) -> Run:
    """`sonoseek ARGUMENTS` in this process; with `ok=False` it must fail, otherwise it must not."""

    def call(*arguments: object, ok: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return _checked(sonoseek_here(*arguments, cwd=cwd), ok=ok)

    return call


@pytest.fixture(scope="session")
def process() -> Run:
    """The same as a process of its own: for exit codes, pipes, signals and what an import brings in.

    `without` begins the names of environment variables that it does not get; `python` is what the interpreter is given.
    """

    def call(
        *arguments: object,
        ok: bool = True,
        cwd: Path | None = None,
        without: str | None = None,
        python: tuple[str, ...] = ("-m", "sonoseek.apps.cli"),
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *python, *map(str, arguments)]
        environment = {
            key: value for key, value in os.environ.items() if without is None or not key.startswith(without)
        }
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)
        assert "Traceback" not in done.stderr, done.stderr
        return _checked(done, ok=ok)

    return call


def _checked(done: subprocess.CompletedProcess[str], *, ok: bool) -> subprocess.CompletedProcess[str]:
    assert (done.returncode == 0) is ok, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty phantoms in one folder per class, with masks."""
    folder = tmp_path_factory.mktemp("archive") / "phantoms"
    write_phantoms(folder, count=30, seed=5)
    return folder


@pytest.fixture(scope="session")
def gallery(archive: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of the archive; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("galleries") / "phantoms"
    run("index", "build", "--dataset", "folder", "--data", archive, "--gallery", folder)
    return folder


@pytest.fixture(scope="session")
def marking_gallery(archive: Path, marking_bundle: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of the archive by a bundle that reads marks."""
    folder = tmp_path_factory.mktemp("galleries") / "marking"
    filled = ("--gallery", folder, "--bundle", marking_bundle)
    run("index", "build", "--dataset", "folder", "--data", archive, *filled)
    return folder


@pytest.fixture(scope="session")
def copies(archive: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery in which one case is archived three times, re-saved, and one patient has three of the nine others."""
    folder = tmp_path_factory.mktemp("copies")
    scans = {kind: sorted(f for f in (archive / kind).glob("*.png") if "_mask" not in f.name) for kind in KINDS}
    pixels = np.asarray(Image.open(scans["benign"][0]).convert("L"))
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case_id", "file", "pathology", "patient"])
        for number in range(3):
            Image.fromarray(np.clip(pixels.astype(int) + number, 0, 255).astype(np.uint8)).save(
                folder / f"{number}.png"
            )
            table.writerow([f"copy-{number}", folder / f"{number}.png", "benign", ""])
        for kind, several in scans.items():
            for number, path in enumerate(several[1:4]):
                patient = "p-1" if kind == "malignant" else ""
                table.writerow([f"{kind}-{number}", path, kind, patient])
    run("index", "build", "--dataset", "manifest", "--data", folder / "table.csv", "--gallery", folder / "g")
    return folder / "g"


@pytest.fixture
def scan(archive: Path) -> Path:
    """One scan of the archive."""
    return sorted(f for f in (archive / "malignant").glob("*.png") if "_mask" not in f.name)[0]


@pytest.fixture(scope="module")
def scans(archive: Path) -> list[Path]:
    """The archive's scans."""
    return sorted(path for path in archive.glob("*/*.png") if "_mask" not in path.name)


@pytest.fixture(scope="module")
def engine(gallery: Path) -> Iterator[SearchEngine]:
    """An engine on the archive."""
    from sonoseek.engine import open_engine

    with open_engine(gallery, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a server on the archive."""
    from fastapi.testclient import TestClient

    from sonoseek.apps.web.app import create_app
    from sonoseek.apps.web.settings import WebSettings
    from sonoseek.engine import open_engine

    app = create_app(open_engine(gallery, threads=1), WebSettings(state=tmp_path_factory.mktemp("state")))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one file of tests."""
    from web_pages import chromium

    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Phantoms that are not in the archive."""
    folder = tmp_path_factory.mktemp("asked")
    write_phantoms(folder, count=9, seed=77)
    return sorted(path for path in folder.glob("*/*.png") if "_mask" not in path.name)


@pytest.fixture(scope="module")
def room(gallery: Path, asked: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A reading room on the archive: its address."""
    from web_pages import reading_room

    state = tmp_path_factory.mktemp("state")
    with reading_room("--gallery", gallery, "--state", state, "--examples", asked[0].parent) as address:
        yield address


@pytest.fixture
def reader(browser: Browser, room: str) -> Iterator[Reader]:
    """A page of it, on which nothing may go wrong."""
    from web_pages import Reader

    found = Reader(browser, room)
    yield found
    found.calm()
    found.close()
