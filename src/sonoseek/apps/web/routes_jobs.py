"""Batch jobs: uploaded file by file, run one after the other, with events of their progress."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from sonoseek.apps.web.errors import RefusedError
from sonoseek.apps.web.query_form import MAX_K, MAX_WHERE
from sonoseek.apps.web.readers import is_still_signed_in, owner_of
from sonoseek.apps.web.routes_query import StateDep, upload_model
from sonoseek.apps.web.schemas import BatchJob, JobOptions, JobRow, OpenedRow, RowOutcome
from sonoseek.apps.web.state import AppState
from sonoseek.batch import Job, JobKind, Row, check_name, check_new
from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.core.csv_cells import csv_cell
from sonoseek.core.files import open_private
from sonoseek.gallery.filter.grammar import parse_where

router = APIRouter(prefix="/api/jobs", tags=["batch"])
JobId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
POLL_S = 0.25
"""Seconds between two reads of a job for its event stream."""
HEARTBEAT_S = 15.0
"""Seconds without an event after which a comment keeps the connection open."""
COLUMNS = (
    *("number", "name", "refused", "headline", "label", "malignancy_not_ruled_out"),
    *("normal", "benign", "malignant", "reference", "seen_in_training", "agreement"),
)
TIMES = ("created", "started", "finished")
MATCH_COLUMNS = ("match", "match_label", "match_similarity", "novelty", "warnings", "calibration")


async def get_owner(request: Request) -> str:
    """Who sends the request, as the owner of batch jobs. A coroutine, as `get_app_state`."""
    return owner_of(request.scope["reader"])


OwnerDep = Annotated[str, Depends(get_owner)]


async def get_own_job(job_id: JobId, owner: OwnerDep, app_state: StateDep) -> Job:
    """The job of the address; for everybody but its owner it is not there."""
    return await app_state.pool.run(app_state.jobs.get, job_id, owner=owner)


OwnJob = Annotated[Job, Depends(get_own_job)]


class NewJob(BaseModel):
    """A new batch job."""

    model_config = ConfigDict(extra="forbid")
    kind: JobKind
    title: str = Field(min_length=1, max_length=200, description="index: the dataset's name in the archive.")
    total: int = Field(default=0, ge=0, le=10_000_000, description="Files that will be sent; 0: not known.")
    folder: str | None = Field(
        default=None,
        max_length=1000,
        description="On the server, below the folder that it was started with; without it the files are sent.",
    )
    extend: bool = Field(default=False, description="index: add to a dataset that the archive has under this name.")
    k: int = Field(default=10, ge=0, le=MAX_K)
    where: str | None = Field(default=None, max_length=MAX_WHERE)
    per_patient: bool = True
    deduplicate: bool = True


@router.post("", status_code=201)
async def create(new: NewJob, owner: OwnerDep, app_state: StateDep) -> BatchJob:
    """Create a job. Send its files with PUT, then start it; one on a folder of the server starts by itself."""
    return _job(app_state, await app_state.pool.run(_create, app_state, new, owner))


@router.get("")
async def list_jobs(owner: OwnerDep, app_state: StateDep) -> list[BatchJob]:
    """All jobs of the reader, the newest first."""
    return [_job(app_state, job) for job in await app_state.pool.run(app_state.jobs.list, owner=owner)]


@router.get("/{job_id}")
async def get_job(job: OwnJob, app_state: StateDep) -> BatchJob:
    """A job with its progress."""
    return _job(app_state, job)


@router.put("/{job_id}/files/{name:path}", status_code=204)
async def put_file(request: Request, job: OwnJob, name: str, app_state: StateDep) -> Response:
    """Send one file, its bytes as the body; the same name again replaces it."""
    job_id = job.job_id
    _check_receiving(app_state, job_id)
    target = app_state.jobs.make_path(job_id, name)
    await app_state.pool.run(app_state.count_job_bytes, job_id)
    limit = (app_state.settings.max_batch_mb << 20) + _size(target)  # of the file that this one replaces
    part = app_state.jobs.make_partial_path(target)
    size = 0
    try:
        with open_private(part) as out:
            async for chunk in request.stream():
                size += len(chunk)
                app_state.job_bytes[job_id] += len(chunk)  # at once: other files of the job may be arriving too
                if app_state.job_bytes[job_id] > limit:
                    raise RefusedError(
                        413,
                        f"the job has more than {app_state.settings.max_batch_mb} MiB of files, the limit here; "
                        "send a smaller folder, or raise --max-batch-mb.",
                    )
                out.write(chunk)
        _check_receiving(app_state, job_id)  # it may have been started, stopped or deleted meanwhile
        replaced = _size(target)
        part.replace(target)
        app_state.job_bytes[job_id] -= replaced
        size = 0
    except FileNotFoundError:
        _check_receiving(app_state, job_id)
        raise
    finally:
        app_state.job_bytes[job_id] -= size
        part.unlink(missing_ok=True)
    return Response(status_code=204)


@router.post("/{job_id}/start")
async def start(job: OwnJob, app_state: StateDep) -> BatchJob:
    """All files are there: run the job after those that wait already."""
    return _job(app_state, await app_state.pool.run(app_state.runner.submit, job.job_id))


@router.post("/{job_id}/stop")
async def stop(job: OwnJob, app_state: StateDep) -> BatchJob:
    """Stop a job; what was finished is kept."""
    return _job(app_state, await app_state.pool.run(app_state.runner.stop_job, job.job_id))


@router.delete("/{job_id}", status_code=204)
async def delete(job: OwnJob, app_state: StateDep) -> Response:
    """Delete a job, its rows and its files; what it added to the archive stays there."""
    await app_state.pool.run(app_state.jobs.delete, job.job_id)
    return Response(status_code=204)


@router.get("/{job_id}/rows", response_model_exclude_unset=True)
async def rows(
    job: OwnJob,
    app_state: StateDep,
    after: Annotated[int, Query(ge=0, le=1 << 31, description="order=finished: rows with a number above it.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    order: Annotated[
        Literal["finished", "malignancy"],
        Query(
            description="malignancy: by the likelihood of it, the highest first, then scans without a prediction, "
            "refused files last."
        ),
    ] = "finished",
    skip: Annotated[int, Query(ge=0, le=1 << 31, description="order=malignancy: rows that are left out.")] = 0,
    refused: Annotated[bool, Query(description="order=malignancy: refused files alone.")] = False,
) -> list[JobRow]:
    """The result for each file, in the order in which they were finished or by the likelihood of malignancy."""
    if order == "finished":
        page = await app_state.pool.run(app_state.jobs.rows, job.job_id, after=after, limit=limit)
    else:
        page = await app_state.pool.run(
            app_state.jobs.rows_by_malignancy, job.job_id, skip=skip, limit=limit, refused_only=refused
        )
    return [
        JobRow(number=row.number, name=row.name, refused=row.refused, outcome=RowOutcome.model_validate(row.outcome))
        for row in page
    ]


@router.post("/{job_id}/rows/{number}/open", response_model_exclude_unset=True)
async def open_row(job: OwnJob, number: Annotated[int, Path(ge=1, le=1 << 31)], app_state: StateDep) -> OpenedRow:
    """Load the scan of a row; as `upload` with the `options`, a query gives the result of the row."""
    row = await app_state.pool.run(app_state.jobs.row, job.job_id, number)
    upload = upload_model(await app_state.pool.run_priority(app_state.open_row, job, row))
    return OpenedRow(**upload.model_dump(), options=JobOptions.model_validate(job.options))


@router.get("/{job_id}/rows.csv", responses={200: {"content": {"text/csv": {}}}}, response_class=Response)
async def table(job: OwnJob, app_state: StateDep) -> Response:
    """The same as a table, for a spreadsheet."""
    text = await app_state.pool.run(lambda: "".join(_csv(app_state.jobs.every_row(job.job_id))))
    headers = {"Content-Disposition": f'attachment; filename="sonoseek-{job.job_id}.csv"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/{job_id}/events", responses={200: {"content": {"text/event-stream": {}}}}, response_class=Response)
async def events(request: Request, job: OwnJob, app_state: StateDep) -> Response:
    """A job's progress as server-sent events, until it has ended, or the session that asks for them."""
    headers = {"X-Accel-Buffering": "no"}  # a proxy must not buffer it
    return StreamingResponse(_events(request, app_state, job.job_id), media_type="text/event-stream", headers=headers)


async def _events(request: Request, app_state: AppState, job_id: str) -> AsyncIterator[str]:
    last, idle_s = "", 0.0
    while not await request.is_disconnected() and not app_state.closing.is_set():
        if not is_still_signed_in(request, app_state.settings, app_state.sessions):
            return
        try:
            job = await asyncio.to_thread(app_state.jobs.get, job_id)
        except NotFoundError:  # deleted meanwhile: the stream ends without an error
            return
        data = _job(app_state, job).model_dump_json()
        if data != last:
            last, idle_s = data, 0.0
            yield f"event: progress\ndata: {data}\n\n"
        if job.ended:
            return
        if idle_s >= HEARTBEAT_S:
            idle_s = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(POLL_S)
        idle_s += POLL_S


def _check_receiving(app_state: AppState, job_id: str) -> None:
    job = app_state.jobs.get(job_id)
    if job.state != "receiving":
        raise InvalidValueError(f"job {job_id!r} is {job.state}; files are sent before it is started.")


def _size(path: FilePath) -> int:
    return path.stat().st_size if path.is_file() else 0


def _create(app_state: AppState, new: NewJob, owner: str) -> Job:
    if new.where:
        parse_where(new.where)
    if new.kind == "index" and not app_state.settings.writable:
        raise InvalidValueError("this archive is open for reading only; start the server with --writable to add.")
    if new.kind == "index":
        check_name(new.title.strip())
        if not new.extend:
            check_new(new.title.strip(), app_state.info()[1].by_dataset)
    folder = None if new.folder is None else str(_find_folder(app_state, new.folder))
    if new.kind == "index":
        options: dict[str, Any] = {"extend": new.extend}
    else:
        options = new.model_dump(include={"k", "per_patient", "deduplicate"}) | {"where": new.where or None}
    job = app_state.jobs.create(new.kind, title=new.title, owner=owner, total=new.total, folder=folder, options=options)
    if folder is not None:  # it is queued from the first: the runner may have started or finished it by now
        app_state.runner.wake()
    return job


def _find_folder(app_state: AppState, name: str) -> FilePath:
    root = app_state.settings.folders
    if root is None:
        raise InvalidValueError("this server reads no folders of its own; start it with --folders, or send the files.")
    try:
        folder = (root / name).resolve()
        valid = folder.is_relative_to(root.resolve()) and folder.is_dir()
    except (OSError, ValueError):
        valid = False
    if not valid:
        raise InvalidValueError(f"{name[:80]!r} is no folder below the one that this server may read; name one of it.")
    return folder


def _job(app_state: AppState, job: Job) -> BatchJob:
    times = {name: None if (at := getattr(job, name)) is None else at.isoformat() for name in TIMES}
    own = {"seconds_left": _seconds_left(job), "openable": app_state.jobs.openable(job)}
    return BatchJob.model_validate({**vars(job), **times, **own})


def _seconds_left(job: Job) -> float | None:
    if job.state != "running" or job.started is None or not 0 < job.done <= job.total:
        return None
    elapsed = (datetime.now(UTC) - job.started).total_seconds()
    return round(elapsed / job.done * (job.total - job.done), 1)


def _csv(every_row: Iterator[Row]) -> Iterator[str]:
    def line(values: list[Any]) -> str:
        text = io.StringIO()
        csv.writer(text).writerow([csv_cell(value) for value in values])
        return text.getvalue()

    yield line([*COLUMNS, *MATCH_COLUMNS])
    for row in every_row:
        outcome = row.outcome
        probabilities, match = outcome.get("probabilities", {}), outcome.get("match") or {}
        yield line(
            [
                row.number,
                row.name,
                row.refused or "",
                outcome.get("headline", ""),
                outcome.get("label") or "",
                "yes" if outcome.get("not_ruled_out") else "",
                *(probabilities.get(name, "") for name in ("normal", "benign", "malignant")),
                outcome.get("reference", ""),
                "yes" if outcome.get("seen_in_training") else "",
                outcome.get("agreement"),
                f"{match['dataset']}/{match['case_id']}" if match else "",
                match.get("label", ""),
                match.get("similarity", ""),
                outcome.get("novelty"),
                " | ".join(outcome.get("warnings", ())),
                outcome.get("calibration", ""),
            ]
        )
