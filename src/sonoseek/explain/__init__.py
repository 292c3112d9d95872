"""Heatmaps: which pixels a class logit, or the similarity to a match, rests on. One method per file; numpy only.

The exact methods need no approximation: a class logit and a cosine are both means over the cells of the network's grid.
Within a cell the evidence follows the network's spatial weights (`spatial_weights`). Up-sampling to the scan's own
pixels keeps the sum (`upsample`). The perturbation methods (`perturbation`) treat the network as a black box.
"""

from sonoseek.core import LazyTable
from sonoseek.explain.class_evidence import class_evidence
from sonoseek.explain.contour import draw_contour
from sonoseek.explain.pair_evidence import pair_evidence
from sonoseek.explain.query_evidence import cell_weights, query_evidence
from sonoseek.explain.shared_descriptors import shared_descriptors

EXACT = LazyTable(
    "exact explanation",
    {
        "class_evidence": "sonoseek.explain.class_evidence:class_evidence",
        "pair_evidence": "sonoseek.explain.pair_evidence:pair_evidence",
    },
)
"""Name → function. `class_evidence` splits a logit, `pair_evidence` the cosine between the scan and a match."""

PERTURBATION = LazyTable(
    "perturbation method",
    {
        "occlusion": "sonoseek.explain.occlusion:occlusion",
        "rise": "sonoseek.explain.rise:rise",
        "sbsm": "sonoseek.explain.sbsm:sbsm",
    },
)
"""Name → function of (canvas, score_fn, on_progress=…) → evidence map. They use the network's scores alone."""

METHODS = (*EXACT, *PERTURBATION)
"""Every name that `SearchEngine.explain` takes."""

__all__ = [
    "METHODS",
    "EXACT",
    "PERTURBATION",
    "class_evidence",
    "pair_evidence",
    "query_evidence",
    "cell_weights",
    "draw_contour",
    "shared_descriptors",
]
