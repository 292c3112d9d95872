"""Our SQLite gallery, measured: writing, searching, filters, memory, and changes under load."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gallery import ROOT
from benchmarks.gallery.fresh_process import open_with
from benchmarks.gallery.metrics import (
    K,
    count_flushes,
    interleave,
    rounded,
    score_results,
    seconds,
    size_mib,
    true_neighbours,
)
from benchmarks.gallery.vectors import FILTERS, WHERE, SyntheticVectors, passes
from sonoseek.core import CaseRecord, InvalidValueError
from sonoseek.gallery import Gallery, GalleryEntry, create_gallery, open_gallery
from sonoseek.gallery.exact import normalised
from sonoseek.gallery.sqlite.index import candidates_for

BUNDLE = "synthetic-vectors"
BATCH = 5_000
HEAVY_ROWS = 2_000
"""Scans of the sample that carries pictures and evidence."""
EVIDENCE_BYTES = 20_000
PICTURE_BYTES = 15_000
SINGLE_ADDS = 30
MANY = 32
ROUNDS = 20

Progress = Callable[[int, int], None]


def entry(row: int, vector: NDArray[np.float32], flags: int, *, heavy: bool = False) -> GalleryEntry:
    """Row `row` of an archive as an entry; `heavy` with a picture and evidence of the usual size, incompressible."""
    on = {name: bool(flags >> bit & 1) for bit, name in enumerate(FILTERS)}
    filler = np.random.default_rng(row).bytes(EVIDENCE_BYTES) if heavy else b""
    return GalleryEntry(
        record=CaseRecord(
            case_id=f"c{row:09d}",
            dataset="synthetic",
            pathology="malignant" if on["half_correlated"] else "benign",
            patient_id=f"p{row}",
            birads="6" if on["one"] else "2",
            device="half" if on["half"] else "rest",
            histology="rare" if on["one_correlated"] else None,
        ),
        scan_id=f"{row:064x}",
        embedding=vector,
        picture=b"\xff\xd8" + filler[:PICTURE_BYTES] if heavy else None,
        evidence=filler if heavy else None,
        scan_shape=(600, 800),
    )


def faiss_alone(where: Path, *, mapped: bool) -> Callable[[NDArray[np.float32]], object] | None:
    """The same index with nothing of ours around it: `faiss.Index.search` for as many hits as the gallery ranks again.

    Args:
        where: folder of a closed gallery.
        mapped: as the gallery has it, on disk and mapped; else read into memory.

    Returns:
        None where the gallery's cache is no inverted file.
    """
    import faiss

    (path, *_) = [*where.glob("*.ivf"), None]
    if path is None:
        return None
    with open_gallery(where, index="ivf") as gallery:
        nprobe = int(gallery.info().index.split()[1])  # "ivf: 16 of 2000 lists …"
    index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if mapped else 0)
    index.nprobe = nprobe
    return lambda query: index.search(query[np.newaxis], candidates_for(K))


def measure_gallery(
    made: SyntheticVectors, folder: Path, *, queries: int = 100, on_progress: Progress | None = None
) -> dict[str, Any]:
    """Everything about one archive of one size.

    Args:
        made: the archive.
        folder: empty; the gallery is written into it.
        queries: how many queries.
        on_progress: called with scans added so far, and all.

    Returns:
        Numbers by part: "write", "disk", and by index ("exact", "ivf") "search".

    Raises:
        InvalidValueError: no query.
    """
    if queries < 1:
        raise InvalidValueError(f"{queries} queries; at least 1 is needed.")
    folder = folder.resolve()  # its subprocesses run elsewhere
    where = folder / "plain"
    results: dict[str, Any] = {"write": _write(made, where, on_progress)}
    results["write"]["heavy_rows_per_s"] = _heavy(made, folder / "heavy")
    create_gallery(folder / "target", bundle_id=BUNDLE, dimension=made.dims).close()
    copying = [
        sys.executable,
        "-m",
        "benchmarks.gallery.fresh_process",
        "copy",
        str(where),
        str(folder / "target"),
    ]
    results["write"]["flushes"] = count_flushes(copying, folder / "strace.txt")
    vectors, flags = made.matrix()
    query_vectors = made.queries(queries)
    truths: dict[str | None, NDArray[np.intp]] = {None: true_neighbours(vectors, query_vectors)}
    for name in FILTERS:
        truths[name] = true_neighbours(vectors, query_vectors, allowed=passes(flags, name))
    np.save(folder / "queries.npy", query_vectors)
    for index in ("exact", "ivf"):
        cache_s = seconds(partial(_first_search, where, index, query_vectors[0]))
        cache_mib = _disk(where)["cache_mib"]
        results[index] = {
            "cache_build_s": cache_s,
            "cache_mib": cache_mib,
            **_search(where, index, vectors, flags, query_vectors, truths),
        }
        results[index]["fresh"] = fresh = _fresh(where, folder / "queries.npy", index)
        if "rss_growth_mib" in fresh:
            fresh["to_quantised"] = fresh["rss_growth_mib"] / (made.rows * made.dims / 2**20)
        results[index]["after_add"] = _after_add(made, where, index, query_vectors)
    results["disk"] = {"truth_mib": _disk(where)["truth_mib"]}
    return dict(rounded(results))


def _disk(where: Path) -> dict[str, float]:
    truth = sum(path.stat().st_size for path in where.glob("gallery.db*") if path.suffix in (".db", ".db-wal"))
    everything = size_mib(where)
    return {"truth_mib": truth / 2**20, "cache_mib": everything - truth / 2**20}


def _entries(made: SyntheticVectors) -> Iterator[GalleryEntry]:
    for first, vectors, flags in made.blocks():
        for at in range(len(vectors)):
            yield entry(first + at, vectors[at], int(flags[at]))


def _write(made: SyntheticVectors, where: Path, on_progress: Progress | None) -> dict[str, Any]:
    spent = 0.0
    stream, done = _entries(made), 0
    with create_gallery(where, bundle_id=BUNDLE, dimension=made.dims) as gallery:
        while batch := list(islice(stream, BATCH)):
            spent += seconds(partial(gallery.add, batch))
            done += len(batch)
            if on_progress is not None:
                on_progress(done, made.rows)
        singles = []
        extra = made.queries(SINGLE_ADDS)
        for number in range(SINGLE_ADDS):
            one = entry(made.rows + number, extra[number], 0)
            singles.append(1e3 * seconds(partial(gallery.add, [one])))
        gallery.remove(scan_ids=[f"{made.rows + number:064x}" for number in range(SINGLE_ADDS)])
    return {
        "rows_per_s": made.rows / spent,
        "one_row_median_ms": np.median(singles),
        "one_row_p95_ms": np.percentile(singles, 95),
    }


def _heavy(made: SyntheticVectors, where: Path) -> float:
    count = min(HEAVY_ROWS, made.rows)
    _, vectors, flags = next(made.blocks())
    entries = [entry(row, vectors[row], int(flags[row]), heavy=True) for row in range(min(count, len(vectors)))]
    with create_gallery(where, bundle_id=BUNDLE, dimension=made.dims) as gallery:
        spent = sum(seconds(partial(gallery.add, entries[at : at + 500])) for at in range(0, len(entries), 500))
    return len(entries) / spent


def _first_search(where: Path, index: str, query: NDArray[np.float32]) -> None:
    with open_with(str(where), index, mode="w") as gallery:
        gallery.search(query, pictures=False)


def _search(
    where: Path,
    index: str,
    vectors: NDArray[np.float32],
    flags: NDArray[np.uint8],
    query_vectors: NDArray[np.float32],
    truths: dict[str | None, NDArray[np.intp]],
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    with open_with(str(where), index) as gallery:
        search: Callable[..., Any] = partial(gallery.search, k=K, pictures=False, novelty=False)

        def numpy_search(number: int) -> object:
            products = vectors @ query_vectors[number % len(query_vectors)]
            near = np.argpartition(products, -K)[-K:] if len(products) > K else np.arange(len(products))
            return near[np.argsort(-products[near])]

        def search_filtered(name: str, number: int) -> object:
            return search(query_vectors[number % len(query_vectors)], where=WHERE[name])

        unit = normalised(query_vectors)
        search(query_vectors[0])
        results["index"] = gallery.info().index
        compile_ms = {name: 1e3 * seconds(partial(search, query_vectors[0], where=WHERE[name])) for name in FILTERS}
        works: dict[str, Callable[[int], object]] = {
            "plain": lambda number: search(query_vectors[number % len(query_vectors)]),
            "numpy": numpy_search,
            "novelty": lambda number: gallery.search(query_vectors[number % len(query_vectors)], k=K, pictures=False),
        }
        for name in FILTERS:
            works[name] = lambda number, name=name: search(
                query_vectors[number % len(query_vectors)], where=WHERE[name]
            )  # type: ignore[misc]
        for name, mapped in (("faiss_alone", False), ("faiss_mapped", True)):
            if (alone := faiss_alone(where, mapped=mapped)) is not None and index == "ivf":
                works[name] = lambda number, alone=alone: alone(unit[number % len(query_vectors)])  # type: ignore[misc]
        times = interleave(works, rounds=ROUNDS)
        results["ms"] = {name: float(np.median(values)) for name, values in times.items()}
        results["p95_ms"] = {name: float(np.percentile(values, 95)) for name, values in times.items()}
        results["first_use_ms"] = compile_ms
        results["to_numpy"] = results["ms"]["plain"] / results["ms"]["numpy"]
        for name in ("faiss_alone", "faiss_mapped"):
            results[f"to_{name}"] = results["ms"]["plain"] / results["ms"][name] if name in results["ms"] else None
        for filter_name, truth in truths.items():
            found_rows = [
                _rows(search(query, where=None if filter_name is None else WHERE[filter_name]))
                for query in query_vectors
            ]
            allowed = None if filter_name is None else passes(flags, filter_name)
            results.setdefault("recall", {})[filter_name or "plain"] = score_results(found_rows, truth, allowed=allowed)
        results["many_ms"] = _many(gallery, np.resize(query_vectors, (MANY, query_vectors.shape[1])))
    return results


def _rows(result: Any) -> list[int]:
    return [int(match.scan_id, 16) for match in result.matches]


def _many(gallery: Gallery, query_vectors: NDArray[np.float32]) -> float:
    """Milliseconds per query of `MANY` queries at once."""
    many = partial(gallery.search_many, query_vectors, k=K, pictures=False, novelty=False)
    return 1e3 * float(np.median([seconds(many) for _ in range(4)][1:])) / len(query_vectors)


def _fresh(where: Path, queries: Path, index: str) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.gallery.fresh_process",
        str(where),
        str(queries),
        index,
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return dict(json.loads(done.stdout))


def _after_add(made: SyntheticVectors, where: Path, index: str, query_vectors: NDArray[np.float32]) -> dict[str, float]:
    """Milliseconds of a search right after one scan was added by the process that asks; five times, the median."""
    adding, searching = [], []
    with open_with(str(where), index, mode="w") as gallery:
        gallery.search(query_vectors[0], pictures=False)
        for number in range(5):
            one = entry(made.rows + number, query_vectors[number % len(query_vectors)], 0)
            start = time.perf_counter()
            gallery.add([one])
            added = time.perf_counter()
            gallery.search(query_vectors[0], pictures=False, novelty=False)
            adding.append(1e3 * (added - start))
            searching.append(1e3 * (time.perf_counter() - added))
        gallery.remove(scan_ids=[f"{made.rows + number:064x}" for number in range(5)])
    return {"add_ms": float(np.median(adding)), "search_ms": float(np.median(searching))}
