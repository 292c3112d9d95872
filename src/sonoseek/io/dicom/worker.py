"""The child process: reads requests on standard input, answers on standard output, one file at a time.

It ends when its standard input ends. Only this process imports pydicom; only here is a file's content believed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, BinaryIO, cast

from sonoseek.core import InvalidValueError, ScanReadError, ScanTooLargeError
from sonoseek.io.dicom.protocol import HEADER_LIMIT, read_message, write_message

GROWTH_LIMIT = 48 << 20
"""Bytes of address space. A child that has grown by more is replaced, so that every file finds the same room."""


def main() -> None:
    """Serve until standard input ends."""
    out = _own_output()
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this one
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # pydicom logs values, which may name the patient
    import pydicom.pixels  # noqa: F401  # now, so that no file's time is spent on it
    import simplejpeg  # noqa: F401

    import sonoseek.io.dicom.frame  # noqa: F401

    start = _address_space()
    with contextlib.suppress(EOFError, BrokenPipeError):
        write_message(out, {"ready": True})
        while True:
            request, _ = read_message(cast(BinaryIO, sys.stdin.buffer), payload_limit=HEADER_LIMIT)
            _limit(_room(int(request["memory_mb"]) << 20, taken=start), float(request["timeout_s"]))
            reply, payload = serve(request)
            growth = _address_space() - start - (payload.nbytes if payload is not None else 0)
            reply["retire"] = bool(reply.get("retire")) or growth > GROWTH_LIMIT
            write_message(out, reply, payload)
            del payload
            _limit(None, 0.0)


def serve(request: dict[str, Any]) -> tuple[dict[str, Any], memoryview | None]:
    """Answer one request.

    Args:
        request: "job" ("read" or "count"), "path", "frame", "max_pixels", "memory_mb".

    Returns:
        Header and payload: for "read" rows, columns, frames, spacing_mm, patient_id, patient_placeholder, laterality
        and uint8 pixels; for "count" frames; after any trouble "error", the name of a class in `sonoseek.core`, and
        "message" without the path.
    """
    from sonoseek.io.dicom.frame import read_frame
    from sonoseek.io.dicom.header import read_header

    try:
        with Path(request["path"]).open("rb") as file:
            header = read_header(file, max_pixels=request["max_pixels"], memory_mb=request["memory_mb"])
            if request["job"] == "count":
                return {"frames": header.frames}, None
            pixels = read_frame(header, request["frame"])
            rows, columns = pixels.shape
            found = {"rows": rows, "columns": columns, "frames": header.frames, **header.facts(request["frame"])}
            return found, pixels.data
    except (InvalidValueError, ScanReadError) as error:
        return {"error": type(error).__name__, "message": str(error)}, None
    except PermissionError:
        message = "the file cannot be opened (permission denied); it must be readable. Check its permissions."
        return {"error": ScanReadError.__name__, "message": message}, None
    except MemoryError:
        message = (
            f"reading it needs more than {request['memory_mb']} MiB, the limit for one file; it is probably damaged or "
            "made to harm. If it is sound, raise SONOSEEK_READ_MEMORY_MB."
        )
        return {"error": ScanTooLargeError.__name__, "message": message, "retire": True}, None
    except RecursionError:
        message = "its sequences are nested too deeply; sound files have a few levels. Fetch it again from its source."
        return {"error": ScanReadError.__name__, "message": message, "retire": True}, None
    except Exception as error:  # pydicom and the decoders raise whatever a damaged file leads to
        # The text of the error is left out on purpose: it may quote the patient's name.
        message = (
            f"it cannot be read as DICOM ({type(error).__name__} in pydicom); the file is damaged or breaks the "
            "standard. Fetch it again, or check it with a DICOM validator."
        )
        return {"error": ScanReadError.__name__, "message": message}, None


def _own_output() -> BinaryIO:
    """Take standard output for ourselves, and send what C libraries print there to standard error."""
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return os.fdopen(own, "wb", buffering=0)


def _room(limit: int, *, taken: int) -> int:
    """Bytes of address space to allow: `limit`, but at least half of it beyond what the libraries have `taken`.

    They take 170 MiB on the systems that we know, of which 70 MiB are real memory. Where they take far more, a plain
    limit would refuse every file.
    """
    return max(limit, taken + limit // 2)


def _limit(memory: int | None, timeout_s: float) -> None:
    """Bound this process's address space; and let it end itself when the parent, which would end it, is gone.

    Without `resource` and `setitimer` (Windows) the parent's clock is the only limit.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        wanted = most if memory is None else memory
        if most != resource.RLIM_INFINITY:
            wanted = min(wanted, most)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, most))
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 2.0 * timeout_s)  # SIGALRM ends the process; 0 switches it off


def _address_space() -> int:
    """Bytes of address space taken; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0
