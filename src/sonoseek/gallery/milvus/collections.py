"""The two collections of a Milvus gallery, and the row that describes it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sonoseek.core import GalleryError
from sonoseek.core.version import __version__
from sonoseek.gallery.milvus import rows
from sonoseek.gallery.milvus.server import Server

SCHEMA_VERSION = 2
"""Of the collections; not that of SQLite files."""
GRAPH = {"M": 16, "efConstruction": 200}
"""Of HNSW."""


def read_meta(server: Server, name: str) -> dict[str, Any]:
    """The gallery's description; {} where it is lost."""
    (row,) = server.query(f"{name}_kept", f'key == "{rows.META}"', ["data"]) or [{"data": "{}"}]
    meta: dict[str, Any] = json.loads(row["data"])
    return meta


def write_meta(server: Server, name: str, meta: Mapping[str, Any]) -> None:
    """Replace the gallery's description."""
    row = {"key": rows.META, "owner": "", "data": json.dumps(meta), "nothing": [0.0, 0.0]}
    server.upsert(f"{name}_kept", [row])


def check_schema(meta: Mapping[str, Any], *, location: str) -> None:
    """Refuse collections of another layout.

    Raises:
        GalleryError: another schema version, or none.
    """
    schema = meta.get("schema")
    if schema is None:
        raise GalleryError(f"{location} lacks its own description ('schema'); it is damaged. Build it anew.")
    if schema != SCHEMA_VERSION:
        remedy = "Upgrade sonoseek." if schema > SCHEMA_VERSION else "Build it anew with `sonoseek index build`."
        raise GalleryError(f"{location} has schema version {schema}, this sonoseek reads {SCHEMA_VERSION}. {remedy}")


def create_collections(
    server: Server, name: str, *, bundle_id: str, dimension: int, duplicate_threshold: float | None
) -> None:
    """Make an empty gallery; arguments as in `create_gallery`."""

    def text(field: str, most: int, **more: Any) -> dict[str, Any]:
        return {"name": field, "type": "VARCHAR", "max_length": most, **more}

    longest = rows.LONGEST
    keys = ["scan_id", "case_key", "patient_key", "group_key", "dataset", "pathology", "birads", "device", "patient_id"]
    others = ["case_id", "histology", "laterality", "view", "case_group", "fingerprint", "scan_digest", "case_digest"]
    scans = [
        text("key", 64, is_primary=True),
        {"name": "embedding", "type": "FLOAT_VECTOR", "dim": dimension},
        *(text(field, longest.get(field, 2_500)) for field in keys),
        *(text(field, longest.get(field, 64)) for field in (*others, "content")),
        {"name": "age_years", "type": "DOUBLE"},
        {"name": "acquired", "type": "DOUBLE"},
        {
            "name": "descriptors",
            "type": "ARRAY",
            "element_type": "VARCHAR",
            "max_capacity": rows.WORDS,
            "max_length": 512,
        },
    ]
    pieces = [
        text("key", 128, is_primary=True),
        text("owner", 128),
        text("data", 65_535),
        {"name": "nothing", "type": "FLOAT_VECTOR", "dim": 2},  # no collection without a vector
    ]
    graph = {"field_name": "embedding", "index_type": "HNSW", "metric_type": "IP", "params": GRAPH}
    flat = {"field_name": "nothing", "index_type": "FLAT", "metric_type": "L2"}
    owners = {"field_name": "owner", "index_type": "Trie"}
    trees = [{"field_name": field, "index_type": "Trie"} for field in keys]
    with ThreadPoolExecutor(2) as threads:  # each takes seconds, until it is loaded
        made = [
            threads.submit(server.create, f"{name}_kept", pieces, [flat, owners]),
            threads.submit(server.create, name, scans, [graph, *trees]),
        ]
        for each in made:
            each.result()
    write_meta(
        server,
        name,
        {
            "schema": SCHEMA_VERSION,
            "gallery_id": str(uuid4()),
            "bundle_id": bundle_id,
            "dimension": dimension,
            "duplicate_threshold": duplicate_threshold,
            "created": datetime.now(UTC).isoformat(),
            "sonoseek_version": __version__,
            "stamp": secrets.randbits(62),
        },
    )
