"""A cached report with the encoded scans and uploads that it was made of, and how much memory these take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sonoseek.apps.web.upload_store import Upload
from sonoseek.core import Report
from sonoseek.engine import EncodedScan

MAX_ENCODED_SCANS, MAX_ENCODED_SCANS_MB = 48, 192
"""About 1 MB each for an ordinary scan, pixels and evidence; many times that for a large one."""
MAX_REPORTS, MAX_REPORTS_MB = 192, 512
"""About 3 MB each with ten matches, encoded scans included; many times that for a large scan or 200 matches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedReport:
    """A report with what its pictures are drawn from.

    Attributes:
        report: of the engine.
        encoded_scans: one per view.
        uploads: the files, one per view; empty for a case of the archive.
        frame: of the first file, 0-based.
    """

    report: Report
    encoded_scans: tuple[EncodedScan, ...]
    uploads: tuple[Upload, ...] = ()
    frame: int = 0


def encoded_scan_bytes(encoded: EncodedScan) -> int:
    """Memory of an encoded scan's arrays, bytes."""
    arrays: list[NDArray[Any]] = [encoded.scan.pixels, encoded.evidence, encoded.spatial_weights]
    if encoded.preprocessed is not None:
        arrays += [encoded.preprocessed.canvas, encoded.preprocessed.area]
        arrays += [] if encoded.preprocessed.annotations is None else [encoded.preprocessed.annotations]
    return sum(array.nbytes for array in arrays)


def report_bytes(cached: CachedReport) -> int:
    """Memory of a report's arrays with its encoded scans, bytes: mostly the upsampling matrices of its heatmaps."""
    report = cached.report
    explanations = [*report.explanations, *(each for view in report.views for each in view.explanations)]
    explanations += [match.explanation for match in report.matches if match.explanation is not None]
    # heatmaps of one scan share their upsampling
    upsamplings = {id(each.upsampling): each.upsampling for each in explanations}.values()
    return (
        sum(encoded_scan_bytes(encoded) for encoded in cached.encoded_scans)
        + sum(each.evidence_map.nbytes for each in explanations)
        + sum(each.rows.nbytes + each.columns.nbytes for each in upsamplings)
    )
