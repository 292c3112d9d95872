"""Every committed figure again, from the rows alone: no scan, no network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonoseek.core import PATHOLOGIES, NotFoundError, require_extra
from sonoseek.evaluate.compare import comparisons
from sonoseek.evaluate.files import CASES, ROWS, SCORES, read_about, read_cases, read_results
from sonoseek.evaluate.hospitals import finished_round_figures, hospital_figures
from sonoseek.evaluate.robustness import robustness_figures
from sonoseek.evaluate.rows import CaseRow, SystemResults
from sonoseek.evaluate.score import Scored, plain, score
from sonoseek.evaluate.tables import locked, write_json


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredSystem:
    """One system, read and scored: `metrics` is what `scores.json` holds of it."""

    name: str
    results: SystemResults
    scored: Scored
    metrics: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredProtocol:
    """One protocol's folder: what it is, its cases, its systems by name, and how they compare.

    Attributes:
        unfinished: system → its entry in `about.json`, and "hospitals": figures of the rounds that stand. It is
            compared with none: the others are scored on more scans.
    """

    folder: Path
    about: Mapping[str, Any]
    cases: Mapping[str, CaseRow]
    systems: Mapping[str, ScoredSystem]
    compared: tuple[Mapping[str, Any], ...]
    unfinished: Mapping[str, Mapping[str, Any]]


def rescore(root: Path, *, only: str | None = None, write: bool = True) -> dict[str, ScoredProtocol]:
    """Score every system of every protocol under a folder of results.

    Args:
        root: as `evaluate` writes it: `<protocol>/cases.csv.bz2`, `<protocol>/rows.csv.bz2` ….
        only: one protocol's folder name; None: all.
        write: replace each `scores.json`.

    Raises:
        MissingExtraError: a package of the extra `evaluate` is not installed.
        NotFoundError: no results there.
        ResultsError: files that are incomplete, damaged, or contradict each other; nothing is written for that
            protocol.
    """
    require_extra("evaluate")
    folders = [f.parent for f in sorted(root.glob(f"*/{CASES}")) if only in (None, f.parent.name)]
    if not folders:
        raise NotFoundError(
            f"no results under {root}{'' if only is None else f' for {only!r}'}; looked for <protocol>/{CASES}. "
            "Evaluate a system first, or name the folder that holds the protocols' folders."
        )
    scored = {}
    for folder in folders:
        with locked(folder) if write else nullcontext():
            if not (folder / ROWS).is_file():  # its first system is being scored
                continue
            scored[folder.name] = protocol = _score_protocol(folder)
            if write:
                write_json(folder / SCORES, _scores(protocol), depth=4)
    return scored


def _scores(protocol: ScoredProtocol) -> dict[str, Any]:
    return {
        "protocol": protocol.about,
        "classes": PATHOLOGIES,
        "systems": {name: system.metrics for name, system in protocol.systems.items()},
        "comparisons": protocol.compared,
        **({"unfinished": protocol.unfinished} if protocol.unfinished else {}),
    }


def _score_protocol(folder: Path) -> ScoredProtocol:
    cases, about = read_cases(folder / CASES), read_about(folder)
    every = read_results(folder, cases)
    part = {name: results for name, results in every.items() if "unfinished" in about["systems"][name]}
    results = {name: whole for name, whole in every.items() if name not in part}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # numpy lets go of Python's lock
        scored = pool.map(lambda name: _score_system(name, results[name], cases, about["systems"][name]), results)
        systems = dict(zip(results, scored, strict=True))
    compared = comparisons({name: system.scored for name, system in systems.items()})
    return ScoredProtocol(
        folder=folder,
        about=about["protocol"],
        cases=cases,
        systems=systems,
        compared=tuple(compared),
        unfinished={
            name: {**about["systems"][name], "hospitals": plain(finished_round_figures(rows, cases))}
            for name, rows in part.items()
        },
    )


def _score_system(
    name: str, results: SystemResults, cases: Mapping[str, CaseRow], about: Mapping[str, Any]
) -> ScoredSystem:
    scored = score(results, cases)
    metrics = {**about, **scored.summary}
    if results.own_archive:
        metrics["hospitals"] = plain(hospital_figures(results, cases))
    if results.changed:
        metrics["robustness"] = robustness_figures(results, cases)
    return ScoredSystem(name=name, results=results, scored=scored, metrics=metrics)
