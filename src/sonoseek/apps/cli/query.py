"""`sonoseek query`: one scan in, one report out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sonoseek.core import InvalidValueError


class Format(StrEnum):
    """How a report is written."""

    table = "table"
    json = "json"
    html = "html"


Gallery = Annotated[
    Path | None, typer.Option("--gallery", "-g", help="Gallery to search; without one: verdict and heatmap alone.")
]
Bundle = Annotated[Path | None, typer.Option(help="Folder of another bundle than the one that ships.")]


def query(
    scan: Annotated[Path, typer.Argument(help="DICOM, PNG, JPEG, BMP or TIFF.")],
    gallery: Gallery = None,
    k: Annotated[int, typer.Option("-k", min=0, help="How many matches.")] = 10,
    where: Annotated[
        str | None, typer.Option(help="Filter, e.g. \"birads >= '4A' and device = 'GE Logiq 7'\".")
    ] = None,
    include_same: Annotated[
        bool, typer.Option(help="Let the scan itself, its patient and its group be matches.")
    ] = False,
    frame: Annotated[int, typer.Option(min=0, help="Frame of a multi-frame file, from 0.")] = 0,
    form: Annotated[Format, typer.Option("--format", "-f", help="Form of the report.")] = Format.table,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here instead of to the terminal.")] = None,
    heatmaps: Annotated[bool, typer.Option(help="json: put the full heatmaps in.")] = False,
    bundle: Bundle = None,
) -> None:
    """Ask: what does this scan most likely show, and which past cases look like it?"""
    from sonoseek.engine import open_engine
    from sonoseek.reading import read_scan
    from sonoseek.reports import render, render_json
    from sonoseek.reports.atomic import write_atomically

    if heatmaps and form is not Format.json:
        raise InvalidValueError(f"--heatmaps is for --format json, not {form.value}; the html report always has them.")
    engine = open_engine(gallery, bundle=bundle)
    report = engine.query(read_scan(scan, frame=frame), k=k, where=where, include_same=include_same)
    if form is Format.json:
        text = render_json(report, heatmaps=heatmaps)
    else:
        text = render(report, "html" if form is Format.html else "text")
    if out is None and form is Format.html:
        out = Path("".join(c if c.isprintable() else "_" for c in f"{scan.stem}.report.html"))
    if out is None:
        typer.echo(text)
    else:
        write_atomically(out, text)
        typer.echo(f"report: {out}", err=True)
