"""An archive by DICOMweb: QIDO-RS for the lists, WADO-RS streamed to disk (PS3.18)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pydicom.datadict import tag_for_keyword

from sonoseek.core import InvalidValueError, PeerError, TemporaryError
from sonoseek.core.extras import require_extra
from sonoseek.pacs.archive.folder import ImportFolder
from sonoseek.pacs.archive.multipart import first_part
from sonoseek.pacs.archive.values import InstanceRef, SeriesRef, StudyQuery, wanted_series
from sonoseek.pacs.peer import Peer, TlsFiles, WebLogin, is_loopback
from sonoseek.pacs.uids import is_uid

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient
    from requests import PreparedRequest, Response, Session

_T = TypeVar("_T")
TIMEOUT_S = (5.0, 60.0)
"""To connect, and between two pieces of an answer."""
PAGE = 200
"""Studies that one answer lists."""
_STUDY_FIELDS = ("00080020", "00080050", "00100020", "0020000D", "00081030")
_SERIES_FIELDS = ("0020000E", "00080060", "00180015", "0008103E", "00201209")
_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Any transfer syntax: the file as the archive has it (PS3.18 8.7.3.5.2)."""
_STATUS = {
    400: "it does not understand the request. Check the address of the DICOMweb service",
    401: "it does not accept the login. Set SONOSEEK_DICOMWEB_TOKEN, or SONOSEEK_DICOMWEB_USER and _PASSWORD",
    403: "the login may not do this. Have it allowed there",
    404: "there is no such thing. Check the address of the DICOMweb service (as in https://pacs.example/dicom-web)",
    406: "it sends no DICOM files. Have WADO-RS switched on there",
}
"""HTTP status → what it means and the remedy."""


class WebClient:
    """Query and retrieval over HTTP. Nothing of an answer but its lists is ever in memory as a whole."""

    def __init__(self, peer: Peer, *, login: WebLogin | None = None) -> None:
        """Prepare.

        Args:
            peer: with its `dicomweb` address.
            login: None: from the environment.

        Raises:
            InvalidValueError: a login would go over plain HTTP to another machine; the TLS files do not load.
            MissingExtraError: the packages are not installed.
        """
        require_extra("pacs")
        login = WebLogin.from_environment() if login is None else login
        if peer.dicomweb is None:
            raise InvalidValueError(f"the peer {peer.name!r} has no DICOMweb address; give one (--dicomweb).")
        if login and not peer.dicomweb.startswith("https:") and not is_loopback(peer.dicomweb):
            raise InvalidValueError(
                f"a login would go unencrypted to {peer.dicomweb}; it is sent over https:// alone. Give that address."
            )
        self._peer = peer
        self._url = peer.dicomweb.rstrip("/")
        self._session = _session(login, peer.tls)

    def __enter__(self) -> WebClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def find_series(self, query: StudyQuery) -> Iterator[SeriesRef]:
        """See `ArchiveClient.find_series`."""
        wanted = {"StudyDate": query.dates, "AccessionNumber": query.accession, "PatientID": query.patient_id}
        filters = {"ModalitiesInStudy": "US"} | {key: value for key, value in wanted.items() if value}
        yield from wanted_series(
            query, self._studies(filters), lambda uid: self._list(partial(_series_of, study=uid)), _first
        )

    def list_instances(self, series: SeriesRef) -> Sequence[InstanceRef]:
        """See `ArchiveClient.list_instances`."""
        return [
            InstanceRef(sop_instance_uid=_first(item, "SOPInstanceUID"), sop_class_uid=_first(item, "SOPClassUID"))
            for item in self._list(
                lambda client: client.search_for_instances(
                    series.study_uid, series.series_uid, fields=["00080016", "00080018"], get_remaining=True
                )
            )
        ]

    def fetch(self, series: SeriesRef, wanted: Sequence[str], folder: ImportFolder, *, whole: bool) -> dict[str, str]:
        """See `ArchiveClient.fetch`. One object at a time: an interruption loses one at most."""
        del whole
        reasons = {}
        for uid in wanted:
            if reason := self._fetch_one(series, uid, folder):
                reasons[uid] = reason
        return reasons

    def _fetch_one(self, series: SeriesRef, uid: str, folder: ImportFolder) -> str:
        """Stream one object to disk; why it did not come, "" when it did."""
        if not is_uid(uid):
            return f"its SOP Instance UID is {uid[:64]!r}, which is no UID (PS3.5 9.1)"
        folder.check_space()
        url = f"{self._url}/studies/{series.study_uid}/series/{series.series_uid}/instances/{uid}"
        with (
            self._answer(url) as answer,
            folder.draft() as (draft, file),
        ):
            if answer.status_code in (404, 410):
                return f"the archive has it no more (HTTP {answer.status_code})"
            if answer.status_code >= 500 and answer.status_code != 503:
                return f"the archive could not send it (HTTP {answer.status_code})"
            self._check(answer)
            try:
                first_part(answer.headers.get("Content-Type", ""), self._pieces(answer), file)
            except PeerError as error:
                return str(error)
            file.flush()
            folder.take(draft, uid)
        return ""

    def probe(self) -> None:
        """Ask for one study.

        Raises:
            PeerError, TemporaryError: there is no answer, or no list of studies.
        """
        self._list(lambda client: client.search_for_studies(limit=1, fields=list(_STUDY_FIELDS)))

    def post(self, path: str, body: bytes, *, content_type: str) -> None:
        """Send a body.

        Raises:
            PeerError, TemporaryError: it is not taken.
        """
        headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
        with self._guarded(lambda: self._session.post(self._url + path, data=body, headers=headers)) as answer:
            self._check(answer)

    def _answer(self, url: str) -> Response:
        return self._guarded(lambda: self._session.get(url, headers={"Accept": _DICOM}, stream=True))

    def _pieces(self, answer: Response) -> Iterator[bytes]:
        pieces = answer.iter_content(1 << 18)
        while piece := self._guarded(lambda: next(pieces, b"")):
            yield piece

    def _studies(self, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self._list(partial(_page, filters=filters, offset=offset))
            yield from page
            offset += len(page)
            if len(page) < PAGE:
                return

    def _list(self, search: Callable[[DICOMwebClient], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Matches of one QIDO-RS request; none for HTTP 204 and, by old servers, 404."""
        from dicomweb_client.api import DICOMwebClient

        client = DICOMwebClient(self._url, session=self._session)
        client.set_http_retry_params(retry=False)  # it would wait for half a minute, whatever is wrong
        return self._guarded(lambda: search(client))

    def _guarded(self, request: Callable[[], _T]) -> _T:
        """Do a request; what goes wrong becomes an error of ours."""
        import json

        from requests import exceptions

        try:
            return request()
        except exceptions.HTTPError as error:
            if error.response is not None:
                self._check(error.response)
            raise
        except exceptions.TooManyRedirects as error:
            raise PeerError(
                f"{self._url} answers with a redirection; a login is not sent elsewhere. Give the address that "
                "it leads to."
            ) from error
        except exceptions.SSLError as error:
            raise PeerError(
                f"{self._url}: the TLS handshake fails ({_shortened(error)}); the server's certificate must be signed "
                "by one that is trusted here. Give that with --tls-ca."
            ) from error
        except exceptions.Timeout as error:
            raise TemporaryError(
                f"{self._url} does not answer within {TIMEOUT_S[1]:g} s. Check that it runs, and try again."
            ) from error
        except (json.JSONDecodeError, exceptions.JSONDecodeError) as error:
            raise PeerError(
                f"{self._url} answers a query with something else than DICOM JSON. Check the address of the DICOMweb "
                "service."
            ) from error
        except exceptions.RequestException as error:
            raise TemporaryError(
                f"{self._url} is not reached ({_shortened(error)}). Check the address and the network, and try again."
            ) from error

    def _check(self, answer: Response) -> None:
        """Raise what an HTTP status of 400 or more means."""
        code = answer.status_code
        if code in (429, 502, 503, 504):
            raise TemporaryError(f"{self._url} answers HTTP {code}: it is busy. Try again later.")
        if code >= 400:
            raise PeerError(f"{self._url} answers HTTP {code}: {_STATUS.get(code, 'its log says why')}.")


def _session(login: WebLogin, tls: TlsFiles | None) -> Session:
    from requests import Session
    from requests.auth import AuthBase, HTTPBasicAuth

    class Bearer(AuthBase):
        """Sets the token on each request itself: a `.netrc` is then not asked, and a redirection does not get it."""

        def __call__(self, request: PreparedRequest) -> PreparedRequest:
            request.headers["Authorization"] = f"Bearer {login.token}"
            return request

    class Impatient(Session):
        """Every request has a time limit; dicomweb-client sets none."""

        def request(self, *given: Any, **options: Any) -> Response:
            options["timeout"] = options.get("timeout") or TIMEOUT_S
            return super().request(*given, **options)

    session = Impatient()
    session.max_redirects = 0
    if login.token:
        session.auth = Bearer()
    elif login.user:
        session.auth = HTTPBasicAuth(login.user.encode(), login.password.encode())
    if tls is not None:
        tls.context()  # refuses what does not load, with a message
        if tls.ca is not None:
            session.verify = str(tls.ca)
        if tls.certificate is not None:
            session.cert = str(tls.certificate) if tls.key is None else (str(tls.certificate), str(tls.key))
    return session


def _page(client: DICOMwebClient, *, filters: Mapping[str, str], offset: int) -> list[dict[str, Any]]:
    return client.search_for_studies(
        search_filters=dict(filters), fields=list(_STUDY_FIELDS), limit=PAGE, offset=offset
    )


def _series_of(client: DICOMwebClient, *, study: str) -> list[dict[str, Any]]:
    return client.search_for_series(
        study, search_filters={"Modality": "US"}, fields=list(_SERIES_FIELDS), get_remaining=True
    )


def _first(item: Mapping[str, Any], keyword: str) -> str:
    values = (item.get(f"{tag_for_keyword(keyword):08X}") or {}).get("Value") or [""]
    return str(values[0] if values[0] is not None else "").strip()


def _shortened(error: Exception) -> str:
    """An error of requests without the objects that it quotes."""
    cause = getattr(error.args[0] if error.args else error, "reason", None) or error
    return str(cause).rpartition("> ")[2].rpartition(": ")[2][:160]
