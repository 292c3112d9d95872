"""A gallery for a build: the one that is there, or a new one that stays only if something was put into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sonoseek.core import GalleryError, TemporaryError
from sonoseek.gallery import create_gallery
from sonoseek.gallery.base import Gallery
from sonoseek.gallery.sqlite.database import database_path
from sonoseek.gallery.sqlite.index_files import cache_files


@contextmanager
def gallery_to_fill(
    location: str | Path, *, bundle_id: str, dimension: int, duplicate_threshold: float | None = None
) -> Iterator[Gallery]:
    """Open a gallery for writing; make it where there is none, and take it away again if it is left empty.

    A gallery that was there before is never taken away. On a server an empty one stays. Arguments as in
    `create_gallery`.

    Raises:
        GalleryError, BundleMismatchError, InvalidValueError, TemporaryError: as `create_gallery`.
    """
    on_server = "://" in str(location) and not str(location).startswith("sqlite://")
    path = None if on_server else database_path(location)
    is_new = path is not None and not path.exists()
    new_folders = [folder for folder in path.parents if not folder.exists()] if path is not None else []
    gallery = create_gallery(
        location, bundle_id=bundle_id, dimension=dimension, duplicate_threshold=duplicate_threshold, exist_ok=True
    )
    is_empty = False
    try:
        yield gallery
    finally:
        if is_new:
            with suppress(GalleryError, TemporaryError):  # then nobody knows that it is empty, and it stays
                is_empty = gallery.count() == 0
        gallery.close()
        if is_empty and path is not None:
            _take_away(path, new_folders)


def _take_away(path: Path, folders: list[Path]) -> None:
    """Delete a gallery's files, then those of the folders that are empty, innermost first."""
    beside = [path.with_name(path.name + ending) for ending in ("-wal", "-shm")]
    for file in (path, *beside, *cache_files(path)):
        with suppress(OSError):
            file.unlink(missing_ok=True)
    for folder in folders:
        with suppress(OSError):  # not empty: somebody else's
            folder.rmdir()
