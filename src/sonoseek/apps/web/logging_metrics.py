"""A structured log without patient data, and metrics for Prometheus.

A log line names the route, never the path or the query: file names, case ids and filters may hold patient data.
"""

from __future__ import annotations

import json
import logging
import secrets
import sys
import time
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sonoseek.core import SonoseekError

log = logging.getLogger("sonoseek.web")
LOGGERS = ("sonoseek", "uvicorn")
SAFE_LOGGERS = ("sonoseek.web", "sonoseek.apps.", "sonoseek.batch.", "uvicorn")
"""Loggers whose messages name no file, case or patient; messages of modules that read scans may."""
OMITTED = "its text is left out: it may quote a scan"
FIELDS = ("request_id", "method", "route", "status", "ms", "bytes", "address", "event", "job")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
"""Others are counted as one: a counter for every made-up method would fill the memory."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 10.0, 60.0)


class Metrics:
    """The server's counters, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, description: str, *labels: str) -> Counter:
            return Counter(f"sonoseek_{name}", description, labels, registry=self.registry)

        self.requests = counter("requests", "Requests answered.", "method", "route", "status")
        self.seconds = Histogram(
            "sonoseek_request_seconds",
            "Seconds from a request's first byte to its answer's last.",
            ("route",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.predictions = counter(
            "predictions", "Predictions; 'not sure' and 'out of distribution' among them.", "label"
        )
        self.refused = counter("uploads_refused", "Requests with files that were refused.", "reason")
        self.unread = counter("scans_unread", "Files that could not be read as a scan.")
        self.waiting = Gauge("sonoseek_work_waiting", "Calls that wait for a worker.", registry=self.registry)
        self.scans = Gauge("sonoseek_gallery_scans", "Scans in the gallery.", registry=self.registry)


class RequestLog:
    """Gives every request an id, counts it, and writes one line about it."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, then count and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = scope["request_id"] = secrets.token_hex(6)
        status, size = 500, 0

        async def counted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            log.log(
                logging.WARNING if status >= 500 else logging.INFO,
                "request",
                extra={
                    "request_id": request_id,
                    "method": method,
                    "route": route,
                    "status": status,
                    "ms": round(seconds * 1e3, 1),
                    "bytes": size,
                },
            )


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() if _is_safe(record.name) else f"{record.module}:{record.lineno}, {OMITTED}",
        }
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # as the standard library has it
        """Traceback and kind; the text only of errors that name no files."""
        parts: list[str] = []
        error: BaseException | None = ei[1]
        while error is not None:
            may_name_files = isinstance(error, OSError | SonoseekError)
            last = f"{type(error).__name__} {getattr(error, 'errno', None) or ''}".rstrip()
            parts.append(
                "".join(traceback.format_tb(error.__traceback__)) + (last if may_name_files else f"{last}: {error}")
            )
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\nfollowed by\n".join(reversed(parts))


def _is_safe(name: str) -> bool:
    return f"{name}.".startswith(tuple(f"{each.rstrip('.')}." for each in SAFE_LOGGERS))


def _log_warning(_: Warning | str, category: type[Warning], filename: str, lineno: int, *__: Any) -> None:
    """For `warnings.showwarning`: place and kind only, since the text may quote a scan's header."""
    log.warning("%s at %s:%d, %s", category.__name__, Path(filename).name, lineno, OMITTED)


def configure_logging(stream: TextIO = sys.stderr, *, level: int = logging.INFO) -> None:
    """Write this program's log as JSON lines; of other libraries' warnings the place and kind only."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.getLogger().handlers = [handler]
    warnings.showwarning = _log_warning  # type: ignore[assignment]  # it is called by position
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its own notices name addresses, and repeat ours
