"""The archive: its counts, its projection, its cases."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Request, Response
from starlette.responses import FileResponse

from sonoseek.apps.web.query_form import MAX_K, MAX_VIEWS
from sonoseek.apps.web.readers import SESSION, cookie
from sonoseek.apps.web.routes_query import StateDep
from sonoseek.apps.web.schemas import About, Archive, ArchivedCase, ArchiveProjection, Descriptor
from sonoseek.apps.web.state import AppState
from sonoseek.core import DISCLAIMER, PATHOLOGIES, NotFoundError
from sonoseek.core.version import __version__
from sonoseek.gallery import GalleryEntry
from sonoseek.reports import phrases

router = APIRouter(prefix="/api", tags=["archive"])
MAX_EXAMPLES = 24
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
Dataset = Annotated[str, Path(min_length=1, max_length=200)]
CaseId = Annotated[str, Path(min_length=1, max_length=500)]


@router.get("/about")
async def about(request: Request, app_state: StateDep) -> About:
    """Versions, bundle and archive, and the server's limits."""
    gallery_state, info = await app_state.pool.run(app_state.info)
    settings, bundle = app_state.settings, app_state.engine.bundle
    return About(
        disclaimer=DISCLAIMER,
        signed_in=app_state.sessions.use(cookie(request, SESSION)) is not None,
        version=__version__,
        bundle_id=bundle.bundle_id,
        classes=list(bundle.classes),
        reads_marks=bundle.reads_marks,
        calibration=phrases.calibration(bundle.calibration),
        abstain_below=bundle.abstain_below,
        gallery_id=info.gallery_id,
        gallery_state=gallery_state,
        scans=info.scans,
        cases=info.cases,
        writable=settings.writable,
        folders=settings.folders is not None,
        worklist=app_state.worklist is not None,
        max_upload_bytes=settings.max_upload_mb << 20,
        max_batch_bytes=settings.max_batch_mb << 20,
        max_k=MAX_K,
        max_views=MAX_VIEWS,
        cache_minutes=settings.cache_minutes,
        batch_retention_hours=settings.batch_retention_hours,
    )


@router.get("/archive")
async def archive(app_state: StateDep) -> Archive:
    """The archive's scans, counted by diagnosis, BI-RADS, device and dataset, and how it is searched."""
    gallery_state, info = await app_state.pool.run(app_state.info)
    counts = await app_state.pool.run(app_state.gallery.descriptor_counts)
    own = {"gallery_state": gallery_state, "descriptor_counts": counts, "created": info.created.isoformat()}
    return Archive.model_validate({**vars(info), **own})


@router.get("/archive/projection", responses={200: {"model": ArchiveProjection}}, response_class=Response)
async def archive_projection(app_state: StateDep) -> Response:
    """The archive in the plane, in the order of dataset and case; a sample where there are too many scans."""
    return Response(await app_state.pool.run(_projection, app_state), media_type="application/json")


@router.get("/cases/{dataset}/{case_id:path}", responses={404: {"description": "The archive holds no such case."}})
async def case(dataset: Dataset, case_id: CaseId, app_state: StateDep) -> ArchivedCase:
    """A case of the archive: its metadata, and its scans."""
    entries = await app_state.pool.run(app_state.gallery.entries, cases=[(dataset, case_id)])
    if not entries:
        raise NotFoundError(
            f"the archive holds no case {case_id[:80]!r} of {dataset[:80]!r}; matches name what it holds."
        )
    return _case(entries)


@router.get("/examples")
async def examples(app_state: StateDep) -> list[str]:
    """Names of example scans; see `/api/examples/{number}`."""
    return [path.name for path in _examples(app_state)]


@router.get(
    "/examples/{number}",
    responses={200: {"content": {"image/png": {}, "image/jpeg": {}}}},
    response_class=FileResponse,
)
async def example(number: Annotated[int, Path(ge=0, lt=MAX_EXAMPLES)], app_state: StateDep) -> FileResponse:
    """One of them, as a file."""
    paths = _examples(app_state)
    if number >= len(paths):
        raise NotFoundError(f"there is no example {number}; there are {len(paths)}, counted from 0.")
    path = paths[number]
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix.lower()])


def _examples(app_state: AppState) -> list[FilePath]:
    folder = app_state.settings.examples
    if folder is None or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in MEDIA_TYPES)[:MAX_EXAMPLES]


def _projection(app_state: AppState) -> bytes:
    projection = app_state.projection()
    records = [entry.record for entry in projection.entries]
    datasets = sorted({record.dataset for record in records})
    return msgspec.json.encode(
        {
            "state": projection.gallery_state,
            "total": projection.total,
            "explained_variance_ratio": list(projection.explained),
            "labels": list(PATHOLOGIES),
            "datasets": datasets,
            "x": [round(float(x), 4) for x in projection.places[:, 0]],
            "y": [round(float(y), 4) for y in projection.places[:, 1]],
            "label": [PATHOLOGIES.index(record.pathology) for record in records],
            "dataset": [datasets.index(record.dataset) for record in records],
            "case_id": [record.case_id for record in records],
        }
    )


def _case(entries: tuple[GalleryEntry, ...]) -> ArchivedCase:
    record = entries[0].record
    own = {
        "label": record.pathology,
        "group": None if record.group == record.patient_id else record.group,
        "acquired": None if record.acquired is None else record.acquired.isoformat(),
        "descriptors": [Descriptor(feature=feature, descriptor=name) for feature, name in record.descriptors],
        "scans": [
            {
                **vars(entry),
                "height": entry.scan_shape[0],
                "width": entry.scan_shape[1],
                "has_picture": entry.picture is not None,
                "has_evidence": entry.evidence is not None,
            }
            for entry in entries
        ],
    }
    return ArchivedCase.model_validate({**vars(record), **own})
