"""Questions and reports."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.datastructures import FormData, UploadFile

from sonoseek.apps.web.cache import HeldReport, Upload
from sonoseek.apps.web.errors import RefusedError
from sonoseek.apps.web.query_form import MOST_VIEWS, Asked, answer, form_schema, parse_form
from sonoseek.apps.web.state import Room
from sonoseek.core import Box
from sonoseek.engine import EncodedScan
from sonoseek.reports import phrases, render
from sonoseek.reports.json import encode_json

router = APIRouter(prefix="/api", tags=["queries"])
ReportId = Annotated[str, Path(pattern="^[0-9a-f]{24}$", description="Of the `Content-Location` of a question.")]
UploadId = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="sha256 of a file that was sent.")]


async def the_room(request: Request) -> Room:
    """The server's things; a coroutine, for FastAPI calls a plain function in a thread, at every request."""
    room: Room = request.app.state.room
    return room


TheRoom = Annotated[Room, Depends(the_room)]
FORM: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form_schema()}}}
}
REPORT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The report, as `sonoseek query --format json` writes it.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Report"}}},
        "headers": {
            "Content-Location": {"schema": {"type": "string"}, "description": "Of the report, while it is at hand."},
            "Sonoseek-Uploads": {"schema": {"type": "string"}, "description": "sha256 of the files, with commas."},
            "Sonoseek-Frames": {"schema": {"type": "integer"}, "description": "Pictures in the first file."},
            "Server-Timing": {"schema": {"type": "string"}, "description": "Milliseconds in the server."},
        },
    }
}


@router.post("/query", responses=REPORT, openapi_extra=FORM)
async def query(request: Request, room: TheRoom) -> Response:
    """Ask: what does this scan most likely show, and which past cases look like it?

    With files, or with a case of the archive. The report's pictures lie below its `Content-Location`.
    """
    started = time.perf_counter()
    asked = await _received(request, room)
    received = time.perf_counter()
    name, held, body = await room.workers.run_first(_answered, room, asked)
    done = time.perf_counter()
    headers = {
        "Content-Location": f"{request.scope.get('root_path', '')}/api/reports/{name}",
        "Server-Timing": f"receive;dur={(received - started) * 1e3:.1f}, answer;dur={(done - received) * 1e3:.1f}",
    }
    shown = held.uploads
    if shown:
        headers["Sonoseek-Uploads"] = ",".join(upload.upload_id for upload in shown)
        headers["Sonoseek-Frames"] = str(shown[0].frames)
    return Response(body, media_type="application/json", headers=headers)


@router.post("/uploads", status_code=201, openapi_extra=FORM)
async def upload(request: Request, room: TheRoom) -> list[dict[str, Any]]:
    """Send files without asking yet: to choose a frame of a cine first."""
    async with _form(request, max_fields=8) as form:
        files = _files(form)
        if not files:
            raise RefusedError(422, "no file is sent; send at least one in a field called 'file'.")
        kept = [await room.workers.run_first(room.keep, part.file, part.filename or "scan") for part in files]
    return [_upload(each) for each in kept]


@router.get("/uploads/{upload_id}")
async def get_upload(upload_id: UploadId, room: TheRoom) -> dict[str, Any]:
    """Whether a file is still at hand, its name, and how many pictures it holds."""
    return _upload(room.uploads.get(upload_id))


@router.delete("/uploads/{upload_id}", status_code=204)
async def delete_upload(upload_id: UploadId, room: TheRoom) -> Response:
    """Take a file off the server now rather than later, and every report that was made of it."""
    await room.workers.run(room.forget, room.uploads.get(upload_id))
    return Response(status_code=204)


@router.get("/reports/{report_id}", responses=REPORT)
async def get_report(report_id: ReportId, room: TheRoom, heatmaps: bool = False) -> Response:
    """A report that is at hand, as JSON; with `heatmaps`, every heatmap's pixels too."""
    held = room.reports.get(report_id)
    return Response(await room.workers.run(_document, held, heatmaps=heatmaps), media_type="application/json")


@router.get("/reports/{report_id}/text")
async def get_said(report_id: ReportId, room: TheRoom) -> dict[str, Any]:
    """The report in the sentences that every format carries, and what preprocessing made of each view."""
    return _said(room.reports.get(report_id))


@router.get("/reports/{report_id}/projection")
async def get_place(report_id: ReportId, room: TheRoom) -> dict[str, float | str]:
    """Where the scan would lie on the archive's map."""
    held = room.reports.get(report_id)
    drawn = await room.workers.run(room.map)
    x, y = drawn.place(held.readings[0].embedding)
    return {"x": x, "y": y, "state": drawn.gallery_state}


@router.get(
    "/reports/{report_id}/report.{form}",
    responses={200: {"content": {"application/pdf": {}, "text/html": {}, "application/json": {}}}},
    response_class=Response,
)
async def download(
    report_id: ReportId,
    form: Literal["pdf", "html", "json"],
    room: TheRoom,
    rank: Annotated[int | None, Query(ge=1, description="pdf: also why this match is alike.")] = None,
) -> Response:
    """A report to keep: PDF, one HTML file, or JSON with heatmaps."""
    held = room.reports.get(report_id)
    body, media = await room.workers.run(_rendered, held, form, rank)
    name = f"sonoseek-{held.report.scan_id[:12]}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if form == "html":  # its own policy stands in it; here it must neither reach this server nor be reached
        headers["Content-Security-Policy"] = "sandbox allow-scripts; frame-ancestors 'none'"
    return Response(body, media_type=media, headers=headers)


async def _received(request: Request, room: Room) -> Asked:
    """The form, its files kept."""
    async with _form(request, max_fields=128) as form:
        files = _files(form)
        kept = [await room.workers.run_first(room.keep, part.file, part.filename or "scan") for part in files]
        return parse_form(form, uploads=kept)


@asynccontextmanager
async def _form(request: Request, *, max_fields: int) -> AsyncIterator[FormData]:
    """The request's form; its files are let go at the end.

    Raises:
        RefusedError: 415, it is no form; 400, its texts are in no character set.
    """
    kind = request.headers.get("content-type", "").lower()
    if not kind.startswith(("multipart/form-data", "application/x-www-form")):
        raise RefusedError(415, "send a form (multipart/form-data) with the scan in a field called 'file'.")
    try:
        form = await request.form(max_files=MOST_VIEWS, max_fields=max_fields, max_part_size=64 << 10)
    except UnicodeError:
        raise RefusedError(400, "the form's texts are not in the character set that it names; send UTF-8.") from None
    try:
        yield form
    finally:
        await form.close()


def _files(form: FormData) -> list[UploadFile]:
    """A form's files, all of them in the field 'file'."""
    for name, part in form.multi_items():
        if isinstance(part, UploadFile) and name != "file":
            raise RefusedError(422, f"a file is sent in the field {name[:40]!r}; files go into 'file'.")
        if name == "file" and not isinstance(part, UploadFile):
            raise RefusedError(422, "the field 'file' holds a text; send a file in it, with a file's name.")
    return [part for _, part in form.multi_items() if isinstance(part, UploadFile)]


def _answered(room: Room, asked: Asked) -> tuple[str, HeldReport, bytes]:
    name, held = answer(room, asked)
    return name, held, _document(held)


def _document(held: HeldReport, *, heatmaps: bool = False) -> bytes:
    return encode_json(held.report, heatmaps=heatmaps)


def _rendered(held: HeldReport, form: str, rank: int | None) -> tuple[bytes, str]:
    if form == "pdf":
        from sonoseek.reports.pdf.report import render_pdf

        return render_pdf(held.report, rank=rank), "application/pdf"
    if form == "html":
        return render(held.report, "html").encode(), "text/html"
    return _document(held, heatmaps=True), "application/json"


def _upload(upload: Upload) -> dict[str, Any]:
    return {"upload_id": upload.upload_id, "name": upload.name, "bytes": upload.size, "frames": upload.frames}


def _said(held: HeldReport) -> dict[str, Any]:
    report = held.report
    told = report.explanations
    return {
        "headline": phrases.headline(report.prediction),
        "short_headline": phrases.short_headline(report.prediction),
        "tone": phrases.tone(report.prediction),
        "likeliest": phrases.likeliest(report.prediction),
        "prediction_set": phrases.prediction_set(report.prediction),
        "thresholds": phrases.thresholds(report.prediction),
        "calibration": phrases.calibration(report.prediction.calibration),
        "similar_cases": phrases.similar_cases(report),
        "filtered": phrases.filtered(report),
        "left_out": phrases.left_out(report),
        "no_matches": phrases.no_matches(report),
        "novelty": phrases.novelty(report),
        "size": phrases.size(report.scan),
        "contour": None if report.contour is None else phrases.contour(report.contour),
        "shared_descriptors": [phrases.shared_descriptor(each) for each in report.shared_descriptors],
        "region": None if report.region is None else phrases.region(report.region),
        "crop": None if report.crop is None else phrases.crop(report.crop),
        "lesion": None if report.lesion is None else phrases.lesion(report.lesion),
        "refined": phrases.refined(report) if report.liked or report.disliked else None,
        "titles": [phrases.evidence_title(each.method, each.target, report) for each in told],
        "preprocessing": [_preprocessing(reading) for reading in held.readings],
        "name": held.uploads[0].name if held.uploads else report.scan.source,
        "frames": held.uploads[0].frames if held.uploads else 1,
        "frame": held.frame,
        "views": [
            {
                "name": phrases.name(view.scan),
                "size": phrases.size(view.scan),
                "headline": phrases.headline(view.prediction),
            }
            for view in report.views
        ],
    }


def _preprocessing(reading: EncodedScan) -> dict[str, Any]:
    mapping, preprocessed = reading.mapping, reading.preprocessed
    return {
        "crop": _box(mapping.crop),
        "manual_crop": reading.crop is not None,
        "canvas": mapping.canvas_size,
        "content": _box(mapping.content),
        "burned_in_annotations": reading.marks,
        "archived": preprocessed is None,
        "warnings": [] if preprocessed is None else list(preprocessed.warnings),
    }


def _box(box: Box) -> dict[str, float]:
    return {name: float(getattr(box, name)) for name in ("top", "left", "bottom", "right")}
