"""`sonoseek preprocess`: see what preprocessing makes of scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def preprocess_sheet(
    scans: Annotated[list[Path], typer.Argument(help="Scans, or folders of scans.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The contact sheet, a PNG.")] = Path("contact-sheet.png"),
    columns: Annotated[int, typer.Option(min=1, max=12)] = 4,
    most: Annotated[int, typer.Option(min=1, help="At most so many scans.")] = 48,
) -> None:
    """Write a contact sheet: every scan before and after preprocessing, with what was cut and in-painted."""
    from PIL import Image

    from sonoseek.apps.cli.show import refusals
    from sonoseek.core import InvalidValueError, NotFoundError, Scan, SonoseekError
    from sonoseek.core.files import PRIVATE, open_atomically
    from sonoseek.io import is_scan_file, read_scan
    from sonoseek.preprocessing import PreprocessingRecipe, contact_sheet

    if out.suffix.lower() != ".png" or not out.absolute().parent.is_dir():
        raise InvalidValueError(f"--out is {out}; a contact sheet is a .png in a folder that exists. Name such a file.")
    files = [f for given in scans for f in (sorted(given.rglob("*")) if given.is_dir() else [given])]
    files = [f for f in files if f.is_file() and not _is_mask(f)] if any(s.is_dir() for s in scans) else files
    read: list[tuple[str, Scan]] = []
    refused: list[tuple[str, str]] = []
    for file in files:
        if len(read) == most:
            break
        try:
            if file in scans or is_scan_file(file):
                read.append((file.name, read_scan(file)))
        except SonoseekError as error:
            refused.append((file.name, str(error)))
    refusals(refused)
    if not read:
        raise NotFoundError(
            f"no readable scan in {', '.join(map(str, scans))}; name DICOM, PNG, JPEG, BMP or TIFF files."
        )
    with open_atomically(out, mode=PRIVATE) as sheet:
        Image.fromarray(contact_sheet(read, PreprocessingRecipe(), columns=columns)).save(sheet, "PNG")
    typer.echo(f"contact sheet of {len(read)} scans: {out}")


def _is_mask(file: Path) -> bool:
    return "_mask" in file.stem or "_tumor" in file.stem or "_other" in file.stem or file.parent.name.lower() == "masks"
