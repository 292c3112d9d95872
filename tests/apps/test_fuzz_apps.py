"""A sample of damaged, lying and harmful files through the command line and the server's upload."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from fuzz_corpus import Case, corpus
from web_client import ask, detail

Command = Callable[..., subprocess.CompletedProcess[str]]
STEP, FIRST = 21, 5
"""One of so many files; other ones than tests/io takes by sample."""


@pytest.fixture(scope="module")
def sample() -> list[Case]:
    return corpus()[FIRST::STEP]


@pytest.fixture
def emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A temporary folder of its own, in which nothing may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    left = list(folder.iterdir())
    monkeypatch.undo()
    assert left == []


def test_there_is_every_kind_of_harm(sample: list[Case]) -> None:
    assert 18 <= len(sample) <= 24
    assert {case.name.split("/")[0].split()[0] for case in sample} == {"cut", "flip", "splice", "lie", "bomb"}
    assert {case.source.family for case in sample} == {"png", "jpeg", "bmp", "tiff", "gif", "dicom"}


@pytest.mark.usefixtures("emptied")
def test_the_command_line_reads_or_refuses_each(
    sample: list[Case], sonoseek_here: Command, gallery: Path, tmp_path: Path
) -> None:
    codes = set()
    for number, case in enumerate(sample):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(case.data)
        query = ["query", path, "--gallery", gallery]
        done = sonoseek_here(*(["preprocess", path, "--out", tmp_path / f"{number}.png"] if number % 4 == 0 else query))
        assert "Traceback" not in done.stdout + done.stderr, case.name
        assert done.returncode in (0, 1, 2), (case.name, done.stderr)
        assert done.returncode == 0 or path.name in done.stderr, (case.name, done.stderr)
        codes.add(done.returncode)
    assert len(codes) == 2  # some are read, some are refused


@pytest.mark.usefixtures("emptied")
def test_the_server_answers_or_refuses_each_and_stays_ready(
    sample: list[Case], client: TestClient, tmp_path: Path
) -> None:
    codes = set()
    for number, case in enumerate(sample):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(case.data)
        answer = ask(client, path)
        codes.add(answer.status_code)
        assert answer.status_code in (200, 413, 422), (case.name, answer.text)
        if answer.status_code != 200:
            assert "Traceback" not in detail(answer, answer.status_code), case.name
        assert client.get("/readyz").status_code == 200, case.name
    assert 200 in codes
    assert len(codes) > 1
