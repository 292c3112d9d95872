"""Objects that contradict each other: one UID with two contents or in two studies, one study of two patients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pacs_parts import FakeEngine, fake_tools, picture, store, stored_files, wait_for, write_settings
from pydicom import dcmread
from pydicom.uid import generate_uid

from sonoseek.pacs.journal import StudyRow
from sonoseek.pacs.rules import load_config
from sonoseek.pacs.service import Service

Start = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Service] = []

    def begin(*, engine: FakeEngine | None = None, **settings: Any) -> Service:
        running.append(Service(load_config(write_settings(tmp_path, **settings)), tools=fake_tools(engine)))
        return running[-1]

    yield begin
    for each in running:
        each.stop()


def _study(service: Service, uid: str) -> StudyRow:
    found = service.journal.study(uid)
    assert found is not None
    return found


def _queried(service: Service, uid: str) -> StudyRow:
    wait_for(lambda: _study(service, uid).finding is not None)
    return _study(service, uid)


def _greys(service: Service) -> list[int]:
    return sorted(int(dcmread(path).pixel_array[0, 0]) for path in stored_files(service.store.received))


def test_a_picture_that_has_a_result_is_not_exchanged_under_it(start: Start) -> None:
    service = start()
    port, study, uid = service.listener.port, generate_uid(), generate_uid()
    assert store(port, picture(study=study, uid=uid, grey=50)) == [0x0000]
    before = _queried(service, study)
    assert store(port, picture(study=study, uid=uid, grey=200)) == [0x0000]
    after = _study(service, study)
    assert _greys(service) == [50]
    assert after.finding == before.finding
    assert "1 pictures came again with other content" in after.message


def test_the_later_content_counts_while_there_is_no_result(start: Start) -> None:
    service = start(rule="quiet_seconds = 0.6")
    port, study, uid = service.listener.port, generate_uid(), generate_uid()
    assert store(port, *(picture(study=study, uid=uid, grey=grey) for grey in (50, 100))) == [0x0000] * 2
    finding = _queried(service, study).finding
    assert finding is not None
    assert finding.malignant == pytest.approx(100 / 255)
    assert _greys(service) == [100]
    assert _study(service, study).message == ""


def test_a_picture_does_not_move_into_another_study(start: Start) -> None:
    service = start()
    port, study, other, uid = service.listener.port, generate_uid(), generate_uid(), generate_uid()
    assert store(port, picture(study=study, uid=uid, grey=50)) == [0x0000]
    assert store(port, picture(study=other, uid=uid, grey=200, patient="OTHER")) == [0xA900]
    assert service.journal.study(other) is None
    assert _queried(service, study).objects == 1
    assert _greys(service) == [50]
    assert "object of another study" in service.audit.file.read_text()


def test_one_instance_in_parallel_associations_is_one_file_and_one_result(start: Start) -> None:
    service = start(rule="quiet_seconds = 1")
    study, uid = generate_uid(), generate_uid()
    sent = [picture(study=study, uid=uid, grey=grey) for grey in (10, 20, 30, 40, 50, 60)]
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda each=each: found.extend(store(service.listener.port, each))) for each in sent
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [0x0000] * len(sent)
    finding = _queried(service, study).finding
    assert finding is not None
    (grey,) = _greys(service)
    assert finding.malignant == pytest.approx(grey / 255)


def test_a_study_of_two_patients_has_no_result_until_it_is_corrected(start: Start) -> None:
    service = start()
    port, study = service.listener.port, generate_uid()
    uids = [generate_uid(), generate_uid()]
    store(port, picture(study=study, uid=uids[0], patient="7"), picture(study=study, uid=uids[1], patient="8"))
    wait_for(lambda: _study(service, study).state == "failed")
    assert "several patients" in _study(service, study).message
    assert not service.journal.outbox.all()
    store(port, picture(study=study, uid=uids[1], patient="7"))
    assert _queried(service, study).patient_id == "7"


def test_the_patient_of_a_study_is_the_one_of_its_files(start: Start) -> None:
    service = start(rule="quiet_seconds = 0.6")
    port, study, uid = service.listener.port, generate_uid(), generate_uid()
    store(port, picture(study=study, uid=uid, patient="wrong"), picture(study=study, uid=uid, patient="7"))
    assert _queried(service, study).patient_id == "7"


def test_a_removed_picture_that_is_sent_again_stays(start: Start) -> None:
    service = start()
    port, sent = service.listener.port, picture()
    store(port, sent)
    _queried(service, sent.StudyInstanceUID)
    service.store.remove(*service.journal.expire(0.0))
    with service.journal.database.writing() as db:
        db.execute("UPDATE studies SET received = received - 86400 * 15")
    assert not _greys(service)
    store(port, sent)
    service.worker.wake()
    expiry = service.journal.next_expiry(14 * 86400)
    assert expiry is not None
    assert expiry > _study(service, sent.StudyInstanceUID).received
    assert _greys(service) == [100]
