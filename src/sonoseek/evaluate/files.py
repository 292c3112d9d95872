"""Results as files: what was said of every scan, from which every figure can be computed again.

A protocol's folder holds `cases.csv` (who was tested, who could answer) and one folder per system:
`predictions.csv`, `validation.csv`, `retrieval.csv`, `rounds.csv`, perhaps `robustness.csv` and `own_archive.csv`; then
`metrics.json` and figures, which come from them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sonoseek.core import PATHOLOGIES, ResultsError
from sonoseek.evaluate.rows import CaseRow, PredictionRow, RetrievalRow, RobustnessRow, RoundRow, SystemResults

CASES, PREDICTIONS, VALIDATION = "cases.csv", "predictions.csv", "validation.csv"
RETRIEVAL, ROUNDS, ROBUSTNESS, METRICS = "retrieval.csv", "rounds.csv", "robustness.csv", "metrics.json"
OWN_ARCHIVE = "own_archive.csv"
SUM_TOLERANCE = 1e-3
SEPARATOR = "|"


_PREDICTION = ("seed", "fold", "scan", "group", "label", *PATHOLOGIES)
_RETRIEVAL = (
    "seed",
    "fold",
    "scan",
    "gallery",
    "relevant",
    "average_precision",
    "r_precision",
    "ndcg",
    "ndcg_chance",
    "matches",
)
_ROUND = (
    "seed",
    "fold",
    "train",
    "validation",
    "test",
    *(f"gallery_{name}" for name in PATHOLOGIES),
    "leaking_share",
    "dropped",
    "identity",
    "abstain_below",
    "conformal_quantile",
    "sensitivity_90",
    "specificity_90",
)
_ROBUSTNESS = ("condition", "seed", "fold", "scan", *PATHOLOGIES, "relevant_of_5")
_CASE = ("scan", "dataset", "group", "patient", "label", "birads", "device", "tested")


def write_cases(path: Path, cases: Iterable[CaseRow]) -> None:
    """Replace `cases.csv` in one step."""
    _write(
        path,
        _CASE,
        ((c.scan, c.dataset, c.group, c.patient, c.label, c.birads, c.device, int(c.tested)) for c in cases),
    )


def write_system(folder: Path, results: SystemResults) -> None:
    """Write every file of one system, each replaced in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in ((PREDICTIONS, results.predictions), (VALIDATION, results.validation)):
        _write(folder / name, _PREDICTION, ((r.seed, r.fold, r.scan, r.group, r.label, *_p(r)) for r in rows))
    _write_retrieval(folder / RETRIEVAL, results.retrieval)
    if results.own_archive:
        _write_retrieval(folder / OWN_ARCHIVE, results.own_archive)
    _write(
        folder / ROUNDS,
        _ROUND,
        (
            (
                *(r.seed, r.fold, r.train, r.validation, r.test, *r.gallery),
                *(_number(r.leaking_share), r.dropped, r.identity),
                *map(_number, (r.abstain_below, r.conformal_quantile, r.sensitivity_90, r.specificity_90)),
            )
            for r in results.rounds
        ),
    )
    if results.robustness:
        _write(
            folder / ROBUSTNESS,
            _ROBUSTNESS,
            ((r.condition, r.seed, r.fold, r.scan, *_p(r), r.relevant_of_5) for r in results.robustness),
        )


def _write_retrieval(path: Path, rows: Iterable[RetrievalRow]) -> None:
    _write(
        path,
        _RETRIEVAL,
        (
            (
                *(r.seed, r.fold, r.scan, r.gallery, r.relevant),
                *map(_number, (r.average_precision, r.r_precision, r.ndcg, r.ndcg_chance)),
                SEPARATOR.join(r.matches),
            )
            for r in rows
        ),
    )


def read_cases(path: Path) -> dict[str, CaseRow]:
    """Scan → row.

    Raises:
        ResultsError: missing, not a table of cases, a scan twice, an unknown class.
    """
    found: dict[str, CaseRow] = {}
    for where, row in _read(path, _CASE):
        if row["scan"] in found:
            raise ResultsError(f"{where}: scan {row['scan']!r} stands twice; each stands once. Evaluate again.")
        if row["label"] not in PATHOLOGIES:
            raise ResultsError(f"{where}: label is {row['label']!r}; it must be one of {', '.join(PATHOLOGIES)}.")
        found[row["scan"]] = CaseRow(
            **{name: row[name] for name in _CASE if name != "tested"}, tested=row["tested"] == "1"
        )
    return found


def read_system(folder: Path, cases: Mapping[str, CaseRow], *, complete: bool = True) -> SystemResults:
    """Read and check one system's files.

    Args:
        folder: of the system.
        cases: of the protocol.
        complete: every tested scan must have been predicted; False for a single round under way.

    Raises:
        ResultsError: a file is missing; a row is missing, repeated, holds NaN or probabilities that do not sum to 1,
            names an unknown scan, or contradicts `cases.csv`; queries without a prediction, and the reverse.
    """
    predictions = _read_predictions(folder / PREDICTIONS, cases)
    if complete:
        _check_complete(folder / PREDICTIONS, predictions, cases)
    validation = _read_predictions(folder / VALIDATION, cases, repeated=True)
    retrieval = tuple(_read_retrieval(folder / RETRIEVAL, cases))
    asked = {(row.seed, row.scan) for row in predictions}
    answered = {(row.seed, row.scan) for row in retrieval}
    if retrieval and asked != answered:
        seed, scan = min(asked ^ answered)
        raise ResultsError(
            f"{folder / RETRIEVAL}: {len(asked ^ answered)} scans stand in predictions or retrieval but not in both, "
            f"{scan!r} of seed {seed} first; every test scan is asked once. Evaluate again."
        )
    robustness, own = folder / ROBUSTNESS, folder / OWN_ARCHIVE
    return SystemResults(
        predictions=predictions,
        validation=validation,
        retrieval=retrieval,
        rounds=tuple(_read_rounds(folder / ROUNDS)),
        robustness=tuple(_read_robustness(robustness, cases)) if robustness.is_file() else (),
        own_archive=tuple(_read_retrieval(own, cases)) if own.is_file() else (),
    )


def _read_predictions(path: Path, cases: Mapping[str, CaseRow], *, repeated: bool = False) -> tuple[PredictionRow, ...]:
    found: list[PredictionRow] = []
    seen: set[tuple[int, int, str]] = set()
    for where, row in _read(path, _PREDICTION):
        seed, fold = _integer(where, row, "seed"), _integer(where, row, "fold")
        case = _known(where, row["scan"], cases)
        if (row["label"], row["group"]) != (case.label, case.group):
            raise ResultsError(
                f"{where}: {case.scan!r} is {row['label']!r} of group {row['group']!r}, but {case.label!r} of "
                f"{case.group!r} in {CASES}; both must agree. Evaluate again."
            )
        key = (seed, fold if repeated else 0, case.scan)
        if key in seen:
            raise ResultsError(f"{where}: scan {case.scan!r} stands twice for seed {seed}; each is predicted once.")
        seen.add(key)
        found.append(
            PredictionRow(
                seed=seed,
                fold=fold,
                scan=case.scan,
                group=case.group,
                label=case.label,
                probabilities=_probabilities(where, row),
            )
        )
    return tuple(found)


def _check_complete(path: Path, rows: Sequence[PredictionRow], cases: Mapping[str, CaseRow]) -> None:
    wanted = {case.scan for case in cases.values() if case.tested}
    if not rows:
        raise ResultsError(f"{path} holds no predictions; nothing can be scored. Evaluate again.")
    for seed in sorted({row.seed for row in rows}):
        missing = wanted - {row.scan for row in rows if row.seed == seed}
        if missing:
            raise ResultsError(
                f"{path}: {len(missing)} test scans have no prediction for seed {seed}, {min(missing)!r} first; every "
                "test scan is scored, or the figure flatters. Evaluate again."
            )


def _read_retrieval(path: Path, cases: Mapping[str, CaseRow]) -> Iterable[RetrievalRow]:
    seen: set[tuple[int, str]] = set()
    for where, row in _read(path, _RETRIEVAL):
        seed, case = _integer(where, row, "seed"), _known(where, row["scan"], cases)
        if (seed, case.scan) in seen:
            raise ResultsError(f"{where}: query {case.scan!r} stands twice for seed {seed}; each is asked once.")
        seen.add((seed, case.scan))
        matches = tuple(row["matches"].split(SEPARATOR)) if row["matches"] else ()
        for match in matches:
            _known(where, match, cases)
        if len(set(matches)) != len(matches) or case.scan in matches:
            raise ResultsError(
                f"{where}: a match of {case.scan!r} stands twice, or is the query itself. Evaluate again."
            )
        yield RetrievalRow(
            seed=seed,
            fold=_integer(where, row, "fold"),
            scan=case.scan,
            gallery=_integer(where, row, "gallery"),
            relevant=_integer(where, row, "relevant"),
            average_precision=_share(where, row, "average_precision"),
            r_precision=_share(where, row, "r_precision"),
            ndcg=_share(where, row, "ndcg", optional=True),
            ndcg_chance=_share(where, row, "ndcg_chance", optional=True),
            matches=matches,
        )


def _read_rounds(path: Path) -> Iterable[RoundRow]:
    for where, row in _read(path, _ROUND):
        numbers: dict[str, Any] = {
            name: _integer(where, row, name) for name in ("seed", "fold", "train", "validation", "test", "dropped")
        }
        thresholds = ("abstain_below", "conformal_quantile", "sensitivity_90", "specificity_90")
        yield RoundRow(
            gallery=tuple(_integer(where, row, f"gallery_{name}") for name in PATHOLOGIES),
            leaking_share=_share(where, row, "leaking_share"),
            identity=row["identity"],
            **{**numbers, **{name: _share(where, row, name, optional=True) for name in thresholds}},
        )


def _read_robustness(path: Path, cases: Mapping[str, CaseRow]) -> Iterable[RobustnessRow]:
    for where, row in _read(path, _ROBUSTNESS):
        yield RobustnessRow(
            condition=row["condition"],
            seed=_integer(where, row, "seed"),
            fold=_integer(where, row, "fold"),
            scan=_known(where, row["scan"], cases).scan,
            probabilities=_probabilities(where, row),
            relevant_of_5=int(row["relevant_of_5"]),
        )


def _read(path: Path, columns: Sequence[str]) -> Iterable[tuple[str, dict[str, str]]]:
    """("file, line n", row) of each row of a table with these columns."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"no readable {path.name} in {path.parent} ({error}); evaluate again.") from error
    reader = csv.DictReader(io.StringIO(text))
    if missing := set(columns) - set(reader.fieldnames or ()):
        raise ResultsError(f"{path}: no column {min(missing)!r}; it has {', '.join(reader.fieldnames or ('none',))}.")
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise ResultsError(f"{where}: the row has not the heading's {len(columns)} columns. Evaluate again.")
        yield where, row


def _known(where: str, scan: str, cases: Mapping[str, CaseRow]) -> CaseRow:
    if scan not in cases:
        raise ResultsError(
            f"{where}: scan {scan!r} is unknown; {CASES} of the protocol does not list it. Evaluate again."
        )
    return cases[scan]


def _probabilities(where: str, row: Mapping[str, str]) -> tuple[float, ...]:
    values = tuple(_float(where, row, name) for name in PATHOLOGIES)
    if not all(0 <= value <= 1 for value in values):  # NaN fails as well
        raise ResultsError(f"{where}: probabilities are {values}; each lies in 0 … 1. Evaluate again.")
    if abs(sum(values) - 1) > SUM_TOLERANCE:
        raise ResultsError(f"{where}: probabilities sum to {sum(values):.4f}; they must sum to 1. Evaluate again.")
    total = sum(values)
    return tuple(value / total for value in values)


def _share(where: str, row: Mapping[str, str], name: str, *, optional: bool = False) -> float:
    if optional and row[name] == "":
        return math.nan
    value = _float(where, row, name)
    if not 0 <= value <= 1:
        raise ResultsError(f"{where}: {name} is {row[name]!r}; it must lie in 0 … 1. Evaluate again.")
    return value


def _float(where: str, row: Mapping[str, str], name: str) -> float:
    try:
        return float(row[name])
    except ValueError as error:
        raise ResultsError(f"{where}: {name} is {row[name]!r}, which is no number. Evaluate again.") from error


def _integer(where: str, row: Mapping[str, str], name: str) -> int:
    if not row[name].isdecimal():
        raise ResultsError(f"{where}: {name} is {row[name]!r}; it must be a whole number from 0. Evaluate again.")
    return int(row[name])


def _p(row: PredictionRow | RobustnessRow) -> tuple[str, ...]:
    return tuple(f"{value:.5f}" for value in row.probabilities)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    part.replace(path)
