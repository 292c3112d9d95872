"""The tests of the wing beside a PACS need its extra."""

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="module", autouse=True)
def what_was_there_is_not_collected() -> None:
    """Late in a run a full collection takes seconds; those after each test look at that test's objects alone."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def sockets_left_by_pynetdicom(what_was_there_is_not_collected: None) -> Iterator[None]:
    """Sockets in cycles are closed by the collector; here, without a warning in some later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def archive() -> Iterator[Any]:
    """A `FakeArchive` that runs."""
    from fake_archive import FakeArchive

    made = FakeArchive().start()
    yield made
    made.stop()


@pytest.fixture
def start(tmp_path: Path, archive: Any) -> Iterator[Any]:
    """Call it for a service beside `archive`; see `pacs_parts.Start`."""
    from pacs_parts import COMMIT, fake_tools, write_settings

    from sonoseek.pacs.rules import load_config
    from sonoseek.pacs.service import Service

    running: list[Service] = []

    def begin(*, tools: Any = None, peer: str = COMMIT, **settings: Any) -> Service:
        file = write_settings(tmp_path, peers=[(archive.title, archive.port, peer)], **settings)
        running.append(Service(load_config(file), tools=tools or fake_tools()))
        archive.report_to = running[-1].listener.port
        return running[-1]

    yield begin
    for each in running:
        each.stop()
