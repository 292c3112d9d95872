"""A small archive, scored once by the simplest system."""

from pathlib import Path

import pytest
from tiny_archive import TinyDataset, TinyProtocol, run_protocol


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`out/tiny` of two seeds, with changed scans."""
    folder = tmp_path_factory.mktemp("finished")
    return run_protocol(TinyProtocol(TinyDataset(patients=True), seeds=(0, 1)), folder, robustness=True)
