"""Galleries: cases with a reference standard, their embeddings and pictures, searched by similarity.

    with open_gallery("galleries/busi") as gallery:
        result = gallery.search(embedding, k=10, where="birads >= '4A'", exclude=gallery.exclusion_for(scan.scan_id))

A location is a folder ("galleries/busi", which holds `gallery.db`), a file ending in .db or .sqlite, or
"engine://address" for an engine of `ENGINES`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import lazy_loader

from sonoseek.core import InvalidValueError, LazyTable
from sonoseek.gallery.base import Gallery
from sonoseek.gallery.values import (
    AddResult,
    CaseKey,
    Exclusion,
    GalleryEntry,
    GalleryInfo,
    Index,
    Mode,
    RemoveResult,
    SearchResult,
)

if TYPE_CHECKING:
    from sonoseek.gallery.pictures import decode_picture, encode_picture

__getattr__, _, _ = lazy_loader.attach(__name__, submod_attrs={"pictures": ["encode_picture", "decode_picture"]})

__all__ = [
    "Gallery",
    "GalleryEntry",
    "Exclusion",
    "SearchResult",
    "AddResult",
    "RemoveResult",
    "GalleryInfo",
    "CaseKey",
    "Mode",
    "Index",
    "ENGINES",
    "open_gallery",
    "create_gallery",
    "encode_picture",
    "decode_picture",
]

ENGINES = LazyTable(
    "gallery engine",
    {
        "sqlite": "sonoseek.gallery.sqlite.gallery:SqliteGallery",
        "milvus": "sonoseek.gallery.milvus.gallery:MilvusGallery",
    },
)
"""Each has the class methods `open(location, mode=, timeout_s=, index=)` and
`create(location, bundle_id=, dimension=, duplicate_threshold=, exist_ok=, timeout_s=, index=)`."""


def open_gallery(location: str | Path, mode: Mode = "r", *, timeout_s: float = 5.0, index: Index = "auto") -> Gallery:
    """Open a gallery that exists.

    Args:
        location: folder, .db or .sqlite file, or "engine://address".
        mode: "r" to search, "w" to change it as well.
        timeout_s: seconds to wait for another process that is writing before giving up.
        index: how it is searched: "exact", "ivf", or "auto", by size; `GalleryInfo.index` describes the choice.

    Raises:
        NotFoundError: no gallery is there.
        GalleryError: what is there is no gallery, is damaged, or is of another schema version.
        TemporaryError: another process holds it for longer than `timeout_s`.
    """
    if mode not in ("r", "w"):
        raise InvalidValueError(f"mode is {mode!r}; it must be 'r' (search) or 'w' (change as well).")
    _check_index(index)
    gallery: Gallery = _engine(location).open(location, mode=mode, timeout_s=timeout_s, index=index)
    return gallery


def create_gallery(
    location: str | Path,
    *,
    bundle_id: str,
    dimension: int,
    duplicate_threshold: float | None = None,
    exist_ok: bool = False,
    timeout_s: float = 5.0,
    index: Index = "auto",
) -> Gallery:
    """Make an empty gallery and open it for writing.

    Args:
        location: as in `open_gallery`; folders are made.
        bundle_id: of the network whose embeddings it will hold.
        dimension: numbers per embedding.
        duplicate_threshold: cosine, above 0 and at most 1, from which on two scans are near-duplicates, as the bundle
            states (`Bundle.duplicate_threshold`): novelty leaves such pairs out of account. None: there are none. It
            belongs to the gallery and stays as it was created. A search leaves near-duplicates out only where it is
            asked to.
        exist_ok: open the one that is there, if it is of the same bundle and dimension: for a build that continues.
        timeout_s: as in `open_gallery`.
        index: as in `open_gallery`.

    Raises:
        GalleryError: a gallery, or something else, is there already.
        BundleMismatchError: with `exist_ok`, the one there was filled by another bundle.
        InvalidValueError: an empty bundle_id, a dimension below 1, or a threshold that is no cosine.
    """
    _check_index(index)
    gallery: Gallery = _engine(location).create(
        location,
        bundle_id=bundle_id,
        dimension=dimension,
        duplicate_threshold=duplicate_threshold,
        exist_ok=exist_ok,
        timeout_s=timeout_s,
        index=index,
    )
    return gallery


def _check_index(index: str) -> None:
    if index not in ("auto", "exact", "ivf"):
        raise InvalidValueError(f"index is {index!r}; it must be 'auto', 'exact' or 'ivf'.")


def _engine(location: str | Path) -> Any:
    scheme, separator, _ = str(location).partition("://")
    return ENGINES.load(scheme if separator else "sqlite")
