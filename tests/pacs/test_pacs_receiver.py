"""The receiver of a C-MOVE: it is open to the network while an import runs."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pacs_parts import association, picture, store, stored_files, wait_for

from sonoseek.pacs.archive.receiver import ASSOCIATIONS, Receiver
from sonoseek.pacs.association import chunked_receive
from sonoseek.pacs.peer import Peer


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    peer = Peer(name="archive", host="127.0.0.1", port=104, ae_title="ARCHIVE", our_ae_title="SONOSEEK")
    with chunked_receive(tmp_path), Receiver(peer, port=0) as receiver:
        yield receiver


def test_the_archive_gets_in_beside_silent_sockets(receiver: Receiver) -> None:
    with contextlib.ExitStack() as silent:
        for _ in range(2 * ASSOCIATIONS):
            silent.enter_context(socket.create_connection(("127.0.0.1", receiver.port)))
        began = time.monotonic()
        with association(receiver.port, title="ARCHIVE") as assoc:
            assert assoc.send_c_echo().Status == 0x0000
        assert time.monotonic() - began < 1.0


def test_a_pdu_that_announces_gigabytes_ends_its_connection(receiver: Receiver) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port)) as hostile:
        hostile.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFF0))
        hostile.settimeout(3.0)
        assert hostile.recv(1) == b""


def test_others_and_more_than_a_few_are_rejected(receiver: Receiver) -> None:
    with association(receiver.port, title="EVIL") as assoc:
        assert assoc.is_rejected
    with association(receiver.port, title="ARCHIVE", called="OTHER") as assoc:
        assert assoc.is_rejected
    with contextlib.ExitStack() as several:
        for _ in range(ASSOCIATIONS):
            assert several.enter_context(association(receiver.port, title="ARCHIVE")).is_established
        assert several.enter_context(association(receiver.port, title="ARCHIVE")).is_rejected
    wait_for(lambda: not receiver._open)


def test_only_what_a_move_asks_for_is_taken(receiver: Receiver, tmp_path: Path) -> None:
    assert store(receiver.port, picture(), title="ARCHIVE") == [0xA900]
    taken: list[str] = []

    def take(uid: str, draft: Path) -> int:
        assert draft.parent == tmp_path
        taken.append(uid)
        return 0x0000

    wanted = picture()
    with receiver.expecting(take):
        assert store(receiver.port, wanted, title="ARCHIVE") == [0x0000]
    assert taken == [wanted.SOPInstanceUID]
    assert stored_files(tmp_path) == []
