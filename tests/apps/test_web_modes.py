"""What holds patients' data is readable by its owner alone, whatever the umask."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from web_client import BASE, ask

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.engine import open_engine
from sonoseek.gallery import open_gallery

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """What others may read or list, `folder` itself among it."""
    return [str(path) for path in (folder, *folder.rglob("*")) if stat.S_IMODE(path.lstat().st_mode) & 0o077]


def test_a_gallery_with_its_log_cache_and_copy(run: Any, archive: Path, tmp_path: Path) -> None:
    place = tmp_path / "deep" / "gallery"
    run("index", "build", "--dataset", "folder", "--data", archive, "--gallery", place)
    with open_gallery(place, "w") as gallery:
        record = next(iter(gallery)).record
        gallery.remove(cases=[(record.dataset, record.case_id)])
        assert (place / "gallery.db-wal").exists()
        assert open_to_others(tmp_path / "deep") == []
        gallery.copy_to(tmp_path / "copies" / "gallery.db")
    scan = next(path for path in archive.rglob("*.png") if "_mask" not in path.name)
    run("query", scan, "--gallery", place, "--out", place / "report.html")
    run("explain", scan, "--gallery", place, "--out", place / "explained")
    assert (place / "gallery.db.vectors").exists()
    assert open_to_others(tmp_path / "deep") == open_to_others(tmp_path / "copies") == []


def test_the_cache_of_a_gallery_that_a_group_reads_is_the_group_s_too(gallery: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(gallery, own)
    for path in own.glob("*.vectors"):
        path.unlink()
    (own / "gallery.db").chmod(0o640)
    with open_engine(own, threads=1) as engine:
        assert engine.gallery is not None
        record = next(iter(engine.gallery)).record
        engine.query_case(record.dataset, record.case_id)
    assert [stat.S_IMODE(path.stat().st_mode) for path in own.glob("*.vectors")] == [0o640]


def test_a_server_s_state_uploads_and_jobs(gallery: Path, scans: list[Path], tmp_path: Path) -> None:
    state = tmp_path / "deep" / "serve"
    app = create_app(open_engine(gallery, threads=1), WebSettings(state=state))
    with TestClient(app, base_url=BASE) as client:
        assert ask(client, scans[0]).status_code == 200
        job = client.post("/api/jobs", json={"kind": "query", "title": "a"}).json()["job_id"]
        client.put(f"/api/jobs/{job}/files/in/two/folders/a.png", content=scans[1].read_bytes())
        names = {path.name for path in state.rglob("*")}
        assert {"uploads", "files", "jobs.sqlite", "jobs.sqlite-wal", "lock", "folders", "a.png"} <= names
        assert open_to_others(tmp_path / "deep") == []
