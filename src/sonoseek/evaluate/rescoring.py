"""Every committed figure again, from the rows alone: no scan, no network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonoseek.core import PATHOLOGIES, NotFoundError, ResultsError, require_extra
from sonoseek.evaluate.compare import comparisons
from sonoseek.evaluate.files import CASES, METRICS, PREDICTIONS, read_cases, read_system
from sonoseek.evaluate.hardships import robustness_figures
from sonoseek.evaluate.hospitals import hospital_figures
from sonoseek.evaluate.rows import CaseRow, SystemResults
from sonoseek.evaluate.run import write_json
from sonoseek.evaluate.score import Scored, plain, score

COMPARISONS = "comparisons.json"
ABOUT = ("protocol", "system", "made")


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredSystem:
    """One system's folder, read and scored: `metrics` is what `metrics.json` holds."""

    folder: Path
    results: SystemResults
    scored: Scored
    metrics: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredProtocol:
    """One protocol's folder: its cases, its systems by name, and how they compare."""

    folder: Path
    cases: Mapping[str, CaseRow]
    systems: Mapping[str, ScoredSystem]
    compared: tuple[Mapping[str, Any], ...]

    @property
    def about(self) -> Mapping[str, Any]:
        """Name, title, description, exclusions of the protocol."""
        about: Mapping[str, Any] = next(iter(self.systems.values())).metrics["protocol"]
        return about


def rescore(root: Path, *, only: str | None = None, write: bool = True) -> dict[str, ScoredProtocol]:
    """Score every system of every protocol under a folder of results.

    Args:
        root: as `evaluate` writes it: `<protocol>/cases.csv`, `<protocol>/<system>/predictions.csv` ….
        only: one protocol's folder name; None: all.
        write: replace each `metrics.json` and `comparisons.json`.

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
    found = {}
    for folder in folders:
        protocol = _score_protocol(folder)
        if protocol is None:
            continue
        found[folder.name] = protocol
        if write:
            for system in protocol.systems.values():
                write_json(system.folder / METRICS, system.metrics)
            write_json(folder / COMPARISONS, list(protocol.compared))
    return found


def _score_protocol(folder: Path) -> ScoredProtocol | None:
    cases = read_cases(folder / CASES)
    files = sorted(folder.glob(f"*/{PREDICTIONS}"))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # numpy lets go of Python's lock
        scored = pool.map(lambda file: _score_system(file.parent, cases), files)
        systems = {file.parent.name: system for file, system in zip(files, scored, strict=True)}
    if not systems:
        return None
    compared = comparisons({name: system.scored for name, system in systems.items()})
    return ScoredProtocol(folder=folder, cases=cases, systems=systems, compared=tuple(compared))


def _score_system(folder: Path, cases: Mapping[str, CaseRow]) -> ScoredSystem:
    results = read_system(folder, cases)
    scored = score(results, cases)
    metrics = {**_about(folder / METRICS), "classes": list(PATHOLOGIES), **scored.summary}
    if results.own_archive:
        metrics["hospitals"] = plain(hospital_figures(results, cases))
    if results.robustness:
        metrics["robustness"] = robustness_figures(results, cases)
    return ScoredSystem(folder=folder, results=results, scored=scored, metrics=metrics)


def _about(path: Path) -> dict[str, Any]:
    """What no row can tell: what the protocol and the system are, and what made the rows."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: content[name] for name in ABOUT}
    except (OSError, ValueError, KeyError) as error:
        raise ResultsError(
            f"no readable {path.name} in {path.parent} ({error}); it says what was scored and how. Evaluate again."
        ) from error
