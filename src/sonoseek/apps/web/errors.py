"""Errors as responses: RFC 9457 problem documents, whose detail is the error's message."""

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

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
SQLITE_DISK_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)
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
"""The first kind that matches counts."""
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
    """A request that is refused for how it was sent, not for its content."""

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
    """HTTP status of an error."""
    if isinstance(error, RefusedError):
        return error.status
    return next(status for kind, status in STATUS if isinstance(error, kind))


def install(app: FastAPI) -> None:
    """Turn every error of `app` into a problem document."""

    async def on_sonoseek_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, SonoseekError)  # noqa: S101  # it is registered for these alone
        detail = request.app.state.app_state.without_folders(str(error))
        return problem(status_of(error), detail, request_id=_id(request))

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        if isinstance(error.__cause__, SonoseekError):  # FastAPI wraps errors in a body
            return await on_sonoseek_error(request, error.__cause__)
        detail = str(error.detail)
        if error.status_code == 404 and detail == "Not Found":
            detail = "there is nothing at this address; /openapi.json lists what there is."
        return problem(error.status_code, detail, request_id=_id(request), headers=dict(error.headers or {}))

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        messages = [
            f"{'.'.join(str(part) for part in each['loc'][1:]) or each['loc'][0]}: {each['msg']} "
            f"(given: {json.dumps(each.get('input'), default=str)[:80]})"
            for each in error.errors()[:5]
        ]
        return problem(422, "; ".join(messages), request_id=_id(request))

    async def on_disconnect(request: Request, _: Exception) -> Response:
        """Nobody receives this; but the log must not count it as a server error."""
        return problem(400, "the request ended before all of it was sent; nothing was kept.", request_id=_id(request))

    async def on_disk_error(request: Request, error: Exception) -> Response:
        """Errors of the disk; the log has their number only, since their texts name files."""
        if isinstance(error, sqlite3.Error):
            number = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without SQLite's extended code
            full, busy, code = number in SQLITE_DISK_FULL, number in SQLITE_BUSY, f"SQLite error {number}"
        else:
            assert isinstance(error, OSError)  # noqa: S101  # it is registered for these two alone
            full, busy, code = error.errno in DISK_FULL, False, errno.errorcode.get(error.errno or 0, "OSError")
        if not (full or busy):
            return await on_unexpected_error(request, error)
        log.error("the disk refused: %s", code, extra={"request_id": _id(request)})
        if busy:
            return problem(503, "the list of jobs is in use just now; try again.", request_id=_id(request))
        detail = "the server's disk is full or may not be written; nothing of this request was kept. Make room there."
        return problem(507, detail, request_id=_id(request))

    async def on_unexpected_error(request: Request, error: Exception) -> Response:
        log.error("unexpected error", exc_info=error, extra={"request_id": _id(request)})
        return problem(
            500, "the server met an error of its own; its log has it under this request id.", request_id=_id(request)
        )

    app.add_exception_handler(SonoseekError, on_sonoseek_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(OSError, on_disk_error)
    app.add_exception_handler(sqlite3.Error, on_disk_error)
    app.add_exception_handler(Exception, on_unexpected_error)


def _id(request: Request) -> str:
    return str(request.scope.get("request_id", ""))
