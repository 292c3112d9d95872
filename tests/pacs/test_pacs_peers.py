"""The loop with Debian's Orthanc and dcmtk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
PROGRAMS = ("Orthanc", "storescu", "echoscu", "storescp", "unshare")
missing = [name for name in PROGRAMS if shutil.which(name) is None]
pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.skipif(bool(missing), reason=f"without {missing}")]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened; see `orthanc_loop`."""
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("the system gives no network of its own")
    folder = tmp_path_factory.mktemp("orthanc")
    path = os.pathsep.join([str(HERE), str(HERE.parents[1] / "src")])
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, HERE / "orthanc_loop.py", folder],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(answer)
    return answer


def test_strangers_are_refused_and_an_echo_passes_beside_silent_sockets(found: dict[str, Any]) -> None:
    assert found["echo US1 SONOSEEK"] == 0
    assert found["echo STRANGER SONOSEEK"] != 0
    assert found["echo US1 OTHER"] != 0
    assert found["echo beside silent sockets"] == 0
    assert found["echo took"] < 1.0


def test_the_archive_commits_to_one_result(found: dict[str, Any]) -> None:
    assert found["stored"] == 0
    assert found["modalities"] == ["OT", "SR"]
    assert found["committed after"] < 3.0


def test_a_study_that_is_stable_three_times_has_one_result(found: dict[str, Any]) -> None:
    assert found["after three times stable"] == ["OT", "SR"]
    assert found["states after"] == ["committed"]


def test_results_are_delivered_once_the_archive_is_back(found: dict[str, Any]) -> None:
    assert found["after it was away"] == ["OT", "OT", "SR", "SR"]
    assert found["results"] == {"waiting": 0, "sent": 4, "committed": 4, "failed": 0, "alarm": 0}
    assert found["files at storescp"] == 2
