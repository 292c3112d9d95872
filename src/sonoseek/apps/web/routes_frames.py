"""Every frame of an uploaded loop, predicted one after the other, with an event for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from sonoseek.apps.web.query_form import BOX_SCHEMA, parse_box
from sonoseek.apps.web.readers import is_still_signed_in
from sonoseek.apps.web.routes_query import StateDep, UploadId
from sonoseek.apps.web.schemas import FrameEnd, FramePrediction
from sonoseek.apps.web.state import AppState
from sonoseek.apps.web.upload_store import Upload
from sonoseek.core import Box, InvalidValueError, Prediction, ScanReadError
from sonoseek.core.frames import sampled_frames
from sonoseek.engine.frames import highest_frame
from sonoseek.reports import phrases

router = APIRouter(prefix="/api/uploads", tags=["queries"])


@router.get(
    "/{upload_id}/predictions", responses={200: {"content": {"text/event-stream": {}}}}, response_class=Response
)
async def predictions(
    request: Request,
    upload_id: UploadId,
    app_state: StateDep,
    crop: Annotated[
        str, Query(max_length=100, description="The scan area of every frame.", json_schema_extra=BOX_SCHEMA)
    ] = "",
) -> Response:
    """The prediction of every frame of a loop as server-sent events.

    Events `frame`, then one `end` with the frame whose likelihood of malignancy is highest. Long loops are thinned out
    evenly. Other readers' queries come first.
    """
    try:
        area = parse_box(crop)
    except ValueError as error:
        raise InvalidValueError(f"crop is {crop[:80]!r}; {error}") from None
    stream = _predictions(request, app_state, app_state.uploads.get(upload_id), area)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _predictions(request: Request, app_state: AppState, upload: Upload, crop: Box | None) -> AsyncIterator[str]:
    frames = sampled_frames(upload.frames)
    predicted: list[tuple[int, Prediction]] = []
    for frame in frames:
        if (
            app_state.closing.is_set()
            or upload.deleted.is_set()
            or await request.is_disconnected()
            or not is_still_signed_in(request, app_state.settings, app_state.sessions)
        ):
            return
        try:
            prediction = await app_state.pool.run(_predict, app_state, upload, frame, crop)
        except (ScanReadError, InvalidValueError) as error:
            yield _event("frame", FramePrediction(frame=frame, refused=app_state.without_folders(str(error))))
            continue
        predicted.append((frame, prediction))
        yield _event(
            "frame",
            FramePrediction(
                frame=frame,
                malignant=prediction.likelihood_of_malignancy,
                headline=phrases.short_headline(prediction),
                out_of_distribution=prediction.out_of_distribution,
            ),
        )
        await asyncio.sleep(0)
    yield _event("end", FrameEnd(frames=len(frames), of=upload.frames, highest=highest_frame(predicted)))


def _predict(app_state: AppState, upload: Upload, frame: int, crop: Box | None) -> Prediction:
    """Not cached: a loop's encodings would take the room of every other reader's."""
    return app_state.engine.read(app_state.load_scan(upload, frame=frame), crop=crop).prediction


def _event(name: str, data: BaseModel) -> str:
    return f"event: {name}\ndata: {data.model_dump_json()}\n\n"
