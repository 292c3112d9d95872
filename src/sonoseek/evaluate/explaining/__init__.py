"""Heatmaps, measured: do they lie on the lesion, does the verdict rest where they say, would a broken network show?

Masks are used here alone, to score; no method sees one.
"""

from sonoseek.evaluate.explaining.run import explain_rounds
from sonoseek.evaluate.explaining.summary import rescore_explanations

__all__ = ["explain_rounds", "rescore_explanations"]
