"""Uploads that mean no good, or no sense, against a real server: each is told off, and the next reader is served."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from web_pages import serving

pytestmark = pytest.mark.peer
FORM = b'--X\r\nContent-Disposition: form-data; name="file"; filename="scan.png"\r\nContent-Type: image/png\r\n\r\n'
END = b"\r\n--X--\r\n"


class Target:
    """A server process with small limits, and its address."""

    def __init__(self, address: str, pid: int, state: Path) -> None:
        self.address, self.pid, self.state = address, pid, state
        self.temporary, self.own = state, set[Path]()  # and what the server's libraries put there at its start
        self.port = int(re.findall(r":(\d+)/", address)[0])

    def memory_mb(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    def head(self, length: int | None) -> bytes:
        size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        return (
            f"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n"
            f"Content-Type: multipart/form-data; boundary=X\r\n{size}\r\n\r\n"
        ).encode()

    def connect(self) -> socket.socket:
        found = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        found.settimeout(20)
        return found

    def spooled(self) -> int:
        return sum(len(files) for _, _, files in os.walk(self.state / "uploads"))


@pytest.fixture(scope="module")
def target(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    state, temporary = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))  # the server's own: what lies there is what it left
        with serving("--gallery", gallery, "--state", state, "--max-upload-mb", 8) as (address, pid):
            found = Target(address, pid, state)
            found.temporary, found.own = temporary, set(temporary.iterdir())
            yield found
    assert not (state / "uploads").exists()


@pytest.fixture(autouse=True)
def served_after(target: Target, scan: Path) -> Iterator[None]:
    """After each of them a good question is answered, and one file lies on the disk: that question's."""
    yield
    with httpx.Client(base_url=target.address, timeout=20) as client:
        answer = client.post("api/query", files={"file": (scan.name, scan.read_bytes())})
        assert answer.status_code == 200
        assert len(answer.json()["matches"]) == 10
    assert target.spooled() == 1
    assert set(target.temporary.iterdir()) - target.own == set()


def read_all(connection: socket.socket) -> bytes:
    held = b""
    try:
        while piece := connection.recv(65_536):
            held += piece
    except ConnectionError:
        pass
    return held


def test_a_length_of_two_gigabytes_is_refused_at_once(target: Target) -> None:
    with target.connect() as line:
        started = time.monotonic()
        line.sendall(target.head(2 << 30))
        said = read_all(line)
    assert said.startswith(b"HTTP/1.1 413")
    assert b"longer than 8 MiB" in said
    assert time.monotonic() - started < 2


def test_two_gigabytes_without_a_length_end_at_the_limit(target: Target) -> None:
    before, sent = target.memory_mb(), 0
    block = b"x" * (1 << 20)
    with target.connect() as line:
        line.sendall(target.head(None) + b"%x\r\n" % len(FORM) + FORM + b"\r\n")
        try:
            for sent in range(2048):  # noqa: B007  # told below
                line.sendall(b"%x\r\n" % len(block) + block + b"\r\n")
        except OSError:
            pass
        said = read_all(line)
    assert sent < 64
    assert not said or said.startswith(b"HTTP/1.1 413")
    assert target.memory_mb() - before < 100


def test_half_a_body_leaves_nothing(target: Target, scan: Path) -> None:
    body = FORM + scan.read_bytes() + END
    with target.connect() as line:
        line.sendall(target.head(len(body)) + body[: len(body) // 2])
        time.sleep(0.3)


def test_half_a_head_and_a_stranger_to_http(target: Target) -> None:
    with target.connect() as line:
        line.sendall(b"\x16\x03\x01\x00\xa5 no HTTP at all\r\n\r\n")
        assert read_all(line).startswith((b"HTTP/1.1 400", b""))
    with target.connect() as line:
        line.sendall(b"POST /api/query HT")  # and never more: the server must not mind


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.png", b""),
        ("page.html", b"<html><script>alert(1)</script></html>"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
        (
            "bomb.png",
            b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x01\x00\x00\x00\x01\x00\x00\x08\x00\x00\x00\x00\xa1\xbb\x0f\x9d",
        ),
        ("cut.dcm", b"\x00" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF"),
        ("cut.gif", b"GIF89a\xff\xff\xff\xff"),
        ("cut.tif", b"II*\x00\xff\xff\xff\x7f"),
        ("../../../../etc/passwd", b"root:x:0:0"),
        ("a" * 3000 + ".png", b"no picture"),
        ("\u202egnp.exe", b"MZ\x90"),
    ],
)
def test_what_is_no_scan_gets_the_readers_own_sentence(target: Target, name: str, content: bytes) -> None:
    with httpx.Client(base_url=target.address, timeout=20) as client:
        answer = client.post("api/query", files={"file": (name, content, "image/png")})
    assert answer.status_code in (413, 422)
    said = answer.json()["detail"]
    assert len(said) > 30
    assert str(target.state) not in said
    assert "Traceback" not in said


def hostile_set(room: str) -> dict[str, Callable[[Path], bytes]]:
    """The readers' own set of bad files, by name: makers of their bytes."""
    folders = [str(Path(__file__).parents[1] / "io"), str(Path(__file__).parents[1] / "io" / "dicom")]
    sys.path.extend(folders)
    try:
        module = importlib.import_module(f"test_{room}_bad_files")
    finally:
        del sys.path[-len(folders) :]
    if room == "dicom":
        made = {name: (lambda path, make=make: make(path).read_bytes()) for name, (make, _, _) in module.BAD.items()}
        made.pop("deflated 200 MB")  # its length alone is refused: another test's matter
        return made
    return {name: (lambda _, make=make: make()) for name, (make, _, _) in module.BAD.items()}


@pytest.mark.parametrize("room", ["reading", "dicom"])
def test_every_bad_file_of_the_readers_gets_a_clear_refusal(target: Target, tmp_path: Path, room: str) -> None:
    wrong = []
    before = target.memory_mb()
    with httpx.Client(base_url=target.address, timeout=20) as client:
        for number, (name, make) in enumerate(hostile_set(room).items()):
            content = make(tmp_path / f"{number}.dcm")
            try:
                answer = client.post("api/query", files={"file": (name, content, "image/png")})
            except httpx.TransportError:  # turned away in the middle of a body that is too long
                if len(content) < 8 << 20:
                    raise
                continue
            said = answer.json().get("detail", "")
            clear = answer.headers["content-type"] == "application/problem+json" and len(said) > 30
            if answer.status_code not in (413, 422) or not clear or "/" + target.state.name in said:
                wrong.append((name, answer.status_code, said))
            if len(content) < 8 << 20 and not said.startswith(name[-120:]):
                wrong.append((name, "does not begin with the file's name", said))
    assert wrong == []
    assert target.memory_mb() - before < 400


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Content-Type": "image/png"}, b"\x89PNG\r\n\x1a\n", 415),
        ({"Content-Type": "application/json"}, b'{"file": "a.png"}', 415),
        ({}, b"", 415),
        ({"Content-Type": "multipart/form-data; boundary=X"}, b"--X--\r\n", 422),
        ({"Content-Type": "multipart/form-data; boundary=X"}, b"", 422),
        ({"Content-Type": "multipart/form-data; boundary=X"}, b"--Y\r\n\r\nno\r\n", 400),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"file=a.png", 422),
        (
            {"Content-Type": "multipart/form-data; boundary=X"},
            FORM.replace(b'; filename="scan.png"', b"") + b"a" + END,
            422,
        ),
        ({"Content-Type": "multipart/form-data; boundary=X"}, (FORM + b"a\r\n") * 9 + END[2:], 400),
    ],
)
def test_what_is_no_form_with_a_file(target: Target, headers: dict[str, str], content: bytes, status: int) -> None:
    with httpx.Client(base_url=target.address, timeout=20) as client:
        answer = client.post("api/query", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("length", ["-1", "1e9", "9" * 5000, "²", "1, 2"])
def test_a_length_that_is_no_number(target: Target, length: str) -> None:
    with target.connect() as line:
        line.sendall(target.head(0).replace(b"Length: 0", b"Length: " + length.encode()))
        assert read_all(line).startswith(b"HTTP/1.1 4")


PROGRAM = """
import sys
from pathlib import Path
from sonoseek.apps.web import upload_limits, logging_metrics, server
from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.engine import open_engine
server.HEADER_S, upload_limits.IDLE_S, upload_limits.GRACE_S = 1.0, 0.8, 1.2
logging_metrics.configure_logging()
settings = WebSettings(port=0, state=Path(sys.argv[2]), upload_timeout_s=1.6)
app = create_app(open_engine(sys.argv[1], threads=1), settings)
server.serve(app, settings, on_ready=lambda address: print(address, flush=True))
"""
"""The same server with less patience, so that a test need not have more."""


@pytest.fixture(scope="module")
def hasty(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    state = tmp_path_factory.mktemp("hasty")
    command = [sys.executable, "-c", PROGRAM, str(gallery), str(state)]
    with (state / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        yield Target(process.stdout.readline().strip(), process.pid, state)
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
    assert not (state / "uploads").exists()


def answer_to_drops(line: socket.socket, drop: bytes, *, pause_s: float) -> bytes:
    """Send a body drop by drop until the server answers, eight seconds at most."""
    line.settimeout(pause_s)
    said, started = b"", time.monotonic()
    while not said and time.monotonic() - started < 8:
        line.sendall(drop)
        with contextlib.suppress(TimeoutError):
            said = line.recv(65_536)
    line.settimeout(8)
    return said + read_all(line)  # head and body may come apart


class TestImpatience:
    def test_who_sends_nothing_is_told_so(self, hasty: Target) -> None:
        started = time.monotonic()
        with hasty.connect() as line:
            line.sendall(hasty.head(1000) + FORM)
            said = read_all(line)
        assert said.startswith(b"HTTP/1.1 408")
        assert b"nothing of it was kept" in said
        assert 0.7 < time.monotonic() - started < 4

    def test_who_sends_a_byte_at_a_time_is_told_so(self, hasty: Target) -> None:
        started = time.monotonic()
        with hasty.connect() as line:
            line.sendall(hasty.head(1 << 20) + FORM)
            said = answer_to_drops(line, b"x", pause_s=0.2)
        assert said.startswith(b"HTTP/1.1 408")
        assert b"less than 16 KiB per second" in said
        assert 1.1 < time.monotonic() - started < 1.55  # before the whole time that a request may take
        assert hasty.spooled() == 0

    def test_a_slow_line_is_fast_enough_until_the_whole_time_is_over(self, hasty: Target) -> None:
        started = time.monotonic()
        with hasty.connect() as line:
            line.sendall(hasty.head(1 << 20) + FORM)
            said = answer_to_drops(line, b"x" * 4096, pause_s=0.1)  # 40 KiB per second at most
        assert said.startswith(b"HTTP/1.1 408")
        assert 1.5 < time.monotonic() - started < 5

    def test_half_a_head_is_not_waited_for(self, hasty: Target) -> None:
        started = time.monotonic()
        with hasty.connect() as line:
            line.sendall(b"POST /api/query HT")
            assert read_all(line) == b""
        assert 0.9 < time.monotonic() - started < 4

    @pytest.mark.parametrize("trickle", [False, True])
    def test_nor_is_half_a_second_head(self, hasty: Target, trickle: bool) -> None:
        with hasty.connect() as line:
            line.sendall(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{hasty.port}\r\n\r\n".encode())
            assert line.recv(65_536).startswith(b"HTTP/1.1 200")
            started = time.monotonic()
            line.sendall(b"GET /healthz HTTP/1.1\r\nX-A: ")
            line.settimeout(0.2 if trickle else 5)
            closed = False
            while not closed and time.monotonic() - started < 5:
                try:
                    closed = line.recv(65_536) == b""
                    if trickle:
                        line.sendall(b"a")
                except TimeoutError:
                    line.sendall(b"a")
                except ConnectionError:
                    closed = True
        assert closed
        assert 0.9 < time.monotonic() - started < 4

    def test_a_connection_in_use_is_kept(self, hasty: Target, scan: Path) -> None:
        with httpx.Client(base_url=hasty.address, timeout=20) as client:
            for _ in range(4):
                assert client.post("api/query", files={"file": ("a.png", scan.read_bytes())}).status_code == 200
                time.sleep(0.5)

    def test_who_leaves_is_nobodys_error(self, hasty: Target, scan: Path) -> None:
        with httpx.Client(base_url=hasty.address, timeout=20) as client:
            job = client.post("api/jobs", json={"kind": "query", "title": "a"}).json()["job_id"]
            body = FORM + scan.read_bytes() + END
            heads = [
                hasty.head(len(body)),
                hasty.head(len(body)).replace(b"POST /api/query", f"PUT /api/jobs/{job}/files/a.png".encode()),
                hasty.head(len(body)).replace(b"multipart/form-data; boundary=X", b"application/json"),
            ]
            for head in heads:
                with hasty.connect() as line:
                    line.sendall(head + body[: len(body) // 2])
                    time.sleep(0.3)
            time.sleep(0.3)
            assert not [path for path in (hasty.state / "files").rglob("*") if path.is_file()]
        assert hasty.spooled() <= 1
        log = (hasty.state / "log").read_text()
        assert '"request"' in log
        assert "unexpected" not in log
        assert "Traceback" not in log

    def test_a_long_text_without_a_length_ends_at_its_limit(self, hasty: Target) -> None:
        with httpx.Client(base_url=hasty.address, timeout=20) as client:
            for path in ("api/jobs", "api/session", "api/query"):
                pieces = iter([b'{"title": "'] + [b"a" * (64 << 10)] * 6)
                answer = client.post(path, content=pieces, headers={"Content-Type": "application/json"})
                assert answer.status_code == (415 if path == "api/query" else 413), answer.text


def test_a_thousand_at_once_are_answered_or_turned_away(target: Target, scan: Path) -> None:
    before = target.memory_mb()
    body = FORM + scan.read_bytes() + END

    async def send() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        try:
            writer.write(target.head(len(body)) + body)
            await writer.drain()
            return await asyncio.wait_for(reader.read(-1), 60)
        except ConnectionError:
            return b"HTTP/1.1 closed"
        finally:
            writer.close()

    async def all_of_them() -> list[bytes]:
        return await asyncio.gather(*(send() for _ in range(1000)))

    answers = asyncio.run(all_of_them())
    counted = Counter(answer.split(b" ", 2)[1] for answer in answers)
    assert set(counted) <= {b"200", b"429", b"503", b"closed"}
    assert counted[b"200"] >= 16
    assert counted[b"closed"] < 50
    turned = next((answer for answer in answers if answer.startswith(b"HTTP/1.1 429")), b"retry-after: try again")
    assert b"retry-after:" in turned.lower()
    assert b"try again" in turned
    assert target.memory_mb() - before < 300
