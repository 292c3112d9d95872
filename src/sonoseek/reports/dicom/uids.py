"""UIDs that follow from what a result is about: the same result sent again is the same object."""

from __future__ import annotations

import hashlib
import json
import uuid

from sonoseek.core import Report
from sonoseek.io import SourceHeader
from sonoseek.reports.dicom.values import Verification


def derived_uid(*parts: object) -> str:
    """A UID from the sha256 of `parts`: 2.25 and a UUID as a number (PS3.5 B.2)."""
    digest = hashlib.sha256(json.dumps([str(part) for part in parts]).encode("utf-8")).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def series_uid(sop_instance_uid: str) -> str:
    """Of the series that one object of ours is alone in: whoever has the object's UID has its series' as well."""
    return derived_uid(sop_instance_uid, "series")


def identity(
    report: Report, source: SourceHeader, *, study_key: str, verification: Verification | None, predecessor: str = ""
) -> tuple[object, ...]:
    """What distinguishes one result from another.

    The study, the bundle, the gallery and its state; the image and frame; the areas that the reader drew; and the
    reader's decision, with the report that it is about: several of one second are several objects. Not the time of the
    query: a query that is repeated after a crash gives the same UIDs.
    """
    decision: tuple[object, ...] = ()
    if verification is not None:
        decided = verification.when.isoformat(), verification.accepted, verification.corrected_class
        decision = (verification.observer_name, *decided, predecessor)
    return (
        study_key,
        report.bundle_id,
        report.gallery_id,
        report.gallery_state,
        source.sop_instance_uid,
        report.scan.frame,
        report.crop,
        report.lesion,
        *decision,
    )
