"""`sonoseek pacs import`: fetch an archive and join it with pathology."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sonoseek.apps.cli.options import with_groups
from sonoseek.apps.cli.pacs import peers
from sonoseek.apps.cli.pacs.find import Wanted
from sonoseek.core import InvalidValueError
from sonoseek.pacs.peer import Peer

if TYPE_CHECKING:
    from sonoseek.pacs.archive import ImportFolder, StudyQuery
    from sonoseek.pacs.importing import JoinedTable


By = Annotated[
    Literal["get", "move", "web"] | None, typer.Option(help="C-GET, C-MOVE or WADO-RS; by default get, or web.")
]


@with_groups
def import_archive(
    *,
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
    cine: Annotated[
        Literal["list", "middle"], typer.Option(help="Cines: list them, or take their middle frame.")
    ] = "list",
    dataset: Annotated[str, typer.Option(help="Name of the archive in the gallery.")] = "archive",
    gallery: Annotated[str, typer.Option("--gallery", "-g", help="Add the cases to this gallery.")] = "",
    by: By = None,
    listen: peers.Listen = "127.0.0.1:11112",
    again: Annotated[bool, typer.Option("--again", help="Fetch again what was refused before.")] = False,
    wanted: Wanted,
    config: peers.Config = None,
    name: peers.Name = "",
    address: peers.Address,
) -> None:
    """Fetch breast ultrasound, join it with pathology, and write the table that `index build` reads.

    What is ambiguous is listed in not-joined.csv with the reason. Without an address, only the join is done again.
    """
    from sonoseek.pacs.archive import ImportFolder
    from sonoseek.pacs.importing import join_folder
    from sonoseek.pacs.pathology import JoinRules, load_terms, read_results

    query = wanted.query()
    first, last = _days(days)
    rules = JoinRules(first_day=first, last_day=last, take_unsided=take_unsided)
    read = read_results(results or [], load_terms(terms))  # before anything is fetched: a wrong table is refused now
    peer = peers.make_peer(name, config, address) if address or config or name else None
    receiving = peers.parse_listen(listen)
    with ImportFolder(out) as folder:
        if again:
            folder.forget_refusals()
        nothing = False
        if peer is not None:
            nothing = _fetch(peer, query, folder, by=by, listen=receiving)
        table = join_folder(folder, read, rules=rules, cine=cine, dataset=dataset)
    _say(table)
    if gallery:
        _build(table, gallery)
    if nothing:
        raise typer.Exit(2)


def _fetch(peer: Peer, query: StudyQuery, folder: ImportFolder, *, by: By, listen: tuple[str, int]) -> bool:
    """Fetch, and print what was done; whether all that there is was refused."""
    from sonoseek.apps.cli.show import progress_bar, refusals
    from sonoseek.pacs.archive import open_archive
    from sonoseek.pacs.importing import fetch_archive

    with (
        open_archive(peer, by=by, drafts=folder.drafts, listen=listen) as archive,
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
