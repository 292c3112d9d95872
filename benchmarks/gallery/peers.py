"""Other engines on the same archive, each in processes of its own: one builds, one searches, one adds a batch.

A process runs as `python -m benchmarks.gallery.peers NAME STEP FOLDER`, with the archive described in
`FOLDER/job.json`.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gallery import ROOT
from benchmarks.gallery.engines import PEERS, Peer, installed
from benchmarks.gallery.metrics import (
    K,
    count_flushes,
    memory_mib,
    rounded,
    score_results,
    size_mib,
    true_neighbours,
)
from benchmarks.gallery.vectors import SyntheticVectors, make_vectors, passes

LONGEST_S = 3_600.0
"""A build or a series of searches that takes longer is given up."""
COMMITTED = 50
"""Rows of the batch whose flushes are counted."""
_DISTRIBUTIONS = {"faiss": "faiss-cpu", "sqlite_vec": "sqlite-vec"}


def write_job(made: SyntheticVectors, folder: Path, *, queries: int) -> None:
    """Write the queries and their true neighbours, once for all peers."""
    vectors, flags = made.matrix()
    query_vectors = made.queries(queries)
    np.save(folder / "queries.npy", query_vectors)
    np.save(folder / "flags.npy", flags)
    np.save(folder / "truth.npy", true_neighbours(vectors, query_vectors))
    np.save(folder / "truth_one.npy", true_neighbours(vectors, query_vectors, allowed=passes(flags, "one")))
    (folder / "job.json").write_text(json.dumps({"rows": made.rows, "dims": made.dims, "seed": made.seed}))


def measure_peer(name: str, folder: Path) -> dict[str, Any]:
    """One row of the table of peers.

    Args:
        name: of `PEERS`.
        folder: with the job of `write_job`; the peer's files are removed again.

    Returns:
        build_s, p50_ms, recall, one_ms, one_recall, one_short, one_violations, rss_mib, disk_mib, durable, version;
        or {"status": why there are none}.
    """
    kind = PEERS[name]
    if not installed(name):
        return {"status": "not installed"}
    try:
        _run(name, "build", folder)
        measured = json.loads((folder / "build.json").read_text())
        measured["disk_mib"] = size_mib(folder / "peer")
        _run(name, "search", folder)
        measured |= json.loads((folder / "search.json").read_text())
        measured["durable"] = _durable(name, folder, kind)
    except subprocess.CalledProcessError as error:
        message = (str(error.stderr).strip().splitlines() or ["no message"])[-1][:200]
        missing = message.partition("NotFoundError: ")[2]
        return {"status": f"not measured: {missing}" if missing else f"failed: {message}"}
    except subprocess.TimeoutExpired:
        return {"status": f"given up after {LONGEST_S:.0f} s"}
    finally:
        shutil.rmtree(folder / "peer", ignore_errors=True)
    measured["version"] = importlib.metadata.version(_DISTRIBUTIONS.get(kind.package, kind.package))
    return dict(rounded(measured))


def _command(name: str, step: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.gallery.peers", name, step, str(folder.resolve())]


def _run(name: str, step: str, folder: Path) -> None:
    subprocess.run(
        _command(name, step, folder), check=True, capture_output=True, text=True, timeout=LONGEST_S, cwd=ROOT
    )


def _durable(name: str, folder: Path, kind: type[Peer]) -> str:
    """Whether a committed batch is flushed: counted where strace is there and may trace, else as documented."""
    calls = count_flushes(_command(name, "commit", folder), folder / "strace.txt", longest_s=LONGEST_S)
    if calls is None:
        return f"{kind.stated} (documented, not measured)"
    answer = "yes" if calls else "no"
    return f"{answer}: {calls} fsync/fdatasync for a batch of {COMMITTED} (counted)"


def _main(name: str, step: str, folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    made = make_vectors(job["rows"], job["dims"], job["seed"])
    home = folder / "peer"
    home.mkdir(exist_ok=True)
    peer = PEERS[name](home)
    if step == "build":
        np.save(home / "dims.npy", made.dims)
        drawing = time.perf_counter()
        for _ in made.blocks():  # drawing is no work of the engine's
            pass
        drawing = time.perf_counter() - drawing
        start = time.perf_counter()
        peer.build(made.blocks(), rows=made.rows, dims=made.dims)
        spent = max(0.0, time.perf_counter() - start - drawing)
        (folder / "build.json").write_text(json.dumps({"build_s": spent}))
    elif step == "search":
        (folder / "search.json").write_text(json.dumps(_search(peer, folder)))
    else:
        peer.commit(made.queries(COMMITTED), made.rows)


def _search(peer: Peer, folder: Path) -> dict[str, Any]:
    query_vectors: NDArray[np.float32] = np.load(folder / "queries.npy")
    allowed = passes(np.load(folder / "flags.npy"), "one")
    peer.open()
    measured: dict[str, Any] = {}
    for only_one, prefix, file in ((False, "", "truth.npy"), (True, "one_", "truth_one.npy")):
        peer.search(query_vectors[0], K, only_one=only_one)
        times, results = [], []
        for query in query_vectors:
            start = time.perf_counter()
            results.append(peer.search(query, K, only_one=only_one))
            times.append(1e3 * (time.perf_counter() - start))
        score = score_results(results, np.load(folder / file), allowed=allowed if only_one else None)
        measured |= {f"{prefix}ms": float(np.median(times)), **{f"{prefix}{key}": score[key] for key in score}}
        if not only_one:
            measured["rss_mib"] = memory_mib().get("rss_mib")
    return measured


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
