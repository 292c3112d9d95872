"""A server that works on batch jobs, and how its clients send them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.engine import open_engine

BASE = "http://localhost"
TABLE = [
    *("number", "name", "refused", "headline", "label", "malignancy_not_ruled_out"),
    *("normal", "benign", "malignant", "reference", "seen_in_training", "agreement"),
    *("match", "match_label", "match_similarity", "novelty", "warnings", "calibration"),
]


def opened(gallery: Path, settings: WebSettings) -> TestClient:
    app = create_app(open_engine(gallery, threads=1), settings)
    return TestClient(app, base_url=BASE, raise_server_exceptions=False)


def lay_out(root: Path, archive: Path) -> Path:
    """What a server may read: three sub-folders of four scans; beside it lies what it may not."""
    (root / "outside").mkdir()
    for pathology in ("normal", "benign", "malignant"):
        place = root / "inside" / "friday" / pathology
        place.mkdir(parents=True)
        for path in sorted(archive.glob(f"{pathology}/*.png"))[:4]:
            shutil.copy(path, place / path.name)
    (root / "inside" / "way out").symlink_to(root / "outside")
    return root / "inside"


@contextmanager
def writable_server(gallery: Path, folders: Path, root: Path) -> Iterator[TestClient]:
    """A server that may write, on an archive of its own."""
    shutil.copytree(gallery, root / "gallery")
    settings = WebSettings(state=root / "state", writable=True, folders=folders, max_batch_mb=2)
    with opened(root / "gallery", settings) as found:
        yield found


def detail(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])


def new(client: TestClient, **fields: Any) -> str:
    answer = client.post("/api/jobs", json={"kind": "query", "title": "monday", **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def put(client: TestClient, job: str, name: str, content: bytes) -> Any:
    return client.put(f"/api/jobs/{job}/files/{name}", content=content)


def begun(client: TestClient, files: dict[str, bytes], **fields: Any) -> str:
    job = new(client, **fields)
    for name, content in files.items():
        assert put(client, job, name, content).status_code == 204
    assert client.post(f"/api/jobs/{job}/start").status_code == 200
    return job


def inside(client: TestClient) -> httpx.AsyncClient:
    """A client in the server's own loop: it can send in pieces, and do something else between two of them."""
    transport = httpx.ASGITransport(client.app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=BASE)


def together(client: TestClient, call: Callable[[], Awaitable[Any]]) -> Any:
    assert client.portal is not None
    return client.portal.call(call)


def until(told: Callable[[], Any], what: Callable[[Any], bool]) -> Any:
    for _ in range(1500):
        found = told()
        if what(found):
            return found
        time.sleep(0.01)
    raise AssertionError(f"it does not come: {found}")


def ended(client: TestClient, job: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: client.get(f"/api/jobs/{job}").json(), lambda told: told["state"] in ("done", "failed", "stopped")
    )
    return found


def still_works(client: TestClient, scan: Path) -> None:
    """The one thread that works jobs off is alive."""
    told = ended(client, begun(client, {"a.png": scan.read_bytes()}))
    assert (told["state"], told["done"]) == ("done", 1)
