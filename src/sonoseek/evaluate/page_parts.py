"""Tables of the results page, as plain values for its template."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sonoseek.core import PATHOLOGIES
from sonoseek.evaluate.compare import COMPARED
from sonoseek.evaluate.corruptions import CORRUPTIONS, UNCHANGED
from sonoseek.evaluate.rescoring import ScoredProtocol, ScoredSystem

OWN = ("hybrid", "outline", "teacher", "small-square", "b4")
"""Systems with one of these in their name are the project's own, but for peers of a comparison."""
PEER = "peer-"
PREDICTION_COLUMNS = (
    ("accuracy", "accuracy", 1),
    ("balanced acc.", "balanced_accuracy", 1),
    ("macro-F1", "macro_f1", 1),
    ("AUROC malignant", "auroc_malignant", 1),
    ("AP malignant", "average_precision_malignant", 1),
    ("ECE", "ece", -1),
    ("Brier", "brier", -1),
    ("AURC", "aurc", -1),
    ("set coverage", "set_coverage", 0),
    ("set size", "set_size", 0),
    ("predicted a class that is absent", "predicted_absent_class", -1),
)
"""(heading, figure, +1 higher is better, −1 lower is, 0 neither)."""
SEARCH_COLUMNS = (
    ("P@1", "precision@1"),
    ("P@5", "precision@5"),
    ("P@10", "precision@10"),
    ("hit rate@5", "hit_rate@5"),
    ("vote@5", "majority_vote@5"),
    ("mAP@5 found", "map@5_found"),
    ("mAP@5 possible", "map@5_possible"),
    ("mAP", "map_full"),
    ("R-precision", "r_precision"),
    ("nDCG@10 BI-RADS", "ndcg@10_birads"),
)
TITLES = {"label": "reference class", "birads": "BI-RADS category", "device": "scanner"}
HEADS = {
    "accuracy": "accuracy",
    "auroc_malignant": "AUROC malignant",
    "precision@5": "P@5",
    "map_full": "mAP",
}


def is_own(name: str) -> bool:
    """Whether a system is the project's own, by its name."""
    return not name.startswith(PEER) and any(part in name for part in OWN)


def prediction_table(systems: Sequence[ScoredSystem], part: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Headings and rows of a table of predictions; `part` is "classification" or "patients"; empty where it is not."""
    have = [s for s in systems if part in s.metrics]
    shown = [column for column in PREDICTION_COLUMNS if any(_value(s, part, column[1]) is not None for s in have)]
    heads = [*(title for title, _, _ in shown), "sens. / spec. at 90 % sens.", "sens. / spec. at 90 % spec."]
    best = {name: _best(have, part, name, sign) for _, name, sign in shown}
    rows = []
    for system in have:
        figures = system.metrics[part]
        cells: list[dict[str, Any] | None] = [_cell(figures.get(name), best=best[name]) for _, name, _ in shown]
        cells += [_point(figures, "sensitivity_90"), _point(figures, "specificity_90")]
        rows.append(_row(system, cells))
    return (heads, rows) if rows else ([], [])


def search_table(systems: Sequence[ScoredSystem]) -> tuple[list[str], list[dict[str, Any]], list[str]]:
    """Headings, rows, and the level of chance of each column."""
    have = [s for s in systems if "retrieval" in s.metrics]
    shown = [(t, n) for t, n in SEARCH_COLUMNS if any(_value(s, "retrieval", n) is not None for s in have)]
    best = {name: _best(have, "retrieval", name, 1) for _, name in shown}
    rows = [_row(s, [_cell(s.metrics["retrieval"].get(name), best=best[name]) for _, name in shown]) for s in have]
    chance = [_text(have[0].metrics["retrieval"].get(name, {}).get("chance")) for _, name in shown] if have else []
    return [title for title, _ in shown], rows, chance


def unlearnt_lines(systems: Sequence[ScoredSystem]) -> list[str]:
    """What each system predicted for scans of a class that it could not learn."""
    lines = []
    for system in systems:
        for name, figures in system.metrics["unlearnt"].items():
            shares = ", ".join(
                f"{100 * figures[f'called_{other}']:.0f} % {other}"
                for other in PATHOLOGIES
                if figures[f"called_{other}"]
            )
            lines.append(f"{system.metrics['system']['title']} calls the {figures['scans']} {name} scans {shares}")
    return lines


def robustness_tables(systems: Sequence[ScoredSystem]) -> list[dict[str, Any]]:
    """One table per system that was scored on corrupted scans."""
    words = {UNCHANGED: "as it is", **{c.name: c.description for c in CORRUPTIONS}}
    blocks = []
    for system in systems:
        by_corruption: Mapping[str, Any] = system.metrics.get("robustness", {})
        if not by_corruption:
            continue
        names = list(by_corruption[UNCHANGED])
        rows = [
            {"name": name, "description": words[name], "cells": [_changed(figures[n]) for n in names]}
            for name, figures in by_corruption.items()
        ]
        blocks.append({"title": system.metrics["system"]["title"], "heads": [HEADS[n] for n in names], "rows": rows})
    return blocks


def compared_rows(protocol: ScoredProtocol) -> tuple[list[str], list[dict[str, Any]], int]:
    """Headings and rows of the paired comparisons, and how many tests there are."""
    titles = {name: system.metrics["system"]["title"] for name, system in protocol.systems.items()}
    rows, tests = [], 0
    for pair in protocol.compared:
        cells: list[dict[str, Any] | None] = []
        for name in COMPARED:
            figure = pair["figures"].get(name)
            if figure is None:
                cells.append(None)
                continue
            tests += 1
            cells.append(
                {
                    "value": f"{figure['value']:+.3f}",
                    "interval": f"{figure['low']:+.3f} … {figure['high']:+.3f}",
                    "p": p_in_words(figure["p"]),
                    "sure": figure["p"] < 0.05,
                }
            )
        rows.append(
            {
                "pair": f"{titles[pair['one']]} – {titles[pair['other']]}",
                "cells": cells,
                "mcnemar": p_in_words(pair["mcnemar_p"]),
            }
        )
    return [HEADS[name] for name in COMPARED], rows, tests


def subset_tables(systems: Sequence[ScoredSystem]) -> list[dict[str, Any]]:
    """One table per property: class, BI-RADS category, scanner."""
    tables = []
    for kind, title in TITLES.items():
        subsets: dict[str, Any] = systems[0].metrics["subsets"].get(kind, {})
        if len(subsets) < 2:
            continue
        rows = [
            {
                "title": s.metrics["system"]["title"],
                "cells": [_lines(s.metrics["subsets"].get(kind, {}).get(value, {})) for value in subsets],
            }
            for s in systems
        ]
        heads = [{"value": value, "scans": part["scans"]} for value, part in subsets.items()]
        tables.append({"title": title, "heads": heads, "rows": rows})
    return tables


def _row(system: ScoredSystem, cells: Sequence[Any]) -> dict[str, Any]:
    about, counts = system.metrics["system"], system.metrics["counts"]
    seeds = "1 seed" if counts["seeds"] == 1 else f"{counts['seeds']} seeds"
    rounds = "1 round" if counts["rounds"] == 1 else f"{counts['rounds']} rounds"
    return {
        "title": about["title"],
        "description": about["description"],
        "own": is_own(system.name),
        "seeds": f"{seeds}, {rounds}",
        "cells": cells,
    }


def _cell(figure: Mapping[str, Any] | None, *, best: float | None) -> dict[str, Any] | None:
    if figure is None or figure["pooled"] is None:
        return None
    folds = "" if figure["sd"] is None else f"{figure['mean']:.3f} ± {figure['sd']:.3f}"
    return {
        "value": _text(figure["pooled"]),
        "interval": "" if figure["low"] is None else f"{figure['low']:.3f}–{figure['high']:.3f}",
        "folds": folds,
        "best": best is not None and math.isclose(figure["pooled"], best),
    }


def _point(figures: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    sensitivity, specificity = (figures[f"{kind}_at_{name}"] for kind in ("sensitivity", "specificity"))
    if sensitivity["pooled"] is None or specificity["pooled"] is None:
        return None
    return {
        "value": f"{sensitivity['pooled']:.2f} / {specificity['pooled']:.2f}",
        "interval": f"{_range(sensitivity)} / {_range(specificity)}",
        "folds": "",
        "best": False,
    }


def _range(figure: Mapping[str, Any]) -> str:
    return "" if figure["low"] is None else f"{figure['low']:.2f}–{figure['high']:.2f}"


def _changed(figure: Mapping[str, Any]) -> dict[str, Any]:
    if "change" not in figure:
        return {"value": _text(figure["value"]), "change": "", "worse": False}
    return {
        "value": _text(figure["value"]),
        "change": f"{figure['change']:+.3f} ({figure['change_low']:+.3f} … {figure['change_high']:+.3f})",
        "worse": figure["change_high"] < 0,
    }


def _lines(part: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, figure in part.items():
        if isinstance(figure, Mapping) and figure.get("value") is not None:
            chance = f", chance {figure['chance']:.2f}" if figure.get("chance") is not None else ""
            span = f" ({figure['low']:.2f}–{figure['high']:.2f}{chance})" if figure["low"] is not None else ""
            lines.append(f"{HEADS.get(name, name.replace('majority_', ''))} {figure['value']:.3f}{span}")
    return lines


def _best(systems: Sequence[ScoredSystem], part: str, name: str, sign: int) -> float | None:
    values = [v for s in systems if (v := _value(s, part, name)) is not None]
    if not sign or len(values) < 2:
        return None
    return max(values) if sign > 0 else min(values)


def _value(system: ScoredSystem, part: str, name: str) -> float | None:
    value: float | None = system.metrics[part].get(name, {}).get("pooled")
    return value


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def p_in_words(value: float | None) -> str:
    """A p-value; "–" where none is known."""
    if value is None:
        return "–"
    return "≤ 0.001" if value <= 0.001 else f"{value:.3f}"
