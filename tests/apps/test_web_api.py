"""What the reading room's server answers, and what it refuses."""

from __future__ import annotations

import io
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from PIL import Image

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.logging_metrics import JsonLines
from sonoseek.apps.web.settings import WebSettings
from sonoseek.core import Box, InvalidValueError
from sonoseek.engine import SearchEngine, open_engine
from sonoseek.io import read_scan
from sonoseek.reports import report_schema
from sonoseek.reports.json import encode_json

BASE = "http://localhost"


@pytest.fixture(scope="module")
def client(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = WebSettings(state=tmp_path_factory.mktemp("state"))
    app = create_app(open_engine(gallery, threads=1), settings)
    with TestClient(app, base_url=BASE, raise_server_exceptions=False) as found:
        yield found


@pytest.fixture(scope="module")
def engine(gallery: Path) -> Iterator[SearchEngine]:
    with open_engine(gallery, threads=1) as found:
        yield found


@pytest.fixture(scope="module")
def scans(archive: Path) -> list[Path]:
    return sorted(path for path in archive.glob("*/*.png") if "_mask" not in path.name)


@pytest.fixture(scope="module")
def asked(client: TestClient, scans: list[Path]) -> Any:
    """The answer to an ordinary question."""
    return ask(client, scans[0], k="4")


def ask(client: TestClient, *files: Path, **fields: Any) -> Any:
    sent = [("file", (path.name, path.read_bytes(), "image/png")) for path in files]
    return client.post("/api/query", files=sent, data=fields)


def detail(answer: Any, status: int) -> str:
    """The sentence of a problem document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["request_id"] == answer.headers["x-request-id"]
    return str(told["detail"])


class TestQuery:
    def test_it_is_the_engines_report_under_the_published_schema(
        self, asked: Any, engine: SearchEngine, scans: list[Path]
    ) -> None:
        assert asked.status_code == 200
        document = asked.json()
        Draft202012Validator(report_schema()).validate(document)
        same = json.loads(encode_json(engine.query(read_scan(scans[0]), k=4)))
        for told in (document, same):
            told.pop("created")
        assert document == same

    @pytest.mark.parametrize(
        ("fields", "options"),
        [
            ({"k": "0"}, {"k": 0}),
            ({"where": "label = 'benign'"}, {"where": "label = 'benign'"}),
            ({"per_patient": "false", "deduplicate": "0"}, {"per_patient": False, "deduplicate": False}),
            ({"include_same": "yes"}, {"include_same": True}),
            ({"region": "50,60,200,300"}, {"region": Box(top=50, left=60, bottom=200, right=300)}),
        ],
    )
    def test_options_reach_the_engine(
        self, client: TestClient, engine: SearchEngine, scans: list[Path], fields: Any, options: Any
    ) -> None:
        told = ask(client, scans[1], **fields).json()
        report = engine.query(read_scan(scans[1]), **options)
        assert [m["scan_id"] for m in told["matches"]] == [m.scan_id for m in report.matches]
        assert told["warnings"] == [asdict(each) for each in report.warnings]

    def test_liked_and_disliked_and_crop(self, client: TestClient, engine: SearchEngine, scans: list[Path]) -> None:
        first = ask(client, scans[2], k="5").json()["matches"]
        names = [f"{match['dataset']}/{match['case_id']}" for match in first]
        told = ask(client, scans[2], k="5", liked=names[1:3], disliked=names[0]).json()
        assert set(told["liked"]) == {match["scan_id"] for match in first[1:3]}
        assert told["disliked"] == [first[0]["scan_id"]]
        assert first[0]["scan_id"] not in {match["scan_id"] for match in told["matches"]}
        scan = read_scan(scans[2])
        crop = Box(top=10, left=10, bottom=scan.shape[0] - 10, right=scan.shape[1] - 20)
        sides = f"{crop.top},{crop.left},{crop.bottom},{crop.right}"
        told = ask(client, scans[2], crop=sides).json()
        assert told["crop"] == {name: float(getattr(crop, name)) for name in ("top", "left", "bottom", "right")}
        report = engine.query(engine.read(scan, crop=crop))
        assert told["prediction"]["probabilities"] == pytest.approx(dict(report.prediction.probabilities))

    def test_several_files_are_views(self, client: TestClient, scans: list[Path]) -> None:
        told = ask(client, scans[0], scans[1]).json()
        assert len(told["views"]) == 1
        assert "2 views together" in " ".join(each["text"] for each in told["warnings"])

    def test_a_file_is_sent_once_and_asked_again(self, client: TestClient, asked: Any, scans: list[Path]) -> None:
        upload = asked.headers["sonoseek-uploads"]
        again = client.post("/api/query", data={"upload": upload, "k": "4"})
        assert again.headers["content-location"] == asked.headers["content-location"]
        assert again.json() == asked.json()
        other = client.post("/api/query", data={"upload": upload, "k": "3"})
        assert other.headers["content-location"] != asked.headers["content-location"]
        kept = client.get(f"/api/uploads/{upload}").json()
        assert (kept["name"], kept["frames"]) == (scans[0].name, 1)
        assert "Send the scan again" in detail(client.post("/api/query", data={"upload": "0" * 64}), 404)

    def test_a_case_of_the_archive_asks_without_a_file(self, client: TestClient, engine: SearchEngine) -> None:
        record = next(iter(engine.gallery or ())).record
        told = client.post("/api/query", data={"case": f"{record.dataset}/{record.case_id}", "k": "3"})
        assert told.status_code == 200
        report = engine.query_case(record.dataset, record.case_id, k=3)
        assert [m["scan_id"] for m in told.json()["matches"]] == [m.scan_id for m in report.matches]
        said = detail(client.post("/api/query", data={"case": "a/b"}), 404)
        assert said.startswith("the archive holds no case 'b' of 'a'")

    def test_a_file_may_be_taken_off_the_server(self, client: TestClient, scans: list[Path]) -> None:
        upload = ask(client, scans[5]).headers["sonoseek-uploads"]
        assert client.delete(f"/api/uploads/{upload}").status_code == 204
        assert client.get(f"/api/uploads/{upload}").status_code == 404
        app_state = client.app.state.app_state  # type: ignore[attr-defined]
        assert len(list((app_state.settings.state / "uploads").iterdir())) == len(app_state.uploads)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"k": "x"}, "k is 'x'"),
            ({"k": "-1"}, "k is '-1'"),
            ({"k": "100000"}, "k is '100000'"),
            ({"k": "000000000000201"}, "k is '0000"),
            ({"k": "0" * 5000}, "k is '0000"),
            ({"k": "1.5"}, "k is '1.5'"),
            ({"k": "١"}, "k is '١'"),
            ({"case": "nothing"}, "write DATASET/CASE"),
            ({"liked": ["a/b"] * 33}, "more than 32 scans"),
            ({"crop": "1,2,3,inf"}, "crop is '1,2,3,inf'"),
            ({"upload": ["0" * 64] * 8}, "8 views at most"),
            ({"frame": "1"}, "frame is 1"),
            ({"where": "agee < 3"}, "agee"),
            ({"where": "a" * 3000}, "3000 characters"),
            ({"per_patient": "perhaps"}, "per_patient is 'perhaps'"),
            ({"region": "1,2,3"}, "region is '1,2,3'"),
            ({"region": "5,5,1,9"}, "is empty"),
            ({"region": "nan,1,2,3"}, "region is 'nan"),
            ({"region": "90000,90000,90001,90001"}, "lies outside"),
            ({"crop": "0,0,2,2"}, "the crop"),
            ({"colour": "red"}, "no field 'colour'"),
            ({"k": ["1", "2"]}, "given twice"),
            ({"case": "a/b"}, "one of the two"),
            ({"liked": "nowhere/nothing"}, "holds no case"),
        ],
    )
    def test_a_wrong_field_is_named(self, client: TestClient, scans: list[Path], fields: Any, said: str) -> None:
        answer = ask(client, scans[0], **fields)
        assert said in detail(answer, 404 if fields == {"liked": "nowhere/nothing"} else 422)

    def test_what_is_no_form_is_refused(self, client: TestClient, scans: list[Path]) -> None:
        assert "send a form" in detail(client.post("/api/query", content=scans[0].read_bytes()), 415)
        assert "send a form" in detail(client.post("/api/query", json={"k": 3}), 415)
        assert "query with files" in detail(client.post("/api/query", data={"k": "3"}), 422)
        wrong = client.post("/api/query", files={"scan": ("a.png", scans[0].read_bytes())})
        assert "files go into 'file'" in detail(wrong, 422)
        wrong = client.post("/api/uploads", files={"scan": ("a.png", scans[0].read_bytes())})
        assert "files go into 'file'" in detail(wrong, 422)
        for path in ("/api/query", "/api/uploads"):  # a text where a file belongs
            said = detail(client.post(path, files={"file": (None, "no file")}), 422)
            assert "field 'file' holds a text" in said

    def test_media_types_and_character_sets_as_clients_write_them(self, client: TestClient) -> None:
        form = b'--X\r\nContent-Disposition: form-data; name="k"\r\n\r\n1\r\n--X--\r\n'
        for kind, status, said in (
            ("Multipart/Form-Data; boundary=X", 422, "query with files"),  # the type's case means nothing: it is read
            ("multipart/form-data; boundary=X; charset=undefined", 400, "UTF-8"),
            ("multipart/form-data", 400, "boundary"),
            ("multipart/mixed; boundary=X", 415, "send a form"),
        ):
            for path in ("/api/query", "/api/uploads") if status == 400 else ("/api/query",):
                assert said in detail(client.post(path, content=form, headers={"Content-Type": kind}), status)

    @pytest.mark.parametrize("name", ["超" * 120 + ".png", "🧠" * 90 + ".png", "a" * 500 + ".png", "..", "/", "."])
    def test_a_files_name_may_be_anything(self, client: TestClient, scans: list[Path], name: str) -> None:
        answer = client.post(
            "/api/query", files={"file": (name, scans[3].read_bytes() + name.encode())}, data={"k": "0"}
        )
        assert answer.status_code == 200, answer.text
        kept = client.get(f"/api/uploads/{answer.headers['sonoseek-uploads']}").json()["name"]
        assert kept.endswith(".png") or kept == "scan"

    def test_what_is_no_scan_is_refused_without_naming_this_machine(
        self, client: TestClient, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        said = detail(client.post("/api/query", files={"file": ("../../x/notes.txt", b"no picture")}), 422)
        assert said.startswith("notes.txt: by its first bytes")
        assert str(tmp_path_factory.getbasetemp()) not in said
        app_state = client.app.state.app_state  # type: ignore[attr-defined]
        assert len(list((app_state.settings.state / "uploads").iterdir())) == len(app_state.uploads)

    def test_the_same_bytes_at_once_under_two_names_are_kept_once_and_answered(
        self, client: TestClient, scans: list[Path]
    ) -> None:
        data, answers = scans[20].read_bytes(), []

        def send(name: str) -> None:
            answers.append(client.post("/api/query", files={"file": (name, data)}, data={"k": "1"}).status_code)

        threads = [threading.Thread(target=send, args=(f"{number}.png",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 8
        app_state = client.app.state.app_state  # type: ignore[attr-defined]
        assert len(list((app_state.settings.state / "uploads").iterdir())) == len(app_state.uploads)


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

    def test_a_picture_that_has_not_changed_is_not_sent_again(self, client: TestClient, asked: Any) -> None:
        place = asked.headers["content-location"]
        for path in (
            f"{place}/scan",
            f"{place}/heatmaps/0/warm",
            f"/api/pictures/{asked.json()['matches'][0]['scan_id']}",
        ):
            first = client.get(path)
            again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert client.get(path, params={"size": 50}).headers["etag"] != first.headers["etag"]
            assert "private" in first.headers["cache-control"]
            weak = {"If-None-Match": f'"other", W/{first.headers["etag"]}'}  # as a proxy that compresses hands it on
            assert client.get(path, headers=weak).status_code == 304
            assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200

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

    def test_one_that_has_left_says_what_to_do(self, client: TestClient) -> None:
        assert "Send the scan again" in detail(client.get(f"/api/reports/{'0' * 24}"), 404)


class TestArchive:
    def test_what_it_holds(self, client: TestClient) -> None:
        about, told = client.get("/api/about").json(), client.get("/api/archive").json()
        assert about["scans"] == told["scans"] == sum(told["by_label"].values()) == 30
        assert about["gallery_state"] == told["gallery_state"]
        assert about["disclaimer"] == "research use only, not for diagnosis"

    def test_a_case_with_slashes_in_its_name(self, client: TestClient, asked: Any) -> None:
        match = asked.json()["matches"][0]
        assert "/" in match["case_id"]
        case = client.get(f"/api/cases/{match['dataset']}/{match['case_id']}").json()
        assert (case["label"], case["case_id"]) == (match["label"], match["case_id"])
        assert case["scans"][0]["has_picture"]
        assert (case["scans"][0]["laterality"], case["scans"][0]["view"]) == (None, None)  # a folder says neither
        assert "holds no case" in detail(client.get("/api/cases/a/b/c"), 404)


class TestGuard:
    def test_every_answer_is_dressed(self, client: TestClient, asked: Any) -> None:
        for path in ("/", "/api/about", "/healthz", "/nothing", f"{asked.headers['content-location']}/scan"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
        assert client.get("/api/about").headers["cache-control"] == "no-store"

    def test_refusals_are_dressed_as_well(self, gallery: Path, scans: list[Path], tmp_path: Path) -> None:
        token = "a-token-of-some-length"  # noqa: S105
        settings = WebSettings(state=tmp_path, token=token, max_upload_mb=1)
        app = create_app(open_engine(gallery, threads=1), settings)
        known = {"Authorization": f"Bearer {token}"}
        with TestClient(app, base_url=BASE, raise_server_exceptions=False) as client:
            large = {"file": ("a.png", b"1" * (2 << 20))}
            answers = [
                client.get("/api/about"),
                client.get("/api/about", headers={"Host": "evil.example"}),
                client.post("/api/query", headers={**known, "Origin": "https://evil.example"}),
                client.post("/api/query", files=large, headers=known),
                client.post("/api/query", content=b"1" * (300 << 10), headers=known),
                client.post("/api/query", content=b"{}", headers=known),
                client.put("/api/about", headers=known),
                client.get("/api/reports/x", headers=known),
                client.post("/api/jobs", content=b"{", headers={**known, "Content-Type": "application/json"}),
                client.options("/api/query", headers=known),
            ]
            statuses = [answer.status_code for answer in answers]
            assert statuses == [401, 400, 403, 413, 413, 415, 405, 422, 422, 405]
            for answer in answers:
                assert answer.headers["content-type"] == "application/problem+json"
                assert len(answer.json()["detail"]) > 10
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert "default-src 'none'" in answer.headers["content-security-policy"]
                assert answer.headers["cache-control"] == "no-store"
                assert "access-control-allow-origin" not in answer.headers
            assert list((tmp_path / "uploads").iterdir()) == []

    def test_other_sites_pages_are_kept_out(self, client: TestClient, scans: list[Path]) -> None:
        body = {"file": ("a.png", scans[0].read_bytes())}
        answer = client.post("/api/query", files=body, headers={"Origin": "https://evil.example"})
        assert "only this server's own page" in detail(answer, 403)
        assert client.post("/api/query", files=body, headers={"Origin": BASE}).status_code == 200
        assert "--allow-host" in detail(client.get("/api/about", headers={"Host": "evil.example"}), 400)
        assert client.get("/api/about", headers={"Host": "127.0.0.1:80"}).status_code == 200
        for wrong in ("null", "http://[", "http://localhost:81", "http://localhost.evil.example", "localhost"):
            detail(client.post("/api/query", files=body, headers={"Origin": wrong}), 403)
        for wrong in ("[", "[::1", "a b", "localhost.evil.example", "127.0.0.1.evil.example"):
            assert "--allow-host" in detail(client.get("/api/about", headers={"Host": wrong}), 400)
        assert client.get("/api/about", headers={"Host": "[::1]:80"}).status_code == 200

    def test_a_prefix_works_whether_the_proxy_strips_it_or_not(self, gallery: Path, tmp_path: Path) -> None:
        settings = WebSettings(state=tmp_path, root_path="/sonoseek", allowed_hosts=("images.example.org",))
        app = create_app(open_engine(gallery, threads=1), settings)
        with TestClient(app, base_url="http://images.example.org") as client:
            for prefix in ("", "/sonoseek"):
                assert client.get(f"{prefix}/api/about").status_code == 200
                assert client.get(f"{prefix}/").status_code == 200
            case = client.get("/api/archive/projection").json()
            name = f"{case['datasets'][case['dataset'][0]]}/{case['case_id'][0]}"
            told = client.post("/sonoseek/api/query", data={"case": name, "k": "2"})
            assert told.headers["content-location"].startswith("/sonoseek/api/reports/")
            assert client.get(f"{told.headers['content-location']}/text").status_code == 200

    def test_a_token_is_asked_for_by_header_or_cookie(self, gallery: Path, tmp_path: Path) -> None:
        token = "a-token-of-some-length"  # noqa: S105
        app = create_app(open_engine(gallery, threads=1), WebSettings(state=tmp_path, token=token))
        with TestClient(app, base_url=BASE) as client:
            for path in ("/api/about", "/metrics", "/openapi.json"):
                answer = client.get(path)
                assert "asks for its token" in detail(answer, 401)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
                assert client.get(path, headers={"Authorization": f"Bearer {token}x"}).status_code == 401
                assert client.get(path, headers={"Cookie": "sonoseek=guess"}).status_code == 401
            assert client.get("/").status_code == client.get("/healthz").status_code == 200
            assert "not the server's token" in detail(client.post("/api/session", json={"token": "x"}), 401)
            given = client.post("/api/session", json={"token": token})
            for word in ("HttpOnly", "SameSite=strict", "Path=/"):
                assert word in given.headers["set-cookie"]
            assert "Secure" not in given.headers["set-cookie"]  # over plain HTTP the browser would drop it
            assert token not in given.headers["set-cookie"]
            assert client.get("/api/about").status_code == 200
            over_tls = client.post("https://localhost/api/session", json={"token": token})
            assert "Secure" in over_tls.headers["set-cookie"]

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"host": "0.0.0.0"}, "there is no token"),  # noqa: S104
            ({"host": "images.example.org"}, "there is no token"),
            ({"token": "short"}, "has 5 characters"),
            ({"root_path": "sonoseek/"}, "begins with a slash"),
            ({"max_upload_mb": 0}, "limits must be above 0"),
            ({"port": 70_000}, "the port"),
        ],
    )
    def test_settings_that_would_let_strangers_in_are_refused(self, values: Any, said: str) -> None:
        with pytest.raises(InvalidValueError, match=said):
            WebSettings(**values)

    def test_loopback_needs_no_token_and_others_do_with_one(self) -> None:
        for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
            WebSettings(host=host)
        WebSettings(host="0.0.0.0", token="a-token-of-some-length")  # noqa: S104, S106


class TestObserve:
    def test_metrics_tell_what_happened(self, client: TestClient, asked: Any) -> None:
        detail(client.post("/api/query", files={"file": ("a.txt", b"no")}), 422)
        told = client.get("/metrics").text
        assert 'sonoseek_requests_total{method="POST",route="/api/query",status="200"}' in told
        assert "sonoseek_scans_unread_total" in told
        assert "sonoseek_predictions_total" in told
        assert "sonoseek_gallery_scans 30.0" in told
        assert client.get("/readyz").json()["status"] == "ready"

    def test_an_archive_that_is_lost_is_told_without_its_folder(self, gallery: Path, tmp_path: Path) -> None:
        own = tmp_path / "own"
        shutil.copytree(gallery, own)
        app = create_app(open_engine(own, threads=1), WebSettings(state=tmp_path / "state"))
        with TestClient(app, base_url=BASE, raise_server_exceptions=False) as client:
            assert client.get("/readyz").status_code == 200
            for path in own.iterdir():
                path.write_bytes(b"no archive" * 1000)
            answers = [client.get(path) for path in ("/readyz", "/api/archive", "/api/cases/a/b")]
            answers.append(client.post("/api/query", data={"case": "a/b"}))
            job = client.post("/api/jobs", json={"kind": "query", "title": "a"}).json()["job_id"]
            client.put(f"/api/jobs/{job}/files/a.png", content=b"x")
            assert client.get("/healthz").status_code == 200
        assert [answer.status_code for answer in answers] == [503, 500, 500, 500]
        assert answers[0].headers["retry-after"]
        for answer in answers:
            assert "is not a gallery" in answer.json()["detail"]
            assert str(tmp_path) not in answer.text

    def test_what_a_stranger_makes_up_makes_no_new_counters(self, client: TestClient) -> None:
        for n in range(3):
            assert client.request(f"MADEUP{n}", f"/made/up/{n}").status_code in (404, 405)
        told = client.get("/metrics").text
        assert "MADEUP" not in told
        assert 'method="other"' in told
        assert "/made/up" not in told

    def test_the_log_holds_nothing_of_a_patients(
        self, client: TestClient, scans: list[Path], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "sonoseek.web"):
            told = ask(client, scans[4], where="histology contains 'secret words'")
            client.get(told.headers["content-location"])
            client.get("/api/cases/folder/patient-name-here")
        lines = [JsonLines().format(record) for record in caplog.records if record.name == "sonoseek.web"]
        assert len(lines) == 3
        assert json.loads(lines[0])["route"] == "/api/query"
        assert json.loads(lines[2])["route"] == "/api/cases/{dataset}/{case_id:path}"
        for word in (
            scans[4].name,
            str(scans[4].parent),
            "secret",
            "histology",
            told.headers["content-location"],
            "patient-name",
            told.headers["sonoseek-uploads"],
        ):
            assert word not in "\n".join(lines)

    def test_questions_at_once_do_not_hold_up_the_others(self, client: TestClient, scans: list[Path]) -> None:
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda path=path: answers.append(ask(client, path, k="9").status_code))
            for path in scans[6:18]
        ]
        for thread in threads:
            thread.start()
        assert client.get("/healthz").status_code == 200
        for thread in threads:
            thread.join()
        assert answers == [200] * len(threads)


def test_a_server_needs_a_gallery(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="no gallery"):
        create_app(open_engine(), WebSettings(state=tmp_path))
