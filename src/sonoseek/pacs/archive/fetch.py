"""Fetch one series: what is in the folder is not fetched again."""

from __future__ import annotations

from dataclasses import dataclass

from sonoseek.pacs.archive.folder import Imported, ImportFolder
from sonoseek.pacs.archive.values import ArchiveClient, InstanceRef, SeriesRef
from sonoseek.pacs.uids import is_uid


@dataclass(frozen=True, kw_only=True)
class FetchResult:
    """What became of a series.

    Attributes:
        added: objects that were fetched now.
        present: objects that were there before.
        refused: SOP Instance UID → why it is not in the folder; the series' UID, where not all of it was listed.
        entries: of all objects of the series that are in the folder.
    """

    added: int
    present: int
    refused: dict[str, str]
    entries: tuple[Imported, ...]


def fetch_series(archive: ArchiveClient, series: SeriesRef, folder: ImportFolder) -> FetchResult:
    """Fetch the pictures of a series that the folder does not have, and read the header of each in the sandbox.

    Raises:
        PeerError, TemporaryError: the archive refuses, or does not answer; what was fetched stays.
        OSError: the folder cannot be written.
    """
    listed = _list(archive, series)
    pictures = [uid for uid, item in listed.items() if item.is_picture and is_uid(uid)]
    refused = {uid: f"{uid[:64]!r} is no UID (PS3.5 9.1)" for uid in listed if not is_uid(uid)}
    refused |= {
        uid: f"SOP class {item.sop_class_uid}; pictures of ultrasound alone are imported"
        for uid, item in listed.items()
        if not item.is_picture
    }
    if len(listed) < (series.objects or 0):
        refused[series.series_uid] = (
            f"the archive lists {len(listed)} of the {series.objects} objects that it has of this series; run the same "
            "command again"
        )
    wanted = [uid for uid in pictures if not folder.has(uid)]
    present = len(pictures) - len(wanted)
    added = 0
    if wanted:
        refused |= archive.fetch(series, wanted, folder, whole=len(wanted) == len(listed))
    entries = []
    for uid in pictures:
        if uid in refused:
            continue
        entry = folder.refusal(uid) or folder.read(uid, study_uid=series.study_uid)
        if isinstance(entry, str):
            refused[uid] = entry
        else:
            entries.append(entry)
            added += uid in wanted
    return FetchResult(
        added=added,
        present=present - sum(uid not in wanted and uid in refused for uid in pictures),
        refused=refused,
        entries=tuple(entries),
    )


def _list(archive: ArchiveClient, series: SeriesRef) -> dict[str, InstanceRef]:
    """The objects of a series, by UID; listed again once where the archive states that it has more."""
    listed = {item.sop_instance_uid: item for item in archive.list_instances(series)}
    if len(listed) < (series.objects or 0):
        listed |= {item.sop_instance_uid: item for item in archive.list_instances(series)}
    return listed
