"""The form of `POST /api/query`: one model validates it and is its schema."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator
from starlette.datastructures import FormData, UploadFile

from sonoseek.apps.web.cached_report import CachedReport
from sonoseek.apps.web.state import AppState
from sonoseek.apps.web.upload_store import Upload
from sonoseek.core import Box, InvalidValueError, SearchOptions

MAX_K = 200
MAX_VIEWS = 8
MAX_EXAMPLES = 32
MAX_WHERE = 2_000
"""Characters."""
OPTIONS = {field.name for field in fields(SearchOptions)}


def _integer(maximum: int) -> BeforeValidator:
    def parse(value: Any) -> int:
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text) <= maximum):
            raise ValueError(f"it must be a whole number from 0 to {maximum}.")
        return int(text)

    return BeforeValidator(parse)


def parse_box(text: Any) -> Box | None:
    """TOP,LEFT,BOTTOM,RIGHT as a box, "" as None; a ValueError says the rule."""
    if not text or isinstance(text, Box):
        return text or None
    try:
        sides = [float(part) for part in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) != 4 or not all(math.isfinite(side) and abs(side) < 1e6 for side in sides):
        raise ValueError("write four numbers, TOP,LEFT,BOTTOM,RIGHT, in the scan's pixels: 40,60,180,220.")
    top, left, bottom, right = sides
    return Box(top=top, left=left, bottom=bottom, right=right)


def _parse_case(text: Any) -> tuple[str, str] | None:
    if not text or isinstance(text, tuple):
        return text or None
    dataset, _, case_id = text.partition("/")
    if not (dataset and case_id):
        raise ValueError("write DATASET/CASE, as matches are named.")
    return dataset, case_id


BOX_SCHEMA = {"type": "string", "pattern": r"^-?\d+(\.\d+)?(,-?\d+(\.\d+)?){3}$", "example": "40,60,180,220"}
BoxField = Annotated[Box | None, BeforeValidator(parse_box), WithJsonSchema(BOX_SCHEMA)]
CaseField = Annotated[
    tuple[str, str] | None,
    BeforeValidator(_parse_case),
    WithJsonSchema({"type": "string", "pattern": "^[^/]+/.+$"}),
]
Flag = Annotated[bool, BeforeValidator(lambda text: text or False)]
UploadSha = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Example = Annotated[str, Field(max_length=300)]


class QueryForm(BaseModel):
    """A query. Of `upload`, which holds the ids of the form's own files as well, and `case` exactly one is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    upload: tuple[UploadSha, ...] = Field(
        default=(),
        max_length=MAX_VIEWS,
        description="sha256 of a file that was sent before and is still cached; instead of `file`.",
    )
    case: CaseField = Field(default=None, description="DATASET/CASE of the archive; instead of a file.")
    frame: Annotated[int, _integer(100_000), Field(ge=0, le=100_000)] = Field(
        default=0, description="Of the first file, from 0."
    )
    k: Annotated[int, _integer(MAX_K), Field(ge=0, le=MAX_K)] = Field(default=10, description="Matches.")
    where: Annotated[str, Field(max_length=MAX_WHERE)] = Field(
        default="", description="A filter on the archive's cases.", examples=["birads >= '4A'"]
    )
    include_same: Flag = Field(default=False, description="Allow the scan, its patient and its group as matches.")
    per_patient: Flag = Field(default=True, description="One match per patient or group.")
    deduplicate: Flag = Field(default=True, description="Near-duplicates are counted with the better match.")
    region: BoxField = Field(default=None, description="Search with this box alone: in scan pixels.")
    crop: BoxField = Field(default=None, description="The scan area of the file, where preprocessing finds it wrongly.")
    lesion: BoxField = Field(
        default=None,
        description="The reader's mark, a box around the lesion; where `reads_marks` of /api/about is true.",
    )
    liked: tuple[Example, ...] = Field(default=(), description="Matches to search towards: scan_id, or DATASET/CASE.")
    disliked: tuple[Example, ...] = Field(default=(), description="Matches to search away from.")

    @model_validator(mode="after")
    def _is_consistent(self) -> QueryForm:
        if bool(self.upload) == (self.case is not None):
            raise ValueError(
                "query with files (field 'file', or 'upload' for one that was sent before) or with a 'case' of the "
                "archive, one of the two."
            )
        if len(self.liked) + len(self.disliked) > MAX_EXAMPLES:
            raise ValueError(f"more than {MAX_EXAMPLES} scans are liked or disliked; name fewer.")
        if self.lesion is not None and self.case is not None:
            raise ValueError(
                "a lesion is marked on the pixels of a scan, and the archive keeps none of its cases; query with the "
                "scan's file."
            )
        for name in ("crop", "lesion"):
            if getattr(self, name) is not None and len(set(self.upload)) != 1:
                raise ValueError(f"a {name} is of one file; query with that file alone.")
        return self

    @property
    def views(self) -> tuple[str, ...]:
        """Ids of the files: the same picture twice is one view, it must not count double."""
        return tuple(dict.fromkeys(self.upload))

    def options(self) -> SearchOptions:
        """The search options among the fields."""
        values = {name: value for name, value in self if name in OPTIONS}
        return SearchOptions(**{**values, "where": self.where.strip() or None})


LISTS = [name for name, field in QueryForm.model_fields.items() if field.default == ()]


def parse_form(form: FormData, *, uploads: Sequence[Upload]) -> QueryForm:
    """Validate a form.

    Args:
        form: as it was sent.
        uploads: its files, stored.

    Raises:
        InvalidValueError: an unknown field, a field twice, or a value that breaks its rule.
    """
    values: dict[str, Any] = {name: [] for name in LISTS}
    values["upload"] += [upload.upload_id for upload in uploads]
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            continue
        if name in LISTS:
            values[name].append(str(value))
        elif name in values:
            raise InvalidValueError(f"the field {name[:40]!r} is given twice; it is given once.")
        else:
            values[name] = str(value)
    try:
        return QueryForm.model_validate(values)
    except ValidationError as error:
        messages = dict.fromkeys(_message(each) for each in error.errors()[:5])
        raise InvalidValueError(" ".join(messages)) from None


def _message(error: Any) -> str:
    """Value, rule and remedy of one of pydantic's errors."""
    name, value = str(error["loc"][0]) if error["loc"] else "", error["input"]
    match error["type"]:
        case "value_error" if not name:
            return str(error["ctx"]["error"])
        case "value_error":
            rule = str(error["ctx"]["error"])
        case "extra_forbidden":
            return f"there is no field {name[:40]!r}; there are {', '.join(['file', *QueryForm.model_fields])}."
        case "bool_parsing" | "bool_type":
            rule = "it must be true or false."
        case "too_long":
            return f"{len(value)} files are given; one query has {MAX_VIEWS} views at most."
        case "string_too_long":
            most = error["ctx"]["max_length"]
            return f"{name} has {len(value)} characters; it has {most} at most. Shorten it."
        case "string_pattern_mismatch":
            rule = "it must be the sha256 of a file that was sent before, 64 hex digits."
        case _:
            rule = str(error["msg"])
    return f"{name} is {str(value)[:80]!r}; {rule}"


def form_schema() -> dict[str, Any]:
    """The form's JSON schema."""
    schema = QueryForm.model_json_schema()
    file = {
        "type": "array",
        "maxItems": MAX_VIEWS,
        "items": {"type": "string", "format": "binary"},
        "description": "DICOM, PNG, JPEG, BMP, TIFF or GIF; several are views of one lesion.",
    }
    return {**schema, "properties": {"file": file, **schema["properties"]}}


def answer(app_state: AppState, form: QueryForm) -> tuple[str, CachedReport]:
    """Run a query, and cache the report under its id; in a worker.

    Raises:
        NotFoundError: a file that is not cached any more, a case or example that the archive does not hold.
        ScanReadError, InvalidValueError, WhereError, GalleryError: as the engine.
    """
    uploads = [app_state.uploads.get(upload_id) for upload_id in form.views]
    report_id = app_state.report_id(form.model_dump(), app_state.gallery.state())
    cached = app_state.reports.find(report_id)
    if cached is not None:
        return report_id, cached
    if form.case is not None:
        encoded = app_state.engine.read_case(*form.case)
    else:
        frames = (form.frame, *(0 for _ in uploads[1:]))
        encoded = tuple(
            app_state.encode(upload, frame=frame, crop=form.crop, lesion=form.lesion)
            for upload, frame in zip(uploads, frames, strict=True)
        )
    report = app_state.engine.query(encoded, form.options())
    prediction = report.prediction
    app_state.metrics.predictions.labels(
        "out of distribution" if prediction.out_of_distribution else prediction.label or "not sure"
    ).inc()
    cached = CachedReport(report=report, encoded_scans=tuple(encoded), uploads=tuple(uploads), frame=form.frame)
    app_state.reports.put(report_id, cached)
    app_state.check_not_deleted(*uploads)
    return report_id, cached
