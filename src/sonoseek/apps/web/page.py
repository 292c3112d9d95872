"""The built page: static files, compressed, with long-lived caching of the hashed assets."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).with_name("page")
"""`frontend/` is built into it."""
IMMUTABLE = "public, max-age=31536000, immutable"
"""Of files whose names contain a hash of their content; everything else has the server's `no-store`."""
NOT_BUILT = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>sonoseek</title></head><body>
<h1>sonoseek</h1><p>The page is not part of this installation. With Node 20 or newer, <code>make page</code> builds it.
The REST API works without it: <a href="openapi.json">openapi.json</a>.</p>
<p>Research use only, not for diagnosis.</p></body></html>"""


class PageFiles(StaticFiles):
    """The page's files; a browser may keep those alone whose names contain a hash."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """See `StaticFiles.get_response`; a note where the page was not built."""
        try:
            return await super().get_response(path, scope)
        except HTTPException:
            if path == "." and not (FOLDER / "index.html").is_file():
                return HTMLResponse(NOT_BUILT)
            raise

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """See `StaticFiles.file_response`."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        if Path(full_path).parent == FOLDER / "assets":
            response.headers["Cache-Control"] = IMMUTABLE
        return response


def page_route() -> Route:
    """The route of every path that no other route has."""
    files = PageFiles(directory=FOLDER, html=True, check_dir=False)
    return Route("/{path:path}", endpoint=GZipMiddleware(files), methods=["GET"], include_in_schema=False)
