"""`sonoseek deidentify`: DICOM files without what identifies the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def deidentify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A DICOM file, or a folder of them and those below.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the new files; outside of IN.")],
    dates: Annotated[
        Literal["shift", "remove", "keep"],
        typer.Option(help="`shift`: back by days of the patient's own; `remove`; `keep`."),
    ] = "shift",
    refuse_burned_in: Annotated[
        bool,
        typer.Option("--refuse-burned-in", help="Refuse files that may have burned-in text and give no regions."),
    ] = False,
) -> None:
    """Write ultrasound images without what identifies the patient, in headers and pixels; a stopped run continues."""
    from sonoseek.apps.cli.show import progress_bar
    from sonoseek.pacs.deidentification.run import Options, deidentify_folder
    from sonoseek.pacs.deidentification.words import rapid_ocr

    ocr = rapid_ocr()
    options = Options(dates=dates, refuse_burned_in=refuse_burned_in, ocr=ocr)
    with progress_bar("deidentify") as on_progress:
        done = deidentify_folder(source, out, options, on_progress=on_progress)
    typer.echo(
        f"{out}: {done.written} written ({done.known} files were done before), {done.skipped} skipped, "
        f"{done.refused} refused, {done.look} to be looked at; see {done.report}, which names patients and stays here"
    )
    if ocr is None:
        typer.echo("no file was checked by OCR: the package rapidocr_onnxruntime is not installed", err=True)
    if done.refused or done.look:
        raise typer.Exit(2)
