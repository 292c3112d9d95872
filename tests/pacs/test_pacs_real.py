"""The loop with the engine that ships and with real results: phantoms in, structured reports out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_archive import FakeArchive
from pacs_parts import SR, store, stored_files, wait_for, write_settings
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from sonoseek.core.prediction import MALIGNANT

pytest.importorskip("sonoseek.reports.dicom")


def _phantom(seed: int, *, pathology: str, study: str) -> Dataset:
    from pacs_parts import picture

    from sonoseek.datasets.phantom import make_phantom

    pixels = make_phantom(seed, pathology=pathology).scans[0].pixels
    dataset = picture(study=study)
    dataset.Rows, dataset.Columns = pixels.shape
    data = np.ascontiguousarray(pixels).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    return dataset


def test_phantoms_become_structured_reports_of_the_suspicious_image(tmp_path: Path) -> None:
    from sonoseek.core import PATHOLOGIES
    from sonoseek.engine import open_engine
    from sonoseek.io import read_scan
    from sonoseek.pacs.rules import load_config
    from sonoseek.pacs.service import Service

    archive = FakeArchive().start()
    settings = write_settings(tmp_path, peers=[(archive.title, archive.port, "commitment = true")])
    study = generate_uid()
    sent = [_phantom(seed, pathology=kind, study=study) for seed, kind in enumerate(PATHOLOGIES)]
    try:
        with Service(load_config(settings)) as service:
            archive.report_to = service.listener.port
            store(service.listener.port, *sent)
            wait_for(
                lambda: [row.state for row in service.journal.studies()] in (["committed"], ["failed"]), seconds=60
            )
            (row,) = service.journal.studies()
            assert row.state == "committed", row.message
            results = [dcmread(path) for path in stored_files(service.store.outbox)]
            likelihoods = {}
            engine = open_engine()
            for each in sent:
                path = tmp_path / "exam.dcm"
                each.save_as(path, enforce_file_format=True)
                likelihoods[each.SOPInstanceUID] = engine.read(read_scan(path)).prediction.probabilities[MALIGNANT]
            engine.close()
            own = results
            assert store(service.listener.port, *own) == [0, 0]
    finally:
        archive.stop()
    assert row.finding is not None
    assert row.finding.sop_uid == max(likelihoods, key=likelihoods.__getitem__)
    assert row.finding.malignant == pytest.approx(max(likelihoods.values()), abs=1e-5)
    (report,) = [each for each in results if each.SOPClassUID == SR]
    assert report.StudyInstanceUID == study
    assert report.PatientID == "MRN 0815"
    assert sorted(archive.stored) == sorted(each.SOPInstanceUID for each in results)
