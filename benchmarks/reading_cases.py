"""Read every file of a list of odd files, and count per kind what came out right, refused or wrong.

    python benchmarks/reading_cases.py FOLDER [--markdown docs/results/reading.md] [--verbose]

FOLDER holds `reading.csv`: file, frame, kind, should, truth. `truth` is an .npy of the grey picture, 0 … 255. `should`
says in words what is right; where it names a refusal, a typed error is right too. A kind with "spacing" in its name is
also compared by `spacing_mm`: `should` begins with "None" or with "ROW x COLUMN mm".
"""

from __future__ import annotations

import argparse
import csv
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np

import sonoseek
from sonoseek.core import SonoseekError
from sonoseek.io import read_scan

OUTCOMES = ("right", "refused, as it may be", "refused, though sound", "wrong")
CLOSE = 2.0
"""Grey levels of 255 that 99.9 % of the pixels may differ by: decoders of JPEG round differently."""
_SPACING = re.compile(r"^(?P<row>[\d.]+) x (?P<column>[\d.]+) mm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--markdown", type=Path, help="write the table there, too")
    parser.add_argument("--verbose", action="store_true", help="a line per file")
    arguments = parser.parse_args()
    with (arguments.folder / "reading.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    kinds: dict[str, Counter[str]] = {}
    for row in rows:
        outcome, detail = tried(arguments.folder, row)
        kinds.setdefault(row["kind"], Counter())[outcome] += 1
        if arguments.verbose or outcome in OUTCOMES[2:]:
            print(f"{outcome:22} {row['file']}#{row['frame']}: {detail}")
    table_text = markdown(kinds)
    print(table_text)
    if arguments.markdown:
        head = arguments.markdown.read_text(encoding="utf-8").partition("| kind |")[0]
        arguments.markdown.write_text(f"{head}{table_text}\n", encoding="utf-8")


def tried(folder: Path, row: dict[str, str]) -> tuple[str, str]:
    """(outcome, what was seen) of one file."""
    refusal_allowed = "refusal" in row["should"]
    start = time.perf_counter()
    try:
        scan = read_scan(folder / row["file"], frame=int(row["frame"]))
    except SonoseekError as error:
        return OUTCOMES[1] if refusal_allowed else OUTCOMES[2], f"{type(error).__name__}: {error}"
    except Exception as error:  # a traceback is always wrong
        return "wrong", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    if "spacing" in row["kind"] and scan.spacing_mm != (wanted := spacing(row["should"])):
        return "wrong", f"spacing {scan.spacing_mm}, not {wanted}"
    if row["should"].startswith("a refusal") and "or the whole" not in row["should"]:
        return "wrong", "read, though it must be refused"
    truth = np.load(folder / row["truth"]).astype(np.float32)
    if truth.shape != scan.shape:
        return "wrong", f"shape {scan.shape}, not {truth.shape}"
    distance = np.abs(scan.pixels.astype(np.float32) - truth)
    if np.isnan(distance).any() or np.quantile(distance, 0.999) > CLOSE:
        return "wrong", f"mean distance {distance.mean():.2f}, largest {distance.max():.1f} of 255"
    return "right", f"largest distance {distance.max():.1f}, {seconds:.3f} s"


def spacing(should: str) -> tuple[float, float] | None:
    match = _SPACING.match(should)
    return (float(match["row"]), float(match["column"])) if match else None


def markdown(kinds: dict[str, Counter[str]]) -> str:
    lines = [f"| kind | tried | {' | '.join(OUTCOMES)} |", "|---|--:|" + "--:|" * len(OUTCOMES)]
    total: Counter[str] = sum(kinds.values(), Counter())
    for kind, counts in [*sorted(kinds.items()), (f"**all** (sonoseek {sonoseek.__version__})", total)]:
        lines.append(f"| {kind} | {counts.total()} | {' | '.join(str(counts[name]) for name in OUTCOMES)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
