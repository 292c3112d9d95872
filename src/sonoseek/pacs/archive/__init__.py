"""Ultrasound of an archive: find its series, fetch them into a folder. Per series, never per study.

    with open_archive(peer, drafts=folder.drafts) as archive:
        for series in archive.find_series(StudyQuery(since=date(2020, 1, 1))):
            result = fetch_series(archive, series, folder)

A study in which results lie cannot be fetched as a whole from many archives: they are of SOP classes that an importer
does not take, and the C-MOVE fails with 0xC000. A series of Modality US holds pictures alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sonoseek.core import InvalidValueError
from sonoseek.pacs.archive.fetch import FetchResult, fetch_series
from sonoseek.pacs.archive.folder import Imported, ImportFolder
from sonoseek.pacs.archive.values import ArchiveClient, InstanceRef, SeriesRef, StudyQuery
from sonoseek.pacs.peer import Peer, WebLogin

__all__ = [
    "ArchiveClient",
    "By",
    "FetchResult",
    "ImportFolder",
    "Imported",
    "InstanceRef",
    "SeriesRef",
    "StudyQuery",
    "fetch_series",
    "open_archive",
]

By = Literal["get", "move", "web"]
"""How objects are fetched: C-GET, C-MOVE to a storage SCP of our own, or WADO-RS."""


def open_archive(
    peer: Peer,
    *,
    by: By | None = None,
    drafts: Path | None = None,
    listen: tuple[str, int] = ("127.0.0.1", 0),
    login: WebLogin | None = None,
) -> ArchiveClient:
    """Prepare to query an archive and fetch from it; opened as a context manager.

    Args:
        peer: the archive.
        by: how; None: "web" where the peer has a DICOMweb address alone, else "get".
        drafts: where files are received (`ImportFolder.drafts`); None: for queries alone.
        listen: address and port of our storage SCP for "move"; the archive must know it under our AE title.
        login: of DICOMweb; None: from the environment.

    Raises:
        InvalidValueError: the peer has no address for it, or a login would go unencrypted.
        MissingExtraError: the extra `pacs` is not installed.
    """
    way = by or ("get" if peer.host else "web")
    if way == "web":
        from sonoseek.pacs.archive.web import WebClient

        return WebClient(peer, login=login)
    if not peer.host:
        raise InvalidValueError(f"the peer {peer.name!r} has no DICOM address; give host and port, or take --by web.")
    from sonoseek.pacs.archive.dimse import DimseClient
    from sonoseek.pacs.archive.receiver import Receiver

    receiver = Receiver(peer, host=listen[0], port=listen[1]) if way == "move" and drafts is not None else None
    return DimseClient(peer, drafts=drafts, receiver=receiver)
