"""Errors as answers: RFC 9457 problem documents, whose detail is the sentence that the error carries."""

from __future__ import annotations

import errno
import json
import logging
import sqlite3
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from sonoseek.core import (
    BundleMismatchError,
    GalleryError,
    InvalidValueError,
    MissingExtraError,
    NotFoundError,
    ScanReadError,
    ScanTooLargeError,
    SonoseekError,
    TemporaryError,
)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
SQLITE_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)
SQLITE_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
log = logging.getLogger(__name__)
RETRY_AFTER_S = 2
STATUS: tuple[tuple[type[SonoseekError], int], ...] = (
    (ScanTooLargeError, 413),
    (ScanReadError, 422),
    (NotFoundError, 404),
    (BundleMismatchError, 409),
    (TemporaryError, 503),
    (MissingExtraError, 501),
    (GalleryError, 500),
    (InvalidValueError, 422),
    (SonoseekError, 422),
)
"""The first that fits."""
PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "Value, rule and remedy, for a person."},
        "request_id": {"type": "string", "description": "As in the server's log."},
    },
}


class RefusedError(SonoseekError):
    """A request that is turned away for how it was sent, not for what it says."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def problem(status: int, detail: str, *, request_id: str = "", headers: dict[str, str] | None = None) -> Response:
    """A problem document."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    extra = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    return JSONResponse(
        document, status_code=status, media_type="application/problem+json", headers={**extra, **(headers or {})}
    )


def status_of(error: SonoseekError) -> int:
    """The status that an error is answered with."""
    if isinstance(error, RefusedError):
        return error.status
    return next(status for kind, status in STATUS if isinstance(error, kind))


def install(app: FastAPI) -> None:
    """Turn every error of `app` into a problem document."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, SonoseekError)  # noqa: S101  # it is registered for these alone
        detail = request.app.state.room.unplaced(str(error))
        return problem(status_of(error), detail, request_id=_id(request))

    async def theirs(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        if isinstance(error.__cause__, SonoseekError):  # FastAPI calls whatever ends a body "an error parsing" it
            return await ours(request, error.__cause__)
        detail = str(error.detail)
        if error.status_code == 404 and detail == "Not Found":
            detail = "there is nothing at this address; /openapi.json lists what there is."
        return problem(error.status_code, detail, request_id=_id(request), headers=dict(error.headers or {}))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        found = [
            f"{'.'.join(str(part) for part in each['loc'][1:]) or each['loc'][0]}: {each['msg']} "
            f"(given: {json.dumps(each.get('input'), default=str)[:80]})"
            for each in error.errors()[:5]
        ]
        return problem(422, "; ".join(found), request_id=_id(request))

    async def gone(request: Request, _: Exception) -> Response:
        """Nobody reads this; but the log must not call it an error of ours."""
        return problem(400, "the request ended before all of it was sent; nothing was kept.", request_id=_id(request))

    async def disk(request: Request, error: Exception) -> Response:
        """The disk's errors; the log has their number alone, for their texts name files, and files name patients."""
        if isinstance(error, sqlite3.Error):
            number = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds above
            full, busy, told = number in SQLITE_NO_ROOM, number in SQLITE_BUSY, f"SQLite error {number}"
        else:
            assert isinstance(error, OSError)  # noqa: S101  # it is registered for these two alone
            full, busy, told = error.errno in NO_ROOM, False, errno.errorcode.get(error.errno or 0, "OSError")
        if not (full or busy):
            return await unexpected(request, error)
        log.error("the disk refused: %s", told, extra={"request_id": _id(request)})
        if busy:
            return problem(503, "the list of jobs is in use just now; try again.", request_id=_id(request))
        detail = "the server's disk is full or may not be written; nothing of this request was kept. Make room there."
        return problem(507, detail, request_id=_id(request))

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("unexpected error", exc_info=error, extra={"request_id": _id(request)})
        return problem(
            500, "the server met an error of its own; its log has it under this request id.", request_id=_id(request)
        )

    app.add_exception_handler(SonoseekError, ours)
    app.add_exception_handler(HTTPException, theirs)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(OSError, disk)
    app.add_exception_handler(sqlite3.Error, disk)
    app.add_exception_handler(Exception, unexpected)


def _id(request: Request) -> str:
    return str(request.scope.get("request_id", ""))
