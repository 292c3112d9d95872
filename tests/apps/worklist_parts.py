"""A listener that has received three studies of two patients, queried them, and sent the results to an archive."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "pacs"))
from fake_archive import FakeArchive
from pacs_parts import picture, store, wait_for, write_settings

from sonoseek.pacs.rules import load_config
from sonoseek.pacs.service import Service

__all__ = ["BEFORE", "NOW", "OTHER", "FakeArchive", "received", "wait_for"]
NOW, BEFORE, OTHER = "1.2.3.1", "1.2.3.2", "1.2.3.3"
"""Study UIDs: two of one patient, the second a year before, and one of another."""


@contextmanager
def received(folder: Path, archive: Path, gallery: Path) -> Iterator[tuple[Path, FakeArchive, Service]]:
    """The file of settings, the archive that the results went to, and the service, which goes on."""
    scans = [path for path in sorted(archive.rglob("*.png")) if "_mask" not in path.name]
    found = FakeArchive().start()
    try:
        peers = [("ARCHIVE", found.port, "commitment = false")]
        settings = write_settings(folder, peers=peers, rule='quiet_seconds = 0.3\nresults = ["sr"]')
        settings.write_text(f'gallery = "{gallery}"\norganisation = "City Hospital"\n' + settings.read_text())
        sent = [
            scanned(scans[0], study=NOW, patient="7", date="20260601", accession="A1"),
            scanned(scans[-1], study=NOW, patient="7", date="20260601", accession="A1"),
            scanned(scans[1], study=BEFORE, patient="7", date="20250101", accession="A0"),
            scanned(scans[2], study=OTHER, patient="8", date="20260602", accession="B1"),
        ]
        with Service(load_config(settings)) as service:
            assert store(service.listener.port, *sent) == [0] * 4
            wait_for(lambda: service.journal.counts()["sent"] == 3, seconds=60)
            yield settings, found, service
    finally:
        found.stop()


def scanned(path: Path, *, study: str, patient: str, date: str, accession: str) -> Any:
    """A phantom as the scanner sends it."""
    pixels = np.asarray(Image.open(path).convert("L").resize((320, 240)))
    made = picture(study=study, patient=patient)
    made.Rows, made.Columns = pixels.shape
    made.PixelData = pixels.tobytes()
    made.StudyDate, made.AccessionNumber = date, accession
    made.PatientBirthDate, made.PatientSex, made.StudyTime, made.StudyID, made.ReferringPhysicianName = [""] * 5
    return made
