"""One object out of a multipart/related answer (RFC 2387), as a stream: nothing but a piece of it is in memory."""

from __future__ import annotations

import email.message
from collections.abc import Iterable
from typing import BinaryIO

from sonoseek.core import PeerError


def first_part(content_type: str, pieces: Iterable[bytes], target: BinaryIO) -> int:
    """Write the only object of an answer into a file.

    Args:
        content_type: of the answer: multipart/related, or application/dicom, which some servers send for one object.
        pieces: of the body, in order.
        target: gets the object.

    Returns:
        Bytes of the object.

    Raises:
        PeerError: another content type, several objects, or an answer that is cut off.
        OSError: the disk does not take it.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    header = email.message.Message()
    header["Content-Type"] = content_type
    kind, boundary = header.get_content_type(), header.get_boundary()
    if kind == "application/dicom":
        return sum(target.write(piece) for piece in pieces)
    if kind != "multipart/related" or not boundary:
        raise PeerError(
            f"the archive sends {content_type[:80]!r}; a DICOM file comes as multipart/related. Have WADO-RS switched "
            "on there."
        )
    state = {"parts": 0, "ended": 0, "bytes": 0}

    def on_begin() -> None:
        state["parts"] += 1

    def on_data(data: bytes, start: int, end: int) -> None:
        if state["parts"] == 1:
            state["bytes"] += target.write(memoryview(data)[start:end])

    def on_end() -> None:
        state["ended"] = 1

    try:
        parser = MultipartParser(boundary, {"on_part_begin": on_begin, "on_part_data": on_data, "on_end": on_end})
        for piece in pieces:
            parser.write(piece)
    except FormParserError as error:
        raise PeerError(
            f"the archive's multipart answer does not parse ({error}); fetch it another way (--by get)."
        ) from error
    if not state["ended"] or state["parts"] != 1:
        raise PeerError(
            f"the archive's answer holds {state['parts']} objects and is {'whole' if state['ended'] else 'cut off'}; "
            "one whole object was asked for. Try again, or fetch it another way (--by get)."
        )
    return state["bytes"]
