"""What every engine is measured by: true neighbours, recall, interleaved times, memory."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gallery import ROOT

K = 10


def true_neighbours(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], *, k: int = K, allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """Rows of the `k` largest cosines of each query, best first, intp (Q, k); −1 where fewer rows are allowed.

    Args:
        vectors: float32 (N, D), rows of length about 1; their lengths are divided out.
        queries: float32 (Q, D).
        k: how many.
        allowed: bool (N,), the only rows that count; None for all.
    """
    rows = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    neighbours = np.full((len(queries), k), -1, np.intp)
    step = max(1, 40_000_000 // max(1, len(queries)))
    best: list[list[tuple[float, int]]] = [[] for _ in queries]
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        block = vectors if part.size == len(vectors) else vectors[part]
        products = queries @ block.T
        products /= np.sqrt(np.einsum("nd,nd->n", block, block))
        for number, row in enumerate(products):
            near = np.arange(len(row)) if len(row) <= 4 * k else np.argpartition(row, -4 * k)[-4 * k :]
            wide = block[near].astype(np.float64)
            cosines = wide @ queries[number].astype(np.float64) / np.sqrt((wide * wide).sum(axis=1))
            best[number] += [(-float(c), int(part[at])) for c, at in zip(cosines, near, strict=True)]
    for number, candidates in enumerate(best):
        top = [row for _, row in sorted(candidates)[:k]]
        neighbours[number, : len(top)] = top
    return neighbours


def score_results(
    results: Sequence[Sequence[int]], truth: NDArray[np.intp], *, allowed: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Recall of the true neighbours, and errors of the results.

    Args:
        results: of each query, rows.
        truth: intp (Q, k), −1 for none.
        allowed: bool (N,), rows that may be found; None for all.

    Returns:
        recall: share of the true neighbours that were found. violations: results that the filter forbids. short:
        queries with fewer results than there are.
    """
    hits = wanted = violations = short = 0
    for rows, true in zip(results, truth, strict=True):
        there = {int(row) for row in true if row >= 0}
        hits += len(there & set(rows))
        wanted += len(there)
        short += len(rows) < len(there)
        violations += 0 if allowed is None else sum(not allowed[row] for row in rows)
    return {"recall": hits / wanted if wanted else 1.0, "violations": violations, "short": short}


def interleave(works: Mapping[str, Callable[[int], object]], *, rounds: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each work in each round, one after the other within a round; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(-1, rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work(max(0, number))
            if number >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: np.asarray(values) for name, values in times.items()}


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def memory_mib() -> dict[str, float]:
    """This process: private, shared and resident MiB; empty where the system does not say (no Linux)."""
    path = Path("/proc/self/smaps_rollup")
    if not path.exists():
        return {}
    kib = dict.fromkeys(("Rss", "Private_Clean", "Private_Dirty", "Shared_Clean", "Shared_Dirty"), 0)
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name in kib:
            kib[name] = int(value.split()[0])
    # file pages that no other process maps at the moment count as "private clean"; they are shared as soon as one does
    return {
        "rss_mib": kib["Rss"] / 1024,
        "private_mib": kib["Private_Dirty"] / 1024,
        "shared_mib": (kib["Private_Clean"] + kib["Shared_Clean"] + kib["Shared_Dirty"]) / 1024,
    }


def count_flushes(command: Sequence[str], log: Path, *, longest_s: float = 3_600.0) -> int | None:
    """Calls of fsync and fdatasync while a command runs; None where strace is missing or may not trace.

    Args:
        command: program and arguments.
        log: file for what strace says.
        longest_s: after which the command is given up.
    """
    strace = shutil.which("strace")
    if strace is None:
        return None
    tracing = [strace, "-f", "-qq", "-o", str(log.resolve()), "-e", "trace=fsync,fdatasync"]
    done = subprocess.run([*tracing, *command], check=False, capture_output=True, timeout=longest_s, cwd=ROOT)
    if done.returncode != 0:
        return None
    return len(re.findall(r"\b(?:fsync|fdatasync)\(", log.read_text(errors="replace")))


def size_mib(folder: Path) -> float:
    """MiB of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def rounded(value: Any) -> Any:
    """Numbers to four digits, within mappings and lists."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{float(value):.4g}")
    return int(value) if isinstance(value, np.integer) else value
