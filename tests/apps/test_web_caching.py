"""No browser keeps what is about a patient: every route's answers, refusals among them."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient
from web_client import BASE, ask

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.page import FOLDER
from sonoseek.apps.web.settings import WebSettings
from sonoseek.engine import open_engine

NEVER = "no-store"


def test_every_get_route_is_kept_by_no_browser(gallery: Path, scans: list[Path], tmp_path: Path) -> None:
    settings = WebSettings(state=tmp_path / "state", examples=scans[0].parent)
    app = create_app(open_engine(gallery, threads=1), settings)
    with TestClient(app, base_url=BASE) as client:
        answer = ask(client, scans[0], k="2")
        match = answer.json()["matches"][0]
        job = client.post("/api/jobs", json={"kind": "query", "title": "a"}).json()["job_id"]
        client.put(f"/api/jobs/{job}/files/{scans[1].name}", content=scans[1].read_bytes())
        client.post(f"/api/jobs/{job}/start")
        values = {
            "report_id": answer.headers["content-location"].rsplit("/", 1)[-1],
            "upload_id": answer.headers["sonoseek-uploads"],
            "scan_id": match["scan_id"],
            "dataset": match["dataset"],
            "case_id": match["case_id"],
            "job_id": job,
            "number": "0",
            "frame": "0",
            "rank": "1",
            "side": "warm",
            "form": "pdf",
        }
        assert client.get(f"/api/jobs/{job}/events").headers["cache-control"] == NEVER  # until it has ended
        paths = [path for path, operations in app.openapi()["paths"].items() if "get" in operations]
        elsewhere = ("/api/worklist",)  # needs a listener's studies: test_web_worklist
        paths = ["/", *(path for path in paths if not path.endswith("/events") and not path.startswith(elsewhere))]
        assert len(paths) > 20
        for path in paths:
            for name, value in values.items():
                path = path.replace(f"{{{name}}}", value)
            got = client.get(path)
            assert got.status_code == 200, path
            assert got.headers["cache-control"] == NEVER, path
            if got.headers["content-type"].startswith("image/"):
                assert "etag" not in got.headers or "/examples/" in path, path
        for path in ("/none", "/api/none", "/api/reports/x", "/assets/none.js", "/index.html"):
            assert client.get(path).headers["cache-control"] == NEVER, path
        assert answer.headers["cache-control"] == NEVER
        for path in FOLDER.glob("assets/*"):
            assert client.get(f"/assets/{path.name}").headers["cache-control"].endswith("immutable")
