"""Uploads that mean no good, or no sense, against a real server: each is told off, and the next reader is served."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
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
        return sum(len(files) for _, _, files in os.walk(self.state / "spool"))


@pytest.fixture(scope="module")
def target(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    state = tmp_path_factory.mktemp("hostile")
    with serving("--gallery", gallery, "--state", state, "--max-upload-mb", 8) as (address, pid):
        yield Target(address, pid, state)
    assert not (state / "spool").exists()


@pytest.fixture(autouse=True)
def served_after(target: Target, scan: Path) -> Iterator[None]:
    """After each of them a good question is answered, and one file lies on the disk: that question's."""
    yield
    with httpx.Client(base_url=target.address, timeout=20) as client:
        answer = client.post("api/query", files={"file": (scan.name, scan.read_bytes())})
        assert answer.status_code == 200
        assert len(answer.json()["matches"]) == 10
    assert target.spooled() == 1


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
    assert set(counted) <= {b"200", b"503", b"closed"}
    assert counted[b"200"] >= 16
    assert counted[b"closed"] < 50
    turned = next((answer for answer in answers if answer.startswith(b"HTTP/1.1 503")), b"retry-after: try again")
    assert b"retry-after:" in turned.lower()
    assert b"try again" in turned
    assert target.memory_mb() - before < 300
