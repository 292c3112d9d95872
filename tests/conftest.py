"""What every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real scans, or a skip that says why."""
    folder = os.environ.get("SONOSEEK_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real scans are looked for under $SONOSEEK_DATA, which is not set to a folder")
    return Path(folder).resolve()
