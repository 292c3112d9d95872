"""Have a child process parse a file, and raise here what went wrong there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError, ScanReadError, ScanTooLargeError, Settings
from sonoseek.io.files import shown
from sonoseek.io.sandbox import ReaderDiedError, ReaderTimeoutError, request_reply
from sonoseek.io.sandbox.protocol import ATTRIBUTES_LIMIT
from sonoseek.io.sniff import Kind

Job = Literal["read", "count", "header", "mask", "rgb", "luma", "identifiers", "deidentify", "stored"]
_BYTES_A_PIXEL = {"rgb": 3, "stored": 6}
"""Of the answer; of others 1."""
_ERRORS: Mapping[str, type[InvalidValueError | ScanReadError]] = {
    "InvalidValueError": InvalidValueError,
    "ScanReadError": ScanReadError,
    "ScanTooLargeError": ScanTooLargeError,
}


@dataclass(frozen=True)
class Reply:
    """What a child made of a file.

    Attributes:
        facts: as of `sonoseek.io.worker.serve`.
        samples: uint8 of the shape that the child says, not writeable; empty of the job "count", JSON of "header".
    """

    facts: Mapping[str, Any]
    samples: NDArray[np.uint8]

    @property
    def frames(self) -> int | None:
        """Frames in the file; None where a later one is damaged."""
        found = self.facts["frames"]
        return None if found is None else int(found)


def read_in_child(
    job: Job,
    place: Path,
    kind: Kind,
    *,
    frame: int = 0,
    settings: Settings | None,
    more: Mapping[str, object] | None = None,
) -> Reply:
    """Have a child do `job` on a file.

    Args:
        job: what to make of it.
        place: the file, checked.
        kind: its format, by its first bytes.
        frame: 0-based.
        settings: the limits; from the environment when None.
        more: what else the child must know, JSON-able.

    Raises:
        ScanReadError: damaged, unsupported, not to be opened, or it took longer than `read_timeout_s`.
        ScanTooLargeError: more than `max_megapixels`, or more memory than `read_memory_mb`.
        InvalidValueError: `frame` is not there.
        TemporaryError: no child could be started.
    """
    try:
        file = place.open("rb")
    except OSError as error:
        raise ScanReadError(
            f"{shown(place)}: the file cannot be opened ({(error.strerror or str(error)).lower()}); it must be "
            "readable. Check its permissions."
        ) from error
    with file:
        limits = settings or Settings.from_environment()
        return _reply(job, shown(place), kind, frame=frame, settings=limits, file=file, more=more)


def read_luma(data: bytes, *, name: str, settings: Settings) -> NDArray[np.uint8]:
    """A JPEG in memory, such as a picture that a gallery keeps: its luma as it lies there.

    Args:
        data: the whole JPEG.
        name: what it is, for errors.
        settings: the limits.

    Returns:
        uint8 (H, W).

    Raises:
        ScanReadError, ScanTooLargeError, TemporaryError: as `read_in_child`.
    """
    return _reply("luma", name, "jpeg", frame=0, settings=settings, payload=memoryview(data)).samples


def _reply(
    job: Job,
    name: str,
    kind: Kind,
    *,
    frame: int,
    settings: Settings,
    file: BinaryIO | None = None,
    payload: memoryview | None = None,
    more: Mapping[str, object] | None = None,
) -> Reply:
    request = {
        **(more or {}),
        "job": job,
        "kind": kind,
        "frame": frame,
        "max_megapixels": settings.max_megapixels,
        "memory_mb": settings.read_memory_mb,
    }
    pixels = int(settings.max_megapixels * 1e6)
    most = ATTRIBUTES_LIMIT if job == "header" else pixels * _BYTES_A_PIXEL.get(job, 1)
    try:
        facts, found = request_reply(
            request, file=file, payload=payload, cpu_s=settings.read_timeout_s, payload_limit=most
        )
    except ReaderTimeoutError as error:
        raise ScanReadError(
            f"{name}: reading was stopped after {settings.read_timeout_s:g} s, the limit for one file. It is "
            "probably damaged or made to harm; if it is sound, raise SONOSEEK_READ_TIMEOUT_S."
        ) from error
    except ReaderDiedError as error:
        raise ScanReadError(
            f"{name}: the reader process ended ({error}) inside a decoder; a sound file does not do that. "
            f"Fetch it again; if it needs more than {settings.read_memory_mb} MiB, raise SONOSEEK_READ_MEMORY_MB."
        ) from error
    if "error" in facts:
        raise _ERRORS.get(str(facts["error"]), ScanReadError)(f"{name}: {facts['message']}")
    shape = [int(side) for side in facts.get("shape", (0,))]
    if len(found) != np.prod(shape):
        raise ScanReadError(
            f"{name}: the reader sent {len(found)} bytes for a shape of {shape}; "
            "the two must agree. Report this file's type to the makers of sonoseek."
        )
    samples = np.frombuffer(found, np.uint8).reshape(shape)
    samples.flags.writeable = False  # nobody else holds the buffer: a Scan may keep it without a copy
    return Reply(facts, samples)
