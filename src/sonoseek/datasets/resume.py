"""A download that goes on where it was cut off; a downloader for pooch, whose own start over."""

from __future__ import annotations

import errno
import http.client
import logging
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

from sonoseek.core import DatasetError, InvalidValueError, NotFoundError, SonoseekError, TemporaryError

log = logging.getLogger(__name__)
CHUNK = 1 << 18
"""Bytes per read."""
FUTILE = 3
"""Attempts in a row that may bring no byte before the download gives up."""
PAUSE_S = 0.5
TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
GONE = frozenset({404, 410})
_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<total>\d+|\*)")


class CutError(Exception):
    """The connection ended before the file did."""


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and from http to http; refuses ftp, files and any step back from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if _scheme(newurl) not in ({"https"} if _scheme(req.full_url) == "https" else {"http", "https"}):
            raise DatasetError(
                f"{req.full_url} redirects to {newurl[:200]!r}; only https is followed, or http from http. Its source "
                "has changed, or something was put in between."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


class ResumingDownloader:
    """Downloads into a `.part` file that outlives errors and interruptions, and goes on with it the next time.

    A server that does not resume, or whose file has changed since (ETag or Last-Modified), is read from the start.
    """

    def __init__(
        self,
        part: Path,
        *,
        max_bytes: int,
        by_hand: str,
        on_progress: Callable[[int, int], None] | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        """Keep `part`; `by_hand` is what people can do when the server refuses a program.

        A file of more than `max_bytes` is refused: by the length that the server states, and while it comes.
        """
        self._part = part
        self._max_bytes = max_bytes
        self._validator = part.with_name(part.name + ".version")
        self._by_hand = by_hand
        self._on_progress = on_progress
        self._timeout_s = timeout_s

    def __call__(self, url: str, output_file: str | Path, _pooch: Any = None) -> None:
        """Download `url` to `output_file`, as pooch asks.

        Raises:
            TemporaryError: no answer, 5xx, cut again and again, disk full; the part stays for the next time.
            NotFoundError: 404 or 410.
            DatasetError: refused (401, 403, …), larger than the limit, or redirected to what is no web address.
        """
        if _scheme(url) not in ("http", "https"):
            raise InvalidValueError(f"url is {url!r}; only http and https are downloaded from.")
        futile = 0
        while True:
            before = self._size()
            try:
                self._continue(url)
                break
            except CutError as error:
                futile = 0 if self._size() > before else futile + 1
                if futile >= FUTILE:
                    raise TemporaryError(
                        f"{url} was cut off at byte {self._size()}: {error}. Try again later; it goes on from there."
                    ) from error
                log.info("download cut off at byte %d (%s); going on", self._size(), error)
                time.sleep(PAUSE_S)
        self._validator.unlink(missing_ok=True)
        shutil.move(self._part, output_file)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _continue(self, url: str) -> None:
        """One request, from where the part ends."""
        try:
            version = self._validator.read_text() if self._validator.exists() else ""
            done = self._size() if version else 0  # without a version nobody can say that the file is still the same
            with self._ask(url, done=done, version=version) as answer:
                done, total = _extent(answer.status, answer.headers, done=done)
                self._check_size(total)
                self._keep_version(answer.headers)
                self._check_space(total - done)
                self._copy(answer, done=done, total=total)
        except SonoseekError:
            raise  # some of them are OSErrors as well
        except OSError as error:
            raise disk_trouble(error, self._part) from error

    def _ask(self, url: str, *, done: int, version: str) -> http.client.HTTPResponse:
        headers = {"User-Agent": "sonoseek"}
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": version}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  # the scheme was checked
        try:
            answer: http.client.HTTPResponse = _opener().open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and done:
                    self._part.unlink(missing_ok=True)  # longer than the file: not a part of it
                    raise CutError("the part was no part of the file") from error
                raise self._refusal(error, url) from error
        except SonoseekError:
            raise  # of a redirect; some of them are OSErrors as well
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise DatasetError(f"{url} has a certificate that does not hold: {reason}. {self._by_hand}") from error
            raise CutError(str(reason) or type(error).__name__) from error
        return answer

    def _copy(self, answer: http.client.HTTPResponse, *, done: int, total: int) -> None:
        with self._part.open("r+b" if self._part.exists() else "wb") as part:
            part.truncate(done)
            part.seek(done)
            while chunk := _read(answer):
                self._check_size(done + len(chunk))
                part.write(chunk)
                part.flush()
                done += len(chunk)
                if self._on_progress:
                    self._on_progress(done, total)
        if done < total:
            raise CutError(f"{done} of {total} bytes came")

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            self._part.unlink(missing_ok=True)
            self._validator.unlink(missing_ok=True)
            raise DatasetError(
                f"the file has {size} bytes or more, and at most {self._max_bytes} are downloaded: it is not the one "
                f"that was published. {self._by_hand}"
            )

    def _keep_version(self, headers: Message) -> None:
        tag = headers.get("ETag", "")
        strong = tag if tag.startswith('"') else ""  # a weak tag may not be used in If-Range (RFC 9110, 13.1.5)
        self._validator.write_text(strong or headers.get("Last-Modified", ""))

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._part.parent).free
        if needed > free:
            raise TemporaryError(
                f"{needed / 1e6:.0f} MB are still to come and {self._part.parent} has {free / 1e6:.0f} MB free. "
                "Free space and try again; the download goes on where it stopped."
            )

    def _refusal(self, error: urllib.error.HTTPError, url: str) -> Exception:
        answer = f"{url} answers {error.code} {error.reason}"
        if error.code in TEMPORARY:
            return TemporaryError(f"{answer}; the server has trouble of its own. Try again later.")
        if error.code in GONE:
            return NotFoundError(f"{answer}; the file has moved. {self._by_hand}")
        return DatasetError(f"{answer}; the server refuses. {self._by_hand}")


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https alone: urllib's default also reads files and ftp, where a redirect names them."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _WebRedirects(),
    ):
        opener.add_handler(handler)
    return opener


def disk_trouble(error: OSError, path: Path) -> Exception:
    """What to raise when writing `path` failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TemporaryError(f"the disk is full at {path}. Free space and try again.")
    return DatasetError(f"{path} cannot be written: {error.strerror}. Give a folder that can.")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise CutError(str(error) or type(error).__name__) from error


def _extent(status: int, headers: Message, *, done: int) -> tuple[int, int]:
    """(bytes to keep, bytes in all; 0 where the server does not say)."""
    match = _RANGE.match(headers.get("Content-Range", ""))
    if status == http.HTTPStatus.PARTIAL_CONTENT and match and int(match["start"]) == done:
        return done, 0 if match["total"] == "*" else int(match["total"])
    return 0, int(headers.get("Content-Length") or 0)
