"""Access control, headers, logging and metrics of the server."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from web_client import BASE, ask, detail

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.logging_metrics import JsonLines
from sonoseek.apps.web.settings import WebSettings
from sonoseek.core import InvalidValueError
from sonoseek.engine import open_engine


@pytest.fixture(scope="module")
def asked(client: TestClient, scans: list[Path]) -> Any:
    """The response to an ordinary query."""
    return ask(client, scans[0], k="4")


class TestSecurity:
    def test_every_response_has_security_headers(self, client: TestClient, asked: Any) -> None:
        for path in ("/", "/api/about", "/healthz", "/nothing", f"{asked.headers['content-location']}/scan"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
        assert client.get("/api/about").headers["cache-control"] == "no-store"

    def test_refusals_have_security_headers(self, gallery: Path, scans: list[Path], tmp_path: Path) -> None:
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

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "anything", ""])
    def test_reads_from_other_sites_are_refused_too(self, client: TestClient, asked: Any, site: str) -> None:
        report = asked.headers["content-location"]
        picture = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        paths = (f"{report}/scan", f"{report}/report.pdf", report, "/api/about", "/metrics", "/healthz")
        for path in (*paths, "/assets/none.js", "/none"):
            for headers in (picture, link):
                assert "another site" in detail(client.get(path, headers=headers), 403)
        for path in ("/", "/index.html"):
            assert client.get(path, headers=link).status_code == 200
            assert "another site" in detail(client.get(path, headers=picture), 403)
            detail(client.get(path, headers={**link, "Sec-Fetch-Dest": "iframe"}), 403)
            detail(client.post(path, headers=link), 403)
            detail(client.get(path, headers={"Sec-Fetch-Site": site}), 403)
        detail(client.post("/api/session", json={"token": "x"}, headers={**link, "Origin": BASE}), 403)

    def test_the_own_page_and_what_the_reader_types_are_answered(self, client: TestClient, asked: Any) -> None:
        report = asked.headers["content-location"]
        for site in ("same-origin", "none"):
            for path in (f"{report}/scan", report, "/api/about", "/"):
                assert client.get(path, headers={"Sec-Fetch-Site": site}).status_code == 200
            answer = client.post("/api/query", headers={"Sec-Fetch-Site": site, "Origin": "https://evil.example"})
            assert "only this server's own page" in detail(answer, 403)

    def test_a_prefix_works_whether_the_proxy_strips_it_or_not(self, gallery: Path, tmp_path: Path) -> None:
        settings = WebSettings(
            state=tmp_path, root_path="/sonoseek", allowed_hosts=("images.example.org",), user_header="X-Remote-User"
        )
        app = create_app(open_engine(gallery, threads=1), settings)
        reader = {"X-Remote-User": "ada"}
        with TestClient(app, base_url="http://images.example.org", headers=reader) as client:
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
            large = {"file": ("a.png", b"1" * (300 << 10))}  # who is not signed in sends no files
            for path in ("/api/session", "/", "/anything"):
                assert "longer than 256 KiB" in detail(client.post(path, files=large), 413)
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
            ({"allowed_hosts": ("images.example.org",)}, "--allow-host images.example.org is given.*SONOSEEK_TOKEN"),
            ({"root_path": "/sonoseek"}, "--root-path /sonoseek is given.*--proxy-authenticates X-Remote-User"),
            ({"user_header": "X-Remote-User", "host": "0.0.0.0"}, "write any name there. Listen on 127.0.0.1"),  # noqa: S104
            ({"user_header": "X-Remote-User", "host": "0.0.0.0", "token": "a" * 16}, "any name"),  # noqa: S104
            ({"user_header": "Authorization"}, "a header of its own"),
            ({"user_header": "X Remote"}, "a header of its own"),
            ({"user_header": ""}, "a header of its own"),
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


class TestProxyAuthenticates:
    def test_requests_without_the_reader_s_name_are_refused(self, gallery: Path, tmp_path: Path) -> None:
        settings = WebSettings(state=tmp_path, user_header="X-Remote-User")
        with TestClient(create_app(open_engine(gallery, threads=1), settings), base_url=BASE) as client:
            for path in ("/", "/api/about", "/metrics", "/api/session", "/openapi.json", "/assets/x.js"):
                assert "not one X-Remote-User" in detail(client.get(path), 401)
                for value in ("", " "):
                    detail(client.get(path, headers={"X-Remote-User": value}), 401)
            twice = [("X-Remote-User", "ada"), ("X-Remote-User", "eve")]
            detail(client.get("/api/about", headers=twice), 401)
            assert client.get("/api/about", headers={"x-remote-user": "ada"}).status_code == 200
            assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200

    def test_with_a_token_both_are_needed(self, gallery: Path, tmp_path: Path) -> None:
        token = "a-token-of-some-length"  # noqa: S105
        settings = WebSettings(state=tmp_path, user_header="X-Remote-User", token=token)
        name, known = {"X-Remote-User": "ada"}, {"Authorization": f"Bearer {token}"}
        with TestClient(create_app(open_engine(gallery, threads=1), settings), base_url=BASE) as client:
            assert client.get("/api/about", headers=known).status_code == 401
            assert client.get("/api/about", headers=name).status_code == 401
            assert client.get("/api/about", headers={**name, **known}).status_code == 200
            assert client.post("/api/session", json={"token": token}).status_code == 401
            assert client.post("/api/session", json={"token": token}, headers=name).status_code == 204
            assert client.get("/api/about", headers=name).status_code == 200

    def test_forwarded_headers_count_behind_a_proxy_alone(self) -> None:
        assert not WebSettings().behind_proxy
        assert not WebSettings(token="a" * 16).behind_proxy
        assert WebSettings(user_header="X-Remote-User").behind_proxy
        assert WebSettings(token="a" * 16, root_path="/a").behind_proxy


class TestLoggingMetrics:
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
