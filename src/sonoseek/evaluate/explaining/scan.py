"""Everything that is measured of one scan: its maps by every method, its best match's pair maps, its outline."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, Contour, Explanation, Scan
from sonoseek.encoder import Encoder
from sonoseek.engine import EncodedScan, SearchEngine
from sonoseek.evaluate.calibrate import softmax
from sonoseek.evaluate.explaining.faithfulness import curves, road, similarity_drops
from sonoseek.evaluate.explaining.localisation import localise
from sonoseek.evaluate.explaining.perturbation import (
    Cells,
    NetworkInput,
    Peers,
    centre,
    correlation,
    network_input_of,
    noise,
    rank_correlation,
    ranked,
)
from sonoseek.evaluate.explaining.rows import OWN, OWN_PAIR, MapRow, OutlineRow, PairRow
from sonoseek.evaluate.systems.base import LabelledScan
from sonoseek.explain import PERTURBATION, draw_contour, pair_evidence
from sonoseek.explain.upsample import plan

CHEAP = ("grad-cam", "hirescam")
"""Peers that explain every scan; the others only the thorough ones."""
SHIFT = 6
"""Pixels, down and across, by which a scan is shifted to see whether its map follows."""
GAIN = 1.1
"""Factor on grey values of a scan that was recorded brighter."""
SHARE = 0.1
"""Of the cells, taken away to see a similarity fall."""
DRAWS = 5
"""Random choices beside each chosen one."""
SQUARE = (1.0, 1.0)
"""Spacing under which an outline is measured in pixels: ratios need no millimetres."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredScan:
    """What is measured of.

    Attributes:
        fold: of the round. sample: the scan. group: of the scan.
        mask: bool (H, W) on its grid, to score with; None where none was drawn, or nothing is in it.
        thorough: also take the slow measures: methods that run the network a thousand times, insertion, deletion, ROAD,
            sanity, pairs.
        match: the best match in the round's gallery, for a thorough case; None: no pair is measured.
        rise_masks: masks of RISE.
    """

    fold: int
    sample: LabelledScan
    group: str
    mask: NDArray[np.bool_] | None
    thorough: bool
    match: LabelledScan | None = None
    rise_masks: int = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class ScanMeasures:
    """Rows of one scan."""

    maps: tuple[MapRow, ...]
    pairs: tuple[PairRow, ...] = ()
    outlines: tuple[OutlineRow, ...] = ()


class MapEvaluator:
    """Measures the maps of one round's network, one scan after the other. Not safe for several threads."""

    def __init__(self, encoder: Encoder, peers: Peers | None) -> None:
        """Open.

        Args:
            encoder: of the round's bundle.
            peers: gradient methods on the same network, or None.
        """
        self._engine = SearchEngine(encoder)
        self._encoder = encoder
        self._peers = peers
        self._random = None if peers is None else SearchEngine(peers.randomised())

    def measure(self, case: MeasuredScan) -> ScanMeasures:
        """Measure one scan."""
        encoded = self._engine.read(case.sample.scan)
        network_input = network_input_of(self._encoder, encoded.canvas)
        predicted, second = np.argsort(-encoded.logits)[:2]
        map_rows = [self._maps(case, encoded, network_input, int(predicted), int(second))]
        truth = PATHOLOGIES.index(case.sample.record.pathology)
        classes = self._engine.bundle.classes
        if case.mask is not None and PATHOLOGIES[truth] in classes:
            map_rows.append(self._of_the_truth(case, encoded, network_input, classes.index(PATHOLOGIES[truth])))
        return ScanMeasures(
            maps=tuple(row for rows in map_rows for row in rows),
            pairs=tuple(self._pairs(case, case.match, encoded, network_input)) if case.thorough and case.match else (),
            outlines=() if case.mask is None else (self._outline(case, encoded),),
        )

    # Maps

    def _maps(
        self, case: MeasuredScan, encoded: EncodedScan, network_input: NetworkInput, target: int, second: int
    ) -> list[MapRow]:
        """The predicted class's map, by every method."""
        score_fn = self._probability(target)
        rows = []
        for method, cells in self._by_method(case, encoded, network_input, target).items():
            row = self._row(case, encoded, method, "prediction")
            row = _localised(row, cells, case.mask, encoded)
            if case.thorough:
                order = ranked(cells, network_input)
                insertion, deletion = curves(network_input.canvas, network_input.nothing, order, score_fn)
                row = replace(
                    row,
                    insertion=insertion,
                    deletion=deletion,
                    road=road(
                        network_input.canvas, order, score_fn, rng=np.random.default_rng(_seed(case.sample.name))
                    ),
                )
            rows.append(row)
        own = rows[0]
        logit = float(encoded.logits[target])
        explanation = _explained(self._engine, encoded, target)
        error = abs(float(explanation.heatmap.sum(dtype=np.float64)) + explanation.bias - logit)
        rows[0] = replace(own, error=error, **self._sanity(encoded, network_input, target, second))
        return self._peers_sanity(rows, network_input, target, second) if case.thorough else rows

    def _by_method(
        self, case: MeasuredScan, encoded: EncodedScan, network_input: NetworkInput, target: int
    ) -> dict[str, Cells]:
        maps = self._exact_and_peers(encoded, network_input, target, thorough=case.thorough)
        if case.thorough:
            score_fn = self._logit(target)
            for name in ("occlusion", "rise"):
                options = {"masks": case.rise_masks} if name == "rise" else {}
                maps[name] = PERTURBATION.load(name)(network_input.canvas, score_fn, **options)
        maps["centre"] = centre(network_input)
        maps["random"] = noise(network_input, _seed(case.sample.name))
        return maps

    def _of_the_truth(
        self, case: MeasuredScan, encoded: EncodedScan, network_input: NetworkInput, target: int
    ) -> list[MapRow]:
        """The reference class's map, by the methods that cost little: does it lie on the lesion, right or wrong?"""
        maps = self._exact_and_peers(encoded, network_input, target, thorough=False)
        return [
            _localised(self._row(case, encoded, method, "truth"), cells, case.mask, encoded)
            for method, cells in maps.items()
        ]

    def _exact_and_peers(
        self, encoded: EncodedScan, network_input: NetworkInput, target: int, *, thorough: bool
    ) -> dict[str, Cells]:
        maps: dict[str, Cells] = {OWN: _explained(self._engine, encoded, target).evidence_map}
        if self._peers is not None:
            for name in self._peers.names if thorough else CHEAP:
                maps[name] = self._peers.explain(name, network_input.canvas, target, nothing=network_input.nothing)
        return maps

    def _sanity(self, encoded: EncodedScan, network_input: NetworkInput, target: int, second: int) -> dict[str, float]:
        engine = self._engine
        own = _explained(engine, encoded, target)
        other = _explained(engine, encoded, second)
        checks = {"other_class": rank_correlation(own.evidence_map, other.evidence_map, network_input)}
        if self._random is not None:
            at_random = _explained(self._random, self._random.read(encoded.scan), target)
            checks["randomised"] = rank_correlation(own.evidence_map, at_random.evidence_map, network_input)
        shifted = _explained(engine, engine.read(_shifted(encoded.scan)), target)
        brighter = Scan(pixels=np.clip(encoded.scan.pixels * GAIN, 0, 255).astype(np.uint8))
        checks["shifted"] = correlation(own.heatmap, _shifted_back(shifted.heatmap))
        checks["gained"] = correlation(own.heatmap, _explained(engine, engine.read(brighter), target).heatmap)
        return checks

    def _peers_sanity(self, rows: list[MapRow], network_input: NetworkInput, target: int, second: int) -> list[MapRow]:
        if self._peers is None:
            return rows
        checked = []
        for row in rows:
            if row.method in CHEAP:
                explain = partial(self._peers.explain, row.method, network_input.canvas, nothing=network_input.nothing)
                own, other, randomised = explain(target), explain(second), explain(target, randomised=True)
                row = replace(
                    row,
                    other_class=rank_correlation(own, other, network_input),
                    randomised=rank_correlation(own, randomised, network_input),
                )
            checked.append(row)
        return checked

    def _row(self, case: MeasuredScan, encoded: EncodedScan, method: str, target: str) -> MapRow:
        return MapRow(
            fold=case.fold,
            scan=case.sample.name,
            group=case.group,
            label=case.sample.record.pathology,
            prediction=self._engine.bundle.classes[int(encoded.logits.argmax())],
            target=target,
            method=method,
        )

    def _probability(self, target: int):  # type: ignore[no-untyped-def]
        temperature = self._engine.bundle.temperature

        def score(canvases: NDArray[np.float32]) -> NDArray[np.float64]:
            return softmax(self._encoder.encode(canvases).logits.astype(np.float64) / temperature)[:, target]

        return score

    def _logit(self, target: int):  # type: ignore[no-untyped-def]
        return lambda canvases: self._encoder.encode(canvases).logits[:, target]

    # Pairs

    def _pairs(
        self, case: MeasuredScan, match: LabelledScan, encoded: EncodedScan, network_input: NetworkInput
    ) -> list[PairRow]:
        """The cosine of a scan and its best match, taken apart on both."""
        other = self._engine.read(match.scan)
        other_input = network_input_of(self._encoder, other.canvas)
        rows = []
        for side, (one, one_input, far) in {
            "query": (encoded, network_input, other.embedding),
            "match": (other, other_input, encoded.embedding),
        }.items():
            score_fn = self._cosine(far)
            pair_map = pair_evidence(
                one.evidence, far, mapping=one.mapping, target="pair", spatial_weights=one.spatial_weights
            )
            maps: Mapping[str, Cells] = {
                OWN_PAIR: pair_map.evidence_map,
                "sbsm": PERTURBATION.load("sbsm")(one_input.canvas, score_fn),
                "centre": centre(one_input),
            }
            similarity = float(score_fn(one_input.canvas[np.newaxis])[0])
            error = abs(float(pair_map.heatmap.sum(dtype=np.float64)) - similarity)
            for method, cells in maps.items():
                resized = cv2.resize(cells, pair_map.evidence_map.shape[::-1], interpolation=cv2.INTER_LINEAR)
                grid = np.asarray(resized, np.float32)
                chosen, chance = similarity_drops(
                    one_input.canvas,
                    one_input.nothing,
                    grid,
                    SHARE,
                    score_fn,
                    draws=DRAWS,
                    seed=_seed(case.sample.name),
                )
                rows.append(
                    PairRow(
                        fold=case.fold,
                        scan=case.sample.name,
                        group=case.group,
                        label=case.sample.record.pathology,
                        match=match.name,
                        side=side,
                        method=method,
                        similarity=similarity,
                        chosen=chosen,
                        random=chance,
                        error=error if method == OWN_PAIR else float("nan"),
                    )
                )
        return rows

    def _cosine(self, far: NDArray[np.float32]):  # type: ignore[no-untyped-def]
        unit = far / max(float(np.linalg.norm(far)), 1e-30)

        def score(canvases: NDArray[np.float32]) -> NDArray[np.float64]:
            near = self._encoder.encode(canvases).embedding.astype(np.float64)
            return np.asarray(near @ unit / np.maximum(np.linalg.norm(near, axis=1), 1e-30))

        return score

    # Outline

    def _outline(self, case: MeasuredScan, encoded: EncodedScan) -> OutlineRow:
        """The outline of the prediction's evidence beside the mask's own."""
        row = OutlineRow(
            fold=case.fold,
            scan=case.sample.name,
            group=case.group,
            label=case.sample.record.pathology,
            prediction=self._engine.bundle.classes[int(encoded.logits.argmax())],
            drawn=0.0,
        )
        drawn = draw_contour(self._engine.explain_class(encoded), spacing_mm=SQUARE)
        if drawn is None or case.mask is None:
            return row
        truth = _measured(case.mask)
        inside = np.zeros(case.mask.shape, np.uint8)
        cv2.fillPoly(inside, [np.round(drawn.points[:, ::-1] - 0.5).astype(np.int32)], 1)
        both = float((inside.astype(bool) & case.mask).sum())
        return replace(
            row,
            drawn=1.0,
            dice=2 * both / (float(inside.sum()) + float(case.mask.sum())),
            longest=_ratio(drawn.longest_mm, truth.longest_mm),
            shortest=_ratio(drawn.shortest_mm, truth.shortest_mm),
            area=drawn.area_pixels / float(case.mask.sum()),
            depth=((drawn.depth_mm or 0.0) - (truth.depth_mm or 0.0)) / case.mask.shape[0],
            taller=float(drawn.taller_than_wide == truth.taller_than_wide),
        )


def _explained(engine: SearchEngine, encoded: EncodedScan, target: int) -> Explanation:
    return engine.explain_class(encoded, engine.bundle.classes[target])


def _localised(row: MapRow, cells: Cells, mask: NDArray[np.bool_] | None, encoded: EncodedScan) -> MapRow:
    if mask is None:
        return row
    localisation = localise(plan(encoded.mapping, cells.shape).spread(cells), mask)
    return replace(
        row,
        area=float(mask.mean()),
        inside=localisation.inside,
        with_shadow=localisation.with_shadow,
        pointing=float(localisation.pointing),
        iou=localisation.iou,
    )


def _shifted(scan: Scan) -> Scan:
    """The scan some pixels further down and right; what moves in is its own edge, repeated."""
    moved = np.pad(scan.pixels, ((SHIFT, 0), (SHIFT, 0)), mode="edge")
    return Scan(pixels=np.ascontiguousarray(moved[: scan.shape[0], : scan.shape[1]]), spacing_mm=scan.spacing_mm)


def _shifted_back(heatmap: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.pad(heatmap, ((0, SHIFT), (0, SHIFT)), mode="edge")[SHIFT:, SHIFT:]


def _measured(mask: NDArray[np.bool_]) -> Contour:
    """A drawn mask, measured as an outline is: the largest part of it, in pixels."""
    from sonoseek.explain.contour import outline_of

    outline = outline_of(mask, spacing_mm=SQUARE)
    if outline is None:  # one or two pixels
        rows, columns = np.nonzero(mask)
        top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        dilated = np.zeros(mask.shape, np.bool_)
        dilated[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = True
        outline = outline_of(dilated, spacing_mm=SQUARE)
    if outline is None:
        raise AssertionError
    return outline


def _ratio(estimate: float | None, truth: float | None) -> float:
    return float("nan") if not estimate or not truth else estimate / truth


def _seed(name: str) -> int:
    return zlib.crc32(name.encode())


def pick_thorough(samples: Sequence[LabelledScan], *, per_class: int) -> set[str]:
    """Names of the scans on which the slow measures are taken: so many of each class, by a hash of their names."""
    picked: set[str] = set()
    for label in PATHOLOGIES:
        names = sorted((s.name for s in samples if s.record.pathology == label), key=lambda name: (_seed(name), name))
        picked.update(names[:per_class])
    return picked
