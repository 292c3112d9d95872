"""Folders of DICOM files, de-identified one by one into another folder; a stopped run continues."""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from sonoseek.core import InvalidValueError, NotFoundError, ScanReadError, ScanTooLargeError, Settings, require_extra
from sonoseek.core.csv_cells import csv_cell
from sonoseek.core.files import PRIVATE, make_private_folder, open_atomically
from sonoseek.core.site_key import derived, key_fingerprint, keyed
from sonoseek.io.dicom.deidentified import Dates, Identifiers, read_clean_header, read_identifiers, read_stored_frame
from sonoseek.io.files import shown
from sonoseek.io.sniff import sniff
from sonoseek.pacs.deidentification.pixels import Blanking, find_blanking, read_names, write_frames
from sonoseek.pacs.deidentification.report import Row, open_report, read_rows, report_path
from sonoseek.pacs.deidentification.words import Ocr
from sonoseek.pacs.uids import US_IMAGES

LEAST_DAYS, MOST_DAYS = 62, 1_826
"""By which dates are shifted back: two months, so that no month stays, to five years."""
LARGEST_VALUE = 0xFFFFFFFE
"""Bytes of an uncompressed pixel data element, PS3.5 7.1.1."""
NOT_CHECKED, NOTHING_READ = "not checked by OCR", "no identifier found"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How files are de-identified.

    Attributes:
        dates: "shift", by days that are the patient's own and depend on the site key; "remove"; or "keep".
        refuse_burned_in: refuse files that say of themselves, or do not deny, that text is burned in, unless their
            header says where the scan lies.
        ocr: reads text in pixels, for an alarm; None: no alarm.

    Raises:
        InvalidValueError: `dates` is none of the three.
    """

    dates: Dates = "shift"
    refuse_burned_in: bool = False
    ocr: Ocr | None = None

    def __post_init__(self) -> None:
        if self.dates not in get_args(Dates):
            raise InvalidValueError(f"dates is {self.dates!r}; it must be one of {', '.join(get_args(Dates))}.")

    @property
    def name(self) -> str:
        """What of the options changes an output."""
        return f"{self.dates}{' refuse' if self.refuse_burned_in else ''}{' ocr' if self.ocr is not None else ''}"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did: files that were written, skipped, refused, there already; and of those, to be looked at."""

    written: int
    skipped: int
    refused: int
    known: int
    look: int
    report: Path


def deidentify_folder(
    source: Path,
    out: Path,
    options: Options,
    *,
    settings: Settings | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """De-identify every DICOM file in a folder and those below it, or one file.

    Args:
        source: folder or file; links are not followed.
        out: folder, made where there is none; outside of `source`. Files are called by their new SOP Instance UID.
        options: how.
        settings: limits, and the site key; from the environment when None.
        on_progress: called with (files done, files in all).

    Raises:
        MissingExtraError: dicognito is not installed.
        NotFoundError: `source` is not there.
        InvalidValueError: `out` lies within `source`.
        SiteKeyError: the site key cannot be read or made.
        OSError: the output cannot be written; what was finished stays.
    """
    require_extra("pacs")
    settings = settings or Settings.from_environment()
    key = key_fingerprint(settings)  # a key that does not read ends this before the first file
    files = list(_files(source))
    if out.resolve().is_relative_to(source.resolve()):
        raise InvalidValueError(
            f"{out} lies within {source}; the next run would take its files for originals. Name a folder elsewhere."
        )
    make_private_folder(out)
    table = report_path(out)
    earlier = read_rows(table)
    outputs = {row["output"]: name for name, row in earlier.items() if row["output"]}
    rows: list[Mapping[str, object]] = []
    known = 0
    with open_report(table) as report:
        for number, path in enumerate(files, start=1):
            name = str(csv_cell(shown(path.relative_to(source) if source.is_dir() else path.name)))
            version = _version(path, f"{options.name} {key}")
            before = earlier.get(name)
            if before is not None and before["version"] == version and _is_there(out, before):
                known += 1
                rows.append(before)
            else:
                row = _row(path, name, out, options, settings, version=version, outputs=outputs)
                report(row)
                rows.append({"state": row.state, "look": row.look})
                if row.output:
                    outputs[row.output] = name
            if on_progress is not None:
                on_progress(number, len(files))
    states = [row["state"] for row in rows]
    return Summary(
        written=states.count("written"),
        skipped=states.count("skipped"),
        refused=states.count("refused"),
        known=known,
        look=sum(row["look"] == "yes" for row in rows),
        report=table,
    )


def _row(
    path: Path,
    name: str,
    out: Path,
    options: Options,
    settings: Settings,
    *,
    version: str,
    outputs: Mapping[str, str],
) -> Row:
    """De-identify one file; what is wrong with it becomes its row."""
    made = partial(Row, source=name, version=version)
    try:
        if sniff(path) != "dicom":
            return made(state="skipped", note="no DICOM file")
        known = read_identifiers(path, settings=settings)
        if known.sop_class_uid not in US_IMAGES:  # reports are text, and other images have other attributes
            return made(state="skipped", note=f"SOP class {known.sop_class_uid}: no ultrasound image")
        if "SOPInstanceUID" not in known.uids:
            return made(state="refused", note="it has no SOP Instance UID")
        if options.refuse_burned_in and known.burned_in != "NO" and not known.regions:
            return made(state="refused", note="it may have burned-in text, and no regions say where the scan lies")
        new_uids = {keyword: new_uid(uid, settings=settings) for keyword, uid in known.uids.items()}
        output = f"{new_uids['SOPInstanceUID']}.dcm"
        if outputs.get(output, name) != name:
            return made(state="refused", note=f"it has the SOP Instance UID of {outputs[output]}")
        return _written(path, out / output, known, new_uids, options, settings, made=made)
    except (ScanReadError, ScanTooLargeError, NotFoundError) as error:
        return made(state="refused", note=str(error).replace(f"{shown(path)}: ", ""))


def _written(
    path: Path,
    target: Path,
    known: Identifiers,
    new_uids: Mapping[str, str],
    options: Options,
    settings: Settings,
    *,
    made: Callable[..., Row],
) -> Row:
    blanking = find_blanking(path, known, settings=settings)
    kinds = () if options.ocr is None else read_names(path, known, blanking, options.ocr, settings=settings)
    reasons = list(_doubts(known, blanking, kinds))
    pseudonym, hours = patient_of(known, settings=settings)
    header = read_clean_header(
        path,
        uids=new_uids,
        pseudonym=pseudonym,
        dates=options.dates,
        hours=hours,
        doubt=bool(reasons),
        settings=settings,
    )
    first = read_stored_frame(path, frame=0, settings=settings).samples
    size = first.nbytes * known.frames
    if size > LARGEST_VALUE:
        raise ScanTooLargeError(
            f"{shown(path)}: uncompressed it has {size:,} bytes of pixels; a DICOM element holds {LARGEST_VALUE:,}. "
            "Export the cine in parts."
        )
    with open_atomically(target, mode=PRIVATE) as file:
        file.write(header)
        file.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW" if first.itemsize > 1 else b"OB", 0, size + size % 2))
        written = write_frames(path, known, blanking, file, settings=settings)
        if written != size:
            raise ScanReadError(f"{shown(path)}: its frames differ in size; the file is damaged. Fetch it again.")
        file.write(b"\0" * (size % 2))
    ocr_result = f"found: {', '.join(kinds)}" if kinds else NOTHING_READ
    return made(
        state="written",
        output=target.name,
        look="yes" if reasons else "no",
        frames=known.frames,
        blanked="regions" if blanking.by_regions else "scan area" if blanking.area_found else "text alone",
        outside_percent=round(100 * float(blanking.outside.mean()), 1),
        text_pixels=int(blanking.text.sum()),
        ocr=NOT_CHECKED if options.ocr is None else ocr_result,
        note="; ".join(reasons),
    )


def _doubts(known: Identifiers, blanking: Blanking, kinds: Iterable[str]) -> Iterator[str]:
    """Why somebody must look at the pixels."""
    if kinds:
        yield f"OCR reads the patient's {', '.join(kinds)}"
    if not blanking.by_regions and known.burned_in != "NO":
        says = "says that text is burned in" if known.burned_in == "YES" else "does not deny burned-in text"
        yield f"its header {says} and gives no regions"
    elif not blanking.area_found:
        yield "no scan area was found"


def patient_of(known: Identifiers, *, settings: Settings | None = None) -> tuple[str, int]:
    """The pseudonym of a file's patient, and the hours by which the patient's dates are shifted, below 0.

    They are whole days: a date without a time and one with a time are shifted alike. The time of day stays. A file that
    names nobody gets those of its study, so that different unknown patients do not become one.
    """
    owner = known.patient
    study = known.uids.get("StudyInstanceUID") or known.uids["SOPInstanceUID"]
    if owner is None:
        pseudonym = "s-" + derived("unknown patient", study, settings=settings)[:16]
    else:
        pseudonym = keyed(owner, settings=settings)
    drawn = int(derived("dates", pseudonym, settings=settings), 16)
    return pseudonym, -24 * (LEAST_DAYS + drawn % (MOST_DAYS - LEAST_DAYS))


def new_uid(uid: str, *, settings: Settings | None = None) -> str:
    """The UID that replaces another one at this site, everywhere: "2.25." and a UUID, PS3.5 B.2."""
    digits = bytes.fromhex(derived("uid", uid.strip("\0 "), settings=settings)[:32])
    return f"2.25.{uuid.UUID(bytes=digits, version=4).int}"


def _files(source: Path) -> Iterator[Path]:
    """Regular files, in the order of their paths."""
    if not source.exists():
        raise NotFoundError(f"{source} is not there; name a DICOM file or a folder of them.")
    if source.is_file():
        yield source
        return
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def _version(path: Path, options: str) -> str:
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{state.st_size}-{state.st_mtime_ns}-{options}"


def _is_there(out: Path, row: Mapping[str, str]) -> bool:
    return row["state"] == "skipped" or (row["state"] == "written" and (out / row["output"]).is_file())
