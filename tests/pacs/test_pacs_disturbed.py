"""What disturbs a running service from outside: its clock, its audit trail, what a peer answers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from fake_archive import FakeArchive
from pacs_parts import Start, association, picture, store, stored_files, wait_for
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from sonoseek.pacs.service import Service
from sonoseek.pacs.waiting import Alarm


def _committed(service: Service, studies: int = 1) -> None:
    wait_for(lambda: service.journal.counts()["committed"] == studies)


def test_a_clock_that_is_set_back_holds_nothing_up(
    start: Start, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, shift = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    service = start(rule="quiet_seconds = 1")
    store(service.listener.port, picture())
    shift[0] = -3600.0
    _committed(service)
    archive.stop()
    store(service.listener.port, picture())
    wait_for(lambda: service.journal.counts()["queried"] == 1)
    shift[0] = -7200.0
    archive.start()
    _committed(service, 2)


def test_what_a_killed_process_left_is_removed_at_the_start(start: Start) -> None:
    service = start()
    store(service.listener.port, picture())
    _committed(service)
    kept = set(stored_files(service.config.state / "received") + stored_files(service.config.state / "outbox"))
    service.stop()
    for stray in ("incoming/half.part", f"received/ab/{'ab' * 32}.dcm", f"outbox/{'cd' * 32}.dcm"):
        path = service.config.state / stray
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    new = service.config.state / "outbox" / f"{'ef' * 32}.dcm"  # of `pacs send`, which writes it down now
    new.write_bytes(b"x")
    again = start()
    folders = [again.config.state / name for name in ("incoming", "received", "outbox")]
    assert {path for folder in folders for path in stored_files(folder)} == kept | {new}


def test_a_sleep_has_an_end_whatever_is_asked_for() -> None:
    alarm = Alarm()
    alarm.stop()
    for until in (float("inf"), 1e300):
        alarm.wait(until=until)


def test_results_are_sent_while_the_audit_trail_cannot_be_written(start: Start) -> None:
    service = start()
    file = service.audit.file
    file.unlink()
    file.mkdir()
    store(service.listener.port, picture())
    _committed(service)
    with association(service.listener.port) as assoc:
        assert assoc.send_c_store(picture(uid="1.02")).Status == 0xC000
    file.rmdir()
    service.audit.refused("10.0.0.7", "", "why")
    text = file.read_text()
    assert "DICOM Instances Accessed" in text
    assert "breaks PS3.5 9.1" in text


@pytest.mark.parametrize(
    ("status", "state"), [(0xB000, "sent"), (0xB007, "sent"), (0x0111, "sent"), (0x0122, "failed"), (0xA700, "waiting")]
)
def test_what_a_peer_answers(start: Start, archive: FakeArchive, status: int, state: str) -> None:
    archive.status = status
    service = start(peer="attempts = 2\nretry_seconds = 0.05\nretry_limit_seconds = 0.1")
    store(service.listener.port, picture())
    tried = ("sent", "failed")
    wait_for(lambda: [each for each in service.journal.outbox.all() if each.state in tried or each.attempts > 3])
    wait_for(lambda: {each.state for each in service.journal.outbox.all()} == {state})


def test_a_peer_s_comment_forges_no_line(
    tmp_path: Path, archive: FakeArchive, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    archive.stop()

    def refuse(_: evt.Event) -> Dataset:
        answer = Dataset()
        answer.Status, answer.ErrorComment = 0xC001, "no\nERROR all is well\x07"
        return answer

    ae = AE(archive.title)
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.88.34")
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.7")
    server = ae.start_server(("127.0.0.1", archive.port), block=False, evt_handlers=[(evt.EVT_C_STORE, refuse)])
    assert server is not None
    service = start(peer="attempts = 1")
    store(service.listener.port, picture())
    wait_for(lambda: service.journal.counts()["failed"] == 1)
    server.shutdown()
    assert all(each.message.isprintable() for each in service.journal.outbox.all())
    said = [record.getMessage() for record in caplog.records if "0xC001" in record.getMessage()]
    assert said
    assert all(text.isprintable() for text in said)


def test_an_object_that_is_both_committed_and_failed_is_not_safe(start: Start, archive: FakeArchive) -> None:
    archive.silent = True
    service = start(peer="commitment = true\ncommitment_seconds = 100")
    store(service.listener.port, picture())
    wait_for(lambda: archive.commitments)
    rows = service.journal.outbox
    transaction = service.journal.database.one("SELECT transaction_uid FROM outbox")
    (first, second) = archive.commitments[0]
    assert rows.report("1.2.3", committed=[first], failed=[]) == 0
    assert rows.report(transaction, committed=["1.2.3.4"], failed=["1.2.3.5"]) == 0
    rows.report(transaction, committed=[first, second], failed=[first])
    assert {each.sop_uid: each.state for each in rows.all()} == {first: "waiting", second: "committed"}
