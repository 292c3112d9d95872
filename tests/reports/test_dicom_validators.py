"""Results against independent validators: dciodvfy and dcentvfy (dicom3tools), dcmpschk and dsrdump (dcmtk)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dicom_sources import SOURCES, written

from sonoseek.core import Report, Scan
from sonoseek.io import read_source_header
from sonoseek.reports.dicom import KINDS, QueriedFrame, Verification, render_dicom

pytest.importorskip("highdicom")
PROGRAMS = ("dciodvfy", "dcentvfy", "dcmpschk", "dsrdump")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(
        any(shutil.which(program) is None for program in PROGRAMS),
        reason=f"{', '.join(PROGRAMS)} are looked for (apt-get install dicom3tools dcmtk)",
    ),
]
Build = Callable[..., Report]


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def results_of(name: str, report: Report, folder: Path) -> dict[str, Path]:
    """The files of every kind, by kind, beside the source."""
    source = written(name, folder)
    if name == "cine":
        report = replace(report, scan=Scan(pixels=report.scan.pixels, spacing_mm=(0.2, 0.2), frame=3, frames=5))
    queried = [QueriedFrame(sop_instance_uid="1.2.3", frame=1, malignant=0.25)]
    files = {"source": source}
    for result in render_dicom(
        report, read_source_header(source), kinds=tuple(KINDS), study_key="k" * 64, queried=queried
    ):
        files[result.kind] = folder / f"{name}.{result.kind}.dcm"
        files[result.kind].write_bytes(result.content)
    return files


@pytest.mark.parametrize("name", SOURCES)
def test_validators_find_no_error(name: str, tmp_path: Path, build_report: Build) -> None:
    files = results_of(name, build_report(gallery_state="state-9"), tmp_path)
    assert list(files) == ["source", *KINDS]
    for kind in KINDS:
        found = [line for line in run("dciodvfy", "-new", files[kind]).splitlines() if line.startswith("Error")]
        assert not found, f"{kind}: {found}"
    if name == "broken":  # what the source breaks differs in the results
        del files["source"]
    entities = run("dcentvfy", *files.values())
    assert "Error" not in entities, entities
    if name not in ("colour", "bare"):  # dcmpschk knows grayscale alone, and wants a patient's name, which may be empty
        assert "Test passed." in run("dcmpschk", files["gsps"])
    dumped = run("dsrdump", "+Pc", "+Pl", files["sr"])
    assert not any(line.startswith("E:") for line in dumped.splitlines()), dumped
    for text in (
        '(111047,DCM,"Probability of cancer")="87.0" (%,UCUM,"Percent")',
        "bundle: first-0123456789ab",
        "gallery: 6a1f",
        "gallery state: state-9",
        "Completion Flag     : COMPLETE",
        "Verification Flag   : UNVERIFIED",
    ):
        assert text in dumped


def test_a_report_without_outline_is_valid(tmp_path: Path, unsure_report: Report) -> None:
    files = results_of("grey", unsure_report, tmp_path)
    assert list(files) == ["source", "sr", "sc", "pdf"]
    for kind in ("sr", "sc", "pdf"):
        assert "Error" not in run("dciodvfy", "-new", files[kind])


@pytest.mark.parametrize("corrected", [None, "benign"])
def test_a_verified_report_is_valid(corrected: str | None, tmp_path: Path, build_report: Build) -> None:
    decision = Verification(
        observer_name="Müller^Änne",
        organisation="Klinik für Radiologie",
        when=datetime(2026, 3, 4, 9, 10, 11, tzinfo=UTC),
        accepted=corrected is None,
        corrected_class=corrected,
    )
    header = read_source_header(written("umlauts", tmp_path))
    (result,) = render_dicom(build_report(), header, kinds=("sr",), study_key="key", verification=decision)
    file = tmp_path / "verified.dcm"
    file.write_bytes(result.content)
    assert "Error" not in run("dciodvfy", "-new", file)
    dumped = run("dsrdump", "+U8", file)
    assert "VERIFIED" in dumped
    assert "Müller^Änne" in dumped
    assert ("Class stated by the reader" in dumped) is (corrected is not None)
