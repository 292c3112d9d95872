"""The archive: what it holds, its overview, its cases."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Response
from starlette.responses import FileResponse

import sonoseek
from sonoseek.apps.web.query_form import MOST_K, MOST_VIEWS
from sonoseek.apps.web.routes_query import StateDep
from sonoseek.apps.web.state import AppState
from sonoseek.core import DISCLAIMER, PATHOLOGIES, NotFoundError
from sonoseek.gallery import GalleryEntry
from sonoseek.reports import phrases

router = APIRouter(prefix="/api", tags=["archive"])
MOST_EXAMPLES = 24
SUFFIXES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
Dataset = Annotated[str, Path(min_length=1, max_length=200)]
CaseId = Annotated[str, Path(min_length=1, max_length=500)]


@router.get("/about")
async def about(app_state: StateDep) -> dict[str, Any]:
    """Who answers here: versions, bundle, archive, and what may be asked of it."""
    state, info = await app_state.pool.run(app_state.info)
    settings = app_state.settings
    return {
        "disclaimer": DISCLAIMER,
        "version": sonoseek.__version__,
        "bundle_id": app_state.engine.bundle.bundle_id,
        "classes": list(app_state.engine.bundle.classes),
        "reads_marks": app_state.engine.bundle.reads_marks,
        "calibration": phrases.calibration(app_state.engine.bundle.calibration),
        "abstain_below": app_state.engine.bundle.abstain_below,
        "gallery_id": info.gallery_id,
        "gallery_state": state,
        "scans": info.scans,
        "cases": info.cases,
        "writable": settings.writable,
        "folders": settings.folders is not None,
        "max_upload_bytes": settings.max_upload_mb << 20,
        "max_batch_bytes": settings.max_batch_mb << 20,
        "max_k": MOST_K,
        "max_views": MOST_VIEWS,
        "cache_minutes": settings.cache_minutes,
        "batch_retention_hours": settings.batch_retention_hours,
    }


@router.get("/archive")
async def archive(app_state: StateDep) -> dict[str, Any]:
    """What the archive holds, counted by diagnosis, BI-RADS, device and dataset, and how it is searched."""
    state, info = await app_state.pool.run(app_state.info)
    words = await app_state.pool.run(app_state.gallery.descriptor_counts)
    return {
        "gallery_id": info.gallery_id,
        "gallery_state": state,
        "scans": info.scans,
        "cases": info.cases,
        "by_label": info.by_label,
        "by_birads": info.by_birads,
        "by_device": info.by_device,
        "by_dataset": info.by_dataset,
        "descriptor_counts": {feature: dict(counts) for feature, counts in words.items()},
        "index": info.index,
        "bytes": info.bytes,
        "created": info.created.isoformat(),
    }


@router.get("/archive/map")
async def archive_map(app_state: StateDep) -> Response:
    """The archive in the plane: places in the order of dataset and case; a sample where there are too many scans."""
    return Response(await app_state.pool.run(_map, app_state), media_type="application/json")


@router.get("/cases/{dataset}/{case_id:path}", responses={404: {"description": "The archive holds no such case."}})
async def case(dataset: Dataset, case_id: CaseId, app_state: StateDep) -> dict[str, Any]:
    """A case of the archive: what is known about it, and its scans."""
    entries = await app_state.pool.run(app_state.gallery.entries, cases=[(dataset, case_id)])
    if not entries:
        raise NotFoundError(
            f"the archive holds no case {case_id[:80]!r} of {dataset[:80]!r}; matches name what it holds."
        )
    return _case(entries)


@router.get("/examples")
async def examples(app_state: StateDep) -> list[str]:
    """Scans that the server offers to try, by name; see `/api/examples/{number}`."""
    return [path.name for path in _examples(app_state)]


@router.get(
    "/examples/{number}",
    responses={200: {"content": {"image/png": {}, "image/jpeg": {}}}},
    response_class=FileResponse,
)
async def example(number: Annotated[int, Path(ge=0, lt=MOST_EXAMPLES)], app_state: StateDep) -> FileResponse:
    """One of them, as a file."""
    found = _examples(app_state)
    if number >= len(found):
        raise NotFoundError(f"there is no example {number}; there are {len(found)}, counted from 0.")
    path = found[number]
    return FileResponse(path, media_type=SUFFIXES[path.suffix.lower()], headers={"Cache-Control": "no-cache"})


def _examples(app_state: AppState) -> list[FilePath]:
    folder = app_state.settings.examples
    if folder is None or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:MOST_EXAMPLES]


def _map(app_state: AppState) -> bytes:
    drawn = app_state.projection()
    records = [entry.record for entry in drawn.entries]
    datasets = sorted({record.dataset for record in records})
    return msgspec.json.encode(
        {
            "state": drawn.gallery_state,
            "total": drawn.total,
            "explained_variance_ratio": list(drawn.explained),
            "labels": list(PATHOLOGIES),
            "datasets": datasets,
            "x": [round(float(x), 4) for x in drawn.places[:, 0]],
            "y": [round(float(y), 4) for y in drawn.places[:, 1]],
            "label": [PATHOLOGIES.index(record.pathology) for record in records],
            "dataset": [datasets.index(record.dataset) for record in records],
            "case_id": [record.case_id for record in records],
        }
    )


def _case(entries: tuple[GalleryEntry, ...]) -> dict[str, Any]:
    record = entries[0].record
    return {
        "dataset": record.dataset,
        "case_id": record.case_id,
        "label": record.pathology,
        "birads": record.birads,
        "histology": record.histology,
        "device": record.device,
        "patient_id": record.patient_id,
        "group": record.group,
        "age_years": record.age_years,
        "acquired": None if record.acquired is None else record.acquired.isoformat(),
        "licence": record.licence,
        "descriptors": [{"feature": feature, "descriptor": word} for feature, word in record.descriptors],
        "scans": [
            {
                "scan_id": entry.scan_id,
                "height": entry.scan_shape[0],
                "width": entry.scan_shape[1],
                "spacing_mm": None if entry.spacing_mm is None else list(entry.spacing_mm),
                "laterality": entry.laterality,
                "view": entry.view,
                "has_picture": entry.picture is not None,
                "has_evidence": entry.evidence is not None,
            }
            for entry in entries
        ],
    }
