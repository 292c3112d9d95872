"""Frames of a cine loop: which has the highest likelihood of malignancy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from sonoseek.core import Box, InvalidValueError, Prediction, ScanReadError
from sonoseek.core.frames import sampled_frames
from sonoseek.engine.encoded_scan import EncodedScan
from sonoseek.engine.search_engine import SearchEngine
from sonoseek.io import frame_count, read_scan


def highest_frame(predictions: Iterable[tuple[int, Prediction]]) -> int | None:
    """The frame with the highest probability of malignancy; the first of equals.

    Frames that are out of distribution, such as a still of text, count only where no other frame is there.

    Returns:
        None without predictions.
    """
    ranked = [
        (not each.out_of_distribution, each.likelihood_of_malignancy or 0.0, -frame) for frame, each in predictions
    ]
    return -max(ranked)[2] if ranked else None


def read_highest_frame(
    engine: SearchEngine,
    path: str | Path,
    *,
    crop: Box | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> EncodedScan:
    """Read every frame of a file, and return the one with the highest probability of malignancy.

    More than `sonoseek.core.frames.MAX_FRAMES` frames are thinned out evenly; those that cannot be read are left out.

    Args:
        engine: reads the frames.
        path: of the file; a file of one picture is read as such.
        crop: as in `SearchEngine.read`, the same in each frame.
        on_progress: (done, total) frames.

    Raises:
        ScanReadError: no frame can be read: what the first one says; and as `read_scan`.
        InvalidValueError: as `SearchEngine.read`.
    """
    frames = sampled_frames(frame_count(path))
    best: tuple[int, EncodedScan] | None = None
    first_error: ScanReadError | None = None
    for done, frame in enumerate(frames, start=1):
        try:
            encoded = engine.read(read_scan(path, frame=frame), crop=crop)
        except ScanReadError as error:
            first_error = first_error or error
        else:
            pairs = [(frame, encoded)] if best is None else [best, (frame, encoded)]
            if highest_frame((number, each.prediction) for number, each in pairs) == frame:
                best = frame, encoded
        if on_progress is not None:
            on_progress(done, len(frames))
    if best is None:
        raise first_error or InvalidValueError(f"{path} has no frames; a loop has at least one. Name another file.")
    return best[1]
