"""From a form to a question: what `POST /api/query` takes, cached to its rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile

from sonoseek.apps.web.cached_report import CachedReport
from sonoseek.apps.web.state import AppState
from sonoseek.apps.web.upload_store import Upload
from sonoseek.core import Box, InvalidValueError

MOST_K = 200
MOST_VIEWS = 8
MOST_EXAMPLES = 32
LONGEST_WHERE = 2_000
"""Characters."""
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")
SINGLE = ("case", "frame", "k", "where", "include_same", "per_patient", "deduplicate", "region", "crop", "lesion")
MANY = ("file", "upload", "liked", "disliked")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question as it was sent.

    Attributes:
        uploads: ids of files that are at hand, one per view.
        case: (dataset, case_id) of the archive instead, or None.
        frame: of the first file, 0-based.
        crop: the scan area of the first file, as the reader drew it, or None.
        lesion: the reader's mark on the first file, or None.
        k, where, include_same, per_patient, deduplicate, region, liked, disliked: as `SearchEngine.query`.
    """

    uploads: tuple[str, ...] = ()
    case: tuple[str, str] | None = None
    frame: int = 0
    crop: Box | None = None
    lesion: Box | None = None
    k: int = 10
    where: str | None = None
    include_same: bool = False
    per_patient: bool = True
    deduplicate: bool = True
    region: Box | None = None
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """What is passed on to the engine as it is."""
        names = ("k", "where", "include_same", "per_patient", "deduplicate", "region", "liked", "disliked")
        return {name: getattr(self, name) for name in names}


def parse_form(form: FormData, *, uploads: Sequence[Upload]) -> Asked:
    """Read a form.

    Args:
        form: as it was sent.
        uploads: what became of its files.

    Raises:
        InvalidValueError: an unknown field, a field twice, or a value that breaks its rule; all of it is checked before
            anything is done.
    """
    fields = [(name, value) for name, value in form.multi_items() if not isinstance(value, UploadFile)]
    for name, _ in fields:
        if name not in (*SINGLE, *MANY):
            raise InvalidValueError(f"there is no field {name[:40]!r}; there are {', '.join((*MANY, *SINGLE))}.")
        if name in SINGLE and len(form.getlist(name)) > 1:
            raise InvalidValueError(f"the field {name!r} is given twice; it is given once.")
    given = {name: str(value) for name, value in fields if name in SINGLE}
    several = {name: tuple(str(value) for key, value in fields if key == name) for name in MANY}
    # the same picture twice is one view: it must not count double
    given_files = [*(upload.upload_id for upload in uploads), *several["upload"]]
    sources = tuple(dict.fromkeys(given_files))
    case = _case(given["case"]) if given.get("case") else None
    if bool(sources) == (case is not None):
        raise InvalidValueError(
            "ask with files (field 'file', or 'upload' for one that was sent before) or with a 'case' of the archive, "
            "one of the two."
        )
    if len(given_files) > MOST_VIEWS:
        raise InvalidValueError(f"{len(given_files)} files are given; one question has {MOST_VIEWS} views at most.")
    if len(several["liked"]) + len(several["disliked"]) > MOST_EXAMPLES:
        raise InvalidValueError(f"more than {MOST_EXAMPLES} scans are liked or disliked; name fewer.")
    crop = _box("crop", given.get("crop", ""))
    if crop is not None and len(sources) != 1:
        raise InvalidValueError("a crop is of one file; ask with that file alone.")
    lesion = _box("lesion", given.get("lesion", ""))
    if lesion is not None and case is not None:
        raise InvalidValueError(
            "a lesion is marked on the pixels of a scan, and the archive keeps none of its cases; ask with the scan's "
            "file."
        )
    if lesion is not None and len(sources) != 1:
        raise InvalidValueError("a marked lesion is of one file; ask with that file alone.")
    return Asked(
        uploads=sources,
        case=case,
        frame=_whole("frame", given.get("frame", "0"), most=100_000),
        crop=crop,
        lesion=lesion,
        k=_whole("k", given.get("k", "10"), most=MOST_K),
        where=_where(given.get("where", "")),
        include_same=_flag("include_same", given.get("include_same", "")),
        per_patient=_flag("per_patient", given.get("per_patient", "true")),
        deduplicate=_flag("deduplicate", given.get("deduplicate", "true")),
        region=_box("region", given.get("region", "")),
        liked=several["liked"],
        disliked=several["disliked"],
    )


def answer(app_state: AppState, asked: Asked) -> tuple[str, CachedReport]:
    """Put a question to the engine, and keep the report at hand under its name; in a worker.

    Raises:
        NotFoundError: a file that is not at hand any more, a case or example that the archive does not hold.
        ScanReadError, InvalidValueError, WhereError, GalleryError: as the engine.
    """
    uploads = [app_state.uploads.get(name) for name in asked.uploads]
    name = app_state.report_id(asdict(asked), app_state.gallery.state())
    cached = app_state.reports.find(name)
    if cached is not None:
        return name, cached
    if asked.case is not None:
        encoded_scans = app_state.engine.read_case(*asked.case)
    else:
        frames = (asked.frame, *(0 for _ in uploads[1:]))
        encoded_scans = tuple(
            app_state.encode(upload, frame=frame, crop=asked.crop, lesion=asked.lesion)
            for upload, frame in zip(uploads, frames, strict=True)
        )
    report = app_state.engine.query(encoded_scans, **asked.options())
    prediction = report.prediction
    app_state.metrics.predictions.labels(
        "out of distribution" if prediction.out_of_distribution else prediction.label or "not sure"
    ).inc()
    cached = CachedReport(report=report, encoded_scans=tuple(encoded_scans), uploads=tuple(uploads), frame=asked.frame)
    app_state.reports.put(name, cached)
    app_state.check_not_deleted(*uploads)
    return name, cached


def form_schema() -> Mapping[str, Any]:
    """The form in OpenAPI's words."""
    box = {"type": "string", "pattern": r"^-?\d+(\.\d+)?(,-?\d+(\.\d+)?){3}$", "example": "40,60,180,220"}
    texts = {"type": "array", "items": {"type": "string", "maxLength": 300}, "maxItems": MOST_EXAMPLES}
    switch = {"type": "boolean", "default": False}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "file": {
                "type": "array",
                "maxItems": MOST_VIEWS,
                "items": {"type": "string", "format": "binary"},
                "description": "DICOM, PNG, JPEG, BMP, TIFF or GIF; several are views of one lesion.",
            },
            "upload": {
                "type": "array",
                "maxItems": MOST_VIEWS,
                "items": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                "description": "Instead: sha256 of a file that was sent before and is still at hand.",
            },
            "case": {"type": "string", "pattern": "^[^/]+/.+$", "description": "Instead: DATASET/CASE of the archive."},
            "frame": {"type": "integer", "minimum": 0, "maximum": 100_000, "default": 0},
            "k": {"type": "integer", "minimum": 0, "maximum": MOST_K, "default": 10},
            "where": {"type": "string", "maxLength": LONGEST_WHERE, "example": "birads >= '4A'"},
            "include_same": {**switch, "description": "Let the scan, its patient and its group answer."},
            "per_patient": {**switch, "default": True, "description": "One match per patient or group."},
            "deduplicate": {
                **switch,
                "default": True,
                "description": "Near-duplicates stand behind the better match.",
            },
            "region": {**box, "description": "Search with this box alone: top, left, bottom, right, in scan pixels."},
            "crop": {**box, "description": "The ultrasound picture in the file, where preprocessing finds it wrongly."},
            "lesion": {
                **box,
                "description": "The reader's mark, a box around the lesion; where `reads_marks` of /api/about is true.",
            },
            "liked": {**texts, "description": "Matches to move towards: scan_id, or DATASET/CASE."},
            "disliked": {**texts, "description": "Matches to move away from."},
        },
    }


def _case(text: str) -> tuple[str, str]:
    dataset, slash, case_id = text.partition("/")
    if not (dataset and slash and case_id):
        raise InvalidValueError(f"case is {text[:80]!r}; write DATASET/CASE, as matches are named.")
    return dataset, case_id


def _whole(name: str, text: str, *, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text) <= most):
        raise InvalidValueError(f"{name} is {text[:40]!r}; it must be a whole number from 0 to {most}.")
    return int(text)


def _flag(name: str, text: str) -> bool:
    if text.lower() not in (*TRUE, *FALSE):
        raise InvalidValueError(f"{name} is {text[:40]!r}; it must be true or false.")
    return text.lower() in TRUE


def _where(text: str) -> str | None:
    if len(text) > LONGEST_WHERE:
        raise InvalidValueError(f"the filter has {len(text)} characters; it has {LONGEST_WHERE} at most. Shorten it.")
    return text.strip() or None


def _box(name: str, text: str) -> Box | None:
    if not text:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not all(math.isfinite(number) and abs(number) < 1e6 for number in numbers):
        raise InvalidValueError(
            f"{name} is {text[:80]!r}; write four numbers, TOP,LEFT,BOTTOM,RIGHT, in the scan's pixels: 40,60,180,220."
        )
    top, left, bottom, right = numbers
    return Box(top=top, left=left, bottom=bottom, right=right)
