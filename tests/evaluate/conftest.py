"""A small archive, walked once by the humblest system."""

from pathlib import Path

import pytest
from tiny_world import TinyDataset, TinyProtocol, walk


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`out/tiny` of two seeds, with changed scans."""
    folder = tmp_path_factory.mktemp("walked")
    return walk(TinyProtocol(TinyDataset(patients=True), seeds=(0, 1)), folder, robustness=True)
