"""`sonoseek explain`: one scan in, its heatmaps out as pictures and numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sonoseek.apps.cli.options import Bundle, Calibration
from sonoseek.apps.cli.query import Gallery, Lesion, parse_box
from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.core.files import PRIVATE, make_private_folder, write_atomically

if TYPE_CHECKING:
    from sonoseek.core import Contour, Explanation, Match, Report
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
    calibration: Calibration = True,
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
    explains_class = gallery is None or method == "class_evidence"
    if not explains_class and target is not None:
        raise InvalidValueError("--target names a class, and a match is to be explained; leave one of the two out.")
    box = None if lesion is None else parse_box("--lesion", lesion)
    pixels = read_scan(scan, frame=frame)
    with open_engine(gallery, bundle=bundle, calibration=calibration) as engine:
        encoded = engine.read(pixels, lesion=box)
        make_private_folder(out)
        if explains_class:
            explanation = _with_bar(engine, encoded, method=method, target=target)
            contour = draw_contour(explanation, spacing_mm=pixels.spacing_mm)
            caption = percent(encoded.prediction.probabilities.get(explanation.target, 0.0))
            _write_class(out, explanation, encoded=encoded, engine=engine, contour=contour, caption=caption)
        if gallery is not None:
            method = "pair_evidence" if method == "class_evidence" else method
            report = engine.query(encoded, k=max(k, match or 0), explain_matches=method == "pair_evidence")
            for each in _chosen(report, rank=match):
                _write_match(out, engine, encoded, report, each, method=method)


def _with_bar(engine: SearchEngine, encoded: EncodedScan, **options: Any) -> Explanation:
    from sonoseek.apps.cli.show import progress_bar
    from sonoseek.explain import EXACT

    if options["method"] in EXACT:
        return engine.explain(encoded, **options)
    with progress_bar(options["method"], unit="perturbed scans") as bar:
        return engine.explain(encoded, **options, on_progress=bar)


def _chosen(report: Report, *, rank: int | None) -> tuple[Match, ...]:
    """All matches, or the one of a rank."""
    if rank is None:
        return report.matches
    if rank > len(report.matches):
        raise NotFoundError(f"there is no match {rank}: the search found {len(report.matches)}. Give a lower --match.")
    return (report.matches[rank - 1],)


def _write_class(
    out: Path,
    explanation: Explanation,
    *,
    encoded: EncodedScan,
    engine: SearchEngine,
    contour: Contour | None,
    caption: str,
) -> None:
    from sonoseek.reports.overlay import Panel, overlay_png
    from sonoseek.reports.phrases import signed

    name = f"{explanation.method}-{explanation.target}"
    panel = Panel(
        pixels=encoded.scan.pixels,
        explanation=explanation,
        title=f"{explanation.target}, {caption}: {explanation.method.replace('_', ' ')}",
        contour=contour,
        spacing_mm=encoded.scan.spacing_mm,
    )
    pixel_sum = f"pixels sum to {signed(explanation.value - explanation.bias)}"
    exact = f"{pixel_sum}, with the bias {signed(explanation.bias)} the logit"
    estimated = "by perturbation: an estimate, not a sum"
    caption = f"{exact if explanation.exact else estimated}; dashed: outline of the evidence, an estimate"
    _write(out / f"{name}.png", overlay_png(panel, caption=caption))
    _write_numbers(out / f"{name}.npz", explanation, encoded=encoded, engine=engine)
    if contour is not None:
        _write(out / f"{name}.contour.json", (json.dumps(_plain(contour), indent=1) + "\n").encode())


def _write_match(
    out: Path, engine: SearchEngine, encoded: EncodedScan, report: Report, match: Match, *, method: str
) -> None:
    """Query and match side by side; the match's side if the gallery stores its evidence and the method is exact."""
    import cv2
    import numpy as np

    from sonoseek.reports.overlay import Panel, overlay_png
    from sonoseek.reports.phrases import signed

    entry = None if engine.gallery is None else engine.gallery.get(match.scan_id)
    if entry is None:  # another process has removed it since the search
        return
    pair = report.pair(match.rank) if method == "pair_evidence" else None  # the report has both sides already
    on_scan, on_match = pair or (_with_bar(engine, encoded, method=method, match=entry), None)
    panels = [
        Panel(
            pixels=encoded.scan.pixels,
            explanation=on_scan,
            title=f"this scan: like match {match.rank}",
            spacing_mm=encoded.scan.spacing_mm,
        )
    ]
    if on_match is not None and entry.picture is not None:
        picture = cv2.imdecode(np.frombuffer(entry.picture, np.uint8), cv2.IMREAD_GRAYSCALE)
        panels.append(
            Panel(
                pixels=np.asarray(picture, np.uint8),
                explanation=on_match,
                title=f"match {match.rank}, {match.label}: like this scan",
                spacing_mm=entry.spacing_mm,
            )
        )
    name = f"{method}-match-{match.rank:02d}"
    caption = f"similarity {signed(match.similarity).lstrip('+')}, {match.dataset} / {match.case_id}"
    _write(out / f"{name}.png", overlay_png(*panels, caption=caption))
    _write_numbers(out / f"{name}.npz", on_scan, encoded=encoded, engine=engine, on_match=on_match)


def _write_numbers(
    path: Path,
    explanation: Explanation,
    *,
    encoded: EncodedScan,
    engine: SearchEngine,
    on_match: Explanation | None = None,
) -> None:
    """Raw numbers: `heatmap` float32 (H, W) on the scan's grid, `cells`, and their scan, target and bundle."""
    import io

    import numpy as np

    content = io.BytesIO()
    spacing = encoded.scan.spacing_mm
    match_maps: dict[str, Any] = {}
    if on_match is not None:
        match_maps = {"match_heatmap": on_match.heatmap, "match_cells": on_match.evidence_map}
    np.savez_compressed(
        content,
        heatmap=explanation.heatmap,
        cells=explanation.evidence_map,
        value=explanation.value,
        bias=explanation.bias,
        exact=explanation.exact,
        method=explanation.method,
        target=explanation.target,
        scan_id=encoded.scan.scan_id,
        spacing_mm=np.array(spacing if spacing is not None else (np.nan, np.nan)),
        bundle_id=engine.bundle.bundle_id,
        **match_maps,
    )
    _write(path, content.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    write_atomically(path, content, mode=PRIVATE)
    typer.echo(f"written: {path}", err=True)


def _plain(contour: Contour) -> dict[str, Any]:
    from dataclasses import asdict

    fields = {name: value for name, value in asdict(contour).items() if name != "points"}
    points = [[round(float(row), 2), round(float(column), 2)] for row, column in contour.points]
    return {"estimate": True, **fields, "taller_than_wide": contour.taller_than_wide, "points": points}
