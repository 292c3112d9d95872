"""Questions and reports."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.datastructures import FormData, UploadFile

from sonoseek.apps.web.cached_report import CachedReport
from sonoseek.apps.web.errors import RefusedError
from sonoseek.apps.web.query_form import MOST_VIEWS, Asked, answer, form_schema, parse_form
from sonoseek.apps.web.state import AppState
from sonoseek.apps.web.upload_store import Upload
from sonoseek.core import Box
from sonoseek.engine import EncodedScan
from sonoseek.reports import phrases, render
from sonoseek.reports.json import encode_json

router = APIRouter(prefix="/api", tags=["queries"])
ReportId = Annotated[str, Path(pattern="^[0-9a-f]{24}$", description="Of the `Content-Location` of a question.")]
UploadId = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="sha256 of a file that was sent.")]


async def get_app_state(request: Request) -> AppState:
    """The server's things; a coroutine, for FastAPI calls a plain function in a thread, at every request."""
    app_state: AppState = request.app.state.app_state
    return app_state


StateDep = Annotated[AppState, Depends(get_app_state)]
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
async def query(request: Request, app_state: StateDep) -> Response:
    """Ask: what does this scan most likely show, and which past cases look like it?

    With files, or with a case of the archive. The report's pictures lie below its `Content-Location`.
    """
    started = time.perf_counter()
    asked = await _received(request, app_state)
    received = time.perf_counter()
    name, cached, body = await app_state.pool.run_priority(_answered, app_state, asked)
    done = time.perf_counter()
    headers = {
        "Content-Location": f"{request.scope.get('root_path', '')}/api/reports/{name}",
        "Server-Timing": f"receive;dur={(received - started) * 1e3:.1f}, answer;dur={(done - received) * 1e3:.1f}",
    }
    shown = cached.uploads
    if shown:
        headers["Sonoseek-Uploads"] = ",".join(upload.upload_id for upload in shown)
        headers["Sonoseek-Frames"] = str(shown[0].frames)
    return Response(body, media_type="application/json", headers=headers)


@router.post("/uploads", status_code=201, openapi_extra=FORM)
async def upload(request: Request, app_state: StateDep) -> list[dict[str, Any]]:
    """Send files without asking yet: to choose a frame of a cine first."""
    async with _form(request, max_fields=8) as form:
        files = _files(form)
        if not files:
            raise RefusedError(422, "no file is sent; send at least one in a field called 'file'.")
        kept = [
            await app_state.pool.run_priority(app_state.save_upload, part.file, part.filename or "scan")
            for part in files
        ]
    return [_upload(each) for each in kept]


@router.get("/uploads/{upload_id}")
async def get_upload(upload_id: UploadId, app_state: StateDep) -> dict[str, Any]:
    """Whether a file is still at hand, its name, and how many pictures it holds."""
    return _upload(app_state.uploads.get(upload_id))


@router.delete("/uploads/{upload_id}", status_code=204)
async def delete_upload(upload_id: UploadId, app_state: StateDep) -> Response:
    """Take a file off the server now rather than later, and every report that was made of it."""
    await app_state.pool.run(app_state.delete_upload, app_state.uploads.get(upload_id))
    return Response(status_code=204)


@router.get("/reports/{report_id}", responses=REPORT)
async def get_report(report_id: ReportId, app_state: StateDep, heatmaps: bool = False) -> Response:
    """A report that is at hand, as JSON; with `heatmaps`, every heatmap's pixels too."""
    cached = app_state.reports.get(report_id)
    return Response(await app_state.pool.run(_document, cached, heatmaps=heatmaps), media_type="application/json")


@router.get("/reports/{report_id}/text")
async def get_said(report_id: ReportId, app_state: StateDep) -> dict[str, Any]:
    """The report in the sentences that every format carries, and what preprocessing made of each view."""
    return _said(app_state.reports.get(report_id))


@router.get("/reports/{report_id}/projection")
async def get_place(report_id: ReportId, app_state: StateDep) -> dict[str, float | str]:
    """Where the scan would lie on the archive's map."""
    cached = app_state.reports.get(report_id)
    drawn = await app_state.pool.run(app_state.projection)
    x, y = drawn.place(cached.encoded_scans[0].embedding)
    return {"x": x, "y": y, "state": drawn.gallery_state}


@router.get(
    "/reports/{report_id}/report.{form}",
    responses={200: {"content": {"application/pdf": {}, "text/html": {}, "application/json": {}}}},
    response_class=Response,
)
async def download(
    report_id: ReportId,
    form: Literal["pdf", "html", "json"],
    app_state: StateDep,
    rank: Annotated[int | None, Query(ge=1, description="pdf: also why this match is alike.")] = None,
) -> Response:
    """A report to keep: PDF, one HTML file, or JSON with heatmaps."""
    cached = app_state.reports.get(report_id)
    body, media = await app_state.pool.run(_rendered, cached, form, rank)
    name = f"sonoseek-{cached.report.scan_id[:12]}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if form == "html":  # its own policy stands in it; here it must neither reach this server nor be reached
        headers["Content-Security-Policy"] = "sandbox allow-scripts; frame-ancestors 'none'"
    return Response(body, media_type=media, headers=headers)


async def _received(request: Request, app_state: AppState) -> Asked:
    """The form, its files kept."""
    async with _form(request, max_fields=128) as form:
        files = _files(form)
        kept = [
            await app_state.pool.run_priority(app_state.save_upload, part.file, part.filename or "scan")
            for part in files
        ]
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


def _answered(app_state: AppState, asked: Asked) -> tuple[str, CachedReport, bytes]:
    name, cached = answer(app_state, asked)
    return name, cached, _document(cached)


def _document(cached: CachedReport, *, heatmaps: bool = False) -> bytes:
    return encode_json(cached.report, heatmaps=heatmaps)


def _rendered(cached: CachedReport, form: str, rank: int | None) -> tuple[bytes, str]:
    if form == "pdf":
        from sonoseek.reports.pdf.report import render_pdf

        return render_pdf(cached.report, rank=rank), "application/pdf"
    if form == "html":
        return render(cached.report, "html").encode(), "text/html"
    return _document(cached, heatmaps=True), "application/json"


def _upload(upload: Upload) -> dict[str, Any]:
    return {"upload_id": upload.upload_id, "name": upload.name, "bytes": upload.size, "frames": upload.frames}


def _said(cached: CachedReport) -> dict[str, Any]:
    report = cached.report
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
        "preprocessing": [_preprocessing(encoded) for encoded in cached.encoded_scans],
        "name": cached.uploads[0].name if cached.uploads else report.scan.source,
        "frames": cached.uploads[0].frames if cached.uploads else 1,
        "frame": cached.frame,
        "views": [
            {
                "name": phrases.name(view.scan),
                "size": phrases.size(view.scan),
                "headline": phrases.headline(view.prediction),
            }
            for view in report.views
        ],
    }


def _preprocessing(encoded: EncodedScan) -> dict[str, Any]:
    mapping, preprocessed = encoded.mapping, encoded.preprocessed
    return {
        "crop": _box(mapping.crop),
        "manual_crop": encoded.crop is not None,
        "canvas": mapping.canvas_size,
        "content": _box(mapping.content),
        "burned_in_annotations": encoded.marks,
        "archived": preprocessed is None,
        "warnings": [] if preprocessed is None else list(preprocessed.warnings),
    }


def _box(box: Box) -> dict[str, float]:
    return {name: float(getattr(box, name)) for name in ("top", "left", "bottom", "right")}
