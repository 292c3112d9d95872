"""Every frame of a loop: predicted one by one, and the one with the highest likelihood of malignancy named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from web_client import BASE, ask, detail

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.core import Prediction, ScanReadError
from sonoseek.core.frames import sampled_frames
from sonoseek.engine import open_engine
from sonoseek.engine.frames import highest_frame, read_highest_frame


@pytest.fixture(scope="module")
def loop(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TIFF of four pages: a normal, a benign, a malignant phantom, and a page that is blank."""
    names = [next(p for p in sorted((archive / k).glob("*.png")) if "_mask" not in p.name) for k in KINDS]
    pages = [Image.open(path).convert("L").resize((320, 240)) for path in names]
    path = tmp_path_factory.mktemp("loop") / "loop.tif"
    pages[0].save(path, save_all=True, append_images=[*pages[1:], Image.new("L", (320, 240))])
    return path


KINDS = ("normal", "benign", "malignant")


@pytest.fixture(scope="module")
def client(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    app = create_app(open_engine(gallery, threads=1), WebSettings(state=tmp_path_factory.mktemp("state")))
    with TestClient(app, base_url=BASE) as opened:
        yield opened


def send(client: TestClient, path: Path) -> str:
    answer = client.post("/api/uploads", files={"file": (path.name, path.read_bytes())})
    return str(answer.json()[0]["upload_id"])


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


def test_each_frame_has_the_prediction_of_a_query_with_it(client: TestClient, loop: Path) -> None:
    upload = send(client, loop)
    answer = client.get(f"/api/uploads/{upload}/predictions")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *frames, (last, end) = events(answer.text)
    assert [name for name, _ in frames] == ["frame"] * 4
    assert last == "end"
    assert (end["frames"], end["of"]) == (4, 4)
    for _, each in frames[:3]:
        report = client.post("/api/query", data={"upload": upload, "frame": each["frame"], "k": 0}).json()
        assert each["malignant"] == pytest.approx(report["prediction"]["probabilities"]["malignant"], abs=1e-6)
        assert each["headline"]
    read = {each["frame"]: each for _, each in frames if each["refused"] is None and not each["out_of_distribution"]}
    assert end["highest"] == max(read, key=lambda frame: read[frame]["malignant"])


def test_a_scan_area_is_of_every_frame(client: TestClient, loop: Path) -> None:
    upload = send(client, loop)
    plain = client.get(f"/api/uploads/{upload}/predictions").text
    cut = client.get(f"/api/uploads/{upload}/predictions", params={"crop": "20,20,220,300"})
    assert events(cut.text) != events(plain)
    said = detail(client.get(f"/api/uploads/{upload}/predictions", params={"crop": "1,2"}), 422)
    assert "TOP,LEFT,BOTTOM,RIGHT" in said
    outside = events(client.get(f"/api/uploads/{upload}/predictions", params={"crop": "900,900,990,990"}).text)
    assert all(each["refused"] for name, each in outside if name == "frame")
    assert outside[-1][1]["highest"] is None


def test_an_unknown_file_and_a_deleted_one_have_none(client: TestClient, loop: Path) -> None:
    assert client.get(f"/api/uploads/{'0' * 64}/predictions").status_code == 404
    upload = send(client, loop)
    client.delete(f"/api/uploads/{upload}")
    assert client.get(f"/api/uploads/{upload}/predictions").status_code == 404


def test_a_single_picture_is_one_frame(client: TestClient, scan: Path) -> None:
    upload = ask(client, scan, k="0").headers["sonoseek-uploads"]
    (_, frame), (_, end) = events(client.get(f"/api/uploads/{upload}/predictions").text)
    assert (frame["frame"], end["highest"]) == (0, 0)


def test_the_command_line_queries_with_the_highest(run: Any, gallery: Path, loop: Path, scan: Path) -> None:
    report = json.loads(run("query", loop, "--gallery", gallery, "--frame", "highest", "--format", "json").stdout)
    each = [
        json.loads(run("query", loop, "--frame", number, "--format", "json", "-k", 0).stdout) for number in range(3)
    ]
    likelihoods = [one["prediction"]["probabilities"]["malignant"] for one in each]
    assert report["scan"]["frame"] == likelihoods.index(max(likelihoods))
    assert report["scan"]["frames"] == 4
    assert "`highest`" in run("query", loop, "--frame", "last", ok=False).stderr
    assert "one file" in run("query", loop, scan, "--frame", "highest", ok=False).stderr
    assert "frame" not in run("query", scan, "--frame", "highest").stdout.lower().split("likelihood")[0]


def test_long_loops_are_sampled_evenly() -> None:
    assert sampled_frames(5) == [0, 1, 2, 3, 4]
    assert sampled_frames(100, most=4) == [0, 33, 66, 99]
    assert sampled_frames(9, most=1) == [4]
    assert len(sampled_frames(100_000)) == 240


def predicted(malignant: float, ood_score: float) -> Prediction:
    probabilities = {"normal": 0.0, "benign": 1 - malignant, "malignant": malignant}
    return Prediction(probabilities=probabilities, label=None, prediction_set=(), entropy=0.0, ood_score=ood_score)


def test_frames_out_of_distribution_come_last() -> None:
    assert highest_frame([]) is None
    assert highest_frame([(0, predicted(0.9, 1.5)), (3, predicted(0.2, 0.5)), (4, predicted(0.2, 0.5))]) == 3
    assert highest_frame([(0, predicted(0.2, 1.5)), (1, predicted(0.9, 1.5))]) == 1


def test_a_file_without_a_readable_frame_is_refused_as_it_is_read(gallery: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with open_engine(gallery, threads=1) as engine, pytest.raises(ScanReadError, match=r"bad\.png"):
        read_highest_frame(engine, bad)
