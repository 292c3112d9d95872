"""Results as files: one table of rows a protocol, from which every figure can be computed again.

A protocol's folder holds `cases.csv.bz2` (the scans), `rows.csv.bz2` (predictions and searches of each system and
scan), `rounds.csv.bz2` (sizes, thresholds) and `about.json` (what was scored, how). `scores.json` and `curves.svg` are
computed from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sonoseek.core import NotFoundError, ResultsError
from sonoseek.evaluate.rows import CaseRow, RoundRow, ScanRow, Search, SystemResults
from sonoseek.evaluate.tables import place_rows, read_json, read_systems, read_table, write_json, write_table

CASES, ROWS, ROUNDS = "cases.csv.bz2", "rows.csv.bz2", "rounds.csv.bz2"
ABOUT, SCORES = "about.json", "scores.json"
SUM_TOLERANCE = 1e-3


def write_cases(path: Path, cases: Iterable[CaseRow]) -> None:
    """Replace `cases.csv.bz2` in one step."""
    write_table(path, CaseRow, cases)


def read_cases(path: Path) -> dict[str, CaseRow]:
    """Scan → row.

    Raises:
        ResultsError: missing, not a table of cases, a scan twice, an unknown class.
    """
    cases: dict[str, CaseRow] = {}
    for line, row in enumerate(read_table(path, CaseRow), start=2):
        if row.scan in cases:
            raise ResultsError(
                f"{path}, line {line}: scan {row.scan!r} stands twice; each stands once. Evaluate again."
            )
        cases[row.scan] = row
    return cases


def place_results(folder: Path, results: SystemResults, *, system: str) -> None:
    """Put one system's rows into the folder's tables, in the place of those that it had; others' stay as they are.

    Hold the folder (`tables.locked`) where other systems may be written as well.

    Raises:
        ResultsError: a table that stands there does not read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place_rows(folder / ROUNDS, RoundRow, results.rounds, system=system)
    place_rows(folder / ROWS, ScanRow, results.rows, system=system)


def place_about(folder: Path, *, protocol: Mapping[str, Any], name: str, about: Mapping[str, Any]) -> None:
    """Say in `about.json` what a system is and what made its rows, in the place of what stood there.

    Raises:
        ResultsError: a file that stands there does not read.
    """
    path = folder / ABOUT
    systems = read_about(folder)["systems"] if path.is_file() else {}
    write_json(path, {"protocol": protocol, "systems": dict(sorted({**systems, name: about}.items()))})


def read_about(folder: Path) -> dict[str, Any]:
    """What is in no row: "protocol", and "systems": name → what each is and what made its rows.

    Raises:
        ResultsError: missing, or without these keys.
    """
    content = read_json(folder / ABOUT)
    if not isinstance(content, dict) or not {"protocol", "systems"} <= content.keys():
        raise ResultsError(
            f"{folder / ABOUT} lacks 'protocol' or 'systems'; it describes what was scored and how. Evaluate again."
        )
    return content


def read_results(folder: Path, cases: Mapping[str, CaseRow], *, complete: bool = True) -> dict[str, SystemResults]:
    """System → its rows, checked.

    Args:
        folder: of a protocol, or of a round under way.
        cases: of the protocol.
        complete: every tested scan must have been predicted by every system that `about.json` lists, and by no other.
            Of a system that is unfinished there, only the archives that it was tested on must be complete. False for a
            single round under way.

    Raises:
        ResultsError: a table is missing. A row is missing, repeated, holds NaN or probabilities that do not sum to 1,
            names an unknown scan, or contradicts the cases. Some test scans have a search and some not. A round or a
            system has no rows, or rows have no round.
    """
    rounds = read_systems(folder / ROUNDS, RoundRow)
    by_system = {}
    about = read_about(folder)["systems"] if complete else {}
    for name, rows in read_systems(folder / ROWS, ScanRow).items():
        results = SystemResults(rows=tuple(rows), rounds=tuple(rounds.get(name, ())))
        where = f"{folder / ROWS}, {name}"
        seen: set[tuple[object, ...]] = set()
        for row in rows:
            _check(f"{where}, seed {row.seed}, {row.side} scan {row.scan!r}", row, cases, seen)
        if complete:
            _check_complete(where, results.predictions, cases, unfinished="unfinished" in about.get(name, {}))
        for kind in ("search", "own_archive"):
            lacking = [row.scan for row in results.predictions if getattr(row, kind) is None]
            if 0 < len(lacking) < len(results.predictions):
                raise ResultsError(
                    f"{where}: {len(lacking)} test scans have no {kind} though others have, {lacking[0]!r} first; "
                    "every test scan is searched for, or none. Evaluate again."
                )
        if stray := {(r.seed, r.fold) for r in rows} ^ {(r.seed, r.fold) for r in results.rounds}:
            raise ResultsError(
                f"{where}: seed and fold {min(stray)} stand in {ROWS} or {ROUNDS} but not in both. Evaluate again."
            )
        by_system[name] = results
    if complete and (odd := by_system.keys() ^ about.keys()):
        raise ResultsError(
            f"{folder}: the system {min(odd)!r} stands in {ROWS} or {ABOUT} but not in both. Evaluate it again."
        )
    return by_system


def read_system(folder: Path, name: str) -> SystemResults:
    """One system's rows of a protocol, whose cases lie in the same folder.

    Raises:
        NotFoundError: it has none.
        ResultsError: as `read_results`.
    """
    scored = read_results(folder, read_cases(folder / CASES))
    if name not in scored:
        raise NotFoundError(
            f"{folder} has no rows of a system called {name!r}; it has {', '.join(scored)}. Evaluate it there first."
        )
    return scored[name]


def _check(where: str, row: ScanRow, cases: Mapping[str, CaseRow], seen: set[tuple[object, ...]]) -> None:
    case = cases.get(row.scan)
    if case is None:
        raise ResultsError(f"{where} is unknown; {CASES} of the protocol does not list it. Evaluate again.")
    if (row.label, row.group) != (case.label, case.group):
        raise ResultsError(
            f"{where} is {row.label!r} of group {row.group!r}, but {case.label!r} of {case.group!r} in {CASES}; both "
            "must agree. Evaluate again."
        )
    key = (row.seed, row.scan, row.side, row.condition, row.fold if row.side == "validation" else 0)
    if key in seen:
        raise ResultsError(f"{where} stands twice; each scan is predicted once. Evaluate again.")
    seen.add(key)
    total = row.normal + row.benign + row.malignant
    if abs(total - 1) > SUM_TOLERANCE:
        raise ResultsError(f"{where}: probabilities sum to {total:.4f}; they must sum to 1. Evaluate again.")
    for search in (row.search, row.own_archive):
        if search is not None:
            _check_matches(where, row.scan, search, cases)


def _check_matches(where: str, scan: str, search: Search, cases: Mapping[str, CaseRow]) -> None:
    for match in search.matches:
        if match not in cases:
            raise ResultsError(f"{where}: its match {match!r} is unknown; {CASES} does not list it. Evaluate again.")
    if len(set(search.matches)) != len(search.matches) or scan in search.matches:
        raise ResultsError(f"{where}: a match stands twice, or is the query itself. Evaluate again.")


def _check_complete(where: str, rows: Sequence[ScanRow], cases: Mapping[str, CaseRow], *, unfinished: bool) -> None:
    wanted = {case.scan for case in cases.values() if case.tested}
    if not rows:
        raise ResultsError(f"{where} holds no predictions; nothing can be scored. Evaluate again.")
    for seed in sorted({row.seed for row in rows}):
        predicted = {row.scan for row in rows if row.seed == seed}
        archives = {cases[scan].dataset for scan in predicted}
        missing = {scan for scan in wanted if not unfinished or cases[scan].dataset in archives} - predicted
        if missing:
            raise ResultsError(
                f"{where}: {len(missing)} test scans have no prediction for seed {seed}, {min(missing)!r} first; every "
                "test scan is scored, or the figure flatters. Evaluate again."
            )
