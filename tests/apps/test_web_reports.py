"""Pictures, reports and the archive over the REST API."""

from __future__ import annotations

import io
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from web_client import ask, detail

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.engine import SearchEngine, open_engine
from sonoseek.gallery import open_gallery
from sonoseek.io import read_scan


@pytest.fixture(scope="module")
def asked(client: TestClient, scans: list[Path]) -> Any:
    """The response to an ordinary query."""
    return ask(client, scans[0], k="4")


class TestPictures:
    def test_of_the_scan_the_canvas_and_the_archive(self, client: TestClient, asked: Any, scans: list[Path]) -> None:
        place = asked.headers["content-location"]
        own = Image.open(io.BytesIO(client.get(f"{place}/scan").content))
        assert (np.asarray(own) == read_scan(scans[0]).pixels).all()
        small = Image.open(io.BytesIO(client.get(f"{place}/scan", params={"size": 100, "form": "webp"}).content))
        assert (small.format, max(small.size)) == ("WEBP", 100)
        canvas = Image.open(io.BytesIO(client.get(f"{place}/canvas").content))
        assert canvas.size[0] == canvas.size[1] == client.get(f"{place}/text").json()["preprocessing"][0]["canvas"]
        match = asked.json()["matches"][0]["scan_id"]
        for form, kind in (("webp", "WEBP"), ("png", "PNG"), ("jpeg", "JPEG")):
            answer = client.get(f"/api/pictures/{match}", params={"size": 64, "form": form})
            assert answer.headers["content-type"] == f"image/{form}"
            found = Image.open(io.BytesIO(answer.content))
            assert (found.format, max(found.size)) == (kind, 64)

    def test_heatmaps_are_transparent_where_there_is_nothing(self, client: TestClient, asked: Any) -> None:
        place = asked.headers["content-location"]
        strong = client.get(f"{place}/heatmaps/0/warm", params={"size": 200}).content
        weak = client.get(f"{place}/heatmaps/0/warm", params={"size": 200, "reference": 1000}).content
        layers = [np.asarray(Image.open(io.BytesIO(each)).convert("RGBA"))[..., 3] for each in (strong, weak)]
        assert layers[0].shape == layers[1].shape
        assert max(layers[0].shape) == 200
        assert layers[0].max() > 60
        assert layers[1].max() <= 1
        for path in ("heatmaps/1/cool", "matches/1/warm", "matches/1/cool"):
            assert client.get(f"{place}/{path}").headers["content-type"] == "image/png"
        assert client.get(f"{place}/heatmaps/0/warm", params={"form": "webp"}).headers["content-type"] == "image/webp"
        for path in ("heatmaps/99/warm", "matches/99/warm", "scan?view=1", "heatmaps/0/warm?view=3"):
            assert client.get(f"{place}/{path}").status_code == 404

    def test_frames_of_a_file(self, client: TestClient, scans: list[Path]) -> None:
        pages = [Image.open(path).convert("L").resize((120, 90)) for path in scans[:3]]
        held = io.BytesIO()
        pages[0].save(held, "TIFF", save_all=True, append_images=pages[1:])
        (kept,) = client.post("/api/uploads", files={"file": ("loop.tif", held.getvalue())}).json()
        assert kept["frames"] == 3
        own = Image.open(io.BytesIO(client.get(f"/api/uploads/{kept['upload_id']}/frames/2?form=png&size=120").content))
        assert (np.asarray(own) == np.asarray(pages[2])).all()
        assert detail(client.get(f"/api/uploads/{kept['upload_id']}/frames/3"), 422).startswith("loop.tif: frame is 3")
        told = client.post("/api/query", data={"upload": kept["upload_id"], "frame": "2"})
        assert told.headers["sonoseek-frames"] == "3"


class TestReports:
    def test_to_keep(self, client: TestClient, asked: Any) -> None:
        place = asked.headers["content-location"]
        for form, begins in (("pdf", b"%PDF-"), ("html", b"<!doctype html>"), ("json", b"{")):
            answer = client.get(f"{place}/report.{form}")
            assert answer.content.startswith(begins)
            assert "attachment" in answer.headers["content-disposition"]
        assert "sandbox" in client.get(f"{place}/report.html").headers["content-security-policy"]
        longer = client.get(f"{place}/report.pdf", params={"rank": 2})
        assert len(longer.content) > len(client.get(f"{place}/report.pdf").content)
        assert "rank is 99" in detail(client.get(f"{place}/report.pdf", params={"rank": 99}), 422)
        assert client.get(place).json() == asked.json()
        with_maps = client.get(place, params={"heatmaps": "true"}).json()
        assert "heatmap" in with_maps["explanations"][0]

    def test_in_sentences_and_on_the_map(self, client: TestClient, asked: Any, engine: SearchEngine) -> None:
        place = asked.headers["content-location"]
        said = client.get(f"{place}/text").json()
        assert said["titles"][0].startswith("Evidence for")
        assert len(said["preprocessing"]) == 1
        drawn = client.get("/api/archive/projection").json()
        assert len(drawn["x"]) == len(drawn["case_id"]) == drawn["total"] == 30
        own = client.get(f"{place}/projection").json()
        at = [f"{drawn['datasets'][d]}/{c}" for d, c in zip(drawn["dataset"], drawn["case_id"], strict=True)]
        held = [e for e in engine.gallery or () if e.scan_id == asked.json()["scan"]["scan_id"]]
        index = at.index(f"{held[0].record.dataset}/{held[0].record.case_id}")
        assert [own["x"], own["y"]] == pytest.approx([drawn["x"][index], drawn["y"][index]], abs=2e-3)

    def test_several_views_stand_between_their_places_on_the_map(self, client: TestClient, scans: list[Path]) -> None:
        def place(*files: Path) -> list[float]:
            where = client.get(ask(client, *files, k="1").headers["content-location"] + "/projection").json()
            return [where["x"], where["y"]]

        one, other, both = place(scans[0]), place(scans[5]), place(scans[0], scans[5])
        length = np.linalg.norm(np.subtract(one, other))
        for alone in (one, other):
            assert 0 < np.linalg.norm(np.subtract(both, alone)) < length

    def test_one_that_has_left_says_what_to_do(self, client: TestClient) -> None:
        assert "Send the scan again" in detail(client.get(f"/api/reports/{'0' * 24}"), 404)


class TestArchive:
    def test_what_it_holds(self, client: TestClient) -> None:
        about, told = client.get("/api/about").json(), client.get("/api/archive").json()
        assert about["scans"] == told["scans"] == sum(told["by_label"].values()) == 30
        assert about["gallery_state"] == told["gallery_state"]
        assert about["disclaimer"] == "research use only, not for diagnosis"

    def test_a_case_whose_id_is_opaque(self, client: TestClient, asked: Any) -> None:
        match = asked.json()["matches"][0]
        assert re.fullmatch("c-[0-9a-f]{16}", match["case_id"])
        case = client.get(f"/api/cases/{match['dataset']}/{match['case_id']}").json()
        assert (case["label"], case["case_id"]) == (match["label"], match["case_id"])
        assert case["scans"][0]["has_picture"]
        assert (case["scans"][0]["laterality"], case["scans"][0]["view"]) == (None, None)  # a folder says neither
        assert "holds no case" in detail(client.get("/api/cases/a/b/c"), 404)

    def test_a_case_with_slashes_in_its_name(self, gallery: Path, tmp_path: Path) -> None:
        shutil.copytree(gallery, tmp_path / "g")
        with open_gallery(tmp_path / "g", mode="w") as archive:
            entry = next(iter(archive))
            archive.add([replace(entry, record=replace(entry.record, dataset="own", case_id="benign/a ü/b.png"))])
        app = create_app(open_engine(tmp_path / "g", threads=1), WebSettings(state=tmp_path / "state"))
        with TestClient(app, base_url="http://localhost") as client:
            case = client.get("/api/cases/own/benign/a ü/b.png").json()
        assert (case["case_id"], case["label"]) == ("benign/a ü/b.png", entry.record.pathology)


class TestPage:
    def test_hashed_assets_are_cached_for_good_and_compressed(self, client: TestClient) -> None:
        page = client.get("/")
        assert page.headers["cache-control"] == "no-store"
        assets = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page.text)
        if not assets:
            pytest.skip("the page is not built")
        for name in assets:
            answer = client.get(f"/{name}", headers={"Accept-Encoding": "gzip"})
            assert answer.headers.get("content-encoding") == (None if name.endswith(".svg") else "gzip")
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            again = client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        assert "nothing at this address" in detail(client.get("/assets/none.js"), 404)

    def test_head_is_answered_as_get_without_the_body(self, client: TestClient, asked: Any) -> None:
        report = asked.headers["content-location"]
        for path in ("/", "/api/about", "/healthz", "/metrics", report, f"{report}/text", f"{report}/scan", "/none"):
            got, head = client.get(path), client.head(path)
            assert head.status_code == got.status_code
            assert head.content == b""
            assert head.headers["content-type"] == got.headers["content-type"]
