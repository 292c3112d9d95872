"""Queries, uploads and reports."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any, Literal, cast

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.datastructures import FormData, UploadFile

from sonoseek.apps.web import schemas
from sonoseek.apps.web.cached_report import CachedReport
from sonoseek.apps.web.errors import RefusedError
from sonoseek.apps.web.query_form import MAX_VIEWS, QueryForm, answer, form_schema, parse_form
from sonoseek.apps.web.state import AppState
from sonoseek.apps.web.upload_store import Upload
from sonoseek.core.arrays import unit_rows
from sonoseek.engine import EncodedScan
from sonoseek.reports import phrases, render, render_pdf
from sonoseek.reports.json import encode_json

router = APIRouter(prefix="/api", tags=["queries"])
ReportId = Annotated[str, Path(pattern="^[0-9a-f]{24}$", description="Of the `Content-Location` of a query.")]
UploadId = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="sha256 of an uploaded file.")]


async def get_app_state(request: Request) -> AppState:
    """The application state. A coroutine, since FastAPI calls a plain function in a thread at every request."""
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
            "Content-Location": {"schema": {"type": "string"}, "description": "Of the report, while it is cached."},
            "Sonoseek-Uploads": {"schema": {"type": "string"}, "description": "sha256 of the files, with commas."},
            "Sonoseek-Frames": {"schema": {"type": "integer"}, "description": "Pictures in the first file."},
            "Server-Timing": {"schema": {"type": "string"}, "description": "Milliseconds in the server."},
        },
    }
}


@router.post("/query", responses=REPORT, openapi_extra=FORM, response_class=Response)
async def query(request: Request, app_state: StateDep) -> Response:
    """Predict what a scan shows, and find the most similar past cases.

    With files, or with a case of the archive. The report's pictures lie below its `Content-Location`.
    """
    started = time.perf_counter()
    form = await _receive(request, app_state)
    received = time.perf_counter()
    report_id, cached, body = await app_state.pool.run_priority(_answer, app_state, form)
    done = time.perf_counter()
    headers = {
        "Content-Location": f"{request.scope.get('root_path', '')}/api/reports/{report_id}",
        "Server-Timing": f"receive;dur={(received - started) * 1e3:.1f}, answer;dur={(done - received) * 1e3:.1f}",
    }
    if cached.uploads:
        headers["Sonoseek-Uploads"] = ",".join(upload.upload_id for upload in cached.uploads)
        headers["Sonoseek-Frames"] = str(cached.uploads[0].frames)
    return Response(body, media_type="application/json", headers=headers)


@router.post("/uploads", status_code=201, openapi_extra=FORM)
async def upload(request: Request, app_state: StateDep) -> list[schemas.Upload]:
    """Send files without a query: to choose a frame of a cine first."""
    async with _form(request, max_fields=8) as form:
        uploads = await _save_files(form, app_state)
    if not uploads:
        raise RefusedError(422, "no file is sent; send at least one in a field called 'file'.")
    return [upload_model(each) for each in uploads]


@router.get("/uploads/{upload_id}")
async def get_upload(upload_id: UploadId, app_state: StateDep) -> schemas.Upload:
    """An uploaded file, while it is cached: its name, and how many pictures it holds."""
    return upload_model(app_state.uploads.get(upload_id))


@router.delete("/uploads/{upload_id}", status_code=204)
async def delete_upload(upload_id: UploadId, app_state: StateDep) -> Response:
    """Delete a file from the server now, and every report that was made of it."""
    await app_state.pool.run(app_state.delete_upload, app_state.uploads.get(upload_id))
    return Response(status_code=204)


@router.get("/reports/{report_id}", responses=REPORT, response_class=Response)
async def get_report(report_id: ReportId, app_state: StateDep, heatmaps: bool = False) -> Response:
    """A cached report as JSON; with `heatmaps`, every heatmap's pixels too."""
    report = app_state.reports.get(report_id).report
    body = await app_state.pool.run(encode_json, report, heatmaps=heatmaps)
    return Response(body, media_type="application/json")


@router.get("/reports/{report_id}/text")
async def get_text(report_id: ReportId, app_state: StateDep) -> schemas.ReportText:
    """The report in the sentences that every format shares, and how each view was preprocessed."""
    return _text(app_state.reports.get(report_id))


@router.get("/reports/{report_id}/projection")
async def get_projection(report_id: ReportId, app_state: StateDep) -> schemas.ProjectedPoint:
    """The scan, or the mean of its views, in the archive's projection."""
    cached = app_state.reports.get(report_id)
    projection = await app_state.pool.run(app_state.projection)
    x, y = projection.place(unit_rows(np.stack([each.embedding for each in cached.encoded_scans])).mean(axis=0))
    return schemas.ProjectedPoint(x=x, y=y, state=projection.gallery_state)


@router.get(
    "/reports/{report_id}/report.{form}",
    responses={200: {"content": {"application/pdf": {}, "text/html": {}, "application/json": {}}}},
    response_class=Response,
)
async def download(
    report_id: ReportId,
    form: Literal["pdf", "html", "json"],
    app_state: StateDep,
    rank: Annotated[int | None, Query(ge=1, description="pdf: also why this match is similar.")] = None,
) -> Response:
    """The report as a file: PDF, one HTML file, or JSON with heatmaps."""
    cached = app_state.reports.get(report_id)
    body, media_type = await app_state.pool.run(_render, cached, form, rank)
    name = f"sonoseek-{cached.report.scan_id[:12]}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if form == "html":  # the file has its own policy; served from here it must not reach this server
        headers["Content-Security-Policy"] = "sandbox allow-scripts; frame-ancestors 'none'"
    return Response(body, media_type=media_type, headers=headers)


def upload_model(upload: Upload) -> schemas.Upload:
    """An upload as the API describes it."""
    return schemas.Upload(upload_id=upload.upload_id, name=upload.name, bytes=upload.size, frames=upload.frames)


async def _receive(request: Request, app_state: AppState) -> QueryForm:
    async with _form(request, max_fields=128) as form:
        return parse_form(form, uploads=await _save_files(form, app_state))


@asynccontextmanager
async def _form(request: Request, *, max_fields: int) -> AsyncIterator[FormData]:
    """The request's form; its temporary files are closed at the end.

    Raises:
        RefusedError: 415, it is no form; 400, its texts cannot be decoded.
    """
    media_type = request.headers.get("content-type", "").lower()
    if not media_type.startswith(("multipart/form-data", "application/x-www-form")):
        raise RefusedError(415, "send a form (multipart/form-data) with the scan in a field called 'file'.")
    try:
        form = await request.form(max_files=MAX_VIEWS, max_fields=max_fields, max_part_size=64 << 10)
    except UnicodeError:
        raise RefusedError(400, "the form's texts are not in the character set that it names; send UTF-8.") from None
    try:
        yield form
    finally:
        await form.close()


async def _save_files(form: FormData, app_state: AppState) -> list[Upload]:
    """Store a form's files; all of them are in the field 'file'."""
    files = []
    for name, part in form.multi_items():
        if isinstance(part, UploadFile):
            if name != "file":
                raise RefusedError(422, f"a file is sent in the field {name[:40]!r}; files go into 'file'.")
            files.append(part)
        elif name == "file":
            raise RefusedError(422, "the field 'file' holds a text; send a file in it, with a file's name.")
    save = app_state.save_upload
    return [await app_state.pool.run_priority(save, part.file, part.filename or "scan") for part in files]


def _answer(app_state: AppState, form: QueryForm) -> tuple[str, CachedReport, bytes]:
    report_id, cached = answer(app_state, form)
    return report_id, cached, encode_json(cached.report)


def _render(cached: CachedReport, form: str, rank: int | None) -> tuple[bytes, str]:
    if form == "pdf":
        return render_pdf(cached.report, rank=rank), "application/pdf"
    if form == "html":
        return render(cached.report, "html").encode(), "text/html"
    return encode_json(cached.report, heatmaps=True), "application/json"


def _text(cached: CachedReport) -> schemas.ReportText:
    report = cached.report
    first = cached.uploads[0] if cached.uploads else None
    return schemas.ReportText(
        **phrases.texts(report),
        short_headline=phrases.short_headline(report.prediction),
        tone=cast(Any, phrases.display_class(report.prediction)),
        size=phrases.size(report.scan),
        contour=None if report.contour is None else phrases.contour(report.contour),
        titles=[phrases.evidence_title(each.method, each.target, report) for each in report.explanations],
        preprocessing=[_preprocessing(encoded) for encoded in cached.encoded_scans],
        name=first.name if first else report.scan.source,
        frames=first.frames if first else 1,
        frame=cached.frame,
        views=[
            schemas.ViewText(
                name=phrases.name(view.scan),
                size=phrases.size(view.scan),
                headline=phrases.headline(view.prediction),
            )
            for view in report.views
        ],
    )


def _preprocessing(encoded: EncodedScan) -> schemas.Preprocessing:
    mapping, preprocessed = encoded.mapping, encoded.preprocessed
    return schemas.Preprocessing(
        crop=schemas.BoxModel(**asdict(mapping.crop)),
        manual_crop=encoded.crop is not None,
        canvas=mapping.canvas_size,
        content=schemas.BoxModel(**asdict(mapping.content)),
        burned_in_annotations=encoded.marks,
        archived=preprocessed is None,
        warnings=[] if preprocessed is None else list(preprocessed.warnings),
    )
