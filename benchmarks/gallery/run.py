"""The run itself: what is not measured yet, part by part, each written as soon as it is finished."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gallery.engines import PEERS
from benchmarks.gallery.measure import measure_gallery
from benchmarks.gallery.peers import measure_peer, write_job
from benchmarks.gallery.report import draw_plot, machine, read_results, write_json, write_page
from benchmarks.gallery.vectors import make_vectors
from sonoseek.core import InvalidValueError

Progress = Callable[[int, int], None]


def bench_gallery(
    rows: Sequence[int],
    out: Path,
    *,
    dims: int = 256,
    queries: int = 100,
    peers: bool = True,
    seed: int = 0,
    again: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure archives of these sizes and write gallery.json, gallery.md and gallery.svg.

    Args:
        rows: sizes; each one's numbers replace or join those that are in `out`.
        out: folder of the results.
        dims: numbers per embedding.
        queries: how many queries.
        peers: measure the other engines too.
        seed: of the archive.
        again: measure finished parts again. A part of other `dims`, `queries` or `seed` is never kept.
        on_progress: called with what is measured, how much of it is done, and all of it.

    Returns:
        What gallery.json holds.

    Raises:
        InvalidValueError: no size, or a number below 1.
        MissingExtraError: matplotlib is not installed.
        ResultsError: gallery.json in `out` is damaged.
    """
    if not rows or min(rows) < 1 or dims < 2 or queries < 1:
        raise InvalidValueError(f"rows {list(rows)}, dims {dims}, queries {queries}; at least 1 row, 2 dims, 1 query.")
    data = read_results(out)
    out.mkdir(parents=True, exist_ok=True)
    draw_plot(out, data)  # a missing package raises before hours are spent
    progress_of = on_progress or (lambda _what, _done, _total: None)
    for size in sorted(set(rows)):
        settings = {"dims": dims, "queries": queries, "seed": seed}
        run = data["runs"].setdefault(str(size), {})
        if again or run.get("settings") != settings:
            run.clear()
        command = f"python -m benchmarks.gallery --rows {size} --dims {dims} --queries {queries} --seed {seed}"
        run |= {"settings": settings, "machine": machine(), "command": command}
        made = make_vectors(size, dims, seed)
        if "ours" not in run:
            with tempfile.TemporaryDirectory(prefix="sonoseek-bench-") as scratch:
                progress: Progress = lambda done, total, size=size: progress_of(f"gallery of {size:,}", done, total)  # type: ignore[misc]  # noqa: E731
                run["ours"] = measure_gallery(made, Path(scratch), queries=queries, on_progress=progress)
            write_json(out, data)
        missing = [name for name in PEERS if name not in run.setdefault("peers", {})] if peers else []
        if missing:
            with tempfile.TemporaryDirectory(prefix="sonoseek-bench-") as scratch:
                write_job(made, Path(scratch), queries=queries)
                for number, name in enumerate(missing):
                    progress_of(f"peers at {size:,}", number, len(missing))
                    run["peers"][name] = measure_peer(name, Path(scratch))
                    write_json(out, data)
                progress_of(f"peers at {size:,}", len(missing), len(missing))
        write_json(out, data)
        write_page(out, data)
        draw_plot(out, data)
    return data
