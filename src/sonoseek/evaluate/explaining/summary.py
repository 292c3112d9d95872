"""From rows to figures: means with intervals by drawing groups, per method, class and lesion size; and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, ResultsError
from sonoseek.evaluate.bootstrap import RESAMPLES, group_weights, interval, paired_difference
from sonoseek.evaluate.explaining.rows import OWN, MapRow, OutlineRow, PairRow
from sonoseek.evaluate.files import ABOUT, SCORES, read_about
from sonoseek.evaluate.tables import locked, read_systems, write_json

FOLDER = "explanations"
"""Of its results, and of its files while it is under way."""
MAPS, PAIRS, OUTLINES = "maps.csv.bz2", "pairs.csv.bz2", "outlines.csv.bz2"
ON_LESIONS = ("inside", "with_shadow", "pointing", "iou")
ON_THE_NETWORK = ("insertion", "deletion", "road", "randomised", "other_class", "shifted", "gained")
HIGHER = {"insertion": True, "deletion": False, "road": False, "inside": True, "pointing": True, "iou": True}
"""Which way a figure is better."""
SIZES = ("small", "medium", "large")
"""Thirds of the tested lesions by their share of the scan."""
Floats = NDArray[np.float64]


def rescore_explanations(root: Path, *, only: str = "*") -> dict[str, dict[str, Any]]:
    """Every explanation's figures under a folder of results again, from rows alone; each `scores.json` is replaced.

    Args:
        root: that holds `explanations/<protocol>/`.
        only: one protocol's name; by default all.

    Returns:
        "<protocol>/<system>" → "protocol", what the system is and what made its rows, and figures as `summarise` gives
        them; {} where there are none.

    Raises:
        ResultsError: files that are missing, do not read, or contradict each other.
    """
    scores: dict[str, dict[str, Any]] = {}
    for folder in [file.parent for file in sorted(root.glob(f"{FOLDER}/{only}/{MAPS}"))]:
        with locked(folder):
            about = read_about(folder)
            maps = read_systems(folder / MAPS, MapRow)
            pairs, outlines = read_systems(folder / PAIRS, PairRow), read_systems(folder / OUTLINES, OutlineRow)
            if stray := maps.keys() ^ about["systems"].keys():
                raise ResultsError(
                    f"{folder}: the system {min(stray)!r} stands in {MAPS} or {ABOUT} but not in both. Evaluate again."
                )
            systems = {
                name: {**about["systems"][name], **summarise(rows, pairs.get(name, ()), outlines.get(name, ()))}
                for name, rows in maps.items()
            }
            write_json(folder / SCORES, {"protocol": about["protocol"], "systems": systems}, depth=6)
        scores |= {f"{folder.name}/{n}": {"protocol": about["protocol"], **figures} for n, figures in systems.items()}
    return scores


def summarise(
    maps: Sequence[MapRow], pairs: Sequence[PairRow] = (), outlines: Sequence[OutlineRow] = ()
) -> dict[str, Any]:
    """Figures of one system's rows.

    Returns:
        "maps": target → method → figure → {mean, low, high, n}, with "by_label" and "by_size" beneath, and "by_dataset"
        where there are several; "against":
        peer → figure → {difference, low, high, p}; "pairs": side → method → figures; "outlines"; "exactness";
        "size_limits".
    """
    limits = _size_limits(maps)
    by_target: dict[str, Any] = {}
    for target in dict.fromkeys(row.target for row in maps):
        those = [row for row in maps if row.target == target]
        by_target[target] = {
            method: _of_method([row for row in those if row.method == method], limits)
            for method in dict.fromkeys(row.method for row in those)
        }
    return {
        "maps": by_target,
        "against": _against([row for row in maps if row.target == "prediction"]),
        "pairs": _of_pairs(pairs),
        "outlines": _of_outlines(outlines),
        "exactness": {
            "class": _worst([row.error for row in maps]),
            "pair": _worst([row.error for row in pairs]),
        },
        "size_limits": [round(limit, 4) for limit in limits],
    }


def _of_method(rows: Sequence[MapRow], limits: tuple[float, float]) -> dict[str, Any]:
    names = (*ON_LESIONS, *ON_THE_NETWORK)
    figures: dict[str, Any] = _figures(rows, names)
    figures["by_label"] = {
        label: _figures([row for row in rows if row.label == label], names)
        for label in PATHOLOGIES
        if any(row.label == label for row in rows)
    }
    archives = {row.scan: row.scan.partition("/")[0] for row in rows if "/" in row.scan}
    if len(archive_names := sorted(set(archives.values()))) > 1:
        figures["by_dataset"] = {
            name: _figures([row for row in rows if archives.get(row.scan) == name], names) for name in archive_names
        }
    figures["by_size"] = {
        size: _figures([row for row in rows if row.area > 0 and _size(row.area, limits) == size], ON_LESIONS)
        for size in SIZES
    }
    return figures


def _figures(rows: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    figures = {}
    for name in names:
        values = np.array([getattr(row, name) for row in rows], np.float64)
        if (figure := _mean(values, [row.group for row in rows])) is not None:
            figures[name] = figure
    return figures


def _mean(values: Floats, groups: Sequence[str]) -> Any:
    """A mean over scans with its interval by groups; None where nothing was measured."""
    known = np.isfinite(values)
    if not known.any():
        return None
    values, known_groups = values[known], [group for group, is_known in zip(groups, known, strict=True) if is_known]
    low, high = interval(_resampled(values, known_groups))
    return {"mean": _round(values.mean()), "low": _round(low), "high": _round(high), "n": int(values.size)}


def _resampled(values: Floats, groups: Sequence[str]) -> Floats:
    """(resamples,) means, groups drawn with replacement."""
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(place, weights=values, minlength=names.size)
    counts = np.bincount(place, minlength=names.size).astype(np.float64)
    weights = group_weights(names.size, resamples=RESAMPLES)
    means: Floats = (weights @ sums) / np.maximum(weights @ counts, 1e-12)
    return means


def _against(rows: Sequence[MapRow]) -> dict[str, Any]:
    """Our map minus each other method's on the same scans; p by drawing groups, two-sided."""
    own = {row.scan: row for row in rows if row.method == OWN}
    differences: dict[str, Any] = {}
    for method in dict.fromkeys(row.method for row in rows if row.method != OWN):
        by_figure: dict[str, Any] = {}
        for figure, higher in HIGHER.items():
            both = [
                (getattr(own[row.scan], figure), getattr(row, figure), row.group)
                for row in rows
                if row.method == method and np.isfinite(getattr(row, figure))
            ]
            if not both:
                continue
            ours, theirs = (np.array([pair[side] for pair in both], np.float64) for side in (0, 1))
            groups = [pair[2] for pair in both]
            difference = paired_difference(
                _resampled(ours, groups), _resampled(theirs, groups), value=float(ours.mean() - theirs.mean())
            )
            by_figure[figure] = {
                "difference": _round(difference.value),
                "low": _round(difference.low),
                "high": _round(difference.high),
                "p": _round(difference.p),
                "better": bool((difference.value > 0) == higher and difference.value != 0),
                "n": len(both),
            }
        differences[method] = by_figure
    return differences


def _of_pairs(rows: Sequence[PairRow]) -> dict[str, Any]:
    """The fall of the similarity by the map's choice, by chance, and how many times larger the first is."""
    figures: dict[str, Any] = {}
    for side in dict.fromkeys(row.side for row in rows):
        figures[side] = {}
        for method in dict.fromkeys(row.method for row in rows if row.side == side):
            those = [row for row in rows if row.side == side and row.method == method]
            groups = [row.group for row in those]
            chosen, chance = (np.array([getattr(row, name) for row in those]) for name in ("chosen", "random"))
            ratios = _resampled(chosen, groups) / np.maximum(_resampled(chance, groups), 1e-9)
            low, high = interval(ratios)
            ratio = float(chosen.mean() / max(float(chance.mean()), 1e-9))
            figures[side][method] = {
                "chosen": _mean(chosen, groups),
                "random": _mean(chance, groups),
                "ratio": {"mean": _round(ratio), "low": _round(low), "high": _round(high), "n": len(those)},
            }
    return figures


def _of_outlines(rows: Sequence[OutlineRow]) -> dict[str, Any]:
    """How far estimates are from masks: medians of ratios, and of how far they miss either way."""
    if not rows:
        return {}
    drawn = [row for row in rows if row.drawn > 0]
    figures: dict[str, Any] = {"n": len(rows), "drawn": len(drawn), **_figures(drawn, ("dice", "taller"))}
    for name in ("longest", "shortest", "area"):
        ratios = np.array([getattr(row, name) for row in drawn], np.float64)
        ratios = ratios[np.isfinite(ratios)]
        if ratios.size:
            figures[name] = {
                "median_ratio": _round(np.median(ratios)),
                "median_error": _round(np.median(np.abs(ratios - 1))),
                "within_a_quarter": _round(np.mean(np.abs(ratios - 1) <= 0.25)),
            }
    depth = np.array([row.depth for row in drawn], np.float64)
    if depth.size:
        figures["depth"] = {"median_error": _round(np.median(np.abs(depth)))}
    return figures


def _size_limits(rows: Sequence[MapRow]) -> tuple[float, float]:
    areas = np.array(list({row.scan: row.area for row in rows if row.area > 0}.values()))
    if not areas.size:
        return (0.0, 0.0)
    low, high = np.quantile(areas, [1 / 3, 2 / 3])
    return float(low), float(high)


def _size(area: float, limits: tuple[float, float]) -> str:
    return SIZES[int(area > limits[0]) + int(area > limits[1])]


def _worst(errors: Sequence[float]) -> float | None:
    known = [error for error in errors if np.isfinite(error)]
    return float(f"{max(known):.2e}") if known else None


def _round(value: Any) -> float:
    return round(float(value), 5)


def figure_of(content: Mapping[str, Any], *keys: str) -> Mapping[str, Any] | None:
    """A figure deep in the result of `summarise`, or None."""
    value: Any = content
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value if isinstance(value, Mapping) else None
