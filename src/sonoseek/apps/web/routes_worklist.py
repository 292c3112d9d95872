"""The worklist: studies that a listener beside a PACS received, their pictures, priors, and the readers' decisions."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from sonoseek.apps.web.readers import proxy_user
from sonoseek.apps.web.routes_pictures import PICTURE, Form, Size
from sonoseek.apps.web.routes_query import StateDep, upload_model
from sonoseek.apps.web.schemas import (
    Label,
    Upload,
    WorklistDecision,
    WorklistEntry,
    WorklistPage,
    WorklistStudy,
)
from sonoseek.apps.web.state import AppState
from sonoseek.apps.web.upload_store import Upload as StoredUpload
from sonoseek.core import NotFoundError
from sonoseek.io import read_scan
from sonoseek.pacs.journal import StudyRow
from sonoseek.pacs.worklist import Decision, Worklist
from sonoseek.reports.pictures import scan_image

router = APIRouter(prefix="/api/worklist", tags=["worklist"])
StudyUid = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$", description="Study Instance UID.")]
Number = Annotated[int, Path(ge=0, le=100_000, description="Of the picture, from 0.")]


async def get_worklist(app_state: StateDep) -> Worklist:
    """The worklist.

    Raises:
        NotFoundError: the server has none.
    """
    if app_state.worklist is None:
        raise NotFoundError("this server has no worklist; start it with --pacs SETTINGS to show a listener's studies.")
    return app_state.worklist


WorklistDep = Annotated[Worklist, Depends(get_worklist)]


class NewDecision(BaseModel):
    """A reader accepts a result, or states another class."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    reader: str = Field(min_length=2, max_length=64, pattern=r"^[^\\\x00-\x1f=]+$", description="Name of the reader.")
    corrected: Label | None = None


@router.get("")
async def worklist(app_state: StateDep, received: WorklistDep) -> WorklistPage:
    """The newest 500 studies."""
    return await app_state.pool.run(_page, received)


@router.get("/{study_uid}")
async def study(study_uid: StudyUid, app_state: StateDep, received: WorklistDep) -> WorklistEntry:
    """A study, its pictures and the patient's other studies."""
    return await app_state.pool.run(_entry, received, study_uid)


@router.get("/{study_uid}/pictures/{number}", responses=PICTURE, response_class=Response)
async def picture(
    study_uid: StudyUid,
    number: Number,
    app_state: StateDep,
    received: WorklistDep,
    frame: Annotated[int, Field(ge=0, le=100_000)] = 0,
    size: Size = 160,
    form: Form = "webp",
) -> Response:
    """A picture of a study."""

    def draw() -> bytes:
        return scan_image(read_scan(_path(received, study_uid, number), frame=frame).pixels, longest=size, format=form)

    return Response(await app_state.pool.run(draw), media_type=f"image/{form}")


@router.post("/{study_uid}/pictures/{number}/open")
async def open_picture(study_uid: StudyUid, number: Number, app_state: StateDep, received: WorklistDep) -> Upload:
    """Take a picture of a study as if it had been uploaded now, to query with it."""
    return upload_model(await app_state.pool.run_priority(_open, app_state, received, study_uid, number))


@router.post("/{study_uid}/decision")
async def decide(
    study_uid: StudyUid, new: NewDecision, app_state: StateDep, received: WorklistDep, request: Request
) -> WorklistDecision:
    """Accept or correct the result of a study: a verified report goes to where the result went."""
    made = await app_state.pool.run_priority(
        received.decide,
        study_uid,
        reader=new.reader,
        corrected=new.corrected,
        engine=app_state.engine,
        signed_in=proxy_user(request, app_state.settings) or "",
    )
    return _decision(made)


def _page(received: Worklist) -> WorklistPage:
    decisions = received.decisions()
    return WorklistPage(
        counts=received.counts(),
        studies=[_study(received, row, decisions.get(row.study_uid)) for row in received.studies()],
    )


def _entry(received: Worklist, study_uid: str) -> WorklistEntry:
    decisions = received.decisions()
    return WorklistEntry(
        study=_study(received, received.study(study_uid), decisions.get(study_uid)),
        available=[each.path is not None for each in received.pictures(study_uid)],
        priors=[_study(received, row, decisions.get(row.study_uid)) for row in received.priors(study_uid)],
    )


def _study(received: Worklist, row: StudyRow, decision: Decision | None) -> WorklistStudy:
    number = None
    if row.finding is not None:
        uids = [each.sop_uid for each in received.pictures(row.study_uid)]
        number = uids.index(row.finding.sop_uid) if row.finding.sop_uid in uids else None
    own = {
        "patient_name": _name(row.patient_name),
        "pictures": row.objects,
        "malignant": None if row.finding is None else row.finding.malignant,
        "picture": number,
        "frame": None if row.finding is None else row.finding.frame - 1,
        "decision": None if decision is None else _decision(decision),
    }
    return WorklistStudy.model_validate({**vars(row), **own})


def _name(text: str) -> str:
    """DICOM's "Curie^Marie^^Dr" as "Curie, Marie": family and given name; further alphabets after "=" are left out."""
    family, _, rest = text.split("=")[0].partition("^")
    return ", ".join(part for part in (family.strip(), rest.split("^")[0].strip()) if part)


def _decision(made: Decision) -> WorklistDecision:
    return WorklistDecision(
        reader=made.reader.replace("^", " "), decided=made.decided, corrected=cast(Any, made.corrected)
    )


def _path(received: Worklist, study_uid: str, number: int) -> FilePath:
    pictures = received.pictures(study_uid)
    if number >= len(pictures):
        raise NotFoundError(f"picture {number} is wanted; the study has {len(pictures)}, counted from 0.")
    path = pictures[number].path
    if path is None:
        raise NotFoundError("the picture was removed after the listener's `keep_days`; send the study again.")
    return path


def _open(app_state: AppState, received: Worklist, study_uid: str, number: int) -> StoredUpload:
    path = _path(received, study_uid, number)
    try:
        with path.open("rb") as file:
            return app_state.save_upload(file, f"{received.study(study_uid).study_date or 'study'}-{number + 1}.dcm")
    except FileNotFoundError:
        raise NotFoundError("the picture was removed meanwhile; send the study again.") from None
