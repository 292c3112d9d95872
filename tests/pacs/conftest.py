"""The tests of the wing beside a PACS need its extra."""

import gc
import warnings
from collections.abc import Iterator

import pytest

pytest.importorskip("pynetdicom")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:  # pynetdicom leaves the socket of a sender whose peer closed first to the garbage collector
        if "/tests/pacs/" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(autouse=True)
def pynetdicom_as_it_was() -> Iterator[None]:
    """A listener sets switches for its whole process: the peers of the next test must not have them."""
    from pynetdicom import _config, dimse_messages

    switches = ("STORE_RECV_CHUNKED_DATASET", "STORE_SEND_CHUNKED_DATASET", "UNRESTRICTED_STORAGE_SERVICE")
    before = {name: getattr(_config, name) for name in switches}
    opener = dimse_messages.NamedTemporaryFile  # type: ignore[attr-defined]
    yield
    for name, value in before.items():
        setattr(_config, name, value)
    dimse_messages.NamedTemporaryFile = opener  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def sockets_left_by_pynetdicom() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
