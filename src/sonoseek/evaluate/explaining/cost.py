"""What a method costs, as a ratio to one plain run of the network, alternating in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sonoseek.encoder import Encoder
from sonoseek.engine import SearchEngine
from sonoseek.evaluate.explaining.perturbation import Peers, see
from sonoseek.explain import PERTURBATION, class_evidence, pair_evidence

if TYPE_CHECKING:
    from sonoseek.evaluate.explaining.scan import Case

ROUNDS = 40
RISE_MASKS, RISE_TIMED = 1000, 96
"""Masks of RISE, and how many of them are timed."""
PAIRS = 10
"""Matches that are explained beside the verdict."""


def measure_cost(encoder: Encoder, cases: Sequence[Case], peers: Peers | None) -> dict[str, float]:
    """Time methods beside plain runs of the same network, each the median of several.

    Args:
        encoder: with as many threads as the caller gave it.
        cases: the first is asked about.
        peers: gradient methods on torch; compared with a plain run of the same network there.

    Returns:
        `plain_ms`; `class_and_10_pairs`: run, verdict and ten matches on the cells, over a plain run;
        `class_and_10_pairs_on_pixels`: the same with all eleven drawn on the scan's pixels; then each method's ratio.
    """
    engine = SearchEngine(encoder)
    reading = engine.read(cases[0].sample.scan)
    seen = see(encoder, reading.canvas)
    others = np.random.default_rng(0).normal(size=(PAIRS, reading.embedding.size)).astype(np.float32)
    target = int(reading.logits.argmax())
    bundle, mapping = encoder.bundle, reading.mapping

    def explained() -> list[Any]:
        said = encoder.encode(seen.canvas[np.newaxis])
        evidence, within = said.evidence[0], said.within[0]
        verdict = class_evidence(
            evidence,
            weight=bundle.head_weight[target],
            bias=float(bundle.head_bias[target]),
            mapping=mapping,
            target=bundle.classes[target],
            spatial_weights=within,
        )
        own = said.embedding[0]
        pairs = [
            pair_evidence(evidence, each, mapping=mapping, target="match:", spatial_weights=within, embedding=own)
            for each in others
        ]
        return [verdict, *pairs]

    plain, both, drawn = _alternating(
        lambda: encoder.encode(seen.canvas[np.newaxis]),
        explained,
        lambda: [each.heatmap for each in explained()],
    )
    found = {
        "plain_ms": 1e3 * plain,
        "class_and_10_pairs": both / plain,
        "class_and_10_pairs_on_pixels": drawn / plain,
    }
    for name in PERTURBATION:
        options, times = ({"masks": RISE_TIMED}, RISE_MASKS / RISE_TIMED) if name == "rise" else ({}, 1.0)
        started = time.perf_counter()
        PERTURBATION.load(name)(seen.canvas, lambda canvases: encoder.encode(canvases).logits[:, target], **options)
        found[name] = (time.perf_counter() - started) * times / plain
    if peers is not None:
        slow = peers.plain(seen.canvas)
        for name in peers.names:
            peers.explain(name, seen.canvas, target, nothing=seen.nothing)
            taken = []
            for _ in range(5):
                started = time.perf_counter()
                peers.explain(name, seen.canvas, target, nothing=seen.nothing)
                taken.append(time.perf_counter() - started)
            found[name] = statistics.median(taken) / slow
    return {name: round(value, 4) for name, value in found.items()}


def _alternating(*works: Callable[[], Any]) -> list[float]:
    """Median seconds of each, taken in turns."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for kept, work in zip(times, works, strict=True):
            started = time.perf_counter()
            work()
            kept.append(time.perf_counter() - started)
    return [statistics.median(each) for each in times]
