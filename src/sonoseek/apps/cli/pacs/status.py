"""`sonoseek pacs status`: how far each study is."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from datetime import datetime
from typing import Annotated

import typer

from sonoseek.apps.cli.pacs.listen import Settings
from sonoseek.core import require_extra


def status(
    settings: Settings,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every study.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Studies at most, the newest first.")] = 20,
) -> None:
    """Print what was received, what waits, what was queried, sent and committed, and what failed."""
    require_extra("pacs")
    from sonoseek.pacs.journal import Journal
    from sonoseek.pacs.rules import load_config

    with closing(Journal(load_config(settings).state, create=False)) as journal:
        counts, parcels, studies = journal.counts(), journal.outbox.counts(), journal.studies(limit=limit)
    if as_json:
        listed = [dataclasses.asdict(study) for study in studies]
        typer.echo(json.dumps({"counts": counts, "objects": parcels, "studies": listed}, ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(soft_wrap=False)
    console.print("objects: " + ", ".join(f"{counts[name]} {name}" for name in ("received", "discarded")))
    states = [name for name in counts if name not in ("received", "discarded")]
    console.print("studies: " + ", ".join(f"{counts[name]} {name}" for name in states))
    console.print("results: " + ", ".join(f"{count} {name}" for name, count in parcels.items()))
    table = Table("received", "patient", "accession", "pictures", "state", "malignant", "message")
    for study in studies:
        likelihood = None if study.finding is None else study.finding.malignant
        cells = (
            datetime.fromtimestamp(study.received).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            *(study.patient_id, study.accession, str(study.objects), study.state),
            "" if likelihood is None else f"{likelihood:.0%}",
            study.message,
        )
        # A sender chooses some of these: no markup, no control characters.
        table.add_row(*(Text("".join(filter(str.isprintable, cell))) for cell in cells))
    if studies:
        console.print(table)
