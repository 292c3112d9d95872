"""One Milvus server: requests, time-outs, retries, and what its errors mean."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import GalleryError, InvalidValueError, NotFoundError, TemporaryError, from_extra
from sonoseek.gallery.filter.milvus import among

Answer = TypeVar("Answer")
TOKEN = "SONOSEEK_MILVUS_TOKEN"  # noqa: S105  # the name of the variable
"""Environment variable with the server's token, "user:password" or an API key."""
MOST = 16_384
"""Rows that one request of Milvus gives back, at most."""
_STEP = 4_000
"""Rows that one request fetches when all are wanted."""
_NAMES = 1_000
"""Texts in one `in`."""
_BYTES = 8_000_000
"""Of one write, about; messages may have 64 MB."""
_PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Seconds before trying again; the last one repeats, until the time-out."""
_LITE = (
    "Milvus Lite is not supported: its filtered searches came back short, with a recall of 0.67, when they were "
    "measured. Start a Milvus server and name it as milvus://HOST:PORT/NAME, or keep the gallery in an SQLite file."
)


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a gallery lies: uri of the server, token or "", database or "", name of the gallery."""

    uri: str
    token: str
    name: str

    @property
    def shown(self) -> str:
        """For people; without the token."""
        return f"milvus://{urlsplit(self.uri).netloc}/{self.name}"


def parse_address(location: str) -> Address:
    """Read "milvus://[user:password@]host[:port]/name".

    Raises:
        GalleryError: it names a file: that is Milvus Lite.
        InvalidValueError: it does not parse.
    """
    parts = urlsplit(location)
    name = parts.path.strip("/")
    if parts.path.endswith(".db") or not parts.hostname:
        raise GalleryError(f"{location} names a file. {_LITE}")
    try:
        port = parts.port or 19_530
    except ValueError:
        port = 0
    if not name.isidentifier() or not name.isascii() or len(name) > 200 or not port:
        raise InvalidValueError(
            f"{location!r} names no gallery; write milvus://HOST:PORT/NAME, NAME of letters, digits and underscores."
        )
    token = os.environ.get(TOKEN, "")
    if parts.username:
        token = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Address(uri=f"http://{parts.hostname}:{port}", token=token, name=name)


class Server:
    """A connection to a Milvus server. Requests that fail for a moment are tried again until the time-out."""

    def __init__(self, address: Address, *, timeout_s: float) -> None:
        """Connect.

        Raises:
            MissingExtraError: pymilvus is not installed.
            TemporaryError: the server does not answer.
            GalleryError: it is Milvus Lite.
        """
        with from_extra("milvus"):
            import pymilvus
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs what it raises as well
        self._address = address
        self._timeout_s = timeout_s
        self._types = pymilvus.DataType
        self._errors: Any = pymilvus.exceptions
        self._closed = False
        self._client: Any = self.call(
            lambda: pymilvus.MilvusClient(uri=address.uri, token=address.token, timeout=timeout_s)
        )
        with suppress(TypeError):  # a first answer from the server; some versions take no time-out
            self.call(lambda: self._client.get_server_version())

    @property
    def client(self) -> Any:
        """The client of pymilvus."""
        return self._client

    def call(self, request: Callable[[], Answer]) -> Answer:
        """Do a request; again, with pauses, while the trouble may pass.

        Raises:
            TemporaryError: it did not pass within the time-out.
            GalleryError: the server refuses.
        """
        if self._closed:
            raise GalleryError(f"{self._address.shown} is closed. Open it again.")
        until = time.monotonic() + self._timeout_s
        pauses = iter(_PAUSES)
        pause = 0.0
        while True:
            try:
                return request()
            except Exception as error:
                if not self._passes(error):
                    raise self._explained(error) from error
                pause = next(pauses, pause)
                if time.monotonic() + pause > until:
                    raise TemporaryError(
                        f"{self._address.shown} does not answer ({_first_line(error)}). Check that the server runs and "
                        "can be reached, then try again."
                    ) from error
                time.sleep(pause)

    def _passes(self, error: Exception) -> bool:
        """Whether trying again is sensible."""
        text = str(error).lower()
        code = getattr(error, "code", None)
        name = str(code() if callable(code) else code)
        words = ("unavailable", "deadline", "rate limit", "limit exceeded", "not ready", "fail connecting", "refused")
        return any(word in text or word in name.lower() for word in (*words, "statuscode.unavailable"))

    def _explained(self, error: Exception) -> Exception:
        if isinstance(error, self._errors.MilvusException | ValueError | RuntimeError):
            return GalleryError(
                f"{self._address.shown}: {_first_line(error)}. Check the server's log; nothing that was acknowledged "
                "is lost."
            )
        return error

    # Collections

    def exists(self, name: str) -> bool:
        """Whether there is a collection."""
        return bool(self.call(lambda: self._client.has_collection(name, timeout=self._timeout_s)))

    def require(self, name: str) -> None:
        """Refuse what is not there.

        Raises:
            NotFoundError: no such gallery.
        """
        if not self.exists(name):
            raise NotFoundError(
                f"no gallery at {self._address.shown}; build one with `sonoseek index build`, or correct the address."
            )

    def create(self, name: str, fields: Sequence[Mapping[str, Any]], indices: Sequence[Mapping[str, Any]]) -> None:
        """Make a collection with one shard, so that a write is one message, and strong consistency."""
        schema = type(self._client).create_schema(auto_id=False, enable_dynamic_field=False)
        for field in fields:
            given = dict(field)
            kinds = {key: getattr(self._types, given.pop(key)) for key in ("type", "element_type") if key in given}
            schema.add_field(given.pop("name"), kinds.pop("type"), **kinds, **given)
        wanted = self._client.prepare_index_params()
        for index in indices:
            wanted.add_index(**index)
        self.call(
            lambda: self._client.create_collection(
                name, schema=schema, index_params=wanted, consistency_level="Strong", num_shards=1
            )
        )

    # Rows

    def query(self, name: str, expression: str, fields: list[str], *, strong: bool = True) -> list[dict[str, Any]]:
        """Rows that pass an expression; at most `MOST` of them.

        Args:
            name: of the collection.
            expression: which rows.
            fields: what of them.
            strong: see everything that was acknowledged before, by whichever process; costs a wait for the server's
                clock tick. False: whatever the server has now, for what a strong request has just shown.
        """
        return self._query(name, expression, fields, strong=strong, limit=MOST)

    def count(self, name: str, expression: str, *, strong: bool = True) -> int:
        """How many rows pass."""
        return int(self._query(name, expression, ["count(*)"], strong=strong)[0]["count(*)"])

    def _query(
        self, name: str, expression: str, fields: list[str], *, strong: bool, **more: int
    ) -> list[dict[str, Any]]:
        level = "Strong" if strong else "Eventually"
        response = self.call(
            lambda: self._client.query(
                name, filter=expression, output_fields=fields, consistency_level=level, timeout=self._timeout_s, **more
            )
        )
        return [dict(row) for row in response]

    def among(
        self, name: str, field: str, texts: Iterable[str], fields: list[str], *, strong: bool = True
    ) -> Iterator[dict[str, Any]]:
        """Rows whose field is one of these texts, however many."""
        wanted = list(dict.fromkeys(texts))
        for start in range(0, len(wanted), _NAMES):
            yield from self.every(name, among(field, wanted[start : start + _NAMES]), fields, strong=strong)

    def every(self, name: str, expression: str, fields: list[str], *, strong: bool = True) -> Iterator[dict[str, Any]]:
        """Rows that pass, however many: their keys are hexadecimal, and are walked through by their first digits."""
        total = self.count(name, expression, strong=strong)
        digits = 0
        while total > _STEP * 16**digits:
            digits += 1
        for number in range(16**digits):
            prefix = f"{number:0{digits}x}" if digits else ""
            within = f'({expression}) and key like "{prefix}%"' if digits else expression
            response = self.query(name, within, fields, strong=False)
            if len(response) == MOST:
                raise GalleryError(
                    f"{self._address.shown}: more rows than expected begin with {prefix!r}; report this."
                )
            yield from response

    def upsert(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write rows, in requests of some megabytes."""
        waiting: list[dict[str, Any]] = []
        size = 0
        for row in rows:
            waiting.append(row)
            size += sum(
                len(v) if isinstance(v, str) else 4 * len(v) if isinstance(v, list) else 8 for v in row.values()
            )
            if size >= _BYTES:
                self._upsert(name, waiting)
                waiting, size = [], 0
        if waiting:
            self._upsert(name, waiting)

    def _upsert(self, name: str, rows: list[dict[str, Any]]) -> None:
        self.call(lambda: self._client.upsert(name, rows, timeout=self._timeout_s))

    def delete(self, name: str, field: str, texts: Iterable[str]) -> None:
        """Delete rows whose field, the key or an owner, is one of these."""
        wanted = list(dict.fromkeys(texts))
        for start in range(0, len(wanted), _NAMES):
            expression = among(field, wanted[start : start + _NAMES])
            self.call(lambda expression=expression: self._client.delete(name, filter=expression))  # type: ignore[misc]

    def search(
        self, name: str, queries: NDArray[np.float32], expression: str, *, limit: int, fields: list[str]
    ) -> list[list[dict[str, Any]]]:
        """The nearest rows of each query, best first, each with these fields."""
        width = min(32_768, max(64, 2 * limit))
        response = self.call(
            lambda: self._client.search(
                name,
                data=[query.tolist() for query in queries],
                filter=expression,
                limit=limit,
                output_fields=fields,
                search_params={"metric_type": "IP", "params": {"ef": width}},
                anns_field="embedding",
                consistency_level="Strong",
                timeout=self._timeout_s,
            )
        )
        return [[dict(hit["entity"]) for hit in hits] for hits in response]

    def close(self) -> None:
        """Let go of the connection."""
        self._closed = True
        with suppress(Exception):
            self._client.close()


@contextmanager
def closing_on_error(server: Server) -> Iterator[Server]:
    """Close the connection when what follows fails."""
    try:
        yield server
    except BaseException:
        server.close()
        raise


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
