"""`sonoseek query`: one scan in, one report out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sonoseek.apps.cli.options import Bundle, Calibration
from sonoseek.core import Box, InvalidValueError, NotFoundError, SearchOptions, require_extra


class Format(StrEnum):
    """How a report is written."""

    table = "table"
    json = "json"
    html = "html"
    pdf = "pdf"
    dicom = "dicom"


Gallery = Annotated[
    str | None, typer.Option("--gallery", "-g", help="Gallery to search; without one: prediction and heatmap alone.")
]
Lesion = Annotated[
    str | None,
    typer.Option(
        metavar="TOP,LEFT,BOTTOM,RIGHT",
        help="The reader's mark: a box around the lesion, in the scan's pixels; for bundles that take one.",
    ),
]


def query(
    scans: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SCAN...", help="DICOM, PNG, JPEG, BMP or TIFF; several are views of one lesion."),
    ] = None,
    gallery: Gallery = None,
    k: Annotated[int, typer.Option("-k", min=0, help="How many matches.")] = 10,
    where: Annotated[
        str | None, typer.Option(help="Filter, e.g. \"birads >= '4A' and device = 'GE Logiq 7'\".")
    ] = None,
    include_same: Annotated[
        bool, typer.Option(help="Also list the scan itself, its patient and its group as matches.")
    ] = False,
    case: Annotated[
        str | None, typer.Option(help="DATASET/CASE: query with a case of the gallery instead of a file.")
    ] = None,
    per_patient: Annotated[bool, typer.Option(help="One match per patient or group (else per case).")] = True,
    deduplicate: Annotated[
        bool, typer.Option(help="Near-duplicates of a match are counted with it, not listed.")
    ] = True,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="TOP,LEFT,BOTTOM,RIGHT",
            help="Search by the evidence map inside this box only, in the scan's pixels.",
        ),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="TOP,LEFT,BOTTOM,RIGHT",
            help="The scan area in the file, where preprocessing finds a wrong one.",
        ),
    ] = None,
    lesion: Lesion = None,
    like: Annotated[
        list[str] | None, typer.Option(help="Move the search towards this match: scan_id or DATASET/CASE.")
    ] = None,
    dislike: Annotated[
        list[str] | None, typer.Option(help="Move the search away from this match, which is left out.")
    ] = None,
    frame: Annotated[
        str,
        typer.Option(
            metavar="N|highest",
            help="Frame of a multi-frame file, from 0; `highest`: of all frames the one with the highest likelihood "
            "of malignancy.",
        ),
    ] = "0",
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            "-f",
            help="Format of the report; by default the ending of --out (.json, .html, .pdf, .dcm), else a table.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here instead of to the terminal.")] = None,
    heatmaps: Annotated[bool, typer.Option(help="json: include the full heatmaps.")] = False,
    calibration: Calibration = True,
    bundle: Bundle = None,
) -> None:
    """Predict the class of one scan and list the most similar cases of a gallery."""
    from sonoseek.apps.cli.show import progress_bar
    from sonoseek.core.files import PRIVATE, write_atomically
    from sonoseek.engine import open_engine
    from sonoseek.engine.frames import read_highest_frame
    from sonoseek.io import read_scan, read_source_header
    from sonoseek.io.sandbox import start_readers
    from sonoseek.reports import render, render_json, render_pdf, render_sr

    form = _form(form, out)
    if out is not None and not out.parent.is_dir():
        raise NotFoundError(f"{str(out.parent)!r} is no folder; a report is written into one. Make it first.")
    if heatmaps and form is not Format.json:
        raise InvalidValueError(
            f"--heatmaps is for --format json, not {form.value}; the html and the pdf report draw them."
        )
    if bool(scans) == (case is not None):
        raise InvalidValueError("give files or --case, one of the two; `sonoseek query --help` shows how.")
    if form is Format.dicom and (not scans or out is None):
        raise InvalidValueError(
            "a DICOM report is a file, of the patient and the study of its scan; give the scan's DICOM file and --out."
        )
    if form is Format.dicom and scans:
        require_extra("pacs")
        read_source_header(scans[0])  # before the work: no other file has what the report is filed by
    if crop is not None and (not scans or len(scans) > 1):
        raise InvalidValueError("--crop applies to one file; give that file alone.")
    if lesion is not None and scans is None:
        raise InvalidValueError(
            "--lesion marks the pixels of a scan, and the gallery stores none of --case; give the scan's file."
        )
    if lesion is not None and len(scans or ()) > 1:
        raise InvalidValueError("--lesion applies to one file; give that file alone.")
    number = _frame(frame)
    if number is None and (not scans or len(scans) > 1 or lesion is not None):
        raise InvalidValueError("--frame highest reads one file without --lesion; give that file alone.")
    dataset, slash, case_id = (case or "").partition("/")
    if case is not None and not (dataset and slash and case_id):
        raise InvalidValueError(f"--case is {case!r}; write DATASET/CASE, as `query` prints it.")
    options = SearchOptions(
        k=k,
        where=where,
        include_same=include_same,
        per_patient=per_patient,
        deduplicate=deduplicate,
        region=None if region is None else parse_box("--region", region),
        liked=tuple(like or ()),
        disliked=tuple(dislike or ()),
    )
    if scans:
        start_readers(1)  # it loads while the network does
    engine = open_engine(gallery, bundle=bundle, calibration=calibration)
    if scans:
        area = None if crop is None else parse_box("--crop", crop)
        box = None if lesion is None else parse_box("--lesion", lesion)
        if number is None:
            with progress_bar("frames", unit="frames") as on_progress:
                encoded = [read_highest_frame(engine, scans[0], crop=area, on_progress=on_progress)]
        else:
            encoded = [engine.read(read_scan(file, frame=number), crop=area, lesion=box) for file in scans]
        report = engine.query(encoded, options)
    else:
        report = engine.query_case(dataset, case_id, options)
    content: str | bytes
    if form is Format.json:
        content = render_json(report, heatmaps=heatmaps)
    elif form is Format.pdf:
        content = render_pdf(report)
    elif form is Format.dicom and scans:
        content = render_sr(report, scans[0])
    else:
        content = render(report, "html" if form is Format.html else "text")
    if out is None and form in (Format.html, Format.pdf):
        name = f"{scans[0].stem if scans else case_id}.report.{form.value}"
        out = Path("".join(c if c.isprintable() and c not in "/\\" else "_" for c in name))
    if out is None:
        typer.echo(content)
    else:
        write_atomically(out, content, mode=PRIVATE)
        typer.echo(f"report: {out}", err=True)


def _frame(text: str) -> int | None:
    """The frame, 0-based; None: the one with the highest likelihood of malignancy."""
    if text == "highest":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InvalidValueError(f"--frame is {text!r}; it is a whole number from 0, or `highest`.")
    return int(text)


def _form(form: Format | None, out: Path | None) -> Format:
    """The --format, else the ending of the file's name, else a table."""
    suffix = "" if out is None else out.suffix.lower().removeprefix(".")
    named = Format.dicom if suffix == "dcm" else None
    if suffix in (Format.json, Format.html, Format.pdf):
        named = Format(suffix)
    if form is None:
        return named or Format.table
    if named is not None and form is not named and {form, named} & {Format.pdf, Format.dicom}:
        raise InvalidValueError(  # no program would open such a file
            f"--format {form.value} and --out {out.name if out else ''!r} disagree; a PDF, and no other, ends in .pdf, "
            "a DICOM report in .dcm. Leave --format out, or rename the file."
        )
    return form


def parse_box(option: str, text: str) -> Box:
    """A box as it is typed.

    Args:
        option: that it is given to, for the message.
        text: "40,60,180,220": top, left, bottom, right, in the scan's pixels.

    Raises:
        InvalidValueError: not four numbers, or an empty box.
    """
    try:
        top, left, bottom, right = (float(part) for part in text.split(","))
    except ValueError:
        raise InvalidValueError(
            f"{option} is {text!r}; write four numbers, TOP,LEFT,BOTTOM,RIGHT, in the scan's pixels: 40,60,180,220."
        ) from None
    return Box(top=top, left=left, bottom=bottom, right=right)
