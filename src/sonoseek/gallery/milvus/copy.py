"""A copy of a Milvus gallery in an SQLite file."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from sonoseek.gallery.base import Gallery
from sonoseek.gallery.sqlite.copy import published
from sonoseek.gallery.sqlite.database import create_database, database_path
from sonoseek.gallery.sqlite.gallery import SqliteGallery

_ENTRIES = 256
"""Written at a time: some 20 MB."""


def copy_entries(gallery: Gallery, location: str | Path) -> None:
    """Every entry of a gallery of any engine, in a new SQLite gallery of the same gallery_id.

    Raises:
        GalleryError: something is there already, or the folder cannot be written.
    """
    with published(database_path(location)) as draft:
        create_database(
            draft,
            bundle_id=gallery.bundle_id,
            dimension=gallery.dimension,
            duplicate_threshold=gallery.duplicate_threshold,
            gallery_id=gallery.gallery_id,
        )
        with SqliteGallery(draft, mode="w", timeout_s=5.0, index="auto") as target:
            if gallery.site_key is not None:
                target.store_site_key(gallery.site_key)
            waiting = iter(gallery)
            while entries := list(islice(waiting, _ENTRIES)):
                target.add(entries)
