"""The audit trail: one message a line, of the form of PS3.15 A.5."""

from __future__ import annotations

import stat
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest
from pacs_parts import US

from sonoseek.pacs import audit
from sonoseek.pacs.audit import AuditTrail, StudyOf


def messages(trail: AuditTrail) -> list[ET.Element]:
    return [ET.fromstring(line) for line in trail.file.read_text("utf-8").splitlines()]  # noqa: S314  # ours


def test_each_event_has_who_what_and_of_whom(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "log" / "audit.log", ae_title="SONOSEEK")
    study = StudyOf(study_uid="1.2.3", patient_id="Müller 7", classes=Counter({US: 3}))
    trail.started()
    trail.received("US1", "10.0.0.7", study)
    trail.queried(study)
    trail.sent("ARCHIVE", "pacs.example", study, failed=True)
    trail.alarm(study, "archive: the peer did not answer in time")
    trail.stopped()
    assert stat.S_IMODE(trail.file.stat().st_mode) == 0o600
    made = messages(trail)
    assert [each.find("EventIdentification/EventID").get("csd-code") for each in made] == [  # type: ignore[union-attr]
        *("110100", "110104", "110103", "110104", "110113", "110100"),
    ]
    assert [each.find("EventIdentification").get("EventOutcomeIndicator") for each in made] == list("000440")  # type: ignore[union-attr]
    received = made[1]
    sender, own = received.findall("ActiveParticipant")
    assert (sender.get("UserID"), sender.get("NetworkAccessPointID"), sender.get("UserIsRequestor")) == (
        *("US1", "10.0.0.7", "true"),
    )
    assert sender.get("NetworkAccessPointTypeCode") == "2"
    assert own.get("UserID") == "SONOSEEK"
    about = {
        each.get("ParticipantObjectTypeCode"): each for each in received.findall("ParticipantObjectIdentification")
    }
    assert about["2"].get("ParticipantObjectID") == "1.2.3"
    assert about["1"].get("ParticipantObjectID") == "Müller 7"
    (counted,) = about["2"].findall("ParticipantObjectDescription/SOPClass")
    assert (counted.get("UID"), counted.get("NumberOfInstances")) == (US, "3")
    for each in made:  # what A.5.1 asks of every message
        assert each.find("EventIdentification").get("EventDateTime")  # type: ignore[union-attr]
        assert each.find("AuditSourceIdentification").get("AuditSourceID") == "SONOSEEK"  # type: ignore[union-attr]
        assert each.findall("ActiveParticipant/RoleIDCode")


def test_a_decision_names_who_signed_in_and_whom_the_report_names(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit.log", ae_title="SONOSEEK")
    study = StudyOf(study_uid="1.2.3", patient_id="7", classes=Counter({US: 1}))
    trail.decided('Marie"\n<x/>', "mcurie", study)
    (made,) = messages(trail)
    person = made.findall("ActiveParticipant")[0]
    assert (person.get("UserID"), person.get("UserName"), person.get("UserIsRequestor")) == (
        *("mcurie", 'Marie"<x/>', "true"),
    )
    assert made.find("EventIdentification").get("EventActionCode") == "U"  # type: ignore[union-attr]


def test_a_sender_cannot_forge_a_line(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit.log", ae_title="SONOSEEK")
    trail.refused("10.0.0.7", 'A\n<AuditMessage/>"\x00\x1b[0m', "why")
    assert len(messages(trail)) == 1


def test_a_flood_of_refusals_is_counted_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(audit.time, "monotonic", lambda: clock[0])
    trail = AuditTrail(tmp_path / "audit.log", ae_title="SONOSEEK")
    for _ in range(5000):
        trail.refused("10.0.0.7", "", "address not allowed")
    assert len(messages(trail)) == 1
    clock[0] += 61
    trail.refused("10.0.0.7", "", "address not allowed")
    assert "4999 more since the last message" in trail.file.read_text()
    monkeypatch.setattr(audit, "MOST_REFUSED", 8)
    for number in range(30):
        trail.refused(f"10.0.1.{number}", "", "address not allowed")
    assert len(trail._refused) == 8


def test_the_file_may_be_rotated(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit.log", ae_title="SONOSEEK")
    trail.started()
    trail.file.rename(tmp_path / "audit.log.1")
    trail.stopped()
    assert len(messages(trail)) == 1


def test_messages_wait_while_the_file_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trail = AuditTrail(tmp_path / "audit.log", ae_title="SONOSEEK")
    trail.started()
    trail.file.rename(tmp_path / "away")
    trail.file.mkdir()
    for number in range(3):
        trail.refused(f"10.0.0.{number}", "EVIL", "why")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "not written" in caplog.text
    trail.file.rmdir()
    trail.stopped()
    assert len(messages(trail)) == 4
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    with pytest.raises(IsADirectoryError):
        AuditTrail(blocked, ae_title="SONOSEEK")


def test_half_a_message_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = AuditTrail(tmp_path / "audit.log", ae_title="SONOSEEK")
    whole = audit.os.write
    monkeypatch.setattr(audit.os, "write", lambda handle, line: whole(handle, line[:20]))
    trail.started()
    assert trail.file.read_bytes() == b""
    monkeypatch.setattr(audit.os, "write", whole)
    trail.stopped()
    assert len(messages(trail)) == 2
