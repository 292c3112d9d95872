"""Which pixels a prediction, or a match, rests on. One method per file; numpy only.

A class logit and a cosine are both means over the network's cells, so they split over cells without approximation;
within a cell the split lies where the network itself weighs it (`within`); the cells are then spread over the scan's
own pixels without losing or gaining anything (`upsample`). Methods that ask the network from outside stand beside them.
"""

from sonoseek.core import LazyTable
from sonoseek.explain.class_evidence import class_evidence
from sonoseek.explain.contour import draw_contour
from sonoseek.explain.pair_evidence import pair_evidence
from sonoseek.explain.query_evidence import query_evidence, weight_cells
from sonoseek.explain.shared_descriptors import shared_descriptors

EXACT = LazyTable(
    "exact explanation",
    {
        "class_evidence": "sonoseek.explain.class_evidence:class_evidence",
        "pair_evidence": "sonoseek.explain.pair_evidence:pair_evidence",
    },
)
"""Name → function. `class_evidence` splits a logit, `pair_evidence` the cosine between the scan and a match."""

ASKED = LazyTable(
    "explanation that asks",
    {
        "occlusion": "sonoseek.explain.occlusion:occlusion",
        "rise": "sonoseek.explain.rise:rise",
        "sbsm": "sonoseek.explain.sbsm:sbsm",
    },
)
"""Name → function of (canvas, ask, on_progress=…) → cells; they know nothing of the network but its answers."""

METHODS = (*EXACT, *ASKED)
"""Every name that `SearchEngine.explain` takes."""

__all__ = [
    "METHODS",
    "EXACT",
    "ASKED",
    "class_evidence",
    "pair_evidence",
    "query_evidence",
    "weight_cells",
    "draw_contour",
    "shared_descriptors",
]
