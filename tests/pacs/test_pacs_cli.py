"""`sonoseek pacs listen|status|send|retry`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_archive import FakeArchive
from pacs_parts import free_port, picture, save, store, wait_for, write_settings

HERE = Path(__file__).resolve().parent
Run = Callable[..., Any]


def test_listen_starts_says_where_and_ends_by_a_signal(tmp_path: Path, sonoseek_here: Run) -> None:
    port = free_port()
    settings = write_settings(tmp_path, port=port, rule="quiet_seconds = 600")
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src")}
    process = subprocess.Popen(
        [sys.executable, "-m", "sonoseek", "pacs", "listen", settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"listening as SONOSEEK on 127.0.0.1:{port}\n"
        assert store(port, picture()) == [0x0000]
        second = sonoseek_here("pacs", "listen", settings)
        assert second.returncode == 75
        assert "another process uses this state folder" in second.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    status = json.loads(sonoseek_here("pacs", "status", settings, "--json").stdout)
    assert status["counts"]["received"] == status["counts"]["waiting"] == 1
    audit = (tmp_path / "state" / "audit.log").read_text()
    assert audit.count("110120") == audit.count("110121") == 1


def test_status_prints_a_table_and_json(tmp_path: Path, sonoseek_here: Run) -> None:
    settings = write_settings(tmp_path)
    lacking = sonoseek_here("pacs", "status", settings)
    assert lacking.returncode == 2
    assert "there is no journal" in lacking.stderr
    from pacs_parts import fake_tools

    from sonoseek.pacs.rules import load_config
    from sonoseek.pacs.service import Service

    with Service(load_config(settings), tools=fake_tools()) as service:
        store(service.listener.port, picture(patient="7[/red]\x7f[link=x]"))
        wait_for(lambda: [row.state for row in service.journal.studies()] == ["queried"])
        shown = sonoseek_here("pacs", "status", settings)
    assert shown.returncode == 0
    assert "1 received" in shown.stdout
    assert "1 queried" in shown.stdout
    assert "7[/red" in shown.stdout.replace("\n", "")
    assert "\x7f" not in shown.stdout
    found = json.loads(sonoseek_here("pacs", "status", settings, "--json").stdout)
    (study,) = found["studies"]
    assert (study["state"], study["objects"], study["accession"]) == ("queried", 1, "A1")
    assert set(found["counts"]) >= {"received", "waiting", "queried", "sent", "committed", "failed", "alarm"}


def test_send_takes_files_to_a_peer(tmp_path: Path, archive: FakeArchive, sonoseek_here: Run) -> None:
    settings = write_settings(tmp_path, peers=[("ARCHIVE", archive.port, "")])
    file = save(picture(), tmp_path / "exam.dcm")
    assert sonoseek_here("pacs", "send", settings, file).returncode == 2
    unknown = sonoseek_here("pacs", "send", settings, file, "--to", "x")
    assert "no peer is called 'x'" in unknown.stderr
    done = sonoseek_here("pacs", "send", settings, file, "--to", "archive")
    assert done.returncode == 0, done.stderr
    assert len(archive.stored) == 1
    assert "0 waiting, 1 sent" in done.stdout


def test_what_a_peer_refuses_fails_and_retry_puts_it_back(
    tmp_path: Path, archive: FakeArchive, sonoseek_here: Run
) -> None:
    settings = write_settings(tmp_path, peers=[("ARCHIVE", archive.port, "attempts = 1\nretry_seconds = 0.1")])
    archive.status = 0xC000
    file = save(picture(), tmp_path / "exam.dcm")
    refused = sonoseek_here("pacs", "send", settings, file, "--to", "archive")
    assert refused.returncode == 2
    assert "1 objects failed" in refused.stderr
    archive.status = 0
    assert sonoseek_here("pacs", "retry", settings).stdout.startswith("1 put back; they are done when")
    assert sonoseek_here("pacs", "send", settings).returncode == 0
    assert len(archive.stored) == 1


def test_a_peer_that_is_away_is_temporary(tmp_path: Path, sonoseek_here: Run) -> None:
    settings = write_settings(tmp_path)
    file = save(picture(), tmp_path / "exam.dcm")
    away = sonoseek_here("pacs", "send", settings, file, "--to", "archive", "--wait", "0.5")
    assert away.returncode == 75
    assert "a peer does not answer" in away.stderr


def test_listen_without_rules_or_with_a_port_in_use_says_so(tmp_path: Path, sonoseek_here: Run) -> None:
    settings = tmp_path / "empty.toml"
    settings.write_text('state = "state"')
    assert "there are no [[rules]]" in sonoseek_here("pacs", "listen", settings).stderr
    settings = write_settings(tmp_path)
    settings.write_text(f'gallery = "none"\n{settings.read_text()}')
    lacking = sonoseek_here("pacs", "listen", settings)
    assert lacking.returncode == 2
    assert str(tmp_path / "none") in lacking.stderr
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        settings = write_settings(tmp_path, port=taken.getsockname()[1])
        assert "in use" in sonoseek_here("pacs", "listen", settings).stderr


def test_listen_without_a_site_key_says_so(tmp_path: Path, sonoseek_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service whose home folder cannot be written: every study of a named patient would fail."""
    monkeypatch.setenv("SONOSEEK_SITE_KEY", "/proc/none/site.key")
    refused = sonoseek_here("pacs", "listen", write_settings(tmp_path))
    assert refused.returncode == 2
    assert "SONOSEEK_SITE_KEY" in refused.stderr
    assert not (tmp_path / "state").exists()


def test_state_is_for_its_owner_alone(tmp_path: Path, archive: FakeArchive, sonoseek_here: Run) -> None:
    settings = write_settings(tmp_path, peers=[("ARCHIVE", archive.port, "")])
    sonoseek_here("pacs", "send", settings, save(picture(), tmp_path / "exam.dcm"), "--to", "archive")
    time.sleep(0.1)
    for path in (tmp_path / "state").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_command_line_starts_without_the_packages_of_the_wing() -> None:
    code = (
        "import sys; from sonoseek.apps.cli import main; "
        "print([m for m in ('pynetdicom', 'pydicom', 'highdicom', 'hl7', 'dicomweb_client') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
