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
def sockets_left_by_pynetdicom() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
