"""`sonoseek pacs import`: fetch an archive and join it with pathology."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonoseek.apps.cli.pacs import peers
from sonoseek.apps.cli.pacs.find import (
    Accession,
    BodyPart,
    Description,
    PatientId,
    Since,
    Until,
    make_query,
)
from sonoseek.core import InvalidValueError
from sonoseek.pacs.peer import OUR_AE_TITLE, Peer

if TYPE_CHECKING:
    from sonoseek.pacs.archive import ImportFolder, StudyQuery
    from sonoseek.pacs.importing import JoinedTable


class By(StrEnum):
    """How files are fetched."""

    GET = "get"
    MOVE = "move"
    WEB = "web"


class CineChoice(StrEnum):
    """What becomes of a cine."""

    LIST = "list"
    MIDDLE = "middle"


def import_archive(
    out: Annotated[Path, typer.Option(help="Folder of the import; private. The same folder again continues.")],
    results: Annotated[
        list[Path] | None, typer.Option(help="Pathology: a CSV table or HL7 ORU messages; repeatable.")
    ] = None,
    terms: Annotated[Path | None, typer.Option(help="Table of terms (TOML): what a result says → its class.")] = None,
    days: Annotated[
        str, typer.Option(metavar="FIRST:LAST", help="Days from scan to biopsy, for results without its accession.")
    ] = "0:60",
    take_unsided: Annotated[
        bool, typer.Option("--take-unsided", help="Each study is known to be of one breast: do without sides.")
    ] = False,
    cine: Annotated[CineChoice, typer.Option(help="Cines: list them, or take their middle frame.")] = CineChoice.LIST,
    dataset: Annotated[str, typer.Option(help="Name of the archive in the gallery.")] = "archive",
    gallery: Annotated[str, typer.Option("--gallery", "-g", help="Add the cases to this gallery.")] = "",
    by: Annotated[By | None, typer.Option(help="C-GET, C-MOVE or WADO-RS; by default get, or web.")] = None,
    listen: peers.Listen = "127.0.0.1:11112",
    again: Annotated[bool, typer.Option("--again", help="Fetch again what was refused before.")] = False,
    since: Since = None,
    until: Until = None,
    accession: Accession = "",
    patient_id: PatientId = "",
    body_part: BodyPart = "BREAST",
    description: Description = None,
    config: peers.Config = None,
    name: peers.Name = "",
    ae_title: peers.AeTitle = "",
    host: peers.Host = "",
    port: peers.Port = 104,
    our_ae_title: peers.OurAeTitle = OUR_AE_TITLE,
    dicomweb: peers.DicomWeb = "",
    tls: peers.Tls = False,
    tls_ca: peers.TlsCa = None,
    tls_certificate: peers.TlsCertificate = None,
    tls_key: peers.TlsKey = None,
    tls_host_name: peers.TlsHostName = "",
) -> None:
    """Fetch breast ultrasound, join it with pathology, and write the table that `index build` reads.

    What is ambiguous is listed in not-joined.csv with the reason. Without an address, only the join is done again.
    """
    from sonoseek.pacs.archive import ImportFolder
    from sonoseek.pacs.importing import join_folder
    from sonoseek.pacs.pathology import JoinRules, load_terms, read_results

    query = make_query(since, until, accession, patient_id, body_part=body_part, description=description)
    first, last = _days(days)
    rules = JoinRules(first_day=first, last_day=last, take_unsided=take_unsided)
    read = read_results(results or [], load_terms(terms))  # before anything is fetched: a wrong table is refused now
    peer = None
    if host or ae_title or dicomweb or config or name:
        peer = peers.make_peer(
            name,
            config=config,
            ae_title=ae_title,
            host=host,
            port=port,
            our_ae_title=our_ae_title,
            dicomweb=dicomweb,
            tls=tls,
            tls_ca=tls_ca,
            tls_certificate=tls_certificate,
            tls_key=tls_key,
            tls_host_name=tls_host_name,
        )
    address = peers.parse_listen(listen)
    with ImportFolder(out) as folder:
        if again:
            folder.forget_refusals()
        nothing = False
        if peer is not None:
            nothing = _fetch(peer, query, folder, by=by, listen=address)
        table = join_folder(folder, read, rules=rules, cine=cine.value, dataset=dataset)
    _say(table)
    if gallery:
        _build(table, gallery)
    if nothing:
        raise typer.Exit(2)


def _fetch(peer: Peer, query: StudyQuery, folder: ImportFolder, *, by: By | None, listen: tuple[str, int]) -> bool:
    """Fetch, and print what was done; whether all that there is was refused."""
    from sonoseek.apps.cli.show import progress_bar, refusals
    from sonoseek.pacs.archive import open_archive
    from sonoseek.pacs.importing import fetch_archive

    with (
        open_archive(peer, by=by.value if by else None, drafts=folder.drafts, listen=listen) as archive,
        progress_bar("import", unit="series") as on_progress,
    ):
        fetched = fetch_archive(archive, query, folder, on_progress=on_progress)
    refusals(list(fetched.refused.items()))
    typer.echo(
        f"{folder.root}: {fetched.series} series; {fetched.added} files added, {fetched.present} there before, "
        f"{len(fetched.refused)} refused"
    )
    return bool(fetched.refused) and not fetched.added and not fetched.present


def _say(table: JoinedTable) -> None:
    cases = ", ".join(f"{count} {name}" for name, count in sorted(table.cases.items())) or "none"
    listed = ", ".join(f"{count} {name}" for name, count in sorted(table.listed.items())) or "none"
    typer.echo(f"{table.manifest}: pictures with a reference standard: {cases}")
    typer.echo(f"{table.report}: listed with the reason: {listed}")


def _build(table: JoinedTable, gallery: str) -> None:
    from sonoseek.apps.cli.show import progress_bar, refusals, warnings
    from sonoseek.indexing import build_gallery

    if not table.cases:
        typer.echo("no picture has a reference standard; the gallery is left as it is", err=True)
        raise typer.Exit(2)
    with progress_bar("index") as on_progress:
        result = build_gallery(table.manifest, gallery, on_progress=on_progress)
    refusals([(refusal.source, refusal.reason) for refusal in result.refused])
    warnings(result.warnings)
    typer.echo(
        f"{gallery}: {result.added} added, {result.updated} updated, {result.unchanged} unchanged, "
        f"{len(result.refused)} refused"
    )


def _days(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    try:
        return int(first), int(last)
    except ValueError:
        raise InvalidValueError(f"--days is {text!r}; it is the first and the last day, as 0:60.") from None
