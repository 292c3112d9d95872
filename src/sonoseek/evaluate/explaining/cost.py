"""What a method costs, as a ratio to one plain run of the network, alternating in one process."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.encoder import Encoder
from sonoseek.engine import SearchEngine
from sonoseek.evaluate.explaining.perturbation import Peers, network_input_of
from sonoseek.evaluate.speed import seconds
from sonoseek.explain import PERTURBATION, class_evidence, pair_evidence

if TYPE_CHECKING:
    from sonoseek.evaluate.explaining.scan import MeasuredScan

ROUNDS = 40
RISE_MASKS, RISE_TIMED = 1000, 96
"""Masks of RISE, and how many of them are timed."""
PAIRS = 10
"""Matches that are explained beside the prediction."""


def measure_cost(encoder: Encoder, cases: Sequence[MeasuredScan], peers: Peers | None) -> dict[str, float]:
    """Time methods beside plain runs of the same network, each the median of several.

    Args:
        encoder: with as many threads as the caller gave it.
        cases: the first is timed.
        peers: gradient methods on torch; compared with a plain run of the same network there.

    Returns:
        `plain_ms`; `class_and_10_pairs`: run, prediction and ten matches on the cells, over a plain run;
        `class_and_10_pairs_on_pixels`: the same with all eleven drawn on the scan's pixels; then each method's ratio.
    """
    engine = SearchEngine(encoder)
    encoded = engine.read(cases[0].sample.scan)
    network_input = network_input_of(encoder, encoded.canvas)
    others = np.random.default_rng(0).normal(size=(PAIRS, encoded.embedding.size)).astype(np.float32)
    target = int(encoded.logits.argmax())
    bundle, mapping = encoder.bundle, encoded.mapping

    def score_fn(canvases: NDArray[np.float32]) -> NDArray[np.float32]:
        return encoder.encode(canvases).logits[:, target]

    def class_and_pairs() -> list[Any]:
        encoding = encoder.encode(network_input.canvas[np.newaxis])
        evidence, within = encoding.evidence[0], encoding.spatial_weights[0]
        class_map = class_evidence(
            evidence,
            weight=bundle.head_weight[target],
            bias=float(bundle.head_bias[target]),
            mapping=mapping,
            target=bundle.classes[target],
            spatial_weights=within,
        )
        own = encoding.embedding[0]
        pairs = [
            pair_evidence(evidence, each, mapping=mapping, target="match:", spatial_weights=within, embedding=own)
            for each in others
        ]
        return [class_map, *pairs]

    plain, both, drawn = _alternating(
        lambda: encoder.encode(network_input.canvas[np.newaxis]),
        class_and_pairs,
        lambda: [each.heatmap for each in class_and_pairs()],
    )
    ratios = {
        "plain_ms": 1e3 * plain,
        "class_and_10_pairs": both / plain,
        "class_and_10_pairs_on_pixels": drawn / plain,
    }
    for name in PERTURBATION:
        options, times = ({"masks": RISE_TIMED}, RISE_MASKS / RISE_TIMED) if name == "rise" else ({}, 1.0)
        explain = partial(PERTURBATION.load(name), network_input.canvas, score_fn, **options)
        ratios[name] = seconds(explain) * times / plain
    if peers is not None:
        slow = peers.plain(network_input.canvas)
        for name in peers.names:
            explain = partial(peers.explain, name, network_input.canvas, target, nothing=network_input.nothing)
            explain()
            ratios[name] = statistics.median(seconds(explain) for _ in range(5)) / slow
    return {name: round(value, 4) for name, value in ratios.items()}


def _alternating(*works: Callable[[], Any]) -> list[float]:
    """Median seconds of each, taken in turns."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for durations, work in zip(times, works, strict=True):
            durations.append(seconds(work))
    return [statistics.median(each) for each in times]
