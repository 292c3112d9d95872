"""The load test itself: a real server on a tiny gallery, four readers for three seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("httpx")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "web_load.py"


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads the server's memory from /proc")
def test_readers_at_once_meet_no_error(tmp_path: Path) -> None:
    out = tmp_path / "web-load.json"
    options = {
        "--gallery": tmp_path / "gallery",
        "--phantoms": 30,
        "--readers": 4,
        "--seconds": 3,
        "--one": 4,
        "--own": 1,
        "--out": out,
    }
    command = [sys.executable, str(SCRIPT), *(str(part) for pair in options.items() for part in pair)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SONOSEEK")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=80)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr  # the server has warned of nothing
    told = json.loads(out.read_text("utf-8"))
    one, many = told["one_reader"], told["many_readers"]
    assert told["errors"] == one["errors"] == many["errors"] == 0
    assert one["drops"] == 4
    assert many["drops"] > 4  # files went round again, under other comments
    assert many["requests"] == 15 * many["drops"]
    # Measured one after the other, on a machine that may be busy in one of the two moments.
    assert 0 < one["engine_query_ms"]["p50"] < 2 * one["query_ms"]["p50"]
    assert many["query_ms"]["p95"] <= many["whole_ms"]["p95"]
    assert len(many["rss_mb"]["every_second"]) == 4
    assert "| 4 readers: the whole, ms |" in done.stdout
