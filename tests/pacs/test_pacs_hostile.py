"""Streams that no sound sender makes: the listener stays, and keeps nothing of them."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from pathlib import Path

import pytest
from pacs_parts import association, picture, store, wait_for
from test_pacs_listener import Running


class Recorder:
    """Between a sender and a listener: what the sender sends."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent = bytearray()
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        client, _ = self.socket.accept()
        server = socket.create_connection(("127.0.0.1", self.port))

        def back() -> None:
            with contextlib.suppress(OSError):
                while content := server.recv(65536):
                    client.sendall(content)

        threading.Thread(target=back, daemon=True).start()
        with contextlib.suppress(OSError):
            while content := client.recv(65536):
                self.sent += content
                server.sendall(content)
        server.close()
        client.close()


def _damaged(stream: bytes, chance: random.Random) -> bytes:
    content = bytearray(stream)
    match chance.randrange(4):
        case 0:
            for _ in range(chance.randint(1, 12)):
                content[chance.randrange(len(content))] = chance.randrange(256)
        case 1:  # lengths and types of the heads
            for _ in range(4):
                content[chance.randrange(min(600, len(content)))] = chance.choice((0, 1, 0x7F, 0xFF))
        case 2:
            del content[chance.randrange(len(content)) :]
        case _:
            start = chance.randrange(len(content))
            content[start:start] = chance.randbytes(chance.randint(1, 400))
    return bytes(content)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("rounds", [60, pytest.param(2000, marks=pytest.mark.long)])
def test_damaged_streams_end_their_association_and_nothing_else(
    tmp_path: Path, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonoseek.pacs.association_server.ACSE_S", 0.3)
    running = Running(tmp_path, listener="timeout_seconds = 0.3")
    try:
        recorder = Recorder(running.port)
        assert store(recorder.socket.getsockname()[1], picture()) == [0]
        stream, chance = bytes(recorder.sent), random.Random(7)
        recorder.socket.close()
        assert len(stream) > 1000
        threads = threading.active_count()
        for _ in range(rounds):
            with socket.create_connection(("127.0.0.1", running.port)) as sender:
                sender.settimeout(0.05)
                with contextlib.suppress(OSError):
                    sender.sendall(_damaged(stream, chance))
                    sender.recv(65536)
        with association(running.port) as assoc:
            assert assoc.send_c_echo().Status == 0x0000
        wait_for(lambda: not running.incoming(), seconds=20)
        wait_for(lambda: threading.active_count() <= threads + 2, seconds=20)
        good = picture()
        assert store(running.port, good) == [0x0000]
        assert {path.name for path in tmp_path.iterdir()} == {"pacs.toml", "state"}
    finally:
        running.close()
