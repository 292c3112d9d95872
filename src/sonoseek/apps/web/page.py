"""The page's own files: read once, kept compressed, sent with a policy that lets nothing in from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

BUILT = "page"
"""Folder beside this file into which `frontend/` is built."""
TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".html": "text/html",
    ".ico": "image/x-icon",
}
LASTING = "public, max-age=31536000, immutable"
"""Of files whose names change with their content."""
A_DAY = "public, max-age=86400"
"""Of the icon: a browser asks for it whenever the address changes."""
NOT_BUILT = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>sonoseek</title></head><body>
<h1>sonoseek</h1><p>The page is not part of this installation. With Node 20 or newer, <code>make page</code> builds it.
The programming interface is here all the same: <a href="openapi.json">openapi.json</a>.</p>
<p>Research use only, not for diagnosis.</p></body></html>"""


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file of the page.

    Attributes:
        body: as it is. packed: gzip, where that is smaller. media: its type. etag: changes with the body.
        cache: how long a browser may keep it without asking.
    """

    body: bytes
    packed: bytes | None
    media: str
    etag: str
    cache: str


def page_router() -> APIRouter:
    """Routes of the page."""
    router = APIRouter(include_in_schema=False)
    assets = read_assets()

    @router.api_route("/{name:path}", methods=["GET", "HEAD"])
    async def asset(request: Request, name: str) -> Response:
        found = assets.get(name or "index.html")
        if found is None:
            raise HTTPException(404)
        headers = {
            "ETag": found.etag,
            "Vary": "Accept-Encoding",
            "Cache-Control": found.cache,
        }
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=headers)
        if found.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(found.packed, media_type=found.media, headers=headers)
        return Response(found.body, media_type=found.media, headers=headers)

    return router


def read_assets() -> dict[str, Asset]:
    """Every built file by its path below the page."""
    folder = Path(str(resources.files("sonoseek.apps.web").joinpath(BUILT)))
    if not (folder / "index.html").is_file():
        return {"index.html": _asset(Path("index.html"), NOT_BUILT.encode())}
    return {
        path.relative_to(folder).as_posix(): _asset(path, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _asset(path: Path, body: bytes) -> Asset:
    media = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    packed = gzip.compress(body, 9, mtime=0)
    return Asset(
        body=body,
        packed=packed if len(packed) < len(body) else None,
        media=f"{media}; charset=utf-8" if media.startswith("text/") else media,
        etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        cache=LASTING if path.parent.name == "assets" else A_DAY if path.suffix == ".svg" else "no-cache",
    )
