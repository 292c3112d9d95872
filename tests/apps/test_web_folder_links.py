"""Links below `--folders`: what leads out of a job's folder is refused, whatever the job does with it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from web_jobs import ended, new, opened

from sonoseek.apps.web.settings import WebSettings

pytestmark = pytest.mark.slow
REFUSED = "is a link that leads out of its folder"


@pytest.fixture(scope="module")
def folders(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sound scans; beside them links to a scan, to a mask and to a folder outside, and one that stays inside."""
    outside = tmp_path_factory.mktemp("outside")
    root = tmp_path_factory.mktemp("folders")
    benign = root / "friday" / "benign"
    benign.mkdir(parents=True)
    first, second, third, fourth = sorted(p for p in archive.glob("benign/*.png") if "_mask" not in p.name)[:4]
    for path in (first, second):
        shutil.copy(path, benign / path.name)
    for name, source in (("secret.png", third), ("private.png", fourth), ("private_mask.png", fourth)):
        shutil.copy(source, outside / name)
    (benign / "linked.png").symlink_to(outside / "secret.png")
    shutil.copy(third, benign / "masked.png")
    (benign / "masked_mask.png").symlink_to(outside / "private_mask.png")
    (benign / "within.png").symlink_to(benign / first.name)
    (root / "friday" / "malignant").symlink_to(outside, target_is_directory=True)
    return root


@pytest.fixture(scope="module")
def client(gallery: Path, folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server that may write, on an archive of its own."""
    own = tmp_path_factory.mktemp("own") / "gallery"
    shutil.copytree(gallery, own)
    with opened(own, WebSettings(state=tmp_path_factory.mktemp("state"), writable=True, folders=folders)) as found:
        yield found


def refusals(client: TestClient, job: str) -> dict[str, str]:
    rows: list[dict[str, Any]] = client.get(f"/api/jobs/{job}/rows").json()
    return {row["name"].rpartition("/")[2]: row["refused"] for row in rows if row["refused"]}


def test_a_query_reads_no_file_outside(client: TestClient) -> None:
    job = new(client, kind="query", folder="friday")
    assert ended(client, job)["state"] == "done"
    refused = refusals(client, job)
    assert REFUSED in refused.pop("linked.png")
    assert not refused  # the linked folder is not entered, and links within the folder are read
    names = {row["name"] for row in client.get(f"/api/jobs/{job}/rows").json()}
    assert "benign/within.png" in names
    assert not any(name.startswith("malignant/") for name in names)


def test_an_index_takes_no_scan_and_no_mask_from_outside(client: TestClient) -> None:
    job = new(client, kind="index", folder="friday", title="friday")
    told = ended(client, job)
    assert (told["state"], told["error"]) == ("done", "")
    refused = refusals(client, job)
    assert set(refused) == {"linked.png", "masked.png", "secret.png", "private.png"}
    assert all(REFUSED in reason for reason in refused.values())
    assert told["summary"]["added"] == 3


def test_a_table_that_is_a_link_is_not_read(client: TestClient, folders: Path) -> None:
    place, secret = folders / "saturday", folders.parent / "secret.csv"
    place.mkdir()
    secret.write_text("file,pathology\na.png,benign\n")
    (place / "manifest.csv").symlink_to(secret)
    told = ended(client, new(client, kind="index", folder="saturday", title="saturday"))
    assert told["state"] == "failed"
    assert REFUSED in told["error"]
