"""The results of the gallery benchmark: one JSON file of runs by rows, and its page and plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gallery.engines import PEERS
from sonoseek.core import ResultsError
from sonoseek.core.files import write_atomically
from sonoseek.evaluate.figures import INK, QUIET, SERIES, axes

NAME = "gallery"
VERSION = 1
INDEXES = ("exact", "ivf", "auto")
Run = Mapping[str, Any]
Data = dict[str, Any]

_Value = Callable[[Run], float | None]


def _take(*path: str) -> _Value:
    def take(run: Run) -> float | None:
        value: Any = run
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return None if value is None else float(value)

    return take


def _ratio(top: _Value, bottom: _Value) -> _Value:
    def ratio(run: Run) -> float | None:
        above, below = top(run), bottom(run)
        return None if above is None or not below else above / below

    return ratio


def _wrong(run: Run) -> float:
    return float(sum(score["violations"] + score["short"] for score in run["recall"].values()))


def _worst_filtered(run: Run) -> float:
    return float(min(score["recall"] for name, score in run["recall"].items() if name != "plain"))


_HUNDRED_THOUSAND, _MILLION = (100_000,), (1_000_000,)
TARGETS: tuple[tuple[str, _Value, str, float, str, tuple[int, ...]], ...] = (
    ("search / numpy product and argpartition", _take("to_numpy"), "≤", 1.2, "exact", _HUNDRED_THOUSAND),
    (
        "filter of 50 % / no filter",
        _ratio(_take("ms", "half"), _take("ms", "plain")),
        "≤",
        1.2,
        "exact",
        _HUNDRED_THOUSAND,
    ),
    (
        "filter of 1 % / no filter",
        _ratio(_take("ms", "one"), _take("ms", "plain")),
        "≤",
        0.5,
        "exact",
        _HUNDRED_THOUSAND,
    ),
    ("recall@10", _take("recall", "plain", "recall"), "≥", 0.99, "ivf", _MILLION),
    ("search / numpy product and argpartition", _take("to_numpy"), "≤", 0.15, "ivf", _MILLION),
    ("search / faiss alone, the index in memory", _take("to_faiss_alone"), "≤", 1.5, "ivf", _MILLION),
    ("search / faiss alone, the index mapped as here", _take("to_faiss_mapped"), "≤", 1.5, "ivf", _MILLION),
    ("filter of 50 % / no filter", _ratio(_take("ms", "half"), _take("ms", "plain")), "≤", 3.0, "ivf", _MILLION),
    ("filter of 1 % / no filter", _ratio(_take("ms", "one"), _take("ms", "plain")), "≤", 3.0, "ivf", _MILLION),
    ("recall@10 under the worst of four filters", _worst_filtered, "≥", 0.99, "ivf", _MILLION),
    ("results that a filter forbids, and queries with too few results", _wrong, "≤", 0, "ivf", _MILLION),
    ("memory / quantised vectors' bytes", _take("fresh", "to_quantised"), "≤", 1.3, "ivf", _MILLION),
    ("open to first answer, ms", _take("fresh", "open_to_first_ms"), "≤", 1_500, "ivf", _MILLION),
    ("add in batches, rows/s", _take("rows_per_s"), "≥", 20_000, "write", _HUNDRED_THOUSAND + _MILLION),
    ("add one row, p95 ms", _take("one_row_p95_ms"), "≤", 10, "write", _HUNDRED_THOUSAND + _MILLION),
)
"""What has a limit, where it stands in the numbers of one part, of which part, and for which sizes it counts."""

_OURS: tuple[tuple[str, _Value], ...] = (
    ("ms", _take("ms", "plain")),
    ("p95 ms", _take("p95_ms", "plain")),
    ("numpy ms", _take("ms", "numpy")),
    ("with novelty ms", _take("ms", "novelty")),
    ("32 at once, ms each", _take("many_ms")),
    ("50 % ms", _take("ms", "half")),
    ("1 % ms", _take("ms", "one")),
    ("1 % first use ms", _take("first_use_ms", "one")),
    ("recall@10", _take("recall", "plain", "recall")),
    ("1 % recall", _take("recall", "one", "recall")),
    ("open to first answer ms", _take("fresh", "open_to_first_ms")),
    ("private MiB", _take("fresh", "private_growth_mib")),
    ("shared MiB", _take("fresh", "shared_growth_mib")),
    ("both / quantised bytes", _take("fresh", "to_quantised")),
    ("cache MiB", _take("cache_mib")),
    ("cache build s", _take("cache_build_s")),
    ("search after an add ms", _take("after_add", "search_ms")),
)
_PEER: tuple[tuple[str, str], ...] = (
    ("build s", "build_s"),
    ("ms", "ms"),
    ("recall@10", "recall"),
    ("1 % ms", "one_ms"),
    ("1 % recall", "one_recall"),
    ("1 % short", "one_short"),
    ("RSS MiB", "rss_mib"),
    ("disk MiB", "disk_mib"),
)


def read_results(folder: Path) -> Data:
    """What earlier runs found; empty where there is nothing yet.

    Raises:
        ResultsError: the file is damaged or of another version.
    """
    path = folder / f"{NAME}.json"
    if not path.exists():
        return {"version": VERSION, "runs": {}}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION or not isinstance(data["runs"], dict):
            raise ResultsError(
                f"{path} is of version {data['version']}; this reads {VERSION}. Measure into another folder."
            )
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ResultsError):
            raise
        raise ResultsError(f"{path} is damaged ({error}); restore it, or remove it and measure again.") from error
    return dict(data)


def write_json(folder: Path, data: Data) -> None:
    """Replace the JSON file in one step, runs by rows."""
    folder.mkdir(parents=True, exist_ok=True)
    data["runs"] = dict(sorted(data["runs"].items(), key=lambda item: int(item[0])))
    write_atomically(folder / f"{NAME}.json", json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def machine() -> dict[str, str]:
    """Processor, cores, memory, system and Python, for the page."""
    model, memory = platform.processor() or platform.machine(), "unknown"
    cpus, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpus.exists():
        names = [line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    if meminfo.exists():
        memory = f"{int(meminfo.read_text().split()[1]) / 2**20:.0f} GiB"
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "memory": memory,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def write_page(folder: Path, data: Data) -> Path:
    """Write gallery.md from the numbers alone."""
    path = folder / f"{NAME}.md"
    path.write_text(page(data), encoding="utf-8")
    return path


def page(data: Data) -> str:
    """The page as Markdown."""
    targets = _targets(data)
    reached = sum(row[-1] == "reached" for row in targets)
    lines = [
        "# The gallery as it grows",
        "",
        f"**{reached} of {len(targets)} targets are reached.** The embeddings are synthetic: clusters of unequal size,",
        "each of about 20 intrinsic dimensions. Queries are drawn in the same way and are not in the gallery. The",
        "targets are the project's own. Times are medians of interleaved rounds in one process. Memory and time to the",
        "first answer are of new processes, with the file in the page cache. Written from `gallery.json`; do not edit.",
        "",
        "![ms per query over rows](gallery.svg)",
        "",
        "## Targets",
        "",
        *_table(("scans", "index", "", "measured", "target", ""), targets),
        *_ours(data),
        *_peers(data),
        "## Machines and commands",
        "",
        *_table(
            ("rows", "processor", "memory", "system", "command"),
            [
                (_rows(rows), *run.get("machine", {}).values(), f"`{run.get('command', '')}`")
                for rows, run in data["runs"].items()
            ],
        ),
    ]
    return "\n".join(lines).rstrip() + "\n"


def draw_plot(folder: Path, data: Data) -> Path:
    """Draw gallery.svg: ms per query over rows, both logarithmic.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    path = folder / f"{NAME}.svg"
    series: dict[str, list[tuple[int, float]]] = {}
    for rows, run in data["runs"].items():
        for index, numbers in _indexes(run):
            series.setdefault(f"sonoseek {index}", []).append((int(rows), numbers["ms"]["plain"]))
        if indexes := dict(_indexes(run)):
            numpy_ms = next(iter(indexes.values()))["ms"]["numpy"]
            series.setdefault("numpy", []).append((int(rows), numpy_ms))
        for name, numbers in run.get("peers", {}).items():
            if "ms" in numbers:
                series.setdefault(name, []).append((int(rows), numbers["ms"]))
    with axes(path, size=(5.2, 3.6)) as ax:
        colours = dict(zip(("faiss", "hnswlib", "LanceDB", "DuckDB", "sqlite-vec"), (*SERIES[1:], QUIET), strict=True))
        marks: dict[str, int] = {}
        for name in sorted(series):
            family = name.split()[0]
            ours = family == "sonoseek"
            colour = SERIES[0] if ours else INK if family == "numpy" else colours.get(family, QUIET)
            marks[family] = marks.get(family, -1) + 1
            points = sorted(series[name])
            ax.plot(
                [rows for rows, _ in points],
                [value for _, value in points],
                color=colour,
                linewidth=2 if ours else 1,
                linestyle=("-", "--", ":")[marks[family] % 3],
                marker="os^"[marks[family] % 3],
                markersize=3,
                label=name,
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("scans")
        ax.set_ylabel("ms per query, median")
        if series:
            ax.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    return path


def summary(data: Data, sizes: Sequence[int]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heading and rows of a short table of these sizes: engine, ms, recall, ms and recall under the 1 % filter."""
    lines: list[tuple[str, ...]] = []
    for size in sorted(set(sizes)):
        run = data["runs"][str(size)]
        for index, numbers in _indexes(run):
            paths = (("ms", "plain"), ("recall", "plain", "recall"), ("ms", "one"), ("recall", "one", "recall"))
            lines.append((f"{size:,}", f"sonoseek {index}", *(_number(_take(*path)(numbers)) for path in paths), ""))
        for name, peer in run.get("peers", {}).items():
            cells = (_number(peer.get(key)) for key in ("ms", "recall", "one_ms", "one_recall"))
            lines.append((f"{size:,}", name, *cells, peer.get("status", "")))
    return ("scans", "engine", "ms", "recall@10", "1 % ms", "1 % recall", ""), lines


def _indexes(run: Run) -> list[tuple[str, Run]]:
    ours = run.get("ours", {})
    return [(index, ours[index]) for index in INDEXES if index in ours]


def _targets(data: Data) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for size, run in data["runs"].items():
        ours = run.get("ours", {})
        for name, value_of, sign, limit, part, sizes in TARGETS:
            if int(size) not in sizes or part not in ours:
                continue
            value = value_of(ours[part])
            reached = value is not None and (value <= limit if sign == "≤" else value >= limit)
            outcome = "not measured" if value is None else "reached" if reached else "**missed**"
            rows.append((_rows(size), part, name, _number(value), f"{sign} {limit:g}", outcome))
    return rows


def _ours(data: Data) -> list[str]:
    searches, writes = [], []
    for size, run in data["runs"].items():
        for index, numbers in _indexes(run):
            cells = [_number(value_of(numbers)) for _, value_of in _OURS]
            searches.append((_rows(size), index, *cells))
        if "ours" in run:
            write, disk = run["ours"]["write"], run["ours"]["disk"]
            names = ("rows_per_s", "heavy_rows_per_s", "one_row_median_ms", "one_row_p95_ms", "flushes")
            sizes = ("truth_mib",)
            cells = [_number(write.get(name)) for name in names] + [_number(disk[name]) for name in sizes]
            writes.append((_rows(size), *cells))
    return [
        "## Searching",
        "",
        "Memory is what opening and searching adds to a new process. Private memory is the process's own; shared",
        "memory is mapped from the cache's file. Both are compared with one byte per number. The index as the gallery",
        "reports it:",
        "",
        *(
            f"- {_rows(size)}, {index}: {numbers.get('index', index)}"
            for size, run in data["runs"].items()
            for index, numbers in _indexes(run)
        ),
        "",
        *_table(("scans", "index", *(name for name, _ in _OURS)), searches),
        "## Writing",
        "",
        "Flushes are the fsync and fdatasync of a process that opens, adds a batch of 50 and closes. The cost of one",
        'depends on the disk. "With pictures": 20 kB of evidence and a picture of 15 kB.',
        "",
        *_table(("scans", "rows/s", "rows/s with pictures", "one row ms", "p95 ms", "flushes", "truth MiB"), writes),
    ]


def _peers(data: Data) -> list[str]:
    rows: list[tuple[str, ...]] = []
    for size, run in data["runs"].items():
        for name in PEERS:
            if (peer := run.get("peers", {}).get(name)) is None:
                continue
            title = f"{name} {peer.get('version', '')}".strip()
            if "status" in peer:
                rows.append((_rows(size), title, *([""] * len(_PEER)), peer["status"]))
            else:
                cells = [_number(peer.get(key)) for _, key in _PEER]
                rows.append((_rows(size), title, *cells, peer["durable"]))
    heading = ("scans", "engine", *(title for title, _ in _PEER), "a committed batch survives a power cut")
    return [
        "## Peers",
        "",
        "Each engine builds and searches in a separate process, with one thread where it can be limited. Flushes are",
        "counted over a process that opens, adds a batch, commits and closes.",
        "",
        *_table(heading, rows),
    ]


def _table(heading: tuple[str, ...], rows: list[Any]) -> list[str]:
    if not rows:
        return ["Not measured yet.", ""]
    lines = [heading, ("---",) * len(heading), *rows]
    return [*("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines), ""]


def _rows(rows: str) -> str:
    return f"{int(rows):,}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
