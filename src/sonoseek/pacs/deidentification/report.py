"""What was done with each file: a private table beside the output, by which a stopped run continues."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from sonoseek.core.csv_cells import csv_cell
from sonoseek.core.files import open_private

State = Literal["written", "skipped", "refused"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file.

    Attributes:
        source: path below the input folder. It may name the patient: the table stays at the site.
        state: "written"; "skipped", no ultrasound image; "refused", not read or not to be de-identified.
        output: file name in the output folder; "" where nothing was written.
        look: "yes" where a person must look at the pixels before the file is given away, else "no".
        frames: written.
        blanked: how the pixels were cleaned: "regions", "scan area" or "text alone".
        outside_percent: of the pixels, blanked as lying outside.
        text_pixels: blanked as burned-in text.
        ocr: "not checked by OCR", "no identifier found", or which kinds were found.
        note: why it was skipped or refused, or is to be looked at.
        version: of the source file and of the options, by which a run that continues knows it again.
    """

    source: str
    state: State
    output: str = ""
    look: str = "no"
    frames: int = 0
    blanked: str = ""
    outside_percent: float = 0.0
    text_pixels: int = 0
    ocr: str = ""
    note: str = ""
    version: str = ""


COLUMNS = tuple(each.name for each in fields(Row))


def report_path(out: Path) -> Path:
    """The table of an output folder: beside it and not in it, so that it is not given away with it."""
    return out.resolve().with_name(f"{out.resolve().name}.report.csv")


def read_rows(path: Path) -> dict[str, Mapping[str, str]]:
    """Source → its last row; a line that was cut off by a power failure is nothing."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["source"]: row for row in csv.DictReader(file) if None not in row.values() and None not in row}


@contextmanager
def open_report(path: Path) -> Iterator[Callable[[Row], None]]:
    """Append to the table; made where there is none, for its owner alone. Yields what writes a row, flushed at once."""
    with open_private(path, "ab+") as file:
        size = file.seek(0, os.SEEK_END)
        whole = not size
        if size:
            file.seek(-1, os.SEEK_END)
            whole = file.read(1) == b"\n"
    with path.open("a", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        if not whole:
            table.write("\n")
        if not size:
            writer.writerow(COLUMNS)

        def write(row: Row) -> None:
            writer.writerow([csv_cell(value) for value in asdict(row).values()])
            table.flush()

        yield write
