"""Real archives for the tests: Debian's Orthanc and dcmqrscp, on loopback, on free ports. They end with the block."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sonoseek.pacs.peer import Peer

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
OURS = "SONOSEEK"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """The path of a program, or a skip that names its package."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: orthanc, orthanc-dicomweb, dcmtk)")
    return found


@dataclass(frozen=True)
class RunningPeer:
    peer: Peer
    move_port: int
    url: str = ""
    process: subprocess.Popen[bytes] | None = None

    def post(self, path: str, data: bytes) -> dict[str, object]:
        request = urllib.request.Request(self.url + path, data=data, method="POST")  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.loads(answer.read())

    def upload(self, files: list[Path]) -> None:
        for file in files:
            self.post("/instances", file.read_bytes())


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, "the peer ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the peer does not listen")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def orthanc(folder: Path, *, users: dict[str, str] | None = None, **options: object) -> Iterator[RunningPeer]:
    """Orthanc with DICOMweb; its AE title is ORTHANC, and it knows us as SONOSEEK."""
    binary = program("Orthanc")
    if not DICOMWEB_PLUGIN.exists():
        pytest.skip("the DICOMweb plugin of Orthanc is not installed (Debian: orthanc-dicomweb)")
    folder.mkdir(parents=True, exist_ok=True)
    dicom, http, move = free_port(), free_port(), free_port()
    config = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(DICOMWEB_PLUGIN)],
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "HttpPort": http,
        "HttpBindAddresses": ["127.0.0.1"],
        "HttpServerEnabled": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": users is not None,
        "RegisteredUsers": users or {},
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {"ours": {"AET": OURS, "Host": "127.0.0.1", "Port": move}},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "UnknownSopClassAccepted": True,
        "OverwriteInstances": True,
        **options,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, str(path)], stdout=log, stderr=log, cwd=folder)
    try:
        _wait(dicom, process)
        _wait(http, process)
        url = f"http://127.0.0.1:{http}"
        peer = Peer(
            name="orthanc",
            host="127.0.0.1",
            port=dicom,
            ae_title="ORTHANC",
            our_ae_title=OURS,
            dicomweb=f"{url}/dicom-web",
        )
        yield RunningPeer(peer, move, url, process)
    finally:
        _end(process)


@contextmanager
def dcmqrscp(folder: Path) -> Iterator[RunningPeer]:
    """dcmtk's archive; its AE title is QRSCP."""
    binary = program("dcmqrscp")
    port, move = free_port(), free_port()
    storage = folder / "qr"
    storage.mkdir(parents=True)
    path = folder / "dcmqrscp.cfg"
    path.write_text(
        f"""NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 8
HostTable BEGIN
ours = ({OURS}, 127.0.0.1, {move})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP {storage} RW (500, 1024mb) ANY
AETable END
"""
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, "-c", str(path)], stdout=log, stderr=log, cwd=folder)
    try:
        _wait(port, process)
        yield RunningPeer(Peer(name="qr", host="127.0.0.1", port=port, ae_title="QRSCP", our_ae_title=OURS), move)
    finally:
        _end(process)
