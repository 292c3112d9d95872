"""Measure every test scan's heatmaps in every round of a protocol; a stopped run is continued."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sonoseek.core import ResultsError
from sonoseek.core.arrays import unit_rows
from sonoseek.core.cores import available_cores
from sonoseek.core.files import write_atomically
from sonoseek.encoder import load_bundle, open_encoder
from sonoseek.evaluate.context import BenchmarkContext
from sonoseek.evaluate.explaining.cost import measure_cost
from sonoseek.evaluate.explaining.perturbation import OpenPeers
from sonoseek.evaluate.explaining.rows import MapRow, OutlineRow, PairRow
from sonoseek.evaluate.explaining.scan import MapEvaluator, MeasuredScan, ScanMeasures, pick_thorough
from sonoseek.evaluate.explaining.summary import FOLDER, MAPS, OUTLINES, PAIRS, rescore_explanations
from sonoseek.evaluate.files import place_about
from sonoseek.evaluate.run import StepProgress, _no_progress, about_system, open_tasks
from sonoseek.evaluate.systems.base import LabelledScan, System, Task
from sonoseek.evaluate.systems.bundle import FittedBundle
from sonoseek.evaluate.tables import locked, place_rows, write_json

COST = "cost.json"
THOROUGH = 12
"""Scans per class and round on which the slow measures are taken."""
CHUNK = 6
"""Scans per piece of work: what is lost at most when a run is stopped."""


def explain_rounds(
    context: BenchmarkContext,
    system: System,
    *,
    runs: Path,
    out: Path,
    per_class: int = THOROUGH,
    every: int = 1,
    rise_masks: int = 1000,
    open_peers: OpenPeers | None = None,
    command: str = "",
    on_progress: StepProgress | None = None,
) -> Path:
    """Measure the heatmaps of every round's network on that round's test scans.

    Masks are read here, to score; what is scored never sees them. A round's network is the one that the context's own
    protocol trains: `runs/<protocol>/<system>/…`, shared with `evaluate`.

    Args:
        context: the protocol, opened and guarded.
        system: that trains, or opens, one bundle per round.
        runs: folder for what is under way.
        out: folder for results: `out/explanations/<protocol>/`.
        per_class: scans per class and round on which the slow measures are taken (perturbation methods, insertion,
            deletion, ROAD, sanity of peers, pairs); 0: none, and the cost is not measured either.
        every: measure the scans of every Nth group alone, in the order of the groups' names.
        rise_masks: masks of RISE.
        open_peers: gives the gradient methods of a bundle's network; None: without them.
        command: that made this, for `about.json`.
        on_progress: (what, done, total).

    Returns:
        The protocol's folder of results.

    Raises:
        ResultsError: a system that is no bundle; no test scan has a mask.
        SplitError: more than half of the test scans of another archive are scans that the bundle has learnt from.
        SplitError, BundleError, …: as the system raises them.
    """
    progress = on_progress or _no_progress
    context, tasks = open_tasks(context, system, runs=runs)
    system.prepare(tasks, on_progress=lambda done, total: progress("learning", done, total))
    opened = []
    measures: list[ScanMeasures] = []
    identities: list[str] = []
    cost: dict[str, float] = {}
    for task in tasks:
        fitted = system.fit(task)
        if not isinstance(fitted, FittedBundle):
            raise ResultsError(
                f"{system.name} has no bundle; heatmaps are measured of bundles. Name a recipe, or --bundle."
            )
        cases = _cases(context, task, fitted, per_class=per_class, every=every, progress=progress)
        opened.append((task, fitted, [replace(case, rise_masks=rise_masks) for case in cases]))
    if not any(case.mask is not None for _, _, cases in opened for case in cases):
        raise ResultsError(
            f"no test scan of {context.protocol.name} has a lesion mask; heatmaps cannot be scored on it."
        )
    for task, fitted, cases in opened:
        place = runs / FOLDER / context.protocol.name / system.name / task.round_.label
        step = f"{task.round_.label}: explaining"
        measures += _measured(cases, fitted, place=place, open_peers=open_peers, progress=partial(progress, step))
        identities.append(fitted.identity)
        if per_class and not cost:
            cost = _cost(place / COST, cases, fitted, open_peers)
    target = out / FOLDER / context.protocol.name
    about = about_system(
        context, system, command=command, bundles=identities, thorough_per_class=per_class, every=every
    )
    protocol = {name: getattr(context.protocol, name) for name in ("name", "title", "description", "exclusions")}
    with locked(target):
        place_rows(target / MAPS, MapRow, (row for each in measures for row in each.maps), system=system.name)
        place_rows(target / PAIRS, PairRow, (row for each in measures for row in each.pairs), system=system.name)
        place_rows(
            target / OUTLINES, OutlineRow, (row for each in measures for row in each.outlines), system=system.name
        )
        place_about(target, protocol=protocol, name=system.name, about={**about, "cost": cost})
    rescore_explanations(out, only=context.protocol.name)
    return target


def _cost(
    file: Path, cases: Sequence[MeasuredScan], fitted: FittedBundle, open_peers: OpenPeers | None
) -> dict[str, float]:
    """Measured once per bundle, while nothing else runs here."""
    of = {"bundle": fitted.identity, "peers": open_peers is not None}
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["of"] == of:
            return {str(name): float(ratio) for name, ratio in stored["cost"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    ratios = measure_cost(fitted.encoder, cases, open_peers and open_peers(fitted.bundle.path))
    write_json(file, {"of": of, "cost": ratios})
    return ratios


def _cases(
    context: BenchmarkContext,
    task: Task,
    fitted: FittedBundle,
    *,
    per_class: int,
    every: int,
    progress: StepProgress,
) -> list[MeasuredScan]:
    """The test side, with masks to score by and, for some, the best match of the training side."""
    round_ = task.round_
    test = context.samples(round_.test)
    groups = context.group_of(test)
    measured = set(sorted(set(groups.values()))[::every])
    test = [sample for sample in test if groups[sample.name] in measured]
    slow = pick_thorough(test, per_class=per_class)
    matches = _best_matches(context, task, fitted, [s for s in test if s.name in slow], progress=progress)
    return [
        MeasuredScan(
            fold=round_.fold,
            sample=sample,
            group=groups[sample.name],
            mask=_mask(context, sample),
            thorough=sample.name in slow,
            match=matches.get(sample.name),
        )
        for sample in test
    ]


def _mask(context: BenchmarkContext, sample: LabelledScan):  # type: ignore[no-untyped-def]
    case = context.datasets[sample.record.dataset].load(sample.record.case_id)
    for scan, mask in zip(case.scans, case.lesion_masks, strict=True):
        if scan.scan_id == sample.scan.scan_id:
            return mask if mask is not None and mask.any() else None
    return None


def _best_matches(
    context: BenchmarkContext,
    task: Task,
    fitted: FittedBundle,
    queries: Sequence[LabelledScan],
    *,
    progress: StepProgress,
) -> dict[str, LabelledScan]:
    gallery = context.samples(task.round_.gallery)
    if not gallery or not queries:
        return {}
    label = task.round_.label
    gallery_units = unit_rows(
        fitted.predict(gallery, on_progress=lambda d, t: progress(f"{label}: gallery", d, t)).embeddings
    )
    query_units = unit_rows(fitted.predict(queries).embeddings)
    best = np.argmax(query_units @ gallery_units.T, axis=1)
    return {query.name: gallery[int(row)] for query, row in zip(queries, best, strict=True)}


def _measured(
    cases: Sequence[MeasuredScan],
    fitted: FittedBundle,
    *,
    place: Path,
    open_peers: OpenPeers | None,
    progress: Callable[[int, int], None],
) -> list[ScanMeasures]:
    """Measure in pieces, on all cores; finished pieces of the same bundle are read instead."""
    pieces = [cases[start : start + CHUNK] for start in range(0, len(cases), CHUNK)]
    place.mkdir(parents=True, exist_ok=True)
    files = [place / f"piece-{number:04d}.json" for number in range(len(pieces))]
    marks = [_mark(piece, fitted.identity, peers=open_peers is not None) for piece in pieces]
    results = [_stored_piece(file, mark) for file, mark in zip(files, marks, strict=True)]
    done = sum(len(piece) for piece, measures in zip(pieces, results, strict=True) if measures is not None)
    progress(done, len(cases))
    waiting = [number for number, measures in enumerate(results) if measures is None]
    if waiting:
        cores = available_cores()
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(cores, len(waiting)), mp_context=context, initializer=_begin) as pool:
            futures = {
                number: pool.submit(_piece, fitted.bundle.path, open_peers, pieces[number]) for number in waiting
            }
            for number, future in futures.items():
                results[number] = future.result()
                _store_piece(files[number], marks[number], results[number] or [])
                done += len(pieces[number])
                progress(done, len(cases))
    return [measures for piece in results for measures in piece or []]


def _begin() -> None:
    """One core each: work is spread over processes."""
    import cv2

    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of what is loaded from here on, torch included


@lru_cache(maxsize=1)
def _map_evaluator(bundle: Path, open_peers: OpenPeers | None) -> MapEvaluator:
    return MapEvaluator(
        open_encoder(load_bundle(bundle), threads=1), None if open_peers is None else open_peers(bundle)
    )


def _piece(bundle: Path, open_peers: OpenPeers | None, cases: Sequence[MeasuredScan]) -> list[ScanMeasures]:
    evaluator = _map_evaluator(bundle, open_peers)
    return [evaluator.measure(case) for case in cases]


def _mark(cases: Sequence[MeasuredScan], identity: str, *, peers: bool) -> dict[str, Any]:
    """What a finished piece must be of."""
    return {
        "bundle": identity,
        "peers": peers,
        "masks": max(case.rise_masks for case in cases),
        "scans": [
            [c.sample.scan.scan_id, c.thorough, None if c.match is None else c.match.scan.scan_id] for c in cases
        ],
    }


def _store_piece(file: Path, mark: dict[str, Any], measures: Sequence[ScanMeasures]) -> None:
    write_atomically(file, json.dumps({"of": mark, "measures": msgspec.to_builtins(measures)}))  # with NaN


def _stored_piece(file: Path, mark: dict[str, Any]) -> list[ScanMeasures] | None:
    """A finished piece; None where there is none, or one of something else."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["of"] != mark:
            return None
        return msgspec.convert(content["measures"], list[ScanMeasures])
    except (OSError, ValueError, KeyError, TypeError):
        return None
