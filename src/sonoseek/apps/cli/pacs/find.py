"""`sonoseek pacs find`: list the ultrasound of an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sonoseek.apps.cli.options import with_groups
from sonoseek.apps.cli.pacs import peers

if TYPE_CHECKING:
    from sonoseek.pacs.archive import SeriesRef, StudyQuery


@dataclass(frozen=True)
class Wanted:
    """The options of a query."""

    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First study date.")] = None
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last study date.")] = None
    accession: Annotated[str, typer.Option(help="One accession number.", show_default=False)] = ""
    patient_id: Annotated[str, typer.Option(help="One patient id.", show_default=False)] = ""
    body_part: Annotated[str, typer.Option(help='BodyPartExamined; "" for any.')] = "BREAST"
    description: Annotated[
        list[str] | None,
        typer.Option(
            help="Word of the description that counts where the body part is empty; repeatable.", metavar="WORD"
        ),
    ] = None

    def query(self) -> StudyQuery:
        """The query; words of `description` come in addition to the default ones.

        Raises:
            InvalidValueError: a value is no single number, or the dates are the wrong way round.
        """
        from sonoseek.pacs.archive import StudyQuery
        from sonoseek.pacs.archive.values import BREAST_WORDS

        return StudyQuery(
            since=self.since.date() if self.since else None,
            until=self.until.date() if self.until else None,
            accession=self.accession,
            patient_id=self.patient_id,
            body_part=self.body_part,
            descriptions=(*BREAST_WORDS, *(self.description or ())),
        )


@with_groups
def find(
    *,
    wanted: Wanted,
    config: peers.Config = None,
    name: peers.Name = "",
    address: peers.Address,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the series of breast ultrasound of an archive, by C-FIND or QIDO-RS. Fetches nothing."""
    from sonoseek.pacs.archive import open_archive

    peer = peers.make_peer(name, config, address)
    query = wanted.query()
    with open_archive(peer) as archive:
        series = list(archive.find_series(query))
    _show(series, as_json=json)


def _show(series: Sequence[SeriesRef], *, as_json: bool) -> None:
    import json

    from sonoseek.apps.cli.show import table

    if as_json:
        typer.echo(json.dumps([asdict(each) for each in series], default=str, ensure_ascii=False, indent=2))
        return
    rows = [
        (
            each.study_date or "",
            each.accession,
            each.patient_id,
            each.body_part or each.study_description,
            each.series_description,
            each.series_uid,
        )
        for each in series
    ]
    table(("date", "accession", "patient id", "body part", "series", "SeriesInstanceUID"), rows)
    studies = len({each.study_uid for each in series})
    typer.echo(f"{len(series)} series of {studies} studies")
