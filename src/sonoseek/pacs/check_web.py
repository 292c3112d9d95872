"""The steps of a check by DICOMweb: QIDO-RS, and STOW-RS of the test object."""

from __future__ import annotations

from collections.abc import Iterator

from sonoseek.core import SonoseekError
from sonoseek.pacs.archive.web import WebClient
from sonoseek.pacs.check_step import Step
from sonoseek.pacs.peer import Peer
from sonoseek.pacs.test_object import make_test_object

_BOUNDARY = "sonoseek-test-object-5b1c7a"


def check_web(peer: Peer, *, store: bool) -> Iterator[Step]:
    """Query, and where asked for store the test object.

    Raises:
        InvalidValueError: a login would go unencrypted; the TLS files do not load.
        MissingExtraError: the packages are not installed.
    """
    with WebClient(peer) as client:
        try:
            client.probe()
        except SonoseekError as error:
            yield Step.failed("QIDO-RS", error)
            yield Step(name="STOW-RS", passed=None)
            return
        yield Step(name="QIDO-RS", passed=True, detail=str(peer.dicomweb))
        if not store:
            yield Step(name="STOW-RS", passed=None, detail="not asked for (--store)")
            return
        made = make_test_object()
        body = b"".join(
            (
                f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode(),
                made.content,
                f"\r\n--{_BOUNDARY}--\r\n".encode(),
            )
        )
        kind = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
        try:
            client.post("/studies", body, content_type=kind)
        except SonoseekError as error:
            yield Step.failed("STOW-RS", error)
            return
        yield Step(name="STOW-RS", passed=True, detail=f"test object {made.sop_instance_uid}")
