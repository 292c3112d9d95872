"""Figures of hospitals that were left out, as tables of the results page and of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sonoseek.evaluate.rescoring import ScoredSystem

HEADS = {
    "auroc": "AUROC malignant : benign",
    "auroc_against_all": "AUROC malignant : all",
    "accuracy": "two-way accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "sensitivity_at_sensitivity_98": "sensitivity at 98 %",
    "ece": "ECE",
    "ece_refitted": "ECE, temperature of the other hospitals",
    "coverage": "coverage of 90 % sets",
    "precision@5": "P@5 others' gallery",
    "map": "mAP others' gallery",
    "own_archive_precision@5": "P@5 own archive",
    "own_archive_map": "mAP own archive",
}
"""Figure → heading; thresholds are those of the other hospitals."""
BRIEF = ("auroc", "accuracy", "sensitivity_at_sensitivity_98", "ece_refitted", "precision@5", "own_archive_precision@5")
"""Figures shown on the command line."""
TITLE = "hospital that was left out"


def hospital_tables(
    systems: Sequence[ScoredSystem], unfinished: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """One table, systems by hospitals and their mean; none where no system has such figures.

    `unfinished` ones (of `ScoredProtocol`) follow, with the figures that they have.
    """
    have = [system for system in systems if system.metrics.get("hospitals")]
    if not have:
        return []
    names = _columns(have[0].metrics["hospitals"])
    rows = [
        {
            "title": system.metrics["system"]["title"],
            "cells": [_lines(system.metrics["hospitals"][name]) for name in names],
        }
        for system in have
    ]
    rows += [
        {
            "title": f"{part['system']['title']} ({finished_rounds(part)})",
            "cells": [_lines(part["hospitals"].get(name, {})) for name in names],
        }
        for part in unfinished.values()
    ]
    heads = [{"value": name, "scans": have[0].metrics["hospitals"][name]["scans"]} for name in names]
    return [{"title": TITLE, "heads": heads, "rows": rows}]


def finished_rounds(part: Mapping[str, Any]) -> str:
    """How many rounds of an unfinished system stand: "1 of 3 rounds"."""
    return f"{part['unfinished']['rounds']} of {part['unfinished']['of']} rounds"


def hospital_rows(
    systems: Sequence[ScoredSystem], unfinished: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows for the command line: one row per system and hospital, then the mean."""
    rows = []
    for system in systems:
        by_hospital = system.metrics.get("hospitals") or {}
        for name in _columns(by_hospital) if by_hospital else ():
            cells = (_cell(by_hospital[name].get(figure)) for figure in BRIEF)
            rows.append((system.metrics["system"]["name"], name, *cells))
    for system_name, part in unfinished.items():
        for name, figures in part["hospitals"].items():
            cells = (_cell(figures.get(figure)) for figure in BRIEF)
            rows.append((f"{system_name}, {finished_rounds(part)}", name, *cells))
    return ("", TITLE, *(HEADS[figure] for figure in BRIEF)), rows


def _columns(by_hospital: Mapping[str, Any]) -> list[str]:
    """Hospitals, the mean last."""
    return [*(name for name in by_hospital if name not in ("mean", "worst")), "mean"]


def _lines(part: Mapping[str, Any]) -> list[str]:
    return [f"{head} {_cell(part[figure])}" for figure, head in HEADS.items() if figure in part]


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    span = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure['value']:.3f}{span}"
