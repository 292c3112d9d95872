"""The listener: who gets in, what is acknowledged, what is left on the disk."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import stat
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pacs_parts import CT, SR, US, association, picture, store, stored_files, wait_for, write_settings
from pydicom.uid import generate_uid
from pynetdicom import AE

from sonoseek.pacs.journal import Finding, Journal, Receipt, ReceivedObject
from sonoseek.pacs.listener import Listener
from sonoseek.pacs.rules import load_config
from sonoseek.pacs.state import State

Start = Callable[..., "Running"]


class Running:
    """A listener and its parts, in a folder."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.config = load_config(write_settings(folder, **settings))  # type: ignore[arg-type]
        state = State(self.config)
        self.journal, self.store, self.audit = state.journal, state.store, state.audit
        self.listener = Listener(state)
        self.port = self.listener.port

    def received(self) -> set[str]:
        return {row[0] for row in self.journal.database.all("SELECT sop_uid FROM received")}

    def incoming(self) -> list[Path]:
        return stored_files(self.store.incoming)

    def audited(self, text: str) -> None:
        wait_for(lambda: self.audit.file.is_file() and text in self.audit.file.read_text())

    def close(self) -> None:
        self.listener.stop()
        self.journal.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Running] = []

    def begin(**settings: object) -> Running:
        running.append(Running(tmp_path, **settings))
        return running[-1]

    yield begin
    for each in running:
        each.close()


def test_a_picture_is_acknowledged_once_it_is_on_disk_and_written_down(start: Start) -> None:
    running = start()
    sent = picture()
    assert store(running.port, sent) == [0x0000]
    assert running.received() == {sent.SOPInstanceUID}
    (row,) = running.journal.studies()
    assert (row.patient_id, row.patient_name, row.accession, row.state) == ("MRN 0815", "Curie^Marie", "A1", "waiting")
    (file,) = stored_files(running.store.received)
    assert running.store.path(file.name) == file
    assert sent.SOPInstanceUID not in file.name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    wait_for(lambda: not running.incoming())


def test_unknown_titles_are_rejected_with_the_reason_of_the_standard(start: Start) -> None:
    running = start()
    for title, called, diagnostic in (("STRANGER", "SONOSEEK", 3), ("US1", "OTHER", 7)):
        with association(running.port, title=title, called=called) as assoc:
            assert assoc.is_rejected
            assert assoc.acceptor.primitive.diagnostic == diagnostic
    running.audited("calling AE title not allowed from this address")
    running.audited("called AE title not known")


def test_a_title_is_bound_to_its_addresses(start: Start) -> None:
    running = start(senders=(("US1", "10.0.0.0/8"), ("US2", "127.0.0.0/8")))
    with association(running.port, title="US1") as assoc:
        assert assoc.is_rejected
    with association(running.port, title="US2") as assoc:
        assert assoc.is_established


def test_an_unknown_address_is_dropped_before_a_byte_is_read(start: Start) -> None:
    running = start()
    with socket.create_connection(("127.0.0.1", running.port), source_address=("127.0.0.9", 0)) as stranger:
        stranger.settimeout(1.0)
        with pytest.raises(ConnectionResetError):
            stranger.recv(1)
    running.audited("address not allowed")


@pytest.mark.parametrize("source", ["127.0.0.9", "127.0.0.1"])
def test_an_echo_passes_within_a_second_while_silent_sockets_hang(start: Start, source: str) -> None:
    running = start(listener="max_associations = 4")
    silent = [socket.create_connection(("127.0.0.1", running.port), source_address=(source, 0)) for _ in range(40)]
    for each in silent[:20]:
        with contextlib.suppress(OSError):  # it is dropped already
            each.send(b"\x01\x00\x00")  # half of a PDU's head
    began = time.monotonic()
    with association(running.port) as assoc:
        assert assoc.is_established
        assert assoc.send_c_echo().Status == 0x0000
        took = time.monotonic() - began
    assert took < 1.0
    assert len(running.listener._server._silent) <= 8
    for each in silent:
        each.close()


def test_silent_sockets_are_ended(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sonoseek.pacs.association_server.ACSE_S", 0.3)
    monkeypatch.setattr("sonoseek.pacs.listener.ACSE_S", 0.3)
    running = start()
    for begin in (b"", b"\x01\x00\x00"):
        with socket.create_connection(("127.0.0.1", running.port)) as silent:
            silent.sendall(begin)
            silent.settimeout(5.0)
            with contextlib.suppress(ConnectionResetError):
                assert silent.recv(1) in (b"", b"\x07")  # the end, or an abort before it


def test_associations_beyond_the_limit_are_rejected_for_now(start: Start) -> None:
    running = start(listener="max_associations = 2")
    with association(running.port) as first, association(running.port), association(running.port) as third:
        assert first.is_established
        assert third.is_rejected
        assert third.acceptor.primitive.result == 2


@pytest.mark.parametrize("size", [0xFFFFFFF0, 300_000])
def test_a_pdu_that_announces_too_much_ends_its_connection(start: Start, size: int) -> None:
    running = start()
    with socket.create_connection(("127.0.0.1", running.port)) as hostile:
        hostile.sendall(struct.pack(">BBL", 1, 0, size) + b"x" * 64)
        hostile.settimeout(3.0)
        with contextlib.suppress(ConnectionResetError):
            assert hostile.recv(1) in (b"", b"\x07")
    assert store(running.port, picture()) == [0x0000]


@pytest.mark.parametrize("uid", ["../../evil", "/etc/evil", "1.2.03", "1." + "2" * 70, "1..2", "1.2.a"])
def test_uids_that_break_the_rule_are_refused_and_the_next_is_taken(start: Start, tmp_path: Path, uid: str) -> None:
    running = start()
    before = {path for path in tmp_path.rglob("*") if "state" not in path.parts}
    bad, good = picture(), picture()
    with association(running.port) as assoc:
        status = _store_as(assoc, bad, uid)
        assert status is None or status & 0xF000 == 0xC000  # pynetdicom's own sender refuses what is too long
        if assoc.is_established:
            assert assoc.send_c_store(good).Status == 0x0000
    if status is None:
        assert store(running.port, good) == [0x0000]
    assert running.received() == {good.SOPInstanceUID}
    assert {path for path in tmp_path.rglob("*") if "state" not in path.parts} == before
    assert len(stored_files(running.store.received)) == 1
    wait_for(lambda: not running.incoming())


def _store_as(assoc: object, dataset: object, uid: str) -> int | None:
    """C-STORE whose request names another SOP Instance UID than its data set."""
    from io import BytesIO

    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.dsutils import encode

    request = C_STORE()
    request.MessageID, request.Priority = 7, 2
    request.AffectedSOPClassUID = dataset.SOPClassUID  # type: ignore[attr-defined]
    try:
        request.AffectedSOPInstanceUID = uid
    except ValueError:
        return None
    request.DataSet = BytesIO(encode(dataset, False, True))  # type: ignore[arg-type]
    context = assoc._get_valid_context(US, "", "scu")  # type: ignore[attr-defined]
    assoc._reactor_checkpoint.clear()  # type: ignore[attr-defined]
    while not assoc._is_paused:  # type: ignore[attr-defined]
        time.sleep(0.001)
    assoc.dimse.send_msg(request, context.context_id)  # type: ignore[attr-defined]
    _, answer = assoc.dimse.get_msg(block=True)  # type: ignore[attr-defined]
    assoc._reactor_checkpoint.set()  # type: ignore[attr-defined]
    return None if answer is None else int(answer.Status)


def test_a_data_set_with_other_uids_than_the_request_is_refused(start: Start) -> None:
    running = start()
    with association(running.port) as assoc:
        assert _store_as(assoc, picture(), generate_uid()) == 0xA900
        good = picture()
        assert assoc.send_c_store(good).Status == 0x0000
    assert running.received() == {good.SOPInstanceUID}


def test_half_a_transfer_leaves_nothing(start: Start) -> None:
    running = start()
    sent = picture(side=256)
    with association(running.port) as assoc:
        from pynetdicom.pdu_primitives import P_DATA

        whole = []
        assoc.dul.send_pdu, kept = whole.append, assoc.dul.send_pdu
        assoc._reactor_checkpoint.clear()
        import threading

        threading.Thread(target=lambda: _quiet(lambda: assoc.send_c_store(sent)), daemon=True).start()
        wait_for(lambda: len([each for each in whole if isinstance(each, P_DATA)]) >= 2)
        for each in whole[:-1]:
            kept(each)
        wait_for(running.incoming)
        assoc.acse_timeout = assoc.dimse_timeout = 0.5
        assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: not running.incoming())
    assert not running.received()
    assert store(running.port, sent) == [0x0000]


def _quiet(act: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):  # its association is cut on purpose
        act()


def test_a_full_disk_is_told_and_the_next_object_is_taken(start: Start) -> None:
    running = start()
    running.store.min_free_bytes = 1 << 62
    with association(running.port) as assoc:
        assert assoc.send_c_store(picture()).Status == 0xA700
        running.store.min_free_bytes = 0
        assert assoc.send_c_store(picture()).Status == 0x0000
    assert len(running.received()) == 1
    wait_for(lambda: not running.incoming())


def test_a_disk_that_fills_up_while_an_object_arrives(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sonoseek.pacs.file_store.CHECK_BYTES", 100_000)
    running = start(listener="max_object_mb = 1")
    assert store(running.port, picture(side=1100)) == [0xA700]
    assert not running.received()
    wait_for(lambda: not running.incoming())
    assert store(running.port, picture(side=900)) == [0x0000]


def test_a_journal_that_cannot_be_written_is_no_acknowledgement(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start()

    def full(*_: object, **__: object) -> Receipt:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(running.journal, "receive", full)
    assert store(running.port, picture()) == [0xA700]


def test_what_is_no_ultrasound_is_acknowledged_and_not_kept(start: Start) -> None:
    running = start()
    sent = [picture(sop_class=CT, modality="CT"), picture(sop_class=SR, modality="SR"), picture(modality="XX")]
    private = picture(sop_class="1.3.46.670589.11.0.0.12.1")
    assert store(running.port, *sent, private) == [0, 0, 0, 0]
    assert not running.received()
    assert not stored_files(running.store.received)
    assert running.journal.counts()["discarded"] == 4


def test_the_journal_is_private_and_names_no_sender_s_file(start: Start) -> None:
    running = start()
    store(running.port, picture())
    running.audited("110104")
    for name in ("journal.sqlite", "audit.log"):
        assert stat.S_IMODE((running.config.state / name).stat().st_mode) == 0o600
    with sqlite3.connect(running.config.state / "journal.sqlite") as other:
        assert other.execute("SELECT count(*) FROM received").fetchone() == (1,)
    other.close()


def test_the_file_is_flushed_under_its_name_before_it_is_written_down(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    running = start()
    flushed: list[int] = []
    real_fsync, real_receive = os.fsync, running.journal.receive
    at_that_time: list[tuple[bool, bool]] = []

    def fsync(handle: int) -> None:
        flushed.append(os.fstat(handle).st_ino)
        real_fsync(handle)

    def receive(item: ReceivedObject, **named: float | str) -> Receipt:
        path = running.store.path(item.file)
        at_that_time.append((path.stat().st_ino in flushed, path.parent.stat().st_ino in flushed))
        return real_receive(item, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(running.journal, "receive", receive)
    assert store(running.port, picture()) == [0x0000]
    assert at_that_time == [(True, True)]  # the file, and the folder with its name
    assert running.journal.database.one("PRAGMA synchronous") == 2
    assert running.journal.database.one("PRAGMA journal_mode") == "wal"


def test_the_same_pictures_have_one_result_whatever_state_their_study_is_put_into(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    names = ("series_uid", "modality", "body_part", "patient_id", "patient_name", "accession", "study_date")
    item = ReceivedObject(
        **dict.fromkeys(names, "x"),
        sop_uid="1.2",
        sop_class=US,
        study_uid="1",
        sender="A",
        address="b",
        file="f",
        digest="d",
        size=1,
    )
    assert journal.receive(item, rule="r", quiet_s=0).outcome == "new"
    claim = journal.claim()
    assert claim is not None
    assert journal.claim() is None
    assert journal.finish(claim, [], Finding(malignant=0.5, sop_uid="1.2", frame=1))
    with journal.database.writing() as db:
        db.execute("UPDATE studies SET state = 'waiting', due = 0")
    assert journal.claim() is None
    assert [row.state for row in journal.studies()] == ["queried"]
    assert journal.receive(item, rule="r", quiet_s=0).outcome == "same"
    assert journal.next_due() is None
    journal.close()


def test_ipv6_and_ipv4_by_ipv6_are_distinguished(start: Start) -> None:
    import socket as sockets

    try:
        sockets.create_server(("::1", 0), family=sockets.AF_INET6).close()
    except OSError:
        pytest.skip("the system has no IPv6")
    running = start(listener='address = "::"', senders=(("US1", "127.0.0.1"), ("US2", "::1")))
    ae = AE("US2")
    ae.add_requested_context(US)
    with_ipv6 = ae.associate(("::1", 0, 0), running.port, ae_title="SONOSEEK")
    assert with_ipv6.is_established
    with_ipv6.release()
    with association(running.port) as by_ipv4:  # the system hands it over as ::ffff:127.0.0.1
        assert by_ipv4.is_established
    with association(running.port, title="US2") as other:
        assert other.is_rejected


def test_a_sender_that_hangs_in_the_middle_of_a_pdu_does_not_hold_up_the_end(start: Start) -> None:
    running = start()
    with association(running.port) as assoc, association(running.port) as idle:
        assert idle.is_established
        assoc.dul.socket.socket.sendall(b"\x04\x00\x00\x00\x10\x00half")
        time.sleep(0.1)
        began = time.monotonic()
        running.listener.stop()
        assert time.monotonic() - began < 2.0
        wait_for(lambda: not assoc.is_established and not idle.is_established)


def test_connections_are_bounded_in_every_state(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sonoseek.pacs.association_server.CONNECTIONS", 5)
    running = start()
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(association(running.port))
        with association(running.port) as sixth:
            assert not sixth.is_established
        running.audited("too many connections")
    wait_for(lambda: not running.listener._server._open)
    assert store(running.port, picture()) == [0x0000]
