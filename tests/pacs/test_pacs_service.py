"""The whole loop in one process: received, queried, sent, committed; and what goes wrong on the way."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from fake_archive import FakeArchive
from pacs_parts import (
    COMMIT,
    SR,
    FakeEngine,
    Start,
    comments,
    fake_render,
    fake_tools,
    free_port,
    picture,
    save,
    store,
    stored_files,
    wait_for,
)
from pydicom import dcmread
from pydicom.uid import generate_uid

from sonoseek.core import ScanReadError, SonoseekError, TemporaryError
from sonoseek.io import read_scan
from sonoseek.pacs.service import Service, wake_service


def states(service: Service) -> list[str]:
    return [row.state for row in service.journal.studies()]


def test_a_study_is_queried_when_it_is_quiet_and_its_results_are_committed(
    start: Start, archive: FakeArchive, tmp_path: Path
) -> None:
    service = start(rule="quiet_seconds = 0.3")
    service.worker._tools.frame_count(save(picture(), tmp_path / "first.dcm"))  # the process that reads files runs now
    study = generate_uid()
    low, high = picture(study=study, grey=40), picture(study=study, grey=200)
    store(service.listener.port, low)
    store(service.listener.port, high)
    quiet_at = time.monotonic() + 0.3
    wait_for(lambda: states(service) == ["committed"])
    took = time.monotonic() - quiet_at
    assert len(archive.stored) == 2
    (row,) = service.journal.studies()
    assert row.finding is not None
    assert row.finding.sop_uid == high.SOPInstanceUID
    assert row.finding.malignant == pytest.approx(200 / 255)
    (sr,) = [uid for uid in archive.stored if archive.classes[uid] == SR]
    assert took < 3.0
    assert sorted(archive.comments[sr].split()) == [f"1:{40 / 255:.4f}", f"1:{200 / 255:.4f}"]


def test_a_study_that_is_stable_three_times_has_one_result(start: Start, archive: FakeArchive) -> None:
    service = start()
    sent = picture()
    store(service.listener.port, sent)
    wait_for(lambda: states(service) == ["committed"])
    own = [dcmread(path) for path in stored_files(service.store.outbox)]
    assert store(service.listener.port, *own) == [0, 0]  # its results come back
    assert store(service.listener.port, sent) == [0]  # and it is sent again
    time.sleep(0.6)
    store(service.listener.port, sent, *own)
    time.sleep(0.6)
    assert states(service) == ["committed"]
    assert len(archive.stored) == 2
    assert service.journal.database.one("SELECT count(*) FROM done") == 1


def test_a_further_picture_makes_a_further_result(start: Start, archive: FakeArchive) -> None:
    service = start()
    study = generate_uid()
    store(service.listener.port, picture(study=study))
    wait_for(lambda: states(service) == ["committed"])
    store(service.listener.port, picture(study=study))
    wait_for(lambda: len(set(archive.stored)) == 4)
    wait_for(lambda: states(service) == ["committed"])


def test_a_picture_that_comes_during_the_query_is_part_of_the_result(start: Start, archive: FakeArchive) -> None:
    service = start(tools=fake_tools(FakeEngine(delay_s=0.6)))
    study = generate_uid()
    store(service.listener.port, picture(study=study, grey=10))
    wait_for(lambda: states(service) == ["querying"])
    store(service.listener.port, picture(study=study, grey=20))
    wait_for(lambda: states(service) == ["committed"])
    assert len(set(archive.stored)) == 2
    assert all(len(text.split()) == 2 for text in archive.comments.values())


def test_the_frame_with_the_highest_likelihood_is_queried(start: Start) -> None:
    engine = FakeEngine()
    service = start(tools=fake_tools(engine), rule="quiet_seconds = 0.1\nmax_frames = 3")
    store(service.listener.port, picture(frames=9, sop_class="1.2.840.10008.5.1.4.1.1.3.1"))
    wait_for(lambda: states(service) == ["committed"])
    assert engine.read_frames == [0, 4, 8]
    (row,) = service.journal.studies()
    assert row.finding is not None
    assert row.finding.frame == 9


def test_a_damaged_frame_leaves_the_others_and_one_out_of_distribution_counts_only_alone(start: Start) -> None:
    def damaged(path: Path, *, frame: int = 0) -> Any:
        if frame in (0, 2):
            raise ScanReadError(f"{path}: frame {frame} is damaged; fetch it again.")
        return read_scan(path, frame=frame)

    service = start(tools=fake_tools(read_scan=damaged), rule="quiet_seconds = 0.1")
    store(service.listener.port, picture(frames=6, grey=224, sop_class="1.2.840.10008.5.1.4.1.1.3.1"))
    wait_for(lambda: states(service) == ["committed"])
    (row,) = service.journal.studies()  # those of a grey above 229.5 are out of distribution to the fast engine
    assert row.finding is not None
    assert row.finding.frame == 2
    assert "or not every frame: frame 0 is damaged" in row.message


@pytest.mark.parametrize(("choice", "asked"), [("first", [0]), ("middle", [2]), ("every", [0, 1, 2, 3, 4])])
def test_frames_are_chosen_by_the_rule(start: Start, choice: str, asked: list[int]) -> None:
    engine = FakeEngine()
    service = start(tools=fake_tools(engine), rule=f'quiet_seconds = 0.1\nframes = "{choice}"')
    store(service.listener.port, picture(frames=5, sop_class="1.2.840.10008.5.1.4.1.1.3.1"))
    wait_for(lambda: states(service) == ["committed"])
    assert engine.read_frames == asked


def test_a_failing_query_is_tried_as_often_as_the_rule_says(start: Start, tmp_path: Path) -> None:
    tries: list[int] = []

    def fails() -> FakeEngine:
        tries.append(1)
        raise SonoseekError("the bundle is damaged; fetch it again.")

    service = start(tools=fake_tools(open_engine=fails), rule="quiet_seconds = 0\nattempts = 2\nretry_seconds = 0.1")
    store(service.listener.port, picture())
    wait_for(lambda: states(service) == ["failed"])
    assert len(tries) == 2
    assert service.journal.studies()[0].message == "SonoseekError: the bundle is damaged; fetch it again."


def test_an_error_of_ours_ends_one_study_and_not_the_thread(start: Start, archive: FakeArchive) -> None:
    def render(report: Any, source: Any, **named: Any) -> Any:
        if source.patient_id == "BAD":
            raise ZeroDivisionError
        return fake_render(report, source, **named)

    service = start(tools=fake_tools(render=render), rule="quiet_seconds = 0\nattempts = 1")
    store(service.listener.port, picture(patient="BAD"))
    wait_for(lambda: states(service) == ["failed"])
    store(service.listener.port, picture(patient="GOOD"))
    wait_for(lambda: sorted(states(service)) == ["committed", "failed"])


def test_what_cannot_be_read_is_named_and_the_rest_is_queried(start: Start) -> None:
    def damaged(path: Path, *, frame: int = 0) -> Any:
        scan = read_scan(path, frame=frame)
        if scan.pixels.mean() < 50:
            raise ScanReadError(f"{path}: the pixel data ends early; fetch it again.")
        return scan

    service = start(tools=fake_tools(read_scan=damaged), rule="quiet_seconds = 0.3\nattempts = 1")
    study = generate_uid()
    store(service.listener.port, picture(study=study, grey=10), picture(study=study, grey=90))
    wait_for(lambda: states(service) == ["committed"])
    assert service.journal.studies()[0].message.startswith(
        "1 of 2 pictures could not be read, or not every frame: the pixel"
    )
    store(service.listener.port, picture(grey=10))
    wait_for(lambda: "failed" in states(service))


def test_results_wait_while_the_archive_is_away(start: Start, archive: FakeArchive) -> None:
    archive.stop()
    service = start()
    store(service.listener.port, picture())
    wait_for(lambda: states(service) == ["queried"])
    wait_for(lambda: any(parcel.attempts > 2 for parcel in service.journal.outbox.all()))
    archive.start()
    wait_for(lambda: states(service) == ["committed"])
    assert len(archive.stored) == 2


def test_a_failed_commitment_sends_that_object_once_more_then_raises_an_alarm(
    start: Start, archive: FakeArchive
) -> None:
    archive.fails = {SR}
    service = start()
    store(service.listener.port, picture())
    wait_for(lambda: states(service) == ["alarm"])
    assert len(archive.stored) == 3
    (sr,) = {uid for uid in archive.stored if archive.classes[uid] == SR}
    assert archive.stored.count(sr) == 2
    assert archive.commitments[-1] == [sr]
    assert service.journal.outbox.counts() == {"waiting": 0, "sent": 0, "committed": 1, "failed": 0, "alarm": 1}
    wait_for(lambda: "the peer reports a failure" in service.audit.file.read_text())
    time.sleep(0.5)
    assert len(archive.stored) == 3
    archive.fails = set()
    assert service.journal.retry() == 1
    assert wake_service(service.config.state)
    wait_for(lambda: states(service) == ["committed"])


def test_an_unanswered_commitment_is_asked_again_then_an_alarm(start: Start, archive: FakeArchive) -> None:
    archive.silent = True
    service = start(peer=f"{COMMIT}\ncommitment_seconds = 0.2")
    store(service.listener.port, picture())
    wait_for(lambda: states(service) == ["alarm"])
    assert len(archive.stored) == 2
    assert len(archive.commitments) == 3


def test_a_refused_object_fails_after_the_stated_attempts(start: Start, archive: FakeArchive) -> None:
    archive.status = 0xC000
    service = start(peer=f"{COMMIT}\nattempts = 2", rule='quiet_seconds = 0\nresults = ["sr"]')
    store(service.listener.port, picture())
    wait_for(lambda: states(service) == ["failed"])
    assert "refuses it with 0xC000" in service.journal.studies()[0].message


def test_a_second_process_and_a_newer_journal_are_refused(start: Start, tmp_path: Path) -> None:
    service = start()
    with pytest.raises(TemporaryError, match="another process uses this state folder"):
        Service(service.config, tools=fake_tools())
    service.stop()
    import sqlite3

    with sqlite3.connect(service.config.state / "journal.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SonoseekError, match="version 99"):
        Service(service.config, tools=fake_tools())


def test_a_port_in_use_gives_the_folder_back(start: Start, tmp_path: Path, archive: FakeArchive) -> None:
    with pytest.raises(OSError, match="in use"):
        start(port=archive.port)
    start(port=free_port())


def test_old_files_go_and_their_rows_stay(start: Start) -> None:
    service = start(listener="keep_days = 0.00002")
    sent = picture()
    store(service.listener.port, sent)
    wait_for(lambda: states(service) == ["committed"])
    wait_for(lambda: not stored_files(service.store.received))
    wait_for(lambda: not stored_files(service.store.outbox))
    assert service.journal.counts()["received"] == 1
    store(service.listener.port, sent)
    time.sleep(0.5)
    assert states(service) == ["committed"]


def test_results_follow_from_the_study(start: Start, archive: FakeArchive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    service = start()
    store(service.listener.port, picture())
    wait_for(lambda: states(service) == ["committed"])
    for path in stored_files(service.store.outbox):
        assert comments(path)
    assert not caplog.records


def test_settings_that_change_leave_nothing_behind_for_ever(start: Start, archive: FakeArchive, tmp_path: Path) -> None:
    archive.silent = True
    service = start(peer=f"{COMMIT}\ncommitment_seconds = 600")
    store(service.listener.port, picture())
    wait_for(lambda: states(service) == ["sent"])
    service.stop()
    again = start(peer="")  # no commitment any more
    assert states(again) == ["sent"]
    assert again.journal.outbox.next_due("archive") is None
    archive.stop()
    store(again.listener.port, picture())
    wait_for(lambda: sorted(states(again)) == ["queried", "sent"])
    again.stop()
    archive.title = "OTHER"
    last = start(peer="")
    assert sorted(states(last)) == ["failed", "sent"]
    assert "no peer 'archive' any more" in last.journal.studies()[0].message


def test_a_peer_without_an_address_and_a_damaged_result(start: Start, archive: FakeArchive) -> None:
    service = start(peer="retry_seconds = 0.1\nretry_limit_seconds = 0.1\nattempts = 1", rule="quiet_seconds = 0.1")
    sender = service.senders[0]
    settings = sender._peer
    import msgspec

    sender._peer = msgspec.structs.replace(settings, host="no-such-host.invalid")
    store(service.listener.port, picture())
    wait_for(lambda: any("no association with no-such" in each.message for each in service.journal.outbox.all()))
    first, second = service.journal.outbox.all()
    (service.store.outbox / first.file).write_bytes(b"damaged")
    sender._peer = settings
    wait_for(lambda: service.journal.outbox.counts()["sent"] == 1)
    wait_for(lambda: service.journal.outbox.counts()["failed"] == 1)
    assert archive.stored == [second.sop_uid]


def test_a_disk_that_is_full_during_a_query_is_got_over(
    start: Start, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start()
    real_finish, real_fail, real_wait = service.journal.finish, service.journal.fail, service.worker.alarm.wait

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service.journal, "finish", full)
    monkeypatch.setattr(service.journal, "fail", full)
    waits: list[float] = []

    def wait(*, until: float | None) -> None:
        if until is not None and until > time.time() + 50:
            waits.append(until)
            monkeypatch.setattr(service.journal, "finish", real_finish)
            monkeypatch.setattr(service.journal, "fail", real_fail)
            return
        real_wait(until=until)

    monkeypatch.setattr(service.worker.alarm, "wait", wait)
    store(service.listener.port, picture())
    wait_for(lambda: states(service) == ["committed"])
    assert waits
    assert len(archive.stored) == 2


def test_an_answer_that_came_while_nobody_listened_is_asked_for_again(start: Start, archive: FakeArchive) -> None:
    archive.silent = True
    for _ in range(4):  # more often than a peer may leave a request unanswered
        service = start(peer=f"{COMMIT}\ncommitment_seconds = 600")
        if not archive.stored:
            store(service.listener.port, picture())
        asked = len(archive.commitments)
        wait_for(lambda asked=asked: len(archive.commitments) > asked or len(archive.stored) == 2)
        wait_for(lambda service=service: states(service) == ["sent"])
        service.stop()
    archive.silent = False
    service = start(peer=f"{COMMIT}\ncommitment_seconds = 600")
    wait_for(lambda: states(service) == ["committed"])
    assert len(archive.stored) == 2
