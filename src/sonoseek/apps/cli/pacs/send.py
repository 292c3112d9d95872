"""`sonoseek pacs send`: send DICOM files to a peer, by the same outbox as results."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonoseek.apps.cli.pacs.listen import Settings
from sonoseek.core import InvalidValueError, SonoseekError, TemporaryError, require_extra

if TYPE_CHECKING:
    from sonoseek.pacs.rules import PacsConfig, Peer


def send(
    settings: Settings,
    files: Annotated[list[Path] | None, typer.Argument(help="DICOM files; none: what waits in the outbox.")] = None,
    to: Annotated[str, typer.Option(help="Name of a peer in the settings.", metavar="PEER")] = "",
    wait: Annotated[float, typer.Option(min=0.0, help="Seconds to wait until they are through.", metavar="S")] = 60.0,
) -> None:
    """Send DICOM files to a peer, with retries and commitment; or deliver what waits in the outbox."""
    require_extra("pacs")
    from sonoseek.pacs.rules import load_config
    from sonoseek.pacs.service import Service, wake_service

    config = load_config(settings)
    if files and not to:
        raise InvalidValueError(f"{len(files)} files and no peer are given; name one of the settings with --to.")
    if files:
        _queue(config, files, config.peer(to))
    if wake_service(config.state):
        _wait(config, seconds=wait)
        return
    with Service(config, listen=False):
        _wait(config, seconds=wait)


def _queue(config: PacsConfig, files: list[Path], peer: Peer) -> None:
    from sonoseek.io import read_source_header
    from sonoseek.pacs.file_store import FileStore
    from sonoseek.pacs.journal import Journal
    from sonoseek.pacs.outbox_rows import Parcel
    from sonoseek.pacs.uids import is_uid

    with closing(Journal(config.state)) as journal:
        store = FileStore(config.state, min_free_bytes=0, max_object_bytes=0)
        parcels = []
        for file in files:
            header = read_source_header(file)
            if not is_uid(header.sop_instance_uid):
                raise InvalidValueError(f"{file}: its SOP Instance UID breaks PS3.5 9.1; correct it before it is sent.")
            parcels.append(
                Parcel(
                    study_uid=header.study_instance_uid,
                    key="",
                    kind="file",
                    sop_class=header.sop_class_uid,
                    sop_uid=header.sop_instance_uid,
                    file=store.put_out(header.sop_instance_uid, file.read_bytes()),
                    peer=peer.name,
                    commitment=peer.commitment,
                )
            )
        journal.outbox.queue(parcels)


def _wait(config: PacsConfig, *, seconds: float) -> None:
    """Until nothing waits any more; says what came of it."""
    from sonoseek.pacs.journal import Journal

    with closing(Journal(config.state, create=False)) as journal:
        until = time.monotonic() + seconds
        while (waiting := journal.outbox.counts()["waiting"]) and time.monotonic() < until:
            time.sleep(0.1)
        counts = journal.outbox.counts()
    typer.echo("results: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    if waiting:
        raise TemporaryError(
            f"{waiting} objects still wait after {seconds:g} s: a peer does not answer. They stay in the outbox; "
            "`sonoseek pacs status` has the reason."
        )
    if counts["failed"] or counts["alarm"]:
        raise SonoseekError(
            f"{counts['failed']} objects failed and {counts['alarm']} were not committed to; `sonoseek pacs status` "
            "has the reasons, `sonoseek pacs retry` tries again."
        )
