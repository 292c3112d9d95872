"""`sonoseek explain`: one scan in, its heatmaps out as pictures and numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sonoseek.apps.cli.query import Bundle, Gallery, Lesion, parse_box
from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.core.files import write_atomically

if TYPE_CHECKING:
    from sonoseek.core import Contour, Explanation, Match
    from sonoseek.engine import EncodedScan, SearchEngine


def explain(
    scan: Annotated[Path, typer.Argument(help="DICOM, PNG, JPEG, BMP or TIFF.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures and numbers; made if need be.")],
    method: Annotated[
        str,
        typer.Option("--method", "-m", help="class_evidence, pair_evidence, occlusion, rise or sbsm."),
    ] = "class_evidence",
    target: Annotated[str | None, typer.Option(help="Class to explain; by default the likeliest.")] = None,
    gallery: Gallery = None,
    k: Annotated[int, typer.Option("-k", min=1, help="With --gallery: how many matches to explain.")] = 3,
    match: Annotated[int | None, typer.Option(min=1, help="With --gallery: only the match of this rank.")] = None,
    lesion: Lesion = None,
    frame: Annotated[int, typer.Option(min=0, help="Frame of a multi-frame file, from 0.")] = 0,
    calibration: Annotated[
        bool,
        typer.Option(help="Predict by the gallery's own calibration, where `calibrate` stored one; else the bundle's."),
    ] = True,
    bundle: Bundle = None,
) -> None:
    """Show which pixels a prediction, or a match, rests on: PNG, .npz and the outline as JSON."""
    from sonoseek.engine import open_engine
    from sonoseek.explain import METHODS, draw_contour
    from sonoseek.io import read_scan
    from sonoseek.reports.phrases import percent

    if method not in METHODS:
        raise NotFoundError(f"no method is called {method!r}; there are: {', '.join(METHODS)}.")
    if gallery is None and (match is not None or method in ("pair_evidence", "sbsm")):
        raise InvalidValueError(f"--method {method} and --match explain a match; name the --gallery to look in.")
    pairs = gallery is not None and method != "class_evidence"
    if pairs and target is not None:
        raise InvalidValueError("--target names a class, and a match is to be explained; leave one of the two out.")
    mark = None if lesion is None else parse_box("--lesion", lesion)
    asked = read_scan(scan, frame=frame)
    with open_engine(gallery, bundle=bundle, calibration=calibration) as engine:
        reading = engine.read(asked, lesion=mark)
        out.mkdir(parents=True, exist_ok=True)
        if not pairs:
            told = _with_bar(engine, reading, method=method, target=target)
            outline = draw_contour(told, spacing_mm=asked.spacing_mm)
            said = reading.prediction.probabilities.get(told.target, 0.0)
            _write_map(out, told, reading=reading, engine=engine, contour=outline, caption=percent(said))
        if gallery is not None and method in ("class_evidence", *_OF_PAIRS):
            how = "pair_evidence" if method == "class_evidence" else method
            for found in _matches(engine, reading, k=k, rank=match):
                _write_pair(out, engine, reading, found, method=how)


_OF_PAIRS = ("pair_evidence", "sbsm", "occlusion", "rise")


def _with_bar(engine: SearchEngine, reading: EncodedScan, **wanted: Any) -> Explanation:
    from sonoseek.apps.cli.show import progress_bar
    from sonoseek.explain import EXACT

    if wanted["method"] in EXACT:
        return engine.explain(reading, **wanted)
    with progress_bar(wanted["method"], unit="questions") as bar:
        return engine.explain(reading, **wanted, on_progress=bar)


def _matches(engine: SearchEngine, reading: EncodedScan, *, k: int, rank: int | None) -> list[Match]:
    report = engine.query(reading, k=max(k, rank or 0))
    if rank is None:
        return list(report.matches)
    if rank > len(report.matches):
        raise NotFoundError(f"there is no match {rank}: the search found {len(report.matches)}. Give a lower --match.")
    return [report.matches[rank - 1]]


def _write_map(
    out: Path, told: Explanation, *, reading: EncodedScan, engine: SearchEngine, contour: Contour | None, caption: str
) -> None:
    from sonoseek.reports.overlay import Panel, overlay_png
    from sonoseek.reports.phrases import signed

    name = f"{told.method}-{told.target}"
    panel = Panel(
        pixels=reading.scan.pixels,
        explanation=told,
        title=f"{told.target}, {caption}: {told.method.replace('_', ' ')}",
        contour=contour,
        spacing_mm=reading.scan.spacing_mm,
    )
    split = f"pixels sum to {signed(told.value - told.bias)}, with the bias {signed(told.bias)} the logit"
    judged = "asked from outside: a judgement, not a sum"
    caption = f"{split if told.exact else judged}; dashed: outline of the evidence, an estimate"
    _write(out / f"{name}.png", overlay_png(panel, caption=caption))
    _write_numbers(out / f"{name}.npz", told, reading=reading, engine=engine)
    if contour is not None:
        _write(out / f"{name}.contour.json", (json.dumps(_plain(contour), indent=1) + "\n").encode())


def _write_pair(out: Path, engine: SearchEngine, reading: EncodedScan, match: Match, *, method: str) -> None:
    """Query and match side by side; the match's side where the gallery keeps what it needs, and the method is exact."""
    import cv2
    import numpy as np

    from sonoseek.reports.overlay import Panel, overlay_png
    from sonoseek.reports.phrases import signed

    if engine.gallery is None:  # for the type checker: the caller has looked
        return
    entry = engine.gallery.get(match.scan_id)
    if entry is None:
        return
    told = _with_bar(engine, reading, method=method, match=entry)
    panels = [
        Panel(
            pixels=reading.scan.pixels,
            explanation=told,
            title=f"this scan: like match {match.rank}",
            spacing_mm=reading.scan.spacing_mm,
        )
    ]
    if match.explanation is not None and entry.picture is not None and method == "pair_evidence":
        picture = cv2.imdecode(np.frombuffer(entry.picture, np.uint8), cv2.IMREAD_GRAYSCALE)
        panels.append(
            Panel(
                pixels=np.asarray(picture, np.uint8),
                explanation=match.explanation,
                title=f"match {match.rank}, {match.label}: like this scan",
                spacing_mm=entry.spacing_mm,
            )
        )
    name = f"{method}-match-{match.rank:02d}"
    caption = f"similarity {signed(match.similarity).lstrip('+')}, {match.dataset} / {match.case_id}"
    _write(out / f"{name}.png", overlay_png(*panels, caption=caption))
    _write_numbers(out / f"{name}.npz", told, reading=reading, engine=engine, other=match.explanation)


def _write_numbers(
    path: Path, told: Explanation, *, reading: EncodedScan, engine: SearchEngine, other: Explanation | None = None
) -> None:
    """Everything raw: `heatmap` float32 (H, W) on the scan's grid, `cells`, and what they are of."""
    import io

    import numpy as np

    held = io.BytesIO()
    spacing = reading.scan.spacing_mm
    beside: dict[str, Any] = {}
    if other is not None:
        beside = {"match_heatmap": other.heatmap, "match_cells": other.cells}
    np.savez_compressed(
        held,
        heatmap=told.heatmap,
        cells=told.cells,
        value=told.value,
        bias=told.bias,
        exact=told.exact,
        method=told.method,
        target=told.target,
        scan_id=reading.scan.scan_id,
        spacing_mm=np.array(spacing if spacing is not None else (np.nan, np.nan)),
        bundle_id=engine.bundle.bundle_id,
        **beside,
    )
    _write(path, held.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    write_atomically(path, content)
    typer.echo(f"written: {path}", err=True)


def _plain(contour: Contour) -> dict[str, Any]:
    from dataclasses import asdict

    told = {name: value for name, value in asdict(contour).items() if name != "points"}
    points = [[round(float(row), 2), round(float(column), 2)] for row, column in contour.points]
    return {"estimate": True, **told, "taller_than_wide": contour.taller_than_wide, "points": points}
