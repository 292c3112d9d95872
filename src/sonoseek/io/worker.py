"""The child process: reads requests from a socket, its standard input, and answers on its standard output.

It ends when the socket ends. Only this process imports pydicom and decodes pictures; only here is a file's content
believed. What it may do besides is in `sonoseek.io.sandbox.limits`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import socket
import sys
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO

from sonoseek.core import InvalidValueError, ScanReadError, ScanTooLargeError, Settings
from sonoseek.io.sandbox.limits import address_space, confine, end_limits, start_limits
from sonoseek.io.sandbox.protocol import read_message, receive_file, write_message

if TYPE_CHECKING:
    from sonoseek.io.dicom.header import Header

GROWTH_LIMIT = 48 << 20
"""Bytes of address space. A child that has grown by more is replaced, so that every file finds the same room."""
PAYLOAD_LIMIT = 64 << 20
"""Bytes of a file that comes with its request."""


def main() -> None:
    """Serve until the socket ends."""
    out = _own_output()
    connection = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this one
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # pydicom logs values, which may name the patient; tifffile every damaged tag
    import pydicom.pixels  # noqa: F401  # now, so that no file's time is spent on it
    import simplejpeg  # noqa: F401

    import sonoseek.io.dicom.attributes
    import sonoseek.io.dicom.frame
    import sonoseek.io.image  # noqa: F401

    missing = confine([*filter(None, sys.path), sys.prefix, sys.base_prefix])
    start, _ = address_space()
    with connection.makefile("rb", buffering=0) as requests, contextlib.suppress(EOFError, BrokenPipeError):
        write_message(out, {"ready": True, "missing": missing})
        while True:
            file = receive_file(connection)
            request, payload = read_message(requests, payload_limit=PAYLOAD_LIMIT)
            start_limits(memory=request["memory_mb"] << 20, cpu_s=request["cpu_s"], wall_s=request["wall_s"])
            with file or io.BytesIO(payload) as source:
                reply, pixels = serve(request, source)
            end_limits()
            growth = address_space()[0] - start - (pixels.nbytes if pixels is not None else 0)
            reply["retire"] = bool(reply.get("retire")) or growth > GROWTH_LIMIT
            write_message(out, reply, pixels)
            del pixels, payload, source


def serve(request: dict[str, Any], file: BinaryIO) -> tuple[dict[str, Any], memoryview | None]:
    """Answer one request.

    Args:
        request: "job" ("read", "count", "mask", "rgb", "luma"; of DICOM also "header", "identifiers", "deidentify" and
            "stored", see `sonoseek.io.dicom.deidentified`), "kind" of the file, "frame", "max_megapixels", "memory_mb".
        file: opened, at its start.

    Returns:
        Header and payload: "frames", and but for "count" "shape" and samples of 8 bits; of a DICOM file to read also
        spacing_mm, patient_id, patient_placeholder and laterality. Of the job "header" the payload is JSON instead, see
        `sonoseek.io.dicom.attributes`. After any trouble "error", the name of a class in
        `sonoseek.core`, and "message" without the path.
    """
    try:
        return (_dicom if request["kind"] == "dicom" else _picture)(request, file)
    except (InvalidValueError, ScanReadError) as error:
        return {"error": type(error).__name__, "message": str(error)}, None
    except MemoryError:
        message = (
            f"reading it needs more than {request['memory_mb']} MiB, the limit for one file; it is probably damaged or "
            "made to harm. If it is sound, raise SONOSEEK_READ_MEMORY_MB."
        )
        return {"error": ScanTooLargeError.__name__, "message": message, "retire": True}, None
    except RecursionError:
        message = "its parts are nested too deeply; sound files have a few levels. Fetch it again from its source."
        return {"error": ScanReadError.__name__, "message": message, "retire": True}, None
    except Exception as error:  # pydicom and the decoders raise whatever a damaged file leads to
        # The text of the error is left out on purpose: it may quote the patient's name.
        message = (
            f"it cannot be read as {request['kind'].upper()} ({type(error).__name__} in a decoder); the file is "
            "damaged or breaks the standard. Fetch it again, or check it with a validator."
        )
        return {"error": ScanReadError.__name__, "message": message}, None


def _dicom(request: dict[str, Any], file: BinaryIO) -> tuple[dict[str, Any], memoryview | None]:
    from sonoseek.io.dicom.attributes import read_attributes
    from sonoseek.io.dicom.frame import read_frame
    from sonoseek.io.dicom.header import read_header

    if request["job"] == "header":
        found = read_attributes(file, memory_mb=request["memory_mb"])
        return {"shape": [len(found)]}, memoryview(found)
    most = int(request["max_megapixels"] * 1e6)
    header = read_header(file, max_pixels=most, memory_mb=request["memory_mb"])
    if request["job"] == "count":
        return {"frames": header.frames}, None
    if request["job"] in ("identifiers", "deidentify", "stored"):
        return _deidentified(request, header)
    pixels = read_frame(header, request["frame"])
    return {"shape": pixels.shape, "frames": header.frames, **header.facts(request["frame"])}, pixels.data


def _deidentified(request: dict[str, Any], header: Header) -> tuple[dict[str, Any], memoryview | None]:
    from sonoseek.io.dicom.deidentify import clean_header, identifiers
    from sonoseek.io.dicom.stored import black, stored_frame

    if request["job"] == "identifiers":
        return {"frames": header.frames, **identifiers(header)}, None
    samples, form = stored_frame(header, request["frame"])
    if request["job"] == "stored":
        facts = {"shape": [samples.nbytes], "samples": samples.shape, "bits": form.bits_allocated}
        return {**facts, "frames": header.frames, "black": black(header, form)}, samples.view("u1").reshape(-1).data
    written = clean_header(header, form, request)
    return {"frames": header.frames, "shape": [len(written)]}, memoryview(written)


def _picture(request: dict[str, Any], file: BinaryIO) -> tuple[dict[str, Any], memoryview | None]:
    from sonoseek.io import picture

    settings = Settings(max_megapixels=request["max_megapixels"], read_memory_mb=request["memory_mb"])
    kind, frame = request["kind"], request["frame"]
    if request["job"] == "count":
        return {"frames": picture.count(file, kind, settings=settings)}, None
    if request["job"] == "read":
        pixels, frames = picture.read_grey(file, kind, frame=frame, settings=settings)
        return {"shape": pixels.shape, "frames": frames}, pixels.data
    read = {"mask": picture.read_mask, "rgb": picture.read_rgb, "luma": picture.read_luma}[request["job"]]
    samples = read(file, kind, settings=settings)
    return {"shape": samples.shape, "frames": 1}, samples.view("u1").data


def _own_output() -> BinaryIO:
    """Take standard output for ourselves, and send what C libraries print there to standard error."""
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return os.fdopen(own, "wb", buffering=0)
