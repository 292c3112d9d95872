"""Pictures, settings, senders and a fast engine for the tests of the wing beside a PACS."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from sonoseek.io import frame_count, read_scan, read_source_header
from sonoseek.pacs.query import Tools
from sonoseek.pacs.service import Service

US = "1.2.840.10008.5.1.4.1.1.6.1"
US_CINE = "1.2.840.10008.5.1.4.1.1.3.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
COMMIT = "commitment = true\nretry_seconds = 0.1\nretry_limit_seconds = 0.3"
Start = Callable[..., Service]
"""The fixture `start`: a service under settings, which the archive reports to."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def picture(
    *,
    study: str | None = None,
    uid: str | None = None,
    sop_class: str = US,
    modality: str = "US",
    patient: str = "MRN 0815",
    frames: int = 0,
    grey: int = 100,
    side: int = 32,
) -> Dataset:
    """An ultrasound picture; `grey` is what the fast engine makes the likelihood of."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = uid or generate_uid()
    dataset.StudyInstanceUID = study or generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.Modality = modality
    dataset.PatientName = "Curie^Marie"
    dataset.PatientID = patient
    dataset.AccessionNumber = "A1"
    dataset.StudyDate = "20260101"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = side
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    if frames:
        dataset.NumberOfFrames = frames
    pixels = np.full((max(frames, 1), side, side), grey, np.uint8)
    for index in range(frames):
        pixels[index] += 2 * index
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_settings(
    folder: Path,
    *,
    port: int = 0,
    listener: str = "",
    senders: Sequence[tuple[str, str]] = (("US1", "127.0.0.1"), ("ARCHIVE", "127.0.0.1")),
    peers: Sequence[tuple[str, int, str]] = (),
    rule: str = "quiet_seconds = 0.2",
) -> Path:
    """A file of settings; `peers` are (AE title, port, further lines)."""
    lines = [f'state = "{folder / "state"}"', "[listener]", f"port = {port}", "min_free_mb = 1", listener]
    for title, address in senders:
        lines += ["[[senders]]", f'ae_title = "{title}"', f'addresses = ["{address}"]']
    for title, peer_port, more in peers:
        lines += ["[[peers]]", f'name = "{title.lower()}"', f'ae_title = "{title}"', 'host = "127.0.0.1"']
        lines += [f"port = {peer_port}", more]
    if not peers:
        lines += [
            "[[peers]]",
            'name = "archive"',
            'ae_title = "ARCHIVE"',
            'host = "127.0.0.1"',
            f"port = {free_port()}",
        ]
    named = ", ".join(f'"{title.lower()}"' for title, _, _ in peers) or '"archive"'
    lines += ["[[rules]]", 'name = "breast"', f"send_to = [{named}]", rule]
    file = folder / "pacs.toml"
    file.write_text("\n".join(lines))
    return file


@contextmanager
def association(
    port: int, *, title: str = "US1", called: str = "SONOSEEK", contexts: Sequence[str] = (US, US_CINE), **options: Any
) -> Iterator[Any]:
    """An association with a listener of this machine, established or not."""
    ae = AE(title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    ae.add_requested_context("1.2.840.10008.1.1")
    for each in contexts:
        ae.add_requested_context(each, ExplicitVRLittleEndian)
    found = ae.associate("127.0.0.1", port, ae_title=called, **options)
    try:
        yield found
    finally:
        if found.is_established:
            found.release()


def store(port: int, *datasets: Dataset, title: str = "US1", contexts: Sequence[str] = ()) -> list[int]:
    """Statuses of C-STORE, one association for all."""
    classes = contexts or sorted({str(each.SOPClassUID) for each in datasets})
    with association(port, title=title, contexts=classes) as assoc:
        assert assoc.is_established
        return [int(assoc.send_c_store(each).Status) for each in datasets]


def wait_for(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.01)


class FakeEngine:
    """Likelihood of malignancy = mean grey / 255. It writes down what it was asked, one line a query, in a file."""

    def __init__(self, log: Path | None = None, delay_s: float = 0.0) -> None:
        self.log = log
        self.delay_s = delay_s
        self.read_frames: list[int] = []

    def read(self, scan: Any) -> Any:
        self.read_frames.append(scan.frame or 0)
        likelihood = float(scan.pixels.mean()) / 255
        return SimpleNamespace(
            scan=scan,
            prediction=SimpleNamespace(likelihood_of_malignancy=likelihood, out_of_distribution=likelihood > 0.9),
        )

    def query(self, encoded: Any) -> Any:
        time.sleep(self.delay_s)
        return SimpleNamespace(scan=encoded.scan, prediction=encoded.prediction, bundle_id="bundle", gallery_id=None)

    def close(self) -> None:
        pass


def fake_render(report: Any, source: Any, *, kinds: Sequence[str], study_key: str, queried: Any) -> tuple[Any, ...]:
    """One small object a kind, with UIDs that follow from the key; the queried frames in its comments."""
    made = []
    for kind in kinds:
        digest = hashlib.sha256(f"{study_key} {kind}".encode()).digest()
        dataset = picture(study=source.study_instance_uid, patient=source.patient_id, side=8)
        dataset.SOPClassUID = SR if kind == "sr" else "1.2.840.10008.5.1.4.1.1.7"
        dataset.SOPInstanceUID = f"2.25.{int.from_bytes(digest[:16], 'big')}"
        dataset.Modality = "SR" if kind == "sr" else "OT"
        dataset.ImageComments = " ".join(f"{each.frame}:{each.malignant:.4f}" for each in queried)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        if kind == "sr":
            del dataset.PixelData
        import io

        stream = io.BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
        made.append(
            SimpleNamespace(
                kind=kind,
                sop_class_uid=str(dataset.SOPClassUID),
                sop_instance_uid=str(dataset.SOPInstanceUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
                study_instance_uid=str(dataset.StudyInstanceUID),
                content=stream.getvalue(),
            )
        )
    return tuple(made)


def fake_tools(engine: FakeEngine | None = None, **others: Any) -> Tools:
    made = {
        "open_engine": lambda: engine or FakeEngine(),
        "read_scan": read_scan,
        "frame_count": frame_count,
        "read_source_header": read_source_header,
        "queried_frame": lambda **values: SimpleNamespace(**values),
        "render": fake_render,
    }
    return Tools(**{**made, **others})


def stored_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def comments(path: Path) -> str:
    return str(dcmread(path).ImageComments)
