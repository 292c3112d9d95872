"""Pictures at a requested size: scans, model inputs, heatmaps, and scans of the archive."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response

from sonoseek.apps.web.routes_query import ReportId, StateDep, UploadId
from sonoseek.core import Explanation, NotFoundError
from sonoseek.gallery import Gallery, decode_picture
from sonoseek.reports.pictures import Side, heat_image, scan_image

router = APIRouter(prefix="/api", tags=["pictures"])
Form = Literal["png", "webp", "jpeg"]
Size = Annotated[int, Query(ge=16, le=4096, description="Pixels of the longer side, at most.")]
View = Annotated[int, Query(ge=0, description="Which of several views, from 0.")]
Reference = Annotated[
    float | None,
    Query(
        ge=1e-6, lt=1e6, description="What full colour stands for, per hundredth of the scan; two maps may share it."
    ),
]
ScanId = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="Of a scan of the archive.")]
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}, "image/webp": {}, "image/jpeg": {}}, "description": "The picture."},
}


@router.get("/reports/{report_id}/scan", responses=PICTURE, response_class=Response)
async def scan(
    report_id: ReportId, app_state: StateDep, view: View = 0, size: Size = 2048, form: Form = "png"
) -> Response:
    """The query's scan, in its own pixels unless `size` is smaller."""
    encoded = _nth(app_state.reports.get(report_id).encoded_scans, view, "view")
    return await _respond(app_state, form, lambda: scan_image(encoded.scan.pixels, longest=size, format=form))


@router.get("/reports/{report_id}/canvas", responses=PICTURE, response_class=Response)
async def canvas(
    report_id: ReportId, app_state: StateDep, view: View = 0, size: Size = 2048, form: Form = "png"
) -> Response:
    """The model input: the scan cropped, burned-in annotations painted over, contrast normalised."""
    encoded = _nth(app_state.reports.get(report_id).encoded_scans, view, "view")
    if encoded.preprocessed is None:
        raise NotFoundError("the archive keeps no model input of its scans; query with the scan's file to see one.")
    pixels = encoded.preprocessed.canvas
    return await _respond(app_state, form, lambda: scan_image(pixels, longest=size, format=form))


@router.get("/reports/{report_id}/heatmaps/{number}/{side}", responses=PICTURE, response_class=Response)
async def heatmap(
    report_id: ReportId,
    number: Annotated[int, Path(ge=0, le=10_000)],
    side: Side,
    app_state: StateDep,
    view: View = 0,
    size: Size = 640,
    reference: Reference = None,
    form: Form = "png",
) -> Response:
    """A layer of one of the report's `explanations` (of a further view: of that view's), on the scan's own grid."""
    report = app_state.reports.get(report_id).report
    explanations = report.explanations if view == 0 else _nth(report.views, view - 1, "view").explanations
    explanation = _nth(explanations, number, "explanation")
    return await _heat(app_state, explanation, side, size, reference, form)


@router.get("/reports/{report_id}/matches/{rank}/{side}", responses=PICTURE, response_class=Response)
async def match_heatmap(
    report_id: ReportId,
    rank: Annotated[int, Path(ge=1, le=10_000)],
    side: Side,
    app_state: StateDep,
    size: Size = 640,
    reference: Reference = None,
    form: Form = "png",
) -> Response:
    """A layer of a match's own heatmap: where it resembles the scan, on its own grid."""
    match = _nth(app_state.reports.get(report_id).report.matches, rank - 1, "match")
    if match.explanation is None:
        raise NotFoundError("the archive keeps no evidence of this match; build its case again to have it explained.")
    return await _heat(app_state, match.explanation, side, size, reference, form)


@router.get("/uploads/{upload_id}/frames/{frame}", responses=PICTURE, response_class=Response)
async def upload_frame(
    upload_id: UploadId,
    frame: Annotated[int, Path(ge=0, le=100_000)],
    app_state: StateDep,
    size: Size = 160,
    form: Form = "webp",
) -> Response:
    """A frame of an uploaded file: for a cine strip."""
    upload = app_state.uploads.get(upload_id)

    def draw() -> bytes:
        return scan_image(app_state.load_scan(upload, frame=frame).pixels, longest=size, format=form)

    return await _respond(app_state, form, draw)


@router.get("/pictures/{scan_id}", responses=PICTURE, response_class=Response)
async def picture(scan_id: ScanId, app_state: StateDep, size: Size = 512, form: Form = "webp") -> Response:
    """A scan of the archive, 512 pixels at most."""
    return await _respond(app_state, form, lambda: _archived(app_state.gallery, scan_id, size, form))


def _archived(gallery: Gallery, scan_id: str, size: int, form: Form) -> bytes:
    entries = gallery.entries(scan_ids=[scan_id], evidence=False)
    picture = next((entry.picture for entry in entries if entry.picture is not None), None)
    if picture is None:
        raise NotFoundError(f"the archive holds no picture of scan {scan_id[:16]!r}; it may have been removed.")
    return scan_image(decode_picture(picture), longest=size, format=form)


async def _heat(
    app_state: StateDep,
    explanation: Explanation,
    side: Side,
    size: int,
    reference: float | None,
    form: Form,
) -> Response:
    draw = partial(heat_image, explanation, side=side, longest=size, reference=reference, format=form)
    return await _respond(app_state, "png" if form == "jpeg" else form, draw)


async def _respond(app_state: StateDep, form: Form, draw: Callable[[], bytes]) -> Response:
    """A picture. No browser keeps it: the workstation may be another reader's in the next hour."""
    return Response(await app_state.pool.run(draw), media_type=f"image/{form}")


def _nth(items: tuple[Any, ...], number: int, what: str) -> Any:
    if number >= len(items):
        raise NotFoundError(f"there is no {what} {number}; there are {len(items)}, counted from 0.")
    return items[number]
