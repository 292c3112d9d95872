"""One page that puts all systems and protocols side by side, and what they can be compared by."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from sonoseek.core import DISCLAIMER
from sonoseek.core.files import write_atomically
from sonoseek.core.version import __version__
from sonoseek.evaluate.corruption_sheet import draw_corruption_sheet
from sonoseek.evaluate.figures import CURVES, axes, draw_curves
from sonoseek.evaluate.files import ABOUT, CASES, ROUNDS, ROWS, SCORES
from sonoseek.evaluate.metrics import ECE_BINS
from sonoseek.evaluate.page_hospitals import hospital_tables
from sonoseek.evaluate.page_parts import (
    compared_rows,
    is_own,
    prediction_table,
    robustness_tables,
    search_table,
    subset_tables,
    unlearnt_lines,
)
from sonoseek.evaluate.rescoring import ScoredProtocol, ScoredSystem
from sonoseek.evaluate.seen import in_words

PAGE, INFLATION, CORRUPTION_SHEET = "index.html", "inflation.svg", "conditions.webp"
OF_ONE_QUESTION = ("outline", "small-square-hybrid", "bundles-small-square")
"""Shown beside those of several protocols, though they have one."""
ORDER = (
    "busi-grouped",
    "random-split",
    "paper-like",
    "busi-clean",
    "busi-curated",
    "busbra-official",
    "leave-one-hospital-out",
    "reader-marked",
)
QUESTIONS = ("busi-grouped", "busi-clean", "busi-curated", "random-split", "paper-like")
"""Protocols on BUSI, whose accuracies are compared side by side: those without leakage first."""
FILES = (SCORES, ROWS, CASES, ROUNDS, ABOUT)


def write_page(root: Path, scored: Mapping[str, ScoredProtocol]) -> Path:
    """Write `index.html` and the pictures that it shows beside it.

    Args:
        root: folder of results.
        scored: every protocol in it, as `rescore` gives them.
    """
    protocols = [scored[name] for name in sorted(scored, key=_place) if scored[name].systems]
    inflation = inflation_table(scored)
    if inflation:
        draw_inflation(root / INFLATION, inflation)
    corrupted = any("robustness" in system.metrics for p in protocols for system in p.systems.values())
    if corrupted:
        draw_corruption_sheet(root / CORRUPTION_SHEET)
    loader = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    template = resources.files("sonoseek.evaluate").joinpath("templates/results.html.j2").read_text(encoding="utf-8")
    text = loader.from_string(template).render(
        protocols=[_protocol(each) for each in protocols],
        inflation=inflation,
        leak_random=_leak(scored.get("random-split")),
        leak_paper=_leak(scored.get("paper-like")),
        corruption_sheet=CORRUPTION_SHEET if corrupted else "",
        ece_bins=ECE_BINS,
        disclaimer=DISCLAIMER,
        version=__version__,
    )
    return write_atomically(root / PAGE, text)


def inflation_table(scored: Mapping[str, ScoredProtocol]) -> dict[str, Any]:
    """Accuracy of each system under each protocol on BUSI, and what leakage adds; empty without two."""
    names = [name for name in QUESTIONS if name in scored]
    if len(names) < 2:
        return {}
    systems: dict[str, str] = {}
    for name in names:
        systems |= {key: system.metrics["system"]["title"] for key, system in scored[name].systems.items()}
    heads = [{"title": scored[n].about["title"], "name": n, "flatters": not scored[n].about["guarded"]} for n in names]
    rows = []
    for key in sorted(systems, key=lambda key: (not is_own(key), key)):
        values = [_accuracy(scored[name].systems.get(key)) for name in names]
        base = values[0] if names[0] == "busi-grouped" else None
        cells = [
            None
            if value is None
            else {
                "number": value,
                "value": f"{100 * value:.1f} %",
                "added": f"{100 * (value - base):+.1f}" if base is not None and head["flatters"] else "",
            }
            for head, value in zip(heads, values, strict=True)
        ]
        if sum(cell is not None for cell in cells) > 1 or (key in OF_ONE_QUESTION and any(cells)):
            rows.append({"title": systems[key], "name": key, "own": is_own(key), "cells": cells})
    return {"protocols": heads, "rows": rows} if rows else {}


def draw_inflation(path: Path, table: Mapping[str, Any]) -> None:
    """Accuracies as dots on one line per system: where the dots part, the question decides, not the system."""
    colours = {"busi-grouped": "#0f766e", "busi-clean": "#5b9a8b", "busi-curated": "#9cc5b8"}
    colours |= {"random-split": "#d97706", "paper-like": "#be123c"}
    marks = {"busi-grouped": "o", "busi-clean": "s", "busi-curated": "D", "random-split": "^", "paper-like": "*"}
    rows = table["rows"]
    with axes(path, size=(8.6, 1.1 + 0.42 * len(rows))) as ax:
        for height, row in enumerate(reversed(rows)):
            known = [100 * cell["number"] for cell in row["cells"] if cell]
            ax.plot([min(known), max(known)], [height, height], color="#cbd5e1", linewidth=2, zorder=1)
        for column, head in enumerate(table["protocols"]):
            points = [
                (100 * r["cells"][column]["number"], len(rows) - 1 - i)
                for i, r in enumerate(rows)
                if r["cells"][column]
            ]
            if points:
                x, y = zip(*points, strict=True)
                mark = marks.get(head["name"], "o")
                size = 110 if mark == "*" else 42
                ax.scatter(
                    x, y, s=size, marker=mark, color=colours.get(head["name"], "#475569"), label=head["title"], zorder=2
                )
        ax.axvline(99.24, color="#be123c", linestyle=":", linewidth=1)
        ax.text(99.24, len(rows) - 0.42, "the paper: 99.24 %", ha="right", va="bottom", color="#be123c")
        ax.set_yticks(range(len(rows)), [row["title"] for row in reversed(rows)])
        ax.set_ylim(-0.6, len(rows) - 0.1)
        ax.set_xlabel("accuracy, %")
        ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.16 - 0.5 / len(rows)), ncols=3)


def _protocol(protocol: ScoredProtocol) -> dict[str, Any]:
    about = protocol.about
    systems = _ordered(protocol)
    counts = systems[0].metrics["counts"]
    narrowed = [system for system in systems if system.metrics["made"].get("seen_in_training")]
    prediction_heads, prediction_rows = prediction_table(systems, "classification")
    patient_heads, patient_rows = prediction_table(systems, "patients")
    search_heads, search_rows, chance = search_table(systems)
    heads, compared, tests = compared_rows(protocol)
    return {
        "name": about["name"],
        "title": about["title"],
        "description": about["description"],
        "exclusions": about["exclusions"],
        "guarded": about["guarded"],
        "scans": counts["scans"],
        "groups": counts["groups"],
        "patients": counts["patients"],
        "leaking": f"{100 * counts['leaking_share']:.0f} %" if counts["leaking_share"] else "",
        "prediction_heads": prediction_heads,
        "predictions": prediction_rows,
        "patient_heads": patient_heads,
        "patient_rows": patient_rows,
        "search_heads": search_heads,
        "searches": search_rows,
        "chance": chance,
        "unlearnt": unlearnt_lines(systems),
        "seen": list(dict.fromkeys(in_words(s.metrics["made"]["seen_in_training"]) for s in narrowed)),
        "robustness": robustness_tables(systems),
        "compared_heads": heads,
        "compared": compared,
        "tests": tests,
        "bonferroni": f"{0.05 / max(1, tests):.4f}",
        "subsets": [*hospital_tables(systems, protocol.unfinished), *subset_tables(systems)],
        "curves": f"{protocol.folder.name}/{CURVES}" if (protocol.folder / CURVES).is_file() else "",
        "files": [
            {"href": f"{protocol.folder.name}/{name}", "name": name}
            for name in FILES
            if (protocol.folder / name).is_file()
        ],
        "made": [_made(system) for system in systems],
    }


def draw_figures(protocol: ScoredProtocol) -> Path:
    """Draw the curves of a protocol's leading systems: at most three of the project's own, then the others.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    systems = _ordered(protocol)
    own = [system for system in systems if is_own(system.name)]
    return draw_curves(protocol, [*own[:3], *(system for system in systems if system not in own), *own[3:]])


def _ordered(protocol: ScoredProtocol) -> list[ScoredSystem]:
    """The project's own systems first, then by AUROC."""
    return sorted(protocol.systems.values(), key=lambda s: (not is_own(s.name), -(_auroc(s) or 0.0)))


def _made(system: ScoredSystem) -> dict[str, str]:
    about, made = system.metrics["system"], system.metrics["made"]
    return {
        "title": about["title"],
        "description": about["description"],
        "made": f"{made['command']} · system {about['identity']} · data {made['data']}",
    }


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _accuracy(system: ScoredSystem | None) -> float | None:
    return None if system is None else system.metrics["classification"]["accuracy"]["pooled"]


def _auroc(system: ScoredSystem) -> float | None:
    value: float | None = system.metrics["classification"]["auroc_malignant"]["pooled"]
    return value


def _leak(protocol: ScoredProtocol | None) -> str:
    if protocol is None:
        return "many"
    share = next(iter(protocol.systems.values())).metrics["counts"]["leaking_share"]
    return "all" if share > 0.995 else f"{100 * share:.0f} %"
