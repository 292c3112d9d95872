"""Which pixels a verdict, or a match, rests on. One method per file; numpy only; every map is exact.

A class logit and a cosine are both means over the network's cells, so they split over cells without approximation; the
cells are then spread over the scan's own pixels without losing or gaining anything (`upsample`).
"""

from sonoseek.core import LazyTable
from sonoseek.explain.class_evidence import class_evidence
from sonoseek.explain.pair_evidence import pair_evidence

METHODS = LazyTable(
    "explanation",
    {
        "class_evidence": "sonoseek.explain.class_evidence:class_evidence",
        "pair_evidence": "sonoseek.explain.pair_evidence:pair_evidence",
    },
)
"""Name → function. `class_evidence` splits a logit, `pair_evidence` the cosine between the scan and a match."""

__all__ = ["METHODS", "class_evidence", "pair_evidence"]
