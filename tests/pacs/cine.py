"""A large cine for the tests of memory: written without having it in memory, and fetched by a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from dicom_files import save, us_dataset
from studies import make_study, picture

ROWS, COLUMNS = 1000, 1000
FETCH = """
import json, resource, sys
from pathlib import Path
from sonoseek.pacs.archive import ImportFolder, StudyQuery, open_archive
from sonoseek.pacs.importing import fetch_archive
from sonoseek.pacs.peer import Peer
import pynetdicom, dicomweb_client, requests

peer, by, out, port = Peer(**json.loads(sys.argv[1])), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024
with ImportFolder(out) as folder:
    with open_archive(peer, by=by, drafts=folder.drafts, listen=("127.0.0.1", port)) as archive:
        list(archive.find_series(StudyQuery(accession="none")))  # what comes with the first use is not the file's
        before = peak()
        result = fetch_archive(archive, StudyQuery(), folder)
    print(json.dumps({"added": result.added, "refused": result.refused, "growth_mb": peak() - before}))
"""


def write_cine(path: Path, *, megabytes: int) -> Path:
    """A multi-frame file of so many MB; its frames differ from zero in their first bytes alone."""
    study = make_study(1)
    small = us_dataset(np.zeros((1, 8, 8), np.uint8), frames=1)
    other = picture(study, f"{study.uid}.1.1", "left")
    for name in (
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "PatientID",
        "PatientName",
        "StudyDate",
        "AccessionNumber",
        "BodyPartExamined",
        "ImageLaterality",
    ):
        setattr(small, name, getattr(other, name))
    small.file_meta.MediaStorageSOPInstanceUID = small.SOPInstanceUID
    small.SOPClassUID = small.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    small.Rows, small.Columns, small.NumberOfFrames = ROWS, COLUMNS, megabytes
    small.PixelData = b""
    save(small, path)
    value = megabytes * ROWS * COLUMNS
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)  # the length of the empty pixel data
        file.write(value.to_bytes(4, "little"))
        file.truncate(path.stat().st_size + value)
    return path


def fetch_in_process(peer: dict[str, object], by: str, out: Path, *, port: int = 0) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", FETCH, json.dumps(peer), by, str(out), str(port)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
