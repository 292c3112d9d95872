"""The archive: what it holds, its overview, its cases."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Response
from starlette.responses import FileResponse

import sonoseek
from sonoseek.apps.web.query_form import MOST_K, MOST_VIEWS
from sonoseek.apps.web.routes_query import TheRoom
from sonoseek.apps.web.state import Room
from sonoseek.core import DISCLAIMER, PATHOLOGIES, NotFoundError
from sonoseek.gallery import GalleryEntry
from sonoseek.reports import phrases

router = APIRouter(prefix="/api", tags=["archive"])
MOST_EXAMPLES = 24
SUFFIXES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
Dataset = Annotated[str, Path(min_length=1, max_length=200)]
CaseId = Annotated[str, Path(min_length=1, max_length=500)]


@router.get("/about")
async def about(room: TheRoom) -> dict[str, Any]:
    """Who answers here: versions, bundle, archive, and what may be asked of it."""
    state, info = await room.workers.run(room.info)
    settings = room.settings
    return {
        "disclaimer": DISCLAIMER,
        "version": sonoseek.__version__,
        "bundle_id": room.engine.bundle.bundle_id,
        "classes": list(room.engine.bundle.classes),
        "reads_marks": room.engine.bundle.reads_marks,
        "calibration": phrases.calibration(room.engine.bundle.calibration),
        "abstain_below": room.engine.bundle.abstain_below,
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
        "hold_minutes": settings.hold_minutes,
        "keep_batch_hours": settings.keep_batch_hours,
    }


@router.get("/archive")
async def archive(room: TheRoom) -> dict[str, Any]:
    """What the archive holds, counted by diagnosis, BI-RADS, device and dataset, and how it is searched."""
    state, info = await room.workers.run(room.info)
    words = await room.workers.run(room.gallery.descriptor_counts)
    return {
        "gallery_id": info.gallery_id,
        "gallery_state": state,
        "scans": info.scans,
        "cases": info.cases,
        "by_label": info.by_label,
        "by_birads": info.by_birads,
        "by_device": info.by_device,
        "by_dataset": info.by_dataset,
        "described": {feature: dict(counts) for feature, counts in words.items()},
        "index": info.index,
        "bytes": info.bytes,
        "created": info.created.isoformat(),
    }


@router.get("/archive/map")
async def archive_map(room: TheRoom) -> Response:
    """The archive in the plane: places in the order of dataset and case; a sample where there are too many scans."""
    return Response(await room.workers.run(_map, room), media_type="application/json")


@router.get("/cases/{dataset}/{case_id:path}", responses={404: {"description": "The archive holds no such case."}})
async def case(dataset: Dataset, case_id: CaseId, room: TheRoom) -> dict[str, Any]:
    """A case of the archive: what is known about it, and its scans."""
    entries = await room.workers.run(room.gallery.entries, cases=[(dataset, case_id)])
    if not entries:
        raise NotFoundError(
            f"the archive holds no case {case_id[:80]!r} of {dataset[:80]!r}; matches name what it holds."
        )
    return _case(entries)


@router.get("/examples")
async def examples(room: TheRoom) -> list[str]:
    """Scans that the server offers to try, by name; see `/api/examples/{number}`."""
    return [path.name for path in _examples(room)]


@router.get(
    "/examples/{number}",
    responses={200: {"content": {"image/png": {}, "image/jpeg": {}}}},
    response_class=FileResponse,
)
async def example(number: Annotated[int, Path(ge=0, lt=MOST_EXAMPLES)], room: TheRoom) -> FileResponse:
    """One of them, as a file."""
    found = _examples(room)
    if number >= len(found):
        raise NotFoundError(f"there is no example {number}; there are {len(found)}, counted from 0.")
    path = found[number]
    return FileResponse(path, media_type=SUFFIXES[path.suffix.lower()], headers={"Cache-Control": "no-cache"})


def _examples(room: Room) -> list[FilePath]:
    folder = room.settings.examples
    if folder is None or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:MOST_EXAMPLES]


def _map(room: Room) -> bytes:
    drawn = room.map()
    records = [entry.record for entry in drawn.entries]
    datasets = sorted({record.dataset for record in records})
    return msgspec.json.encode(
        {
            "state": drawn.gallery_state,
            "total": drawn.total,
            "explained": list(drawn.explained),
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
                "picture": entry.picture is not None,
                "explained": entry.evidence is not None,
            }
            for entry in entries
        ],
    }
