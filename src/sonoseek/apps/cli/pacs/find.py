"""`sonoseek pacs find`: list the ultrasound of an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sonoseek.apps.cli.pacs import peers
from sonoseek.pacs.peer import OUR_AE_TITLE

if TYPE_CHECKING:
    from sonoseek.pacs.archive import SeriesRef, StudyQuery

Since = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First study date.")]
Until = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last study date.")]
Accession = Annotated[str, typer.Option(help="One accession number.", show_default=False)]
PatientId = Annotated[str, typer.Option(help="One patient id.", show_default=False)]
BodyPart = Annotated[str, typer.Option(help='BodyPartExamined; "" for any.')]
Description = Annotated[
    list[str] | None,
    typer.Option(help="Word of the description that counts where the body part is empty; repeatable.", metavar="WORD"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def find(
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
    json: Json = False,
) -> None:
    """List the series of breast ultrasound of an archive, by C-FIND or QIDO-RS. Fetches nothing."""
    from sonoseek.pacs.archive import open_archive

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
    query = make_query(since, until, accession, patient_id, body_part=body_part, description=description)
    with open_archive(peer) as archive:
        series = list(archive.find_series(query))
    _show(series, as_json=json)


def make_query(
    since: datetime | None,
    until: datetime | None,
    accession: str,
    patient_id: str,
    *,
    body_part: str,
    description: Sequence[str] | None,
) -> StudyQuery:
    """Make the query of the options; words of `description` come in addition to the default ones.

    Raises:
        InvalidValueError: a value is no single number, or the dates are the wrong way round.
    """
    from sonoseek.pacs.archive import StudyQuery
    from sonoseek.pacs.archive.values import BREAST_WORDS

    return StudyQuery(
        since=since.date() if since else None,
        until=until.date() if until else None,
        accession=accession,
        patient_id=patient_id,
        body_part=body_part,
        descriptions=(*BREAST_WORDS, *(description or ())),
    )


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
