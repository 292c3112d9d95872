"""The loop with Orthanc and dcmtk, in a network of its own: `unshare -rn python orthanc_loop.py FOLDER`.

Orthanc and storescp listen on every interface; here there is none but loopback. Prints what happened as one line of
JSON; the test reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from pacs_parts import fake_tools, picture, save, wait_for, write_settings
from pydicom.uid import generate_uid

from sonoseek.pacs.rules import load_config
from sonoseek.pacs.service import Service

DICOM, HTTP, PORT, STORESCP = 4242, 8042, 11112, 4343
AWAY_S = 60.0
"""Seconds without the archive."""


def raise_loopback() -> None:
    with socket.socket() as probe:
        fcntl.ioctl(probe, 0x8914, struct.pack("16sh", b"lo", 1 | 64))  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)


def ask(path: str, data: object = None) -> Any:
    request = urllib.request.Request(  # loopback
        f"http://127.0.0.1:{HTTP}{path}", None if data is None else json.dumps(data).encode()
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  # loopback
        return json.loads(answer.read())


class Orthanc:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "orthanc.json"
        self.file.write_text(
            json.dumps(
                {
                    "StorageDirectory": str(folder / "db"),
                    "IndexDirectory": str(folder / "db"),
                    "DicomAet": "ARCHIVE",
                    "DicomPort": DICOM,
                    "HttpPort": HTTP,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "Plugins": [],
                    "DicomModalities": {"sonoseek": ["SONOSEEK", "127.0.0.1", PORT]},
                }
            )
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen(["Orthanc", str(self.file)], stdout=log, stderr=log)

        def answers() -> bool:
            with contextlib.suppress(OSError):
                ask("/system")
                return True
            return False

        wait_for(answers, seconds=30)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def objects(self) -> list[dict[str, str]]:
        return [ask(f"/instances/{each}/simplified-tags") for each in ask("/instances")]


def main() -> None:
    folder = Path(sys.argv[1])
    raise_loopback()
    orthanc = Orthanc(folder)
    peer = "commitment = true\nretry_seconds = 0.5\nretry_limit_seconds = 2\ncommitment_seconds = 5"
    scp = (
        f'[[peers]]\nname = "files"\nae_title = "STORESCP"\nhost = "127.0.0.1"\nport = {STORESCP}\nretry_seconds = 0.5'
    )
    settings = write_settings(
        folder,
        port=PORT,
        peers=[("ARCHIVE", DICOM, f"{peer}\n{scp}")],
        rule="quiet_seconds = 0.5",
    )
    settings.write_text(settings.read_text().replace('send_to = ["archive"]', 'send_to = ["archive", "files"]'))
    (folder / "storescp").mkdir()
    scp_process = subprocess.Popen(["storescp", "-aet", "STORESCP", "-od", str(folder / "storescp"), str(STORESCP)])
    found: dict[str, Any] = {}
    try:
        orthanc.start()
        with Service(load_config(settings), tools=fake_tools()) as service:
            found |= _scenario(folder, orthanc, service)
    finally:
        orthanc.stop()
        scp_process.terminate()
        scp_process.wait()
    print(json.dumps(found))


def _scenario(folder: Path, orthanc: Orthanc, service: Service) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def states() -> list[str]:
        return sorted(row.state for row in service.journal.studies())

    for title, called in (("US1", "SONOSEEK"), ("STRANGER", "SONOSEEK"), ("US1", "OTHER")):
        done = run("echoscu", "-aet", title, "-aec", called, "127.0.0.1", PORT)
        found[f"echo {title} {called}"] = done.returncode
    silent = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(8)]
    began = time.monotonic()
    found["echo beside silent sockets"] = run(
        "echoscu", "-aet", "US1", "-aec", "SONOSEEK", "127.0.0.1", PORT
    ).returncode
    found["echo took"] = time.monotonic() - began
    for each in silent:
        each.close()
    study = generate_uid()
    files = [save(picture(study=study, grey=20 * n + 20), folder / f"{n}.dcm") for n in range(3)]
    found["stored"] = run("storescu", "-aet", "US1", "-aec", "SONOSEEK", "127.0.0.1", PORT, *files).returncode
    began = time.monotonic()
    wait_for(lambda: states() == ["committed"], seconds=20)
    found["committed after"] = time.monotonic() - began - 0.5
    (times,) = service.journal.database.all(
        """SELECT s.queried - s.received - 0.5, max(o.sent) - s.queried, max(o.committed) - max(o.sent)
        FROM studies s JOIN outbox o USING (study_uid)"""
    )
    found["queried, sent, committed after"] = [round(each, 2) for each in times]
    found["modalities"] = sorted(each["Modality"] for each in orthanc.objects())
    for _ in range(2):  # the archive sends the whole study, our results with it, as it does when it is stable
        run("storescu", "-aet", "US1", "-aec", "SONOSEEK", "127.0.0.1", PORT, *files)
        ask("/modalities/sonoseek/store", ask("/studies"))
        time.sleep(1.5)
    found["after three times stable"] = sorted(each["Modality"] for each in orthanc.objects())
    found["states after"] = states()
    found["files at storescp"] = len(list((folder / "storescp").iterdir()))
    orthanc.stop()
    other = save(picture(), folder / "other.dcm")
    run("storescu", "-aet", "US1", "-aec", "SONOSEEK", "127.0.0.1", PORT, other)
    wait_for(lambda: states() == ["committed", "queried"], seconds=20)
    time.sleep(AWAY_S)
    orthanc.start()
    wait_for(lambda: states() == ["committed", "committed"], seconds=30)
    found["after it was away"] = sorted(each["Modality"] for each in orthanc.objects())
    found["results"] = service.journal.outbox.counts()
    return found


if __name__ == "__main__":
    main()
