"""The worklist: studies that a listener received, opened as scans; a decision becomes a verified report."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from web_client import BASE, detail

pytest.importorskip("pynetdicom")
from pydicom import dcmread
from worklist_parts import BEFORE, NOW, OTHER, FakeArchive, received, wait_for

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.engine import open_engine
from sonoseek.pacs.service import Service

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@dataclass
class Hospital:
    """A listener with three studies, its archive, and the reading room on them."""

    client: TestClient
    archive: FakeArchive
    state: Path
    service: Service


@pytest.fixture(scope="module")
def hospital(archive: Path, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    with received(folder, archive, gallery) as (settings, store_of, service):
        app = create_app(open_engine(gallery, threads=1), WebSettings(state=folder / "serve", pacs=settings))
        with TestClient(app, base_url=BASE) as client:
            yield Hospital(client=client, archive=store_of, state=folder / "state", service=service)


def test_studies_with_their_state_and_the_frame_of_the_result(hospital: Hospital) -> None:
    page = hospital.client.get("/api/worklist").json()
    studies = {each["study_uid"]: each for each in page["studies"]}
    assert set(studies) == {NOW, BEFORE, OTHER}
    now = studies[NOW]
    assert (now["patient_name"], now["patient_id"], now["accession"]) == ("Curie, Marie", "7", "A1")
    assert (now["state"], now["pictures"], now["frame"], now["decision"]) == ("sent", 2, 0, None)
    entry = hospital.client.get(f"/api/worklist/{NOW}").json()
    assert entry["available"] == [True, True]
    assert [each["study_uid"] for each in entry["priors"]] == [BEFORE]
    assert hospital.client.get(f"/api/worklist/{OTHER}").json()["priors"] == []
    assert hospital.client.get("/api/about").json()["worklist"] is True


def test_the_picture_of_the_result_opens_and_gives_its_likelihood(hospital: Hospital) -> None:
    client = hospital.client
    study = client.get(f"/api/worklist/{NOW}").json()["study"]
    opened = client.post(f"/api/worklist/{NOW}/pictures/{study['picture']}/open").json()
    assert "Curie" not in opened["name"]
    report = client.post("/api/query", data={"upload": opened["upload_id"], "k": 0}).json()
    assert report["prediction"]["probabilities"]["malignant"] == pytest.approx(study["malignant"], abs=1e-6)
    other = client.post(f"/api/worklist/{NOW}/pictures/{1 - study['picture']}/open").json()["upload_id"]
    less = client.post("/api/query", data={"upload": other, "k": 0}).json()["prediction"]["probabilities"]["malignant"]
    assert less <= study["malignant"]
    drawn = client.get(f"/api/worklist/{NOW}/pictures/0", params={"size": 64, "form": "png"})
    assert Image.open(io.BytesIO(drawn.content)).size == (64, 48)


def test_a_decision_is_sent_as_a_verified_report_of_the_former_one(hospital: Hospital) -> None:
    client, stored = hospital.client, hospital.archive.stored
    former = {str(parcel.study_uid): parcel.sop_uid for parcel in hospital.service.journal.outbox.all()}[NOW]
    before = len(stored)
    made = client.post(f"/api/worklist/{NOW}/decision", json={"reader": "Wilhelm Röntgen", "corrected": "benign"})
    assert made.status_code == 200, made.text
    assert (made.json()["reader"], made.json()["corrected"]) == ("Wilhelm Röntgen", "benign")
    wait_for(lambda: len(stored) == before + 1, seconds=20)
    (parcel,) = [each for each in hospital.service.journal.outbox.all() if each.sop_uid == stored[-1]]
    report = dcmread(hospital.state / "outbox" / parcel.file)
    assert report.VerificationFlag == "VERIFIED"
    observer = report.VerifyingObserverSequence[0]
    assert (str(observer.VerifyingObserverName), observer.VerifyingOrganization) == ("Röntgen^Wilhelm", "City Hospital")
    replaced = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert replaced.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == former
    (sent,) = [each for each in hospital.service.journal.outbox.all() if each.sop_uid == former]
    series = dcmread(hospital.state / "outbox" / sent.file, stop_before_pixels=True).SeriesInstanceUID
    assert replaced.SeriesInstanceUID == series
    study = client.get(f"/api/worklist/{NOW}").json()["study"]
    assert study["decision"]["corrected"] == "benign"
    (written,) = [line for line in (hospital.state / "audit.log").read_text("utf-8").splitlines() if "UserName" in line]
    assert 'UserID="Wilhelm Röntgen" UserName="Wilhelm Röntgen"' in written
    assert f'ParticipantObjectID="{NOW}"' in written
    accepted = client.post(f"/api/worklist/{NOW}/decision", json={"reader": "Curie"}).json()
    assert accepted["corrected"] is None
    wait_for(lambda: len(stored) == before + 2, seconds=20)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/worklist/1.9.9", 404, "no study"),
        (f"/api/worklist/{NOW}/pictures/7", 404, "has 2"),
        ("/api/worklist/..%2f..%2fetc", 404, ""),
        ("/api/worklist/1.2;DROP/pictures/0", 422, ""),
    ],
)
def test_what_is_not_there(hospital: Hospital, path: str, status: int, words: str) -> None:
    answer = hospital.client.get(path)
    assert answer.status_code == status
    assert words in answer.text


def test_no_browser_keeps_any_of_it(hospital: Hospital) -> None:
    for path in ("", f"/{NOW}", f"/{NOW}/pictures/0", "/1.9.9"):
        assert hospital.client.get(f"/api/worklist{path}").headers["cache-control"] == "no-store"


def test_a_decision_that_is_none(hospital: Hospital) -> None:
    address = f"/api/worklist/{OTHER}/decision"
    for body in (
        {"reader": "   "},
        {"reader": "a\\b"},
        {"reader": "Curie", "corrected": "cyst"},
        {"reader": "C", "x": 1},
    ):
        assert hospital.client.post(address, json=body).status_code == 422
    assert hospital.client.get(f"/api/worklist/{OTHER}").json()["study"]["decision"] is None


@pytest.mark.parametrize(
    "reader", ["^^", "a^b^c^d^e^f", "Cu\u202erie Marie", "Curie\u2028Marie", "Curie\x7f Marie", 64 * "A", "1 2", "a=b"]
)
def test_a_name_that_dicom_cannot_hold_is_refused(hospital: Hospital, reader: str) -> None:
    said = detail(hospital.client.post(f"/api/worklist/{OTHER}/decision", json={"reader": reader}), 422)
    assert "reader" in said
    assert hospital.client.get(f"/api/worklist/{OTHER}").json()["study"]["decision"] is None


def test_decisions_of_one_second_are_several_reports_and_follow_one_another(hospital: Hospital) -> None:
    def decide(body: dict[str, str]) -> object:
        return hospital.client.post(f"/api/worklist/{BEFORE}/decision", json=body).json()["corrected"]

    def reports() -> list[str]:
        return [each.sop_uid for each in hospital.service.journal.outbox.all() if each.study_uid == BEFORE]

    bodies = [{"reader": "Marie Curie"}, {"reader": "Marie Curie", "corrected": "benign"}, {"reader": "Lise Meitner"}]
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(decide, bodies)) == {None, "benign"}
    made = reports()
    assert len(set(made)) == len(made) == 4
    for former, sop_uid in pairwise(made):
        (parcel,) = [each for each in hospital.service.journal.outbox.all() if each.sop_uid == sop_uid]
        report = dcmread(hospital.state / "outbox" / parcel.file)
        (replaced,) = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
        assert replaced.ReferencedSOPInstanceUID == former
    last = hospital.client.get(f"/api/worklist/{BEFORE}").json()["study"]["decision"]
    again = {"reader": last["reader"]} | ({"corrected": last["corrected"]} if last["corrected"] else {})
    assert decide(again) == last["corrected"]
    assert reports() == made  # a second click is no second report


def test_an_error_names_no_folder_of_the_server(hospital: Hospital) -> None:
    said = detail(hospital.client.get(f"/api/worklist/{NOW}/pictures/0", params={"frame": 7}), 422)
    assert "frame is 7" in said
    assert str(hospital.state) not in said


def test_a_result_of_former_pictures_is_not_decided_on(hospital: Hospital) -> None:
    database = hospital.service.journal.database
    for state in ("failed", "waiting", "querying"):
        with database.writing() as db:
            db.execute("UPDATE studies SET state = ?, due = 1e12 WHERE study_uid = ?", (state, OTHER))
        said = detail(hospital.client.post(f"/api/worklist/{OTHER}/decision", json={"reader": "Curie"}), 422)
        assert f"the study is {state}" in said
    with database.writing() as db:
        db.execute("UPDATE studies SET state = 'queried', rule = 'gone' WHERE study_uid = ?", (OTHER,))
    said = detail(hospital.client.post(f"/api/worklist/{OTHER}/decision", json={"reader": "Curie"}), 422)
    assert "rule 'gone'" in said
    with database.writing() as db:
        db.execute("UPDATE studies SET rule = 'breast' WHERE study_uid = ?", (OTHER,))


def test_a_study_without_a_report_gets_a_verified_one_of_no_former_one(hospital: Hospital) -> None:
    database = hospital.service.journal.database
    with database.writing() as db:
        db.execute("DELETE FROM outbox WHERE study_uid = ?", (OTHER,))
    assert hospital.client.post(f"/api/worklist/{OTHER}/decision", json={"reader": "Lise Meitner"}).status_code == 200
    (parcel,) = [each for each in hospital.service.journal.outbox.all() if each.study_uid == OTHER]
    report = dcmread(hospital.state / "outbox" / parcel.file)
    assert report.VerificationFlag == "VERIFIED"
    assert "PredecessorDocumentsSequence" not in report


def test_a_picture_that_was_removed_says_so(hospital: Hospital) -> None:
    removed, _ = hospital.service.journal.expire(0.0)
    hospital.service.store.remove(removed, [])
    said = detail(hospital.client.post(f"/api/worklist/{OTHER}/pictures/0/open"), 404)
    assert "keep_days" in said
    said = detail(hospital.client.post(f"/api/worklist/{OTHER}/decision", json={"reader": "Curie"}), 422)
    assert "send the study again" in said
    assert hospital.client.get(f"/api/worklist/{OTHER}").json()["available"] == [False]


def test_a_server_without_a_listener_has_none(gallery: Path, tmp_path: Path) -> None:
    app = create_app(open_engine(gallery, threads=1), WebSettings(state=tmp_path))
    with TestClient(app, base_url=BASE) as client:
        assert client.get("/api/about").json()["worklist"] is False
        assert "--pacs" in detail(client.get("/api/worklist"), 404)
