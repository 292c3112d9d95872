"""A server on this machine that can cut, refuse, redirect, change its mind and forget how to resume."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sonoseek.datasets import resume
from sonoseek.datasets.busi import BusiDataset
from sonoseek.datasets.download import fetch


@dataclass
class Script:
    """What the server offers, how it behaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    etag: str = '"one"'
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""
    redirect: str = ""
    stated: int | None = None


@pytest.fixture
def server(monkeypatch) -> Iterator[Script]:
    """The server; the card of BUSI has no checksum, since the tests' archives are not the published one."""
    busi = BusiDataset.card
    sources = tuple(replace(source, checksum=None) for source in busi.sources)
    monkeypatch.setattr(BusiDataset, "card", replace(busi, sources=sources))
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            script.asked.append((self.path, wanted))
            body = script.files.get(self.path.lstrip("/"))
            status = script.statuses.pop(0) if script.statuses else (200 if body is not None else 404)
            if status >= 400:
                self.send_error(status)
                return
            if script.redirect and not self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", script.redirect)
                self.end_headers()
                return
            start = int(wanted[6:].rstrip("-")) if wanted else 0
            fresh = self.headers.get("If-Range") == script.etag
            if not (script.ranges and wanted and fresh):
                start = 0
            if start > len(body):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if script.stated != 0:  # 0: an answer that ends with its connection
                self.send_header("Content-Length", str((script.stated or len(body)) - start))
            if script.etag:
                self.send_header("ETag", script.etag)
            self.end_headers()
            rest = body[start:]
            self.wfile.write(rest[: script.cuts.pop(0)] if script.cuts else rest)

        def log_message(self, *_):
            pass

    monkeypatch.setattr(resume, "PAUSE_S", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        script.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield script
        running.shutdown()
        thread.join()


def zipped(root) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(root))
        archive.writestr("__MACOSX/._junk", b"x")
    return buffer.getvalue()


@pytest.fixture
def busi_zip(server, fake_roots) -> bytes:
    server.files["Dataset_BUSI.zip"] = zipped(fake_roots["busi"])
    return server.files["Dataset_BUSI.zip"]


def get_busi(server, folder, **options):
    return fetch("busi", folder, accept_licence=True, base_url=server.url, **options)


def with_sums(card, files):
    """The card of a dataset whose published files are the server's."""
    return replace(
        card,
        sources=tuple(replace(s, checksum=f"md5:{hashlib.md5(files[s.file_name]).hexdigest()}") for s in card.sources),  # noqa: S324
    )
