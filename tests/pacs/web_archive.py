"""A DICOMweb server in this process: QIDO-RS and WADO-RS from datasets, and what no sound server does."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from pydicom.dataset import Dataset

BOUNDARY = "0815.boundary"


class WebArchive:
    """What it serves and how."""

    def __init__(self, datasets: Sequence[Dataset] = ()) -> None:
        self.datasets = list(datasets)
        self.requests: list[str] = []
        self.logins: list[str | None] = []
        self.login: str | None = None
        self.status: int | None = None  # of every answer
        self.redirect: str | None = None
        self.body: bytes | None = None  # instead of any WADO answer
        self.content_type = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
        self.cut = 0  # bytes that a WADO answer lacks
        self.url = ""


def wrapped(content: bytes) -> bytes:
    head = b"\r\n--%s\r\nContent-Type: application/dicom; transfer-syntax=x\r\n\r\n" % BOUNDARY.encode()
    return head + content + b"\r\n--%s--\r\n" % BOUNDARY.encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    archive: WebArchive

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        archive, parts = self.archive, urlsplit(self.path)
        archive.requests.append(parts.path)
        archive.logins.append(self.headers.get("Authorization"))
        if archive.redirect:
            self._answer(302, b"", {"Location": archive.redirect})
        elif archive.status:
            self._answer(archive.status, b"no")
        elif archive.login is not None and self.headers.get("Authorization") != archive.login:
            self._answer(401, b"who?")
        elif found := re.search(r"/studies/([^/]+)/series/([^/]+)/instances/([^/]+)$", parts.path):
            self._object(found[3])
        else:
            self._list(parts.path, parse_qs(parts.query))

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.archive.requests.append(f"POST {length}")
        self.rfile.read(length)
        self._answer(self.archive.status or 200, b"{}", {"Content-Type": "application/dicom+json"})

    def _object(self, uid: str) -> None:
        archive = self.archive
        stream = io.BytesIO()
        matches = [dataset for dataset in archive.datasets if dataset.SOPInstanceUID == uid]
        if not matches:
            self._answer(404, b"")
            return
        matches[0].save_as(stream, enforce_file_format=True)
        body = wrapped(stream.getvalue()) if archive.body is None else archive.body
        self._answer(200, body, {"Content-Type": archive.content_type}, cut=archive.cut)

    def _list(self, path: str, query: dict[str, list[str]]) -> None:
        level = {"studies": "StudyInstanceUID", "series": "SeriesInstanceUID", "instances": "SOPInstanceUID"}
        unique = level[path.rpartition("/")[2]]
        given = path.split("/")
        chosen = [
            dataset
            for dataset in self.archive.datasets
            if ("studies" not in given[:-1] or dataset.StudyInstanceUID == given[given.index("studies") + 1])
            and ("series" not in given[:-1] or dataset.SeriesInstanceUID == given[given.index("series") + 1])
        ]
        items = []
        for dataset in {str(dataset[unique].value): dataset for dataset in chosen}.values():
            header = Dataset()
            for element in dataset:
                if element.tag.group < 0x0028:
                    header[element.tag] = element
            items.append(header.to_json_dict())
        offset, limit = (int(query.get(name, [default])[0]) for name, default in (("offset", 0), ("limit", 1000)))
        items = items[offset : offset + limit]
        if not items:
            self._answer(204, b"")
            return
        self._answer(200, json.dumps(items).encode(), {"Content-Type": "application/dicom+json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut: int = 0) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])
        if cut:
            self.close_connection = True


@contextmanager
def web_archive(archive: WebArchive) -> Iterator[WebArchive]:
    handler = type("Handler", (_Handler,), {"archive": archive})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    archive.url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
