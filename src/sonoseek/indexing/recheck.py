"""Whether stored embeddings are those of the network: a sample of a gallery's scans, encoded again.

`Gallery.verify` recomputes every digest, so it finds what has changed since it was written. This finds what was wrong
when it was written: an embedding of another bundle, of another scan, or of a file that is no longer the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sonoseek.core import InvalidValueError, Scan, SonoseekError
from sonoseek.datasets import Dataset
from sonoseek.encoder import Encoder, encode_scan
from sonoseek.gallery import CaseKey, Gallery, GalleryEntry, decode_picture
from sonoseek.indexing.case_ids import opaque_id

__all__ = ["RecheckResult", "recheck_embeddings"]

FROM_FILES = 0.999
"""Cosine that a scan read again from its file has with its stored embedding, at least: half precision leaves 1e-6."""
FROM_PICTURE = 0.9
"""The same from the stored picture, a JPEG of at most 512 pixels a side. On BUSI and BUS-BRA it is 0.92 or more (median
0.9996); that of two different scans is 0.62 on average and above 0.89 for one pair in a hundred."""


@dataclass(frozen=True, kw_only=True)
class RecheckResult:
    """What became of the sample.

    Attributes:
        from_files: scans whose file was read, hashed and embedded again.
        from_pictures: scans whose stored picture was embedded again, for want of the file.
        problems: what is wrong, as sentences.
    """

    from_files: int
    from_pictures: int
    problems: tuple[str, ...]


def recheck_embeddings(
    gallery: Gallery,
    encoder: Encoder,
    *,
    sample: int,
    dataset: Dataset | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> RecheckResult:
    """Embed a random sample of a gallery's scans again and compare.

    Args:
        gallery: open.
        encoder: of the gallery's bundle.
        sample: how many scans; all of them where there are fewer.
        dataset: where the scans came from: those of its cases are read from their files, and their pixels' hash is
            computed again. None: the gallery's stored pictures are used.
        seed: of the sample.
        on_progress: called with (done, total).

    Raises:
        BundleMismatchError: another bundle filled the gallery.
        InvalidValueError: a sample below 1.
    """
    gallery.check_bundle(encoder.bundle.bundle_id)
    if sample < 1:
        raise InvalidValueError(f"sample is {sample}; it is the number of scans to embed again, 1 or more.")
    drawn = gallery.sample(sample, seed=seed, pictures=True)
    known = {} if dataset is None else _known(dataset)
    problems: list[str] = []
    from_files = from_pictures = 0
    for done, entry in enumerate(drawn, start=1):
        if dataset is not None and (entry.record.dataset, entry.record.case_id) in known:
            problem = _from_files(entry, dataset, known[entry.record.dataset, entry.record.case_id], encoder)
            from_files += 1
        elif entry.picture is not None:
            problem = _from_picture(entry, encoder)
            from_pictures += 1
        else:
            problem = None
        if problem is not None:
            problems.append(f"scan {entry.scan_id} ({entry.record.dataset}/{entry.record.case_id}): {problem}")
        if on_progress is not None:
            on_progress(done, len(drawn))
    return RecheckResult(from_files=from_files, from_pictures=from_pictures, problems=tuple(problems))


def _known(dataset: Dataset) -> dict[CaseKey, str]:
    """(dataset, case id in a gallery) → the case's own name; a gallery may have it under either."""
    records = dataset.records()
    opaque = {}
    if getattr(dataset, "own_archive", False):
        opaque = {(record.dataset, opaque_id(record.dataset, record.case_id)): record.case_id for record in records}
    return {**opaque, **{(record.dataset, record.case_id): record.case_id for record in records}}


def _from_files(entry: GalleryEntry, dataset: Dataset, case_id: str, encoder: Encoder) -> str | None:
    try:
        scans = dataset.load(case_id, masks=False).scans
    except (SonoseekError, OSError) as error:
        return f"its file does not read ({error})"
    same = [scan for scan in scans if scan.scan_id == entry.scan_id]
    if not same:
        return "no file of its case has these pixels any more; build the case again"
    return _compared(same[0], entry, encoder, least=FROM_FILES)


def _from_picture(entry: GalleryEntry, encoder: Encoder) -> str | None:
    try:
        pixels = decode_picture(entry.picture or b"", shape=entry.scan_shape)
        scan = Scan(pixels=pixels, spacing_mm=entry.spacing_mm)
        return _compared(scan, entry, encoder, least=FROM_PICTURE)
    except SonoseekError as error:
        return str(error)


def _compared(scan: Scan, entry: GalleryEntry, encoder: Encoder, *, least: float) -> str | None:
    embedding = encode_scan(encoder, scan)[1].embedding[0].astype(np.float64)
    stored = entry.embedding.astype(np.float64)
    length = float(np.linalg.norm(embedding) * np.linalg.norm(stored))
    cosine = float(embedding @ stored) / length if length > 0 else 0.0
    if cosine >= least:
        return None
    return (
        f"the network gives it another embedding (cosine {cosine:.4f}, expected {least} or more); build its case again"
    )
